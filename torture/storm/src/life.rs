//! What one socket's client went through. No I/O, so that it can be tested by events alone.

use hubbub_client::{Down, Event};
use hubbub_protocol::ChannelId;
use tokio::time::Instant;

/// The time from the loss of a connection to the moment at which all is caught up again. The
/// first one of a life is its arrival.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    /// The pod that was lost; empty for the arrival.
    pub(crate) lost_pod: String,
    pub(crate) down_at: Instant,
    /// The newest handshake that succeeded.
    pub(crate) connected_at: Option<Instant>,
    pub(crate) up_at: Option<Instant>,
    /// The pod that has it now.
    pub(crate) new_pod: String,
    /// Connections that were tried, the last and successful one included.
    pub(crate) attempts: u32,
    /// Those that were answered with a status: there was no room.
    pub(crate) refused: u32,
    /// What the lost pod asked the client to wait, if it said goodbye.
    pub(crate) goodbye_ms: Option<u64>,
    /// The close code, if the server sent one.
    pub(crate) close: Option<u16>,
}

/// Where a joined channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Absent,
    /// Answered with this head; what lies before it may still come.
    Joined(u64),
    CaughtUp,
}

/// One channel of a socket.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) channel: ChannelId,
    stand: Stand,
    /// The join point.
    pub(crate) joined_at: Option<u64>,
    /// Every seq as often as it was given.
    pub(crate) given: Vec<u64>,
    /// Everything through this was given.
    pub(crate) synced: u64,
}

/// How an event changed whether the socket is up: connected, joined, caught up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    CameUp,
    WentDown,
}

/// One client's life.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) channels: Vec<Listening>,
    pub(crate) outages: Vec<Outage>,
    pub(crate) pod: String,
    pub(crate) up: bool,
    connected: bool,
    goodbye_ms: Option<u64>,
    /// Joins that were answered `recovered:false`, or failed, and ends for good.
    pub(crate) broken: Vec<String>,
}

impl Life {
    pub(crate) fn new(channels: &[ChannelId], now: Instant) -> Self {
        let channels = channels.iter().map(|channel| Listening {
            channel: *channel,
            stand: Stand::Absent,
            joined_at: None,
            given: Vec::new(),
            synced: 0,
        });
        Self {
            channels: channels.collect(),
            outages: vec![outage(String::new(), now)],
            pod: String::new(),
            up: false,
            connected: false,
            goodbye_ms: None,
            broken: Vec::new(),
        }
    }

    /// Takes note of an event of the client.
    pub(crate) fn on_event(&mut self, event: &Event, now: Instant) -> Change {
        match event {
            Event::Connected(hello) => {
                self.connected = true;
                self.pod = hello.pod.to_string();
                let pod = self.pod.clone();
                let outage = self.outage();
                outage.attempts += 1;
                outage.connected_at = Some(now);
                outage.new_pod = pod;
            }
            Event::Disconnected { why, retry_in } => {
                if retry_in.is_none() && *why != Down::Stopped {
                    self.broken.push(format!("ended for good: {why}"));
                }
                return self.on_disconnected(why, now);
            }
            Event::Goodbye(goodbye) => self.goodbye_ms = Some(goodbye.reconnect_after_ms),
            Event::Joined(joined) => {
                let head = joined.reply.head;
                if !joined.reply.recovered || head.is_none() {
                    let why = joined.reply.reason.clone().unwrap_or_default();
                    self.broken.push(format!("not recovered: {why}"));
                }
                if let Some(listening) = self.channel(joined.reply.channel) {
                    let head = head.map_or(0, |head| head.0);
                    listening.stand = Stand::Joined(head);
                    listening.joined_at.get_or_insert(head);
                }
            }
            Event::JoinFailed { error, .. } => {
                self.broken.push(format!("join failed: {}", error.message));
            }
            Event::Record { seq, body, .. } => {
                if let Some(listening) = self.channel(body.channel()) {
                    listening.given.push(seq.0);
                }
            }
            Event::Reseq {
                channel, from, to, ..
            } => {
                if let Some(listening) = self.channel(*channel)
                    && let Some(given) = listening.given.iter_mut().rev().find(|g| **g == from.0)
                {
                    *given = to.0;
                }
            }
            Event::Synced { channel, seq } => return self.on_synced(*channel, seq.0, now),
            _ => {}
        }
        Change::None
    }

