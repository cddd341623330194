//! The writers: who says what, where and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hubbub_checker::history::Device as DeviceName;
use hubbub_client::Change;
use hubbub_protocol::{ChannelId, MessageId, UserId};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    device::Device,
    habits,
    http_writer::HttpWriter,
    ledger::Ledger,
    message,
    wire::what,
    writer::{self, End, Message},
    zipf::Zipf,
};

/// Messages of one writer on their way in one channel.
const IN_FLIGHT: usize = 4;
/// The same in the busy channel, whose burst is to be dense.
const IN_FLIGHT_BUSY: usize = 16;
/// Draws of a channel before a writer waits for the drawn one.
const DRAWS: usize = 16;
/// Of the messages of those who heard something.
const ANSWERS: f64 = 0.5;
/// Each channel in turn falls silent for so long, a third of them at any time: a hole stays unseen
/// only where nothing follows it.
const SILENCE: Duration = Duration::from_secs(6);
const TURNS: usize = 3;
const PAD_BYTES: std::ops::Range<usize> = 10..200;
/// A burst, all writers together: enough to fill an outbox of 256 frames in some seconds.
const BURST_PER_SECOND: f64 = 100.0;
const BURST_PAD_BYTES: usize = 2_000;

/// How a writer speaks.
#[derive(Debug)]
pub enum Voice {
    /// Over its device's WebSocket.
    Socket(Arc<Device>),
    /// Over HTTP.
    Http(HttpWriter),
}

impl Voice {
    /// Says something until the answer is definite, or it is given up. Takes as long as it takes:
    /// the caller bounds it.
    pub async fn say(&self, message: &Message) -> End {
        match self {
            Self::Socket(device) => writer::send(device, message).await,
            Self::Http(http) => http.send(message).await,
        }
    }
}

/// Who a writer is, and what it does beside saying something.
#[derive(Debug)]
pub struct Person {
    /// Of what is said.
    pub name: String,
    /// The user.
    pub user: UserId,
    /// Answers what its device hears.
    pub answering: bool,
    /// Edits, deletes, reacts and replies in threads, too.
    pub changing: bool,
}

/// One writer.
#[derive(Debug)]
pub struct Writer {
    person: Person,
    voice: Voice,
    n: AtomicU64,
    channels: Vec<(ChannelId, Arc<Semaphore>)>,
    busy: (ChannelId, Arc<Semaphore>),
    ledger: Arc<Ledger>,
    board: Arc<Board>,
}

/// When a writer writes.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Of the first message.
    pub start: Instant,
    /// Over which time they are spread.
    pub over: Duration,
    /// How many.
    pub messages: u64,
    /// Of all choices.
    pub seed: u64,
}

impl Writer {
    /// In these channels, by popularity, and in the busy one while there is a burst.
    #[must_use]
    pub fn new(
        person: Person,
        voice: Voice,
        channels: &[ChannelId],
        busy: ChannelId,
        ledger: Arc<Ledger>,
        board: Arc<Board>,
    ) -> Arc<Self> {
        let places = |count| Arc::new(Semaphore::new(count));
        let channels = channels.iter().map(|c| (*c, places(IN_FLIGHT)));
        Arc::new(Self {
            person,
            voice,
            n: AtomicU64::new(0),
            channels: channels.collect(),
            busy: (busy, places(IN_FLIGHT_BUSY)),
            ledger,
            board,
        })
    }

