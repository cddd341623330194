//! When a message is sent again, and how: the writers' side of contract P2 and P3.

use rand::{Rng, RngExt};

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is durable.
    Ok,
    /// It never reached the log; whether the same may succeed later.
    Rejected {
        /// Later.
        retryable: bool,
    },
    /// Nobody knows.
    Unknown,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the answer was definite.
    Done,
    /// The same message, the same id.
    Again {
        /// Says that it is a resend (`retry:true`).
        marked: bool,
    },
    /// Nothing for ever, although nobody knows.
    Abandon,
}

/// How often a writer does what a good client does not.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Share of the ambiguous messages that are abandoned.
    pub abandon: f64,
    /// Share of the resends that do not say that they are.
    pub unmarked: f64,
}

/// The attempts of one message.
#[derive(Debug)]
pub struct Attempts {
    manners: Manners,
    ambiguous: bool,
}

impl Attempts {
    /// Before the first attempt, which is not marked.
    #[must_use]
    pub fn new(manners: Manners) -> Self {
        Self {
            manners,
            ambiguous: false,
        }
    }

    /// Decides after an answer.
    pub fn after(&mut self, answer: Answer, rng: &mut impl Rng) -> Next {
        match answer {
            Answer::Ok => Next::Done,
            // The refusal is of this copy only, but the message will never be taken.
            Answer::Rejected { retryable: false } => Next::Done,
            Answer::Rejected { retryable: true } => self.again(rng),
            Answer::Unknown => {
                let first = !std::mem::replace(&mut self.ambiguous, true);
                if first && rng.random_bool(self.manners.abandon) {
                    return Next::Abandon;
                }
                self.again(rng)
            }
        }
    }

    fn again(&self, rng: &mut impl Rng) -> Next {
        Next::Again {
            marked: self.ambiguous && !rng.random_bool(self.manners.unmarked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    const GOOD: Manners = Manners {
        abandon: 0.0,
        unmarked: 0.0,
    };

    #[test]
    fn only_what_may_be_in_the_log_is_marked() {
        let (mut attempts, mut rng) = (Attempts::new(GOOD), SmallRng::seed_from_u64(1));
        let later = Answer::Rejected { retryable: true };
        let fresh = Next::Again { marked: false };
        let marked = Next::Again { marked: true };
        assert_eq!(attempts.after(later, &mut rng), fresh);
        assert_eq!(attempts.after(Answer::Unknown, &mut rng), marked);
        // Definite for this copy, but an earlier one may be there.
        assert_eq!(attempts.after(later, &mut rng), marked);
        assert_eq!(attempts.after(Answer::Ok, &mut rng), Next::Done);
    }

    #[test]
    fn definite_answers_end_it() {
        for answer in [Answer::Ok, Answer::Rejected { retryable: false }] {
            let mut rng = SmallRng::seed_from_u64(1);
            let next = Attempts::new(GOOD).after(answer, &mut rng);
            assert_eq!(next, Next::Done);
        }
    }

    #[test]
    fn bad_manners_have_their_share() {
        let manners = Manners {
            abandon: 0.05,
            unmarked: 0.1,
        };
        let mut rng = SmallRng::seed_from_u64(9);
        let (mut abandoned, mut unmarked) = (0, 0);
        for _ in 0..10_000 {
            match Attempts::new(manners).after(Answer::Unknown, &mut rng) {
                Next::Abandon => abandoned += 1,
                Next::Again { marked: false } => unmarked += 1,
                next => assert_eq!(next, Next::Again { marked: true }),
            }
        }
        assert!((430..570).contains(&abandoned), "{abandoned}");
        assert!((850..1_050).contains(&unmarked), "{unmarked}");
    }
}
