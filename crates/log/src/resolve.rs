//! Finds where a partition starts: the position in the store, held against the log's ends.
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};

use crate::{
    Config, Misfit, Positions,
    check::{REMEDY, too_short},
};

/// Deadline of the question for a partition's ends.
const WATERMARKS: Duration = Duration::from_secs(3);

/// Where a partition starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// At this offset.
    At(i64),
    /// The log ends below the position. A broker that has just become leader may say so for a
    /// moment, so the caller asks again before it believes it.
    Short {
        /// What does not fit, with the remedy.
        error: String,
        /// The first offset that there is.
        low: i64,
    },
    /// Nowhere: the log does not fit the store.
    Refused(String),
    /// The store or the broker did not say; ask again.
    Unknown(String),
}

/// Blocks for as long as the store and the broker take, each within its deadline.
pub(crate) fn resolve<C: ConsumerContext>(
    config: &Config,
    consumer: &BaseConsumer<C>,
    positions: &dyn Positions,
    partition: i32,
    misfit: Misfit,
) -> Start {
    let position = match positions.positions(&[partition]) {
        Ok(found) => found.get(&partition).copied(),
        Err(error) => return Start::Unknown(format!("read the position: {error}")),
    };
    match consumer.fetch_watermarks(&config.topic, partition, WATERMARKS) {
        Ok((low, high)) => decide(&config.topic, partition, position, low, high, misfit),
        Err(error) => Start::Unknown(format!("read the ends of the partition: {error}")),
    }
}

fn decide(
    topic: &str,
    partition: i32,
    position: Option<i64>,
    low: i64,
    high: i64,
    misfit: Misfit,
) -> Start {
    match position {
        Some(at) if at > high => {
            let error = too_short(topic, partition, high, at);
            Start::Short { error, low }
        }
        at if misfit == Misfit::Begin && at.unwrap_or(0) < low => {
            tracing::warn!(
                log.partition = partition,
                position = at,
                low,
                "topic {topic} begins above the position: what was before is skipped"
            );
            Start::At(low)
        }
        None if low > 0 => Start::Refused(format!(
            "partition {partition} of topic {topic} begins at offset {low} and the store has no position in it: \
             what was before can never be stored; {REMEDY}"
        )),
        None => Start::At(0),
        Some(at) if at < low => Start::Refused(format!(
            "partition {partition} of topic {topic} begins at offset {low} and the store's position is {at}: \
             records were deleted before they were stored (retention too short); {REMEDY}"
        )),
        Some(at) => Start::At(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_starts_only_where_the_store_and_the_log_agree() {
        let at = |position, low, high| decide("t", 3, position, low, high, Misfit::Refuse);
        assert_eq!(at(None, 0, 0), Start::At(0));
        assert_eq!(at(None, 0, 9), Start::At(0));
        assert_eq!(at(Some(0), 0, 9), Start::At(0));
        assert_eq!(at(Some(4), 4, 9), Start::At(4));
        assert_eq!(at(Some(9), 4, 9), Start::At(9));
        for (position, low, high) in [(None, 1, 9), (Some(3), 4, 9)] {
            let Start::Refused(error) = at(position, low, high) else {
                panic!("{position:?} in {low}..{high} must be refused");
            };
            assert!(error.contains("hubbub admin new-log"), "{error}");
        }
        let Start::Short { error, low } = at(Some(10), 4, 9) else {
            panic!("the log is shorter than the position");
        };
        assert!(error.contains("offset 9") && error.contains("position is 10"));
        assert_eq!(low, 4);
    }

    #[test]
    fn partition_that_may_begin_anew_starts_at_what_there_is() {
        let at = |position, low, high| decide("t", 3, position, low, high, Misfit::Begin);
        assert_eq!(at(None, 0, 9), Start::At(0));
        assert_eq!(at(None, 4, 9), Start::At(4));
        assert_eq!(at(Some(3), 4, 9), Start::At(4));
        assert_eq!(at(Some(5), 4, 9), Start::At(5));
        let short = at(Some(10), 4, 9);
        assert!(matches!(short, Start::Short { low: 4, .. }), "{short:?}");
    }
}
