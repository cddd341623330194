//! Follows the logs of our programs: an ERROR or a panic becomes a line of the history.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use hubbub_checker::Event;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::recorder::Recorder;

/// How late a line may stand in the history.
const LOOK: Duration = Duration::from_millis(250);
/// A longer line is cut; panics carry backtraces.
const LINE_CHARS: usize = 2_000;

/// A log, read up to somewhere.
#[derive(Debug)]
struct Tail {
    process: String,
    path: PathBuf,
    read: u64,
    /// The beginning of a line that is still being written.
    partial: String,
}

/// Follows logs until `stop`, and to their ends of that moment.
pub async fn follow(logs: Vec<(String, PathBuf)>, recorder: Recorder, stop: CancellationToken) {
    let mut tails: Vec<Tail> = logs.into_iter().map(Tail::new).collect();
    loop {
        let go_on = stop.run_until_cancelled(sleep(LOOK)).await.is_some();
        for tail in &mut tails {
            for (level, text) in tail.more() {
                recorder.record(Event::LogLine {
                    process: tail.process.clone(),
                    level: level.to_owned(),
                    text,
                });
            }
        }
        if !go_on {
            return;
        }
    }
}

impl Tail {
    fn new((process, path): (String, PathBuf)) -> Self {
        Self {
            process,
            path,
            read: 0,
            partial: String::new(),
        }
    }

    fn more(&mut self) -> Vec<(&'static str, String)> {
        // Not there before the process wrote something.
        let new = read_from(&self.path, self.read).unwrap_or_default();
        self.read += new.len() as u64;
        self.partial.push_str(&String::from_utf8_lossy(&new));
        let Some(end) = self.partial.rfind('\n') else {
            return Vec::new();
        };
        let whole: String = self.partial.drain(..=end).collect();
        let lines = whole.lines().filter_map(|line| {
            let level = level(line)?;
            Some((level, line.chars().take(LINE_CHARS).collect()))
        });
        lines.collect()
    }
}

/// What a line of a log is, if it is worth a line of the history.
fn level(line: &str) -> Option<&'static str> {
    if line.contains("panicked at") || line.contains(": panic panic=") {
        return Some("panic");
    }
    // `2026-11-21T14:40:00.123456Z ERROR hubbub_edge_server: …`
    let word = line.split_whitespace().nth(1);
    (word == Some("ERROR")).then_some("error")
}

fn read_from(path: &Path, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_panics_are_told_from_the_rest() {
        let at = "2026-11-21T14:40:00.123456Z";
        assert_eq!(level(&format!("{at} ERROR hubbub: a")), Some("error"));
        assert_eq!(level(&format!("{at}  INFO hubbub: an ERROR of it")), None);
        let panic = format!("{at} ERROR hubbub: panic panic=panicked at src/a.rs:1:2:");
        assert_eq!(level(&panic), Some("panic"));
        assert_eq!(
            level("thread 'main' panicked at src/main.rs:2:5:"),
            Some("panic")
        );
        assert_eq!(level(""), None);
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut tail = Tail::new(("edge-1".to_owned(), path.clone()));
        assert_eq!(tail.more(), []);
        std::fs::write(&path, "t ERROR one\nt ERR").expect("writes");
        assert_eq!(tail.more(), [("error", "t ERROR one".to_owned())]);
        std::fs::write(&path, "t ERROR one\nt ERROR two\n").expect("writes");
        assert_eq!(tail.more(), [("error", "t ERROR two".to_owned())]);
        assert_eq!(tail.more(), []);
    }
}
