//! What a record costs in allocations, from the bus's event to the kernel.

use allocation_counter::measure;
use bytes::Bytes;
use hubbub_protocol::{ChannelEvent, Stored};

use super::*;
use crate::feed::Counts;

/// Besides those for the frame, the message's id, and its place among the recent ones: growth of
/// tables, shared by many.
const PER_RECORD: u64 = 4;

/// Sockets that listen to one channel, and what they are told through.
struct Room {
    hub: Hub,
    turn: Turn,
    sockets: Vec<Arc<Socket>>,
    /// Held so that the kernel takes what is written.
    _clients: Vec<TcpStream>,
    seq: u64,
}

impl Room {
    async fn of(listeners: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let hub = Hub::new(64 * 1024 * 1024);
        hub.resume_all();
        let (mut sockets, mut clients) = (Vec::new(), Vec::new());
        for slot in 0..listeners {
            let (client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
            clients.push(client.expect("listening"));
            let tcp = accepted.expect("a connection").0;
            tcp.writable().await.expect("just connected");
            let socket = Socket::new(hub.next_socket_id(), tcp, 0);
            hub.register(&socket, &identity(slot), listeners, 0, &FakeBus::new());
            let request = plain_join(&hub, None);
            hub.join(socket.id, request, 0, |_| {}).expect("a member");
            sockets.push(socket);
        }
        let mut turn = Turn::default();
        hub.on_subscribed(channel(1), 0, &mut turn);
        let head = turn.requests.pop().expect("a head read").1.id;
        let answered = hub.on_answer(channel(1), head, Ok(Answer::Head(Seq(0))), 0);
        turn.merge(answered);
        let mut room = Self {
            hub,
            turn,
            sockets,
            _clients: clients,
            seq: 0,
        };
        room.flush();
        room
    }

    /// The payloads of the next records, as they come from the bus.
    fn payloads(&mut self, count: u64) -> Vec<Bytes> {
        let payload = |_| {
            self.seq += 1;
            let id = uuid::Uuid::from_u128(u128::from(self.seq));
            Bytes::from(format!(
                r#"{{"seq":{},"type":"message","channel":"{}","user":"U000000001","message_id":"{id}","text":"hi","ts_ms":1}}"#,
                self.seq,
                channel(1),
            ))
        };
        (0..count).map(payload).collect()
    }

    /// What the relay does with one of them.
    fn relay(&mut self, payload: &Bytes, last: bool) {
        let event = ChannelEvent::decode(channel(1), payload);
        let Ok(ChannelEvent::Record { seq, key, .. }) = event else {
            panic!("not a record: {event:?}");
        };
        let frame = frame_of(seq, key, payload);
        let used = self
            .hub
            .on_records(channel(1), &[frame], last, 0, &mut self.turn);
        assert!(used);
    }

    /// The consumer has stored what came since `from`.
    fn stored(&mut self, from: u64) {
        let stored = Stored {
            channel: channel(1),
            from: Seq(from),
            through: Seq(self.seq),
            seqs: Some((from + 1..=self.seq).map(Seq).collect()),
        };
        self.hub.on_stored(stored, 0, &mut self.turn);
        self.turn.merge(self.hub.tick(0, |_| ()));
    }

    fn flush(&mut self) {
        for socket in self.turn.dirty.drain(..) {
            assert_eq!(socket.flush(0), crate::socket::Flushed::Empty);
        }
        assert!(self.turn.requests.is_empty(), "nothing is missing");
    }

    /// Allocations of `bursts` turns with `burst` records each. After the first of them the
    /// consumer announces them, so that a `synced` rides along with the next one.
    fn cost(&mut self, bursts: u64, burst: u64) -> u64 {
        let mut count = 0;
        for _ in 0..bursts {
            let from = self.seq;
            let payloads = self.payloads(burst);
            count += measure(|| {
                for (payload, left) in payloads.iter().zip((0..burst).rev()) {
                    self.relay(payload, left == 0);
                }
                self.flush();
            })
            .count_total;
            self.stored(from);
        }
        count
    }
}

/// Of so many listeners, after everything has grown to its size.
async fn cost(listeners: usize, bursts: u64, burst: u64) -> u64 {
    let mut room = Room::of(listeners).await;
    room.cost(bursts.max(300 / burst), burst);
    let sent = |room: &Room| -> u64 { room.sockets.iter().map(|s| s.sent_bytes()).sum() };
    let before = sent(&room);
    let count = room.cost(bursts, burst);
    let records = bursts * burst;
    let least = records * listeners as u64 * 100;
    assert!(sent(&room) - before > least, "every socket was written to");
    assert_eq!(room.hub.take_counts(), Counts::default(), "no repairs");
    count
}

#[tokio::test]
async fn delivery_allocates_nothing() {
    for (bursts, burst) in [(64, 1), (16, 16), (8, 64)] {
        let (one, many) = (cost(1, bursts, burst).await, cost(200, bursts, burst).await);
        assert_eq!(one, many, "in bursts of {burst}: 1 listener, 200 listeners");
    }
}

#[tokio::test]
async fn record_takes_few_allocations() {
    for (bursts, burst) in [(64, 1), (8, 64)] {
        let (count, records) = (cost(50, bursts, burst).await, bursts * burst);
        assert!(
            count <= records * PER_RECORD,
            "{count} for {records} records in bursts of {burst}"
        );
    }
}
