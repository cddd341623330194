use std::{collections::HashMap, io::IoSlice, ops::Range};

use super::server::Net;
use crate::wire::frame::{TEXT, server_frame};

/// More pieces than one `writev` takes.
const PIECES: usize = 1024;

/// Who listens to what, and the frames of a batch that is not written yet.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    numbers: HashMap<Box<[u8]>, usize>,
    /// Per channel, the sockets.
    members: Vec<Vec<usize>>,
    /// Frames of the batch, end to end.
    bytes: Vec<u8>,
    /// Of each frame, its channel and where it is.
    frames: Vec<(usize, Range<usize>)>,
    /// Per socket, the frames of the batch that it gets; empty between batches.
    pending: Vec<Vec<u32>>,
    dirty: Vec<usize>,
}

impl Fanout {
    /// Adds a socket to a channel. Says whether it is the first one.
    pub(super) fn join(&mut self, channel: &[u8], socket: usize) -> bool {
        let next = self.members.len();
        let number = *self.numbers.entry(channel.into()).or_insert(next);
        if number == next {
            self.members.push(Vec::new());
        }
        let members = &mut self.members[number];
        if !members.contains(&socket) {
            members.push(socket);
        }
        if self.pending.len() <= socket {
            self.pending.resize_with(socket + 1, Vec::new);
        }
        members.len() == 1
    }

    /// Removes a socket from all channels.
    pub(super) fn leave(&mut self, socket: usize) {
        for members in &mut self.members {
            members.retain(|member| *member != socket);
        }
    }

    /// The sockets of a channel.
    pub(super) fn members(&self, channel: &[u8]) -> &[usize] {
        let number = self.numbers.get(channel);
        number.map_or(&[], |number| &self.members[*number])
    }

    /// Adds a message to the batch.
    pub(super) fn add(&mut self, channel: &[u8], payload: &[u8]) {
        let Some(number) = self.numbers.get(channel) else {
            return;
        };
        let start = self.bytes.len();
        server_frame(TEXT, payload, &mut self.bytes);
        self.frames.push((*number, start..self.bytes.len()));
    }

    /// Writes the batch: one `writev` per socket that gets anything of it.
    pub(super) fn flush(&mut self, net: &mut Net) -> anyhow::Result<()> {
        let Some(((first, _), others)) = self.frames.split_first() else {
            return Ok(());
        };
        if others.iter().all(|(channel, _)| channel == first) {
            // Every member gets the same: the pieces are listed once.
            let whole = |(_, range): &(usize, Range<usize>)| range.clone();
            let pieces: Vec<IoSlice<'_>> = self
                .frames
                .iter()
                .map(|frame| IoSlice::new(&self.bytes[whole(frame)]))
                .collect();
            for pieces in pieces.chunks(PIECES) {
                let total = pieces.iter().map(|piece| piece.len()).sum();
                for member in &self.members[*first] {
                    net.write_all(*member, pieces, total)?;
                }
            }
        } else {
            self.flush_mixed(net)?;
        }
        self.bytes.clear();
        self.frames.clear();
        Ok(())
    }

    fn flush_mixed(&mut self, net: &mut Net) -> anyhow::Result<()> {
        for (number, (channel, _)) in (0_u32..).zip(&self.frames) {
            for member in &self.members[*channel] {
                let pending = &mut self.pending[*member];
                if pending.is_empty() {
                    self.dirty.push(*member);
                }
                pending.push(number);
            }
        }
        let mut pieces: Vec<IoSlice<'_>> = Vec::new();
        for member in self.dirty.drain(..) {
            for pending in self.pending[member].chunks(PIECES) {
                pieces.clear();
                pieces.extend(pending.iter().map(|number| {
                    IoSlice::new(&self.bytes[self.frames[*number as usize].1.clone()])
                }));
                let total = pieces.iter().map(|piece| piece.len()).sum();
                net.write_all(member, &pieces, total)?;
            }
            self.pending[member].clear();
        }
        Ok(())
    }
}
