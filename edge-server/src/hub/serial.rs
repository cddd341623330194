//! Tables by socket.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use crate::feed::SocketId;

/// A map by socket.
pub(super) type BySocketId<T> = HashMap<SocketId, T, BuildHasherDefault<SerialHasher>>;
/// A set of sockets.
pub(super) type SocketIds = HashSet<SocketId, BuildHasherDefault<SerialHasher>>;

/// The bits by which a table tells those apart that share a place in it.
const TAG: u64 = 0x7F << 57;
/// 2^64 by the golden ratio (Knuth, The Art of Computer Programming 3, 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hashes numbers that are given out one after the other: neighbours get neighbouring places, so
/// that who goes over sockets in the order of their ids, as the fan-out does, finds them side by
/// side in memory. Nobody but the pod chooses them, so nobody can make them collide.
#[derive(Debug, Default)]
pub(super) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn write_u64(&mut self, number: u64) {
        self.0 = number & !TAG | number.wrapping_mul(GOLDEN) & TAG;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_neighbours_and_none_is_lost() {
        let mut map = BySocketId::default();
        let (short, long) = (1..=100, (1..=2_000).map(|n| n * 1_024));
        for id in short.clone().chain(long.clone()) {
            assert_eq!(map.insert(SocketId(id), id), None);
        }
        for id in long.clone() {
            assert_eq!(
                map.remove(&SocketId(id)),
                Some(id),
                "though they share places"
            );
        }
        map.shrink_to_fit();
        let order: Vec<u64> = map.values().copied().collect();
        assert!(
            order.is_sorted() || order.is_sorted_by(|a, b| a > b),
            "{order:?}"
        );
        assert_eq!(map.len(), 100);
    }
}
