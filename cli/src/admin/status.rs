use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_log::Watermarks;
use hubbub_store::{LogIdentity, PartitionStatus};
use serde::Serialize;

use super::servers::Servers;
use crate::{show::line, table::table};

/// How the store stands to the log.
#[derive(Debug, Serialize)]
struct Report {
    cluster_id: String,
    topic: String,
    partition_count: u32,
    base: u64,
    replication: u32,
    min_insync: u32,
    shards: usize,
    partitions: Vec<Partition>,
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct Partition {
    #[serde(flatten)]
    stored: PartitionStatus,
    /// First offset that Kafka still has.
    low: i64,
    /// Offset after the last one.
    high: i64,
    /// Records that the store has not read.
    lag: i64,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    /// Read from the log.
    read: i64,
    rows: i64,
    duplicates: i64,
    dead: i64,
    lag: i64,
    /// `read - rows - duplicates - dead`, partition by partition, which must be 0 everywhere.
    unaccounted: i64,
}

/// `hubbub admin status`. Exit code 1 if records are not accounted for.
pub(super) async fn run(servers: &Servers, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let store = servers.open_store().await?;
    let stored = store.admin_status().await.context("read the shards")?;
    let identity = store.log_identity().clone();
    let log = hubbub_log::Config {
        topic: identity.topic.clone(),
        partitions: identity.partitions,
        ..servers.log.clone()
    };
    let where_log = || format!("ask Kafka (KAFKA_BROKERS={})", log.brokers);
    let facts = hubbub_log::topic_facts(&log)
        .await
        .with_context(where_log)?;
    // After the store, so that a record stored meanwhile cannot make the lag negative.
    let ends = hubbub_log::watermarks(&log).await.with_context(where_log)?;
    if facts.cluster_id != identity.cluster_id {
        anyhow::bail!(
            "KAFKA_BROKERS is cluster {}, and the store follows {}: correct the address, or, if \
             that log is lost, run `hubbub admin new-log`",
            facts.cluster_id,
            identity.cluster_id
        );
    }
    let partitions = join(stored.partitions, &ends);
    let totals = Totals::of(&partitions);
    let sound = totals.unaccounted == 0;
    let report = report(identity, &facts, store.shards(), partitions, totals);
    if json {
        line(&serde_json::to_string(&report)?)?;
    } else {
        for text in report.lines(all) {
            line(&text)?;
        }
    }
    Ok(ExitCode::from(u8::from(!sound)))
}

fn report(
    identity: LogIdentity,
    facts: &hubbub_log::TopicFacts,
    shards: usize,
    partitions: Vec<Partition>,
    totals: Totals,
) -> Report {
    Report {
        cluster_id: identity.cluster_id,
        topic: identity.topic,
        partition_count: identity.partitions,
        base: identity.base,
        replication: facts.replication,
        min_insync: facts.min_insync,
        shards,
        partitions,
        totals,
    }
}

fn join(stored: Vec<PartitionStatus>, ends: &[Watermarks]) -> Vec<Partition> {
    stored
        .into_iter()
        .map(|stored| {
            let end = usize::try_from(stored.partition)
                .ok()
                .and_then(|p| ends.get(p));
            let (low, high) = end.map_or((0, 0), |end| (end.low, end.high));
            let lag = high - stored.next_offset;
            Partition {
                stored,
                low,
                high,
                lag,
            }
        })
        .collect()
}

impl Totals {
    fn of(partitions: &[Partition]) -> Self {
        let mut totals = Self::default();
        for Partition { stored, lag, .. } in partitions {
            totals.read += stored.next_offset;
            totals.rows += stored.rows;
            totals.duplicates += stored.duplicates;
            totals.dead += stored.dead;
            totals.lag += lag;
            let accounted = stored.rows + stored.duplicates + stored.dead;
            // Absolute, so that two partitions cannot make up for each other.
            totals.unaccounted += (stored.next_offset - accounted).abs();
        }
        totals
    }
}

impl Report {
    fn lines(&self, all: bool) -> Vec<String> {
        let Totals {
            read,
            rows,
            duplicates,
            dead,
            lag,
            unaccounted,
        } = self.totals;
        let mut lines = vec![
            format!(
                "log    topic {} of cluster {}: {} partitions, base {}, replication {}, min in sync {}",
                self.topic,
                self.cluster_id,
                self.partition_count,
                self.base,
                self.replication,
                self.min_insync
            ),
            format!(
                "store  {} shards: {read} records read = {rows} rows + {duplicates} duplicates + \
                 {dead} dead letters, {lag} still to read",
                self.shards
            ),
            match unaccounted {
                0 => "audit  every record is accounted for".to_owned(),
                n => format!("audit  FAILED: {n} records are not accounted for"),
            },
        ];
        let busy = |p: &&Partition| all || p.high > 0 || p.stored.next_offset > 0;
        let rows: Vec<Vec<String>> = self.partitions.iter().filter(busy).map(row).collect();
        if !rows.is_empty() {
            let head = [
                "PARTITION",
                "SHARD",
                "READ TO",
                "LOW",
                "HIGH",
                "LAG",
                "ROWS",
                "DUPLICATES",
                "DEAD",
            ];
            lines.push(String::new());
            lines.extend(table(&head, &rows, &[0, 1, 2, 3, 4, 5, 6, 7, 8]));
        }
        let quiet = self.partitions.len() - rows.len();
        if quiet > 0 {
            lines.push(format!(
                "({quiet} partitions without records; --all shows them)"
            ));
        }
        lines
    }
}

fn row(partition: &Partition) -> Vec<String> {
    let stored = &partition.stored;
    vec![
        stored.partition.to_string(),
        stored.shard.to_string(),
        stored.next_offset.to_string(),
        partition.low.to_string(),
        partition.high.to_string(),
        partition.lag.to_string(),
        stored.rows.to_string(),
        stored.duplicates.to_string(),
        stored.dead.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(partition: i32, next_offset: i64, rows: i64) -> PartitionStatus {
        PartitionStatus {
            partition,
            shard: 0,
            next_offset,
            rows,
            duplicates: 1,
            dead: 0,
        }
    }

    #[test]
    fn partitions_do_not_make_up_for_each_other() {
        let ends = [
            Watermarks { low: 0, high: 12 },
            Watermarks { low: 0, high: 10 },
        ];
        let good = join(vec![status(0, 10, 9), status(1, 10, 9)], &ends);
        let totals = Totals::of(&good);
        assert_eq!((totals.lag, totals.unaccounted, totals.read), (2, 0, 20));
        let bad = join(vec![status(0, 10, 8), status(1, 10, 10)], &ends);
        assert_eq!(Totals::of(&bad).unaccounted, 2);
    }
}
