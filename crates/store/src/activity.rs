//! Which conversations are the latest.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use hubbub_protocol::{ChannelId, Seq};

use crate::{Error, Store, database::read};

/// Where a channel stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// The channel.
    pub channel: ChannelId,
    /// Its head; 0 = nothing yet.
    pub head: Seq,
    /// When the log took its last record, milliseconds; 0 = none yet.
    pub last_ts_ms: i64,
}

impl Store {
    /// The latest activity of channels, in the order asked: one statement for each shard
    /// concerned; one that is away fails the call.
    pub async fn activity(&self, channels: &[ChannelId]) -> Result<Vec<Activity>, Error> {
        let reads = self.by_shard(channels).map(|(shard, keys)| async move {
            read!(self.shard(shard), "heads.activity", |conn| sqlx::query!(
                "select channel_id, through, last_ts_ms from channel_heads
                 where channel_id = any($1)",
                &keys
            )
            .fetch_all(conn))
        });
        let found: HashMap<i64, (i64, i64)> = try_join_all(reads)
            .await?
            .into_iter()
            .flatten()
            .map(|row| (row.channel_id, (row.through, row.last_ts_ms)))
            .collect();
        let activity = |channel: &ChannelId| {
            let (head, last_ts_ms) = found.get(&channel.shard_key()).copied().unwrap_or((0, 0));
            Activity {
                channel: *channel,
                head: Seq::from_db(head),
                last_ts_ms,
            }
        };
        Ok(channels.iter().map(activity).collect())
    }

    /// The shard keys of channels, by the shard that holds them.
    pub(crate) fn by_shard(
        &self,
        channels: &[ChannelId],
    ) -> impl Iterator<Item = (usize, Vec<i64>)> + use<> {
        let mut shards: HashMap<usize, Vec<i64>> = HashMap::new();
        for channel in channels {
            let keys = shards.entry(self.shard_of(*channel)).or_default();
            keys.push(channel.shard_key());
        }
        shards.into_iter()
    }
}
