//! What devices do, and what a recorder sees of it.

use hubbub_checker::{
    Event,
    history::{Cursor, Delivery, Via},
};
use hubbub_protocol::Seq;

use crate::{
    due::Due,
    feed::{Line, Reply},
    names,
    world::{CHANNELS, World, device_name},
};

impl World {
    pub(crate) fn open(&mut self, device: usize) {
        let it = &mut self.devices[device];
        if it.gone || it.up {
            return;
        }
        it.connection += 1;
        it.up = true;
        let opened = Event::Opened {
            device: device_name(device),
            user: names::user(it.user),
            connection: it.connection,
            pod: format!("edge-{}", it.connection % 3 + 1),
        };
        self.say(opened);
        for stream in device * CHANNELS..(device + 1) * CHANNELS {
            if !self.out.contains(&stream) && !is_stranger(stream) {
                self.join(stream);
            }
        }
    }

    pub(crate) fn close(&mut self, device: usize) {
        let it = &mut self.devices[device];
        if !it.up {
            return;
        }
        it.up = false;
        let connection = it.connection;
        for stream in device * CHANNELS..(device + 1) * CHANNELS {
            self.listeners[stream].cut();
        }
        self.say(Event::Closed {
            device: device_name(device),
            connection,
            code: None,
        });
    }

    pub(crate) fn join(&mut self, stream: usize) {
        let (device, number) = (stream / CHANNELS, stream % CHANNELS);
        let connection = self.devices[device].connection;
        let listener = &mut self.listeners[stream];
        let channel = &self.channels[number];
        let reply = if self.store_away {
            let knows = self.dice.percent(50);
            listener.join_without_store(knows.then_some(channel.head))
        } else {
            listener.join(channel.head, &channel.rows)
        };
        let ordered = listener.ordered;
        let Reply {
            since,
            head,
            recovered,
        } = reply;
        let joined = Event::Joined {
            device: device_name(device),
            connection,
            channel: names::channel(number),
            since: since.map(Seq),
            head: head.map(Seq),
            recovered,
            ordered,
        };
        self.say(Event::JoinAsked {
            device: device_name(device),
            connection,
            channel: names::channel(number),
            since: since.map(Seq),
            ordered,
        });
        if self.dice.percent(4) {
            self.leave_meanwhile(stream, joined);
            return;
        }
        self.say(joined);
        self.flush(stream);
    }

    /// The application leaves before its join is answered. The server has not heard of it yet and
    /// sends all that was asked; the client hands nothing of it on.
    fn leave_meanwhile(&mut self, stream: usize, joined: Event) {
        self.out.insert(stream);
        self.left(stream, false);
        self.say(joined);
        let mut lines = self.listeners[stream].take();
        lines.retain(|line| !matches!(line, Line::Given { .. } | Line::Moved { .. }));
        self.listeners[stream].forget();
        self.write(stream, lines);
        let fresh = self.dice.percent(50);
        self.after(20_000, Due::Rejoin { stream, fresh });
    }

    pub(crate) fn left(&mut self, stream: usize, evicted: bool) {
        let device = stream / CHANNELS;
        self.say(Event::Left {
            device: device_name(device),
            connection: self.devices[device].connection,
            channel: names::channel(stream % CHANNELS),
            evicted,
        });
    }

    pub(crate) fn rejoin(&mut self, stream: usize, fresh: bool) {
        let device = &self.devices[stream / CHANNELS];
        let key = (device.user, stream % CHANNELS);
        let up = device.up;
        if is_stranger(stream) || self.removed.contains(&key) || !self.out.remove(&stream) {
            return;
        }
        if fresh {
            self.listeners[stream].forget_cursor();
        }
        if up {
            self.join(stream);
        }
    }

    pub(crate) fn evict(&mut self, user: usize, channel: usize) {
        self.removed.insert((user, channel));
        for stream in self.streams_of(user, channel) {
            if self.out.insert(stream) {
                self.listeners[stream].cut();
                self.left(stream, true);
            }
        }
    }

    /// Writes down what a stream did.
    pub(crate) fn flush(&mut self, stream: usize) {
        let lines = self.listeners[stream].take();
        self.write(stream, lines);
    }

