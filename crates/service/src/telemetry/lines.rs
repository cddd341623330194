//! Log lines on their way out. A thread of their own writes them, so that a reader of the logs who
//! stands still does not stand the process still.

use std::{
    io::{self, Write},
    mem,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// Bytes of lines that wait, at most; as much again may be on its way out. A line that finds no
/// room is dropped and counted.
const WAITING_BYTES: usize = 1024 * 1024;
/// Room that is kept once a burst is over.
const KEPT_BYTES: usize = 16 * 1024;
/// Bytes of a write, at most, unless a single line is longer: what a pipe takes in one piece
/// (`PIPE_BUF`, pipe(7)), so that lines of processes that share one are not torn.
const WRITE_BYTES: usize = 4 * 1024;

/// Lines that wait, and the count of those that nobody will read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    added: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Some are on their way out.
    is_writing: bool,
    /// Lines that found no room.
    full: u64,
    /// Lines that could not be written.
    failed: u64,
}

impl Lines {
    /// Lines that were not and will not be written.
    pub(super) fn dropped(&self) -> u64 {
        let state = self.state.lock();
        state.full + state.failed
    }

    /// Waits until everything so far was written; false: it was not within that time.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut state = self.state.lock();
        let busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.written.wait_while_for(&mut state, busy, within);
        !waited.timed_out()
    }

    /// Writes what comes, for ever. One thread does this. `gap` is told of lines that found no
    /// room, once there is some again.
    pub(super) fn run(&self, mut out: impl Write, gap: impl Fn(u64)) -> ! {
        let (mut batch, mut told) = (Vec::new(), 0);
        loop {
            let full = self.take(&mut batch);
            let failed = write_lines(&mut out, &batch);
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            self.done(failed);
            if full > told {
                gap(full - told);
                told = full;
            }
        }
    }

    fn add(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + line.len() > WAITING_BYTES {
            state.full += 1;
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.added.notify_one();
        }
    }

    /// Waits for lines and takes all that wait; how many found no room until now.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        let none = |state: &mut State| state.waiting.is_empty();
        self.added.wait_while(&mut state, none);
        mem::swap(&mut state.waiting, batch);
        state.is_writing = true;
        state.full
    }

    fn done(&self, failed: u64) {
        let mut state = self.state.lock();
        state.is_writing = false;
        state.failed += failed;
        drop(state);
        self.written.notify_all();
    }
}

impl Write for &Lines {
    /// Takes a line, or drops it. Never waits, never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes whole lines, as many at once as a pipe takes in one piece; how many could not be written.
fn write_lines(out: &mut impl Write, mut lines: &[u8]) -> u64 {
    let mut failed = 0;
    while !lines.is_empty() {
        let (now, rest) = lines.split_at(end_of_write(lines));
        if out.write_all(now).is_err() {
            // Nobody can be told, and the next ones may succeed.
            failed += now.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        lines = rest;
    }
    failed
}

/// Where the last line ends that still fits, or the first one if it does not.
fn end_of_write(lines: &[u8]) -> usize {
    if lines.len() <= WRITE_BYTES {
        return lines.len();
    }
    let is_end = |byte: &u8| *byte == b'\n';
    let fits = lines[..WRITE_BYTES].iter().rposition(is_end);
    let end = fits.or_else(|| lines.iter().position(is_end));
    end.map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// A reader that takes a write when it is told to.
    struct Slow {
        turns: mpsc::Receiver<()>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turns.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.read.send(bytes.to_vec()).expect("the test reads");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Reader {
        lines: Arc<Lines>,
        turns: mpsc::Sender<()>,
        read: mpsc::Receiver<Vec<u8>>,
        gaps: mpsc::Receiver<u64>,
    }

    fn reader() -> Reader {
        let lines = Arc::new(Lines::default());
        let (turns, taken) = mpsc::channel();
        let (out, read) = mpsc::channel();
        let (gap, gaps) = mpsc::channel();
        let writer = Arc::clone(&lines);
        thread::spawn(move || {
            let slow = Slow {
                turns: taken,
                read: out,
            };
            writer.run(slow, move |lines| gap.send(lines).expect("the test reads"))
        });
        Reader {
            lines,
            turns,
            read,
            gaps,
        }
    }

    impl Reader {
        fn take(&self) -> Vec<u8> {
            self.turns.send(()).expect("the thread writes");
            self.read.recv_timeout(LONG).expect("a write")
        }
    }

    #[test]
    fn reader_that_stands_still_costs_lines_and_no_time() {
        let reader = reader();
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        reader.lines.add(b"first\n");
        // Twice what may be there in all.
        for _ in 0..4 * WAITING_BYTES / line.len() {
            reader.lines.add(&line);
        }
        let dropped = reader.lines.dropped();
        let kept = 4 * WAITING_BYTES / line.len() - usize::try_from(dropped).expect("few");
        assert!(kept * line.len() <= 2 * WAITING_BYTES, "{kept} kept");
        assert!(!reader.lines.flush(Duration::from_millis(1)));

        let expected = b"first\n".len() + kept * line.len();
        let mut read = 0;
        while read < expected {
            let piece = reader.take();
            assert!(piece.len() <= WRITE_BYTES, "{} at once", piece.len());
            assert!(piece.ends_with(b"\n"), "a line is torn");
            read += piece.len();
        }
        assert_eq!(read, expected);
        assert!(reader.lines.flush(LONG));
        let mut told = 0;
        while told < dropped {
            told += reader.gaps.recv_timeout(LONG).expect("told of all");
        }
        assert_eq!((told, reader.lines.dropped()), (dropped, dropped));
    }

    #[test]
    fn lines_leave_in_order_and_a_long_one_alone() {
        let reader = reader();
        let long = [vec![b'y'; WRITE_BYTES], b"\n".to_vec()].concat();
        let all = [b"a\n".as_slice(), b"b\n", &long, b"c\n"];
        // The first is on its way out, or still waits, while the others come.
        for line in all {
            reader.lines.add(line);
        }
        let mut read = Vec::new();
        while read.len() < all.concat().len() {
            let piece = reader.take();
            assert!(piece.len() <= WRITE_BYTES || piece == long);
            read.extend(piece);
        }
        assert_eq!(read, all.concat());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let Reader { lines, turns, .. } = reader();
        drop(turns);
        lines.add(b"a\nb\n");
        assert!(lines.flush(LONG));
        assert_eq!(lines.dropped(), 2);
    }
}
