//! What a user has not read.

use futures_util::future::join_all;
use hubbub_protocol::{
    ChannelId, Seq, UserId,
    http::{Unread, UnreadChannel},
};

use crate::{
    Error, Store,
    channels::public_id,
    database::{Place, read},
};

impl Store {
    /// Every channel of a user, direct ones included, by number.
    pub async fn channels_of(&self, user: UserId) -> Result<Vec<ChannelId>, Error> {
        let rows = read!(self.core(), "memberships.of_user", |conn| sqlx::query!(
            "select c.id, c.kind
             from memberships m join channels c on c.id = m.channel_id
             where m.user_id = $1
             order by c.id",
            user.number()
        )
        .fetch_all(conn))?;
        rows.into_iter()
            .map(|row| public_id(row.id, row.kind))
            .collect::<Result<_, _>>()
            .map_err(|error| Place::Core.error(error))
    }

    /// What the user has not read in each of their channels, by shard key (direct channels
    /// first). One statement for the channels and one for each shard concerned; the cost is that
    /// of the channels, whatever is in them: three walks down an index each. The channels of a
    /// shard that is away are named as missing; the call fails if no shard concerned answers.
    pub async fn unread(&self, user: UserId) -> Result<Unread, Error> {
        let channels = self.channels_of(user).await?;
        let reads = self
            .by_shard(&channels)
            .map(|(shard, keys)| async move { (shard, self.unread_in(shard, &keys, user).await) });
        let mut unread = Unread {
            channels: Vec::with_capacity(channels.len()),
            missing: Vec::new(),
        };
        let (mut answered, mut failed) = (false, None);
        for (shard, rows) in join_all(reads).await {
            match rows {
                Ok(rows) => {
                    answered = true;
                    unread.channels.extend(rows);
                }
                Err(error) => {
                    tracing::warn!(%error, "unread of a shard not counted");
                    let there = |channel: &&ChannelId| self.shard_of(**channel) == shard;
                    unread.missing.extend(channels.iter().filter(there));
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            _ => {
                let key = |row: &UnreadChannel| row.channel.shard_key();
                unread.channels.sort_unstable_by_key(key);
                unread.missing.sort_unstable_by_key(|id| id.shard_key());
                Ok(unread)
            }
        }
    }

    async fn unread_in(
        &self,
        shard: usize,
        keys: &[i64],
        user: UserId,
    ) -> Result<Vec<UnreadChannel>, Error> {
        let rows = read!(self.shard(shard), "unread.count", |conn| sqlx::query!(
            r#"select a.channel_id as "channel_id!", coalesce(h.through, 0) as "head!",
                      coalesce(h.last_ts_ms, 0) as "last_ts_ms!", c.read as "read!",
                      coalesce(h.ordinal, 0) - coalesce(r.ordinal, 0) as "unread!"
               from unnest($1::bigint[]) as a (channel_id)
               left join channel_heads h on h.channel_id = a.channel_id
               cross join lateral (
                   select coalesce(max(read), 0) as read from member_cursors
                   where channel_id = a.channel_id and user_id = $2
               ) c
               left join lateral (
                   select ordinal from messages
                   where channel_id = a.channel_id and seq <= c.read
                     and kind <= 2 and ordinal is not null
                   order by seq desc limit 1
               ) r on true"#,
            keys,
            user.number()
        )
        .fetch_all(conn))?;
        rows.into_iter()
            .map(|row| {
                let channel = ChannelId::from_shard_key(row.channel_id).ok_or_else(|| {
                    sqlx::Error::Decode(format!("{} is no channel's key", row.channel_id).into())
                })?;
                Ok(UnreadChannel {
                    channel,
                    read: Seq::from_db(row.read),
                    unread: u64::try_from(row.unread).unwrap_or(0),
                    head: Seq::from_db(row.head),
                    last_ts_ms: row.last_ts_ms,
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.shard(shard).place.error(error))
    }
}
