use std::ops::Range;

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;

use super::track::{Seen, Track};
use crate::wire::payload::{Header, Payload};

/// Messages that may wait for their acknowledgement at once.
const IN_FLIGHT: usize = 1 << 20;
/// The longest latency that is told apart, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;

/// What came, of one class of sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Deliveries that the messages sent so far come to.
    pub(super) expected: u64,
    /// Those that came, each counted once.
    pub(super) delivered: u64,
    /// Deliveries that had come before and were not announced as a repetition.
    pub(super) duplicated: u64,
    /// Deliveries that came after a later one of their channel.
    pub(super) misordered: u64,
    /// Deliveries that had come before, after a `replay` frame.
    pub(super) repeated: u64,
}

/// How the channels lie over the sockets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Sockets that receive.
    pub(super) sockets: usize,
    /// Of them, the first so many are slow.
    pub(super) slow: usize,
    /// Channels.
    pub(super) channels: usize,
    /// Channels of a socket: `s·K … s·K+K-1`, modulo the number of channels.
    pub(super) joins: usize,
}

impl Layout {
    /// The channels that a socket joins.
    pub(super) fn joined(self, socket: usize) -> impl Iterator<Item = usize> {
        (0..self.joins).map(move |place| (socket * self.joins + place) % self.channels)
    }

    /// The how manieth of the socket's channels this is.
    fn place(self, socket: usize, channel: usize) -> Option<usize> {
        let first = socket * self.joins % self.channels;
        let place = (channel + self.channels - first) % self.channels;
        (place < self.joins).then_some(place)
    }
}

/// Everything that was sent and everything that came, since the first connection.
#[derive(Debug)]
pub(super) struct Ledger {
    layout: Layout,
    pub(super) payload: Payload,
    /// Messages that were ever sent.
    pub(super) sent: u64,
    /// Per channel, its listeners: brisk ones and slow ones.
    listeners: Vec<[u64; 2]>,
    /// Per socket and channel of it.
    tracks: Vec<Track>,
    /// As `tracks`: the numbers that may come again. A `replay` announces all that had come, each
    /// once and in order, over as many pages as it takes.
    repeats: Vec<Range<u32>>,
    pub(super) brisk: Counts,
    pub(super) slow: Counts,
    pub(super) latency: Histogram<u64>,
    /// Per channel, whose acknowledgements have come. Empty if none are asked for.
    acks: Vec<Track>,
    /// Per channel, how many.
    ack_counts: Vec<u64>,
    pub(super) acked: u64,
    pub(super) acks_duplicated: u64,
    pub(super) ack_latency: Histogram<u64>,
    /// When the message with this index, modulo its length, was to be sent.
    intended: Vec<u64>,
}

impl Ledger {
    /// Of sockets that have nothing yet. `timed` keeps the times of messages whose answer does not
    /// carry them; `acks` counts acknowledgements.
    pub(super) fn new(layout: Layout, payload: Payload, acks: bool, timed: bool) -> Self {
        let mut listeners = vec![[0, 0]; layout.channels];
        for socket in 0..layout.sockets {
            for channel in layout.joined(socket) {
                listeners[channel][usize::from(socket < layout.slow)] += 1;
            }
        }
        let tracks = layout.sockets * layout.joins;
        let acks = if acks { layout.channels } else { 0 };
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order");
        Self {
            layout,
            payload,
            sent: 0,
            listeners,
            tracks: std::iter::repeat_with(Track::default)
                .take(tracks)
                .collect(),
            repeats: vec![0..0; tracks],
            brisk: Counts::default(),
            slow: Counts::default(),
            latency: histogram(),
            acks: std::iter::repeat_with(Track::default).take(acks).collect(),
            ack_counts: vec![0; acks],
            acked: 0,
            acks_duplicated: 0,
            ack_latency: histogram(),
            intended: vec![0; if timed || acks > 0 { IN_FLIGHT } else { 0 }],
        }
    }

    /// Notes that the next message goes out, and gives its index.
    pub(super) fn send(&mut self, intended_ns: u64) -> anyhow::Result<u64> {
        let index = self.sent;
        let channel = self.channel(index);
        if !self.intended.is_empty() {
            let echoed = self.brisk.delivered;
            let answered = if self.wants_acks() {
                self.acked
            } else {
                echoed
            };
            let flying = self.sent - answered;
            ensure!(
                flying < IN_FLIGHT as u64,
                "{flying} messages wait for their answer"
            );
            self.intended[index as usize % IN_FLIGHT] = intended_ns;
        }
        let [brisk, slow] = self.listeners[channel];
        self.brisk.expected += brisk;
        self.slow.expected += slow;
        self.sent += 1;
        Ok(index)
    }

