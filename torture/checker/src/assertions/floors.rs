//! When something may come again.

/// Repetitions are allowed by a `join` or a `replay`, and only above its cursor. Each of them
/// begins a new epoch with that cursor as its floor; what was seen in an earlier epoch may come
/// again if any epoch since then has a floor below it.
#[derive(Debug)]
pub(super) struct Floors {
    /// Epochs and floors, both ascending: the lowest floor after epoch `e` is that of the first
    /// entry after `e`.
    lowest: Vec<(u32, u64)>,
    /// The epoch that runs now.
    now: u32,
    /// The first epoch of what is looked at: what bears an earlier one was seen elsewhere.
    first: u32,
}

impl Floors {
    pub(super) fn new() -> Self {
        Self {
            lowest: Vec::new(),
            now: 1,
            first: 1,
        }
    }

    /// Forgets everything: another connection, another stream.
    pub(super) fn restart(&mut self) {
        self.now += 1;
        self.first = self.now;
        self.lowest.clear();
    }

    /// What is above `floor` may come again from here on.
    pub(super) fn allow_above(&mut self, floor: u64) {
        self.now += 1;
        while self.lowest.last().is_some_and(|(_, f)| *f >= floor) {
            self.lowest.pop();
        }
        self.lowest.push((self.now, floor));
    }

    /// The mark for what is seen now.
    pub(super) fn epoch(&self) -> u32 {
        self.now
    }

    /// Whether what bears this mark may come again with this seq.
    pub(super) fn may_repeat(&self, mark: u32, seq: u64) -> bool {
        if mark < self.first {
            return true;
        }
        let next = self.lowest.partition_point(|(epoch, _)| *epoch <= mark);
        self.lowest.get(next).is_some_and(|(_, floor)| *floor < seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_above_a_later_floor_may_repeat() {
        let mut floors = Floors::new();
        let first = floors.epoch();
        assert!(!floors.may_repeat(first, 10));
        floors.allow_above(8);
        let second = floors.epoch();
        assert!(floors.may_repeat(first, 9));
        assert!(!floors.may_repeat(first, 8));
        assert!(!floors.may_repeat(second, 9));
        floors.allow_above(20);
        // Seen first, allowed above 8 once since then; seen second, only above 20.
        assert!(floors.may_repeat(first, 9));
        assert!(!floors.may_repeat(second, 9));
        assert!(floors.may_repeat(second, 21));
        floors.restart();
        assert!(floors.may_repeat(second, 1));
    }
}
