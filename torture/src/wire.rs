//! What a client's socket carried, as events of the history.

use std::collections::{HashMap, HashSet};

use hubbub_checker::{
    Event,
    history::{Cursor, Device, Kind, Record},
};
use hubbub_client::{Change, WireEvent};
use hubbub_protocol::{
    Body, ChannelId, ChannelLetter, ClientFrame, ErrorBody, JoinReply, MessageReply, Outcome,
    RequestId, Seq, ServerFrame, UserId,
};

use crate::{ledger::What, message, writer::Message};

/// One device's side of the wire: which request is which, over its connections. No I/O.
#[derive(Debug)]
pub struct WireLog {
    device: Device,
    user: UserId,
    /// Connections of the device's clients before this one.
    before: u64,
    connection: u64,
    /// The connection has said hello and not ended.
    open: bool,
    pending: HashMap<RequestId, Pending>,
    /// Channels that the application has left, and no join was written since.
    left: HashSet<ChannelId>,
    /// Direct channels that its client listens to.
    direct: HashSet<ChannelId>,
}

#[derive(Debug)]
enum Pending {
    Join {
        channel: ChannelId,
        since: Option<Seq>,
        ordered: bool,
    },
    Send {
        op: u64,
    },
    Mark {
        op: u64,
    },
}

impl WireLog {
    /// Of a device that has not connected yet.
    #[must_use]
    pub fn new(device: Device, user: UserId) -> Self {
        Self {
            device,
            user,
            before: 0,
            connection: 0,
            open: false,
            pending: HashMap::new(),
            left: HashSet::new(),
            direct: HashSet::new(),
        }
    }

    /// The device has another client, whose connections count from 1 again.
    pub fn another_client(&mut self) {
        self.before = self.connection;
        self.direct.clear();
    }

    /// The application says that it listens no more.
    #[must_use]
    pub fn leave(&mut self, channel: ChannelId) -> Event {
        self.left.insert(channel);
        self.left_event(channel)
    }

    /// The client says that it listens no more: worth a line if it has said so by itself, or has
    /// joined again on a new connection before it took the application's word.
    #[must_use]
    pub fn gone(&mut self, channel: ChannelId) -> Option<Event> {
        self.direct.remove(&channel);
        let known = self.left.remove(&channel);
        (!known).then(|| self.left_event(channel))
    }

    fn left_event(&self, channel: ChannelId) -> Event {
        Event::Left {
            device: self.device.clone(),
            connection: self.connection,
            channel,
            evicted: false,
        }
    }

    /// Takes what the client saw; `next_op` numbers attempts, `record` gets the events.
    pub fn on(
        &mut self,
        connection: u64,
        event: WireEvent<'_>,
        next_op: &mut dyn FnMut() -> u64,
        record: &mut dyn FnMut(Event),
    ) {
        match event {
            WireEvent::Opened => {
                self.connection = self.before + connection;
                self.pending.clear();
            }
            WireEvent::In(text) => self.on_in(text, record),
            WireEvent::Out(text) => self.on_out(text, next_op, record),
            WireEvent::Closed(code) => self.on_closed(code, record),
        }
    }

    fn on_in(&mut self, text: &str, record: &mut dyn FnMut(Event)) {
        let (device, connection) = (self.device.clone(), self.connection);
        // What cannot be read is no evidence for anything; the checker misses what it was.
        let Ok(frame) = ServerFrame::decode(text) else {
            return;
        };
        match frame {
            ServerFrame::Hello(hello) => {
                self.open = true;
                record(Event::Opened {
                    device,
                    user: hello.user,
                    connection,
                    pod: hello.pod.to_string(),
                });
            }
            ServerFrame::Record { seq, body } => record(Event::Wire {
                device,
                connection,
                record: record_of(seq, &body),
            }),
            ServerFrame::Replay { channel, since } => record(Event::Replay {
                device,
                connection,
                channel,
                since,
            }),
            ServerFrame::Synced { channel, seq } => record(Event::Synced {
                device,
                connection,
                channel,
                seq,
            }),
            ServerFrame::Left { channel } => record(Event::Left {
                device,
                connection,
                channel,
                evicted: true,
            }),
            ServerFrame::Reply { reply_to, result } => {
                let pending = reply_to.and_then(|id| self.pending.remove(&id));
                match pending {
                    Some(Pending::Send { op }) => record(answer(op, result)),
                    Some(Pending::Mark { op }) if result.is_ok() => {
                        record(Event::MarkAnswered { op });
                    }
                    Some(Pending::Mark { .. }) | None => {}
                    Some(Pending::Join {
                        channel,
                        since,
                        ordered,
                    }) => {
                        let reply = result.ok().and_then(|t| serde_json::from_str(&t).ok());
                        if let Some(JoinReply {
                            head, recovered, ..
                        }) = reply
                        {
                            record(Event::Joined {
                                device,
                                connection,
                                channel,
                                since,
                                head,
                                recovered,
                                ordered,
                            });
                        }
                    }
                }
            }
            ServerFrame::Joined(joined) => self.on_direct(joined, record),
            ServerFrame::Pong
            | ServerFrame::Goodbye(_)
            | ServerFrame::Receipt(_)
            | ServerFrame::Typing(_)
            | ServerFrame::Added { .. }
            | ServerFrame::Presence(_)
            | ServerFrame::Unknown(_) => {}
        }
    }

