//! How a driver steers a program: lines of JSON on its output, lines of words on its input.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
};

use anyhow::Context;
use serde::Serialize;

/// Prints a value as one line and flushes it.
pub fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value).context("write a line of JSON")?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)
        .and_then(|()| out.flush())
        .context("write to the driver")
}

/// The lines of standard input, one read at a time.
#[derive(Debug, Default)]
pub struct Commands {
    partial: Vec<u8>,
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Lines, perhaps none yet.
    Lines(Vec<String>),
    /// The driver is gone, or wants this program to end.
    Ended,
}

impl Commands {
    /// Reads once, and waits for it when nothing is there.
    pub fn read(&mut self) -> anyhow::Result<Input> {
        let mut bytes = [0; 4096];
        let read = nix::unistd::read(io::stdin().as_fd(), &mut bytes).context("read a command")?;
        Ok(self.take(&bytes[..read]))
    }

    fn take(&mut self, bytes: &[u8]) -> Input {
        if bytes.is_empty() {
            return Input::Ended;
        }
        self.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', &self.partial) {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim().to_owned());
        }
        Input::Lines(lines)
    }
}

/// Waits for the line `go`. `false` if the input ended first.
pub fn wait_for_go() -> anyhow::Result<bool> {
    let mut line = String::new();
    let mut input = io::stdin().lock();
    loop {
        line.clear();
        let mut byte = [0];
        loop {
            if input.read(&mut byte).context("read a command")? == 0 {
                return Ok(false);
            }
            if byte == *b"\n" {
                break;
            }
            line.push(char::from(byte[0]));
        }
        match line.trim() {
            "go" => return Ok(true),
            "" => {}
            other => anyhow::bail!("unknown command {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_reads_end() {
        let mut commands = Commands::default();
        assert_eq!(commands.take(b"go bu"), Input::Lines(vec![]));
        let lines = vec!["go burst=4".to_owned(), "drain".to_owned()];
        assert_eq!(commands.take(b"rst=4\ndrain\ng"), Input::Lines(lines));
        assert_eq!(commands.take(b""), Input::Ended);
    }
}