    /// The channel of a message.
    pub(super) fn channel(&self, index: u64) -> usize {
        (index % self.layout.channels as u64) as usize
    }

    fn number(&self, index: u64) -> anyhow::Result<u32> {
        ensure!(
            index < self.sent,
            "message {index} came, {} were sent",
            self.sent
        );
        u32::try_from(index / self.layout.channels as u64).context("too many messages")
    }

    /// Notes that a message came to a socket.
    pub(super) fn deliver(
        &mut self,
        socket: usize,
        header: Header,
        now: u64,
    ) -> anyhow::Result<()> {
        let number = self.number(header.index)?;
        let channel = self.channel(header.index);
        let Some(place) = self.layout.place(socket, channel) else {
            bail!("socket {socket} got a message of channel {channel}, which it did not join");
        };
        let at = socket * self.layout.joins + place;
        let slow = socket < self.layout.slow;
        let counts = if slow {
            &mut self.slow
        } else {
            &mut self.brisk
        };
        match self.tracks[at].see(number) {
            Seen::InOrder => counts.delivered += 1,
            Seen::Late => {
                counts.delivered += 1;
                counts.misordered += 1;
            }
            Seen::Again if self.repeats[at].contains(&number) => {
                self.repeats[at].start = number + 1;
                counts.repeated += 1;
                return Ok(());
            }
            Seen::Again => {
                counts.duplicated += 1;
                return Ok(());
            }
        }
        if !slow {
            self.latency
                .saturating_record(now.saturating_sub(header.intended_ns));
        }
        Ok(())
    }

    /// Notes the answer to an echo that carries no payload.
    pub(super) fn answer(&mut self, socket: usize, index: u64, now: u64) -> anyhow::Result<()> {
        let kept = self.intended.get(index as usize % IN_FLIGHT);
        let intended_ns = *kept.context("an answer without a payload")?;
        let tag = 0;
        self.deliver(
            socket,
            Header {
                tag,
                index,
                intended_ns,
            },
            now,
        )
    }

    /// Notes that a message was acknowledged.
    pub(super) fn ack(&mut self, index: u64, now: u64) -> anyhow::Result<()> {
        let number = self.number(index)?;
        let channel = self.channel(index);
        let track = self
            .acks
            .get_mut(channel)
            .context("nobody asked for an acknowledgement")?;
        if track.see(number) == Seen::Again {
            self.acks_duplicated += 1;
            return Ok(());
        }
        self.acked += 1;
        self.ack_counts[channel] += 1;
        let intended = self.intended[index as usize % IN_FLIGHT];
        self.ack_latency
            .saturating_record(now.saturating_sub(intended));
        Ok(())
    }

    /// Notes that the oldest message of a channel without an acknowledgement has got it.
    pub(super) fn ack_next(&mut self, channel: usize, now: u64) -> anyhow::Result<()> {
        let count = self
            .ack_counts
            .get(channel)
            .context("nobody asked for an acknowledgement")?;
        let index = count * self.layout.channels as u64 + channel as u64;
        self.ack(index, now)
    }

    /// Whether acknowledgements are counted.
    pub(super) fn wants_acks(&self) -> bool {
        !self.acks.is_empty()
    }

    /// Notes that a socket's channel may bring again what it has brought.
    pub(super) fn replay(&mut self, socket: usize, channel: usize) {
        if let Some(place) = self.layout.place(socket, channel) {
            let at = socket * self.layout.joins + place;
            self.repeats[at] = 0..self.tracks[at].next();
        }
    }

    /// Whether the brisk sockets have everything and every acknowledgement has come.
    pub(super) fn complete(&self) -> bool {
        self.brisk.delivered == self.brisk.expected
            && (self.acks.is_empty() || self.acked == self.sent)
    }

