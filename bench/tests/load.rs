//! The load client against servers of its own dialect: the bare ones, which tell the truth, and
//! one that loses, doubles, swaps, damages and splits what it sends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use hubbub_bench::wire::{
    frame::{PING, TEXT, mask, parse, server_frame},
    handshake::accept,
};
use serde_json::Value;

/// A program of the suite; its input closes with it.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            input,
            output,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn event(&mut self, wanted: &str) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], wanted, "{line}");
        event
    }

    fn end(mut self) -> bool {
        drop(self.input.take());
        self.child.wait().unwrap().success()
    }
}

fn floor(kind: &str) -> (Program, String) {
    let mut floor = Program::start(env!("CARGO_BIN_EXE_floor"), &[kind]);
    let event = floor.event("listening");
    let url = format!("ws://{}/", event["addr"].as_str().unwrap());
    (floor, url)
}

fn load(url: &str, more: &[&str]) -> Program {
    let base = ["--dialect", "raw", "--url", url, "--settle-ms", "100"];
    let mut load = Program::start(env!("CARGO_BIN_EXE_load"), &[&base, more].concat());
    load.event("ready");
    load
}

fn counts(event: &Value) -> [u64; 5] {
    let names = ["expected", "delivered", "lost", "duplicated", "misordered"];
    names.map(|name| event[name].as_u64().unwrap())
}

#[test]
fn bare_servers_deliver_everything_once() {
    let woken = ["--payload", "128"];
    let looking = ["--look-every-us", "500"];
    for (kind, wait) in [
        ("send-loop", woken),
        ("writev-b", woken),
        ("writev-b", looking),
    ] {
        let (floor, url) = floor(kind);
        let sockets = [
            "--sockets",
            "30",
            "--channels",
            "6",
            "--joins",
            "2",
            "--publishers",
            "2",
        ];
        let mut load = load(&url, &[&sockets[..], &wait].concat());
        for go in [
            "go messages=60",
            "go messages=200 burst=16",
            "go rate=500 seconds=0.2 burst=3",
        ] {
            load.say(go);
            let done = load.event("done");
            let sent = done["sent"].as_u64().unwrap();
            assert_eq!(
                counts(&done),
                [sent * 10, sent * 10, 0, 0, 0],
                "{kind}: {go}"
            );
            assert_eq!(done["latency_ns"]["count"], sent * 10);
        }
        assert!(load.end() && floor.end());
    }
}

#[test]
fn echo_answers_every_socket() {
    for answer in ["--answer-bytes=27", "--answer-bytes=13"] {
        let mut floor = Program::start(env!("CARGO_BIN_EXE_floor"), &["epoll-echo", answer]);
        let event = floor.event("listening");
        let url = format!("ws://{}/", event["addr"].as_str().unwrap());
        let mut load = load(
            &url,
            &["--mode", "echo", "--sockets", "7", "--payload", "1024"],
        );
        load.say("go messages=100 burst=10");
        assert_eq!(counts(&load.event("done")), [100, 100, 0, 0, 0]);
        assert!(load.end() && floor.end());
    }
}

#[test]
fn slow_sockets_are_counted_apart_and_get_everything_in_the_end() {
    let (floor, url) = floor("send-loop");
    let slow = [
        "--sockets",
        "4",
        "--slow-sockets",
        "2",
        "--payload",
        "16000",
    ];
    let mut load = load(&url, &slow);
    load.say("go messages=300 burst=4");
    let done = load.event("done");
    assert_eq!(counts(&done), [600, 600, 0, 0, 0]);
    assert!(done["slow"]["lost"].as_u64().unwrap() > 0, "1 KB/s is slow");
    load.say("drain");
    assert_eq!(counts(&load.event("drained")["slow"]), [600, 600, 0, 0, 0]);
    assert!(load.end() && floor.end());
}

/// What a server does to the messages that it was sent before it writes them, as whole frames.
type Lie = fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>;

/// A server of one socket that listens and one that publishes. It collects so many messages, lies
/// about them, and writes the frames in pieces of `piece` bytes.
fn liar(lie: Lie, messages: usize, piece: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_nodelay(true).unwrap();
        let join = texts(&mut receiver, 1).remove(0);
        assert_eq!(join, b"join c0");
        write_in(&mut receiver, &[b"joined c0".to_vec()], piece);
        let (mut publisher, _) = listener.accept().unwrap();
        let sent = texts(&mut publisher, messages);
        let payloads = sent
            .iter()
            .map(|text| text.strip_prefix(b"pub c0 ").unwrap().to_vec());
        write_in(&mut receiver, &lie(payloads.collect()), piece);
        // Until the client goes.
        while receiver.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    url
}

