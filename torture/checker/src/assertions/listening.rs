//! The stretches of seqs that a device is owed in a channel.
//!
//! A span begins at a join, above its join point, see [`super::point`]. It goes over reconnects
//! that resume. It ends where the device leaves or is evicted, where a join says `recovered:false`
//! and where one asks without a cursor. A join that is answered when its device has left already
//! begins none: what the server sends then is no less right, but nobody is owed it.
//!
//! What was handed on counts per listening: from a join until the client crate forgets the channel,
//! see [`Memory`].

use crate::index::{Fact, Index, NEVER, Stream, What};

use super::{memberships::Memberships, point::Point};

/// What a client had on the wire when its application left may die in its queues: within this it
/// has certainly been handed on.
const IN_CLIENT_US: u64 = 500_000;

/// Whether the client crate still knows what it has given. It forgets a channel when the
/// application leaves, and when a join is refused for good, which is recorded as an eviction while
/// a join is asked. It does not over a cut connection, nor when the server evicts it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    asked: bool,
    forgotten: bool,
    /// The application left while its join was asked: the answer that follows is to nobody.
    overtaken: bool,
}

impl Memory {
    /// Takes note of a fact; true for a join that begins a new listening.
    pub(super) fn is_new(&mut self, fact: &Fact) -> bool {
        match fact.what {
            What::Asked => {
                self.asked = true;
                self.overtaken = false;
            }
            What::Left { evicted } => {
                self.forgotten |= !evicted || self.asked;
                self.overtaken = !evicted && self.asked;
                self.asked = false;
            }
            What::Joined(_) if self.overtaken => {}
            What::Joined(_) => {
                self.asked = false;
                return std::mem::take(&mut self.forgotten);
            }
            _ => {}
        }
        false
    }

    /// Whether a join is asked that was not answered: what is told meanwhile is told of the join that
    /// it replaces, by the client or by the edge itself, and no client takes it (docs/PROTOCOL.md, "The
    /// client's cursor").
    fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether an answer to a join comes to nobody now, and with it what the server sends until it
    /// hears of the leave.
    fn is_overtaken(&self) -> bool {
        self.overtaken
    }
}

/// A stretch that a device is owed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Above this, if anybody ever knew.
    point: Point,
    /// Through this it must have been handed everything, whatever came later: the last `synced`
    /// where the device stayed, that of [`IN_CLIENT_US`] earlier where it went away by itself.
    pub(super) settled: u64,
    /// The last `synced`; the start before there was one.
    pub(super) synced: u64,
    /// When that came first.
    pub(super) synced_at: u64,
    /// When the last join was answered, and on which connection.
    pub(super) joined: u64,
    pub(super) connection: u32,
    /// It was not ended by anything the device saw.
    pub(super) open: bool,
}

impl Span {
    /// Above this it is owed everything; `None` if nobody ever knew.
    pub(super) fn start(&self) -> Option<u64> {
        self.point.get()
    }

    fn told(&mut self, fact: &Fact) {
        self.point.learn(fact);
        if let What::Synced(seq) = fact.what
            && seq > self.synced
        {
            self.synced = seq;
            self.synced_at = fact.at;
        }
    }
}

/// What a device was handed in a listening.
#[derive(Debug)]
pub(super) struct Had {
    marks: Vec<u32>,
    given: Vec<u64>,
    seqs: Vec<u64>,
    now: u32,
}

impl Had {
    fn new(messages: usize) -> Self {
        Self {
            marks: vec![0; messages],
            given: vec![NEVER; messages],
            seqs: vec![0; messages],
            now: 0,
        }
    }

    fn give(&mut self, message: u32, at: u64, seq: u64) {
        let i = message as usize;
        if self.marks[i] != self.now {
            self.marks[i] = self.now;
            self.given[i] = at;
            self.seqs[i] = seq;
        }
    }

    /// What was not given cannot be moved.
    fn moved(&mut self, message: u32, seq: u64) {
        let i = message as usize;
        if self.marks[i] == self.now {
            self.seqs[i] = seq;
        }
    }

