//! What one schedule may do, drawn from its seed.

use crate::feed::limits::TailBounds;

use super::random::Random;

/// What one schedule may do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: usize,
    pub(super) channels: usize,
    /// It starts with clients that listen.
    pub(super) warm: bool,
    pub(super) slow_client: bool,
    /// Of 100, where losses are silent.
    pub(super) announcements_lost: usize,
    pub(super) weights: [usize; ACTS.len()],
    /// Losses that nobody notices (messages, announcements, crashes before a publish), which only
    /// the sweep makes good. Without them the sweep stays off: then the subscribe confirmations
    /// and the announcements must be enough.
    pub(super) silent: bool,
    pub(super) longest_list: usize,
    pub(super) capacity: usize,
    pub(super) synced_rides: bool,
    /// `synced` is told when time has passed, not with every step.
    pub(super) synced_late: bool,
    pub(super) frame_bytes: u64,
    pub(super) page_rows: usize,
    pub(super) ids: usize,
    pub(super) tail: TailBounds,
    pub(super) invariants: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Send,
    Resend,
    Publish,
    CrashBeforePublish,
    Consume,
    Announce,
    CrashBeforeAnnounce,
    Deliver,
    StoreReads,
    StoreAnswers,
    StoreFails,
    Drain,
    Join,
    Leave,
    Connect,
    Disconnect,
    Disconnection,
    InboxFull,
    Subscribe,
    EdgeCrash,
    StoreAway,
    Sweep,
    Wait,
    Poison,
    CloseIdle,
}

/// Each with its weight.
pub(super) const ACTS: [(Act, usize); 25] = [
    (Act::Send, 80),
    (Act::Resend, 15),
    (Act::Publish, 80),
    (Act::CrashBeforePublish, 8),
    (Act::Consume, 70),
    (Act::Announce, 80),
    (Act::CrashBeforeAnnounce, 4),
    (Act::Deliver, 200),
    (Act::StoreReads, 80),
    (Act::StoreAnswers, 80),
    (Act::StoreFails, 8),
    (Act::Drain, 140),
    (Act::Join, 60),
    (Act::Leave, 8),
    (Act::Connect, 30),
    (Act::Disconnect, 6),
    (Act::Disconnection, 6),
    (Act::InboxFull, 4),
    (Act::Subscribe, 60),
    (Act::EdgeCrash, 2),
    (Act::StoreAway, 6),
    (Act::Sweep, 25),
    (Act::Wait, 15),
    (Act::Poison, 6),
    (Act::CloseIdle, 6),
];

impl Plan {
    pub(super) fn new(random: &mut Random) -> Self {
        // In a quiet channel nothing later covers up for what was missed.
        let slow_store = random.chance(12);
        let quiet = slow_store || random.chance(25);
        // Kinds of fault come and go by schedule: a few at a time reach further than all at once.
        let weights = ACTS.map(|(act, weight)| match act {
            Act::Send if quiet => weight / 10,
            Act::StoreAnswers if slow_store => weight / 20,
            Act::Sweep | Act::Wait if slow_store => weight * 3,
            Act::Send | Act::Publish | Act::Deliver | Act::Drain | Act::Join | Act::Connect => {
                weight * random.pick(&[1, 1, 2])
            }
            _ => weight * random.pick(&[0, 1, 1, 3]),
        });
        Self {
            steps: 100 + random.below(500),
            channels: random.pick(&[1, 1, 2, 3]),
            weights,
            warm: !slow_store && random.chance(80),
            slow_client: random.chance(50),
            announcements_lost: if slow_store { 60 } else { 15 },
            silent: slow_store || random.chance(55),
            longest_list: random.pick(&[1, 3, 9]),
            synced_rides: random.chance(30),
            synced_late: random.chance(50),
            capacity: random.pick(&[3, 4, 6, 30]),
            frame_bytes: random.pick(&[0, 4, 12, 10_000, 10_000, 10_000]),
            page_rows: random.pick(&[1, 2, 3, 100]),
            ids: random.pick(&[1, 256, 256, 256]),
            tail: TailBounds {
                rows: random.pick(&[0, 2, 4, 256, 256]),
                bytes: random.pick(&[200, 400, 10_000, 10_000]),
                all_bytes: random.pick(&[100, 500, 10_000, 10_000]),
            },
            invariants: random.chance(12),
        }
    }
}
