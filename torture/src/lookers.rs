//! Those who look at the dashboard. While faults come and go they open and close it, on every API
//! server. At the end, where nothing else changes any more, one goes on looking while others come
//! and go, and a device connects and goes: what is shown must be what there is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hubbub_checker::{Event, history::Load};
use hubbub_client::{
    Board, Client, Config, Dashboard, Http, HttpError, JoinOptions, Look, TokenSource,
};
use hubbub_protocol::{
    ChannelId,
    events::{DashboardSnapshot, PodStanding, RowId},
};
use hubbub_stack::{Proxy, Service};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    recorder::Recorder,
    sampler::Sampler,
    setup::{ADMIN, People},
    system::System,
};

/// For how long somebody looks, and looks away.
const LOOKS_MS: std::ops::Range<u64> = 50..4_000;
const AWAY_MS: std::ops::Range<u64> = 50..3_000;
/// Changes at the end, each after somebody else has come and gone.
const ROUNDS: usize = 12;
/// By then a change is shown, and a pod knows that nobody looks.
const SHOWN: Duration = Duration::from_secs(2);
/// Between two looks at what there is.
const AGAIN: Duration = Duration::from_millis(100);
/// A first picture, a connection, an answer.
const PATIENCE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 16;
/// More than there are channels.
const TOP: usize = 200;
/// Joined by the device that comes and goes.
const JOINED: usize = 3;

/// Opens and closes the dashboard of one API server until `stop`. What its server is struck by
/// meanwhile is no error: a stream that breaks is opened again.
pub async fn come_and_go(base: String, token: String, seed: u64, stop: CancellationToken) {
    let mut rng = SmallRng::seed_from_u64(seed);
    loop {
        let [looks, away] = [LOOKS_MS, AWAY_MS].map(|ms| rng.random_range(ms));
        let round = async {
            // Broken or over: both end it.
            drop(timeout(Duration::from_millis(looks), look(&base, &token)).await);
            sleep(Duration::from_millis(away)).await;
        };
        if stop.run_until_cancelled(round).await.is_none() {
            return;
        }
    }
}

async fn look(base: &str, token: &str) -> Result<(), HttpError> {
    let mut stream = Dashboard::open(base, token, &Look::default()).await?;
    while stream.next().await?.is_some() {}
    Ok(())
}

/// Where an API server's dashboard is, past every link.
#[must_use]
pub fn base(system: &System, api: usize) -> String {
    format!("http://{}", system.stack().api(api).addr())
}

/// The end of a run: holds what is shown against what there is, and records both.
///
/// # Errors
/// When a server does not answer although nothing is wrong with it any more.
pub async fn look_at_the_end(
    system: &System,
    people: &People,
    sampler: &Sampler,
    recorder: &Recorder,
) -> Result<()> {
    let quiet = QuietPoint {
        system,
        channels: people.everywhere().collect(),
        http: system.http_at(ADMIN, 0)?,
        sampler,
        recorder,
        link: system.link()?,
    };
    let servers = system.stack().apis().len();
    let mut visitor: Option<Client> = None;
    for round in 0..ROUNDS {
        let steady = round % servers;
        let looker = Looker::open(system, steady).await?;
        let other = Looker::open(system, (steady + 1) % servers).await?;
        drop(other);
        quiet.until_watchers(1).await?;
        visitor = match visitor {
            None => match quiet.connect(round).await? {
                Some(client) => Some(client),
                // Whoever waits for it longer learns nothing more.
                None => return Ok(()),
            },
            Some(client) => {
                client.close().await;
                None
            }
        };
        quiet.compare(steady, looker).await?;
        for (pod, watchers) in quiet.until_watchers(0).await? {
            recorder.record(Event::Watched { pod, watchers });
        }
    }
    Ok(())
}

/// A moment at which nothing changes but what is changed here.
struct QuietPoint<'a> {
    system: &'a System,
    channels: Vec<ChannelId>,
    http: Http,
    sampler: &'a Sampler,
    recorder: &'a Recorder,
    link: Arc<Proxy>,
}

