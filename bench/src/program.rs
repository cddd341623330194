//! A program of the suite as a child process: it prints a line of JSON for each event and takes
//! words on its standard input, whose end is its own end.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// From the end of its input to the end of the program.
const END: Duration = Duration::from_secs(10);

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    log: std::path::PathBuf,
}

impl Program {
    /// Starts it; what it writes to standard error goes to `<dir>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        args: &[String],
        env: &[(String, String)],
        dir: &Path,
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let errors = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut child = Command::new(program)
            .args(args)
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("a program has an output")?;
        Ok(Self {
            name: name.to_owned(),
            child,
            input,
            output: BufReader::new(output).lines(),
            log,
        })
    }

    /// The process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child
            .id()
            .with_context(|| format!("{} has ended", self.name))
    }

    /// The next event, which must be `wanted`.
    ///
    /// # Errors
    /// When it is another one, the program ends or says nothing for `limit`.
    pub async fn event(&mut self, wanted: &str, limit: Duration) -> Result<Value> {
        let line = timeout(limit, self.output.next_line()).await;
        let Ok(line) = line else {
            bail!(
                "{} said nothing for {limit:?}{}",
                self.name,
                self.last_words()
            );
        };
        let Some(line) = line? else {
            bail!("{} ended{}", self.name, self.last_words());
        };
        let event: Value =
            serde_json::from_str(&line).with_context(|| format!("{} said: {line}", self.name))?;
        let got = event["event"].as_str().unwrap_or("");
        ensure!(got == wanted, "{} said: {line}", self.name);
        Ok(event)
    }

    /// Gives it a line.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn say(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("the input is open")?;
        let bytes = format!("{line}\n");
        let written = input.write_all(bytes.as_bytes()).await;
        written.with_context(|| format!("{} does not listen{}", self.name, self.last_words()))
    }

    /// Closes its input and waits for its end; kills it if that takes too long.
    ///
    /// # Errors
    /// When it had ended by itself: what was measured meanwhile was measured without it.
    pub async fn end(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let mut said = None;
            while let Some(line) = self.output.next_line().await? {
                said = Some(line);
            }
            bail!(
                "{} had ended by itself ({status}): {}{}",
                self.name,
                said.as_deref().unwrap_or("without a word"),
                self.last_words()
            );
        }
        drop(self.input.take());
        if timeout(END, self.child.wait()).await.is_err() {
            // An error means that it has ended just now.
            self.child.kill().await.ok();
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let lines = hubbub_stack::process::tail(&self.log, 5);
        if lines.is_empty() {
            String::new()
        } else {
            format!("; its last words:\n    {}", lines.join("\n    "))
        }
    }
}
