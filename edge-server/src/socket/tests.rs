use hubbub_protocol::Seq;
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::*;
use crate::outbox::OUTBOX_FRAMES;

fn channel() -> ChannelId {
    ChannelId::from_shard_key(1).expect("an id")
}

/// A socket of the pod, and its client.
async fn pair() -> (Arc<Socket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let client = TcpStream::connect(address).await.expect("a connection");
    let (server, _) = listener.accept().await.expect("a connection");
    server.writable().await.expect("open");
    (Socket::new(SocketId(1), server, 0), client)
}

async fn read(client: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).await.expect("all of it");
    bytes
}

fn burst(frames: &[&[u8]]) -> Burst {
    let mut burst = Burst::default();
    burst.fill(frames.iter().map(|bytes| Bytes::copy_from_slice(bytes)));
    burst
}

fn write_past(socket: &Socket, bytes: &[u8]) -> Written {
    socket.write_past(channel(), &burst(&[bytes]), 1)
}

#[tokio::test]
async fn records_pass_an_outbox_in_which_nothing_waits() {
    let (socket, mut client) = pair().await;
    assert_eq!(write_past(&socket, b"one"), Written::Whole);
    assert_eq!(read(&mut client, 3).await, b"one");
    assert_eq!((socket.sent_bytes(), socket.wrote_ms()), (3, 1));

    // A reply waits: what follows goes behind it.
    socket.with_outbox(|outbox| outbox.push_control(Bytes::from_static(b"reply")));
    assert_eq!(write_past(&socket, b"two"), Written::Nothing);
    assert_eq!(socket.flush(2), Flushed::Empty);
    assert_eq!(write_past(&socket, b"two"), Written::Whole);
    assert_eq!(read(&mut client, 8).await, b"replytwo");

    // More than the outbox would take is for the outbox to refuse.
    let many = [b"many".as_slice(); OUTBOX_FRAMES + 1];
    let many = socket.write_past(channel(), &burst(&many), 2);
    assert_eq!(many, Written::Nothing);

    // A `synced` that has its turn rides along, and one that has not does not.
    let frame = Bytes::from_static(b"synced");
    socket.with_outbox(|outbox| outbox.set_synced(channel(), Seq(1), &frame));
    assert_eq!(write_past(&socket, b"three"), Written::Whole);
    socket.with_outbox(Outbox::make_synced_due);
    assert_eq!(write_past(&socket, b"four"), Written::Nothing);

    // Nothing may follow a close frame.
    socket.with_outbox(|outbox| outbox.push_close(Bytes::from_static(b"close")));
    assert_eq!(socket.flush(3), Flushed::Empty);
    assert_eq!(write_past(&socket, b"five"), Written::Nothing);
    assert_eq!(read(&mut client, 10).await, b"threeclose");
}

#[tokio::test]
async fn what_the_kernel_has_no_room_for_is_queued() {
    let (socket, mut client) = pair().await;
    // Several pieces, in all just below what an outbox takes.
    let frames: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; 5_003]).collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let (burst, mut expected) = (burst(&frames), Vec::new());
    let written = loop {
        match socket.write_past(channel(), &burst, 0) {
            Written::Whole => expected.extend(frames.concat()),
            other => break other,
        }
    };
    // The kernel's buffers end inside a burst, unless they end where one does.
    if written == Written::Part {
        expected.extend(frames.concat());
        assert!(!socket.with_outbox(|outbox| outbox.is_empty()));
    }
    assert_eq!(
        write_past(&socket, b"past"),
        Written::Nothing,
        "it waits behind them"
    );
    let end = Bytes::from_static(b"end");
    assert!(socket.with_outbox(|outbox| outbox.offer_record(channel(), &end)));
    expected.extend(b"end");
    let length = expected.len();
    let writing = async {
        while socket.flush(0) != Flushed::Empty {
            socket.writable().await.expect("open");
        }
    };
    let (got, ()) = tokio::join!(read(&mut client, length), writing);
    assert!(got == expected, "every byte, in order");
    assert_eq!(socket.sent_bytes(), length as u64);
}