    /// When a message was handed on; `None` if it was not.
    pub(super) fn given(&self, message: u32) -> Option<u64> {
        let i = message as usize;
        (self.marks[i] == self.now).then(|| self.given[i])
    }

    /// The seq that the device knows it by.
    pub(super) fn seq(&self, message: u32) -> u64 {
        self.seqs[message as usize]
    }
}

/// Visits every span of every stream, with what was handed on in its listening.
pub(super) fn spans(index: &Index, mut visit: impl FnMut(&Stream, &Span, &Had)) {
    let mut had = Had::new(index.messages.len());
    let mut done: Vec<Span> = Vec::new();
    for stream in &index.streams {
        had.now += 1;
        done.clear();
        let mut span: Option<Span> = None;
        // Of the span at hand.
        let mut taken = Vec::new();
        let mut memory = Memory::default();
        for fact in &stream.facts {
            if memory.is_new(fact) {
                // What the application had before does not count for what it asks now.
                done.drain(..).for_each(|span| visit(stream, &span, &had));
                had.now += 1;
            }
            match fact.what {
                What::Joined(_) if memory.is_overtaken() => {}
                What::Joined(join) => {
                    let join = stream.joins[join as usize];
                    match &mut span {
                        Some(span) if join.goes_on() && span.start().is_some() => {
                            // Who is cut while the final reads go on was there when they began.
                            if fact.at <= index.finally() {
                                span.joined = fact.at;
                                span.connection = fact.connection;
                            }
                        }
                        _ => {
                            done.extend(span.take().map(closed));
                            taken.clear();
                            let point = Point::of(&join);
                            span = Some(Span {
                                point,
                                settled: NEVER,
                                synced: point.get().unwrap_or(0),
                                synced_at: fact.at,
                                joined: fact.at,
                                connection: fact.connection,
                                open: true,
                            });
                        }
                    }
                }
                What::Left { evicted } => {
                    let mut left = span.take().map(closed);
                    if let (Some(left), false) = (&mut left, evicted) {
                        left.settled = settled(&taken, fact.at, left);
                    }
                    done.extend(left);
                }
                What::Replay(_) | What::Synced(_) => {
                    if let Some(span) = &mut span
                        && !memory.is_asked()
                    {
                        span.told(fact);
                        if let What::Synced(seq) = fact.what {
                            taken.push((fact.at, seq));
                        }
                    }
                }
                What::Given { message, seq, .. } => had.give(message, fact.at, seq),
                What::Moved { message, seq } => had.moved(message, seq),
                What::Asked | What::Wire { .. } => {}
            }
        }
        if let Some(span) = &mut span {
            let gone = index.devices[stream.device as usize].closed(span.connection);
            if gone <= index.finally() {
                span.settled = settled(&taken, gone, span);
            } else {
                span.settled = span.synced;
            }
        }
        done.extend(span);
        done.drain(..).for_each(|span| visit(stream, &span, &had));
    }
}

fn closed(span: Span) -> Span {
    Span {
        open: false,
        settled: span.synced,
        ..span
    }
}

/// The last `synced` of a span that came in time before its device went away: of `taken`, when each
/// was taken and what it said.
fn settled(taken: &[(u64, u64)], gone: u64, span: &Span) -> u64 {
    let start = span.start().unwrap_or(0);
    let in_time = |(at, _): &&(u64, u64)| at + IN_CLIENT_US <= gone;
    let last = taken.iter().rev().find(in_time);
    last.map_or(start, |(_, seq)| *seq.max(&start))
}

/// Whether a device still listens when the final reads begin: its span is open, it is connected
/// (even if it has not joined again there), and nobody removed its user.
pub(super) fn to_the_end(
    index: &Index,
    members: &Memberships,
    stream: &Stream,
    span: &Span,
) -> bool {
    let device = &index.devices[stream.device as usize];
    span.open
        && device.connected(index.finally()).is_some()
        && members.at_end(stream.channel, device.user)
}
