//! A running system with people in it.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hubbub_client::{Http, Page, TokenSource};
use hubbub_protocol::{
    ChannelId, MessageId, Seq, UserId,
    http::{ChannelKind, Role},
};
use hubbub_stack::{Options, Stack};
use hubbub_store::Store;
use tokio::time::{Instant, sleep};

/// The user who made the channels and is in all of them.
const KEEPER: &str = "storm-keeper";
/// Writes to the core database at once, while the people are made.
const AT_ONCE: usize = 16;
/// Tokens outlive every run.
const TOKEN_S: i64 = 6 * 3_600;
/// For what announces nothing: the consumers' positions, the API's answer after a restart.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// To bring the log into the store when nobody writes any more.
const CATCH_UP: Duration = Duration::from_secs(60);
/// Descriptors of one process beside its sockets.
const OTHER_FILES: u64 = 500;
/// What an edge asks for at its start: its `--max-connections`, and its own.
const EDGE_FILES: u64 = 10_200;
/// Entries of one page of history.
const PAGE: usize = 200;

/// What to build.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) sockets: usize,
    pub(crate) channels: usize,
    pub(crate) writers: usize,
    pub(crate) edges: usize,
    pub(crate) apis: usize,
    pub(crate) consumers: usize,
    pub(crate) haproxies: usize,
    pub(crate) env: &'a [String],
    pub(crate) bin_dir: Option<&'a Path>,
}

/// A system, its channels, and a user for every socket.
#[derive(Debug)]
pub(crate) struct Town {
    pub(crate) stack: Stack,
    pub(crate) channels: Vec<ChannelId>,
    store: Store,
    secret: Vec<u8>,
}

impl Town {
    /// Starts a system and makes its people: members straight in the core database, before
    /// any server has read it.
    pub(crate) async fn build(plan: &Plan<'_>) -> anyhow::Result<Self> {
        ensure!(plan.channels >= 2, "--channels must be 2 or more");
        check_files(plan.sockets)?;
        let stack = Stack::start(options(plan)?).await?;
        let at = stack.endpoints();
        let store = Store::open(
            &hubbub_store::Config {
                core_url: at.core_url.clone(),
                shard_urls: at.shard_urls.clone(),
                core_connections: AT_ONCE as u32,
                shard_connections: 2,
            },
            &hubbub_store::Metrics::default(),
        )
        .await?;
        let secret = std::fs::read(stack.token_secret_path())?;
        let channels = people(&store, plan).await?;
        Ok(Self {
            stack,
            channels,
            store,
            secret,
        })
    }

    /// The subject of socket `n`'s user.
    pub(crate) fn listener(n: usize) -> String {
        format!("storm-{n}")
    }

    /// The subject of writer `n`.
    pub(crate) fn writer(n: usize) -> String {
        format!("storm-writer-{n}")
    }

    /// A token for hours.
    pub(crate) fn bearer(&self, subject: &str) -> anyhow::Result<String> {
        let now_s = hubbub_service::wall_clock_ms() / 1_000;
        let (issuer, audience) = ("hubbub", "hubbub");
        hubbub_service::token::mint(
            &self.secret,
            issuer,
            audience,
            subject,
            None,
            now_s,
            TOKEN_S,
        )
    }

    /// The same as clients take it.
    pub(crate) fn token(&self, subject: &str) -> anyhow::Result<TokenSource> {
        Ok(TokenSource::Fixed(self.bearer(subject)?))
    }

    /// The HAProxies' front ports.
    pub(crate) fn fronts(&self) -> Vec<SocketAddr> {
        let haproxies = self.stack.haproxies().iter();
        haproxies.map(|haproxy| haproxy.front()).collect()
    }

    /// The WebSocket URL of client `n`: every HAProxy has its share.
    pub(crate) fn ws_url(&self, n: usize) -> String {
        let fronts = self.fronts();
        format!("ws://{}/ws", fronts[n % fronts.len()])
    }

    /// The HTTP API as somebody who is in every channel.
    pub(crate) fn http(&self) -> anyhow::Result<Http> {
        Ok(Http::new(&self.http_base(), self.token(KEEPER)?)?)
    }

    /// `http://` and the first HAProxy.
    pub(crate) fn http_base(&self) -> String {
        format!("http://{}", self.fronts()[0])
    }

    /// The two channels of socket `n`: all pairs of channels occur.
    pub(crate) fn channels_of(&self, n: usize) -> [ChannelId; 2] {
        let count = self.channels.len();
        let first = n % count;
        let second = (first + 1 + (n / count) % (count - 1)) % count;
        [self.channels[first], self.channels[second]]
    }

    /// Waits until everything that is in the log is in the store, to the unit (contract P12).
    pub(crate) async fn wait_stored(&self) -> anyhow::Result<()> {
        let identity = self.store.log_identity();
        let log = hubbub_log::Config {
            brokers: self.stack.endpoints().kafka_brokers.clone(),
            topic: identity.topic.clone(),
            partitions: identity.partitions,
            base: identity.base,
            client_id: "hubbub-storm".to_owned(),
        };
        let marks = hubbub_log::watermarks(&log).await?;
        let begun = Instant::now();
        loop {
            let status = self.store.admin_status().await?;
            let behind = marks.iter().enumerate().find(|(number, mark)| {
                let mut all = status.partitions.iter();
                let found = all.find(|p| p.partition as usize == *number);
                let counted = found.map_or(0, |p| p.rows + p.duplicates + p.dead);
                counted != mark.high - mark.low
            });
            let Some((number, mark)) = behind else {
                return Ok(());
            };
            ensure!(
                begun.elapsed() < CATCH_UP,
                "partition {number} has {} records in the log, which are not in the store after \
                 {CATCH_UP:?}",
                mark.high - mark.low
            );
            sleep(LOOK_AGAIN).await;
        }
    }