    /// Counts what is missing once more, socket by socket, and compares.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let channels = self.layout.channels as u64;
        let mut missing = [0_u64, 0];
        for socket in 0..self.layout.sockets {
            let slow = usize::from(socket < self.layout.slow);
            for (place, channel) in self.layout.joined(socket).enumerate() {
                let end = (self.sent + channels - 1 - channel as u64) / channels;
                let end = u32::try_from(end).context("too many messages")?;
                missing[slow] += self.tracks[socket * self.layout.joins + place].missing(end);
            }
        }
        let counted = [self.brisk, self.slow].map(|counts| counts.expected - counts.delivered);
        ensure!(
            missing == counted,
            "the counts disagree: {missing:?} and {counted:?} are missing"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sockets: usize, slow: usize, channels: usize, joins: usize) -> Ledger {
        let layout = Layout {
            sockets,
            slow,
            channels,
            joins,
        };
        Ledger::new(layout, Payload::new(1, 38).unwrap(), true, false)
    }

    fn header(index: u64) -> Header {
        Header {
            tag: 1,
            index,
            intended_ns: 5,
        }
    }

    #[test]
    fn sockets_are_dealt_over_channels() {
        let layout = Layout {
            sockets: 4,
            slow: 0,
            channels: 5,
            joins: 2,
        };
        let joined: Vec<Vec<usize>> = (0..4).map(|s| layout.joined(s).collect()).collect();
        assert_eq!(joined, [[0, 1], [2, 3], [4, 0], [1, 2]]);
        for (socket, joined) in joined.iter().enumerate() {
            for channel in 0..5 {
                let place = joined.iter().position(|have| *have == channel);
                assert_eq!(layout.place(socket, channel), place, "{socket} {channel}");
            }
        }
    }

    #[test]
    fn whole_run_is_complete_and_in_order() {
        let mut ledger = ledger(4, 1, 2, 1);
        for _ in 0..6 {
            let index = ledger.send(5).unwrap();
            for socket in 0..4 {
                if socket % 2 == index as usize % 2 {
                    ledger.deliver(socket, header(index), 9).unwrap();
                }
            }
            assert!(!ledger.complete(), "the acknowledgement is not there");
            ledger.ack(index, 7).unwrap();
            assert!(ledger.complete());
        }
        let counts = |expected| Counts {
            expected,
            delivered: expected,
            ..Counts::default()
        };
        assert_eq!((ledger.brisk, ledger.slow), (counts(9), counts(3)));
        assert_eq!(
            (ledger.latency.len(), ledger.latency.max()),
            (9, 4),
            "slow ones are left out"
        );
        assert_eq!(ledger.ack_latency.max(), 2);
        ledger.check().unwrap();
    }

    #[test]
    fn what_goes_wrong_is_counted_on_its_socket() {
        let mut ledger = ledger(2, 0, 1, 1);
        for _ in 0..4 {
            ledger.send(5).unwrap();
        }
        for index in [0, 2, 1, 1] {
            ledger.deliver(0, header(index), 9).unwrap();
        }
        for index in 0..3 {
            ledger.deliver(1, header(index), 9).unwrap();
        }
        let expected = Counts {
            expected: 8,
            delivered: 6,
            duplicated: 1,
            misordered: 1,
            repeated: 0,
        };
        assert_eq!(ledger.brisk, expected);
        ledger.check().unwrap();
        // What was announced comes again once, in order; 1 is then doubled.
        ledger.replay(1, 0);
        for index in [1, 2, 1] {
            ledger.deliver(1, header(index), 9).unwrap();
        }
        assert_eq!((ledger.brisk.repeated, ledger.brisk.duplicated), (2, 2));
        // One lost and one doubled must not cancel each other out.
        assert!(!ledger.complete());
    }

    #[test]
    fn foreign_messages_are_errors() {
        let mut ledger = ledger(2, 0, 2, 1);
        ledger.send(5).unwrap();
        ledger
            .deliver(1, header(0), 9)
            .expect_err("socket 1 is not in channel 0");
        ledger
            .deliver(0, header(2), 9)
            .expect_err("message 2 was not sent");
        ledger.ack(1, 9).expect_err("message 1 was not sent");
    }

    #[test]
    fn acknowledgements_are_counted_once_in_any_order() {
        let mut ledger = ledger(0, 0, 2, 1);
        for _ in 0..6 {
            ledger.send(5).unwrap();
        }
        for index in [4, 0, 0, 1] {
            ledger.ack(index, 9).unwrap();
        }
        assert_eq!((ledger.acked, ledger.acks_duplicated), (3, 1));
        ledger.ack_next(1, 9).unwrap();
        assert_eq!((ledger.acked, ledger.ack_counts[1]), (4, 2));
    }
}
