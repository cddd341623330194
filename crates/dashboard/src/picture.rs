use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use hubbub_protocol::{ChannelId, ChannelLetter, ChannelLoad, PodId, Report, Snapshot};

use crate::rate::Rate;

/// A pod that has said nothing for so long is silent: three of its signs of life are missing.
pub const SILENT_MS: u64 = 3_500;
/// Between asking a pod for a snapshot and asking again: doubled from the first to the second.
const AGAIN_FIRST_MS: u64 = 300;
const AGAIN_MOST_MS: u64 = 2_000;
/// A pod that a listing finds has as long to be heard by itself: it was asked with all the others,
/// or has asked.
const FOUND_MS: u64 = 200;
/// Pods in a picture, more than any region has; what others say is not taken.
const PODS: usize = 4_096;
/// Channels of one pod; of further ones nothing is known but what is in its totals.
const CHANNELS: usize = 500_000;

/// A number of channels, put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub channels: u64,
    /// Sockets that listen to them, each once for every channel.
    pub connections: u64,
    /// Tenths of a message a second.
    pub tenths: u64,
}

/// A pod as the picture shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState {
    /// Which.
    pub pod: PodId,
    /// Its region; empty until it has told.
    pub region: String,
    /// Its sockets.
    pub sockets: u64,
    /// Channels that somebody listens to on it.
    pub channels: u64,
    /// Tenths of a message a second.
    pub tenths: u64,
    /// It has told, and is heard.
    pub reports: bool,
}

/// A channel as the picture shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelState {
    /// Which.
    pub channel: ChannelId,
    /// Sockets that listen to it, on all pods.
    pub connections: u64,
    /// Tenths of a message a second.
    pub tenths: u64,
}

/// What a snapshot is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The reports follow one another.
    Told,
    /// A snapshot is wanted: to be asked for (again) at this time, and after it with this pause.
    Wanted { at_ms: u64, pause_ms: u64 },
}

/// The parts of a snapshot that have come, in order.
#[derive(Debug)]
struct Parts {
    epoch: u64,
    snapshot: u64,
    parts: u32,
    next: u32,
    rows: Vec<ChannelLoad>,
}

#[derive(Debug)]
struct Pod {
    region: String,
    stage: Stage,
    /// It has told at least once: the figures are its own, if perhaps old ones.
    has_told: bool,
    silent: bool,
    epoch: u64,
    /// The last report that the figures hold.
    number: u64,
    parts: Option<Parts>,
    heard_ms: u64,
    sockets: u64,
    messages: u64,
    rate: Rate,
    shown_tenths: u64,
    /// By channel: connections, and what was accepted.
    channels: HashMap<ChannelId, (u64, u64)>,
    /// Of these, those with connections.
    open: u64,
}

impl Pod {
    fn wanted(now_ms: u64) -> Self {
        Self {
            region: String::new(),
            stage: Stage::Wanted {
                at_ms: now_ms + FOUND_MS,
                pause_ms: AGAIN_FIRST_MS,
            },
            has_told: false,
            silent: false,
            epoch: 0,
            number: 0,
            parts: None,
            heard_ms: now_ms,
            sockets: 0,
            messages: 0,
            rate: Rate::default(),
            shown_tenths: 0,
            channels: HashMap::new(),
            open: 0,
        }
    }

    /// A snapshot is wanted from now on.
    fn want(&mut self, now_ms: u64) {
        if self.stage == Stage::Told {
            self.stage = Stage::Wanted {
                at_ms: now_ms,
                pause_ms: AGAIN_FIRST_MS,
            };
        }
    }

    fn is_current(&self) -> bool {
        self.has_told && !self.silent
    }
}

/// A channel over all pods.
#[derive(Debug, Default)]
struct Channel {
    connections: u64,
    rate: Rate,
    shown_tenths: u64,
}

/// The figures of channels over all pods.
#[derive(Debug, Default)]
struct Channels {
    all: HashMap<ChannelId, Channel>,
    /// Those that are no direct ones and have something to show, by connections, then by id.
    order: BTreeSet<(Reverse<u64>, ChannelId)>,
    /// Those with messages in the last seconds.
    busy: BTreeSet<ChannelId>,
    direct: Sum,
    direct_rate: Rate,
    /// Everything that pods accepted.
    rate: Rate,
    shown_tenths: u64,
}

