//! The edge server of the seed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use hubbub_bus::{Event, Inbox, Publisher, Subscriber};
use hubbub_log::Appender;
use hubbub_protocol::{BusChannel, ChannelId, PodId, UserId};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    socket,
    wire::{Members, Said, Told, encode},
};

/// A subscription that is not confirmed by then is refused, and asked for again.
const SUBSCRIPTION: Duration = Duration::from_secs(3);
/// An answer to a health check.
const PROBE: Duration = Duration::from_secs(1);
/// When no connection can be taken.
const PAUSE: Duration = Duration::from_millis(20);

/// An edge server that does what the seed document says, and nothing else.
#[derive(Debug, Clone, clap::Parser)]
pub struct EdgeArgs {
    /// Its name among the others.
    #[arg(long)]
    pub name: String,
    /// Where clients connect.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where `/readyz` is.
    #[arg(long)]
    pub ops: SocketAddr,
    /// `redis://host:port`
    #[arg(long)]
    pub redis: String,
    /// `host:port` of Kafka.
    #[arg(long)]
    pub brokers: String,
    /// Kafka's topic.
    #[arg(long)]
    pub topic: String,
    /// Its partitions.
    #[arg(long)]
    pub partitions: u32,
    /// A JSON file that stands for the membership table.
    #[arg(long)]
    pub members: PathBuf,
}

/// The seed's local map, `userIdToSocket`: one socket a user, the newest.
#[derive(Debug, Default)]
struct Sockets {
    by_user: HashMap<UserId, (u64, mpsc::Sender<Utf8Bytes>)>,
    last: u64,
}

/// What all sockets of the process share.
#[derive(Debug)]
pub(crate) struct Edge {
    members: Members,
    sockets: Mutex<Sockets>,
    /// The channels whose subscription is confirmed.
    subscribed: watch::Sender<Vec<ChannelId>>,
    subscriber: Subscriber,
    publisher: Publisher,
    appender: Appender<()>,
}

/// Where the seed's log is.
pub(crate) fn log(brokers: &str, topic: &str, partitions: u32) -> hubbub_log::Config {
    hubbub_log::Config {
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        partitions,
        base: 0,
        client_id: "seed-edge".to_owned(),
    }
}

/// Serves until the process is killed.
///
/// # Errors
/// When a port, Kafka or the file of the members cannot be had.
pub async fn run(args: EdgeArgs) -> Result<()> {
    let members = read_members(&args.members)?;
    let pod: PodId = args.name.parse().context("the name of the edge")?;
    let bus = hubbub_bus::Config::new(&args.redis, pod);
    let metrics = hubbub_bus::Metrics::default();
    let (publisher, publishing) = Publisher::new(&bus, &metrics);
    let (subscriber, inbox, subscribing) = Subscriber::new(&bus, &metrics);
    let log = log(&args.brokers, &args.topic, args.partitions);
    // "Delegate storing new message to kafka": nobody waits for the report.
    let appender = Appender::start(&log, &hubbub_log::Metrics::default(), |(), _| {})?;
    appender.warm_up().await?;
    let edge = Arc::new(Edge {
        members,
        sockets: Mutex::default(),
        subscribed: watch::channel(Vec::new()).0,
        subscriber,
        publisher,
        appender,
    });
    let listener = TcpListener::bind(args.listen).await.context("listen")?;
    let ops = TcpListener::bind(args.ops).await.context("listen")?;
    let never = CancellationToken::new();
    // Waits for whatever fails first; none of them ends by itself.
    tokio::select! {
        done = publishing.run(never.clone()) => done.context("publish"),
        done = subscribing.run(never.clone()) => done.context("subscribe"),
        () = edge.relay(inbox) => Ok(()),
        () = accept(listener, Arc::clone(&edge)) => Ok(()),
        () = probes(ops, &edge) => Ok(()),
    }
}

impl Edge {
    /// A user's connection; returns its number and what is to be written to it.
    pub(crate) fn connect(&self, user: UserId, to: mpsc::Sender<Utf8Bytes>) -> u64 {
        let mut sockets = self.sockets.lock();
        sockets.last += 1;
        let number = sockets.last;
        sockets.by_user.insert(user, (number, to));
        number
    }

