//! What one socket has of one channel.

/// Which messages of a channel have come. They are numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// One above the highest that has come.
    next: u32,
    /// Numbers below `next` that have not come, as ranges: ascending, apart, none of them empty.
    /// It allocates only when something is wrong.
    missing: Vec<(u32, u32)>,
}

/// What a message is to those that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is above all of them.
    InOrder,
    /// It comes for the first time, and a later one was here before it.
    Late,
    /// It has come before.
    Again,
}

impl Track {
    /// Notes that a message came.
    pub(super) fn see(&mut self, number: u32) -> Seen {
        if number == self.next {
            self.next += 1;
            return Seen::InOrder;
        }
        if number > self.next {
            self.missing.push((self.next, number));
            self.next = number + 1;
            return Seen::InOrder;
        }
        let after = self.missing.partition_point(|(from, _)| *from <= number);
        let Some(at) = after.checked_sub(1) else {
            return Seen::Again;
        };
        let (from, to) = self.missing[at];
        if number >= to {
            return Seen::Again;
        }
        let left = [(from, number), (number + 1, to)];
        self.missing
            .splice(at..=at, left.into_iter().filter(|(from, to)| from < to));
        Seen::Late
    }

    /// One above the highest that has come.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// How many of the messages below `end` have not come.
    pub(super) fn missing(&self, end: u32) -> u64 {
        let holes = self
            .missing
            .iter()
            .map(|(from, to)| to.min(&end).saturating_sub(*from));
        holes.map(u64::from).sum::<u64>() + u64::from(end.saturating_sub(self.next))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn counts(stream: &[u32]) -> (usize, usize, u64) {
        let mut track = Track::default();
        let seen: Vec<Seen> = stream.iter().map(|number| track.see(*number)).collect();
        let count = |kind| seen.iter().filter(|seen| **seen == kind).count();
        (count(Seen::Late), count(Seen::Again), track.missing(6))
    }

    #[test]
    fn lost_doubled_and_swapped_are_told_apart() {
        assert_eq!(counts(&[0, 1, 2, 3, 4, 5]), (0, 0, 0));
        assert_eq!(counts(&[0, 1, 3, 4, 5]), (0, 0, 1), "lost in the middle");
        assert_eq!(counts(&[1, 2, 3, 4, 5]), (0, 0, 1), "the first one lost");
        assert_eq!(counts(&[0, 1, 2, 3, 4]), (0, 0, 1), "the last one lost");
        assert_eq!(counts(&[]), (0, 0, 6));
        assert_eq!(counts(&[0, 1, 1, 2, 3, 4, 5]), (0, 1, 0), "doubled at once");
        assert_eq!(counts(&[0, 1, 2, 3, 0, 4, 5]), (0, 1, 0), "doubled later");
        assert_eq!(counts(&[0, 2, 1, 3, 4, 5]), (1, 0, 0), "swapped");
        assert_eq!(counts(&[5, 4, 3, 2, 1, 0]), (5, 0, 0), "all the wrong way");
        assert_eq!(counts(&[0, 2, 1, 1, 2, 4]), (1, 2, 2), "3 and 5 lost");
    }

    #[test]
    fn any_stream_is_counted_as_a_set_would() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % u64::from(below)) as u32
        };
        for _ in 0..2_000 {
            let size = 1 + random(40);
            let mut track = Track::default();
            let mut model = HashSet::new();
            let mut highest = None;
            for _ in 0..random(80) {
                let number = random(size);
                let expected = match (model.insert(number), highest.is_some_and(|h| h > number)) {
                    (false, _) => Seen::Again,
                    (true, true) => Seen::Late,
                    (true, false) => Seen::InOrder,
                };
                assert_eq!(track.see(number), expected);
                highest = highest.max(Some(number));
            }
            let size_seen = u64::try_from(model.len()).unwrap();
            assert_eq!(track.missing(size), u64::from(size) - size_seen);
        }
    }
}
