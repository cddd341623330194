//! Reads of single messages and of what hangs on them.

use hubbub_protocol::{ChannelId, Edited, RecordKind, Seq, UserId, http::Version, limits};

use crate::{
    Error, Page, Store, Window,
    channels::one_more,
    database::read,
    pages::{PageRow, page_rows},
    users::user_id,
};

/// What is to be changed or answered, as it is stored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The channel's head in the same snapshot: what is above it is not stored yet.
    pub head: Seq,
    /// The message; `None` if there is no row at the seq, or one of another kind.
    pub message: Option<TargetMessage>,
}

/// A message that somebody wants to change or to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetMessage {
    /// Who said it.
    pub author: UserId,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The root of its thread, if it is a reply.
    pub thread: Option<Seq>,
    /// How often it was edited: at most [`hubbub_protocol::limits::EDITS_PER_MESSAGE`].
    pub edits: u32,
}

#[derive(serde::Deserialize)]
struct Peek {
    #[serde(default)]
    deleted: bool,
    edited: Option<Edited>,
}

impl Store {
    /// The message at `seq`, with the channel's head: one statement.
    pub async fn target(&self, channel: ChannelId, seq: Seq) -> Result<Target, Error> {
        let database = self.channel_shard(channel);
        let row = read!(database, "messages.target", |conn| sqlx::query!(
            r#"select h.through as "through!", m.sender_id as "sender_id?",
                      m.thread_seq as "thread_seq?", m.body as "body?"
               from (select coalesce(
                   (select through from channel_heads where channel_id = $1), 0) as through) h
               left join lateral (
                   select sender_id, thread_seq, body from messages
                   where channel_id = $1 and seq = $2 and kind = $3
               ) m on true"#,
            channel.shard_key(),
            seq.to_db(),
            RecordKind::Message.to_db()
        )
        .fetch_one(conn))?;
        let message = match (row.sender_id, row.body) {
            (Some(author), Some(body)) => {
                let peek: Result<Peek, _> = serde_json::from_str(&body);
                let peek = peek.map_err(|error| sqlx::Error::Decode(error.into()));
                let message = peek.and_then(|peek| {
                    Ok(TargetMessage {
                        author: user_id(author)?,
                        deleted: peek.deleted,
                        thread: row.thread_seq.map(Seq::from_db),
                        edits: peek.edited.map_or(0, |edited| edited.count),
                    })
                });
                Some(message.map_err(|error| database.place.error(error))?)
            }
            _ => None,
        };
        Ok(Target {
            head: Seq::from_db(row.through),
            message,
        })
    }

    /// The replies of a thread after `after`, ascending, with the head of the same snapshot.
    /// `limit` is at least 1.
    pub async fn replies(
        &self,
        channel: ChannelId,
        root: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = limit.max(1);
        let rows = page_rows!(
            self.channel_shard(channel),
            "messages.replies",
            r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                          m.client_msg_id as "client_msg_id?", m.body as "body?"
                   from (select coalesce(
                       (select through from channel_heads where channel_id = $1), 0) as through) h
                   left join lateral (
                       select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and thread_seq = $2 and seq > $3
                       order by seq limit $4
                   ) m on true"#,
            channel.shard_key(),
            root.to_db(),
            after.to_db(),
            one_more(limit)
        )?;
        self.cut_page(channel, rows, Window::After(after), limit)
    }

    /// What these messages said before their edits, by message, oldest first: at most the newest
    /// [`limits::VERSIONS_PER_MESSAGE`] of each, and [`limits::VERSIONS_PER_PAGE`] in all, of which
    /// later messages have theirs first, up to about [`limits::PAGE_BYTES`]. A deleted message has
    /// none.
    pub async fn versions(
        &self,
        channel: ChannelId,
        targets: &[Seq],
    ) -> Result<Vec<(Seq, Version)>, Error> {
        let seqs: Vec<i64> = targets.iter().map(|seq| seq.to_db()).collect();
        let database = self.channel_shard(channel);
        let rows = read!(database, "message_versions.list", |conn| sqlx::query!(
            "select v.target_seq, v.seq, v.user_id, v.ts_ms, v.text
             from unnest($2::bigint[]) as t (seq)
             cross join lateral (
                 select target_seq, seq, user_id, ts_ms, text from message_versions
                 where channel_id = $1 and target_seq = t.seq
                 order by seq desc limit $3
             ) v
             order by v.target_seq desc, v.seq desc limit $4",
            channel.shard_key(),
            &seqs,
            i64::from(limits::VERSIONS_PER_MESSAGE),
            i64::from(limits::VERSIONS_PER_PAGE)
        )
        .fetch_all(conn))?;
        let mut bytes = 0;
        let fit = rows.iter().take_while(|row| {
            bytes += row.text.len();
            bytes <= limits::PAGE_BYTES
        });
        let fit = fit.count();
        rows.into_iter()
            .take(fit)
            .rev()
            .map(|row| {
                let version = Version {
                    seq: Seq::from_db(row.seq),
                    text: row.text,
                    ts_ms: row.ts_ms,
                    user: user_id(row.user_id)?,
                };
                Ok((Seq::from_db(row.target_seq), version))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| database.place.error(error))
    }
}
