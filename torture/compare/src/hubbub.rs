//! Hubbub as its users have it: HAProxy, three edges, the client crate.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hubbub_checker::{
    Event,
    history::{self, Paging},
};
use hubbub_client::{
    Client, Config, Events, Http, JoinOptions, Limits, Page, SendError, TokenSource, Who,
};
use hubbub_protocol::{
    Body, ChannelId, Outcome, Seq, UserId,
    http::{ChannelKind, NewChannel},
};
use hubbub_stack::{Options, Proxy, Server, Stack};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    faults::Ground,
    plan::{CHANNELS, LISTENERS, Plan, SERVERS, WRITERS},
    recorder::{Recorder, said},
    settings,
};

/// Calls of the API at the same time, while everything is made.
const AT_ONCE: usize = 8;
const JOIN: Duration = Duration::from_secs(15);
const VALID_S: i64 = 3_600;
const PAGE: usize = 200;

/// The system and its clients, connected and joined.
#[derive(Debug)]
pub(crate) struct Hubbub {
    writers: Vec<(Client, UserId)>,
    listeners: Vec<Client>,
    /// They take the clients' events.
    tasks: JoinSet<()>,
    channels: Vec<ChannelId>,
    admin: Http,
    recorder: Recorder,
    links: Vec<(String, Proxy)>,
    _writers_links: Vec<Proxy>,
    stack: Stack,
}

impl Hubbub {
    /// Starts the system, makes users and channels, and connects everybody.
    pub(crate) async fn start(
        bin_dir: &std::path::Path,
        plan: &Plan,
        recorder: &Recorder,
    ) -> Result<Self> {
        let stack = Stack::start(options(bin_dir)).await?;
        let secret = hubbub_service::token::read_secret(stack.token_secret_path())
            .context("read the token secret")?;
        let token = |user: &str| {
            let now_s = hubbub_service::wall_clock_ms() / 1_000;
            hubbub_service::token::mint(&secret, "hubbub", "hubbub", user, None, now_s, VALID_S)
        };
        let http = |user: &str| -> Result<Http> {
            let token = TokenSource::Fixed(token(user)?);
            Ok(Http::new(&stack.front_url(), token)?)
        };
        let admin = http("admin")?;
        admin.me().await.context("make the admin")?;
        let mut channels = Vec::new();
        for n in 0..CHANNELS {
            let name = format!("compare-{n}");
            let kind = Some(ChannelKind::Public);
            channels.push(admin.create_channel(&NewChannel { name, kind }).await?.id);
        }
        let names = (0..WRITERS).map(Plan::writer);
        let names: Vec<String> = names.chain((0..LISTENERS).map(Plan::listener)).collect();
        let (http, all) = (&http, &channels);
        let everybody = names.iter().map(|name| async move {
            let http = http(name)?;
            let me = http.me().await;
            let me = me.with_context(|| format!("make {name}"))?.id;
            for channel in all {
                http.add_member(*channel, Who::Me).await?;
            }
            anyhow::Ok((name.clone(), me))
        });
        let everybody = stream::iter(everybody).buffered(AT_ONCE);
        let everybody: Vec<(String, UserId)> = everybody.try_collect().await?;

        let mut tasks = JoinSet::new();
        let mut connect = |name: &str, user: UserId| -> Result<(Client, Proxy)> {
            let link = stack.client_link().context("start a client's link")?;
            let url = format!("ws://{}/ws", link.addr());
            let mut config = Config::new(url, TokenSource::Fixed(token(name)?));
            config.limits = limits();
            let (client, events) = Client::start(config);
            tasks.spawn(watch(events, name.to_owned(), user, recorder.clone()));
            Ok((client, link))
        };
        let (mut writers, mut writers_links) = (Vec::new(), Vec::new());
        let (mut listeners, mut links) = (Vec::new(), Vec::new());
        for (n, (name, user)) in everybody.iter().enumerate() {
            let (client, link) = connect(name, *user)?;
            if n < WRITERS {
                writers.push((client, *user));
                writers_links.push(link);
            } else {
                listeners.push(client);
                links.push((name.clone(), link));
            }
        }
        for (n, client) in listeners.iter().enumerate() {
            let options = JoinOptions {
                since: None,
                ordered: is_ordered(&Plan::listener(n)),
            };
            for channel in plan.listeners[n] {
                let join = timeout(JOIN, client.join(channels[channel], options));
                join.await.context("join in time")??;
            }
        }
        Ok(Self {
            writers,
            listeners,
            tasks,
            channels,
            admin,
            recorder: recorder.clone(),
            links,
            _writers_links: writers_links,
            stack,
        })
    }

