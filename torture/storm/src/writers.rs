//! Those who talk, and what they are answered.

use std::{collections::HashSet, sync::Arc, time::Duration};

use hubbub_client::{Client, Config, Wire, WireEvent};
use hubbub_protocol::{ChannelId, MessageId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::town::Town;

/// For the answers to what was sent, when nothing more is sent.
const ANSWERS: Duration = Duration::from_secs(30);
/// About the length of what people write.
const TEXT: &str = "the quick brown fox jumps over the lazy dog, and nobody minds";

/// What became of all sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sends {
    /// Messages that were to be sent.
    pub sent: u64,
    /// Those that were acknowledged in the end.
    pub acked: u64,
    /// Attempts whose outcome nobody knows: the answer said so, or the connection ended first.
    pub unknown: u64,
    /// Messages that ended with an error.
    pub failed: u64,
    /// Sends that the client did not take, because too many had no answer yet.
    pub full: u64,
}

/// Shared by all writers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sends: Sends,
    pub(crate) acked: HashSet<MessageId>,
    /// The first errors, in words.
    pub(crate) words: Vec<String>,
}

impl Ledger {
    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        const WORDS: usize = 20;
        if self.words.len() < WORDS {
            self.words.push(what());
        }
    }
}

/// Writers at work.
#[derive(Debug)]
pub(crate) struct Writers {
    ledger: Arc<Mutex<Ledger>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Writers {
    /// `count` writers, who together send `rate` messages a second, over all channels in turn.
    pub(crate) fn start(town: &Town, count: usize, rate: f64) -> anyhow::Result<Self> {
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let pause = Duration::from_secs_f64(count as f64 / rate.max(0.001));
        for n in 0..count {
            let mut config = Config::new(town.ws_url(n), town.token(&Town::writer(n))?);
            let tap = Mutex::new(Tap::default());
            let book = Arc::clone(&ledger);
            config.recorder = Some(Arc::new(move |wire: Wire<'_>| {
                let unknown = tap.lock().on_wire(wire.event);
                if unknown > 0 {
                    let mut book = book.lock();
                    book.sends.unknown += unknown;
                    book.say(|| format!("writer {n}: {unknown} unknown at {:?}", wire.event));
                }
            }));
            let writer = Writer {
                config,
                // Each begins elsewhere, so that all channels are busy at any time.
                first: n * town.channels.len() / count,
                channels: town.channels.clone(),
                pause,
                ledger: Arc::clone(&ledger),
                stopped: stopped.clone(),
            };
            tasks.spawn(writer.run());
        }
        Ok(Self {
            ledger,
            stop,
            tasks,
        })
    }

    /// The book that all write into; for others who send beside them.
    pub(crate) fn ledger(&self) -> Arc<Mutex<Ledger>> {
        Arc::clone(&self.ledger)
    }

    /// Attempts whose outcome is unknown, so far.
    pub(crate) fn unknown(&self) -> u64 {
        self.ledger.lock().sends.unknown
    }

    /// Sends nothing more and waits for all answers.
    pub(crate) async fn finish(mut self) -> Arc<Mutex<Ledger>> {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.ledger
    }
}

struct Writer {
    config: Config,
    channels: Vec<ChannelId>,
    first: usize,
    pause: Duration,
    ledger: Arc<Mutex<Ledger>>,
    stopped: watch::Receiver<bool>,
}

