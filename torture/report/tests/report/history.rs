//! Histories made by hand. Times are milliseconds.

use hubbub_checker::{
    Entry, Event, Fault, FaultKind,
    history::{Kind, Phase, Record, Via},
};
use hubbub_protocol::{ChannelId, MessageId, Seq, UserId};
use hubbub_torture_report::{Measures, measure};
use uuid::Uuid;

#[derive(Debug, Default, Clone)]
pub(crate) struct History(pub(crate) Vec<Entry>);

/// Message `n` of channel 1, with its seq.
pub(crate) fn message(n: u64) -> Record {
    message_in(1, n)
}

pub(crate) fn message_in(channel: i64, n: u64) -> Record {
    Record {
        channel: channel_id(channel),
        seq: Seq(n),
        user: UserId::new(1).expect("from 1"),
        id: MessageId(Uuid::from_u64_pair(channel as u64, n)),
        sum: 0,
        kind: Kind::Message,
    }
}

pub(crate) fn channel_id(number: i64) -> ChannelId {
    ChannelId::new(hubbub_protocol::ChannelLetter::Channel, number).expect("from 1")
}

impl History {
    pub(crate) fn at(&mut self, ms: u64, event: Event) -> &mut Self {
        self.0.push(Entry {
            at_us: ms * 1000,
            event,
        });
        self
    }

    /// Puts the lines into the order of time; lines of one moment stay in theirs.
    pub(crate) fn measured(&mut self) -> Measures {
        self.0.sort_by_key(|entry| entry.at_us);
        measure(&self.0)
    }

    pub(crate) fn phase(&mut self, ms: u64, phase: Phase) -> &mut Self {
        self.at(ms, Event::Phase(phase))
    }

    pub(crate) fn invoke(&mut self, ms: u64, op: u64, record: &Record) -> &mut Self {
        let record = Record {
            seq: Seq::ZERO,
            ..record.clone()
        };
        self.at(
            ms,
            Event::Invoke {
                op,
                record,
                answers: None,
                retry: false,
            },
        )
    }

    pub(crate) fn ok(&mut self, ms: u64, op: u64, seq: Option<u64>) -> &mut Self {
        self.at(
            ms,
            Event::Ok {
                op,
                seq: seq.map(Seq),
            },
        )
    }

    pub(crate) fn rejected(&mut self, ms: u64, op: u64) -> &mut Self {
        let code = "overloaded".into();
        self.at(ms, Event::Rejected { op, code })
    }

    /// Rejected because the sender is no member.
    pub(crate) fn refused(&mut self, ms: u64, op: u64) -> &mut Self {
        let code = "channel_not_found".into();
        self.at(ms, Event::Rejected { op, code })
    }

    pub(crate) fn unknown(&mut self, ms: u64, op: u64) -> &mut Self {
        let code = "log_timeout".into();
        self.at(ms, Event::Unknown { op, code })
    }

    /// Message `n` of channel 1, invoked and acknowledged; its attempt has the number `n`.
    pub(crate) fn sent(&mut self, invoked_ms: u64, ok_ms: u64, n: u64) -> &mut Self {
        self.invoke(invoked_ms, n, &message(n))
            .ok(ok_ms, n, Some(n))
    }

    pub(crate) fn joined(
        &mut self,
        ms: u64,
        device: &str,
        since: Option<u64>,
        head: Option<u64>,
        recovered: bool,
        ordered: bool,
    ) -> &mut Self {
        self.at(
            ms,
            Event::Joined {
                device: device.into(),
                connection: 1,
                channel: channel_id(1),
                since: since.map(Seq),
                head: head.map(Seq),
                recovered,
                ordered,
            },
        )
    }

    /// A plain join of channel 1 from its beginning.
    pub(crate) fn plain(&mut self, ms: u64, device: &str) -> &mut Self {
        self.joined(ms, device, None, Some(0), true, false)
    }