    /// What faults are made on.
    pub(crate) fn ground(&self) -> Ground<'_> {
        let servers = self.stack.edges().iter();
        Ground {
            servers: servers.map(|edge| -> &Server { edge }).collect(),
            redis: self.stack.redis(),
            redis_addr: self.stack.redis().addr(),
            subscriptions: "pubsub",
            links: &self.links,
        }
    }

    /// Has everybody say what they have to say, and waits for the answers.
    pub(crate) async fn play(&self, plan: &Plan, begun: Instant) -> Result<()> {
        let mut answers = JoinSet::new();
        for (op, saying) in (1..).zip(&plan.sayings) {
            sleep_until(begun + Duration::from_millis(saying.at_ms)).await;
            let (client, user) = &self.writers[saying.writer];
            let channel = self.channels[saying.channel];
            let record = said(channel, None, *user, saying.id, &saying.text);
            let recorder = self.recorder.clone();
            recorder.record(Event::Invoke {
                op,
                record,
                answers: None,
                retry: false,
            });
            let sent = client.send_as(channel, &*saying.text, saying.id, false);
            let sent = sent.context("hand a message to the client")?;
            answers.spawn(async move {
                let answer = timeout(settings::LAST_ANSWER, sent.wait()).await;
                recorder.record(answered(op, answer.ok()));
            });
        }
        while let Some(done) = answers.join_next().await {
            done.context("wait for an answer")?;
        }
        Ok(())
    }

    /// Reads history: what is there to be read by everybody, for ever.
    pub(crate) async fn read_history(&self) -> Result<()> {
        for channel in &self.channels {
            let mut entries = Vec::new();
            loop {
                let page = Page {
                    after: Some(entries.last().map_or(Seq::ZERO, |(seq, _)| *seq)),
                    limit: Some(PAGE),
                    ..Page::default()
                };
                let page = self.admin.messages(*channel, page).await?;
                let read = page.messages.iter().filter_map(|entry| match &entry.body {
                    Body::Message { .. } => Some((entry.seq, entry.body.key().message_id)),
                    _ => None,
                });
                entries.extend(read);
                if !page.has_more {
                    break;
                }
            }
            self.recorder.record(Event::Page {
                server: "api-1".to_owned(),
                channel: *channel,
                paging: Paging::Forward,
                limit: u32::try_from(PAGE).unwrap_or(u32::MAX),
                every: false,
                entries,
            });
        }
        Ok(())
    }

    /// Ends the clients, then the system.
    pub(crate) async fn close(mut self) {
        for client in &self.listeners {
            client.close().await;
        }
        for (client, _) in &self.writers {
            client.close().await;
        }
        while self.tasks.join_next().await.is_some() {}
        self.stack.stop().await;
    }
}

/// Every other listener asks for strict order.
pub(crate) fn is_ordered(device: &str) -> bool {
    let number = device
        .strip_prefix("listener-")
        .and_then(|n| n.parse().ok());
    number.is_some_and(|n: usize| n % 2 == 1)
}

fn options(bin_dir: &std::path::Path) -> Options {
    let mut options = Options::standard(std::path::Path::new(""), bin_dir);
    options.dir = None;
    options.durability = hubbub_stack::Durability::ThrowAway;
    options.ports = hubbub_stack::Ports::Free;
    options.edges = SERVERS;
    options.apis = 1;
    options.seed = false;
    let heartbeat_ms = settings::HEARTBEAT.as_millis().to_string();
    // The limits of one person would be met by who says what ten say.
    let lifted = [
        "HUBBUB_SEND_RATE",
        "HUBBUB_SEND_BURST",
        "HUBBUB_HISTORY_RATE",
        "HUBBUB_HISTORY_BURST",
        "HUBBUB_REQUEST_RATE",
        "HUBBUB_REQUEST_BURST",
    ];
    let lifted = lifted.map(|key| (key.to_owned(), "100000".to_owned()));
    options.env.extend(lifted);
    options.env.extend([
        ("HUBBUB_PROVISION_USERS".to_owned(), "true".to_owned()),
        ("HUBBUB_SOCKET_HEARTBEAT_MS".to_owned(), heartbeat_ms),
        ("HUBBUB_SESSION_TIMEOUT_MS".to_owned(), "3000".to_owned()),
        ("HUBBUB_HEARTBEAT_MS".to_owned(), "1000".to_owned()),
    ]);
    options
}

fn limits() -> Limits {
    Limits {
        connect: settings::CONNECT,
        silence: settings::SILENCE,
        backoff_first: settings::BACKOFF_FIRST,
        backoff_cap: settings::BACKOFF_CAP,
        ..Limits::default()
    }
}

fn answered(op: u64, answer: Option<Result<hubbub_client::Sent, SendError>>) -> Event {
    match answer {
        Some(Ok(sent)) => Event::Ok { op, seq: sent.seq },
        Some(Err(SendError::Refused(error))) if error.outcome == Some(Outcome::Rejected) => {
            let code = error.code.as_str().to_owned();
            Event::Rejected { op, code }
        }
        Some(Err(error)) => {
            let code = error.to_string();
            Event::Unknown { op, code }
        }
        None => {
            let code = "no_answer".to_owned();
            Event::Unknown { op, code }
        }
    }
}

async fn watch(mut events: Events, device: String, user: UserId, recorder: Recorder) {
    let name = || device.clone();
    let (mut connection, mut open) = (0, false);
    while let Some(event) = events.recv().await {
        match event {
            hubbub_client::Event::Connected(hello) => {
                connection += 1;
                open = true;
                recorder.record(Event::Opened {
                    device: name(),
                    user,
                    connection,
                    pod: hello.pod.to_string(),
                });
            }
            hubbub_client::Event::Disconnected { .. } if open => {
                open = false;
                recorder.record(Event::Closed {
                    device: name(),
                    connection,
                    code: None,
                });
            }
            hubbub_client::Event::Joined(joined) => recorder.record(Event::Joined {
                device: name(),
                connection,
                channel: joined.reply.channel,
                since: joined.since,
                head: joined.reply.head,
                recovered: joined.reply.recovered,
                ordered: is_ordered(&device),
            }),
            hubbub_client::Event::Record { seq, body, via } => {
                if let Body::Message { text, .. } = &body {
                    let key = body.key();
                    let record = said(body.channel(), Some(seq), key.user, key.message_id, text);
                    recorder.record(Event::Given {
                        device: name(),
                        record,
                        via: match via {
                            hubbub_client::Via::Live => history::Via::Live,
                            hubbub_client::Via::CatchUp => history::Via::CatchUp,
                        },
                    });
                }
            }
            _ => {}
        }
    }
}
