//! Whether the log is still the one that the store was filled from.
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use tokio::time::{Instant, sleep};

use crate::{
    Config, Error, Watermarks,
    admin::{ANSWER, blocking, connect},
};

/// What helps where the log and the store do not fit.
pub(crate) const REMEDY: &str = "`hubbub admin new-log` starts a new log above every stored seq \
     (where the topic has lost its beginning, name a new topic by HUBBUB_TOPIC)";

/// How often a log must be seen to end below a position before that is believed, and the pause
/// between: a broker that has just become leader may say so for a moment.
const TIMES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// After this no more partitions are asked: partitions without a leader cost [`ANSWER`] each.
const ASKING: Duration = Duration::from_secs(10);

/// Checks that no partition ends below the position that the store has in it: then the topic was
/// lost and made anew, under the same name in the same cluster, and what is appended would be
/// acknowledged at seqs that are taken. `positions` are (partition, next offset) as far as they
/// are known; a partition that has no leader now is not checked. At most about 45 s.
///
/// It cannot tell a new topic that has grown past the old positions already; so every process
/// calls it at its start, before it appends or reads.
///
/// # Errors
/// `Refused`, naming the partition, both numbers and the remedy; otherwise retryable: no
/// partition answered.
pub async fn check_positions(config: &Config, positions: &[(i32, i64)]) -> Result<(), Error> {
    let mut asked: Vec<(i32, i64)> = positions.to_vec();
    // Nothing lies below 0.
    asked.retain(|(_, position)| *position > 0);
    let mut refusal = None;
    for time in 0..TIMES {
        if asked.is_empty() {
            return Ok(());
        }
        if time > 0 {
            sleep(PAUSE).await;
        }
        let ends = ends(config, asked.iter().map(|(partition, _)| *partition)).await?;
        asked = short(&ends, &asked);
        refusal = refuse(&config.topic, &ends, &asked);
    }
    refusal.map_or(Ok(()), |text| Err(Error::Refused(text)))
}

/// The ends of those partitions that have a leader.
async fn ends(
    config: &Config,
    partitions: impl Iterator<Item = i32>,
) -> Result<Vec<(i32, Watermarks)>, Error> {
    let (config, partitions) = (config.clone(), partitions.collect::<Vec<_>>());
    blocking(move || {
        let client = connect(&config)?;
        let began = Instant::now();
        let mut ends = Vec::with_capacity(partitions.len());
        let mut failure = None;
        for partition in partitions {
            if began.elapsed() >= ASKING {
                break;
            }
            match client.fetch_watermarks(&config.topic, partition, ANSWER) {
                Ok((low, high)) => ends.push((partition, Watermarks { low, high })),
                Err(error) => {
                    tracing::warn!(%error, log.partition = partition, "end of the partition not checked");
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if ends.is_empty() => Err(error.into()),
            _ => Ok(ends),
        }
    })
    .await
}

/// The positions that lie above the end of their partition.
fn short(ends: &[(i32, Watermarks)], positions: &[(i32, i64)]) -> Vec<(i32, i64)> {
    let above = |(partition, position): &&(i32, i64)| {
        let mut ends = ends.iter();
        ends.any(|(number, end)| number == partition && end.high < *position)
    };
    positions.iter().filter(above).copied().collect()
}

/// Names the first of the positions in `short`.
fn refuse(topic: &str, ends: &[(i32, Watermarks)], short: &[(i32, i64)]) -> Option<String> {
    let (partition, position) = short.first()?;
    let (_, end) = ends.iter().find(|(number, _)| number == partition)?;
    let more = match short.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more partitions)"),
    };
    Some(too_short(topic, *partition, end.high, *position) + &more)
}

/// What is said of a partition that ends below the store's position.
pub(crate) fn too_short(topic: &str, partition: i32, high: i64, position: i64) -> String {
    format!(
        "partition {partition} of topic {topic} ends at offset {high} and the store's position is {position}: \
         the topic was lost or recreated; {REMEDY}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_that_ends_below_its_position_is_named_with_the_remedy() {
        let end = |high| Watermarks { low: 0, high };
        // Partition 2 has no leader, partition 3 no position.
        let ends = [(0, end(5)), (1, end(4)), (3, end(0))];
        let fits = [(0, 5), (1, 3), (2, 9)];
        assert_eq!(short(&ends, &fits), []);
        assert_eq!(refuse("t", &ends, &[]), None);
        let positions = [(0, 5), (1, 17), (2, 9), (3, 1)];
        let found = short(&ends, &positions);
        assert_eq!(found, [(1, 17), (3, 1)]);
        let text = refuse("t", &ends, &found).expect("it is too short");
        for part in [
            "partition 1 ",
            "offset 4 ",
            "position is 17",
            "hubbub admin new-log",
            "1 more",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
