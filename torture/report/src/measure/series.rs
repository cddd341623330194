use crate::{measures::Second, quantiles::Quantiles};

/// The latencies of one second, in the order of the fields of [`Second`].
type Samples = [Vec<u32>; 4];

/// Which latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Plain,
    PlainFromOk,
    Ordered,
    OrderedFromOk,
}

impl Which {
    pub(super) const ALL: [Self; 4] = [
        Self::Plain,
        Self::PlainFromOk,
        Self::Ordered,
        Self::OrderedFromOk,
    ];
}

/// The run second by second. Latencies are kept one by one, 4 bytes each, so that quantiles are
/// exact.
#[derive(Debug)]
pub(super) struct Series {
    seconds: Vec<Second>,
    samples: Vec<Samples>,
    /// The seconds that are wholly in calm.
    calm: std::ops::Range<usize>,
}

impl Series {
    /// Room for a run that ends at `end_us`; `calm` is the calm phase, from and to.
    pub(super) fn new(end_us: u64, calm: Option<(u64, u64)>) -> Self {
        let seconds = second(end_us) + 1;
        let calm = calm.map_or(0..0, |(from, to)| {
            from.div_ceil(1_000_000) as usize..second(to).min(seconds)
        });
        Self {
            seconds: vec![Second::default(); seconds],
            samples: vec![Samples::default(); seconds],
            calm,
        }
    }

    /// The second of a moment.
    pub(super) fn at(&mut self, at_us: u64) -> &mut Second {
        let last = self.seconds.len() - 1;
        &mut self.seconds[second(at_us).min(last)]
    }

    pub(super) fn latency(&mut self, which: Which, at_us: u64, took_us: u64) {
        let last = self.seconds.len() - 1;
        self.samples[second(at_us).min(last)][which as usize]
            .push(u32::try_from(took_us).unwrap_or(u32::MAX));
    }

    /// The quantiles of a latency in calm, and over the whole run.
    pub(super) fn overall(&self, which: Which) -> (Quantiles, Quantiles) {
        let gather = |samples: &[Samples]| {
            let mut all: Vec<u32> = samples
                .iter()
                .flat_map(|samples| samples[which as usize].iter().copied())
                .collect();
            Quantiles::of(&mut all)
        };
        let calm = self.samples.get(self.calm.clone()).unwrap_or_default();
        (gather(calm), gather(&self.samples))
    }

    pub(super) fn finish(mut self) -> Vec<Second> {
        for (second, samples) in self.seconds.iter_mut().zip(&mut self.samples) {
            let [plain, plain_from_ok, ordered, ordered_from_ok] = samples;
            second.plain = Quantiles::of(plain);
            second.plain_from_ok = Quantiles::of(plain_from_ok);
            second.ordered = Quantiles::of(ordered);
            second.ordered_from_ok = Quantiles::of(ordered_from_ok);
        }
        self.seconds
    }
}

fn second(at_us: u64) -> usize {
    (at_us / 1_000_000) as usize
}