/// Reads so many text frames, after the handshake.
fn texts(stream: &mut TcpStream, count: usize) -> Vec<Vec<u8>> {
    let (mut bytes, mut found, mut upgraded) = (Vec::new(), Vec::new(), false);
    while found.len() < count {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).unwrap();
        assert!(read > 0, "the client went");
        bytes.extend_from_slice(&more[..read]);
        if !upgraded {
            let mut answer = Vec::new();
            let Some(length) = accept(&bytes, &mut answer).unwrap() else {
                continue;
            };
            bytes.drain(..length);
            stream.write_all(&answer).unwrap();
            upgraded = true;
        }
        while let Some(frame) = parse(&bytes, 1 << 16).unwrap() {
            let body = &mut bytes[frame.payload.clone()];
            mask(body, frame.mask.unwrap());
            if frame.opcode == TEXT {
                found.push(body.to_vec());
            }
            bytes.drain(..frame.payload.end);
        }
    }
    found
}

/// Writes frames, a ping before each of them, in pieces.
fn write_in(stream: &mut TcpStream, texts: &[Vec<u8>], piece: usize) {
    let mut bytes = Vec::new();
    for text in texts {
        server_frame(PING, b"there?", &mut bytes);
        server_frame(TEXT, text, &mut bytes);
    }
    for piece in bytes.chunks(piece) {
        stream.write_all(piece).unwrap();
        thread::yield_now();
    }
}

/// Seconds that a client waits for what the liar keeps to itself: each of them is waited for.
const WITHHELD: &str = "3";
/// Seconds that a client waits for what does come, however busy the machine is.
const COMES: &str = "30";

fn lied_to(lie: Lie, piece: usize, patience: &str) -> Program {
    let url = liar(lie, 6, piece);
    // One at a time: the liar takes who listens first.
    let one = [
        "--sockets",
        "1",
        "--connecting",
        "1",
        "--patience",
        patience,
    ];
    let mut load = load(&url, &one);
    load.say("go messages=6 burst=6");
    load
}

#[test]
fn split_frames_are_whole_messages() {
    for piece in [1, 2, 3, 7, 50, 127, 128, 129, 1000] {
        let mut load = lied_to(|texts| texts, piece, COMES);
        assert_eq!(
            counts(&load.event("done")),
            [6, 6, 0, 0, 0],
            "pieces of {piece}"
        );
        assert!(load.end());
    }
}

#[test]
fn lost_doubled_and_swapped_messages_are_counted() {
    let lies: [(&str, Lie, [u64; 5]); 6] = [
        ("nothing comes", |_| Vec::new(), [6, 0, 6, 0, 0]),
        (
            "one is lost",
            |mut texts| {
                texts.remove(2);
                texts
            },
            [6, 5, 1, 0, 0],
        ),
        (
            "the last one is lost",
            |mut texts| {
                texts.pop();
                texts
            },
            [6, 5, 1, 0, 0],
        ),
        (
            "one is doubled",
            |mut texts| {
                texts.insert(3, texts[1].clone());
                texts
            },
            [6, 6, 0, 1, 0],
        ),
        (
            "two are swapped",
            |mut texts| {
                texts.swap(1, 2);
                texts
            },
            [6, 6, 0, 0, 1],
        ),
        (
            "one is lost, another doubled",
            |mut texts| {
                texts[4] = texts[3].clone();
                texts
            },
            [6, 5, 1, 1, 0],
        ),
    ];
    let told = lies.map(|(name, lie, expected)| {
        let patience = if expected[2] == 0 { COMES } else { WITHHELD };
        (name, lied_to(lie, 5, patience), expected)
    });
    for (name, mut load, expected) in told {
        let done = load.event("done");
        assert_eq!(counts(&done), expected, "{name}");
        assert_eq!(done["complete"], expected[2] == 0, "{name}");
        assert!(load.end());
    }
}

#[test]
fn damaged_and_foreign_messages_end_the_run() {
    let lies: [Lie; 4] = [
        |mut texts| {
            let last = texts[3].len() - 1;
            texts[3][last] ^= 1;
            texts
        },
        |mut texts| {
            texts[3].push(b'x');
            texts
        },
        // Another client's tag.
        |mut texts| {
            texts[0][3] = if texts[0][3] == b'0' { b'1' } else { b'0' };
            texts
        },
        |mut texts| {
            texts[5] = b"something else".to_vec();
            texts
        },
    ];
    for lie in lies {
        let mut load = lied_to(lie, 4096, COMES);
        load.event("failed");
        assert!(!load.end(), "it ends with an error");
    }
}
