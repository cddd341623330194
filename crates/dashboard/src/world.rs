//! A simulated world: pods with sockets that come and go, API servers that begin and end to watch,
//! a bus that delays, loses and breaks. At every quiet point each picture equals the truth, and
//! whoever nobody watches has said nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hubbub_protocol::{
    ChannelId, ChannelLetter, ChannelLoad, DashboardEvent, PodId, PodMessage, Unwatch, Watch,
    limits,
};
use uuid::Uuid;

use crate::{Accepted, Has, Picture, Reporter};

/// How fine the time is.
const STEP_MS: u64 = 50;
/// How often a pod makes a report, and an API server renews and lists.
const REPORT_EVERY_MS: u64 = 250;
const RENEW_EVERY_MS: u64 = 3_000;
const LIST_EVERY_MS: u64 = 1_000;
const LEASE_MS: u64 = 5_000;
/// Longer than every lease, and than the pauses between questions.
const QUIET_MS: u64 = 18_000;
/// Small, so that snapshots have several parts.
const CHANNELS: u64 = 40;

/// A small generator, so that a schedule is the same at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn channel(n: u64) -> ChannelId {
    let letter = if n.is_multiple_of(5) {
        ChannelLetter::Direct
    } else {
        ChannelLetter::Channel
    };
    ChannelId::new(letter, n as i64 + 1).expect("from 1")
}

#[derive(Debug, Clone)]
enum Message {
    ToPod(PodMessage),
    Dashboard(DashboardEvent),
}

struct Pod {
    id: PodId,
    /// The process; another one after a restart.
    life: u64,
    runs: bool,
    leased_until: u64,
    reporter: Reporter,
    accepted: Accepted,
    sockets: Vec<BTreeSet<ChannelId>>,
    /// Channels that changed since the last report; kept only while it is watched.
    changed: BTreeSet<ChannelId>,
    next_report: u64,
}

impl Pod {
    fn new(id: PodId, life: u64, now: u64) -> Self {
        Self {
            reporter: Reporter::new(id.clone(), "home".to_owned()),
            id,
            life,
            runs: true,
            leased_until: now + LEASE_MS,
            accepted: Accepted::default(),
            sockets: Vec::new(),
            changed: BTreeSet::new(),
            next_report: 0,
        }
    }

    fn connections(&self, channel: ChannelId) -> u64 {
        let joined = self.sockets.iter().filter(|joins| joins.contains(&channel));
        joined.count() as u64
    }

    fn load(&self, channel: ChannelId) -> ChannelLoad {
        ChannelLoad {
            channel,
            connections: self.connections(channel),
            messages: self.accepted.of(channel),
        }
    }

    fn has(&self) -> Has {
        Has {
            sockets: self.sockets.len() as u64,
            messages: self.accepted.total(),
        }
    }

    fn touch(&mut self, channel: ChannelId) {
        if self.reporter.is_watched() {
            self.changed.insert(channel);
        }
    }
}

struct Api {
    id: PodId,
    watcher: Uuid,
    runs: bool,
    watching: bool,
    generation: u64,
    picture: Picture,
    /// Its subscription is lost until then.
    deaf_until: Option<u64>,
    next_renew: u64,
    next_list: u64,
}

