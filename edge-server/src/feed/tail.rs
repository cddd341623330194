use std::collections::VecDeque;

use hubbub_protocol::Seq;

use super::{
    Feed, Frame, Limits, Outboxes, SocketId,
    sockets::{HasSocket, Reader},
};

/// The newest rows of the channel: a page that is kept, for readers who are not far behind. The
/// store is asked once for what thousands miss who come back after each other.
#[derive(Debug)]
pub(super) struct Tail {
    /// `rows` are all rows in `(from, horizon]`, ascending.
    from: Seq,
    rows: VecDeque<Frame>,
    bytes: usize,
    limits: Limits,
}

/// What a row costs: its frame, and its place in the tail.
pub(super) fn cost(row: &Frame) -> usize {
    row.bytes.len() + size_of::<Frame>()
}

impl Tail {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            from: Seq(0),
            rows: VecDeque::new(),
            bytes: 0,
            limits,
        }
    }

    /// The horizon is known; of what is below nothing is.
    pub(super) fn start(&mut self, horizon: Seq) {
        while self.drop_first() {}
        if rule!(TailStartsAtTheHorizon) {
            self.from = horizon;
        }
    }

    /// Whether a reader at `cursor` finds all that it lacks.
    pub(super) fn covers(&self, cursor: Seq) -> bool {
        self.from <= cursor || !rule!(TailServesFromItsStart)
    }

    /// Takes the next row that the horizon passes. Older ones make room for it.
    pub(super) fn push(&mut self, row: &Frame) {
        if !rule!(TailGrowsWithTheHorizon) {
            return;
        }
        loop {
            if self.take(row) {
                self.rows.push_back(row.clone());
                return;
            }
            if !self.drop_first() {
                break;
            }
        }
        // Too large, or the other feeds have all the room.
        if rule!(TailLacksNoRow) {
            self.from = row.seq;
        }
    }

    /// Takes what a page had of the rows below: `rows` are all of `(from, end]`.
    pub(super) fn extend_down(&mut self, from: Seq, end: Seq, rows: &[Frame]) {
        if from >= self.from || (end < self.from && rule!(TailHasNoGap)) {
            return;
        }
        let below = rows.partition_point(|row| row.seq <= self.from);
        for row in rows[..below].iter().rev() {
            if !self.take(row) {
                self.from = if rule!(TailBeginsWhereItIsFull) {
                    row.seq
                } else {
                    from
                };
                return;
            }
            self.rows.push_front(row.clone());
        }
        self.from = from;
    }

    /// Its rows, ascending; to be put back with [`Self::put_back`].
    pub(super) fn lend(&mut self) -> VecDeque<Frame> {
        std::mem::take(&mut self.rows)
    }

    pub(super) fn put_back(&mut self, rows: VecDeque<Frame>) {
        self.rows = rows;
    }

    fn take(&mut self, row: &Frame) -> bool {
        let cost = cost(row);
        let bounds = self.limits.tail();
        let fits = self.rows.len() < bounds.rows
            && self.bytes + cost <= bounds.bytes
            && self.limits.take_tail(cost);
        if fits {
            self.bytes += cost;
        }
        fits
    }

    fn drop_first(&mut self) -> bool {
        let Some(row) = self.rows.pop_front() else {
            return false;
        };
        self.bytes -= cost(&row);
        self.limits.give_back_tail(cost(&row));
        if rule!(DroppedRowRaisesTheTail) {
            self.from = row.seq;
        }
        true
    }

    /// What must hold between any two calls.
    pub(super) fn is_sound(&self, horizon: Seq) -> bool {
        let bounds = self.limits.tail();
        self.from <= horizon
            && self.rows.iter().is_sorted_by(|a, b| a.seq < b.seq)
            && self.rows.front().is_none_or(|row| row.seq > self.from)
            && self.rows.back().is_none_or(|row| row.seq <= horizon)
            && self.rows.len() <= bounds.rows
            && self.bytes == self.rows.iter().map(cost).sum::<usize>()
            && self.bytes <= bounds.bytes
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.limits.give_back_tail(self.bytes);
    }
}

impl Feed {
    /// Serves the readers whose rows are all in memory, as far as their outboxes have room.
    ///
    /// What a page of the store has to pass (the channel is not held, the lease is there), this
    /// has to pass too: it is called where a page could be answered.
    pub fn serve_from_tail<O: Outboxes>(&mut self, out: &mut O) {
        let Some(horizon) = self.horizon else {
            return;
        };
        let near = self.readers.iter().filter(|reader| {
            !reader.closing
                && reader
                    .cursor()
                    .is_some_and(|cursor| cursor < horizon && self.tail.covers(cursor))
        });
        let near: Vec<SocketId> = near.map(HasSocket::socket).collect();
        if near.is_empty() {
            return;
        }
        let mut rows = self.tail.lend();
        let all = rows.make_contiguous();
        for socket in near {
            while let Some(reader) = self.readers.get(socket).filter(|reader| !reader.closing)
                && let Some(cursor) = reader.cursor().filter(|cursor| *cursor < horizon)
                && out.under_half(socket)
            {
                let above = &all[all.partition_point(|row| row.seq <= cursor)..];
                let page = &above[..above.len().min(self.limits.page_rows())];
                let end = match page.last() {
                    Some(last) if page.len() < above.len() && rule!(TailPageEndsAtItsLastRow) => {
                        last.seq
                    }
                    _ => horizon,
                };
                self.counts.pages_from_memory += 1;
                self.serve_reader(socket, page, end, out);
            }
        }
        self.tail.put_back(rows);
    }

    /// The cursor of a reader that is behind and does not find in memory what it lacks.
    pub(super) fn reads_the_store(&self, reader: &Reader) -> Option<Seq> {
        let cursor = reader.cursor()?;
        (Some(cursor) < self.horizon && !self.tail.covers(cursor)).then_some(cursor)
    }

    /// Where the tail begins, and its rows.
    #[cfg(test)]
    pub(super) fn tail_rows(&self) -> (Seq, impl Iterator<Item = &Frame>) {
        (self.tail.from, self.tail.rows.iter())
    }

    #[cfg(test)]
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.bytes
    }
}
