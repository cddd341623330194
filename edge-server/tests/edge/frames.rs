use std::{
    io::{Read, Write},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{
    client::Client,
    raw::{Raw, length, masked},
    support::World,
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;
const FIN_CLOSE: u8 = 0x88;
const FIN_PING: u8 = 0x89;
const TEXT: u8 = 0x01;
const CONTINUATION: u8 = 0x00;
const FIN_CONTINUATION: u8 = 0x80;

/// A ping request of exactly so many bytes.
fn request_of(bytes: usize) -> String {
    let frame = r#"{"type":"ping","id":1,"x":""}"#;
    let padding = "x".repeat(bytes - frame.len());
    format!(r#"{{"type":"ping","id":1,"x":"{padding}"}}"#)
}

async fn reply(raw: &mut Raw) -> anyhow::Result<Value> {
    let (opcode, payload) = raw.frame().await?.expect("a reply");
    assert_eq!(opcode, 1);
    Ok(serde_json::from_slice(&payload)?)
}

#[tokio::test]
async fn what_rfc_6455_forbids_closes_with_its_code() -> anyhow::Result<()> {
    let world = World::new("frames").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let ping = br#"{"type":"ping"}"#;
    let unmasked = {
        let mut frame = vec![FIN_TEXT];
        frame.extend(length(0, ping.len()));
        frame.extend(ping);
        frame
    };
    let declared = |bytes: u64| {
        let mut frame = vec![FIN_TEXT, 0x80 | 127];
        frame.extend(bytes.to_be_bytes());
        frame.extend([0; 4]);
        frame
    };
    let fragments = |count: usize, size: usize| {
        let mut frames = masked(TEXT, b"{");
        for _ in 0..count {
            frames.extend(masked(CONTINUATION, &vec![b' '; size]));
        }
        frames
    };
    let cases = [
        ("a binary frame", masked(FIN_BINARY, ping), 1003),
        (
            "text that is not UTF-8",
            masked(FIN_TEXT, b"{\"type\":\"\xff\"}"),
            1007,
        ),
        ("a surrogate", masked(FIN_TEXT, b"\xed\xa0\x80"), 1007),
        ("no mask", unmasked, 1002),
        ("a reserved bit", masked(FIN_TEXT | 0x40, ping), 1002),
        ("all reserved bits", masked(FIN_TEXT | 0x70, ping), 1002),
        ("a reserved opcode", masked(0x83, ping), 1002),
        ("a reserved control opcode", masked(0x8b, b""), 1002),
        ("a fragmented ping", masked(0x09, b""), 1002),
        ("a ping of 126 bytes", masked(FIN_PING, &[0; 126]), 1002),
        (
            "a continuation of nothing",
            masked(FIN_CONTINUATION, ping),
            1002,
        ),
        (
            "a text within a text",
            [masked(TEXT, b"{"), masked(FIN_TEXT, ping)].concat(),
            1002,
        ),
        (
            "65,537 bytes",
            masked(FIN_TEXT, request_of(65_537).as_bytes()),
            1009,
        ),
        (
            "a megabyte",
            masked(FIN_TEXT, request_of(1_048_576).as_bytes()),
            1009,
        ),
        ("a declared 2^63", declared(1 << 63), 1009),
        ("a declared 2^62", declared(1 << 62), 1009),
        ("fragments without an end", fragments(66, 1_000), 1009),
    ];
    let mut quiet = Client::connect(&pod, &mary).await?;
    for (what, bytes, code) in cases {
        let mut raw = Raw::upgraded(pod.addr, &mary.token).await?;
        // The server may close before it has read all of it.
        let sent = raw.send(&bytes).await;
        let closed = raw.close_code().await;
        let closed = closed.unwrap_or_else(|error| panic!("{what}: {error:#}, sent {sent:?}"));
        assert_eq!(closed, code, "{what}");
        raw.end().await?;
    }
    // Nobody else noticed.
    quiet.request(json!({ "type": "ping" })).await?;
    pod.until_sockets(1).await?;
    assert_eq!(pod.metric("hubbub_edge_panics_total").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn message_of_64_kib_is_taken_whole_or_in_ten_thousand_pieces() -> anyhow::Result<()> {
    let world = World::new("pieces").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let mut raw = Raw::upgraded(pod.addr, &mary.token).await?;
    let ok = json!({ "reply_to": 1, "ok": true });
    raw.send(&masked(FIN_TEXT, request_of(65_536).as_bytes()))
        .await?;
    assert_eq!(reply(&mut raw).await?, ok);

    let pieces = |request: &str| {
        let mut frames = masked(TEXT, b"");
        for (at, byte) in request.bytes().enumerate() {
            frames.extend(masked(CONTINUATION, &[byte]));
            if at % 1_000 == 0 {
                // A control frame may stand between fragments.
                frames.extend(masked(FIN_PING, b"between"));
            }
        }
        frames.extend(masked(FIN_CONTINUATION, b""));
        frames
    };
    raw.send(&pieces(&request_of(10_000))).await?;
    let mut pongs = 0;
    loop {
        let (opcode, payload) = raw.frame().await?.expect("an answer");
        if opcode == 10 {
            assert_eq!(payload, b"between");
            pongs += 1;
            continue;
        }
        assert_eq!(serde_json::from_slice::<Value>(&payload)?, ok);
        break;
    }
    assert!(pongs > 0);
    // UTF-8 that is cut between two fragments is whole again behind them.
    let text = r#"{"type":"ping","id":"é"}"#.as_bytes();
    let at = text.iter().position(|byte| *byte == 0xc3).expect("é") + 1;
    raw.send(&masked(TEXT, &text[..at])).await?;
    raw.send(&masked(FIN_CONTINUATION, &text[at..])).await?;
    assert_eq!(reply(&mut raw).await?["reply_to"], "é");
    Ok(())
}

#[tokio::test]
async fn ping_is_answered_at_once_with_its_bytes() -> anyhow::Result<()> {
    let world = World::new("ping").await?;
    let pod = world.pod("edge-1", &["--heartbeat-ms=15000"]).await?;
    let mary = world.caller("mary").await?;
    let mut raw = Raw::upgraded(pod.addr, &mary.token).await?;
    // The only ping of the server's own for a while: nothing else makes it write.
    assert_eq!(raw.frame().await?, Some((9, Vec::new())));
    let begun = Instant::now();
    raw.send(&masked(FIN_PING, b"knock")).await?;
    assert_eq!(raw.frame().await?, Some((10, b"knock".to_vec())));
    // What is not written at once leaves with the next ping, fifteen seconds after the first.
    assert!(begun.elapsed().as_secs() < 7, "after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn close_of_the_client_is_answered_with_a_close() -> anyhow::Result<()> {
    let world = World::new("close").await?;
    let pod = world.pod("edge-1", &[]).await?;
    let mary = world.caller("mary").await?;
    let mut client = Client::connect(&pod, &mary).await?;
    let bye = CloseFrame {
        code: 1000.into(),
        reason: "bye".into(),
    };
    client.send_raw(Message::Close(Some(bye))).await?;
    assert_eq!(client.closed().await?.0, 1000);

    let mut raw = Raw::upgraded(pod.addr, &mary.token).await?;
    raw.send(&masked(FIN_CLOSE, b"")).await?;
    let (opcode, payload) = raw.frame().await?.expect("a close frame");
    assert_eq!(
        (opcode, payload.len()),
        (8, 0),
        "without a code, as it came"
    );
    assert!(raw.end().await?.is_empty());
    pod.until_sockets(0).await?;
    // One that goes without a word is gone, too.
    let raw = Raw::upgraded(pod.addr, &mary.token).await?;
    pod.until_sockets(1).await?;
    drop(raw);
    pod.until_sockets(0).await
}

/// What this thread has worked: unlike the time that passes, none of anybody else's.
fn worked() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

#[tokio::test]
async fn flood_of_pings_is_closed_and_nobody_else_waits() -> anyhow::Result<()> {
    let world = World::new("flood").await?;
    let flags = ["--frame-rate=100", "--frame-burst=1000"];
    let pod = world.pod("edge-1", &flags).await?;
    let mary = world.caller("mary").await?;
    let mut quiet = Client::connect(&pod, &mary).await?;
    let raw = Raw::upgraded(pod.addr, &mary.token).await?;
    // On threads of its own: the pod has this one.
    let mut from = raw.tcp.into_std()?;
    from.set_nonblocking(false)?;
    let mut to = from.try_clone()?;
    let mut threads = JoinSet::new();
    let flood = threads.spawn_blocking(move || {
        let many = masked(FIN_PING, b"x").repeat(1_000);
        // Ends when the server closes.
        while to.write_all(&many).is_ok() {}
        Vec::new()
    });
    threads.spawn_blocking(move || {
        let mut answers = Vec::new();
        // A reset is an end, too.
        from.read_to_end(&mut answers).ok();
        answers
    });
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    // No faster than its own frame rate allows.
    let mut turn = interval(Duration::from_millis(10));
    while !flood.is_finished() {
        turn.tick().await;
        let before = worked()?;
        quiet.request(json!({ "type": "ping" })).await?;
        slowest = slowest.max(worked()? - before);
        asked += 1;
    }
    assert!(asked > 20, "{asked} requests beside the flood");
    assert!(
        slowest.as_millis() < 500,
        "the other socket waited for {slowest:?} of work"
    );
    let answers: Vec<u8> = threads.join_all().await.concat();
    let close = [FIN_CLOSE, 0, 0x0f, 0xa9];
    let closed = answers
        .windows(4)
        .any(|four| four[0] == close[0] && four[2..] == close[2..]);
    assert!(closed, "no close with 4009 in {} bytes", answers.len());
    Ok(())
}
