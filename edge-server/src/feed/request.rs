use hubbub_protocol::Seq;

use super::Frame;

/// What a feed wants from the store, on the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Goes back with the answer; unique over all feeds that share their limits.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// The question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The channel's head; 0 = nothing yet.
    Head,
    /// The rows with these seqs, ascending; absent ones are absent from the answer.
    Rows(Vec<Seq>),
    /// Rows in `(from, through]`, ascending, at most `limit`.
    Range {
        /// Exclusive.
        from: Seq,
        /// Inclusive.
        through: Seq,
        /// At most so many; fewer says that there are no more in the range.
        limit: usize,
    },
}

/// What the store said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Head`].
    Head(Seq),
    /// To the others: the rows as encoded frames, ascending by seq.
    Rows(Vec<Frame>),
}

/// The store did not answer, or not in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people: it goes into the reply of joins that cannot be served.
    pub reason: String,
    /// A random number, whole range: the jitter of the next attempt.
    pub jitter: u64,
}