    fn on_disconnected(&mut self, why: &Down, now: Instant) -> Change {
        let goodbye_ms = self.goodbye_ms.take();
        for listening in &mut self.channels {
            listening.stand = Stand::Absent;
        }
        let was_connected = std::mem::take(&mut self.connected);
        if std::mem::take(&mut self.up) {
            let mut outage = outage(self.pod.clone(), now);
            outage.goodbye_ms = goodbye_ms;
            outage.close = match why {
                Down::Closed { code, .. } => Some(*code),
                _ => None,
            };
            self.outages.push(outage);
            return Change::WentDown;
        }
        // One that had connected was counted then.
        if !was_connected {
            let outage = self.outage();
            outage.attempts += 1;
            outage.refused += u32::from(matches!(why, Down::Refused { .. }));
        }
        Change::None
    }

    fn on_synced(&mut self, channel: ChannelId, seq: u64, now: Instant) -> Change {
        let Some(listening) = self.channel(channel) else {
            return Change::None;
        };
        listening.synced = listening.synced.max(seq);
        if matches!(listening.stand, Stand::Joined(head) if seq >= head) {
            listening.stand = Stand::CaughtUp;
        }
        let all = self.channels.iter().all(|l| l.stand == Stand::CaughtUp);
        if !all || self.up {
            return Change::None;
        }
        self.up = true;
        self.outage().up_at = Some(now);
        Change::CameUp
    }

    fn channel(&mut self, channel: ChannelId) -> Option<&mut Listening> {
        self.channels.iter_mut().find(|l| l.channel == channel)
    }

    fn outage(&mut self) -> &mut Outage {
        self.outages.last_mut().expect("a life begins with one")
    }
}

