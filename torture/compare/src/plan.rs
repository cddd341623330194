//! Who says what to whom, and what goes wrong when: drawn from a seed, the same for every system.

use hubbub_checker::{Fault, FaultKind};
use hubbub_protocol::MessageId;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng, seq::SliceRandom};

/// Channels that are talked in.
pub(crate) const CHANNELS: usize = 10;
/// Who talks.
pub(crate) const WRITERS: usize = 6;
/// Who listens.
pub(crate) const LISTENERS: usize = 30;
/// Channels that each of them listens to.
pub(crate) const EACH: usize = 3;
/// Server processes.
pub(crate) const SERVERS: usize = 3;
/// Nothing goes wrong in the first and last seconds.
const MARGIN_MS: u64 = 4_000;
/// Of the time between two faults, the part by which the start of one may vary.
const JITTER: f64 = 0.3;
/// From one channel of a listener to the next.
const STEPS: [usize; 3] = [1, 3, 4];

const FAULTS: [(FaultKind, usize, u64, &str); 5] = [
    (
        FaultKind::EdgeKill,
        3,
        1_500,
        "a server is killed and started again after 1.5 s",
    ),
    (
        FaultKind::PubsubKill,
        2,
        0,
        "Redis kills the connections over which the servers hear of each other",
    ),
    (
        FaultKind::RedisKill,
        1,
        1_500,
        "Redis is killed and started again after 1.5 s",
    ),
    (
        FaultKind::ClientReset,
        4,
        0,
        "a listener's connection is reset",
    ),
    (
        FaultKind::ClientSilent,
        1,
        6_000,
        "a listener's connection carries nothing any more, and nobody is told",
    ),
];

/// A message to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saying {
    /// Milliseconds from the start of the workload.
    pub(crate) at_ms: u64,
    /// Number of the writer.
    pub(crate) writer: usize,
    /// Number of the channel.
    pub(crate) channel: usize,
    /// The message's identity, chosen by its writer.
    pub(crate) id: MessageId,
    /// What is said.
    pub(crate) text: String,
}

/// A run, before it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What it was drawn from.
    pub(crate) seed: u64,
    /// The numbers of the channels that each listener listens to.
    pub(crate) listeners: Vec<[usize; EACH]>,
    /// In order of time.
    pub(crate) sayings: Vec<Saying>,
    /// In order of time, one after the other.
    pub(crate) faults: Vec<Fault>,
    /// When the workload ends.
    pub(crate) length_ms: u64,
}

impl Plan {
    /// Draws a run of so many messages over so many seconds.
    #[must_use]
    pub(crate) fn draw(seed: u64, messages: usize, seconds: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let length_ms = seconds * 1_000;
        // Steps around a circle, so that every channel has as many listeners.
        let listeners = (0..LISTENERS)
            .map(|n| {
                let step = STEPS[n / CHANNELS % STEPS.len()];
                std::array::from_fn(|k| (n + k * step) % CHANNELS)
            })
            .collect();
        Self {
            seed,
            listeners,
            sayings: sayings(&mut rng, messages, length_ms),
            faults: faults(&mut rng, length_ms),
            length_ms,
        }
    }

    /// The name of a listener's device.
    #[must_use]
    pub(crate) fn listener(n: usize) -> String {
        format!("listener-{n}")
    }

    /// The name of a writer's device.
    #[must_use]
    pub(crate) fn writer(n: usize) -> String {
        format!("writer-{n}")
    }
}

fn sayings(rng: &mut SmallRng, messages: usize, length_ms: u64) -> Vec<Saying> {
    let mut sayings: Vec<Saying> = (0..messages)
        .map(|n| {
            let bytes = rng.random::<u128>().to_be_bytes();
            let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
            let pad = "la ".repeat(rng.random_range(5..40));
            Saying {
                at_ms: rng.random_range(0..length_ms),
                writer: rng.random_range(0..WRITERS),
                channel: rng.random_range(0..CHANNELS),
                id: MessageId(id),
                text: format!("{n} {pad}"),
            }
        })
        .collect();
    sayings.sort_by_key(|saying| saying.at_ms);
    sayings
}

fn faults(rng: &mut SmallRng, length_ms: u64) -> Vec<Fault> {
    let mut kinds = Vec::new();
    for (kind, count, lasts_ms, hypothesis) in FAULTS {
        kinds.extend((0..count).map(|_| (kind, lasts_ms, hypothesis)));
    }
    kinds.shuffle(rng);
    // A server each, a listener each: what one fault did is not hidden by the next.
    let mut servers: Vec<usize> = (0..SERVERS).collect();
    let mut listeners: Vec<usize> = (0..LISTENERS).collect();
    servers.shuffle(rng);
    listeners.shuffle(rng);
    let count = u64::try_from(kinds.len()).unwrap_or(1);
    let slot_ms = (length_ms - 2 * MARGIN_MS) / count;
    (0..count)
        .zip(kinds)
        .map(|(n, (kind, lasts_ms, hypothesis))| {
            let target = match kind {
                FaultKind::EdgeKill => format!("server-{}", servers.pop().unwrap_or(0) + 1),
                FaultKind::ClientReset | FaultKind::ClientSilent => {
                    Plan::listener(listeners.pop().unwrap_or(0))
                }
                _ => "redis".to_owned(),
            };
            Fault {
                number: u32::try_from(n + 1).unwrap_or(u32::MAX),
                kind,
                target,
                start_ms: MARGIN_MS + n * slot_ms + jitter_ms(rng, slot_ms),
                lasts_ms,
                hypothesis: hypothesis.to_owned(),
            }
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a few thousand milliseconds"
)]
fn jitter_ms(rng: &mut impl Rng, slot_ms: u64) -> u64 {
    (rng.random_range(0.0..JITTER) * slot_ms as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_run() {
        assert_eq!(Plan::draw(7, 300, 60), Plan::draw(7, 300, 60));
        assert_ne!(Plan::draw(7, 300, 60), Plan::draw(8, 300, 60));
    }

    #[test]
    fn everybody_listens_to_three_channels_and_each_has_as_many_listeners() {
        let plan = Plan::draw(1, 10, 60);
        let mut counts = [0; CHANNELS];
        for channels in &plan.listeners {
            let mut sorted = channels.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), EACH, "{channels:?}");
            channels.iter().for_each(|channel| counts[*channel] += 1);
        }
        assert_eq!(counts, [LISTENERS * EACH / CHANNELS; CHANNELS]);
    }

    #[test]
    fn faults_come_one_after_the_other_and_no_target_twice() {
        for seed in 0..100 {
            let plan = Plan::draw(seed, 10, 60);
            assert_eq!(plan.faults.len(), 11);
            for pair in plan.faults.windows(2) {
                assert!(pair[0].start_ms + 2_500 < pair[1].start_ms, "{pair:?}");
            }
            let own = |f: &&Fault| f.target != "redis";
            let mut targets: Vec<&str> = plan
                .faults
                .iter()
                .filter(own)
                .map(|f| f.target.as_str())
                .collect();
            let all = targets.len();
            targets.sort_unstable();
            targets.dedup();
            assert_eq!(targets.len(), all, "{targets:?}");
        }
    }
}