    /// An ordered join of channel 1 from its beginning.
    pub(crate) fn ordered(&mut self, ms: u64, device: &str) -> &mut Self {
        self.joined(ms, device, None, Some(0), true, true)
    }

    pub(crate) fn join_asked(
        &mut self,
        ms: u64,
        device: &str,
        since: Option<u64>,
        ordered: bool,
    ) -> &mut Self {
        self.at(
            ms,
            Event::JoinAsked {
                device: device.into(),
                connection: 1,
                channel: channel_id(1),
                since: since.map(Seq),
                ordered,
            },
        )
    }

    /// The application says that it listens no more.
    pub(crate) fn left(&mut self, ms: u64, device: &str) -> &mut Self {
        self.left_by(ms, device, false)
    }

    /// The server says that it listens no more.
    pub(crate) fn evicted(&mut self, ms: u64, device: &str) -> &mut Self {
        self.left_by(ms, device, true)
    }

    fn left_by(&mut self, ms: u64, device: &str, evicted: bool) -> &mut Self {
        self.at(
            ms,
            Event::Left {
                device: device.into(),
                connection: 1,
                channel: channel_id(1),
                evicted,
            },
        )
    }

    pub(crate) fn replay(&mut self, ms: u64, device: &str, since: u64) -> &mut Self {
        self.at(
            ms,
            Event::Replay {
                device: device.into(),
                connection: 1,
                channel: channel_id(1),
                since: Seq(since),
            },
        )
    }

    pub(crate) fn synced(&mut self, ms: u64, device: &str, seq: u64) -> &mut Self {
        self.at(
            ms,
            Event::Synced {
                device: device.into(),
                connection: 1,
                channel: channel_id(1),
                seq: Seq(seq),
            },
        )
    }

    pub(crate) fn given(&mut self, ms: u64, device: &str, n: u64) -> &mut Self {
        self.given_via(ms, device, n, Via::Live)
    }

    pub(crate) fn given_via(&mut self, ms: u64, device: &str, n: u64, via: Via) -> &mut Self {
        self.at(
            ms,
            Event::Given {
                device: device.into(),
                record: message(n),
                via,
            },
        )
    }

    /// A fault that somebody noticed 10 ms after its start.
    pub(crate) fn fault(&mut self, number: u32, kind: FaultKind, from: u64, to: u64) -> &mut Self {
        let effect = "1 socket cut".into();
        self.vacuous_fault(number, kind, from, to)
            .at(from + 10, Event::FaultSeen { number, effect })
    }

    pub(crate) fn vacuous_fault(
        &mut self,
        number: u32,
        kind: FaultKind,
        from: u64,
        to: u64,
    ) -> &mut Self {
        let fault = Fault {
            number,
            kind,
            target: "edge-1".into(),
            start_ms: from,
            lasts_ms: to - from,
            hypothesis: "everybody is elsewhere within 2 s".into(),
        };
        self.at(from, Event::FaultStarted(fault))
            .at(to, Event::FaultEnded { number })
    }

    pub(crate) fn opened(&mut self, ms: u64, device: &str, connection: u64) -> &mut Self {
        self.at(
            ms,
            Event::Opened {
                device: device.into(),
                user: UserId::new(1).expect("from 1"),
                connection,
                pod: "edge-1".into(),
            },
        )
    }

    pub(crate) fn closed(&mut self, ms: u64, device: &str, code: Option<u16>) -> &mut Self {
        self.at(
            ms,
            Event::Closed {
                device: device.into(),
                connection: 1,
                code,
            },
        )
    }

    pub(crate) fn gauge(
        &mut self,
        ms: u64,
        (process, pid): (&str, u32),
        name: &str,
        value: f64,
    ) -> &mut Self {
        self.at(
            ms,
            Event::Gauge {
                process: process.into(),
                pid,
                name: name.into(),
                value,
            },
        )
    }
}
