use super::{Drawing, PLOT};
use crate::{
    measures::{Repairs, Second},
    units::count,
};

const REPAIRS: f64 = 76.0;
const RECONNECTS: f64 = 44.0;
/// Bars are no thinner than this.
const LEAST_WIDTH: f64 = 3.0;

impl Drawing<'_> {
    /// What the edges had to mend, by kind.
    pub(super) fn repairs(&mut self) {
        let repairs = &self.report.measures.repairs;
        let seconds = &self.report.measures.seconds;
        let step = self.step(repairs.sampled_every_us);
        if repairs.sampled {
            self.band("Repairs by kind", &format!("feed events in {step} s"));
        } else {
            self.band("Repairs by kind", "not sampled");
        }
        let classes = ["a", "b", "c", "d", "e"];
        let mut bins = vec![[0_u64; 5]; seconds.len().div_ceil(step)];
        for (at, second) in seconds.iter().enumerate() {
            for (slot, kind) in bins[at / step].iter_mut().zip(Repairs::KINDS) {
                *slot += second.feed_events.get(kind).copied().unwrap_or(0);
            }
        }
        for (row, (kind, class)) in Repairs::KINDS.iter().zip(classes).enumerate() {
            let total = repairs.feed_events.get(*kind).copied().unwrap_or(0);
            let mut name = kind.replace("repaired_", "").replace('_', " ");
            if repairs.sampled {
                name = format!("{name} · {}", count(total));
            }
            self.legend(row, class, &name);
        }
        let greatest = bins.iter().map(|bin| bin.iter().sum::<u64>()).max();
        let bottom = self.base(REPAIRS, greatest.unwrap_or(0));
        let greatest = greatest.unwrap_or(0).max(1) as f64;
        for (at, bin) in bins.iter().enumerate() {
            let mut y = bottom;
            for (n, class) in bin.iter().zip(classes) {
                let height = *n as f64 / greatest * REPAIRS;
                y -= height;
                self.bar(class, at, step, y, height);
            }
        }
        self.y += (REPAIRS + 22.0).max(38.0 + 13.0 * classes.len() as f64);
    }

    /// The connections that devices made again.
    pub(super) fn reconnects(&mut self) {
        let seconds = &self.report.measures.seconds;
        let step = self.step(0);
        let total = self.report.measures.repairs.reconnects;
        let about = format!("in {step} s; {} in all", count(total));
        self.band("Reconnects", &about);
        let sums: Vec<u64> = seconds
            .chunks(step)
            .map(|chunk| chunk.iter().map(|s: &Second| u64::from(s.reconnects)).sum())
            .collect();
        let greatest = sums.iter().copied().max().unwrap_or(0);
        let bottom = self.base(RECONNECTS, greatest);
        for (at, n) in sums.iter().enumerate() {
            let height = *n as f64 / greatest.max(1) as f64 * RECONNECTS;
            self.bar("client", at, step, bottom - height, height);
        }
        self.y += RECONNECTS + 14.0;
    }

    /// Seconds a bar: as long as the samples are apart, and wide enough to be seen.
    fn step(&self, sampled_every_us: u64) -> usize {
        let seconds = self.report.measures.seconds.len().max(1);
        let second_px = PLOT / seconds as f64;
        let visible = (LEAST_WIDTH / second_px).ceil() as usize;
        // To the next second: samples come a little early or late.
        let sampled = (sampled_every_us as f64 / 1e6).round() as usize;
        visible.max(sampled).max(1)
    }

    /// The scale of a band of bars; its bottom.
    fn base(&mut self, height: f64, greatest: u64) -> f64 {
        let top = self.y + 4.0;
        self.level(top + height, "0");
        if greatest > 0 {
            self.level(top, &count(greatest));
        }
        top + height
    }

    fn bar(&mut self, class: &str, at: usize, step: usize, y: f64, height: f64) {
        if height > 0.0 {
            let from = self.scale.x((at * step) as u64 * 1_000_000);
            let to = self.scale.x(((at + 1) * step) as u64 * 1_000_000);
            let gap = if to - from > 4.0 { 1.0 } else { 0.3 };
            self.plot
                .rect(&format!("fill {class}"), [from, y, to - from - gap, height]);
        }
    }
}
