//! What happens in a made history: everything that the contract has a word for at least once, and
//! the rest at random.

use hubbub_checker::{
    Entry, Event, Fault, FaultKind,
    history::{Change, Kind, Load, Phase},
};

use crate::{
    due::Due,
    names::{self, Message},
    world::{ADMIN, CHANNELS, DEVICES, PARTITIONS, READERS, WRITERS, World},
};

/// The kinds of steps.
#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    Answer,
    /// An attempt that nobody answered and that is in the log, published or not, is sent again.
    Resend,
    /// The first attempt comes to the log after the second: a shadow on plain joins.
    LateCopy,
    Reject,
    Reconnect,
    LeaveAndRejoin,
    Slow,
    Poison,
    Remove,
    RemoveForGood,
    GoAway,
    /// Something is done to a message that is stored.
    Change(What),
}

/// What is done to a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Reply,
    Edit,
    Delete,
    React,
    Unreact,
}

const ONCE: [Step; 17] = [
    Step::Resend,
    Step::LateCopy,
    Step::Reject,
    Step::Reconnect,
    Step::LeaveAndRejoin,
    Step::Slow,
    Step::Poison,
    Step::Remove,
    Step::Answer,
    Step::LateCopy,
    Step::GoAway,
    Step::RemoveForGood,
    Step::Change(What::Reply),
    Step::Change(What::Edit),
    Step::Change(What::React),
    Step::Change(What::Unreact),
    Step::Change(What::Delete),
];
const CALM: usize = 12;
const FAULTS: usize = 60;
const HEALED: usize = 12;
const LAST: usize = CALM + FAULTS + HEALED;

/// A history in which the contract holds.
pub(crate) fn correct(seed: u64) -> Vec<Entry> {
    let mut world = World::new(seed);
    world.phase(Phase::Calm);
    world.direct();
    for device in 0..DEVICES {
        world.after(10, Due::Open { device });
    }
    world.run_until(10_000);
    world.gauges(0);
    world.stretch(0..CALM);
    world.gauges(0);
    world.phase(Phase::Faults);
    let (shard, kafka) = (
        fault(1, FaultKind::ShardLock),
        fault(2, FaultKind::KafkaDown),
    );
    world.say(Event::FaultStarted(kafka));
    world.explained_error();
    world.stretch(CALM..CALM + FAULTS / 2);
    world.say(Event::FaultStarted(shard));
    world.store_away = true;
    world.reconnects();
    world.stretch(CALM + FAULTS / 2..CALM + FAULTS / 2 + 6);
    world.store_away = false;
    world.ended(1);
    world.settle();
    world.stretch(CALM + FAULTS / 2 + 6..CALM + FAULTS);
    world.ended(2);
    world.phase(Phase::Healed);
    world.settle();
    world.run_until(world.now + 3_100_000);
    world.gauges(0);
    world.stretch(CALM + FAULTS..LAST);
    world.settle();
    world.gauges(1);
    world.phase(Phase::Quiet);
    for channel in 0..CHANNELS {
        world.after(1_000, Due::Commit { channel });
    }
    world.settle();
    for channel in 0..CHANNELS {
        world.announce(channel, 0);
    }
    world.run_until(world.now + 4_000_000);
    world.phase(Phase::Final);
    world.finals();
    assert!(world.idle(), "something is still due");
    world.entries.sort_by_key(|entry| entry.at_us);
    world.entries
}

fn fault(number: u32, kind: FaultKind) -> Fault {
    Fault {
        number,
        kind,
        target: "shard-1".to_owned(),
        start_ms: 0,
        lasts_ms: 100,
        hypothesis: String::new(),
    }
}

impl World {
    fn ended(&mut self, number: u32) {
        let effect = "2 joins not recovered".to_owned();
        self.say(Event::FaultSeen { number, effect });
        self.say(Event::FaultEnded { number });
    }

    fn explained_error(&mut self) {
        self.say(Event::LogLine {
            process: "edge-1".to_owned(),
            level: "error".to_owned(),
            text: "ERROR the log's producer failed for good and is replaced: fatal".to_owned(),
        });
    }

    fn stretch(&mut self, steps: std::ops::Range<usize>) {
        for step in steps {
            let wait = 500 + self.dice.below(6_000);
            self.after(wait, Due::Act { step });
            self.run_until(self.now + wait);
        }
    }

