/// Moments of the run as pixels of the plot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    end_us: u64,
    pub(super) width: f64,
}

impl Scale {
    pub(super) fn new(end_us: u64, width: f64) -> Self {
        Self {
            end_us: end_us.max(1_000_000),
            width,
        }
    }

    pub(super) fn x(self, at_us: u64) -> f64 {
        at_us.min(self.end_us) as f64 / self.end_us as f64 * self.width
    }

    /// The seconds between two ticks, so that their texts stand apart.
    pub(super) fn tick_s(self) -> u64 {
        let seconds = self.end_us / 1_000_000;
        [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600]
            .into_iter()
            .find(|step| seconds / step <= 22)
            .unwrap_or(7200)
    }

    /// Every tick: its second.
    pub(super) fn ticks(self) -> impl Iterator<Item = u64> {
        (0..=self.end_us / 1_000_000).step_by(self.tick_s() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_fit() {
        for seconds in [0, 1, 90, 120, 1300, 40_000, 200_000] {
            let scale = Scale::new(seconds * 1_000_000, 1000.0);
            assert!((1..=30).contains(&scale.ticks().count()), "{seconds}");
        }
        let scale = Scale::new(100_000_000, 1000.0);
        assert_eq!((scale.x(50_000_000), scale.x(u64::MAX)), (500.0, 1000.0));
    }
}
