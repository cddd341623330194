//! A small Hubbub that keeps its contract, and what a recorder would write of it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
};

use hubbub_checker::{
    Entry, Event,
    history::{Change, Phase},
};
use hubbub_protocol::Seq;

use crate::{
    dice::Dice,
    due::Due,
    feed::Listener,
    names::{self, Message},
};

pub(crate) const CHANNELS: usize = 3;
pub(crate) const WRITERS: usize = 3;
/// The first of the readers' users; each has two devices, one of them with ordered joins.
pub(crate) const READERS: usize = 10;
pub(crate) const DEVICES: usize = 6;
pub(crate) const ADMIN: usize = 99;
pub(crate) const BASE: u64 = 1_000;
pub(crate) const PARTITIONS: usize = 2;

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: usize,
    pub(crate) connection: u64,
    pub(crate) up: bool,
    /// It never comes back.
    pub(crate) gone: bool,
    pub(crate) lag_us: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Channel {
    pub(crate) rows: Vec<(u64, usize)>,
    stored: HashSet<usize>,
    /// Everything of it in the log, in order.
    log: Vec<(u64, usize)>,
    read: usize,
    pub(crate) head: u64,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    pub(crate) entries: Vec<Entry>,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    order: u64,
    pub(crate) messages: Vec<Message>,
    /// The sums of the texts that the store has.
    pub(crate) texts: Vec<u32>,
    /// Those that went over the bus; others come from the store alone.
    pub(crate) published: HashSet<usize>,
    pub(crate) log: Vec<Vec<Option<usize>>>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) devices: Vec<Device>,
    /// By device and channel.
    pub(crate) listeners: Vec<Listener>,
    /// The streams that their users left, or were removed from.
    pub(crate) out: HashSet<usize>,
    /// Users and channels.
    pub(crate) removed: HashSet<(usize, usize)>,
    pub(crate) store_away: bool,
    pub(crate) last_op: u64,
    /// The last message of each channel that some device has.
    pub(crate) answerable: Vec<Option<usize>>,
    pub(crate) marked: u64,
}

