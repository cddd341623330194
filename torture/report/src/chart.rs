//! The run on one time axis, as SVG: a gutter with names and scales, and the plot beside it.

mod bars;
mod lanes;
mod latency;
mod marks;
mod scale;
mod sends;
mod style;
mod svg;

use crate::{
    measures::Measures,
    report::Report,
    units::{moment, plain_name, time},
};
use scale::Scale;
pub(crate) use style::STYLE;
use svg::{Anchor, Svg};

/// Width of the names and scales.
pub(crate) const GUTTER: f64 = 218.0;
/// Width of the plot.
pub(crate) const PLOT: f64 = 1004.0;

/// The chart's two halves, of the same height.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) gutter: String,
    pub(crate) plot: String,
    pub(crate) height: f64,
}

/// A chart being drawn, from the top down.
#[derive(Debug)]
struct Drawing<'a> {
    report: &'a Report,
    scale: Scale,
    gutter: Svg,
    plot: Svg,
    /// Where the next band starts.
    y: f64,
}

/// Draws a run.
pub(crate) fn draw(report: &Report) -> Chart {
    let mut drawing = Drawing {
        report,
        scale: Scale::new(report.measures.end_us, PLOT),
        gutter: Svg::default(),
        plot: Svg::default(),
        y: 0.0,
    };
    drawing.header();
    drawing.marks();
    let top = drawing.y;
    drawing.lanes();
    drawing.sends();
    drawing.latency();
    drawing.repairs();
    drawing.reconnects();
    drawing.footer();
    let Drawing {
        gutter, plot, y, ..
    } = drawing;
    // What lies behind the bands is only known once their height is.
    let behind = behind(report, top, y - 20.0);
    let before = before(report, top, y - 20.0);
    Chart {
        gutter: gutter.0,
        plot: format!("{behind}{}{before}", plot.0),
        height: y,
    }
}

/// The whole chart as a file of its own, without scripts, light or dark as the reader likes it.
pub(crate) fn standalone(report: &Report) -> String {
    let chart = draw(report);
    let title = format!(
        "Torture {}, seed {}: {}",
        report.run.profile,
        report.run.seed,
        report.headline()
    );
    let mut head = Svg::default();
    let class = if report.holds && report.valid {
        "title"
    } else {
        "title bad"
    };
    head.text(class, 12.0, 24.0, Anchor::Start, &title);
    let width = GUTTER + PLOT + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n{head}\n\
         <g transform=\"translate(0 40)\">{gutter}</g>\n\
         <g transform=\"translate({GUTTER} 40)\">{plot}</g>\n</svg>\n",
        height = chart.height + 48.0,
        head = head.0,
        gutter = chart.gutter,
        plot = chart.plot,
    )
}

/// Grid lines at the ticks, and the clusters of faults as shades, from `top` to `bottom`.
fn behind(report: &Report, top: f64, bottom: f64) -> String {
    let scale = Scale::new(report.measures.end_us, PLOT);
    let mut svg = Svg::default();
    for cluster in &report.measures.clusters {
        let (from, to) = (scale.x(cluster.start_us), scale.x(cluster.end_us));
        svg.rect("shade", [from, top, to - from, bottom - top]);
    }
    for second in scale.ticks() {
        let x = scale.x(second * 1_000_000);
        svg.line("grid", [x, top, x, bottom]);
    }
    svg.0
}

/// The violations' moments as lines through all bands.
fn before(report: &Report, top: f64, bottom: f64) -> String {
    let scale = Scale::new(report.measures.end_us, PLOT);
    let mut svg = Svg::default();
    let moments = report.verdict.violations.iter().filter_map(|v| v.at_us);
    let mut pixels: Vec<u64> = moments.map(|at_us| scale.x(at_us) as u64).collect();
    pixels.sort_unstable();
    pixels.dedup();
    for x in pixels {
        svg.line("broken-line", [x as f64, top - 6.0, x as f64, bottom]);
    }
    svg.0
}

impl Drawing<'_> {
    fn measures(&self) -> &Measures {
        &self.report.measures
    }

    /// A band's name with a line about it, at the top of the gutter's part.
    fn band(&mut self, name: &str, about: &str) {
        self.gutter
            .text("name", 12.0, self.y + 11.0, Anchor::Start, name);
        if !about.is_empty() {
            self.gutter
                .text("about", 12.0, self.y + 25.0, Anchor::Start, about);
        }
    }

    /// A tick of a band's scale.
    fn level(&mut self, y: f64, text: &str) {
        self.plot.line("level", [0.0, y, PLOT, y]);
        self.gutter
            .text("tick", GUTTER - 6.0, y + 3.5, Anchor::End, text);
    }

    /// An entry of a band's legend, in the gutter.
    fn legend(&mut self, row: usize, class: &str, text: &str) {
        let y = self.y + 38.0 + row as f64 * 13.0;
        self.gutter
            .rect(&format!("swatch {class}"), [12.0, y - 6.0, 12.0, 4.0]);
        self.gutter.text("about", 29.0, y, Anchor::Start, text);
    }

    /// The phases and the ticks' times.
    fn header(&mut self) {
        self.band("Phase", "");
        let phases = self.measures().phases.clone();
        for (at, span) in phases.iter().enumerate() {
            let (from, to) = (self.scale.x(span.start_us), self.scale.x(span.end_us));
            let name = plain_name(&span.phase);
            let tip = format!(
                "{name}\nfrom {} for {}",
                moment(span.start_us),
                time(span.end_us - span.start_us)
            );
            self.plot.open_tip("", [from, to], &tip);
            let class = if at % 2 == 0 { "phase" } else { "phase odd" };
            let width = (to - from - 1.0).max(1.0);
            self.plot.rect(class, [from, self.y, width, 16.0]);
            if width > name.len() as f64 * 7.0 {
                let middle = (from + to) / 2.0;
                self.plot
                    .text("about", middle, self.y + 12.0, Anchor::Middle, &name);
            }
            self.plot.close();
        }
        self.y += 22.0;
        self.times();
    }

    fn times(&mut self) {
        for second in self.scale.ticks() {
            let x = self.scale.x(second * 1_000_000);
            let (x, anchor) = match x {
                _ if x < 12.0 => (x, Anchor::Start),
                _ if x > PLOT - 14.0 => (x, Anchor::End),
                _ => (x, Anchor::Middle),
            };
            let text = format!("{}:{:02}", second / 60, second % 60);
            self.plot.text("tick", x, self.y + 10.0, anchor, &text);
        }
        self.y += 16.0;
    }

    fn footer(&mut self) {
        self.gutter
            .text("tick", GUTTER - 6.0, self.y + 10.0, Anchor::End, "min:s");
        self.times();
        self.y += 4.0;
    }
}
