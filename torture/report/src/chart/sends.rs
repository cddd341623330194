use std::fmt::Write as _;

use super::Drawing;
use crate::units::percent;

const HEIGHT: f64 = 60.0;

impl Drawing<'_> {
    /// Send availability: what is missing of 100 % hangs down from the top.
    pub(super) fn sends(&mut self) {
        let lowest = self
            .measures()
            .seconds
            .iter()
            .filter(|second| second.attempts > 0)
            .map(|second| f64::from(second.in_time) / f64::from(second.attempts))
            .reduce(f64::min);
        self.band("Sends ok within 1 s", "share of the attempts, a second");
        self.legend(0, "lost", &format!("missing; lowest {}", percent(lowest)));
        let top = self.y + 4.0;
        for (share, text) in [(0.0, "100 %"), (0.5, "50 %"), (1.0, "0 %")] {
            self.level(top + HEIGHT * share, text);
        }
        let (mut lost, mut full) = (String::new(), String::new());
        for (at, second) in self.measures().seconds.iter().enumerate() {
            if second.attempts == 0 {
                continue;
            }
            let from = self.scale.x(at as u64 * 1_000_000);
            let width = self.scale.x((at as u64 + 1) * 1_000_000) - from;
            let missing = 1.0 - f64::from(second.in_time) / f64::from(second.attempts);
            if missing > 0.0 {
                // Half a second's worth of overlap hides the seams between neighbours.
                write!(
                    lost,
                    "M{from:.1} {top:.1}h{:.1}v{:.1}h-{:.1}z",
                    width + 0.3,
                    (missing * HEIGHT).max(1.0),
                    width + 0.3
                )
                .expect("a string takes everything");
            }
            write!(full, "M{from:.1} {top:.1}h{width:.1}").expect("a string takes everything");
        }
        self.plot.path("full", &full);
        self.plot.path("lost", &lost);
        self.y += HEIGHT + 22.0;
    }
}
