//! The one pass over a history.

use std::collections::HashMap;

use hubbub_protocol::{ChannelId, MessageId};

use crate::{
    Entry, Event,
    history::{Record, Via},
};

use super::{
    Index,
    facts::{
        Attempt, Connection, Corrupt, Counts, Cursor, Device, Direct, Fact, Gauge, Join, LogLine,
        Logged, Looked, Mark, Membership, Message, NEVER, NONE, Outcome, Page, Row, Seen, Shown,
        Status, Stream, Told, What,
    },
    finish::finish,
};

/// The index while it grows, with what is needed only until then.
#[derive(Debug, Default)]
pub(super) struct Builder {
    index: Index,
    message_numbers: HashMap<(u32, u32, MessageId), u32>,
    attempt_numbers: HashMap<u64, u32>,
    membership_numbers: HashMap<u64, u32>,
    mark_numbers: HashMap<u64, u32>,
    /// Answers: who, and what by its id alone, since a writer names no user.
    answers: Vec<(u32, MessageId)>,
}

impl Builder {
    pub(super) fn entry(&mut self, entry: Entry) {
        let at = entry.at_us;
        self.index.entries += 1;
        self.index.end = self.index.end.max(at);
        match entry.event {
            Event::Phase(phase) => self.index.phases.push((phase, at)),
            Event::Invoke {
                op,
                record,
                answers,
                retry,
            } => self.invoke(at, op, &record, answers, retry),
            Event::Ok { op, seq } => {
                let seq = seq.map(|s| s.0);
                self.answered(at, op, Outcome::Ok { seq });
            }
            Event::Rejected { op, .. } => self.answered(at, op, Outcome::Rejected),
            Event::Unknown { op, .. } => self.answered(at, op, Outcome::Unknown),
            Event::Opened {
                device,
                user,
                connection,
                ..
            } => {
                let user = self.index.users.number(&user);
                let device = self.device(&device);
                let device = &mut self.index.devices[device as usize];
                device.user = user;
                device.connections.push(Connection {
                    number: number(connection),
                    opened: at,
                    closed: NEVER,
                });
            }
            Event::Closed {
                device, connection, ..
            } => {
                let device = self.device(&device);
                let number = number(connection);
                let connections = &mut self.index.devices[device as usize].connections;
                if let Some(it) = connections.iter_mut().rev().find(|c| c.number == number) {
                    it.closed = it.closed.min(at);
                }
            }
            Event::JoinAsked {
                device,
                connection,
                channel,
                ..
            } => self.fact(at, &device, connection, channel, What::Asked),
            Event::Joined {
                device,
                connection,
                channel,
                since,
                head,
                recovered,
                ordered,
            } => {
                let stream = self.stream(&device, channel);
                let join = u32::try_from(stream.joins.len()).unwrap_or(NONE);
                stream.joins.push(Join {
                    since: since.map(|s| s.0),
                    head: head.map(|s| s.0),
                    recovered,
                    ordered,
                });
                stream.facts.push(Fact {
                    at,
                    connection: number(connection),
                    what: What::Joined(join),
                });
            }
            Event::Left {
                device,
                connection,
                channel,
                evicted,
            } => self.fact(at, &device, connection, channel, What::Left { evicted }),
            Event::Replay {
                device,
                connection,
                channel,
                since,
            } => self.fact(at, &device, connection, channel, What::Replay(since.0)),
            Event::Synced {
                device,
                connection,
                channel,
                seq,
            } => self.fact(at, &device, connection, channel, What::Synced(seq.0)),
            Event::Wire {
                device,
                connection,
                record,
            } => {
                let message = self.record(at, &record, Seen::OnTheWire);
                let seq = record.seq.0;
                let what = What::Wire { message, seq };
                self.fact(at, &device, connection, record.channel, what);
            }
            Event::Given {
                device,
                record,
                via,
            } => {
                let message = self.record(at, &record, Seen::HandedOn);
                let what = What::Given {
                    message,
                    seq: record.seq.0,
                    catch_up: via == Via::CatchUp,
                };
                self.fact(at, &device, 0, record.channel, what);
            }
            Event::Moved { device, record, .. } => {
                let message = self.record(at, &record, Seen::Moved);
                let seq = record.seq.0;
                self.fact(at, &device, 0, record.channel, What::Moved { message, seq });
            }
            other => self.rest(at, other),
        }
    }

