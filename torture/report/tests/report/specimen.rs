//! A made-up run: what a history of a system with 27 kinds of faults may look like. The same seed
//! gives the same history.

use std::collections::{BTreeMap, HashMap};

use hubbub_checker::{
    Assertion, Entry, Event, Fault, FaultKind as K, Verdict, Violation,
    history::{Kind, Phase, Record, Via},
};
use hubbub_protocol::{MessageId, Seq, UserId};
use hubbub_torture_report::Run;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::history::channel_id;

const KINDS: [K; 27] = [
    K::EdgeKill,
    K::EdgeFreeze,
    K::EdgeDrain,
    K::EdgeCrashAfterAck,
    K::ConsumerKill,
    K::ConsumerFreeze,
    K::ConsumerCrashAfterCommit,
    K::ConsumerScale,
    K::RedisKill,
    K::RedisFreeze,
    K::PubsubKill,
    K::RedisBlackHole,
    K::BusLossy,
    K::KafkaDown,
    K::KafkaSlow,
    K::ShardKill,
    K::ShardLock,
    K::ShardFreeze,
    K::HaproxyReload,
    K::HaproxyKill,
    K::ClientReset,
    K::ClientSilent,
    K::ClientTorn,
    K::ClientSlow,
    K::PoisonRecord,
    K::ApiKill,
    K::ClockJump,
];

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seconds: u64,
    pub(crate) faults: u32,
    pub(crate) messages: u64,
    pub(crate) devices: usize,
    pub(crate) channels: i64,
    /// Devices that listen to a channel.
    pub(crate) listeners: usize,
}

/// As `./dev torture --profile t0`.
pub(crate) const T0: Size = Size {
    seconds: 75,
    faults: 24,
    messages: 2_000,
    devices: 24,
    channels: 8,
    listeners: 8,
};

/// As `--profile t1`, with a tenth of the receipts.
pub(crate) const T1: Size = Size {
    seconds: 1_230,
    faults: 200,
    messages: 20_000,
    devices: 500,
    channels: 64,
    listeners: 10,
};

/// A stretch in which sends, some devices or the store are not reached.
#[derive(Debug, Clone, Copy)]
struct Outage {
    from: u64,
    to: u64,
    kind: K,
    salt: u64,
}

pub(crate) fn history(seed: u64, size: Size) -> Vec<Entry> {
    let mut maker = Maker {
        rng: StdRng::seed_from_u64(seed),
        size,
        entries: Vec::new(),
        outages: Vec::new(),
        op: 0,
        seqs: HashMap::new(),
    };
    maker.phases();
    maker.faults();
    maker.devices();
    maker.messages();
    maker.gauges();
    maker.entries.sort_by_key(|entry| entry.at_us);
    maker.entries
}

struct Maker {
    rng: StdRng,
    size: Size,
    entries: Vec<Entry>,
    outages: Vec<Outage>,
    op: u64,
    seqs: HashMap<i64, u64>,
}

impl Maker {
    fn at(&mut self, at_us: u64, event: Event) {
        self.entries.push(Entry { at_us, event });
    }

    fn us(&self, share: f64) -> u64 {
        (self.size.seconds as f64 * share * 1e6) as u64
    }

    fn phases(&mut self) {
        for (share, phase) in [
            (0.0, Phase::Calm),
            (0.06, Phase::Faults),
            (0.93, Phase::Healed),
            (0.96, Phase::Quiet),
            (0.98, Phase::Final),
        ] {
            self.at(self.us(share), Event::Phase(phase));
        }
        self.at(self.us(1.0), Event::Phase(Phase::Final));
    }

    fn faults(&mut self) {
        let (from, to) = (self.us(0.07), self.us(0.91));
        let slot = (to - from) / u64::from(self.size.faults);
        for number in 1..=self.size.faults {
            let kind = if number as usize <= KINDS.len() {
                KINDS[number as usize - 1]
            } else {
                KINDS[self.rng.random_range(0..KINDS.len())]
            };
            let lasts = self.rng.random_range(400_000..(slot * 3 / 2).max(400_001));
            let start = from + slot * u64::from(number - 1) + self.rng.random_range(0..slot / 3);
            self.at(
                start,
                Event::FaultStarted(Fault {
                    number,
                    kind,
                    target: format!("edge-{}>redis", number % 3 + 1),
                    start_ms: (start - self.us(0.06)) / 1000,
                    lasts_ms: lasts / 1000,
                    hypothesis: "Nobody loses anything; sockets of the others go on, those of \
                                 this one are elsewhere within 2 s."
                        .into(),
                }),
            );
            self.at(start + lasts, Event::FaultEnded { number });
            if number % 23 != 7 {
                self.outages.push(Outage {
                    from: start,
                    to: start + lasts,
                    kind,
                    salt: u64::from(number),
                });
                let seen = start + self.rng.random_range(5_000..lasts);
                let effect = format!("{} sockets cut", number % 9 + 1);
                self.at(seen, Event::FaultSeen { number, effect });
            }
        }
    }