    fn write(&mut self, stream: usize, lines: Vec<Line>) {
        let (device, channel) = (stream / CHANNELS, names::channel(stream % CHANNELS));
        let (connection, lag) = (self.devices[device].connection, self.devices[device].lag_us);
        for line in lines {
            let name = device_name(device);
            let record = |message: usize, seq| names::record(message, &self.messages[message], seq);
            let as_it_is = |message: usize, seq, stored| {
                let mut record = record(message, seq);
                if stored {
                    record.sum = self.texts[message];
                }
                record
            };
            let (wait, event) = match line {
                Line::Wire {
                    message,
                    seq,
                    stored,
                } => {
                    let record = as_it_is(message, seq, stored);
                    (
                        0,
                        Event::Wire {
                            device: name,
                            connection,
                            record,
                        },
                    )
                }
                Line::Replay(since) => {
                    let since = Seq(since);
                    (
                        0,
                        Event::Replay {
                            device: name,
                            connection,
                            channel,
                            since,
                        },
                    )
                }
                Line::Synced(seq) => {
                    let seq = Seq(seq);
                    (
                        0,
                        Event::Synced {
                            device: name,
                            connection,
                            channel,
                            seq,
                        },
                    )
                }
                Line::Given {
                    message,
                    seq,
                    stored,
                    catch_up,
                } => {
                    let via = if catch_up { Via::CatchUp } else { Via::Live };
                    let record = as_it_is(message, seq, stored);
                    (
                        lag,
                        Event::Given {
                            device: name,
                            record,
                            via,
                        },
                    )
                }
                Line::Moved { message, seq, from } => {
                    let record = record(message, seq);
                    let from = Seq(from);
                    (
                        lag,
                        Event::Moved {
                            device: name,
                            record,
                            from,
                        },
                    )
                }
            };
            let at = self.now + wait;
            if let (0, Line::Given { seq, .. }) = (stream, line) {
                self.status(at, seq);
            }
            self.say_at(at, event);
        }
    }

    /// The first device marks what it was given, and reads it one message later; in between it
    /// says the older mark once more. A writer hears of it, and asks itself.
    fn status(&mut self, at: u64, seq: u64) {
        let read = std::mem::replace(&mut self.marked, seq);
        for (wait, delivered) in [(100, seq), (200, read)] {
            self.last_op += 1;
            let op = self.last_op;
            self.say_at(
                at + wait,
                Event::MarkAsked {
                    op,
                    channel: names::channel(0),
                    cursor: cursor(delivered, read),
                    waits: true,
                },
            );
            self.say_at(at + wait + 300, Event::MarkAnswered { op });
        }
        self.say_at(
            at + 1_000,
            Event::Status {
                device: WRITER.to_owned(),
                channel: names::channel(0),
                of: device_name(0),
                delivered: Seq(seq),
                read: Seq(read),
            },
        );
        for (wait, delivery) in [
            (50, Delivery::Sent),
            (1_100, Delivery::Delivered),
            (1_200, Delivery::Delivered),
        ] {
            self.say_at(
                at + wait,
                Event::Told {
                    asker: WRITER.to_owned(),
                    channel: names::channel(0),
                    seq: Seq(seq),
                    devices: vec![(device_name(0), delivery)],
                },
            );
        }
    }

    /// How far the first device came, as everybody shows it in the end.
    pub(crate) fn cursors(&mut self) {
        let marks = self.entries.iter().filter_map(|entry| match &entry.event {
            Event::MarkAsked { cursor, .. } => Some(cursor),
            _ => None,
        });
        let highest = marks.fold((0, 0), |(delivered, read), cursor| {
            (cursor.delivered.0.max(delivered), cursor.read.0.max(read))
        });
        for server in ["api-1", "sql"] {
            self.say(Event::Cursors {
                server: server.to_owned(),
                channel: names::channel(0),
                cursors: vec![cursor(highest.0, highest.1)],
            });
        }
    }
}

/// Who hears of the first device's marks.
const WRITER: &str = "writer-0.0";

/// The last channel is that of the first two readers alone.
pub(crate) fn is_stranger(stream: usize) -> bool {
    stream % CHANNELS == CHANNELS - 1 && stream / CHANNELS >= 4
}

fn cursor(delivered: u64, read: u64) -> Cursor {
    Cursor {
        of: device_name(0),
        delivered: Seq(delivered),
        read: Seq(read),
    }
}