impl QuietPoint<'_> {
    /// A device comes and listens to some channels. `None`: a join was not answered, which is noted.
    async fn connect(&self, round: usize) -> Result<Option<Client>> {
        let url = format!("ws://{}/ws", self.link.addr());
        let mut config = Config::new(url, TokenSource::Fixed(self.system.token(ADMIN)?));
        config.marks_delivered = false;
        let (client, mut events) = Client::start(config);
        let joins = async {
            for n in 0..JOINED {
                let channel = self.channels[(round + n) % self.channels.len()];
                let joined = timeout(PATIENCE, client.join(channel, JoinOptions::default())).await;
                self.recorder.record(Event::Asked {
                    request: format!("a join of {channel}"),
                    answered: joined.is_ok(),
                });
                match joined {
                    Ok(joined) => drop(joined.context("join at the end")?),
                    Err(_) => return Ok(false),
                }
            }
            anyhow::Ok(true)
        };
        let drained = async { while events.recv().await.is_some() {} };
        // Waits for: the joins, which have deadlines. The events only have to be taken meanwhile;
        // what comes later is dropped with them.
        let answered = tokio::select! {
            answered = joins => answered?,
            () = drained => anyhow::bail!("the client has ended"),
        };
        Ok(answered.then_some(client))
    }

    /// Waits until `looker` is shown what there is, at most [`SHOWN`], and records both. What there
    /// is takes a while to ask for: the last look is begun, not ended, at that time.
    async fn compare(&self, api: usize, mut looker: Looker) -> Result<()> {
        let end = Instant::now() + SHOWN;
        loop {
            let is_last = Instant::now() >= end;
            let there = self.load().await?;
            let shown = looker.load(&self.channels);
            if there == shown || is_last {
                self.recorder.record(Event::Looked {
                    server: self.system.stack().api(api).name(),
                    there,
                    shown,
                });
                return Ok(());
            }
            looker.changed().await?;
        }
    }

    /// What there is, by other ways than the dashboard's.
    async fn load(&self) -> Result<Load> {
        let asked = self.channels.iter().map(|channel| async move {
            let end = Instant::now() + PATIENCE;
            loop {
                let who = self.http.who(*channel).await?;
                if who.complete {
                    return anyhow::Ok((*channel, who.users.len() as u64));
                }
                anyhow::ensure!(Instant::now() < end, "{channel}: no answer of all pods");
            }
        });
        let connections = stream::iter(asked).buffer_unordered(AT_ONCE);
        let connections: BTreeMap<_, _> = connections
            .try_filter(|(_, count)| std::future::ready(*count > 0))
            .try_collect()
            .await?;
        let sockets = self.edges("hubbub_edge_sockets").await?;
        Ok(Load {
            pods: sockets.len() as u64,
            sockets: sockets.iter().map(|(_, count)| count).sum(),
            connections,
        })
    }

    /// A figure of every pod that runs.
    async fn edges(&self, series: &str) -> Result<Vec<(String, u64)>> {
        let mut figures = Vec::new();
        for edge in self.system.stack().edges() {
            if edge.pid().is_none() {
                continue;
            }
            let page = self.page(edge).await?;
            let found = page.iter().find(|(name, _)| name == series);
            let (_, value) = found.with_context(|| format!("no {series}"))?;
            figures.push((edge.name(), value.round() as u64));
        }
        Ok(figures)
    }

    /// The metrics of a pod. One that is late once is asked again.
    async fn page(&self, edge: &Service) -> Result<Vec<(String, f64)>> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(page) = self.sampler.metrics(edge.ops_addr()).await {
                return Ok(page);
            }
            let name = edge.name();
            anyhow::ensure!(Instant::now() < end, "{name} shows no metrics");
            sleep(AGAIN).await;
        }
    }

    /// Waits until every pod has so many watchers or fewer, at most [`SHOWN`]; how many each has.
    async fn until_watchers(&self, most: u64) -> Result<Vec<(String, u64)>> {
        let end = Instant::now() + SHOWN;
        loop {
            let watchers = self.edges("hubbub_edge_dashboard_watchers").await?;
            if watchers.iter().all(|(_, count)| *count <= most) || Instant::now() >= end {
                return Ok(watchers);
            }
            sleep(AGAIN).await;
        }
    }
}

/// Somebody who looks at one API server.
struct Looker {
    shown: watch::Receiver<Option<DashboardSnapshot>>,
    _task: JoinSet<()>,
}

impl Looker {
    /// Opens, and waits for a picture of all pods.
    async fn open(system: &System, api: usize) -> Result<Self> {
        let look = Look {
            top: Some(TOP),
            ..Look::default()
        };
        let mut stream = Dashboard::open(&base(system, api), &system.token(ADMIN)?, &look).await?;
        let (sink, mut shown) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut board = Board::default();
            while let Ok(Some(seen)) = stream.next().await {
                board.apply(&seen);
                sink.send_replace(board.now.clone());
            }
        });
        let complete =
            shown.wait_for(|shown| shown.as_ref().is_some_and(|picture| picture.complete));
        let complete = timeout(PATIENCE, complete).await;
        complete.context("no picture of all pods")??;
        Ok(Self { shown, _task: task })
    }

    /// Waits a moment, or until something else is shown.
    async fn changed(&mut self) -> Result<()> {
        match timeout(AGAIN, self.shown.changed()).await {
            Ok(changed) => changed.context("the dashboard's stream has ended"),
            Err(_) => Ok(()),
        }
    }

    /// What is shown.
    fn load(&mut self, channels: &[ChannelId]) -> Load {
        let shown = self.shown.borrow_and_update();
        let Some(shown) = shown.as_ref() else {
            return Load::default();
        };
        let pods = shown.pods.iter();
        let reporting = pods.filter(|row| row.state == PodStanding::Reporting);
        let rows = shown.channels.iter().filter(|row| row.connections > 0);
        let connections = rows.filter_map(|row| match row.channel {
            RowId::Channel(channel) if channels.contains(&channel) => {
                Some((channel, row.connections))
            }
            _ => None,
        });
        Load {
            pods: reporting.count() as u64,
            sockets: shown.totals.sockets,
            connections: connections.collect(),
        }
    }
}
