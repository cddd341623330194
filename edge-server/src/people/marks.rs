//! Marks on their way to the log, gathered per channel, user and device for a moment: a device that
//! scrolls says "read" many times a second, and only the highest counts. Pure.

use std::collections::{HashMap, VecDeque};

use hubbub_protocol::{ChannelId, DeviceId, Receipt, UserId};

/// From the first mark of a device to its record.
pub(crate) const GATHER_MS: u64 = 200;
/// Devices whose marks are gathered at once; one more is written without waiting.
pub(crate) const GATHERED: usize = 10_000;

/// Whose cursors, and where.
type Whose = (ChannelId, UserId, DeviceId);

fn whose(mark: &Receipt) -> Whose {
    (mark.channel, mark.user, mark.device.clone())
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Marks {
    most: usize,
    gathered: HashMap<Whose, Receipt>,
    /// When each of `gathered` is due, oldest first.
    due: VecDeque<(u64, Whose)>,
}

impl Marks {
    /// Gathers for at most so many devices at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            gathered: HashMap::new(),
            due: VecDeque::new(),
        }
    }

    /// Takes a mark. Given back if there is no room for another device: it is to be written now.
    pub(crate) fn add(&mut self, mark: Receipt, now_ms: u64) -> Option<Receipt> {
        let whose = whose(&mark);
        if let Some(gathered) = self.gathered.get_mut(&whose) {
            gathered.merge(mark.delivered, mark.read);
            return None;
        }
        if self.gathered.len() >= self.most {
            return Some(mark);
        }
        self.due.push_back((now_ms + GATHER_MS, whose.clone()));
        self.gathered.insert(whose, mark);
        None
    }

    /// When the first one is due.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.due.front().map(|(due_ms, _)| *due_ms)
    }

    /// Takes the next one whose time has come; all of them where there is no time left.
    pub(crate) fn next_due(&mut self, now_ms: u64) -> Option<Receipt> {
        if self.due_ms()? > now_ms {
            return None;
        }
        let (_, whose) = self.due.pop_front()?;
        self.gathered.remove(&whose)
    }

    /// Drops what a removed member marked in a channel.
    pub(crate) fn forget(&mut self, channel: ChannelId, user: UserId) {
        let theirs = |whose: &Whose| whose.0 == channel && whose.1 == user;
        self.gathered.retain(|whose, _| !theirs(whose));
        self.due.retain(|(_, whose)| !theirs(whose));
    }

    /// Devices whose marks wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.gathered.len()
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{ChannelLetter, Seq};
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 3;

    #[derive(Debug, Clone)]
    enum Step {
        Mark { n: i64, delivered: u64, read: u64 },
        Pass(u64),
        Evict { user: i64 },
    }

    fn mark(n: i64, delivered: u64, read: u64) -> Receipt {
        let mut mark = Receipt {
            channel: ChannelId::new(ChannelLetter::Direct, n % 2 + 1).expect("from 1"),
            user: UserId::new(n / 2 % 2 + 1).expect("from 1"),
            device: format!("d{}", n / 4).parse().expect("an id"),
            delivered: Seq(0),
            read: Seq(0),
        };
        mark.merge(Seq(delivered), Seq(read));
        mark
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0_i64..8, 0_u64..50, 0_u64..50)
                .prop_map(|(n, delivered, read)| Step::Mark { n, delivered, read }),
            4 => (0_u64..150).prop_map(Step::Pass),
            1 => (1_i64..3).prop_map(|user| Step::Evict { user }),
        ];
        prop::collection::vec(step, 1..80)
    }

    fn fold(into: &mut HashMap<Whose, Receipt>, mark: &Receipt) {
        let known = into.entry(whose(mark)).or_insert_with(|| mark.clone());
        known.merge(mark.delivered, mark.read);
    }

    proptest! {
        /// What is written, folded by the highest, is what was marked, evictions apart; nothing
        /// waits longer than the time, nobody is written twice within it unless there was no
        /// room, and the bound holds.
        #[test]
        fn highest_is_written_in_time_and_no_more_often(steps in steps()) {
            let mut marks = Marks::new(MOST);
            let mut now = 0;
            // By device: the highest marked and the highest written, and the time of the oldest
            // mark that waits.
            let (mut marked, mut written) = (HashMap::new(), HashMap::new());
            let mut waits: HashMap<Whose, u64> = HashMap::new();
            for step in steps.into_iter().chain([Step::Pass(GATHER_MS)]) {
                match step {
                    Step::Mark { n, delivered, read } => {
                        let mark = mark(n, delivered, read);
                        fold(&mut marked, &mark);
                        match marks.add(mark.clone(), now) {
                            Some(back) => {
                                prop_assert_eq!(&back, &mark);
                                prop_assert!(!waits.contains_key(&whose(&mark)));
                                prop_assert_eq!(waits.len(), MOST);
                                fold(&mut written, &mark);
                            }
                            None => {
                                waits.entry(whose(&mark)).or_insert(now);
                            }
                        }
                    }
                    Step::Pass(ms) => {
                        now += ms;
                        while let Some(mark) = marks.next_due(now) {
                            let since = waits.remove(&whose(&mark));
                            prop_assert!(since.is_some_and(|at| at + GATHER_MS <= now), "early");
                            fold(&mut written, &mark);
                        }
                        prop_assert!(waits.values().all(|at| at + GATHER_MS > now), "late");
                    }
                    Step::Evict { user } => {
                        let user = UserId::new(user).expect("from 1");
                        let channel = mark(0, 0, 0).channel;
                        marks.forget(channel, user);
                        // What was not written before is gone.
                        let theirs = |whose: &Whose| whose.0 == channel && whose.1 == user;
                        waits.retain(|whose, _| !theirs(whose));
                        marked.retain(|whose, _| !theirs(whose));
                        for mark in written.values() {
                            if theirs(&whose(mark)) {
                                fold(&mut marked, mark);
                            }
                        }
                    }
                }
                prop_assert!(marks.len() <= MOST && marks.len() == waits.len());
            }
            prop_assert_eq!(written, marked);
        }
    }
}