pub(crate) fn device_name(device: usize) -> String {
    format!("reader-{}.{}", device / 2, device % 2)
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let devices = (0..DEVICES).map(|i| Device {
            user: READERS + i / 2,
            connection: 0,
            up: false,
            gone: false,
            lag_us: 20 + dice.below(80),
        });
        let devices = devices.collect();
        let ordered = |stream: usize| (stream / CHANNELS).is_multiple_of(2);
        let listeners = (0..DEVICES * CHANNELS).map(|stream| Listener::new(ordered(stream)));
        Self {
            dice,
            now: 0,
            entries: Vec::new(),
            due: BinaryHeap::new(),
            order: 0,
            messages: Vec::new(),
            texts: Vec::new(),
            published: HashSet::new(),
            log: vec![Vec::new(); PARTITIONS],
            channels: (0..CHANNELS).map(|_| Channel::default()).collect(),
            devices,
            listeners: listeners.collect(),
            out: HashSet::new(),
            removed: HashSet::new(),
            store_away: false,
            last_op: 0,
            answerable: vec![None; CHANNELS],
            marked: 0,
        }
    }

    pub(crate) fn say(&mut self, event: Event) {
        self.say_at(self.now, event);
    }

    pub(crate) fn say_at(&mut self, at_us: u64, event: Event) {
        self.entries.push(Entry { at_us, event });
    }

    pub(crate) fn phase(&mut self, phase: Phase) {
        self.say(Event::Phase(phase));
    }

    pub(crate) fn after(&mut self, us: u64, due: Due) {
        self.order += 1;
        self.due.push(Reverse((self.now + us, self.order, due)));
    }

    /// Lets everything happen that is due until a moment, and goes on to that.
    pub(crate) fn run_until(&mut self, at: u64) {
        while self.due.peek().is_some_and(|Reverse((due, ..))| *due <= at) {
            let Reverse((due_at, _, due)) = self.due.pop().expect("it was there");
            self.now = due_at;
            self.happen(due);
        }
        self.now = at;
    }

    pub(crate) fn idle(&self) -> bool {
        self.due.is_empty()
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Append {
                op,
                message,
                publish,
            } => self.append(op, message, publish),
            Due::Publish { message, seq } => self.publish(message, seq),
            Due::Live {
                stream,
                connection,
                message,
                seq,
            } => {
                if self.connected(stream, connection) {
                    self.listeners[stream].message(seq, message);
                    self.flush(stream);
                }
            }
            Due::Answer { op, seq } => self.say(Event::Ok {
                op,
                seq: seq.map(Seq),
            }),
            Due::Commit { channel } => self.commit(channel),
            Due::Announce {
                stream,
                connection,
                through,
            } => {
                if self.connected(stream, connection) {
                    let rows = &self.channels[stream % CHANNELS].rows;
                    self.listeners[stream].stored(through, rows);
                    self.flush(stream);
                }
            }
            Due::Open { device } => self.open(device),
            Due::Rejoin { stream, fresh } => self.rejoin(stream, fresh),
            Due::Attach { stream } => {
                let rows = &self.channels[stream % CHANNELS].rows;
                self.listeners[stream].attach(rows);
                self.flush(stream);
            }
            Due::Ask {
                op,
                user,
                channel,
                remove,
            } => self.say(Event::MembershipAsked {
                op,
                channel: names::channel(channel),
                user: names::user(user),
                change: if remove { Change::Remove } else { Change::Add },
            }),
            Due::Removed { op, user, channel } => {
                self.evict(user, channel);
                self.say(Event::MembershipAnswered { op, done: true });
            }
            Due::Readded { op, user, channel } => {
                self.say(Event::MembershipAnswered { op, done: true });
                self.removed.remove(&(user, channel));
                for stream in self.streams_of(user, channel) {
                    self.after(
                        1_000,
                        Due::Rejoin {
                            stream,
                            fresh: false,
                        },
                    );
                }
            }
            Due::Act { step } => self.act(step),
        }
    }

    fn connected(&self, stream: usize, connection: u64) -> bool {
        let device = &self.devices[stream / CHANNELS];
        device.up && device.connection == connection
    }

    pub(crate) fn streams_of(&self, user: usize, channel: usize) -> Vec<usize> {
        let devices = (0..DEVICES).filter(|d| self.devices[*d].user == user);
        devices.map(|d| d * CHANNELS + channel).collect()
    }

    // --- the log, the bus, the store

    fn append(&mut self, op: u64, message: usize, publish: bool) {
        let channel = self.messages[message].channel;
        let partition = &mut self.log[channel % PARTITIONS];
        partition.push(Some(message));
        let seq = partition.len() as u64 + BASE;
        self.channels[channel].log.push((seq, message));
        if publish {
            let late = self.dice.below(3_000);
            self.after(late, Due::Publish { message, seq });
            if op != 0 {
                let wait = self.dice.below(3_000);
                self.after(wait, Due::Answer { op, seq: Some(seq) });
            }
        } else if op != 0 {
            self.after(500, Due::Answer { op, seq: None });
        }
        let wait = 4_000 + self.dice.below(20_000);
        self.after(wait, Due::Commit { channel });
    }

    /// Every stream has the messages in the order of their publishing, each after its own time;
    /// some are lost on the way.
    fn publish(&mut self, message: usize, seq: u64) {
        let channel = self.messages[message].channel;
        self.published.insert(message);
        if self.messages[message].kind.is_message() {
            self.answerable[channel] = Some(message);
        }
        for device in 0..DEVICES {
            if !self.dice.percent(7) {
                let connection = self.devices[device].connection;
                let stream = device * CHANNELS + channel;
                let due = Due::Live {
                    stream,
                    connection,
                    message,
                    seq,
                };
                self.after(300 + 100 * device as u64, due);
            }
        }
    }

    fn commit(&mut self, channel: usize) {
        if self.store_away {
            self.after(20_000, Due::Commit { channel });
            return;
        }
        let it = &mut self.channels[channel];
        let mut new = Vec::new();
        for (seq, message) in &it.log[it.read..] {
            if it.stored.insert(*message) {
                it.rows.push((*seq, *message));
                new.push(*message);
            }
            it.head = *seq;
        }
        it.read = it.log.len();
        for message in new {
            self.apply(message);
        }
        self.announce(channel, 10);
    }

    /// Tells every stream of the channel's head; some do not hear it.
    pub(crate) fn announce(&mut self, channel: usize, lost_percent: u64) {
        let through = self.channels[channel].head;
        for device in 0..DEVICES {
            let stream = device * CHANNELS + channel;
            if !self.listeners[stream].knows_horizon() {
                self.listeners[stream].resolve(through);
                self.flush(stream);
            }
            if !self.dice.percent(lost_percent) {
                let connection = self.devices[device].connection;
                let due = Due::Announce {
                    stream,
                    connection,
                    through,
                };
                self.after(300 + 100 * device as u64, due);
            }
        }
    }
}