impl Channels {
    /// A pod's part of a channel has changed.
    fn change(&mut self, channel: ChannelId, from: u64, to: u64, messages: u64, now_ms: u64) {
        if from == to && messages == 0 {
            return;
        }
        let entry = self.all.entry(channel).or_default();
        let before = entry.connections;
        entry.connections = (before + to).saturating_sub(from);
        if messages > 0 {
            entry.rate.add(now_ms, messages);
            entry.shown_tenths = entry.rate.tenths(now_ms);
            self.busy.insert(channel);
        }
        let after = entry.connections;
        let is_shown = after > 0 || self.busy.contains(&channel);
        if channel.letter == ChannelLetter::Direct {
            self.direct_rate.add(now_ms, messages);
            self.direct.connections = self.direct.connections + after - before;
            self.direct.channels += u64::from(before == 0 && after > 0);
            self.direct.channels -= u64::from(before > 0 && after == 0);
        } else {
            self.order.remove(&(Reverse(before), channel));
            if is_shown {
                self.order.insert((Reverse(after), channel));
            }
        }
        if !is_shown {
            self.all.remove(&channel);
        }
    }

    /// Messages become old; true if that changes what is shown.
    fn tick(&mut self, now_ms: u64) -> bool {
        let mut changed = false;
        for channel in self.busy.iter().copied().collect::<Vec<_>>() {
            let Some(entry) = self.all.get_mut(&channel) else {
                self.busy.remove(&channel);
                continue;
            };
            let tenths = entry.rate.tenths(now_ms);
            if tenths != entry.shown_tenths {
                entry.shown_tenths = tenths;
                changed = true;
            }
            if tenths == 0 {
                self.busy.remove(&channel);
                if entry.connections == 0 {
                    self.order.remove(&(Reverse(0), channel));
                    self.all.remove(&channel);
                    changed = true;
                }
            }
        }
        for (rate, shown) in [
            (&self.rate, &mut self.shown_tenths),
            (&self.direct_rate, &mut self.direct.tenths),
        ] {
            let tenths = rate.tenths(now_ms);
            changed |= tenths != *shown;
            *shown = tenths;
        }
        changed
    }
}

/// What all pods have, as far as they have told. See the crate.
#[derive(Debug, Default)]
pub struct Picture {
    pods: BTreeMap<PodId, Pod>,
    channels: Channels,
    /// Pods with a lease, once they were listed.
    leased: Option<BTreeSet<PodId>>,
    version: u64,
}

impl Picture {
    /// Of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the changes of what the picture shows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether every pod with a lease has told and is heard.
    pub fn is_complete(&self) -> bool {
        let told = |pod: &PodId| self.pods.get(pod).is_some_and(Pod::is_current);
        self.leased
            .as_ref()
            .is_some_and(|leased| leased.iter().all(told))
    }

    /// Pods with a lease that have not told, or are silent.
    pub fn missing(&self) -> Vec<PodId> {
        let told = |pod: &&PodId| !self.pods.get(*pod).is_some_and(Pod::is_current);
        let leased = self.leased.iter().flatten();
        leased.filter(told).cloned().collect()
    }

