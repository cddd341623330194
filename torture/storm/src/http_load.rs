//! People who use the HTTP API: they post, and they read history.

use std::{sync::Arc, time::Duration};

use hubbub_client::{Http, Page};
use hubbub_protocol::{ChannelId, ErrorReply, MessageId, Outcome};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use crate::{town::Town, writers::Ledger};

/// One attempt; the server gives up after 5 s by itself.
const ATTEMPT: Duration = Duration::from_secs(10);
/// All attempts of one message.
const TOTAL: Duration = Duration::from_secs(30);
/// Between two attempts, where the server names no time.
const PAUSE: Duration = Duration::from_millis(200);
/// Requests under way; more are not begun.
const AT_ONCE: usize = 64;

/// Posts and reads at work.
#[derive(Debug)]
pub(crate) struct HttpLoad {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What one attempt came to.
enum Attempt {
    Acked,
    /// It reached no log.
    Rejected {
        again: bool,
        why: String,
    },
    Unknown(String),
}

#[derive(Clone)]
struct Poster {
    http: reqwest::Client,
    base: String,
    token: String,
    ledger: Arc<Mutex<Ledger>>,
    history: Http,
}

impl HttpLoad {
    /// `rate` posts and as many reads of history a second, through the front door.
    pub(crate) fn start(
        town: &Town,
        rate: f64,
        ledger: Arc<Mutex<Ledger>>,
    ) -> anyhow::Result<Self> {
        let (stop, mut stopped) = watch::channel(false);
        let poster = Poster {
            http: reqwest::Client::builder().timeout(ATTEMPT).build()?,
            base: town.http_base(),
            token: town.bearer(&Town::writer(0))?,
            ledger,
            history: town.http()?,
        };
        let channels = town.channels.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pace = interval(Duration::from_secs_f64(1.0 / rate.max(0.001)));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut requests = JoinSet::new();
            for n in 0_usize.. {
                // Waits for: the next moment, or the end.
                tokio::select! {
                    _ = pace.tick() => {}
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                }
                while requests.try_join_next().is_some() {}
                if requests.len() < AT_ONCE {
                    let channel = channels[n % channels.len()];
                    requests.spawn(poster.clone().post(channel));
                    requests.spawn(poster.clone().read(channel));
                } else {
                    poster.ledger.lock().sends.full += 1;
                }
            }
            // Each ends by itself within its time.
            while requests.join_next().await.is_some() {}
        });
        Ok(Self { stop, tasks })
    }

    /// Begins nothing more and waits for what is under way.
    pub(crate) async fn finish(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Poster {
    async fn read(self, channel: ChannelId) {
        if let Err(error) = self.history.messages(channel, Page::default()).await {
            let mut ledger = self.ledger.lock();
            ledger.sends.failed += 1;
            ledger.say(|| format!("history could not be read: {error}"));
        }
    }

    async fn post(self, channel: ChannelId) {
        let id = MessageId(Uuid::new_v4());
        let begun = Instant::now();
        self.ledger.lock().sends.sent += 1;
        let mut retry = false;
        while let Some(unknown) = {
            let attempt = self.attempt(channel, id, retry).await;
            self.book(attempt, id, begun)
        } {
            retry |= unknown;
            sleep(PAUSE).await;
        }
    }

    /// Books an attempt. `Some`: another one follows; whether this one is unknown.
    fn book(&self, attempt: Attempt, id: MessageId, begun: Instant) -> Option<bool> {
        let mut ledger = self.ledger.lock();
        let (why, unknown) = match attempt {
            Attempt::Acked => {
                ledger.sends.acked += 1;
                ledger.acked.insert(id);
                return None;
            }
            Attempt::Rejected { again: true, why } => (why, false),
            Attempt::Rejected { again: false, why } => {
                ledger.sends.failed += 1;
                ledger.say(|| format!("a post was refused: {why}"));
                return None;
            }
            Attempt::Unknown(why) => {
                ledger.sends.unknown += 1;
                ledger.say(|| format!("a post is unknown: {why}"));
                (why, true)
            }
        };
        if begun.elapsed() > TOTAL {
            ledger.sends.failed += 1;
            ledger.say(|| format!("a post was not taken within {TOTAL:?}: {why}"));
            return None;
        }
        Some(unknown)
    }

    async fn attempt(&self, channel: ChannelId, id: MessageId, retry: bool) -> Attempt {
        #[derive(Serialize)]
        struct Post<'a> {
            text: &'a str,
            client_msg_id: MessageId,
            retry: bool,
        }
        let url = format!("{}/channels/{channel}/messages", self.base);
        let body = Post {
            text: "posted while processes come and go",
            client_msg_id: id,
            retry,
        };
        let request = self.http.post(url).bearer_auth(&self.token).json(&body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                let why = error.to_string();
                return Attempt::Rejected { again: true, why };
            }
            Err(error) => return Attempt::Unknown(error.to_string()),
        };
        let status = response.status();
        if status.is_success() {
            return Attempt::Acked;
        }
        // An answer that cannot be read says nothing about what became of the message.
        match response.json::<ErrorReply>().await {
            Ok(ErrorReply { error }) if error.outcome != Some(Outcome::Unknown) => {
                Attempt::Rejected {
                    again: error.retryable,
                    why: format!("{status}: {}", error.message),
                }
            }
            Ok(ErrorReply { error }) => Attempt::Unknown(format!("{status}: {}", error.message)),
            Err(error) => Attempt::Unknown(format!("{status}: {error}")),
        }
    }
}
