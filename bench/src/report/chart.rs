//! The chart: bars of ratios with their spread and their targets, drawn by hand as SVG.

use super::table::number;
use crate::pair::Spread;
use crate::results::{Results, Row, Target, Verdict};
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
/// Where bars begin.
const LEFT: f64 = 425.0;
/// Where they end at most.
const RIGHT: f64 = 825.0;
const LINE: f64 = 21.0;
const BAR: f64 = 11.0;
const HEAD: f64 = 58.0;

const INK: &str = "#1f2430";
const FAINT: &str = "#c8ccd4";
const MET: &str = "#2f7d5b";
const MISSED: &str = "#c05a2b";
const PLAIN: &str = "#6b7a99";

/// One set of bars with a scale of its own.
struct Panel<'a> {
    title: &'a str,
    note: &'a str,
    rows: Vec<&'a Row>,
    logarithmic: bool,
}

/// All ratios: beside bare programs, beside other servers, and what must stay small.
pub(super) fn chart(results: &Results) -> String {
    let with_ratio = || results.rows().filter(|row| row.ratio.is_some());
    let theirs_by_ours = |row: &&Row| row.ratio_is == "theirs / ours";
    let small = |row: &&Row| row.target.is_none_or(|target| value(target) <= 1.5);
    let panels = [
        Panel {
            title: "Beside bare programs",
            note: "their cost / ours: 1.0 is the least that is possible; longer is better",
            rows: with_ratio()
                .filter(theirs_by_ours)
                .filter(|row| row.version.is_empty() && small(row))
                .collect(),
            logarithmic: false,
        },
        Panel {
            title: "Beside other servers and other ways",
            note: "their cost / ours, logarithmic: longer is better",
            rows: with_ratio()
                .filter(theirs_by_ours)
                .filter(|row| !(row.version.is_empty() && small(row)))
                .collect(),
            logarithmic: true,
        },
        Panel {
            title: "What must stay small",
            note: "ours / theirs: shorter is better",
            rows: with_ratio()
                .filter(|row| !theirs_by_ours(row))
                .filter(|row| row.target.is_some_and(|t| matches!(t, Target::AtMost(_))))
                .collect(),
            logarithmic: false,
        },
    ];
    let mut body = String::new();
    let mut y = 34.0;
    for panel in panels.iter().filter(|panel| !panel.rows.is_empty()) {
        body += &draw(panel, y);
        y += HEAD + LINE * panel.rows.len() as f64 + 30.0;
    }
    let title = format!("Hubbub, {}: medians, least and most, targets", results.date);
    let font = "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\"";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" \
         viewBox=\"0 0 {WIDTH} {y:.0}\" {font} font-size=\"12\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         {body}</svg>\n"
    )
}

fn draw(panel: &Panel<'_>, top: f64) -> String {
    let scale = Scale::of(panel);
    let (first, last) = (
        top + HEAD - 14.0,
        top + HEAD + LINE * panel.rows.len() as f64 - 8.0,
    );
    let mut svg = text(24.0, top, "start", INK, true, panel.title);
    svg += &text(24.0, top + 17.0, "start", PLAIN, false, panel.note);
    for tick in scale.ticks() {
        let x = scale.x(tick);
        svg += &line(x, first, x, last, FAINT, 1.0);
        svg += &text(x, first - 4.0, "middle", PLAIN, false, &number(tick));
    }
    for (n, (row, label)) in panel.rows.iter().zip(labels(&panel.rows)).enumerate() {
        svg += &bar(row, &label, &scale, top + HEAD + LINE * n as f64);
    }
    svg
}

fn bar(row: &Row, label: &str, scale: &Scale, y: f64) -> String {
    let Some(ratio) = row.ratio else {
        return String::new();
    };
    let color = match row.verdict {
        Verdict::Met => MET,
        Verdict::Missed | Verdict::Failed(_) => MISSED,
        Verdict::Reported | Verdict::NotMeasured(_) => PLAIN,
    };
    let middle = y - 4.0;
    let (from, to) = (scale.x(scale.least), scale.x(ratio.median));
    let mut svg = text(LEFT - 12.0, y, "end", INK, false, label);
    // Writing to a string cannot fail.
    writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\" rx=\"1\"/>",
        middle - BAR / 2.0,
        (to - from).max(1.0)
    )
    .expect("a string grows");
    svg += &whisker(ratio, scale, middle);
    if let Some(target) = row.target {
        let x = scale.x(value(target));
        svg += &line(x, middle - 9.0, x, middle + 9.0, INK, 2.0);
    }
    let beside = scale
        .x(ratio.max)
        .max(row.target.map_or(0.0, |t| scale.x(value(t))));
    svg + &text(beside + 8.0, y, "start", INK, false, &number(ratio.median))
}

fn whisker(ratio: Spread, scale: &Scale, y: f64) -> String {
    let (from, to) = (scale.x(ratio.min), scale.x(ratio.max));
    let mut svg = line(from, y, to, y, INK, 1.0);
    for x in [from, to] {
        svg += &line(x, y - 3.0, x, y + 3.0, INK, 1.0);
    }
    svg
}