    /// Everything that is under way comes to its end, and everybody is back.
    fn settle(&mut self) {
        for device in 0..DEVICES {
            self.after(1, Due::Open { device });
        }
        self.run_until(self.now + 1_500_000);
        for channel in 0..CHANNELS {
            self.announce(channel, 0);
        }
        self.run_until(self.now + 10_000);
    }

    fn reconnects(&mut self) {
        for device in 0..DEVICES {
            self.close(device);
            self.after(1_000, Due::Open { device });
        }
        self.run_until(self.now + 2_000);
    }

    pub(crate) fn act(&mut self, number: usize) {
        let step = match number {
            // Every kind once, the calm steps first; the rest at random.
            CALM.. if number - CALM < 2 * ONCE.len() && number.is_multiple_of(2) => {
                ONCE[(number - CALM) / 2]
            }
            _ => match self.dice.below(30) {
                0 => Step::Resend,
                1 => Step::LateCopy,
                2 | 3 => Step::Reconnect,
                4 => Step::LeaveAndRejoin,
                5 => Step::Slow,
                6..10 => Step::Answer,
                10..12 => Step::Change(What::Reply),
                12..16 => Step::Change(What::Edit),
                16 => Step::Change(What::Delete),
                17..20 => Step::Change(What::React),
                20 => Step::Change(What::Unreact),
                _ => Step::Send,
            },
        };
        self.step(step);
    }

    fn step(&mut self, step: Step) {
        let device = self.dice.index(DEVICES);
        let stream = self.dice.index(DEVICES * CHANNELS);
        match step {
            Step::Send => {
                let (op, message) = self.invoke(None);
                self.sent(op, message);
            }
            Step::Answer => {
                let channel = self.dice.index(CHANNELS);
                let answers = self.answerable[channel];
                let (op, message) = self.invoke(answers);
                self.sent(op, message);
            }
            Step::Resend => {
                let (op, message) = self.invoke(None);
                let publish = self.dice.percent(50);
                self.after(
                    300,
                    Due::Append {
                        op: 0,
                        message,
                        publish,
                    },
                );
                self.again(op, message, 5_000);
            }
            Step::LateCopy => {
                let (op, message) = self.invoke(None);
                self.again(op, message, 500);
                let late = 1_500 + self.dice.below(4_000);
                self.after(
                    late,
                    Due::Append {
                        op: 0,
                        message,
                        publish: true,
                    },
                );
            }
            Step::Reject => {
                let (op, _) = self.invoke(None);
                let code = "overloaded".to_owned();
                self.say(Event::Rejected { op, code });
            }
            Step::Reconnect => {
                self.close(device);
                let wait = 1_000 + self.dice.below(30_000);
                self.after(wait, Due::Open { device });
            }
            Step::LeaveAndRejoin => self.leave(stream),
            Step::Slow => {
                self.listeners[stream].detach();
                let wait = 5_000 + self.dice.below(20_000);
                self.after(wait, Due::Attach { stream });
            }
            Step::Poison => {
                let partition = self.dice.index(PARTITIONS);
                self.log[partition].push(None);
            }
            Step::Remove => {
                self.membership(READERS + 1, 0, Change::Remove, 0);
                self.membership(READERS + 1, 0, Change::Add, 900_000);
            }
            Step::RemoveForGood => self.membership(READERS + 2, 1, Change::Remove, 0),
            Step::Change(what) => self.change(what),
            Step::GoAway => {
                self.close(DEVICES - 1);
                self.devices[DEVICES - 1].gone = true;
            }
        }
    }

    /// A writer begins to send, maybe as an answer.
    fn invoke(&mut self, answers: Option<usize>) -> (u64, usize) {
        let channel = answers.map(|a| self.messages[a].channel);
        let channel = channel.unwrap_or_else(|| self.dice.index(CHANNELS));
        let user = self.dice.index(WRITERS);
        let message = self.new_message(Message {
            channel,
            user,
            kind: Kind::Message,
        });
        (self.attempt(message, answers, false), message)
    }

    pub(crate) fn new_message(&mut self, message: Message) -> usize {
        let number = self.messages.len();
        self.texts.push(names::sum(number, message.kind));
        self.messages.push(message);
        number
    }