    /// The server has joined the device to a direct channel. Its client takes that for a join the
    /// first time, and from then on asks by itself, with its cursor.
    fn on_direct(&mut self, joined: hubbub_protocol::Joined, record: &mut dyn FnMut(Event)) {
        let channel = joined.channel;
        if let Some(with) = joined.with {
            record(Event::Direct {
                user: self.user,
                with,
                channel,
            });
        }
        if self.direct.insert(channel) {
            record(Event::Joined {
                device: self.device.clone(),
                connection: self.connection,
                channel,
                since: None,
                head: joined.head,
                recovered: true,
                ordered: false,
            });
        }
    }

    fn on_out(
        &mut self,
        text: &str,
        next_op: &mut dyn FnMut() -> u64,
        record: &mut dyn FnMut(Event),
    ) {
        let (device, connection) = (self.device.clone(), self.connection);
        let Ok((Some(id), frame)) = ClientFrame::decode(text) else {
            return;
        };
        match frame {
            ClientFrame::Join {
                channel,
                since,
                ordered,
            } => {
                let pending = Pending::Join {
                    channel,
                    since,
                    ordered,
                };
                self.pending.insert(id, pending);
                self.left.remove(&channel);
                record(Event::JoinAsked {
                    device,
                    connection,
                    channel,
                    since,
                    ordered,
                });
            }
            // Noted when the application said it: nothing is handed on from then on, and the frame
            // may be held back until the next connection.
            ClientFrame::Leave { .. }
            | ClientFrame::Typing { .. }
            | ClientFrame::Presence { .. }
            | ClientFrame::Watch { .. }
            | ClientFrame::Ping => {}
            // Of direct channels alone: in the others every device marks all the time.
            ClientFrame::Mark(mark) if mark.channel.letter == ChannelLetter::Direct => {
                let op = next_op();
                self.pending.insert(id, Pending::Mark { op });
                record(Event::MarkAsked {
                    op,
                    channel: mark.channel,
                    cursor: Cursor {
                        of: device,
                        delivered: mark.delivered.unwrap_or_default(),
                        read: mark.read.unwrap_or_default(),
                    },
                    waits: false,
                });
            }
            ClientFrame::Mark(_) => {}
            frame @ (ClientFrame::Message(_)
            | ClientFrame::Edit(_)
            | ClientFrame::Delete(_)
            | ClientFrame::Reaction(_)) => {
                if let Some((message, retry)) = brought(frame) {
                    let op = next_op();
                    self.pending.insert(id, Pending::Send { op });
                    record(invoke(op, self.user, &message, retry));
                }
            }
        }
    }

    fn on_closed(&mut self, code: Option<u16>, record: &mut dyn FnMut(Event)) {
        let mut lost: Vec<u64> = Vec::new();
        for (_, pending) in self.pending.drain() {
            if let Pending::Send { op } = pending {
                lost.push(op);
            }
        }
        lost.sort_unstable();
        for op in lost {
            let code = "connection_lost".to_owned();
            record(Event::Unknown { op, code });
        }
        if std::mem::take(&mut self.open) {
            record(Event::Closed {
                device: self.device.clone(),
                connection: self.connection,
                code,
            });
        }
    }
}

