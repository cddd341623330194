use std::collections::HashMap;

use hubbub_protocol::Seq;

use crate::{Error, Store, database::read};

/// Heads that a sweep reads of one partition. Above it the partition's position is held back to
/// the last head given, so the next sweep goes on from there: bounded, and nothing is skipped.
const HEADS_PER_PARTITION: i64 = 5_000;

/// What a sweep of one shard found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Of every partition of the shard, the position as a seq (`next_offset` + base): everything
    /// through it has been processed and, above the position given, is among `heads`.
    pub positions: Vec<(i32, Seq)>,
    /// Shard key and head, of the channels whose head lies above the position given.
    pub heads: Vec<(i64, Seq)>,
}

impl Store {
    /// One statement and one snapshot: the shard's log positions, and the heads above `since`,
    /// the positions of the last sweep that succeeded. Of a partition that `since` does not name
    /// only the position is read.
    pub async fn sweep(&self, shard: usize, since: &[(i32, Seq)]) -> Result<Sweep, Error> {
        let base = self.log_identity().base;
        let since: HashMap<i32, i64> = since
            .iter()
            .map(|(partition, seq)| (*partition, seq.to_db()))
            .collect();
        let partitions: Vec<i32> = self.partitions_of(shard).collect();
        let since: Vec<Option<i64>> = partitions
            .iter()
            .map(|partition| since.get(partition).copied())
            .collect();
        // The order by and the limit are what makes the planner walk the index (partition,
        // through) from the last position on, however large the table is.
        let rows = read!(self.shard(shard), "heads.sweep", |conn| sqlx::query!(
            r#"with asked as (
                   select * from unnest($1::integer[], $2::bigint[]) as a (partition, since)
               )
               select a.partition as "partition!", null::bigint as "channel_id?",
                      coalesce(p.next_offset, 0) as "value!"
               from asked a left join log_position p on p.partition = a.partition
               union all
               select a.partition, h.channel_id, h.through
               from asked a
               cross join lateral (
                   select channel_id, through from channel_heads
                   where partition = a.partition and through > a.since
                   order by partition, through limit $3
               ) h"#,
            &partitions,
            &since as &[Option<i64>],
            HEADS_PER_PARTITION
        )
        .fetch_all(conn))?;
        let mut found = Found::default();
        for row in rows {
            match row.channel_id {
                None => found.position(row.partition, Seq(Seq::from_db(row.value).0 + base)),
                Some(channel) => found.head(row.partition, channel, Seq::from_db(row.value)),
            }
        }
        Ok(found.finish(HEADS_PER_PARTITION))
    }
}

/// Collects the rows of a sweep, in whatever order they come.
#[derive(Debug, Default)]
struct Found {
    positions: HashMap<i32, Seq>,
    heads: Vec<(i64, Seq)>,
    /// Per partition: heads given, and the highest.
    given: HashMap<i32, (i64, Seq)>,
}

impl Found {
    fn position(&mut self, partition: i32, seq: Seq) {
        self.positions.insert(partition, seq);
    }

    fn head(&mut self, partition: i32, channel: i64, through: Seq) {
        self.heads.push((channel, through));
        let given = self.given.entry(partition).or_default();
        given.0 += 1;
        given.1 = given.1.max(through);
    }

    fn finish(mut self, limit: i64) -> Sweep {
        for (partition, (count, highest)) in self.given {
            if count >= limit {
                // Heads of one partition differ, as its seqs do, so "above the highest given"
                // leaves out none.
                self.positions.insert(partition, highest);
            }
        }
        let mut positions: Vec<_> = self.positions.into_iter().collect();
        positions.sort_unstable();
        Sweep {
            positions,
            heads: self.heads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_partition_holds_its_position_back() {
        let mut found = Found::default();
        found.position(3, Seq(100));
        found.position(4, Seq(50));
        found.head(3, 1, Seq(10));
        found.head(3, 2, Seq(12));
        found.head(4, 9, Seq(44));
        let sweep = found.finish(2);
        assert_eq!(sweep.positions, [(3, Seq(12)), (4, Seq(50))]);
        assert_eq!(sweep.heads.len(), 3);
    }
}