    fn devices(&mut self) {
        let outages = self.outages.clone();
        for device in 0..self.size.devices {
            let name = format!("reader-{device}");
            let mut connection = 1;
            self.open(device, connection, 20_000);
            for outage in outages.iter().filter(|o| o.cuts(device)) {
                let (closed, back) = (outage.from + 1_000, outage.from + 1_000);
                let back = back + self.rng.random_range(50_000..900_000);
                self.at(
                    closed,
                    Event::Closed {
                        device: name.clone(),
                        connection,
                        code: (outage.kind == K::EdgeDrain).then_some(1012),
                    },
                );
                connection += 1;
                self.open(device, connection, back);
            }
        }
    }

    fn open(&mut self, device: usize, connection: u64, at_us: u64) {
        let name = format!("reader-{device}");
        self.at(
            at_us,
            Event::Opened {
                device: name.clone(),
                user: UserId::new(device as i64 + 1).expect("from 1"),
                connection,
                pod: format!("edge-{}", connection % 3 + 1),
            },
        );
        for channel in 1..=self.size.channels {
            if self.listens(device, channel) {
                self.at(
                    at_us + 2_000,
                    Event::Joined {
                        device: name.clone(),
                        connection,
                        channel: channel_id(channel),
                        since: (connection > 1).then_some(Seq(1)),
                        head: Some(Seq(0)),
                        recovered: true,
                        ordered: device.is_multiple_of(2),
                    },
                );
            }
        }
    }

    fn listens(&self, device: usize, channel: i64) -> bool {
        let (devices, listeners) = (self.size.devices, self.size.listeners);
        (device + devices - (channel as usize * 7) % devices) % devices < listeners
    }

    fn messages(&mut self) {
        let (from, to) = (self.us(0.01), self.us(0.96));
        for n in 0..self.size.messages {
            let invoked = from + (to - from) * n / self.size.messages;
            // Some channels are much busier than others.
            let share: f64 = self.rng.random::<f64>();
            let channel = 1 + (share * share * self.size.channels as f64) as i64;
            self.message(n, channel, invoked);
        }
    }

    fn message(&mut self, n: u64, channel: i64, invoked: u64) {
        let seq = self.seqs.entry(channel).or_default();
        *seq += 1;
        let record = Record {
            channel: channel_id(channel),
            seq: Seq(*seq),
            user: UserId::new(1 + (n % 16) as i64).expect("from 1"),
            id: MessageId(Uuid::from_u64_pair(channel as u64, *seq)),
            sum: n as u32,
            kind: Kind::Message,
        };
        let acked = self.send(&record, invoked);
        for device in 0..self.size.devices {
            if self.listens(device, channel) {
                let given = self.given_at(device, acked);
                let connection = 1;
                let device = format!("reader-{device}");
                let via = if given > acked + 400_000 {
                    Via::CatchUp
                } else {
                    Via::Live
                };
                self.at(
                    given - 100,
                    Event::Wire {
                        device: device.clone(),
                        connection,
                        record: record.clone(),
                    },
                );
                self.at(
                    given,
                    Event::Given {
                        device,
                        record: record.clone(),
                        via,
                    },
                );
            }
        }
    }

    /// Tries until it is acknowledged; says when that was.
    fn send(&mut self, record: &Record, invoked: u64) -> u64 {
        let mut at = invoked;
        let seq = record.seq;
        let unplaced = Record {
            seq: Seq::ZERO,
            ..record.clone()
        };
        for attempt in 0.. {
            self.op += 1;
            let op = self.op;
            self.at(
                at,
                Event::Invoke {
                    op,
                    record: unplaced.clone(),
                    answers: None,
                    retry: attempt > 0,
                },
            );
            let stopped = self.outages.iter().find(|o| o.stops_sends(at)).copied();
            let Some(outage) = stopped else {
                let took = 2_000 + self.tail(3_000.0);
                let seq = (attempt == 0).then_some(seq);
                self.at(at + took, Event::Ok { op, seq });
                return at + took;
            };
            let gave_up = (at + 5_000_000).min(outage.to + 60_000);
            let code = "log_timeout".into();
            self.at(gave_up, Event::Unknown { op, code });
            at = gave_up + self.rng.random_range(10_000..200_000);
        }
        at
    }