impl Writer {
    async fn run(self) {
        let mut stopped = self.stopped.clone();
        let (client, events) = Client::start(self.config.clone());
        // What it hears is of no interest here; the answers come by the handles.
        drop(events);
        let mut pace = interval(self.pause);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answers = JoinSet::new();
        let mut n = self.first;
        loop {
            // Waits for: the next moment to write, an answer, the end. All are cancel-safe.
            tokio::select! {
                _ = pace.tick() => {
                    let channel = self.channels[n % self.channels.len()];
                    n += 1;
                    self.send(&client, channel, &mut answers);
                }
                Some(_) = answers.join_next() => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        let all = async { while answers.join_next().await.is_some() {} };
        if timeout(ANSWERS, all).await.is_err() {
            let left = answers.len() as u64;
            let mut ledger = self.ledger.lock();
            ledger.sends.failed += left;
            ledger.say(|| format!("{left} sends have no answer after {ANSWERS:?}"));
        }
        client.close().await;
    }

    fn send(&self, client: &Client, channel: ChannelId, answers: &mut JoinSet<()>) {
        self.ledger.lock().sends.sent += 1;
        match client.send(channel, TEXT) {
            Ok(handle) => {
                let ledger = Arc::clone(&self.ledger);
                answers.spawn(async move {
                    let id = handle.message_id();
                    let result = handle.wait().await;
                    let mut ledger = ledger.lock();
                    match result {
                        Ok(_) => {
                            ledger.sends.acked += 1;
                            ledger.acked.insert(id);
                        }
                        Err(error) => {
                            ledger.sends.failed += 1;
                            ledger.say(|| format!("a send failed: {error}"));
                        }
                    }
                });
            }
            Err(error) => {
                let mut ledger = self.ledger.lock();
                ledger.sends.full += 1;
                ledger.say(|| format!("a send was not taken: {error}"));
            }
        }
    }
}

/// Follows one client's sends on the wire, where an unknown outcome is still to be seen: the
/// client itself sends again until it knows.
#[derive(Debug, Default)]
struct Tap {
    /// Request id of each send without an answer.
    open: HashSet<i64>,
}

impl Tap {
    /// Attempts that became unknown by this.
    fn on_wire(&mut self, event: WireEvent<'_>) -> u64 {
        #[derive(Deserialize)]
        struct Out<'a> {
            id: Option<i64>,
            r#type: &'a str,
        }
        #[derive(Deserialize)]
        struct Reply<'a> {
            reply_to: Option<i64>,
            #[serde(borrow)]
            error: Option<Failure<'a>>,
        }
        #[derive(Deserialize)]
        struct Failure<'a> {
            outcome: Option<&'a str>,
        }
        match event {
            WireEvent::Out(text) => {
                let frame: Option<Out<'_>> = serde_json::from_str(text).ok();
                if let Some(Out {
                    id: Some(id),
                    r#type: "message",
                }) = frame
                {
                    self.open.insert(id);
                }
                0
            }
            WireEvent::In(text) => {
                let reply: Option<Reply<'_>> = serde_json::from_str(text).ok();
                let Some((id, error)) = reply.and_then(|r| Some((r.reply_to?, r.error))) else {
                    return 0;
                };
                let ours = self.open.remove(&id);
                let unknown = error.is_some_and(|error| error.outcome == Some("unknown"));
                u64::from(ours && unknown)
            }
            WireEvent::Closed(_) => std::mem::take(&mut self.open).len() as u64,
            WireEvent::Opened => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_what_was_answered_so_or_not_at_all() {
        let mut tap = Tap::default();
        let mut tell = |event: WireEvent<'_>| tap.on_wire(event);
        assert_eq!(tell(WireEvent::Opened), 0);
        for n in 1..=4 {
            let frame = format!(r#"{{"id":{n},"type":"message","channel":"C","text":"hi"}}"#);
            assert_eq!(tell(WireEvent::Out(&frame)), 0);
        }
        tell(WireEvent::Out(r#"{"id":5,"type":"join","channel":"C"}"#));
        assert_eq!(
            tell(WireEvent::In(r#"{"reply_to":1,"ok":true,"seq":4}"#)),
            0
        );
        let refused = r#"{"reply_to":2,"ok":false,"error":{"code":"x","outcome":"rejected"}}"#;
        assert_eq!(tell(WireEvent::In(refused)), 0);
        let unknown = r#"{"reply_to":3,"ok":false,"error":{"code":"x","outcome":"unknown"}}"#;
        assert_eq!(tell(WireEvent::In(unknown)), 1);
        assert_eq!(tell(WireEvent::In(unknown)), 0, "answered once");
        assert_eq!(tell(WireEvent::In(r#"{"type":"message","seq":1}"#)), 0);
        assert_eq!(tell(WireEvent::Closed(Some(1012))), 1, "the fourth");
        assert_eq!(tell(WireEvent::Closed(None)), 0);
    }
}
