//! A pod as a process, whose log nobody reads.

use std::process::Stdio;

use anyhow::Context;
use hubbub_service::Lifecycle;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::{
    client::Client,
    support::{LONG, RunningPod, World},
};

/// The process, its end of the log, and where it listens.
async fn start(
    world: &World,
) -> anyhow::Result<(Child, Lines<BufReader<ChildStderr>>, RunningPod)> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_hubbub-edge-server"))
        .args(world.flags(&["--pod-id=edge-1", "--log=trace"]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let log = process.stderr.take().context("a pipe")?;
    let mut log = BufReader::new(log).lines();
    let ready = timeout(LONG, async {
        loop {
            let line = log
                .next_line()
                .await?
                .context("it ended before it was ready")?;
            if let Some((_, addresses)) = line.split_once("ready: WebSocket on ws://") {
                return anyhow::Ok(addresses.to_owned());
            }
        }
    });
    let ready = ready.await??;
    let (addr, rest) = ready.split_once("/ws, metrics on ").context("addresses")?;
    let (ops, _) = rest.split_once("/metrics").context("an address")?;
    let pod = RunningPod {
        id: "edge-1".parse()?,
        addr: addr.parse()?,
        ops: ops.to_owned(),
        lifecycle: Lifecycle::new(),
    };
    Ok((process, log, pod))
}

/// Talks until there is no room for what the pod says of it.
async fn until_dropped(pod: &RunningPod, client: &mut Client) -> anyhow::Result<()> {
    let dropped = async || pod.metric("logging_lines_dropped_total").await;
    let before = dropped().await?;
    let talk = timeout(LONG, async {
        while dropped().await? <= before {
            for _ in 0..100 {
                client.feed(&json!({ "type": "ping" })).await?;
            }
            client.request(json!({ "type": "ping" })).await?;
        }
        anyhow::Ok(())
    });
    talk.await?
}

#[tokio::test]
async fn pod_whose_log_nobody_reads_serves_and_drains() -> anyhow::Result<()> {
    let world = World::new("unread_log").await?;
    let (mut process, mut log, pod) = start(&world).await?;
    let mary = world.caller("mary").await?;
    let channel = world.channel(&[&mary]).await?;
    let mut client = Client::connect(&pod, &mary).await?;
    client.join(channel).await?;
    until_dropped(&pod, &mut client).await?;
    client.say(channel, "the pod goes on").await?;
    client.hears("the pod goes on").await?;

    // Somebody reads again, and is told what they did not see.
    let gap = timeout(LONG, async {
        loop {
            let line = log.next_line().await?.context("it ended")?;
            if line.contains("log lines were dropped") {
                return anyhow::Ok(line);
            }
        }
    });
    let gap = gap.await??;
    assert!(gap.contains("WARN"), "{gap}");

    // And stops again: that is no reason not to end.
    until_dropped(&pod, &mut client).await?;
    let pid = process.id().context("it runs")?;
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGTERM)?;
    let status = timeout(LONG, process.wait()).await??;
    assert_eq!(status.code(), Some(0));
    Ok(())
}