    /// It is gone; a newer one of the user stays.
    pub(crate) fn disconnect(&self, user: UserId, number: u64) {
        let mut sockets = self.sockets.lock();
        if sockets.by_user.get(&user).is_some_and(|s| s.0 == number) {
            sockets.by_user.remove(&user);
        }
    }

    /// `edge-server-1 subscribes to channel-x channel of redis`
    pub(crate) async fn join(&self, channel: ChannelId) -> bool {
        let mut subscribed = self.subscribed.subscribe();
        let there = |all: &Vec<ChannelId>| all.contains(&channel);
        if !there(&self.subscribed.borrow()) {
            self.subscriber.subscribe(BusChannel::Channel(channel));
        }
        let confirmed = timeout(SUBSCRIPTION, subscribed.wait_for(there)).await;
        matches!(confirmed, Ok(Ok(_)))
    }

    /// `edge-server-1 as a redis publisher, publishes msg over channel-x channel`, and hands it to
    /// Kafka. Returns whether Redis took it.
    pub(crate) async fn send(&self, said: &Said) -> bool {
        let payload = encode(said);
        let to = BusChannel::Channel(said.channel);
        let published = self.publisher.publish(&to, Bytes::from(payload.clone()));
        if published.await.is_err() {
            return false;
        }
        let handed = self.appender.append(said.channel, payload.into_bytes(), ());
        if let Err(((), why)) = handed {
            tracing::warn!(%why, "a message is not handed to kafka");
        }
        true
    }

    /// Hands what comes from Redis to the members that are connected here.
    async fn relay(&self, mut inbox: Inbox) {
        let mut events = Vec::new();
        loop {
            inbox.recv_all(&mut events).await;
            for event in events.drain(..) {
                match event {
                    Event::Message { channel, payload } => {
                        if let BusChannel::Channel(channel) = channel {
                            self.fan_out(channel, &payload);
                        }
                    }
                    Event::Subscribed(BusChannel::Channel(channel)) => {
                        self.subscribed.send_modify(|all| all.push(channel));
                    }
                    Event::Subscribed(_) => {}
                    // The bus subscribes again by itself; those who join meanwhile wait for it.
                    Event::Lost => self.subscribed.send_modify(Vec::clear),
                }
            }
        }
    }

    /// `it loops through all members, check if any user is connecting to it by local map`
    fn fan_out(&self, channel: ChannelId, payload: &[u8]) {
        let said = match serde_json::from_slice::<Said>(payload) {
            Ok(said) => said,
            Err(error) => return tracing::warn!(%error, "something else was published"),
        };
        let frame = Utf8Bytes::from(encode(&Told::Message(said)));
        let members = self.members.get(&channel).map_or(&[][..], Vec::as_slice);
        let sockets = self.sockets.lock();
        for member in members {
            if let Some((_, to)) = sockets.by_user.get(member)
                && to.try_send(frame.clone()).is_err()
            {
                tracing::warn!(user.id = %member, "a socket is full or gone: dropped");
            }
        }
    }
}

fn read_members(path: &Path) -> Result<Members> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}

async fn accept(listener: TcpListener, edge: Arc<Edge>) {
    let mut sockets = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        while sockets.try_join_next().is_some() {}
        sockets.spawn(socket::serve(stream, Arc::clone(&edge)));
    }
}

/// Answers the health check: ready once Redis was there. A check that followed Redis would have
/// HAProxy cut every socket whenever Redis is away for a second.
async fn probes(listener: TcpListener, edge: &Edge) {
    let mut started = false;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        started |= edge.subscriber.is_connected();
        let status = if started {
            "200 OK"
        } else {
            "503 Service Unavailable"
        };
        // Who goes away without an answer asks again.
        timeout(PROBE, answer(stream, status)).await.ok();
    }
}

async fn answer(mut stream: TcpStream, status: &str) -> std::io::Result<()> {
    let mut request = [0; 1024];
    // HAProxy's request is short, and the same for every path.
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}