fn outage(lost_pod: String, down_at: Instant) -> Outage {
    Outage {
        lost_pod,
        down_at,
        connected_at: None,
        up_at: None,
        new_pod: String::new(),
        attempts: 0,
        refused: 0,
        goodbye_ms: None,
        close: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hubbub_client::{Joined, Via};
    use hubbub_protocol::{Goodbye, JoinReply, Seq};

    use super::*;

    struct Scene {
        life: Life,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            let life = Life::new(&[channel(1), channel(2)], now);
            Self { life, now }
        }

        fn tell(&mut self, event: Event) -> Change {
            self.now += Duration::from_millis(10);
            self.life.on_event(&event, self.now)
        }

        fn connect(&mut self, pod: &str) {
            let hello = serde_json::json!({
                "connection_id": "c", "pod": pod, "region": "home", "user": "U000000001",
                "device": "d", "heartbeat_ms": 1, "max_frame_bytes": 1,
            });
            let hello = serde_json::from_value(hello).expect("a hello");
            assert_eq!(self.tell(Event::Connected(hello)), Change::None);
        }

        fn join(&mut self, n: u32, head: u64, synced: u64) -> Change {
            let reply = JoinReply {
                channel: channel(n),
                head: Some(Seq(head)),
                recovered: true,
                reason: None,
            };
            let joined = Joined { reply, since: None };
            assert_eq!(self.tell(Event::Joined(joined)), Change::None);
            self.tell(Event::Synced {
                channel: channel(n),
                seq: Seq(synced),
            })
        }

        fn down(&mut self, why: Down) -> Change {
            self.tell(Event::Disconnected {
                why,
                retry_in: Some(Duration::ZERO),
            })
        }
    }

    fn channel(n: u32) -> ChannelId {
        format!("C{n:09}").parse().expect("a channel")
    }

    fn cut() -> Down {
        Down::Lost("cut".to_owned())
    }

    #[test]
    fn up_means_caught_up_in_all_channels() {
        let mut scene = Scene::new();
        scene.connect("edge-1");
        assert_eq!(scene.join(1, 5, 5), Change::None);
        assert_eq!(scene.join(2, 7, 6), Change::None, "not yet at its head");
        let seq = Seq(7);
        let channel = channel(2);
        assert_eq!(scene.tell(Event::Synced { channel, seq }), Change::CameUp);
        assert_eq!(scene.tell(Event::Synced { channel, seq }), Change::None);
        assert_eq!(scene.life.outages.len(), 1);
        assert_eq!(scene.life.outages[0].attempts, 1);
        assert_eq!(scene.life.channels[1].joined_at, Some(7));
    }

    #[test]
    fn attempts_count_what_was_refused_and_what_broke_before_it_was_up() {
        let mut scene = Scene::new();
        scene.connect("edge-1");
        scene.join(1, 0, 0);
        scene.join(2, 0, 0);
        assert!(scene.life.up);
        assert_eq!(scene.down(cut()), Change::WentDown);
        let refused = Down::Refused {
            status: 503,
            error: None,
            retry_after: None,
        };
        assert_eq!(scene.down(refused), Change::None);
        scene.connect("edge-2");
        assert_eq!(scene.down(cut()), Change::None, "the same outage goes on");
        scene.connect("edge-3");
        scene.join(1, 9, 9);
        assert_eq!(scene.join(2, 0, 0), Change::CameUp);
        let outage = &scene.life.outages[1];
        assert_eq!((outage.attempts, outage.refused), (3, 1));
        assert_eq!(
            (outage.lost_pod.as_str(), outage.new_pod.as_str()),
            ("edge-1", "edge-3")
        );
        assert!(outage.up_at > outage.connected_at && outage.close.is_none());
        let joined_at = scene.life.channels[0].joined_at;
        assert_eq!(joined_at, Some(0), "the join point is the first one");
    }

    #[test]
    fn goodbye_belongs_to_the_connection_that_heard_it() {
        let mut scene = Scene::new();
        scene.connect("edge-1");
        scene.join(1, 0, 0);
        scene.join(2, 0, 0);
        scene.tell(Event::Goodbye(Goodbye {
            reason: "restart".to_owned(),
            reconnect_after_ms: 70,
        }));
        scene.down(Down::Closed {
            code: 1012,
            reason: String::new(),
        });
        let outage = &scene.life.outages[1];
        assert_eq!((outage.goodbye_ms, outage.close), (Some(70), Some(1012)));
        scene.connect("edge-2");
        scene.join(1, 0, 0);
        scene.join(2, 0, 0);
        scene.down(cut());
        let outage = &scene.life.outages[2];
        assert_eq!((outage.goodbye_ms, outage.close), (None, None));
    }

    #[test]
    fn records_are_kept_as_given_and_a_lower_seq_replaces_the_shadows() {
        let mut scene = Scene::new();
        let record = |seq| {
            let body = serde_json::json!({
                "type": "message", "channel": channel(1), "user": "U000000001",
                "message_id": uuid::Uuid::nil(), "text": "hi", "ts_ms": 1,
            });
            Event::Record {
                seq: Seq(seq),
                body: serde_json::from_value(body).expect("a body"),
                via: Via::Live,
            }
        };
        let Event::Record { body, .. } = record(4) else {
            unreachable!("made above");
        };
        scene.tell(record(4));
        scene.tell(record(6));
        scene.tell(record(6));
        scene.tell(Event::Reseq {
            channel: channel(1),
            key: body.key(),
            from: Seq(6),
            to: Seq(5),
        });
        assert_eq!(scene.life.channels[0].given, [4, 6, 5]);
    }

    #[test]
    fn join_without_recovery_is_told() {
        let mut scene = Scene::new();
        let reply = JoinReply {
            channel: channel(1),
            head: None,
            recovered: false,
            reason: Some("away".to_owned()),
        };
        scene.tell(Event::Joined(Joined { reply, since: None }));
        assert_eq!(scene.life.broken, ["not recovered: away"]);
    }
}