struct World {
    seed: u64,
    dice: Dice,
    now: u64,
    lives: u64,
    pods: Vec<Pod>,
    apis: Vec<Api>,
    /// By sender and receiver: in order, each with its time.
    wires: BTreeMap<(String, String), VecDeque<(u64, Message)>>,
    /// Of a hundred messages.
    loss: u64,
    published: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1),
            now: 1,
            lives: 0,
            pods: Vec::new(),
            apis: Vec::new(),
            wires: BTreeMap::new(),
            loss: 0,
            published: 0,
        };
        for n in 0..3 {
            let id = format!("edge-{n}").parse().expect("an id");
            world.lives += 1;
            world.pods.push(Pod::new(id, world.lives, world.now));
        }
        for n in 0..2 {
            world.apis.push(Api {
                id: format!("api-{n}").parse().expect("an id"),
                watcher: Uuid::from_u128(n + 1),
                runs: true,
                watching: false,
                generation: 0,
                picture: Picture::new(),
                deaf_until: None,
                next_renew: 0,
                next_list: 0,
            });
        }
        world
    }

    fn send(&mut self, from: &PodId, to: &PodId, message: Message) {
        self.published += 1;
        if self.dice.roll(100) < self.loss {
            return;
        }
        let delay = self.dice.roll(60);
        let wire = self
            .wires
            .entry((from.to_string(), to.to_string()))
            .or_default();
        let after = wire.back().map_or(0, |(at, _)| *at);
        wire.push_back(((self.now + delay).max(after), message));
    }

    fn tell_pods(&mut self, from: &PodId, message: &PodMessage) {
        for to in self
            .pods
            .iter()
            .map(|pod| pod.id.clone())
            .collect::<Vec<_>>()
        {
            self.send(from, &to, Message::ToPod(message.clone()));
        }
    }

    fn tell_dashboard(&mut self, from: &PodId, event: &DashboardEvent) {
        let watching = self.apis.iter().filter(|api| api.runs && api.watching);
        for to in watching.map(|api| api.id.clone()).collect::<Vec<_>>() {
            self.send(from, &to, Message::Dashboard(event.clone()));
        }
    }

    fn watch_of(&self, api: usize, snapshot: bool) -> Watch {
        let api = &self.apis[api];
        Watch {
            watcher: api.watcher,
            generation: api.generation,
            reply_to: api.id.clone(),
            snapshot,
        }
    }

    /// Once subscribed, an API server asks everybody.
    fn ask_all(&mut self, api: usize) {
        let (id, watch) = (self.apis[api].id.clone(), self.watch_of(api, true));
        self.tell_pods(&id, &PodMessage::Watch(watch));
        let now = self.now;
        self.apis[api].picture.asked_all(now);
        self.apis[api].next_renew = now + RENEW_EVERY_MS;
    }

    fn begin(&mut self, api: usize) {
        let now = self.now;
        let it = &mut self.apis[api];
        if it.runs && !it.watching {
            it.watching = true;
            it.generation += 1;
            it.picture = Picture::new();
            it.next_list = now;
            it.deaf_until = None;
            self.ask_all(api);
        }
    }

    fn end(&mut self, api: usize) {
        let it = &mut self.apis[api];
        if it.runs && it.watching {
            it.watching = false;
            let unwatch = Unwatch {
                watcher: it.watcher,
                generation: it.generation,
            };
            let id = it.id.clone();
            self.tell_pods(&id, &PodMessage::Unwatch(unwatch));
        }
    }

    fn act(&mut self) {
        let pod = self.dice.roll(self.pods.len() as u64) as usize;
        let api = self.dice.roll(self.apis.len() as u64) as usize;
        let name = channel(self.dice.roll(CHANNELS));
        let action = self.dice.roll(100);
        let now = self.now;
        match action {
            0..25 if self.pods[pod].runs => self.pods[pod].sockets.push(BTreeSet::new()),
            25..55 if !self.pods[pod].sockets.is_empty() => {
                let count = self.pods[pod].sockets.len() as u64;
                let at = self.dice.roll(count) as usize;
                let pod = &mut self.pods[pod];
                if !pod.sockets[at].remove(&name) {
                    pod.sockets[at].insert(name);
                }
                pod.touch(name);
            }
            55..65 if !self.pods[pod].sockets.is_empty() => {
                let count = self.pods[pod].sockets.len() as u64;
                let at = self.dice.roll(count) as usize;
                let joins = self.pods[pod].sockets.swap_remove(at);
                for name in joins {
                    self.pods[pod].touch(name);
                }
            }
            65..75 if self.pods[pod].runs => {
                if self.pods[pod].reporter.is_watched() {
                    self.pods[pod].accepted.add(name);
                }
            }
            75..78 => self.stop(pod),
            78..82 => self.start(pod),
            82..88 => self.begin(api),
            88..92 => self.end(api),
            // Killed; another process of that name comes at once.
            92..94 => {
                let it = &mut self.apis[api];
                it.watching = false;
                it.watcher = Uuid::from_u128(u128::from(now) << 8 | api as u128);
                it.generation = 0;
            }
            94..97 => {
                let to = self.apis[api].id.to_string();
                self.wires.retain(|(_, receiver), _| *receiver != to);
                self.apis[api].deaf_until = Some(now + self.dice.roll(2_000));
            }
            _ => self.loss = [0, 0, 10, 40, 100][self.dice.roll(5) as usize],
        }
    }

    /// Killed, or drained: then its lease goes at once.
    fn stop(&mut self, pod: usize) {
        let drained = self.dice.roll(2) == 0;
        let pod = &mut self.pods[pod];
        pod.runs = false;
        pod.sockets.clear();
        if drained {
            pod.leased_until = 0;
        }
    }

    fn start(&mut self, pod: usize) {
        if !self.pods[pod].runs {
            self.lives += 1;
            let id = self.pods[pod].id.clone();
            self.pods[pod] = Pod::new(id.clone(), self.lives, self.now);
            self.tell_dashboard(&id.clone(), &DashboardEvent::Started { pod: id });
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.now += STEP_MS;
            self.deliver();
            for pod in 0..self.pods.len() {
                self.round_of_pod(pod);
            }
            for api in 0..self.apis.len() {
                self.round_of_api(api);
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        for ((_, to), wire) in &mut self.wires {
            while let Some((_, message)) = wire.pop_front_if(|(at, _)| *at <= now) {
                due.push((to.clone(), message));
            }
        }
        for (to, message) in due {
            match message {
                Message::ToPod(PodMessage::Snapshot(part)) => {
                    if let Some(api) = self.hearing(&to) {
                        api.picture.snapshot(part, now);
                    }
                }
                Message::ToPod(message) => {
                    let found = self.pods.iter_mut();
                    let Some(pod) = found
                        .filter(|pod| pod.runs)
                        .find(|pod| pod.id.as_str() == to)
                    else {
                        continue;
                    };
                    let before = pod.reporter.epoch();
                    match message {
                        PodMessage::Watch(watch) => {
                            let epoch = pod.life << 40 | now;
                            pod.reporter.watch(&watch, now, epoch);
                        }
                        PodMessage::Unwatch(unwatch) => pod.reporter.unwatch(&unwatch, now),
                        _ => {}
                    }
                    if pod.reporter.epoch() != before {
                        pod.accepted.clear();
                        pod.changed.clear();
                    }
                }
                Message::Dashboard(event) => {
                    if let Some(api) = self.hearing(&to) {
                        match event {
                            DashboardEvent::Started { pod } => api.picture.started(&pod, now),
                            DashboardEvent::Report(report) => {
                                api.picture.report(report, now);
                            }
                        }
                    }
                }
            }
        }
    }

    fn hearing(&mut self, to: &str) -> Option<&mut Api> {
        let api = self.apis.iter_mut().find(|api| api.id.as_str() == to)?;
        (api.runs && api.watching && api.deaf_until.is_none()).then_some(api)
    }

    fn round_of_pod(&mut self, at: usize) {
        let now = self.now;
        let pod = &mut self.pods[at];
        if !pod.runs {
            return;
        }
        pod.leased_until = now + LEASE_MS;
        pod.reporter.expire(now);
        if !pod.reporter.is_watched() {
            pod.changed.clear();
            return;
        }
        let id = pod.id.clone();
        while let Some(to) = self.pods[at].reporter.next_snapshot() {
            let pod = &mut self.pods[at];
            let mut named: BTreeSet<ChannelId> = pod.sockets.iter().flatten().copied().collect();
            named.extend(pod.accepted.channels());
            let rows: Vec<ChannelLoad> = named.into_iter().map(|id| pod.load(id)).collect();
            let has = pod.has();
            for mut part in split(pod.reporter.snapshot(has, &rows)) {
                part.pod = id.clone();
                self.send(&id, &to, Message::ToPod(PodMessage::Snapshot(part)));
            }
        }
        let pod = &mut self.pods[at];
        if now < pod.next_report {
            return;
        }
        pod.next_report = now + REPORT_EVERY_MS;
        let mut changed = std::mem::take(&mut pod.changed);
        changed.extend(pod.accepted.take_changed(limits::REPORT_ROWS));
        let rows = changed.into_iter().map(|id| pod.load(id)).collect();
        let has = pod.has();
        if let Some(report) = pod.reporter.report(now, has, rows) {
            self.tell_dashboard(&id, &DashboardEvent::Report(report));
        }
    }

    fn round_of_api(&mut self, at: usize) {
        let now = self.now;
        let api = &self.apis[at];
        if !api.runs || !api.watching {
            return;
        }
        match api.deaf_until {
            Some(until) if until > now => {}
            Some(_) => {
                self.apis[at].deaf_until = None;
                self.ask_all(at);
            }
            None => {}
        }
        let id = self.apis[at].id.clone();
        if self.apis[at].next_renew <= now {
            self.apis[at].next_renew = now + RENEW_EVERY_MS;
            let watch = self.watch_of(at, false);
            self.tell_pods(&id, &PodMessage::Watch(watch));
        }
        if self.apis[at].next_list <= now {
            self.apis[at].next_list = now + LIST_EVERY_MS;
            let leased = self.pods.iter().filter(|pod| pod.leased_until > now);
            let leased = leased.map(|pod| pod.id.clone()).collect();
            self.apis[at].picture.listed(leased, now - STEP_MS, now);
        }
        self.apis[at].picture.tick(now);
        for pod in self.apis[at].picture.to_ask(now) {
            let watch = self.watch_of(at, true);
            self.send(&id, &pod, Message::ToPod(PodMessage::Watch(watch)));
        }
        self.apis[at].picture.check_invariants();
    }

    /// Nothing is lost and nothing happens for a while: every picture is the truth.
    fn quiet(&mut self) {
        self.loss = 0;
        self.pass(QUIET_MS);
        let seed = self.seed;
        let truth: Vec<(PodId, u64)> = self
            .pods
            .iter()
            .filter(|pod| pod.runs)
            .map(|pod| (pod.id.clone(), pod.sockets.len() as u64))
            .collect();
        let watched = self.apis.iter().any(|api| api.runs && api.watching);
        for pod in self.pods.iter().filter(|pod| pod.runs) {
            assert_eq!(
                pod.reporter.is_watched(),
                watched,
                "seed {seed}: {}",
                pod.id
            );
        }
        for api in self.apis.iter().filter(|api| api.runs && api.watching) {
            assert!(
                api.picture.is_complete(),
                "seed {seed}: {:?}",
                api.picture.missing()
            );
            let shown: Vec<_> = api
                .picture
                .pods()
                .map(|pod| (pod.pod, pod.sockets))
                .collect();
            assert_eq!(shown, truth, "seed {seed}: pods of {}", api.id);
            for n in 0..CHANNELS {
                let (name, running) = (channel(n), self.pods.iter().filter(|pod| pod.runs));
                let real: u64 = running.map(|pod| pod.connections(name)).sum();
                let shown = api.picture.connections(name);
                assert_eq!(shown, real, "seed {seed}: {name} on {}", api.id);
            }
            assert_eq!(api.picture.tenths(), 0, "seed {seed}: nobody has sent");
        }
        if !watched {
            let before = self.published;
            self.pass(QUIET_MS);
            assert_eq!(
                self.published, before,
                "seed {seed}: unwatched, and not quiet"
            );
        }
    }
}

/// The parts of a snapshot as a bound of four rows would cut them.
fn split(parts: Vec<hubbub_protocol::Snapshot>) -> Vec<hubbub_protocol::Snapshot> {
    let whole = parts.into_iter().next().expect("at least one part");
    if whole.channels.is_empty() {
        return vec![whole];
    }
    let parts = whole.channels.len().div_ceil(4) as u32;
    let cut = whole.channels.chunks(4).zip(0..);
    cut.map(|(rows, part)| hubbub_protocol::Snapshot {
        part,
        parts,
        channels: rows.to_vec(),
        ..whole.clone()
    })
    .collect()
}

#[test]
fn pictures_equal_the_truth_at_every_quiet_point() {
    for seed in 0..1_500 {
        let mut world = World::new(seed);
        for _ in 0..3 {
            for _ in 0..60 {
                world.act();
                let pause = [0, 0, 50, 250, 1_000][world.dice.roll(5) as usize];
                world.pass(pause);
            }
            world.quiet();
        }
    }
}

#[test]
fn first_look_is_complete_within_half_a_second() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..80 {
            world.act();
        }
        (0..2).for_each(|api| world.end(api));
        world.quiet();
        world.begin(0);
        world.pass(350);
        assert!(world.apis[0].picture.is_complete(), "seed {seed}");
        world.end(0);
        world.pass(150);
        let quiet = world.pods.iter().all(|pod| !pod.reporter.is_watched());
        assert!(quiet, "seed {seed}");
    }
}
