//! People who write to each other: direct channels, opened by both sides at once when they are
//! needed first, and how far each device came in them.
//!
//! Devices mark what they were given, over their WebSockets and now and then over HTTP, where an
//! older mark comes late, as from a window that was left open. The sender asks for the status of
//! what it said.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Result;
use futures_util::{StreamExt, stream::FuturesUnordered};
use hubbub_checker::{
    Event,
    history::{Cursor, Delivery},
};
use hubbub_client::{Change, Http, Progress};
use hubbub_protocol::{ChannelId, Seq, http::DeliveryStatus};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    device::{Device, Identity},
    habits,
    ledger::Ledger,
    message,
    recorder::Recorder,
    wire::what,
    workload::Voice,
    writer::{End, Message},
};

/// Between two turns of one side.
const TURN_MS: std::ops::Range<u64> = 800..2_400;
/// A channel that could not be opened is tried again after this.
const AGAIN: Duration = Duration::from_millis(300);
/// One side's messages on their way.
const IN_FLIGHT: usize = 4;
const PAD_BYTES: std::ops::Range<usize> = 10..120;
/// What a question may take: the other turns wait for it.
const QUESTION: Duration = Duration::from_secs(4);
/// Of the turns, in which a device marks what it has as read.
const READS: f64 = 0.6;
/// And says over HTTP how far it came at some time before.
const LATE_MARKS: f64 = 0.35;
/// Of these, said twice.
const MARKED_TWICE: f64 = 0.1;
/// Of the turns, in which a side asks what became of one of its messages.
const ASKS: f64 = 0.5;
/// Messages whose status is asked for.
const ASKED_OF: usize = 6;
/// What a device remembers of its cursors.
const EARLIER: usize = 16;

/// Every direct channel of a run, with its two users.
#[derive(Debug, Default)]
pub struct Directs {
    opened: Mutex<BTreeMap<ChannelId, [Identity; 2]>>,
}

impl Directs {
    /// Those that were opened by now.
    #[must_use]
    pub fn opened(&self) -> Vec<(ChannelId, [Identity; 2])> {
        let opened = self.opened.lock();
        opened.iter().map(|(c, pair)| (*c, pair.clone())).collect()
    }
}

/// One of the two.
#[derive(Debug)]
pub struct Side {
    /// Who.
    pub who: Identity,
    /// How this side speaks.
    pub voice: Voice,
    /// Its way to the API.
    pub http: Http,
    /// Its devices; none of a user who only writes.
    pub devices: Vec<Arc<Device>>,
}

/// Two users.
#[derive(Debug)]
pub struct Talk {
    /// Both.
    pub sides: [Side; 2],
    /// When they have something to say first.
    pub begins: Instant,
    /// Where their channel is noted.
    pub directs: Arc<Directs>,
    /// What is said.
    pub ledger: Arc<Ledger>,
    /// What was said lately.
    pub board: Arc<Board>,
    /// The history.
    pub recorder: Recorder,
    /// Of all choices.
    pub seed: u64,
}

impl Talk {
    /// Opens the channel and talks until `stop`; then waits `patience` for the last answers.
    ///
    /// # Errors
    /// When a client has ended, which it may not while the run lasts.
    pub async fn run(self, stop: CancellationToken, patience: Duration) -> Result<()> {
        let opened = async {
            sleep_until(self.begins).await;
            self.open().await
        };
        let Some(channel) = stop.run_until_cancelled(opened).await else {
            return Ok(());
        };
        let [one, other] = &self.sides;
        let pair = [one.who.clone(), other.who.clone()];
        self.directs.opened.lock().insert(channel, pair);
        let speak = |side, n| self.speak(side, channel, self.seed.wrapping_add(n), &stop, patience);
        let (one, other) = tokio::join!(speak(one, 0), speak(other, 1));
        one.and(other)
    }

    /// Both ask at once, again until both know.
    async fn open(&self) -> ChannelId {
        let [one, other] = &self.sides;
        let (mut first, mut second) = (None, None);
        loop {
            let asked = tokio::join!(self.ask(one, other, first), self.ask(other, one, second));
            (first, second) = asked;
            match (first, second) {
                (Some(channel), Some(_)) => return channel,
                _ => sleep(AGAIN).await,
            }
        }
    }

    async fn ask(&self, side: &Side, with: &Side, known: Option<ChannelId>) -> Option<ChannelId> {
        if known.is_some() {
            return known;
        }
        let direct = side.http.direct(with.who.user).await.ok()?;
        self.recorder.record(Event::Direct {
            user: side.who.user,
            with: with.who.user,
            channel: direct.channel,
        });
        Some(direct.channel)
    }