    fn given_at(&mut self, device: usize, acked: u64) -> u64 {
        let mut at = acked + 1_500 + self.tail(2_500.0);
        for outage in &self.outages {
            if outage.from <= at && at < outage.to && outage.holds_back(device) {
                at = outage.to + 30_000 + outage.salt * 997 % 350_000;
            }
        }
        at
    }

    /// Mostly about `mean`, now and then much more.
    fn tail(&mut self, mean: f64) -> u64 {
        let u: f64 = self.rng.random::<f64>();
        (-(1.0 - u).max(1e-6).ln() * mean) as u64
    }

    fn gauges(&mut self) {
        let kinds = [
            "repaired_by_announcement",
            "repaired_by_head",
            "repaired_by_sweep",
            "detached",
            "repeated",
        ];
        let mut totals: BTreeMap<(u32, usize), f64> = BTreeMap::new();
        for second in 1..self.size.seconds {
            let at_us = second * 1_000_000;
            let on = self
                .outages
                .iter()
                .find(|o| o.from <= at_us && at_us < o.to);
            let salt = on.map(|outage| outage.salt);
            for edge in 1..=3_u32 {
                for (at, kind) in kinds.iter().enumerate() {
                    let more = match salt {
                        Some(salt) if salt as usize % kinds.len() == at => {
                            f64::from(self.rng.random_range(0..30_u32))
                        }
                        _ => 0.0,
                    };
                    let total = totals.entry((edge, at)).or_default();
                    *total += more;
                    let value = *total;
                    self.at(
                        at_us + u64::from(edge),
                        Event::Gauge {
                            process: format!("edge-{edge}"),
                            pid: edge,
                            name: format!("hubbub_edge_feed_events_total{{kind=\"{kind}\"}}"),
                            value,
                        },
                    );
                }
            }
        }
    }
}

impl Outage {
    fn stops_sends(self, at: u64) -> bool {
        self.from <= at && at < self.to && matches!(self.kind, K::KafkaDown | K::HaproxyKill)
    }

    fn cuts(&self, device: usize) -> bool {
        match self.kind {
            K::EdgeKill | K::EdgeDrain | K::EdgeFreeze => device as u64 % 3 == self.salt % 3,
            K::HaproxyKill => device.is_multiple_of(2),
            K::ClientReset | K::ClientTorn | K::ClientSilent => {
                device as u64 % 50 == self.salt % 50
            }
            _ => false,
        }
    }

    fn holds_back(&self, device: usize) -> bool {
        match self.kind {
            K::RedisKill | K::RedisFreeze | K::RedisBlackHole => device as u64 % 3 != self.salt % 3,
            K::ConsumerKill | K::ConsumerFreeze | K::ShardKill | K::ShardFreeze => {
                device.is_multiple_of(2)
            }
            _ => self.cuts(device),
        }
    }
}

pub(crate) fn run(seed: u64, profile: &str) -> Run {
    Run {
        profile: profile.into(),
        seed,
        commit: "0123456".into(),
        machine: "2 processors, 24 GiB, Linux 6.1".into(),
        began_unix_ms: 1_700_000_000_000,
        took_ms: 1_280_000,
        command: format!("./dev torture --profile {profile} --seed {seed}"),
        settings: BTreeMap::from([
            ("edges".into(), "3".into()),
            ("consumers".into(), "3".into()),
        ]),
        left_out: BTreeMap::from([(K::ClockJump, "libfaketime is not installed".into())]),
        ..Run::default()
    }
}

pub(crate) fn verdict(violations: Vec<Violation>) -> Verdict {
    let mut verdict = Verdict {
        checked: Assertion::ALL.map(|assertion| (assertion, 12_345)).into(),
        counts: [
            ("messages", 20_000),
            ("plain_receipts", 100_000),
            ("swapped_on_the_wire", 7),
        ]
        .map(|(name, n)| (name.to_owned(), n))
        .into(),
        ..Verdict::default()
    };
    for violation in &violations {
        *verdict.broken.entry(violation.assertion).or_default() += 1;
    }
    verdict.violations = violations;
    verdict
}
