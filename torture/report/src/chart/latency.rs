use std::fmt::Write as _;

use super::Drawing;
use crate::measures::Second;

const HEIGHT: f64 = 110.0;
const FLOOR_US: f64 = 1_000.0;

impl Drawing<'_> {
    /// Latency of live messages, on a scale of powers of ten.
    pub(super) fn latency(&mut self) {
        let curves: [(&str, &str, Figure); 3] = [
            ("a", "plain joins, p50", |second| second.plain.p50_us),
            ("b", "plain joins, p99", |second| second.plain.p99_us),
            ("c dashed", "ordered joins, p99", |second| {
                second.ordered.p99_us
            }),
        ];
        self.band("Send to device", "live messages, log scale");
        let seconds = &self.report.measures.seconds;
        let greatest = seconds
            .iter()
            .flat_map(|second| curves.iter().filter_map(move |(_, _, of)| of(second)))
            .max()
            .unwrap_or(0);
        // At least to one second, so that calm runs look calm.
        let decades = (greatest.max(1_000_000) as f64 / FLOOR_US).log10().ceil();
        let top = self.y + 4.0;
        let y = |us: f64| {
            let share = (us.max(FLOOR_US) / FLOOR_US).log10() / decades;
            top + HEIGHT * (1.0 - share)
        };
        for decade in 0..=decades as i32 {
            let us = FLOOR_US * 10_f64.powi(decade);
            let text = if us < 1e6 {
                format!("{:.0} ms", us / 1e3)
            } else {
                format!("{:.0} s", us / 1e6)
            };
            self.level(y(us), &text);
        }
        for (row, (class, name, figure)) in curves.into_iter().enumerate() {
            let class_of_swatch = class.split(' ').next().unwrap_or(class);
            self.legend(row, class_of_swatch, name);
            let path = self.curve(seconds, figure, y);
            self.plot.path(&format!("curve {class}"), &path);
        }
        self.y += HEIGHT + 22.0;
    }

    /// A line from second to second, broken where there is no value.
    fn curve(&self, seconds: &[Second], figure: Figure, y: impl Fn(f64) -> f64) -> String {
        let mut path = String::new();
        let mut drawing = false;
        for (at, second) in seconds.iter().enumerate() {
            let Some(us) = figure(second) else {
                drawing = false;
                continue;
            };
            let x = self.scale.x(at as u64 * 1_000_000 + 500_000);
            let y = y(us as f64);
            // `h0` makes a dot of a second that stands alone.
            let step = if drawing { 'L' } else { 'M' };
            let dot = if drawing { "" } else { "h0" };
            write!(path, "{step}{x:.1} {y:.1}{dot}").expect("a string takes everything");
            drawing = true;
        }
        path
    }
}

/// A latency of a second.
type Figure = fn(&Second) -> Option<u64>;
