//! The live dashboard on real servers: nothing while nobody looks, everything while somebody does.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use hubbub_client::{Board, Config, Dashboard, JoinOptions, Look, Seen, TokenSource};
use hubbub_e2e::{Device, MARGIN, World, eventually};
use hubbub_protocol::{
    ChannelId,
    events::{DashboardSnapshot, PodStanding, RowId},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

/// Every command that Redis is given, from now on.
struct Monitor {
    lines: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Monitor {
    /// Begins once nobody hears the dashboard: who looks no more says so to the pods on one
    /// connection, and ends its subscription on another.
    async fn start(world: &World) -> anyhow::Result<Self> {
        eventually("nobody hears the dashboard", || async {
            Ok(world.numsub("dashboard").await? == 0)
        })
        .await?;
        let url = world.stack.endpoints().redis_url.clone();
        let addr: SocketAddr = url.trim_start_matches("redis://").parse()?;
        let (read, mut write) = TcpStream::connect(addr).await?.into_split();
        write.write_all(b"MONITOR\r\n").await?;
        let mut read = BufReader::new(read).lines();
        read.next_line().await?.context("no answer to MONITOR")?;
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (sink, mut task) = (lines.clone(), JoinSet::new());
        task.spawn(async move {
            let _write = write;
            while let Ok(Some(line)) = read.next_line().await {
                sink.lock().push(line);
            }
        });
        Ok(Self { lines, _task: task })
    }

    /// What was said for the dashboard: anything on `dashboard`, on `pods`, and every listing. A pod
    /// whose connection is mended listens to `pods` anew, and that is for everything.
    fn of_dashboard(&self) -> Vec<String> {
        let lines = self.lines.lock();
        let about = |line: &&String| {
            let words = ["dashboard", "\"pods\"", "\"SCAN\"", "watch", "snapshot"];
            let words = match line.contains("SUBSCRIBE\" ") {
                true => &words[..1],
                false => &words[..],
            };
            words.iter().any(|word| line.contains(word))
        };
        lines.iter().filter(about).cloned().collect()
    }

    fn count(&self) -> usize {
        self.lines.lock().len()
    }
}

/// Somebody who looks at one API server.
struct Looker {
    board: Arc<Mutex<Board>>,
    /// When the first complete picture was there.
    complete: Arc<Mutex<Option<Duration>>>,
    _task: JoinSet<()>,
}

impl Looker {
    async fn open(world: &World, user: &str, api: usize) -> anyhow::Result<Self> {
        let base = format!("http://{}", world.stack.api(api).addr());
        let look = Look {
            top: Some(200),
            ..Look::default()
        };
        let begun = Instant::now();
        let mut stream = Dashboard::open(&base, &world.token(user)?, &look).await?;
        let board: Arc<Mutex<Board>> = Arc::default();
        let complete: Arc<Mutex<Option<Duration>>> = Arc::default();
        let (sink, at, mut task) = (board.clone(), complete.clone(), JoinSet::new());
        task.spawn(async move {
            while let Ok(Some(seen)) = stream.next().await {
                let mut board = sink.lock();
                board.apply(&seen);
                if board.now.as_ref().is_some_and(|now| now.complete) {
                    at.lock().get_or_insert(begun.elapsed());
                }
            }
        });
        Ok(Self {
            board,
            complete,
            _task: task,
        })
    }

    fn now(&self) -> Option<DashboardSnapshot> {
        self.board.lock().now.clone()
    }

    async fn until(
        &self,
        what: &str,
        holds: impl Fn(&DashboardSnapshot) -> bool,
    ) -> anyhow::Result<()> {
        let shown = || self.now().is_some_and(|now| holds(&now));
        let waited = eventually(what, || async { Ok(shown()) }).await;
        waited.with_context(|| format!("{:?}", self.now()))
    }

    async fn until_complete(&self) -> anyhow::Result<Duration> {
        self.until("complete", |now| now.complete).await?;
        Ok(self.complete.lock().expect("it was complete"))
    }
}

fn connections(now: &DashboardSnapshot, channel: ChannelId) -> u64 {
    let found = now.channels.iter();
    let mut found = found.filter(|row| row.channel == RowId::Channel(channel));
    found.next().map_or(0, |row| row.connections)
}

fn is_reporting(now: &DashboardSnapshot, pod: &str) -> bool {
    let mut pods = now.pods.iter();
    pods.any(|row| row.pod.as_str() == pod && row.state == PodStanding::Reporting)
}

async fn until_watchers(world: &World, pods: &[&str], count: f64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    eventually(&format!("{count} watchers"), || async move {
        for pod in pods {
            if world.metric(pod, "hubbub_edge_dashboard_watchers").await? != count {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(begun.elapsed())
}

#[tokio::test]
async fn nothing_is_said_while_nobody_looks() -> anyhow::Result<()> {
    let world = World::start("dashboard-quiet", 3, 1).await?;
    let maths = world.channel("Maths").await?;
    let pods = ["edge-1", "edge-2"];
    world.stack.edge(2).kill().await;
    let mary = world.device_on("Mary", 0).await?;
    let john = world.device_on("John", 1).await?;
    for device in [&mary, &john] {
        device.join(maths).await?;
    }
    // Its lease is gone before anybody looks.
    eventually("two leases", || async {
        let leases = world.redis_command(&["KEYS", "pod:*"]).await?;
        Ok(leases.matches("edge-").count() == 2)
    })
    .await?;
    let monitor = Monitor::start(&world).await?;
    mary.client.send(maths, "hello")?.wait().await?;
    sleep(Duration::from_secs(4)).await;
    assert!(monitor.count() > 10, "the servers live");
    assert_eq!(monitor.of_dashboard(), Vec::<String>::new());

    // From nobody to one, on each API server: all pods tell.
    let first = Looker::open(&world, "Frank", 0).await?;
    let took = first.until_complete().await?;
    assert!(took < Duration::from_millis(500) + MARGIN, "{took:?}");
    let now = first.now().expect("a snapshot");
    assert_eq!((now.totals.pods, now.totals.sockets), (2, 2));
    assert_eq!(connections(&now, maths), 2);
    let second = Looker::open(&world, "Sonia", 1).await?;
    second.until_complete().await?;
    until_watchers(&world, &pods, 2.0).await?;

    // A message counts once, on the pod that accepted it.
    for n in 0..20 {
        mary.client.send(maths, format!("m{n}"))?.wait().await?;
    }
    for looker in [&first, &second] {
        looker
            .until("messages", |now| now.totals.messages_per_s >= 2.0)
            .await?;
        let now = looker.now().expect("a snapshot");
        let rate = |pod: &str| {
            let row = now.pods.iter().find(|row| row.pod.as_str() == pod);
            row.map(|row| row.messages_per_s)
        };
        assert_eq!(rate("edge-2"), Some(0.0), "{now:?}");
    }

    // A pod that is started while somebody looks reports by itself.
    let spawned = Instant::now();
    world.stack.edge(2).start().await?;
    let ready = spawned.elapsed();
    first
        .until("the third pod", |now| is_reporting(now, "edge-3"))
        .await?;
    let reported = spawned.elapsed() - ready;
    assert!(reported < Duration::from_secs(1) + MARGIN, "{reported:?}");
    let frank = world.device_on("Frank", 2).await?;
    frank.join(maths).await?;
    for looker in [&first, &second] {
        looker
            .until("three listen", |now| connections(now, maths) == 3)
            .await?;
    }

    // One of two goes: the other is served on. Then the last one goes.
    let pods = ["edge-1", "edge-2", "edge-3"];
    drop(first);
    until_watchers(&world, &pods, 1.0).await?;
    john.client.leave(maths).await?;
    second
        .until("two listen", |now| connections(now, maths) == 2)
        .await?;
    drop(second);
    let took = until_watchers(&world, &pods, 0.0).await?;
    assert!(took < Duration::from_millis(500) + MARGIN, "{took:?}");
    let monitor = Monitor::start(&world).await?;
    john.join(maths).await?;
    mary.client.send(maths, "quiet")?.wait().await?;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(monitor.of_dashboard(), Vec::<String>::new());

    // An API server that is killed looks no more within its lease.
    let third = Looker::open(&world, "Frank", 0).await?;
    third.until_complete().await?;
    until_watchers(&world, &pods, 1.0).await?;
    world.stack.api(0).kill().await;
    let took = until_watchers(&world, &pods, 0.0).await?;
    assert!(took < Duration::from_secs(10) + MARGIN, "{took:?}");
    assert!(took > Duration::from_secs(5), "not by its lease: {took:?}");
    let monitor = Monitor::start(&world).await?;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(monitor.of_dashboard(), Vec::<String>::new());
    world.stack.api(0).start().await?;
    world.finish().await
}

/// A small generator, so that a schedule is the same at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A device on one edge that is soon there again when the edge is, however long that takes.
async fn eager(world: &World, user: &str, edge: usize) -> anyhow::Result<Device> {
    let url = format!("ws://{}/ws", world.stack.edge(edge).addr());
    let mut config = Config::new(url, TokenSource::Fixed(world.token(user)?));
    config.limits.backoff_cap = Duration::from_millis(500);
    Device::with_config(config).await
}

/// The same on the state machines alone runs through thousands of schedules (`hubbub-dashboard`).
#[tokio::test]
async fn five_hundred_random_steps_end_in_the_truth_at_every_quiet_point() -> anyhow::Result<()> {
    const EDGES: usize = 3;
    let world = World::start("dashboard-random", EDGES, 1).await?;
    let mut channels = vec![
        world.channel("Maths").await?,
        world.channel("general").await?,
    ];
    for n in 0..4 {
        channels.push(world.open_channel(&format!("random-{n}")).await?);
    }
    let lookers = [
        Looker::open(&world, "Frank", 0).await?,
        Looker::open(&world, "Sonia", 1).await?,
    ];
    let mut dice = Dice(7);
    // Each with its edge, and the channels that it listens to.
    let mut devices: Vec<(usize, Device, Vec<ChannelId>)> = Vec::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for step in 1..=500 {
        let kind = match dice.roll(100) {
            0..35 if devices.len() < 24 => {
                let (edge, user) = (dice.roll(EDGES), World::USERS[dice.roll(10)]);
                let device = eager(&world, user, edge).await?;
                devices.push((edge, device, Vec::new()));
                "open"
            }
            35..75 if !devices.is_empty() => {
                let at = dice.roll(devices.len());
                let channel = channels[dice.roll(channels.len())];
                let (_, device, joined) = &mut devices[at];
                if let Some(at) = joined.iter().position(|one| *one == channel) {
                    joined.remove(at);
                    device.client.leave(channel).await?;
                    "leave"
                } else {
                    let options = JoinOptions::default();
                    device.join_with(channel, options).await?;
                    joined.push(channel);
                    "join"
                }
            }
            75..95 if !devices.is_empty() => {
                let (_, device, _) = devices.swap_remove(dice.roll(devices.len()));
                device.client.close().await;
                "close"
            }
            95..97 => {
                let kill = ["CLIENT", "KILL", "TYPE", "pubsub"];
                world.redis_command(&kill).await?;
                "lost broadcasts"
            }
            97 => {
                // Those who were there come back when it is there again.
                let edge = world.stack.edge(dice.roll(EDGES));
                edge.kill().await;
                edge.start().await?;
                "pod start"
            }
            _ => continue,
        };
        *kinds.entry(kind).or_default() += 1;
        if step % 50 == 0 {
            for looker in &lookers {
                looker
                    .until(&format!("the truth after {step} steps"), |now| {
                        let real = |channel: ChannelId| {
                            let joined = devices.iter().flat_map(|(_, _, joined)| joined);
                            joined.filter(|one| **one == channel).count() as u64
                        };
                        let sockets = |edge: usize| {
                            let here = devices.iter().filter(|(at, _, _)| *at == edge);
                            here.count() as u64
                        };
                        let by_pod = (0..EDGES).all(|edge| {
                            let name = world.stack.edge(edge).name();
                            let mut rows = now.pods.iter();
                            rows.any(|row| row.pod.as_str() == name && row.sockets == sockets(edge))
                        });
                        let by_channel = channels
                            .iter()
                            .all(|channel| connections(now, *channel) == real(*channel));
                        now.complete && now.pods.len() == EDGES && by_pod && by_channel
                    })
                    .await?;
            }
        }
    }
    for kind in [
        "open",
        "join",
        "leave",
        "close",
        "lost broadcasts",
        "pod start",
    ] {
        assert!(kinds.contains_key(kind), "{kinds:?}");
    }
    world.finish().await
}

#[tokio::test]
async fn chosen_channel_shows_who_listens_and_what_passes_through_the_front() -> anyhow::Result<()>
{
    let world = World::start("dashboard-live", 2, 1).await?;
    let maths = world.channel("Maths").await?;
    let mary = world.device_on("Mary", 0).await?;
    let john = world.device_on("John", 1).await?;
    mary.join(maths).await?;
    let look = Look {
        channel: Some(maths),
        ..Look::default()
    };
    let front = world.stack.front_url();
    let mut stream = Dashboard::open(&front, &world.token("Frank")?, &look).await?;
    let mut step = 0;
    let opened = Instant::now();
    while step < 4 {
        anyhow::ensure!(
            opened.elapsed() < Duration::from_secs(30),
            "stuck at {step}"
        );
        match (step, stream.next().await?.context("the stream has ended")?) {
            (0, Seen::Live(live)) if live.listeners.len() == 1 => {
                assert_eq!(live.listeners[0].pod.as_str(), "edge-1");
                john.join(maths).await?;
                step = 1;
            }
            (1, Seen::Live(live)) if live.listeners.len() == 2 => {
                john.client.send(maths, "one")?.wait().await?;
                step = 2;
            }
            (2, Seen::Record(frame)) => {
                assert!(frame.contains("\"text\":\"one\""), "{frame}");
                mary.client.close().await;
                step = 3;
            }
            (3, Seen::Live(live)) if live.listeners.len() == 1 => {
                assert_eq!(live.listeners[0].pod.as_str(), "edge-2");
                step = 4;
            }
            _ => {}
        }
    }
    drop(stream);
    until_watchers(&world, &["edge-1", "edge-2"], 0.0).await?;
    world.finish().await
}