    pub(crate) fn attempt(&mut self, message: usize, answers: Option<usize>, retry: bool) -> u64 {
        self.last_op += 1;
        let op = self.last_op;
        self.say(Event::Invoke {
            op,
            record: names::record(message, &self.messages[message], 0),
            answers: answers.map(names::id),
            retry,
        });
        op
    }

    pub(crate) fn sent(&mut self, op: u64, message: usize) {
        let wait = 200 + self.dice.below(2_500);
        self.after(
            wait,
            Due::Append {
                op,
                message,
                publish: true,
            },
        );
    }

    /// Nobody answered; the message is sent again at once, and says so.
    fn again(&mut self, op: u64, message: usize, wait: u64) {
        let code = "connection lost".to_owned();
        self.say(Event::Unknown { op, code });
        let op = self.attempt(message, None, true);
        self.after(
            wait,
            Due::Append {
                op,
                message,
                publish: false,
            },
        );
    }

    fn leave(&mut self, stream: usize) {
        if !self.listeners[stream].live || !self.out.insert(stream) {
            return;
        }
        self.listeners[stream].forget();
        self.left(stream, false);
        let fresh = self.dice.percent(50);
        self.after(20_000, Due::Rejoin { stream, fresh });
    }

    fn membership(&mut self, user: usize, channel: usize, change: Change, wait: u64) {
        self.last_op += 1;
        let op = self.last_op;
        let message = self.new_message(Message {
            channel,
            user: ADMIN,
            kind: Kind::Other,
        });
        let remove = change == Change::Remove;
        self.after(
            wait,
            Due::Ask {
                op,
                user,
                channel,
                remove,
            },
        );
        self.after(
            wait + 500,
            Due::Append {
                op: 0,
                message,
                publish: true,
            },
        );
        self.after(
            wait + 2_000,
            match change {
                Change::Remove => Due::Removed { op, user, channel },
                Change::Add => Due::Readded { op, user, channel },
            },
        );
    }

    fn gauges(&mut self, by_sweep: u32) {
        for (process, pid) in [("edge-1", 100), ("edge-2", 101), ("consumer-1", 102)] {
            let sweep = r#"hubbub_edge_feed_events_total{kind="repaired_by_sweep"}"#;
            let open = self.dice.below(9) as f64;
            for (name, value) in [
                ("rss_bytes", 5e7 + self.dice.below(1_000_000) as f64),
                ("descriptors", 55.0 + open + self.dice.below(5) as f64),
                (r#"store_connections_open{database="core"}"#, open),
                (r#"store_connections_max{database="core"}"#, 8.0),
                ("hubbub_edge_outbox_bytes", 0.0),
                (sweep, f64::from(by_sweep)),
            ] {
                self.say(Event::Gauge {
                    process: process.to_owned(),
                    pid,
                    name: name.to_owned(),
                    value,
                });
            }
        }
    }

    /// The dashboard, while one goes on looking, and when nobody does.
    fn looks(&mut self) {
        for round in 0..3 {
            let connections = (0..2 + round).map(|n| (names::channel(n), 1 + self.dice.below(9)));
            let connections = connections.collect();
            let load = Load {
                pods: 2,
                sockets: 20 + self.dice.below(20),
                connections,
            };
            self.say(Event::Looked {
                server: format!("api-{}", 1 + round % 2),
                there: load.clone(),
                shown: load,
            });
        }
        self.say(Event::Asked {
            request: format!("a join of {}", names::channel(0)),
            answered: true,
        });
        for pod in ["edge-1", "edge-2"] {
            self.say(Event::Watched {
                pod: pod.to_owned(),
                watchers: 0,
            });
        }
    }

    fn finals(&mut self) {
        self.looks();
        self.gauges(1);
        // A proxy that was told to end lets go of its last connections only now.
        self.run_until(self.now + 1_000);
        self.close(3);
        self.after(200_000, Due::Open { device: 3 });
        self.run_until(self.now + 30_000_000);
        self.gauges(1);
        self.run_until(self.now + 1_000);
        self.gauges(1);
        self.log_and_rows();
        self.pages();
        self.shown();
        self.cursors();
    }
}