    /// The events that are few, and the final reads.
    fn rest(&mut self, at: u64, event: Event) {
        match event {
            Event::MembershipAsked {
                op,
                channel,
                user,
                change,
            } => {
                let it = Membership {
                    channel: self.channel(channel),
                    user: self.index.users.number(&user),
                    change,
                    asked: at,
                    answered: NEVER,
                    done: false,
                };
                let place = u32::try_from(self.index.memberships.len()).unwrap_or(NONE);
                self.membership_numbers.insert(op, place);
                self.index.memberships.push(it);
            }
            Event::MembershipAnswered { op, done } => match self.membership_numbers.get(&op) {
                Some(place) => {
                    let it = &mut self.index.memberships[*place as usize];
                    it.answered = at;
                    it.done = done;
                }
                None => self.index.malformed += 1,
            },
            Event::FaultStarted(fault) => self.index.faults.started(at, fault),
            Event::FaultEnded { number } => self.index.faults.ended(at, number),
            Event::FaultSeen { number, .. } => self.index.faults.seen(number),
            Event::Log {
                partition,
                offset,
                record,
            } => {
                let message = record.map_or(NONE, |r| self.record(at, &r, Seen::InTheLog));
                self.index.log.push(Logged {
                    partition,
                    offset,
                    message,
                    at,
                    dead: false,
                });
            }
            Event::Row { partition, record } => {
                let message = self.record(at, &record, Seen::InTheStore);
                let row = Row {
                    channel: self.channel(record.channel),
                    seq: record.seq.0,
                    message,
                    partition,
                    sum: record.sum,
                    at,
                };
                self.index.rows.push(row);
                let kept = &mut self.index.messages[message as usize].kept;
                if *kept == 0 || row.seq < *kept {
                    *kept = row.seq;
                }
            }
            Event::Page {
                server,
                channel,
                paging,
                limit,
                every,
                entries,
            } => {
                let channel = self.channel(channel);
                self.index.pages.push(Page {
                    at,
                    server,
                    channel,
                    paging,
                    limit,
                    every,
                    entries,
                });
            }
            Event::Counts {
                partition,
                next_offset,
                rows,
                duplicates,
                dead,
            } => self.index.counts.push(Counts {
                at,
                partition,
                next_offset,
                rows,
                duplicates,
                dead,
            }),
            Event::Dead { partition, offset } => self.index.dead.push((partition, offset, at)),
            Event::Gauge {
                process,
                pid,
                name,
                value,
            } => {
                let gauge = Gauge {
                    at,
                    phase: self.index.phases.last().map(|(phase, _)| *phase),
                    process: self.index.processes.number(process.as_str()),
                    pid,
                    name: self.index.gauge_names.number(name.as_str()),
                    value,
                };
                self.index.gauges.push(gauge);
            }
            Event::Looked {
                server,
                there,
                shown,
            } => self.index.looked.push(Looked {
                at,
                server: self.index.processes.number(server.as_str()),
                there,
                shown,
            }),
            Event::Watched { pod, watchers } => {
                let pod = self.index.processes.number(pod.as_str());
                self.index.watched.push((at, pod, watchers));
            }
            Event::Asked { request, answered } => {
                self.index.asked.push((at, request, answered));
            }
            Event::LogLine {
                process,
                level,
                text,
            } => self.index.log_lines.push(LogLine {
                at,
                process,
                level,
                text,
            }),
            Event::Status {
                device,
                channel,
                of,
                delivered,
                read,
            } => {
                let status = Status {
                    at,
                    device: self.device(&device),
                    channel: self.channel(channel),
                    of: self.device(&of),
                    delivered: delivered.0,
                    read: read.0,
                };
                self.index.statuses.push(status);
            }
            other => self.people(at, other),
        }
    }

    /// Direct channels, marks, and what became of messages.
    fn people(&mut self, at: u64, event: Event) {
        match event {
            Event::Direct {
                user,
                with,
                channel,
            } => {
                let direct = Direct {
                    at,
                    user: self.index.users.number(&user),
                    with: self.index.users.number(&with),
                    channel: self.channel(channel),
                };
                self.index.directs.push(direct);
            }
            Event::MarkAsked {
                op,
                channel,
                cursor,
                waits,
            } => {
                let place = u32::try_from(self.index.marks.len()).unwrap_or(NONE);
                self.mark_numbers.insert(op, place);
                let mark = Mark {
                    at,
                    channel: self.channel(channel),
                    of: self.device(&cursor.of),
                    // What was read was delivered.
                    delivered: cursor.delivered.max(cursor.read).0,
                    read: cursor.read.0,
                    answered: NEVER,
                    waits,
                };
                self.index.marks.push(mark);
            }
            Event::MarkAnswered { op } => match self.mark_numbers.get(&op) {
                Some(place) => self.index.marks[*place as usize].answered = at,
                None => self.index.malformed += 1,
            },
            Event::Told {
                asker,
                channel,
                seq,
                devices,
            } => {
                let (asker, channel) = (self.device(&asker), self.channel(channel));
                for (of, delivery) in devices {
                    let of = self.device(&of);
                    self.index.told.push(Told {
                        at,
                        asker,
                        channel,
                        seq: seq.0,
                        of,
                        delivery,
                    });
                }
            }
            Event::Shown {
                server,
                channel,
                seq,
                state,
            } => {
                let shown = Shown {
                    at,
                    server: self.index.processes.number(server.as_str()),
                    channel: self.channel(channel),
                    seq: seq.0,
                    state,
                };
                self.index.shown.push(shown);
            }
            Event::Cursors {
                server,
                channel,
                cursors,
            } => {
                let server = self.index.processes.number(server.as_str());
                let channel = self.channel(channel);
                self.index.cursor_reads.push((server, channel, at));
                for cursor in cursors {
                    let of = self.device(&cursor.of);
                    self.index.cursors.push(Cursor {
                        at,
                        server,
                        channel,
                        of,
                        delivered: cursor.delivered.0,
                        read: cursor.read.0,
                    });
                }
            }
            _ => {}
        }
    }