    async fn speak(
        &self,
        side: &Side,
        channel: ChannelId,
        seed: u64,
        stop: &CancellationToken,
        patience: Duration,
    ) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut earlier: Vec<Vec<Seq>> = vec![Vec::new(); side.devices.len()];
        // Messages wait in the voice, which is borrowed: they run beside the turns.
        let mut sends = FuturesUnordered::new();
        let name = format!("{}.{channel}", side.who.name);
        let mut n = 0;
        let mut turn = Instant::now();
        loop {
            // Waits for: the stop; the next turn; the end of a message.
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(turn) => {}
                Some(()) = sends.next() => continue,
            }
            turn = Instant::now() + Duration::from_millis(rng.random_range(TURN_MS));
            if sends.len() < IN_FLIGHT {
                let bytes = rng.random_range(PAD_BYTES);
                let pad = message::pad(&mut rng, bytes);
                let user = side.who.user;
                let change = habits::change(&self.board, channel, user, (n, &pad), &mut rng);
                let plain = || Change::message(message::compose(n, None, &pad));
                let message = Message {
                    channel,
                    id: message::id_of(&name, n),
                    change: change.unwrap_or_else(plain),
                };
                n += 1;
                self.ledger.say(message.id, what(&message.change));
                let said = Arc::clone(&said);
                sends.push(async move {
                    let end = side.voice.say(&message).await;
                    self.ledger.end(end);
                    habits::note(&self.board, user, &message, end);
                    if let (Change::Message { .. }, End::Stored(Some(seq))) = (&message.change, end)
                    {
                        remember(&mut said.lock(), seq, ASKED_OF);
                    }
                });
            }
            for (device, earlier) in side.devices.iter().zip(&mut earlier) {
                self.mark(side, device, channel, earlier, &mut rng).await?;
            }
            let asked = said.lock().clone();
            if !asked.is_empty() && rng.random_bool(ASKS) {
                let seq = asked[rng.random_range(0..asked.len())];
                let question = self.status(side, channel, seq);
                stop.run_until_cancelled(timeout(QUESTION, question)).await;
            }
        }
        let all = async { while sends.next().await.is_some() {} };
        let ended = timeout(patience, all).await;
        anyhow::ensure!(
            ended.is_ok(),
            "messages of {} in {channel} had no last answer {patience:?} after the end",
            side.who.name
        );
        Ok(())
    }

    /// How far a device says that it came: as far as it did, or to where it was before.
    async fn mark(
        &self,
        side: &Side,
        device: &Device,
        channel: ChannelId,
        earlier: &mut Vec<Seq>,
        rng: &mut SmallRng,
    ) -> Result<()> {
        // Nothing was given to one that does not listen yet.
        let Some(cursor) = device.cursor(channel).filter(|seq| *seq > Seq::ZERO) else {
            return Ok(());
        };
        remember(earlier, cursor, EARLIER);
        if rng.random_bool(READS) {
            device.client().mark_read(channel, cursor).await?;
        }
        if rng.random_bool(LATE_MARKS) {
            let seq = earlier[rng.random_range(0..earlier.len())];
            let delivered = rng.random_bool(0.5);
            let progress = Progress {
                delivered: delivered.then_some(seq),
                read: (!delivered).then_some(seq),
            };
            let times = 1 + usize::from(rng.random_bool(MARKED_TWICE));
            for _ in 0..times {
                let question = self.late_mark(side, device, channel, progress);
                timeout(QUESTION, question).await.ok();
            }
        }
        Ok(())
    }

    async fn late_mark(
        &self,
        side: &Side,
        device: &Device,
        channel: ChannelId,
        progress: Progress,
    ) {
        let op = self.recorder.next_op();
        self.recorder.record(Event::MarkAsked {
            op,
            channel,
            cursor: Cursor {
                of: device.name().to_owned(),
                delivered: progress.delivered.unwrap_or_default(),
                read: progress.read.unwrap_or_default(),
            },
            waits: true,
        });
        let id = device.name().parse().ok();
        let marked = side.http.mark(channel, id.as_ref(), progress).await;
        if marked.is_ok() {
            self.recorder.record(Event::MarkAnswered { op });
        }
    }

    async fn status(&self, side: &Side, channel: ChannelId, seq: Seq) {
        let Ok(status) = side.http.status(channel, seq).await else {
            return;
        };
        let devices = status.devices.into_iter().filter_map(|it| {
            let delivery = match it.status {
                DeliveryStatus::None => Delivery::None,
                DeliveryStatus::Sent => Delivery::Sent,
                DeliveryStatus::Delivered => Delivery::Delivered,
                DeliveryStatus::Read => Delivery::Read,
            };
            Some((it.device?.to_string(), delivery))
        });
        self.recorder.record(Event::Told {
            asker: format!("{}.asks", side.who.name),
            channel,
            seq,
            devices: devices.collect(),
        });
    }
}

fn remember(all: &mut Vec<Seq>, seq: Seq, most: usize) {
    if all.last() == Some(&seq) {
        return;
    }
    if all.len() >= most {
        all.remove(0);
    }
    all.push(seq);
}

/// Who talks to whom, of a run's writers and readers: by number, with how long after the start.
/// Some have a device, some three, some none; the later ones meet while faults come and go.
#[must_use]
pub fn pairs(writers: &[Identity], readers: &[Identity], http: usize) -> Vec<([Identity; 2], u64)> {
    let reader = |n: usize| readers.get(n).cloned();
    let writer = |n: usize| writers.get(n).cloned();
    let last = writers.len().checked_sub(1).filter(|_| http > 0);
    [
        (writer(0), reader(0), 500),
        (writer(1), reader(1), 900),
        (reader(2), reader(3), 1_300),
        (last.and_then(writer), reader(4), 1_700),
        (reader(5), reader(0), 8_000),
        (writer(2), writer(3), 14_000),
        (reader(6), reader(7), 20_000),
        (writer(0), reader(5), 26_000),
    ]
    .into_iter()
    .filter_map(|(one, other, after_ms)| Some(([one?, other?], after_ms)))
    .collect()
}