    /// All of a channel's history, ascending.
    pub(crate) async fn history(
        &self,
        http: &Http,
        channel: ChannelId,
    ) -> anyhow::Result<Vec<(u64, MessageId)>> {
        let mut all: Vec<(u64, MessageId)> = Vec::new();
        let begun = Instant::now();
        loop {
            let page = Page {
                after: Some(Seq(all.last().map_or(0, |(seq, _)| *seq))),
                limit: Some(PAGE),
                ..Page::default()
            };
            let page = match http.messages(channel, page).await {
                Ok(page) => page,
                Err(error) if error.retryable() && begun.elapsed() < CATCH_UP => {
                    sleep(LOOK_AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error).context("read history"),
            };
            let entries = page.messages.iter();
            all.extend(entries.map(|entry| (entry.seq.0, entry.body.key().message_id)));
            if !page.has_more {
                return Ok(all);
            }
        }
    }

    /// Copies the servers' logs to `to`, where they outlive the stack.
    pub(crate) fn keep_logs(&self, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
        for server in self.stack.servers() {
            let log = server.log_path();
            if log.exists() {
                let name = to.join(format!("{}.log", server.name()));
                std::fs::copy(&log, &name).with_context(|| format!("copy {}", log.display()))?;
            }
        }
        Ok(())
    }

    /// Lines of our servers' logs that tell of a panic.
    pub(crate) fn panics(&self) -> Vec<String> {
        let stack = &self.stack;
        let ours = stack.edges().iter().chain(stack.apis());
        let mut found = Vec::new();
        for service in ours.chain(stack.consumers()) {
            let log = std::fs::read_to_string(service.log_path()).unwrap_or_default();
            let lines = log.lines().filter(|line| line.contains("panicked"));
            found.extend(lines.map(|line| format!("{}: {line}", service.name())));
        }
        found
    }
}

/// This process has a descriptor for each socket, a HAProxy two, an edge asks for its own bound.
/// Children inherit the limit that is raised here.
fn check_files(sockets: usize) -> anyhow::Result<()> {
    let sockets = sockets as u64;
    let needed = (2 * sockets + OTHER_FILES).max(EDGE_FILES);
    hubbub_service::config::check_nofile(needed).with_context(|| {
        format!("{sockets} sockets through a HAProxy and {EDGE_FILES} per edge")
    })?;
    Ok(())
}

fn options(plan: &Plan<'_>) -> anyhow::Result<Options> {
    let mut options = Options::for_test()?;
    if let Some(bin_dir) = plan.bin_dir {
        options.bin_dir = bin_dir.to_owned();
    } else if options.bin_dir.ends_with("examples") {
        options.bin_dir.pop();
    }
    options.edges = plan.edges;
    options.apis = plan.apis;
    options.consumers = plan.consumers;
    options.haproxies = plan.haproxies;
    // Rates per user have tests of their own: a few writers stand for many people here.
    for (key, value) in [
        ("HUBBUB_SEND_RATE", "100000"),
        ("HUBBUB_SEND_BURST", "100000"),
        ("HUBBUB_HISTORY_RATE", "100000"),
        ("HUBBUB_HISTORY_BURST", "100000"),
        ("HUBBUB_REQUEST_RATE", "100000"),
        ("HUBBUB_REQUEST_BURST", "100000"),
    ] {
        options.env.push((key.to_owned(), value.to_owned()));
    }
    for pair in plan.env {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("--env {pair}: not NAME=value"))?;
        options.env.push((key.to_owned(), value.to_owned()));
    }
    Ok(options)
}

async fn people(store: &Store, plan: &Plan<'_>) -> anyhow::Result<Vec<ChannelId>> {
    let user = async |subject: String| -> anyhow::Result<UserId> {
        Ok(store.provision_user(&subject, &subject).await?.id)
    };
    let keeper = user(KEEPER.to_owned()).await?;
    let mut channels = Vec::with_capacity(plan.channels);
    for n in 0..plan.channels {
        let name = format!("storm-{n}");
        let made = store.create_channel(&name, ChannelKind::Public, keeper);
        channels.push(made.await?.id);
    }
    for n in 0..plan.writers {
        let writer = user(Town::writer(n)).await?;
        for channel in &channels {
            store.add_member(*channel, writer, Role::Member).await?;
        }
    }
    let count = channels.len();
    stream::iter(0..plan.sockets)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, async |n| {
            let listener = user(Town::listener(n)).await?;
            let first = n % count;
            let second = (first + 1 + (n / count) % (count - 1)) % count;
            for channel in [channels[first], channels[second]] {
                store.add_member(channel, listener, Role::Member).await?;
            }
            anyhow::Ok(())
        })
        .await?;
    Ok(channels)
}
