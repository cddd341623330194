use std::collections::HashMap;

use hubbub_protocol::{ChannelId, MessageId, MessageKey, Seq};
use uuid::Uuid;

use crate::{Error, Store, database::read, users::user_id};

/// A stored record: the server frame without its seq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it is in the channel.
    pub seq: Seq,
    /// Its identity.
    pub key: MessageKey,
    /// The frame, JSON; `hubbub_protocol::with_seq` puts the seq in front.
    pub body: String,
}

#[cfg_attr(feature = "mutants", derive(sqlx::FromRow))]
pub(crate) struct MessageRow {
    pub(crate) seq: i64,
    pub(crate) sender_id: i64,
    pub(crate) client_msg_id: Uuid,
    pub(crate) body: String,
}

impl MessageRow {
    pub(crate) fn decode(self) -> Result<Row, sqlx::Error> {
        Ok(Row {
            seq: Seq::from_db(self.seq),
            key: MessageKey {
                user: user_id(self.sender_id)?,
                message_id: MessageId(self.client_msg_id),
            },
            body: self.body,
        })
    }
}

impl Store {
    /// A channel's last processed seq; 0 = nothing yet.
    pub async fn head(&self, channel: ChannelId) -> Result<Seq, Error> {
        #[cfg(feature = "mutants")]
        if hubbub_mutant::planted(hubbub_mutant::Mutant::M8) {
            return self.head_of_replica(channel).await;
        }
        let through = read!(self.channel_shard(channel), "heads.get", |conn| {
            sqlx::query_scalar!(
                "select through from channel_heads where channel_id = $1",
                channel.shard_key()
            )
            .fetch_optional(conn)
        })?;
        Ok(Seq::from_db(through.unwrap_or(0)))
    }

    /// The heads of many channels of one shard, in the order asked, with one statement
    /// (`at_least` waiters); 0 for one that has none.
    pub async fn heads(
        &self,
        shard: usize,
        channels: &[ChannelId],
    ) -> Result<Vec<(ChannelId, Seq)>, Error> {
        let numbers: Vec<i64> = channels.iter().map(|channel| channel.shard_key()).collect();
        let found: HashMap<i64, i64> =
            read!(self.shard(shard), "heads.many", |conn| sqlx::query!(
                "select channel_id, through from channel_heads where channel_id = any($1)",
                &numbers
            )
            .fetch_all(conn))?
            .into_iter()
            .map(|row| (row.channel_id, row.through))
            .collect();
        let head = |channel: &ChannelId| found.get(&channel.shard_key()).copied().unwrap_or(0);
        Ok(channels
            .iter()
            .map(|channel| (*channel, Seq::from_db(head(channel))))
            .collect())
    }

    /// The rows with these seqs, ascending; absent ones are absent.
    pub async fn rows(&self, channel: ChannelId, seqs: &[Seq]) -> Result<Vec<Row>, Error> {
        let seqs: Vec<i64> = seqs.iter().map(|seq| seq.to_db()).collect();
        let rows = read!(self.channel_shard(channel), "messages.listed", |conn| {
            sqlx::query_as!(
                MessageRow,
                "select seq, sender_id, client_msg_id, body from messages
                 where channel_id = $1 and seq = any($2)
                 order by seq",
                channel.shard_key(),
                &seqs
            )
            .fetch_all(conn)
        })?;
        self.decode(channel, rows)
    }

    /// The rows in (`from`, `through`], ascending, at most `limit`.
    pub async fn range(
        &self,
        channel: ChannelId,
        from: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        #[cfg(feature = "mutants")]
        if hubbub_mutant::planted(hubbub_mutant::Mutant::M8) {
            let rows = self.range_of_replica(channel, from, through, limit).await?;
            return self.decode(channel, rows);
        }
        let rows = read!(self.channel_shard(channel), "messages.range", |conn| {
            sqlx::query_as!(
                MessageRow,
                "select seq, sender_id, client_msg_id, body from messages
                 where channel_id = $1 and seq > $2 and seq <= $3
                 order by seq
                 limit $4",
                channel.shard_key(),
                from.to_db(),
                through.to_db(),
                i64::try_from(limit).unwrap_or(i64::MAX)
            )
            .fetch_all(conn)
        })?;
        self.decode(channel, rows)
    }

    fn decode(&self, channel: ChannelId, rows: Vec<MessageRow>) -> Result<Vec<Row>, Error> {
        rows.into_iter()
            .map(MessageRow::decode)
            .collect::<Result<_, _>>()
            .map_err(|error| self.channel_shard(channel).place.error(error))
    }
}