    /// Every pod that is known, by name.
    pub fn pods(&self) -> impl Iterator<Item = PodState> + '_ {
        self.pods.iter().map(|(id, pod)| PodState {
            pod: id.clone(),
            region: pod.region.clone(),
            sockets: pod.sockets,
            channels: pod.open,
            tenths: pod.shown_tenths,
            reports: pod.is_current(),
        })
    }

    /// Channels with connections or messages, direct ones apart: those with most connections
    /// first.
    pub fn channels(&self) -> impl Iterator<Item = ChannelState> + '_ {
        self.channels
            .order
            .iter()
            .map(|(connections, channel)| ChannelState {
                channel: *channel,
                connections: connections.0,
                tenths: self
                    .channels
                    .all
                    .get(channel)
                    .map_or(0, |channel| channel.shown_tenths),
            })
    }

    /// Sockets that listen to a channel, on all pods.
    pub fn connections(&self, channel: ChannelId) -> u64 {
        let found = self.channels.all.get(&channel);
        found.map_or(0, |channel| channel.connections)
    }

    /// The direct channels, put together.
    pub fn direct(&self) -> Sum {
        self.channels.direct
    }

    /// Sockets on all pods.
    pub fn sockets(&self) -> u64 {
        self.pods.values().map(|pod| pod.sockets).sum()
    }

    /// Tenths of a message a second, over all channels.
    pub fn tenths(&self) -> u64 {
        self.channels.shown_tenths
    }

    /// All pods were asked for a snapshot, just now.
    pub fn asked_all(&mut self, now_ms: u64) {
        for pod in self.pods.values_mut() {
            pod.want(now_ms);
            put_off(&mut pod.stage, now_ms);
        }
    }

    /// A pod has started and asks whether it is watched.
    pub fn started(&mut self, pod: &PodId, now_ms: u64) {
        if let Some(pod) = self.pod(pod, now_ms) {
            pod.want(now_ms);
            if let Stage::Wanted { at_ms, .. } = &mut pod.stage {
                *at_ms = now_ms;
            }
            pod.heard_ms = now_ms;
        }
    }

    /// Pods to be asked for a snapshot now.
    pub fn to_ask(&mut self, now_ms: u64) -> Vec<PodId> {
        let mut due = Vec::new();
        for (id, pod) in &mut self.pods {
            if matches!(pod.stage, Stage::Wanted { at_ms, .. } if at_ms <= now_ms) {
                put_off(&mut pod.stage, now_ms);
                due.push(id.clone());
            }
        }
        due
    }

    /// The pods with a lease, by a listing that began at `began_ms`: who is not among them and
    /// was not heard since is gone. New ones are asked.
    pub fn listed(&mut self, leased: BTreeSet<PodId>, began_ms: u64, now_ms: u64) {
        let gone: Vec<PodId> = self
            .pods
            .iter()
            .filter(|(id, pod)| !leased.contains(id) && pod.heard_ms < began_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.remove(&id, now_ms);
        }
        for id in &leased {
            self.pod(id, now_ms);
        }
        if self.leased.as_ref() != Some(&leased) {
            self.leased = Some(leased);
            self.version += 1;
        }
    }

    fn remove(&mut self, id: &PodId, now_ms: u64) {
        if let Some(pod) = self.pods.remove(id) {
            for (channel, (connections, _)) in pod.channels {
                self.channels.change(channel, connections, 0, 0, now_ms);
            }
            self.version += 1;
        }
    }

    /// The pod of that name, made if there is room.
    fn pod(&mut self, id: &PodId, now_ms: u64) -> Option<&mut Pod> {
        if !self.pods.contains_key(id) {
            if self.pods.len() >= PODS {
                return None;
            }
            self.pods.insert(id.clone(), Pod::wanted(now_ms));
            self.version += 1;
        }
        self.pods.get_mut(id)
    }

    /// Takes a report; false if it shows that some were lost, so that a snapshot is wanted.
    pub fn report(&mut self, report: Report, now_ms: u64) -> bool {
        let Some(pod) = self.pod(&report.pod, now_ms) else {
            return true;
        };
        pod.heard_ms = now_ms;
        let was_silent = std::mem::replace(&mut pod.silent, false);
        let is_told = pod.stage == Stage::Told;
        let same = pod.epoch == report.epoch;
        let follows = is_told && same && report.number == pod.number + 1;
        let is_late = is_told && same && report.number <= pod.number;
        let is_gap = is_told && !follows && !is_late;
        if is_gap {
            pod.want(now_ms);
        }
        if was_silent && let Stage::Wanted { at_ms, .. } = &mut pod.stage {
            *at_ms = now_ms;
        }
        self.version += u64::from(was_silent);
        if follows {
            self.apply(report, now_ms);
        }
        !is_gap
    }

    fn apply(&mut self, report: Report, now_ms: u64) {
        let Some(pod) = self.pods.get_mut(&report.pod) else {
            return;
        };
        pod.number = report.number;
        let messages = report.messages.saturating_sub(pod.messages);
        let mut changed = pod.sockets != report.sockets || messages > 0;
        pod.sockets = report.sockets;
        pod.messages = report.messages;
        if messages > 0 {
            pod.rate.add(now_ms, messages);
            self.channels.rate.add(now_ms, messages);
        }
        for row in report.channels {
            changed |= set(pod, &mut self.channels, row, true, now_ms);
        }
        self.version += u64::from(changed);
    }

    /// Takes a part of a snapshot.
    pub fn snapshot(&mut self, part: Snapshot, now_ms: u64) {
        let Some(pod) = self.pod(&part.pod, now_ms) else {
            return;
        };
        pod.heard_ms = now_ms;
        let rows = match pod.parts.take() {
            _ if part.part == 0 => Vec::new(),
            Some(parts)
                if (parts.epoch, parts.snapshot, parts.parts, parts.next)
                    == (part.epoch, part.snapshot, part.parts, part.part) =>
            {
                parts.rows
            }
            // One before it was lost: the whole is asked for again in its time.
            _ => return,
        };
        let mut parts = Parts {
            epoch: part.epoch,
            snapshot: part.snapshot,
            parts: part.parts,
            next: part.part + 1,
            rows,
        };
        parts.rows.extend(&part.channels);
        if parts.rows.len() > CHANNELS {
            return;
        }
        if parts.next < parts.parts {
            pod.parts = Some(parts);
        } else {
            self.take(&part, parts.rows, now_ms);
        }
    }

    /// Takes a whole snapshot, of which this is the last part.
    fn take(&mut self, last: &Snapshot, rows: Vec<ChannelLoad>, now_ms: u64) {
        let Some(pod) = self.pods.get_mut(&last.pod) else {
            return;
        };
        let same = pod.has_told && pod.epoch == last.epoch;
        if pod.stage == Stage::Told && same && last.number < pod.number {
            return;
        }
        let messages = last.messages.saturating_sub(pod.messages);
        if same && messages > 0 {
            pod.rate.add(now_ms, messages);
            self.channels.rate.add(now_ms, messages);
        }
        let named: BTreeSet<ChannelId> = rows.iter().map(|row| row.channel).collect();
        let unnamed: Vec<ChannelId> = pod
            .channels
            .keys()
            .filter(|channel| !named.contains(channel))
            .copied()
            .collect();
        for channel in unnamed {
            let none = ChannelLoad {
                channel,
                connections: 0,
                messages: 0,
            };
            set(pod, &mut self.channels, none, false, now_ms);
            pod.channels.remove(&channel);
        }
        for row in rows {
            set(pod, &mut self.channels, row, same, now_ms);
        }
        pod.region.clone_from(&last.region);
        pod.stage = Stage::Told;
        pod.has_told = true;
        pod.silent = false;
        pod.epoch = last.epoch;
        pod.number = last.number;
        pod.sockets = last.sockets;
        pod.messages = last.messages;
        self.version += 1;
    }

    /// What time does: pods fall silent, messages become old.
    pub fn tick(&mut self, now_ms: u64) {
        let mut changed = false;
        for pod in self.pods.values_mut() {
            if pod.has_told && !pod.silent && now_ms.saturating_sub(pod.heard_ms) > SILENT_MS {
                pod.silent = true;
                pod.want(now_ms);
                changed = true;
            }
            let tenths = pod.rate.tenths(now_ms);
            changed |= tenths != pod.shown_tenths;
            pod.shown_tenths = tenths;
        }
        changed |= self.channels.tick(now_ms);
        self.version += u64::from(changed);
    }

    /// What must hold at any time.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let mut sums: HashMap<ChannelId, u64> = HashMap::new();
        for pod in self.pods.values() {
            let open = pod.channels.values().filter(|row| row.0 > 0).count();
            assert_eq!(pod.open, open as u64, "open channels of a pod");
            for (channel, (connections, _)) in &pod.channels {
                *sums.entry(*channel).or_default() += connections;
            }
        }
        sums.retain(|_, connections| *connections > 0);
        let (mut direct, mut ordered) = (Sum::default(), 0);
        for (channel, entry) in &self.channels.all {
            let sum = sums.get(channel).copied().unwrap_or(0);
            assert_eq!(entry.connections, sum, "{channel}");
            assert!(sum > 0 || self.channels.busy.contains(channel), "{channel}");
            if channel.letter == ChannelLetter::Direct {
                direct.connections += sum;
                direct.channels += u64::from(sum > 0);
            } else {
                ordered += 1;
                let key = (Reverse(sum), *channel);
                assert!(self.channels.order.contains(&key), "{channel}");
            }
        }
        assert!(sums.keys().all(|id| self.channels.all.contains_key(id)));
        assert_eq!(self.channels.order.len(), ordered);
        assert_eq!(
            (direct.channels, direct.connections),
            (
                self.channels.direct.channels,
                self.channels.direct.connections
            )
        );
    }
}

