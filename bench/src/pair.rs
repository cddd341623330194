//! Systems that are measured by turns, and the ratios of what they cost.

use crate::client::{Figures, Load};
use crate::peers::Running;
use crate::process::{Cpu, Meter, Whose};
use crate::program::Program;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What one measurement of one system gave.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Of the processes that count.
    pub cpu: Cpu,
    /// What the CPU is divided by.
    pub operations: u64,
    /// What the client counted.
    pub figures: Figures,
}

impl Sample {
    /// CPU an operation, in nanoseconds.
    #[must_use]
    pub fn cost_ns(&self) -> f64 {
        self.cpu.total_ns() as f64 / self.operations.max(1) as f64
    }

    fn user_ns(&self) -> f64 {
        self.cpu.user_ns as f64 / self.operations.max(1) as f64
    }
}

/// What is counted as one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A message on one socket.
    Delivery,
    /// A message that was acknowledged.
    Acknowledgement,
    /// A socket that connected and joined.
    Connect,
}

/// What runs on behalf of a side and ends with it.
#[derive(Debug)]
pub enum Keep {
    /// Something that others use, too.
    Nothing,
    /// A bare program.
    Floor(Box<Program>),
    /// Another server.
    Peer(Box<Running>),
}

/// A system under load.
#[derive(Debug)]
pub struct Side {
    /// As in the table: `edge`, `send-loop`, `socket.io`.
    pub name: String,
    /// Of what is not built here.
    pub version: String,
    /// Whose CPU counts.
    pub whose: Vec<Whose>,
    /// Its client, connected.
    pub load: Load,
    /// What is counted.
    pub operation: Operation,
    /// What ends with it.
    pub keep: Keep,
    /// Why another server is measured no more: it lost a message, or ended.
    pub failed: Option<String>,
}

impl Side {
    /// One round of the client, with what the system used meanwhile.
    ///
    /// # Errors
    /// When a message was lost, doubled or out of order, or a process ended.
    pub async fn measure(&mut self, how: &str) -> Result<Sample> {
        let meter = Meter::start(&self.whose)?;
        let figures = self.load.round(how).await;
        let figures = figures.with_context(|| self.name.clone())?;
        let operations = match self.operation {
            Operation::Delivery => figures.delivered,
            Operation::Acknowledgement => figures.acked,
            Operation::Connect => figures.sockets,
        };
        Ok(Sample {
            cpu: meter.used()?,
            operations,
            figures,
        })
    }

    /// [`Side::measure`], but that another server which fails is an end for it alone.
    async fn turn(&mut self, how: &str) -> Result<Option<Sample>> {
        if self.failed.is_some() {
            return Ok(None);
        }
        match self.measure(how).await {
            Ok(sample) => Ok(Some(sample)),
            Err(error) if matches!(self.keep, Keep::Peer(_)) => {
                self.failed = Some(format!("{error:#}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the client, then the server.
    ///
    /// # Errors
    /// When one of them had ended by itself, but for another server that has failed and its client.
    pub async fn end(self) -> Result<()> {
        let ended = self.load.end().await;
        match self.keep {
            Keep::Nothing => ended,
            Keep::Floor(program) => {
                program.end().await?;
                ended
            }
            Keep::Peer(running) => {
                running.stop().await;
                if self.failed.is_some() { Ok(()) } else { ended }
            }
        }
    }
}

/// Measures all sides by turns, `rounds` times, after one round each of `warm_up` that is thrown
/// away. Gives the samples of each side. Another server that fails is left out from there on.
///
/// # Errors
/// As [`Side::measure`], of ours and of bare programs.
pub async fn by_turns(
    sides: &mut [Side],
    rounds: usize,
    warm_up: &str,
    how: &str,
    tell: &dyn Fn(&str),
) -> Result<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = sides.iter().map(|_| Vec::new()).collect();
    for side in sides.iter_mut() {
        side.turn(warm_up).await?;
    }
    for round in 1..=rounds {
        let mut line = format!("round {round}:");
        for (side, samples) in sides.iter_mut().zip(&mut samples) {
            let Some(sample) = side.turn(how).await? else {
                continue;
            };
            line += &format!(" {} {:.2} us,", side.name, sample.cost_ns() / 1_000.0);
            samples.push(sample);
        }
        tell(line.trim_end_matches(','));
    }
    Ok(samples)
}

/// Median, least and most of some values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of any number of values; all zero if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
            return Self::default();
        };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            median,
            min: *min,
            max: *max,
        }
    }

    /// With everything multiplied.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
        }
    }
}

/// What one system costs beside another, from rounds that alternated.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Comparison {
    /// CPU an operation of ours, in microseconds.
    pub ours_us: Spread,
    /// CPU an operation of theirs, in microseconds.
    pub theirs_us: Spread,
    /// Theirs / ours, of each round. 1.0 = they cost the same.
    pub ratio: Spread,
    /// The same of the time in the program alone; zero where there was too little to tell.
    pub user_ratio: Spread,
}

impl Comparison {
    /// Of two sets of samples; those of one round are held against each other.
    #[must_use]
    pub fn of(ours: &[Sample], theirs: &[Sample]) -> Self {
        let cost = |samples: &[Sample]| {
            Spread::of(samples.iter().map(|sample| sample.cost_ns() / 1_000.0))
        };
        let rounds = || ours.iter().zip(theirs);
        let user = rounds().filter(|(ours, theirs)| ours.user_ns() > 0.0 && theirs.user_ns() > 0.0);
        Self {
            ours_us: cost(ours),
            theirs_us: cost(theirs),
            ratio: Spread::of(rounds().map(|(ours, theirs)| theirs.cost_ns() / ours.cost_ns())),
            user_ratio: Spread::of(user.map(|(ours, theirs)| theirs.user_ns() / ours.user_ns())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(user_ns: u64, system_ns: u64, operations: u64) -> Sample {
        Sample {
            cpu: Cpu { user_ns, system_ns },
            operations,
            figures: Figures::default(),
        }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn ratios_are_theirs_by_ours_and_by_round() {
        // The machine was half as fast in the second round, for both: the ratio does not move.
        let ours = [sample(100, 100, 10), sample(200, 200, 10)];
        let theirs = [sample(100, 300, 10), sample(200, 600, 10)];
        let comparison = Comparison::of(&ours, &theirs);
        assert_eq!(comparison.ratio, Spread::of([2.0, 2.0]));
        assert_eq!(comparison.user_ratio, Spread::of([1.0, 1.0]));
        assert_eq!(comparison.ours_us, Spread::of([0.02, 0.04]));
    }

    #[test]
    fn time_in_the_program_that_no_tick_saw_gives_no_ratio() {
        let comparison = Comparison::of(&[sample(0, 100, 1)], &[sample(0, 50, 1)]);
        assert_eq!(comparison.user_ratio, Spread::default());
        assert_eq!(comparison.ratio.median, 0.5);
    }
}