    fn invoke(
        &mut self,
        at: u64,
        op: u64,
        record: &Record,
        answers: Option<MessageId>,
        retry: bool,
    ) {
        let message = self.record(at, record, Seen::Sent);
        let it = &mut self.index.messages[message as usize];
        it.invoked = it.invoked.min(at);
        it.attempts += 1;
        if let Some(answered) = answers {
            self.answers.push((message, answered));
        }
        let place = u32::try_from(self.index.attempts.len()).unwrap_or(NONE);
        self.attempt_numbers.insert(op, place);
        self.index.attempts.push(Attempt {
            message,
            retry,
            outcome: Outcome::Open,
            answered: NEVER,
        });
    }

    fn answered(&mut self, at: u64, op: u64, outcome: Outcome) {
        let Some(place) = self.attempt_numbers.get(&op) else {
            self.index.malformed += 1;
            return;
        };
        let attempt = &mut self.index.attempts[*place as usize];
        attempt.outcome = outcome;
        attempt.answered = at;
        let message = &mut self.index.messages[attempt.message as usize];
        match outcome {
            Outcome::Ok { .. } => message.acked = message.acked.min(at),
            Outcome::Rejected => message.rejected += 1,
            Outcome::Open | Outcome::Unknown => {}
        }
    }

    fn record(&mut self, at: u64, record: &Record, seen: Seen) -> u32 {
        let channel = self.channel(record.channel);
        let user = self.index.users.number(&record.user);
        self.index.sums += 1;
        let messages = &mut self.index.messages;
        let key = (channel, user, record.id);
        let number = *self.message_numbers.entry(key).or_insert_with(|| {
            let number = u32::try_from(messages.len()).expect("fewer than 2^32 messages");
            messages.push(Message {
                channel,
                user,
                id: record.id,
                sum: record.sum,
                kind: record.kind,
                kept: 0,
                logged: None,
                invoked: NEVER,
                acked: NEVER,
                attempts: 0,
                rejected: 0,
                answers: NONE,
            });
            number
        });
        let message = &messages[number as usize];
        if (message.sum, message.kind) != (record.sum, record.kind) {
            self.index.corrupt.push(Corrupt {
                at,
                message: number,
                sum: record.sum,
                kind: record.kind,
                seen,
            });
        }
        number
    }

    fn channel(&mut self, channel: ChannelId) -> u32 {
        self.index.channels.number(&channel)
    }

    fn device(&mut self, name: &str) -> u32 {
        let number = self.index.device_names.number(name);
        if number as usize == self.index.devices.len() {
            self.index.devices.push(Device {
                user: NONE,
                connections: Vec::new(),
            });
        }
        number
    }

    fn stream(&mut self, device: &str, channel: ChannelId) -> &mut Stream {
        let key = (self.device(device), self.channel(channel));
        let streams = &mut self.index.streams;
        let number = *self.index.stream_numbers.entry(key).or_insert_with(|| {
            let number = u32::try_from(streams.len()).expect("fewer than 2^32 streams");
            streams.push(Stream {
                device: key.0,
                channel: key.1,
                facts: Vec::new(),
                joins: Vec::new(),
            });
            number
        });
        &mut self.index.streams[number as usize]
    }

    fn fact(&mut self, at: u64, device: &str, connection: u64, channel: ChannelId, what: What) {
        let connection = number(connection);
        let fact = Fact {
            at,
            connection,
            what,
        };
        self.stream(device, channel).facts.push(fact);
    }

    /// Everything was read: what refers to what comes later is resolved.
    pub(super) fn finish(mut self) -> Index {
        self.resolve_answers();
        finish(self.index)
    }

    fn resolve_answers(&mut self) {
        let channel = |m: u32| self.index.messages[m as usize].channel;
        let keys = self
            .answers
            .iter()
            .map(|(m, id)| ((channel(*m), *id), NONE));
        let mut wanted: HashMap<(u32, MessageId), u32> = keys.collect();
        for ((channel, _, id), number) in &self.message_numbers {
            if let Some(found) = wanted.get_mut(&(*channel, *id)) {
                *found = (*found).min(*number);
            }
        }
        for (message, id) in &self.answers {
            let it = &mut self.index.messages[*message as usize];
            it.answers = wanted.get(&(it.channel, *id)).copied().unwrap_or(NONE);
        }
    }
}

/// Connections are counted per device: none has 2^32.
fn number(connection: u64) -> u32 {
    u32::try_from(connection).unwrap_or(NONE)
}
