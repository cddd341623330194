use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use crate::wire::{
    clock::{CpuTime, now_ns},
    lines::{print, wait_for_go},
    payload::{Payload, parse as parse_payload},
    resp::{Reply, command, parse},
};

const BUFFER: usize = 256 * 1024;
/// Redis answers within microseconds; a subscriber may wait for its publisher to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is published, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Commands that wait for their answer at once.
    pub(super) senders: usize,
    /// Messages of a round.
    pub(super) messages: u64,
    /// Bytes of a message.
    pub(super) payload: usize,
    /// Channels, `c0`, `c1`, …, dealt round robin.
    pub(super) channels: u64,
}

/// A blocking connection.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are not parsed yet.
    filled: usize,
}

impl Wire {
    fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("set a timeout")?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER],
            filled: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("write to Redis")
    }

    /// Waits for one read and hands over every whole reply.
    fn read(
        &mut self,
        mut each: impl FnMut(Reply<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let read = self
            .stream
            .read(&mut self.buffer[self.filled..])
            .context("read from Redis")?;
        ensure!(read > 0, "Redis has closed the connection");
        self.filled += read;
        let mut used = 0;
        while let Some((reply, length)) = parse(&self.buffer[used..self.filled])? {
            each(reply)?;
            used += length;
        }
        self.buffer.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    messages: u64,
    duplicated: u64,
    misordered: u64,
    lost: u64,
    wall_ns: u64,
    user_ns: u64,
    system_ns: u64,
}

impl Done {
    fn since(messages: u64, began: u64, cpu: CpuTime) -> Self {
        let used = CpuTime::now() - cpu;
        Self {
            event: "done",
            messages,
            duplicated: 0,
            misordered: 0,
            lost: 0,
            wall_ns: now_ns() - began,
            user_ns: used.user_ns,
            system_ns: used.system_ns,
        }
    }
}

/// Publishes at each `go`: a window of commands in one write, then all of their answers.
pub(super) fn publish(addr: SocketAddr, plan: Plan) -> anyhow::Result<()> {
    let mut wire = Wire::connect(addr)?;
    let payload = Payload::new(0, plan.payload)?;
    let channels: Vec<String> = (0..plan.channels)
        .map(|channel| format!("c{channel}"))
        .collect();
    let (mut body, mut out, mut index) = (Vec::new(), Vec::new(), 0_u64);
    while wait_for_go()? {
        let (began, cpu) = (now_ns(), CpuTime::now());
        let mut left = plan.messages;
        while left > 0 {
            let mut waiting = left.min(plan.senders as u64);
            left -= waiting;
            out.clear();
            for _ in 0..waiting {
                body.clear();
                payload.write(index, began, &mut body);
                let channel = &channels[(index % plan.channels) as usize];
                command(&[b"PUBLISH", channel.as_bytes(), &body], &mut out);
                index += 1;
            }
            wire.write(&out)?;
            while waiting > 0 {
                wire.read(|reply| {
                    ensure!(matches!(reply, Reply::Integer(_)), "Redis says {reply:?}");
                    waiting = waiting.checked_sub(1).context("an answer too many")?;
                    Ok(())
                })?;
            }
        }
        print(&Done::since(plan.messages, began, cpu))?;
    }
    Ok(())
}

/// Subscribes, and at each `go` takes so many messages as are published in a round.
pub(super) fn consume(addr: SocketAddr, plan: Plan) -> anyhow::Result<()> {
    let mut wire = Wire::connect(addr)?;
    let mut out = Vec::new();
    for channel in 0..plan.channels {
        command(&[b"SUBSCRIBE", format!("c{channel}").as_bytes()], &mut out);
    }
    wire.write(&out)?;
    let mut unconfirmed = plan.channels;
    while unconfirmed > 0 {
        wire.read(|reply| {
            ensure!(
                matches!(reply, Reply::Subscribed(_)),
                "Redis says {reply:?}"
            );
            unconfirmed = unconfirmed
                .checked_sub(1)
                .context("a confirmation too many")?;
            Ok(())
        })?;
    }
    let mut next = 0;
    while wait_for_go()? {
        let (began, cpu) = (now_ns(), CpuTime::now());
        let end = next + plan.messages;
        while next < end {
            wire.read(|reply| {
                let Reply::Message { payload, .. } = reply else {
                    bail!("Redis says {reply:?} to a subscriber");
                };
                let header = parse_payload(payload).context("a foreign message")?;
                // One connection publishes, so all channels together are in order.
                let index = header.index;
                ensure!(
                    index == next,
                    "message {index} came where {next} was to come"
                );
                next += 1;
                Ok(())
            })?;
        }
        print(&Done::since(plan.messages, began, cpu))?;
    }
    Ok(())
}