/// Short enough for the left column, and no two alike where their workloads differ.
fn labels(rows: &[&Row]) -> Vec<String> {
    let what: Vec<&str> = rows.iter().map(|row| what(row)).collect();
    let alike = |one: usize, other: usize| {
        let key = |at: usize| (&rows[at].id, what[at], &rows[at].paired_with);
        one != other && key(one) == key(other)
    };
    let label = |at: usize| {
        let others: Vec<&Row> = (0..rows.len())
            .filter(|other| alike(at, *other))
            .map(|other| rows[other])
            .collect();
        let own = rows[at]
            .workload
            .split(", ")
            .find(|part| others.iter().any(|row| !row.workload.contains(part)));
        let own = own.map_or_else(String::new, |part| format!(", {part}"));
        let row = rows[at];
        short(&format!(
            "{}  {}{own} · {}",
            row.id, what[at], row.paired_with
        ))
    };
    (0..rows.len()).map(label).collect()
}

/// What a row is about: the workload, unless the figure says more.
fn what(row: &Row) -> &str {
    let text = if row.metric.starts_with("CPU ") {
        &row.workload
    } else {
        &row.metric
    };
    text.split(", ").next().unwrap_or_default()
}

fn short(text: &str) -> String {
    const MOST: usize = 62;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MOST - 1).collect();
    short.push('…');
    short
}

struct Scale {
    least: f64,
    most: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(panel: &Panel<'_>) -> Self {
        let ends = panel.rows.iter().flat_map(|row| {
            let ratio = row.ratio.unwrap_or_default();
            [ratio.max, row.target.map_or(0.0, value)]
        });
        let most = ends.fold(1.0, f64::max);
        let lows = panel.rows.iter().filter_map(|row| Some(row.ratio?.min));
        let low = lows.fold(1.0, f64::min);
        if panel.logarithmic {
            return Self {
                least: 10_f64.powf(low.max(0.01).log10().floor()).min(0.5),
                most: most * 1.2,
                logarithmic: true,
            };
        }
        // A single bar that leaves the scale must not flatten all others.
        Self {
            least: 0.0,
            most: (most * 1.05).min(4.0),
            logarithmic: false,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let value = value.clamp(self.least, self.most);
        let share = if self.logarithmic {
            (value / self.least).ln() / (self.most / self.least).ln()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        LEFT + share * (RIGHT - LEFT)
    }

    fn ticks(&self) -> Vec<f64> {
        let all: &[f64] = if self.logarithmic {
            &[
                0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1_000.0,
            ]
        } else if self.most > 2.0 {
            &[0.0, 1.0, 2.0, 3.0, 4.0]
        } else {
            &[0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
        };
        let inside = all
            .iter()
            .filter(|tick| **tick >= self.least && **tick <= self.most);
        inside.copied().collect()
    }
}

fn value(target: Target) -> f64 {
    match target {
        Target::AtLeast(value) | Target::AtMost(value) => value,
    }
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, color: &str, width: f64) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\" \
         stroke-width=\"{width}\"/>\n"
    )
}

fn text(x: f64, y: f64, anchor: &str, color: &str, bold: bool, text: &str) -> String {
    let weight = if bold {
        " font-weight=\"600\" font-size=\"15\""
    } else {
        ""
    };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\"{weight}>{text}</text>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_hold_their_ends() {
        let scale = Scale {
            least: 0.5,
            most: 50.0,
            logarithmic: true,
        };
        assert!((scale.x(0.5) - LEFT).abs() < 1e-9 && (scale.x(50.0) - RIGHT).abs() < 1e-9);
        assert!((scale.x(5.0) - f64::midpoint(LEFT, RIGHT)).abs() < 1e-9);
        // What leaves the scale stays on the picture.
        assert!(scale.x(1e9) <= RIGHT && scale.x(1e-9) >= LEFT);
        assert_eq!(scale.ticks(), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn labels_are_short_and_escaped() {
        let long = "w".repeat(100);
        let row = Row::new("B1", &long, "CPU a delivery, us", "edge");
        assert_eq!(labels(&[&row])[0].chars().count(), 62);
        assert!(text(0.0, 0.0, "end", INK, false, "a<b&c").contains("a&lt;b&amp;c"));
    }

    #[test]
    fn labels_say_what_differs() {
        let row = |workload: &str, metric: &str| Row::new("B2", workload, metric, "edge");
        let rows = [
            row("a channel, 128 B, bursts of 16", "CPU a delivery, us"),
            row("a channel, 128 B, bursts of 64", "CPU a delivery, us"),
            row("a channel, 128 B, bursts of 64", "latency p99, us"),
        ];
        let rows: Vec<&Row> = rows.iter().collect();
        assert_eq!(
            labels(&rows),
            [
                "B2  a channel, bursts of 16 · ",
                "B2  a channel, bursts of 64 · ",
                "B2  latency p99 · ",
            ]
        );
    }
}