/// It was asked just now: again after the pause.
fn put_off(stage: &mut Stage, now_ms: u64) {
    if let Stage::Wanted { at_ms, pause_ms } = stage {
        *at_ms = now_ms + *pause_ms;
        *pause_ms = (*pause_ms * 2).min(AGAIN_MOST_MS);
    }
}

/// Sets what a pod has of a channel; true if that changes the picture. `counts` says whether what
/// was accepted since the last word is news: not where that word was of another epoch.
fn set(
    pod: &mut Pod,
    channels: &mut Channels,
    row: ChannelLoad,
    counts: bool,
    now_ms: u64,
) -> bool {
    let known = pod.channels.get(&row.channel).copied();
    if known.is_none() && pod.channels.len() >= CHANNELS {
        return false;
    }
    let (connections, accepted) = known.unwrap_or_default();
    let messages = if counts {
        row.messages.saturating_sub(accepted)
    } else {
        0
    };
    pod.open += u64::from(connections == 0 && row.connections > 0);
    pod.open -= u64::from(connections > 0 && row.connections == 0);
    if row.connections == 0 && row.messages == 0 {
        pod.channels.remove(&row.channel);
    } else {
        let now = (row.connections, row.messages);
        pod.channels.insert(row.channel, now);
    }
    channels.change(row.channel, connections, row.connections, messages, now_ms);
    connections != row.connections || messages > 0
}
