//! All the sockets that listen.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::bail;
use hubbub_client::{Client, Config, Event, Events, JoinOptions, Limits};
use hubbub_protocol::ChannelId;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    diff::Diff,
    life::{Change, Life, Outage},
    town::Town,
};

/// Between two looks whether everybody has everything.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Member {
    life: Arc<Mutex<Life>>,
    /// Keeps the connection: dropping it cuts.
    _client: Client,
}

/// Clients, each with a task that takes its events.
#[derive(Debug)]
pub(crate) struct Crowd {
    members: Vec<Member>,
    up: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Connects `count` clients, `per_second` of them a second, and waits until all are up.
    pub(crate) async fn gather(town: &Town, count: usize, per_second: f64) -> anyhow::Result<Self> {
        let (tell, up) = watch::channel(0);
        let tell = Arc::new(tell);
        let mut members = Vec::with_capacity(count);
        let mut tasks = JoinSet::new();
        let mut pace = interval(Duration::from_secs_f64(1.0 / per_second.max(1.0)));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in 0..count {
            pace.tick().await;
            let channels = town.channels_of(n);
            let mut config = Config::new(town.ws_url(n), town.token(&Town::listener(n))?);
            config.limits = limits();
            let life = Arc::new(Mutex::new(Life::new(&channels, Instant::now())));
            let (client, events) = Client::start(config);
            for channel in channels {
                client.start_join(channel, JoinOptions::default()).await?;
            }
            tasks.spawn(listen(events, Arc::clone(&life), Arc::clone(&tell)));
            members.push(Member {
                life,
                _client: client,
            });
        }
        let mut crowd = Self {
            members,
            up,
            _tasks: tasks,
        };
        crowd.wait_up(Duration::from_secs(60)).await?;
        Ok(crowd)
    }

    /// Waits until every socket is connected, joined and caught up.
    pub(crate) async fn wait_up(&mut self, patience: Duration) -> anyhow::Result<()> {
        let all = self.members.len();
        let waited = timeout(patience, self.up.wait_for(|up| *up == all)).await;
        if waited.is_ok() {
            return Ok(());
        }
        drop(waited);
        let down = all - self.up();
        bail!("{down} of {all} sockets are not back after {patience:?}");
    }

    /// All sockets.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Sockets that are up now.
    pub(crate) fn up(&self) -> usize {
        *self.up.borrow()
    }

    /// Sockets that are up, by pod.
    pub(crate) fn on(&self, pod: &str) -> Vec<usize> {
        let all = self.members.iter().enumerate();
        all.filter(|(_, member)| {
            let life = member.life.lock();
            life.up && life.pod == pod
        })
        .map(|(n, _)| n)
        .collect()
    }

    /// Outages that began at or after `since`, with the number of the socket.
    pub(crate) fn outages(&self, since: Instant) -> Vec<(usize, Outage)> {
        let mut found = Vec::new();
        for (n, member) in self.members.iter().enumerate() {
            let life = member.life.lock();
            // The first is the arrival.
            let outages = life.outages.iter().skip(1);
            found.extend(
                outages
                    .filter(|outage| outage.down_at >= since)
                    .map(|outage| (n, outage.clone())),
            );
        }
        found
    }

    /// What must not happen to a client at all: (socket, what).
    pub(crate) fn broken(&self) -> Vec<(usize, String)> {
        let all = self.members.iter().enumerate();
        all.flat_map(|(n, member)| {
            let broken = member.life.lock().broken.clone();
            broken.into_iter().map(move |what| (n, what))
        })
        .collect()
    }

    /// Waits until every socket was told that it has everything through the newest of `stored`.
    /// Running out of patience is no error: the comparison shows what is missing.
    pub(crate) async fn wait_synced(
        &self,
        stored: &HashMap<ChannelId, Vec<u64>>,
        patience: Duration,
    ) -> Duration {
        let begun = Instant::now();
        let done = |life: &Life| {
            let mut all = life.channels.iter();
            all.all(|l| l.synced >= last(stored, l.channel))
        };
        let mut next = 0;
        while begun.elapsed() < patience {
            // Nobody goes back, so those before `next` need no second look.
            while self.members.get(next).is_some_and(|m| done(&m.life.lock())) {
                next += 1;
            }
            if next == self.members.len() {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        begun.elapsed()
    }

    /// What everybody was given against what the store has, and the first differences in words.
    pub(crate) fn compare(&self, stored: &HashMap<ChannelId, Vec<u64>>) -> (Diff, Vec<String>) {
        const WORDS: usize = 20;
        let nothing = Vec::new();
        let mut sum = Diff::default();
        let mut words = Vec::new();
        for (n, member) in self.members.iter().enumerate() {
            let life = member.life.lock();
            for listening in &life.channels {
                let seqs = stored.get(&listening.channel).unwrap_or(&nothing);
                let joined_at = listening.joined_at.unwrap_or(0);
                let diff = Diff::of(seqs, joined_at, &listening.given);
                sum.add(diff);
                if !diff.is_clean() && words.len() < WORDS {
                    words.push(format!(
                        "socket {n} in {} after {joined_at}: {} lost, {} doubled, {} foreign",
                        listening.channel, diff.lost, diff.doubled, diff.foreign
                    ));
                }
            }
        }
        (sum, words)
    }
}

fn last(stored: &HashMap<ChannelId, Vec<u64>>, channel: ChannelId) -> u64 {
    let seqs = stored.get(&channel);
    seqs.and_then(|seqs| seqs.last()).copied().unwrap_or(0)
}

/// The client's own, but for what is bounded by memory alone: thousands of clients live in this
/// process. Everything that has to do with time is what users run.
fn limits() -> Limits {
    Limits {
        unsent: 1,
        events: 32,
        ids_per_channel: 1_024,
        ..Limits::default()
    }
}

async fn listen(mut events: Events, life: Arc<Mutex<Life>>, up: Arc<watch::Sender<usize>>) {
    while let Some(event) = events.recv().await {
        note(&event, &life, &up);
    }
}

fn note(event: &Event, life: &Mutex<Life>, up: &watch::Sender<usize>) {
    let change = life.lock().on_event(event, Instant::now());
    match change {
        Change::None => {}
        Change::CameUp => up.send_modify(|up| *up += 1),
        Change::WentDown => up.send_modify(|up| *up -= 1),
    }
}