/// What a change is and says, as it is sent.
#[must_use]
pub fn what(change: &Change) -> What {
    let (text, kind) = match change {
        Change::Message { text, thread } => {
            (text.as_str(), thread.map_or(Kind::Message, Kind::Reply))
        }
        Change::Edit { target, text } => (text.as_str(), Kind::Edit(*target)),
        Change::Delete { target } => ("", Kind::Delete(*target)),
        Change::React {
            target,
            reaction,
            remove: false,
        } => (reaction.as_str(), Kind::React(*target)),
        Change::React {
            target, reaction, ..
        } => (reaction.as_str(), Kind::Unreact(*target)),
    };
    let sum = message::sum(text);
    What { sum, kind }
}

/// The beginning of an attempt.
#[must_use]
pub fn invoke(op: u64, user: UserId, message: &Message, retry: bool) -> Event {
    let What { sum, kind } = what(&message.change);
    let answers = match &message.change {
        Change::Message { text, .. } => message::answers(text),
        _ => None,
    };
    Event::Invoke {
        op,
        record: Record {
            channel: message.channel,
            seq: Seq::ZERO,
            user,
            id: message.id,
            sum,
            kind,
        },
        answers,
        retry,
    }
}

/// What a request brings into the log, and whether it says that it is a resend; `None` for any
/// other, and for one without an id of its own, which nothing in this suite sends.
fn brought(frame: ClientFrame) -> Option<(Message, bool)> {
    let (channel, id, retry, change) = match frame {
        ClientFrame::Message(it) => {
            let (text, thread) = (it.text, it.thread);
            let change = Change::Message { text, thread };
            (it.channel, it.client_msg_id, it.retry, change)
        }
        ClientFrame::Edit(it) => {
            let (target, text) = (it.target, it.text);
            let change = Change::Edit { target, text };
            (it.channel, it.client_msg_id, it.retry, change)
        }
        ClientFrame::Delete(it) => {
            let change = Change::Delete { target: it.target };
            (it.channel, it.client_msg_id, it.retry, change)
        }
        ClientFrame::Reaction(it) => {
            let change = Change::React {
                target: it.target,
                reaction: it.reaction,
                remove: it.remove,
            };
            (it.channel, it.client_msg_id, it.retry, change)
        }
        _ => return None,
    };
    let id = id?;
    let message = Message {
        channel,
        id,
        change,
    };
    Some((message, retry))
}

/// The end of an attempt, by its reply. What is not said to be rejected is unknown (P2).
#[must_use]
pub fn answer(op: u64, result: Result<Box<str>, ErrorBody>) -> Event {
    match result {
        Ok(text) => match serde_json::from_str::<MessageReply>(&text) {
            Ok(reply) => Event::Ok { op, seq: reply.seq },
            Err(_) => Event::Unknown {
                op,
                code: "unreadable_reply".to_owned(),
            },
        },
        Err(error) => {
            let code = error.code.as_str().to_owned();
            match error.outcome {
                Some(Outcome::Rejected) => Event::Rejected { op, code },
                _ => Event::Unknown { op, code },
            }
        }
    }
}

/// A record as the history has it.
#[must_use]
pub fn record_of(seq: Seq, body: &Body) -> Record {
    let key = body.key();
    let (text, kind) = match body {
        Body::Message { text, thread, .. } => {
            (text.as_str(), thread.map_or(Kind::Message, Kind::Reply))
        }
        Body::MessageChanged { target, text, .. } => (text.as_str(), Kind::Edit(*target)),
        Body::MessageDeleted { target, .. } => ("", Kind::Delete(*target)),
        Body::ReactionAdded {
            target, reaction, ..
        } => (reaction.as_str(), Kind::React(*target)),
        Body::ReactionRemoved {
            target, reaction, ..
        } => (reaction.as_str(), Kind::Unreact(*target)),
        Body::IdentityChange { .. } => ("", Kind::Identity),
        Body::MemberJoined { .. } | Body::MemberLeft { .. } => ("", Kind::Other),
    };
    let sum = message::sum(text);
    Record {
        channel: body.channel(),
        seq,
        user: key.user,
        id: key.message_id,
        sum,
        kind,
    }
}

#[cfg(test)]
mod tests;
