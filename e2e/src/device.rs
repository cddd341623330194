use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use hubbub_client::{Client, Config, Event, JoinOptions, TokenSource, View, Wire, WireEvent};
use hubbub_protocol::{Body, ChannelId, Hello, JoinReply, Seq};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

/// What a device has been told so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Sorted, as an application shows it.
    pub view: View,
    /// Records in the order in which the client handed them on.
    pub records: Vec<(ChannelId, Seq, Body)>,
    /// When each of them came.
    pub at: Vec<Instant>,
    /// The connection's `hello`, the newest.
    pub hello: Option<Hello>,
    /// Replies to joins.
    pub joined: Vec<JoinReply>,
    /// Connections that ended.
    pub disconnected: Vec<String>,
    /// Text frames as on the wire that carry a record: (connection, channel, seq), for the
    /// assertion that no seq comes twice on one connection.
    pub wire: Vec<(u64, String)>,
}

/// A person's client, with a task that takes its events.
#[derive(Debug)]
pub struct Device {
    /// The client itself.
    pub client: Client,
    heard: Arc<Mutex<Heard>>,
    changed: watch::Receiver<u64>,
    _task: JoinSet<()>,
}

impl Device {
    /// Connects to a WebSocket URL with a token, and waits for the `hello`.
    pub async fn connect(url: &str, token: String) -> anyhow::Result<Self> {
        Self::with_config(Config::new(url, TokenSource::Fixed(token))).await
    }

    /// As [`Self::connect`], with the client's whole configuration.
    pub async fn with_config(mut config: Config) -> anyhow::Result<Self> {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let recorder = Arc::clone(&heard);
        config.recorder = Some(Arc::new(move |wire: Wire<'_>| {
            if let WireEvent::In(text) = wire.event {
                recorder
                    .lock()
                    .wire
                    .push((wire.connection, text.to_owned()));
            }
        }));
        let (client, mut events) = Client::start(config);
        let (tell, changed) = watch::channel(0);
        let mut task = JoinSet::new();
        let sink = Arc::clone(&heard);
        task.spawn(async move {
            while let Some(event) = events.recv().await {
                let mut heard = sink.lock();
                heard.view.apply(&event);
                match event {
                    Event::Record { seq, body, .. } => {
                        heard.records.push((body.channel(), seq, body));
                        heard.at.push(Instant::now());
                    }
                    Event::Connected(hello) => heard.hello = Some(hello),
                    Event::Joined(joined) => heard.joined.push(joined.reply),
                    Event::Disconnected { why, .. } => heard.disconnected.push(why.to_string()),
                    _ => {}
                }
                drop(heard);
                tell.send_modify(|count| *count += 1);
            }
        });
        let device = Self {
            client,
            heard,
            changed,
            _task: task,
        };
        device
            .wait("the hello", |heard| heard.hello.is_some())
            .await?;
        Ok(device)
    }

    /// Joins a channel live.
    pub async fn join(&self, channel: ChannelId) -> anyhow::Result<JoinReply> {
        self.join_with(channel, JoinOptions::default()).await
    }

    /// Joins a channel, at most 15 s.
    pub async fn join_with(
        &self,
        channel: ChannelId,
        options: JoinOptions,
    ) -> anyhow::Result<JoinReply> {
        let reply = timeout(Duration::from_secs(15), self.client.join(channel, options));
        Ok(reply.await.context("join in time")??)
    }

    /// Looks at what was heard.
    pub fn heard<T>(&self, f: impl FnOnce(&Heard) -> T) -> T {
        f(&self.heard.lock())
    }

    /// The pod of the newest connection.
    pub fn pod(&self) -> String {
        self.heard(|heard| {
            heard
                .hello
                .as_ref()
                .map(|h| h.pod.to_string())
                .unwrap_or_default()
        })
    }

    /// The texts of a channel in order of seq.
    pub fn texts(&self, channel: ChannelId) -> Vec<String> {
        self.heard(|heard| {
            let texts = heard
                .view
                .records(channel)
                .filter_map(|(_, body)| match body {
                    Body::Message { text, .. } => Some(text.clone()),
                    _ => None,
                });
            texts.collect()
        })
    }

    /// Waits until `done` holds, at most 30 s.
    pub async fn wait(&self, what: &str, done: impl Fn(&Heard) -> bool) -> anyhow::Result<()> {
        self.wait_for(what, Duration::from_secs(30), done).await
    }

    /// Waits until `done` holds, at most `limit`.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Heard) -> bool,
    ) -> anyhow::Result<()> {
        let mut changed = self.changed.clone();
        let arrived = async {
            loop {
                if done(&self.heard.lock()) {
                    return Ok(());
                }
                changed.changed().await.context("the client has ended")?;
            }
        };
        match timeout(limit, arrived).await {
            Ok(result) => result,
            Err(_) => {
                let heard = self.heard.lock();
                bail!(
                    "{what} did not come within {limit:?}: {} records, disconnected {:?}",
                    heard.records.len(),
                    heard.disconnected
                );
            }
        }
    }

    /// Waits until a text is in the channel's view.
    pub async fn wait_text(&self, channel: ChannelId, text: &str) -> anyhow::Result<()> {
        self.wait(text, |heard| {
            heard
                .view
                .records(channel)
                .any(|(_, body)| matches!(body, Body::Message { text: seen, .. } if seen == text))
        })
        .await
    }

    /// Contract P5 on the wire: on one connection no seq of a channel comes twice, except after
    /// a `replay` that announced it. Returns the first that did.
    pub fn doubled_on_the_wire(&self) -> Option<String> {
        use std::collections::{HashMap, HashSet};
        let mut seen: HashMap<(u64, ChannelId), HashSet<Seq>> = HashMap::new();
        self.heard(|heard| {
            heard.wire.iter().find_map(|(connection, text)| {
                match hubbub_protocol::ServerFrame::decode(text).ok()? {
                    hubbub_protocol::ServerFrame::Record { seq, body } => {
                        let fresh = seen
                            .entry((*connection, body.channel()))
                            .or_default()
                            .insert(seq);
                        (!fresh).then(|| format!("{} seq {seq} twice", body.channel()))
                    }
                    hubbub_protocol::ServerFrame::Replay { channel, since } => {
                        seen.entry((*connection, channel))
                            .or_default()
                            .retain(|s| *s <= since);
                        None
                    }
                    _ => None,
                }
            })
        })
    }
}
