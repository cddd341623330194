//! Pods of a test on the bus: real reporters, made-up sockets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hubbub_bus::{Event, Inbox, Leases, Publisher, Subscriber};
use hubbub_dashboard::{Has, Reporter};
use hubbub_protocol::{
    Answer, BusChannel, ChannelEvent, ChannelId, ChannelLoad, DashboardEvent, MessageId, PodId,
    PodMessage, Question, Record, Seq,
};
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Caller, OnBus, World, eventually};

/// A pod without sockets of its own.
struct FakePod {
    reporter: Reporter,
    sockets: u64,
    loads: BTreeMap<ChannelId, u64>,
    changed: Vec<ChannelId>,
    /// Its next report is lost on the way.
    loses: bool,
}

impl FakePod {
    fn has(&self) -> Has {
        Has {
            sockets: self.sockets,
            messages: 0,
        }
    }

    fn row(&self, channel: ChannelId) -> ChannelLoad {
        ChannelLoad {
            channel,
            connections: self.loads.get(&channel).copied().unwrap_or(0),
            messages: 0,
        }
    }
}

type Pods = Arc<Mutex<BTreeMap<PodId, FakePod>>>;

/// Pods of this test, all on one connection.
pub(super) struct Fakes {
    pods: Pods,
    publisher: Publisher,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Fakes {
    pub(super) async fn start(world: &World, count: usize) -> anyhow::Result<Self> {
        let names = (1..=count).map(|n| format!("edge-{n}").parse::<PodId>());
        let names: Vec<PodId> = names.collect::<Result<_, _>>()?;
        let own = names.iter().cloned().map(BusChannel::Pod);
        let wanted = own.chain([BusChannel::Pods]).collect();
        let OnBus {
            publisher,
            subscriber,
            inbox,
            stop,
            mut tasks,
        } = OnBus::start(world, "fakes".parse()?, wanted).await?;
        let pods = names.into_iter().map(|id| {
            let pod = FakePod {
                reporter: Reporter::new(id.clone(), "home".to_owned()),
                sockets: 0,
                loads: BTreeMap::new(),
                changed: Vec::new(),
                loses: false,
            };
            (id, pod)
        });
        let pods: Pods = Arc::new(Mutex::new(pods.collect()));
        let leases = Leases::new(&publisher);
        let ids: Vec<PodId> = pods.lock().keys().cloned().collect();
        for id in ids {
            eventually("a lease", || async { leases.renew(&id).await.ok() }).await?;
        }
        tasks.spawn(live(
            pods.clone(),
            inbox,
            publisher.clone(),
            leases,
            subscriber,
        ));
        Ok(Self {
            pods,
            publisher,
            stop,
            _tasks: tasks,
        })
    }

    /// So many sockets of a pod (from 1) listen to a channel.
    pub(super) fn set(&self, pod: usize, channel: ChannelId, connections: u64) {
        let mut pods = self.pods.lock();
        let pod = pods.values_mut().nth(pod - 1).expect("a pod");
        pod.loads.insert(channel, connections);
        pod.changed.push(channel);
    }

    /// So many sockets are on each pod.
    pub(super) fn set_sockets(&self, sockets: u64) {
        let mut pods = self.pods.lock();
        pods.values_mut().for_each(|pod| pod.sockets = sockets);
    }

    /// Each pod's next report is lost on the way.
    pub(super) fn lose_reports(&self) {
        let mut pods = self.pods.lock();
        pods.values_mut().for_each(|pod| pod.loses = true);
    }

    pub(super) fn watched(&self) -> usize {
        let pods = self.pods.lock();
        pods.values()
            .filter(|pod| pod.reporter.is_watched())
            .count()
    }

    pub(super) async fn until_watched(&self, count: usize) -> anyhow::Result<()> {
        eventually(&format!("{count} watched"), || async {
            (self.watched() == count).then_some(())
        })
        .await
    }

    /// Publishes a message as a pod does that has appended it.
    pub(super) async fn say(
        &self,
        channel: ChannelId,
        by: &Caller,
        seq: u64,
        text: &str,
    ) -> anyhow::Result<()> {
        let id = MessageId(Uuid::from_u128(rand::random()));
        let record = Record::message(channel, by.id(), id, text.to_owned());
        let frame = ChannelEvent::encode_record(Seq(seq), &record.body(7));
        let to = BusChannel::Channel(channel);
        let receivers = self.publisher.publish(&to, frame.into()).await?;
        anyhow::ensure!(receivers > 0, "nobody hears {text}");
        Ok(())
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn live(
    pods: Pods,
    mut inbox: Inbox,
    publisher: Publisher,
    leases: Leases,
    _subscriber: Subscriber,
) {
    let (begun, mut events) = (Instant::now(), Vec::new());
    for round in 0_u64.. {
        // The end of the wait is as good as an event.
        timeout(Duration::from_millis(20), inbox.recv_all(&mut events))
            .await
            .ok();
        let now = begun.elapsed().as_millis() as u64;
        if round % 50 == 0 {
            let ids: Vec<PodId> = pods.lock().keys().cloned().collect();
            for id in ids {
                leases.renew(&id).await.ok();
            }
        }
        for event in events.drain(..) {
            if let Event::Message { channel, payload } = event
                && let Ok(message) = serde_json::from_slice(&payload)
            {
                hear(&pods, &channel, &message, &publisher, now);
            }
        }
        let mut out: Vec<(BusChannel, Vec<u8>)> = Vec::new();
        for pod in pods.lock().values_mut() {
            pod.reporter.expire(now);
            while let Some(to) = pod.reporter.next_snapshot() {
                let rows: Vec<_> = pod.loads.keys().map(|id| pod.row(*id)).collect();
                let has = pod.has();
                let parts = pod.reporter.snapshot(has, &rows).into_iter();
                let to = BusChannel::Pod(to);
                out.extend(parts.map(|part| (to.clone(), PodMessage::Snapshot(part).encode())));
            }
            let count = pod.changed.len().min(500);
            let changed: Vec<ChannelId> = pod.changed.drain(..count).collect();
            let rows = changed.into_iter().map(|id| pod.row(id)).collect();
            let has = pod.has();
            if let Some(report) = pod.reporter.report(now, has, rows)
                && !std::mem::take(&mut pod.loses)
            {
                let report = DashboardEvent::Report(report).encode();
                out.push((BusChannel::Dashboard, report));
            }
        }
        for (to, payload) in out {
            publisher.publish(&to, payload.into()).await.ok();
        }
    }
}

fn hear(pods: &Pods, to: &BusChannel, message: &PodMessage, publisher: &Publisher, now: u64) {
    for (id, pod) in pods.lock().iter_mut() {
        if *to != BusChannel::Pods && *to != BusChannel::Pod(id.clone()) {
            continue;
        }
        match message {
            PodMessage::Watch(watch) => pod.reporter.watch(watch, now, rand::random()),
            PodMessage::Unwatch(unwatch) => pod.reporter.unwatch(unwatch, now),
            PodMessage::Ask {
                request,
                reply_to,
                question,
            } => {
                let answer = match question {
                    Question::Evict { .. } => Answer::Evicted { sockets: 0 },
                    Question::Who { .. } => Answer::Who {
                        sockets: Vec::new(),
                        truncated: false,
                    },
                    Question::Presence { .. } => Answer::Presence { states: Vec::new() },
                };
                let reply = PodMessage::Reply {
                    request: *request,
                    pod: id.clone(),
                    answer,
                };
                let to = BusChannel::Pod(reply_to.clone());
                publisher.offer(&to, reply.encode().into()).expect("room");
            }
            _ => {}
        }
    }
}
