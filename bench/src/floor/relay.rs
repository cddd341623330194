use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};

use super::server::Listening;
use crate::wire::lines::print;

/// A pod of the relay, a process of its own.
struct Pod {
    child: Child,
    listening: Listening,
}

impl Pod {
    /// Starts this program again, as one pod, and waits until it listens.
    fn start(args: &[String], cpu: Option<usize>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        let mut child = command.spawn().context("start a pod")?;
        let output = child.stdout.take().context("a pod's output")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("read from a pod")?;
        ensure!(!line.is_empty(), "a pod ended: {args:?}");
        let listening = serde_json::from_str(&line).with_context(|| line.clone())?;
        Ok(Self { child, listening })
    }

    /// Closes its input and waits for its end.
    fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("wait for a pod")?;
        ensure!(status.success(), "a pod ended with {status}");
        Ok(())
    }
}

/// Runs both pods of the bare relay until the input ends. `log` and `redis` are their options.
pub(super) fn run(
    log: &[String],
    redis: SocketAddr,
    cpu_in: Option<usize>,
    cpu_out: Option<usize>,
) -> anyhow::Result<()> {
    let redis = ["--redis".to_owned(), format!("redis://{redis}")];
    let first = [&["relay-in".to_owned()], log, &redis].concat();
    let pod_in = Pod::start(&first, cpu_in)?;
    let second = [&["relay-out".to_owned()], &redis[..]].concat();
    let pod_out = Pod::start(&second, cpu_out)?;
    let pids = vec![pod_in.child.id(), pod_out.child.id()];
    let (publish, addr) = (pod_in.listening.addr, pod_out.listening.addr);
    print(&Listening::new(addr, Some(publish), pids))?;
    // Nothing comes but the end.
    std::io::stdin()
        .lock()
        .read_to_end(&mut Vec::new())
        .context("wait for the end")?;
    pod_out.end()?;
    pod_in.end()
}
