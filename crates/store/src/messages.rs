use std::collections::HashMap;

use hubbub_protocol::{ChannelId, MessageId, MessageKey, Seq};
use uuid::Uuid;

use crate::{Error, Store, channels::one_more, database::read, users::user_id};

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

/// Which page of history; bounds exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last rows.
    Newest,
    /// The rows before this seq that are nearest to it.
    Before(Seq),
    /// The rows after this seq that are nearest to it.
    After(Seq),
    /// Up to half the limit before this seq, then the row itself if there is one, then the rows
    /// after it that are nearest to it, up to the limit.
    Around(Seq),
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Ascending by seq.
    pub rows: Vec<Row>,
    /// Whether more rows lie beyond the page in the direction that was asked; for `Around`, in
    /// either.
    pub has_more: bool,
    /// The channel's head in the same snapshot as the rows.
    pub head: Seq,
}

#[cfg_attr(feature = "mutants", derive(sqlx::FromRow))]
pub(crate) struct MessageRow {
    seq: i64,
    sender_id: i64,
    client_msg_id: Uuid,
    body: String,
}

impl MessageRow {
    fn decode(self) -> Result<Row, sqlx::Error> {
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

/// A row of a page's statement: the head, and a message unless there is none.
struct PageRow {
    through: i64,
    seq: Option<i64>,
    sender_id: Option<i64>,
    client_msg_id: Option<Uuid>,
    body: Option<String>,
}

impl PageRow {
    fn decode(self) -> Result<Option<Row>, sqlx::Error> {
        match (self.seq, self.sender_id, self.client_msg_id, self.body) {
            (Some(seq), Some(sender_id), Some(client_msg_id), Some(body)) => MessageRow {
                seq,
                sender_id,
                client_msg_id,
                body,
            }
            .decode()
            .map(Some),
            _ => Ok(None),
        }
    }
}

impl Store {
    /// A page of history with the head of the same snapshot. `limit` is at least 1; the statement
    /// walks the primary key from the bound, so a deep page costs what the first one costs.
    pub async fn page(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = limit.max(1);
        let rows = match window {
            Window::Newest => self.rows_before(channel, i64::MAX, limit).await?,
            Window::Before(seq) => self.rows_before(channel, seq.to_db(), limit).await?,
            Window::After(seq) => self.rows_after(channel, seq.to_db(), limit).await?,
            Window::Around(seq) => self.rows_around(channel, seq.to_db(), limit).await?,
        };
        let head = Seq::from_db(rows.first().map_or(0, |row| row.through));
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            let row = row.decode();
            messages.extend(row.map_err(|error| self.channel_shard(channel).place.error(error))?);
        }
        // A join keeps its order in practice and promises none.
        messages.sort_unstable_by_key(|row| row.seq);
        let has_more = cut(&mut messages, window, limit);
        Ok(Page {
            rows: messages,
            has_more,
            head,
        })
    }

    async fn rows_before(
        &self,
        channel: ChannelId,
        before: i64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Error> {
        read!(self.channel_shard(channel), "messages.before", |conn| {
            sqlx::query_as!(
                PageRow,
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                      m.client_msg_id as "client_msg_id?", m.body as "body?"
               from (select coalesce(
                   (select through from channel_heads where channel_id = $1), 0) as through) h
               left join lateral (
                   select seq, sender_id, client_msg_id, body from messages
                   where channel_id = $1 and seq < $2
                   order by seq desc limit $3
               ) m on true"#,
                channel.number(),
                before,
                one_more(limit)
            )
            .fetch_all(conn)
        })
    }

    async fn rows_after(
        &self,
        channel: ChannelId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Error> {
        read!(self.channel_shard(channel), "messages.after", |conn| {
            sqlx::query_as!(
                PageRow,
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                      m.client_msg_id as "client_msg_id?", m.body as "body?"
               from (select coalesce(
                   (select through from channel_heads where channel_id = $1), 0) as through) h
               left join lateral (
                   select seq, sender_id, client_msg_id, body from messages
                   where channel_id = $1 and seq > $2
                   order by seq limit $3
               ) m on true"#,
                channel.number(),
                after,
                one_more(limit)
            )
            .fetch_all(conn)
        })
    }

    async fn rows_around(
        &self,
        channel: ChannelId,
        around: i64,
        limit: usize,
    ) -> Result<Vec<PageRow>, Error> {
        read!(self.channel_shard(channel), "messages.around", |conn| {
            sqlx::query_as!(
                PageRow,
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                      m.client_msg_id as "client_msg_id?", m.body as "body?"
               from (select coalesce(
                   (select through from channel_heads where channel_id = $1), 0) as through) h
               left join lateral (
                   (select seq, sender_id, client_msg_id, body from messages
                    where channel_id = $1 and seq < $2
                    order by seq desc limit $3)
                   union all
                   (select seq, sender_id, client_msg_id, body from messages
                    where channel_id = $1 and seq >= $2
                    order by seq limit $4)
               ) m on true"#,
                channel.number(),
                around,
                i64::try_from(limit / 2).map_or(i64::MAX, |half| half.saturating_add(1)),
                one_more(limit)
            )
            .fetch_all(conn)
        })
    }

    /// A channel's last processed seq; 0 = nothing yet.
    pub async fn head(&self, channel: ChannelId) -> Result<Seq, Error> {
        #[cfg(feature = "mutants")]
        if hubbub_mutant::planted(hubbub_mutant::Mutant::M8) {
            return self.head_of_replica(channel).await;
        }
        let through = read!(self.channel_shard(channel), "heads.get", |conn| {
            sqlx::query_scalar!(
                "select through from channel_heads where channel_id = $1",
                channel.number()
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
        let numbers: Vec<i64> = channels.iter().map(|channel| channel.number()).collect();
        let found: HashMap<i64, i64> =
            read!(self.shard(shard), "heads.many", |conn| sqlx::query!(
                "select channel_id, through from channel_heads where channel_id = any($1)",
                &numbers
            )
            .fetch_all(conn))?
            .into_iter()
            .map(|row| (row.channel_id, row.through))
            .collect();
        let head = |channel: &ChannelId| found.get(&channel.number()).copied().unwrap_or(0);
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
                channel.number(),
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
                channel.number(),
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

/// Cuts ascending rows, of which each direction has up to one more than it may show, to a page.
/// Gives whether that left any out.
fn cut(rows: &mut Vec<Row>, window: Window, limit: usize) -> bool {
    let before_bound = match window {
        Window::Newest | Window::Before(_) => rows.len(),
        Window::After(_) => 0,
        Window::Around(seq) => rows.partition_point(|row| row.seq < seq),
    };
    let before_limit = match window {
        Window::Around(_) => limit / 2,
        _ => limit,
    };
    let surplus = before_bound.saturating_sub(before_limit);
    rows.drain(..surplus);
    let has_more = surplus > 0 || rows.len() > limit;
    rows.truncate(limit);
    has_more
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::UserId;
    use proptest::prelude::*;

    use super::*;

    fn rows(seqs: &[u64]) -> Vec<Row> {
        let row = |seq: &u64| Row {
            seq: Seq(*seq),
            key: MessageKey {
                user: UserId::new(1).expect("from 1"),
                message_id: MessageId(Uuid::from_u128(u128::from(*seq))),
            },
            body: String::new(),
        };
        seqs.iter().map(row).collect()
    }

    fn seqs(rows: &[Row]) -> Vec<u64> {
        rows.iter().map(|row| row.seq.0).collect()
    }

    #[test]
    fn page_around_is_centred_and_fills_up_behind() {
        // What the statement gives for a limit of 4 around 50 when both sides have plenty.
        let mut page = rows(&[20, 30, 40, 50, 60, 70, 80, 90]);
        assert!(cut(&mut page, Window::Around(Seq(50)), 4));
        assert_eq!(seqs(&page), [30, 40, 50, 60]);
        // At the beginning of a channel: the room that is not needed before goes after.
        let mut page = rows(&[40, 50, 60, 70]);
        assert!(!cut(&mut page, Window::Around(Seq(50)), 4));
        assert_eq!(seqs(&page), [40, 50, 60, 70]);
        // A limit of one shows the row itself.
        let mut page = rows(&[40, 50, 60]);
        assert!(cut(&mut page, Window::Around(Seq(50)), 1));
        assert_eq!(seqs(&page), [50]);
    }

    proptest! {
        #[test]
        fn one_row_too_many_is_cut_on_the_far_side(count in 0_u64..8, limit in 1_usize..8) {
            let limit_rows = (limit as u64 + 1).min(count);
            let all: Vec<u64> = (1..=limit_rows).collect();
            let mut newest = rows(&all);
            let more = cut(&mut newest, Window::Newest, limit);
            prop_assert_eq!(more, limit_rows > limit as u64);
            prop_assert_eq!(seqs(&newest), all[usize::from(more)..].to_vec());
            let mut after = rows(&all);
            let more = cut(&mut after, Window::After(Seq(0)), limit);
            prop_assert_eq!(more, limit_rows > limit as u64);
            prop_assert_eq!(seqs(&after), all[..all.len() - usize::from(more)].to_vec());
        }
    }
}