    /// Writes until `stop`, then waits `patience` for the last answers. Returns how many messages
    /// have none by then.
    pub async fn run(
        self: Arc<Self>,
        pace: Pace,
        mut burst: watch::Receiver<Vec<DeviceName>>,
        writers: usize,
        stop: CancellationToken,
        patience: Duration,
    ) -> usize {
        let mut rng = SmallRng::seed_from_u64(pace.seed);
        let zipf = Zipf::new(self.channels.len());
        let mut sends = JoinSet::new();
        let (mut said, mut last, mut bursting) = (0, pace.start, false);
        let between = Duration::from_secs_f64(writers as f64 / BURST_PER_SECOND);
        let mut beat = tokio::time::interval(between);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            while sends.try_join_next().is_some() {}
            let due = pace.due(said, last, &mut rng);
            // Waits for: the stop; the beginning or end of a burst; its beat; the next message.
            tokio::select! {
                () = stop.cancelled() => break,
                changed = burst.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    bursting = !burst.borrow_and_update().is_empty();
                }
                _ = beat.tick(), if bursting => {
                    // Without a place the burst is as dense as it can be.
                    if let Ok(place) = Arc::clone(&self.busy.1).try_acquire_owned() {
                        self.say(self.busy.0, None, BURST_PAD_BYTES, place, &mut rng, &mut sends);
                    }
                }
                () = sleep_until(due), if said < pace.messages => {
                    last = Instant::now();
                    if let Some((channel, answers, place)) = self.choose(&zipf, pace.silent(last), &mut rng) {
                        let bytes = rng.random_range(PAD_BYTES);
                        self.say(channel, answers, bytes, place, &mut rng, &mut sends);
                        said += 1;
                    }
                }
            }
        }
        let all = async { while sends.join_next().await.is_some() {} };
        timeout(patience, all).await.ok();
        let open = sends.len();
        sends.shutdown().await;
        open
    }

    /// A channel with a place: by popularity among those that are not silent, or where there is
    /// something to answer. `None` when the writer's sends hang everywhere that was looked.
    fn choose(
        &self,
        zipf: &Zipf,
        silent: usize,
        rng: &mut impl Rng,
    ) -> Option<(ChannelId, Option<MessageId>, OwnedSemaphorePermit)> {
        if self.person.answering
            && rng.random_bool(ANSWERS)
            && let Voice::Socket(device) = &self.voice
            && let Some((channel, id)) = device.take_heard()
            && let Some(at) = self.channels.iter().position(|(c, _)| *c == channel)
            && at % TURNS != silent
            && let Ok(place) = Arc::clone(&self.channels[at].1).try_acquire_owned()
        {
            return Some((channel, Some(id), place));
        }
        for _ in 0..DRAWS {
            let at = zipf.draw(rng);
            let (channel, places) = &self.channels[at];
            if at % TURNS != silent
                && let Ok(place) = Arc::clone(places).try_acquire_owned()
            {
                return Some((*channel, None, place));
            }
        }
        None
    }

    fn say(
        self: &Arc<Self>,
        channel: ChannelId,
        answers: Option<MessageId>,
        bytes: usize,
        place: OwnedSemaphorePermit,
        rng: &mut impl Rng,
        sends: &mut JoinSet<()>,
    ) {
        let n = self.n.fetch_add(1, Ordering::Relaxed);
        let (pad, user) = (message::pad(rng, bytes), self.person.user);
        // An answer is one, and a burst is to be long.
        let plain = answers.is_some() || bytes >= BURST_PAD_BYTES || !self.person.changing;
        let change = match plain {
            true => None,
            false => habits::change(&self.board, channel, user, (n, &pad), rng),
        };
        let plain = || Change::message(message::compose(n, answers, &pad));
        let message = Message {
            channel,
            id: message::id_of(&self.person.name, n),
            change: change.unwrap_or_else(plain),
        };
        self.ledger.say(message.id, what(&message.change));
        let writer = Arc::clone(self);
        sends.spawn(async move {
            let end = writer.voice.say(&message).await;
            writer.ledger.end(end);
            habits::note(&writer.board, writer.person.user, &message, end);
            drop(place);
        });
    }
}

impl Pace {
    /// Which third of the channels is silent at this time, the same for every writer.
    fn silent(&self, at: Instant) -> usize {
        let turns = at.duration_since(self.start).as_secs() / SILENCE.as_secs();
        usize::try_from(turns).unwrap_or(0) % TURNS
    }

    /// When message `n` is due: at its place in the whole, a little off, and when the writer is
    /// late at most four times as dense.
    fn due(&self, n: u64, last: Instant, rng: &mut impl Rng) -> Instant {
        let each = self.over.div_f64(self.messages.max(1) as f64);
        let off = rng.random_range(0.0..1.0);
        let at = self.start + each.mul_f64(n as f64 + off);
        at.max(last + each / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace {
            start: Instant::now(),
            over: Duration::from_secs(100),
            messages: 1_000,
            seed: 1,
        }
    }

    #[tokio::test]
    async fn messages_are_spread_evenly() {
        let (pace, mut rng) = (pace(), SmallRng::seed_from_u64(1));
        for n in [0, 1, 500, 999] {
            let due = pace.due(n, pace.start, &mut rng) - pace.start;
            let from = Duration::from_millis(100 * n).max(Duration::from_millis(25));
            assert!(due >= from && due <= Duration::from_millis(100 * (n + 1)));
        }
    }

    #[tokio::test]
    async fn every_channel_is_silent_a_third_of_the_time() {
        let pace = pace();
        let at = |seconds| pace.silent(pace.start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(5), at(6), at(13), at(18)], [0, 0, 1, 2, 0]);
    }

    #[tokio::test]
    async fn a_late_writer_hurries_but_does_not_flood() {
        let (pace, mut rng) = (pace(), SmallRng::seed_from_u64(1));
        let last = pace.start + Duration::from_secs(50);
        let due = pace.due(3, last, &mut rng);
        assert_eq!(due, last + Duration::from_millis(25));
    }
}
