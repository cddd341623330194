//! socket.io with one of its two Redis adapters: its own servers and clients, in Node.js.

mod install;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hubbub_checker::Entry;
use hubbub_protocol::{ChannelId, MessageId, UserId};
use hubbub_stack::{Port, Ready, Server, Spec};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    bus::Bus,
    faults::Ground,
    plan::{LISTENERS, Plan, SERVERS, WRITERS},
    recorder::Recorder,
    settings,
    site::{self, Program, Site},
};

pub(crate) use install::{Installed, install, versions};

const JOINED: Duration = Duration::from_secs(20);
const CLOSED: Duration = Duration::from_secs(10);
/// Between two questions to the clients' process.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Which adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adapter {
    /// Redis pub/sub.
    PubSub,
    /// A Redis stream, and connection state recovery.
    Streams,
}

/// The servers, and one process with all clients.
#[derive(Debug)]
pub(crate) struct Socketio {
    clients: Server,
    control: Port,
    history: PathBuf,
    site: Site,
}

/// What the clients' process is told.
#[derive(Debug, Serialize)]
struct Script<'a> {
    began_unix_ms: i64,
    history: &'a Path,
    control_port: u16,
    backoff_first_ms: u128,
    backoff_cap_ms: u128,
    connect_ms: u128,
    ack_timeout_ms: u128,
    retries: u32,
    listeners: Vec<Person>,
    writers: Vec<Person>,
    messages: Vec<Line<'a>>,
}

#[derive(Debug, Serialize)]
struct Person {
    name: String,
    user: UserId,
    channels: Vec<ChannelId>,
    port: u16,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    at_ms: u64,
    writer: usize,
    channel: ChannelId,
    id: MessageId,
    text: &'a str,
}

impl Socketio {
    /// Starts the servers and the clients, and waits until everybody has joined.
    pub(crate) async fn start(
        installed: &Installed,
        adapter: Adapter,
        dir: &Path,
        plan: &Plan,
        recorder: &Recorder,
    ) -> Result<Self> {
        let (bus, word, subscriptions) = match adapter {
            Adapter::PubSub => (
                Bus::forgetting(&dir.join("redis")).await?,
                "redis",
                "pubsub",
            ),
            // It reads its stream over an ordinary connection, so those are the ones to kill.
            Adapter::Streams => (Bus::keeping(&dir.join("redis")).await?, "streams", "normal"),
        };
        let mut programs = Vec::new();
        for _ in 0..SERVERS {
            let listen = Port::free()?;
            let env = [
                ("PORT", listen.number().to_string()),
                ("REDIS_PORT", bus.addr().port().to_string()),
                ("ADAPTER", word.to_owned()),
                (
                    "PING_INTERVAL_MS",
                    settings::HEARTBEAT.as_millis().to_string(),
                ),
                ("PING_TIMEOUT_MS", settings::SILENCE.as_millis().to_string()),
            ];
            programs.push(Program {
                argv: installed.command("server.js"),
                env: env.map(|(key, value)| (key.to_owned(), value)).to_vec(),
                listen,
                ops: None,
            });
        }
        let site = Site::start(dir, bus, subscriptions, programs).await?;
        let (control, history) = (Port::free()?, dir.join("clients.jsonl"));
        let script = script(plan, recorder, &site, &control, &history);
        let path = dir.join("script.json");
        let text = serde_json::to_vec(&script).context("encode the script")?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mut argv = installed.command("load.js");
        argv.push(path.display().to_string());
        let spec = Spec {
            name: "clients".to_owned(),
            argv,
            env: Vec::new(),
            log: dir.join("clients.log"),
            run_as: None,
            stop_signal: Signal::SIGTERM,
            stop_grace: Duration::from_secs(2),
        };
        let ready = Ready::Http(control.addr(), "/ready".to_owned());
        let clients = Server::new(spec, ready, JOINED);
        clients.start().await.context("connect the clients")?;
        Ok(Self {
            clients,
            control,
            history,
            site,
        })
    }

    /// What faults are made on.
    pub(crate) fn ground(&self) -> Ground<'_> {
        self.site.ground()
    }

    /// Has everybody say what they have to say, and waits for the answers.
    pub(crate) async fn play(&self, plan: &Plan, begun: Instant) -> Result<()> {
        ensure!(self.ask("/play").await, "the clients do not begin");
        let end = begun + Duration::from_millis(plan.length_ms);
        sleep_until(end).await;
        while Instant::now() < end + settings::LAST_ANSWER && !self.ask("/played").await {
            ensure!(self.clients.is_running(), "the clients have ended");
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// Ends clients and servers, and reads what the clients have written.
    pub(crate) async fn close(self) -> Result<Vec<Entry>> {
        ensure!(self.ask("/close").await, "the clients do not close");
        let ended = timeout(CLOSED, self.clients.exited()).await;
        ended.context("the clients do not end")?;
        self.site.stop().await;
        let text = std::fs::read_to_string(&self.history);
        let text = text.with_context(|| format!("read {}", self.history.display()))?;
        let lines = (1..).zip(text.lines());
        let entries = lines.map(|(n, line)| Ok(Entry::parse(n, line)?));
        entries.collect()
    }

    async fn ask(&self, path: &str) -> bool {
        Ready::Http(self.control.addr(), path.to_owned())
            .answers()
            .await
    }
}

fn script<'a>(
    plan: &'a Plan,
    recorder: &Recorder,
    site: &Site,
    control: &Port,
    history: &'a Path,
) -> Script<'a> {
    let listeners = (0..LISTENERS).map(|n| Person {
        name: Plan::listener(n),
        user: site::listener_user(n),
        channels: plan.listeners[n].map(site::channel).to_vec(),
        port: site.listener(n).port(),
    });
    let writers = (0..WRITERS).map(|n| Person {
        name: Plan::writer(n),
        user: site::writer_user(n),
        channels: Vec::new(),
        port: site.writer(n).port(),
    });
    let messages = plan.sayings.iter().map(|saying| Line {
        at_ms: saying.at_ms,
        writer: saying.writer,
        channel: site::channel(saying.channel),
        id: saying.id,
        text: &saying.text,
    });
    Script {
        began_unix_ms: recorder.began_unix_ms(),
        history,
        control_port: control.number(),
        backoff_first_ms: settings::BACKOFF_FIRST.as_millis(),
        backoff_cap_ms: settings::BACKOFF_CAP.as_millis(),
        connect_ms: settings::CONNECT.as_millis(),
        ack_timeout_ms: settings::ACK_TIMEOUT.as_millis(),
        retries: settings::RETRIES,
        listeners: listeners.collect(),
        writers: writers.collect(),
        messages: messages.collect(),
    }
}
