use bytes::Bytes;

/// Bytes of a piece, at most; a longer frame is a piece of its own. A piece counts against an
/// outbox's bound until its last byte is written. A burst that is one piece is written as one: the
/// kernel takes longer to go over a list of them.
const PIECE_BYTES: usize = 32 * 1024;
/// Frames of a piece, at most: a quarter of what an outbox takes. One for which there is no room is
/// offered frame by frame.
const PIECE_FRAMES: usize = 64;

/// Frames of a channel that go to many sockets, in their order. What came together is copied
/// together once: each socket then queues, writes and forgets one piece in place of many.
#[derive(Debug, Default)]
pub struct Burst {
    frames: Vec<Bytes>,
    pieces: Vec<Piece>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    /// Its frames, one behind the other.
    bytes: Bytes,
    /// How many they are.
    frames: usize,
}

impl Burst {
    /// Takes these frames in place of those that it had.
    pub fn fill(&mut self, frames: impl IntoIterator<Item = Bytes>) {
        self.clear();
        self.frames.extend(frames);
        let mut rest = self.frames.as_slice();
        while let Some((first, others)) = rest.split_first() {
            let (mut bytes, mut frames) = (first.len(), 1);
            for frame in others {
                if bytes + frame.len() > PIECE_BYTES || frames == PIECE_FRAMES {
                    break;
                }
                bytes += frame.len();
                frames += 1;
            }
            let bytes = if frames == 1 {
                first.clone()
            } else {
                rest[..frames].concat().into()
            };
            self.bytes += bytes.len();
            self.pieces.push(Piece { bytes, frames });
            rest = &rest[frames..];
        }
    }

    /// Lets go of the frames; its own room stays.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.pieces.clear();
        self.bytes = 0;
    }

    /// The frames, in order.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// All of them as one piece, if they are.
    pub fn only_piece(&self) -> Option<&Bytes> {
        match self.pieces.as_slice() {
            [piece] => Some(&piece.bytes),
            _ => None,
        }
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Each piece, and the frames that are in it.
    pub fn pieces(&self) -> impl Iterator<Item = (&Bytes, &[Bytes])> {
        let mut rest = self.frames.as_slice();
        self.pieces.iter().map(move |piece| {
            let (frames, others) = rest.split_at(piece.frames);
            rest = others;
            (&piece.bytes, frames)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_frames_and_no_longer_than_they_may_be() {
        let mut burst = Burst::default();
        for (lengths, pieces) in [
            (&[][..], 0),
            (&[5], 1),
            (&[5, 6, 7], 1),
            (&[PIECE_BYTES, 1], 2),
            (&[1, PIECE_BYTES, 1, 1], 3),
            (&[PIECE_BYTES + 1, PIECE_BYTES - 1, 1, 1], 3),
            (&[2; PIECE_FRAMES], 1),
            (&[2; PIECE_FRAMES + 1], 2),
        ] {
            let frame = |(at, length): (usize, &usize)| Bytes::from(vec![at as u8; *length]);
            let frames: Vec<Bytes> = lengths.iter().enumerate().map(frame).collect();
            burst.fill(frames.clone());
            assert_eq!(burst.frames(), frames);
            let mut seen = Vec::new();
            for (bytes, frames) in burst.pieces() {
                assert!(bytes.len() <= PIECE_BYTES || frames.len() == 1);
                assert!(frames.len() <= PIECE_FRAMES);
                assert_eq!(bytes, &frames.concat());
                seen.extend_from_slice(frames);
            }
            assert_eq!(seen, frames);
            assert_eq!(burst.bytes(), frames.concat().len());
            assert_eq!(burst.pieces().count(), pieces, "{} frames", frames.len());
        }
    }
}
