use hubbub_protocol::{ChannelId, Seq, limits};
use uuid::Uuid;

use crate::{Error, Row, Store, channels::one_more, database::read, messages::MessageRow};

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

impl Window {
    /// How many of ascending rows lie before the bound.
    fn before(self, rows: &[Row]) -> usize {
        match self {
            Self::Newest | Self::Before(_) => rows.len(),
            Self::After(_) => 0,
            Self::Around(seq) => rows.partition_point(|row| row.seq < seq),
        }
    }

    fn bound(self) -> i64 {
        match self {
            Self::Newest => i64::MAX,
            Self::Before(seq) | Self::After(seq) | Self::Around(seq) => seq.to_db(),
        }
    }
}

/// The limit of the rows before the middle of a page.
fn half(limit: usize) -> i64 {
    i64::try_from(limit / 2).map_or(i64::MAX, |half| half.saturating_add(1))
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Ascending by seq; fewer than were asked for where their bodies pass
    /// [`limits::PAGE_BYTES`], but never none for that.
    pub rows: Vec<Row>,
    /// Whether more rows lie beyond the page in the direction that was asked; for `Around`, in
    /// either.
    pub has_more: bool,
    /// The channel's head in the same snapshot as the rows.
    pub head: Seq,
}

/// A row of a page's statement: the head, and a message unless there is none.
pub(crate) struct PageRow {
    pub(crate) through: i64,
    pub(crate) seq: Option<i64>,
    pub(crate) sender_id: Option<i64>,
    pub(crate) client_msg_id: Option<Uuid>,
    pub(crate) body: Option<String>,
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

/// Runs the statement of a page's rows. Each is spelled out: a condition on the kinds that was a
/// parameter would hide from the planner that `messages_shown` has the rows.
macro_rules! page_rows {
    ($database:expr, $name:literal, $statement:literal, $($argument:expr),+) => {
        read!($database, $name, |conn| {
            sqlx::query_as!(PageRow, $statement, $($argument),+).fetch_all(conn)
        })
    };
}
pub(crate) use page_rows;

impl Store {
    /// A page of history with the head of the same snapshot: messages and changes of the
    /// membership. `limit` is at least 1; the statement walks an index from the bound, so a deep
    /// page costs what the first one costs, whatever lies between the messages.
    pub async fn page(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = limit.max(1);
        let (database, key, more) = (
            self.channel_shard(channel),
            channel.shard_key(),
            one_more(limit),
        );
        let rows = match window {
            Window::Newest | Window::Before(_) => page_rows!(
                database,
                "messages.before",
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                          m.client_msg_id as "client_msg_id?", m.body as "body?"
                   from (select coalesce(
                       (select through from channel_heads where channel_id = $1), 0) as through) h
                   left join lateral (
                       select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and seq < $2 and kind <= 2
                       order by seq desc limit $3
                   ) m on true"#,
                key,
                window.bound(),
                more
            ),
            Window::After(_) => page_rows!(
                database,
                "messages.after",
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                          m.client_msg_id as "client_msg_id?", m.body as "body?"
                   from (select coalesce(
                       (select through from channel_heads where channel_id = $1), 0) as through) h
                   left join lateral (
                       select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and seq > $2 and kind <= 2
                       order by seq limit $3
                   ) m on true"#,
                key,
                window.bound(),
                more
            ),
            Window::Around(_) => page_rows!(
                database,
                "messages.around",
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                          m.client_msg_id as "client_msg_id?", m.body as "body?"
                   from (select coalesce(
                       (select through from channel_heads where channel_id = $1), 0) as through) h
                   left join lateral (
                       (select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and seq < $2 and kind <= 2
                       order by seq desc limit $3)
                       union all
                       (select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and seq >= $2 and kind <= 2
                       order by seq limit $4)
                   ) m on true"#,
                key,
                window.bound(),
                half(limit),
                more
            ),
        }?;
        self.cut_page(channel, rows, window, limit)
    }

    /// The same with the records of every kind.
    pub async fn page_of_records(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = limit.max(1);
        let (database, key, more) = (
            self.channel_shard(channel),
            channel.shard_key(),
            one_more(limit),
        );
        let rows = match window {
            Window::Newest | Window::Before(_) => page_rows!(
                database,
                "records.before",
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                          m.client_msg_id as "client_msg_id?", m.body as "body?"
                   from (select coalesce(
                       (select through from channel_heads where channel_id = $1), 0) as through) h
                   left join lateral (
                       select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and seq < $2
                       order by seq desc limit $3
                   ) m on true"#,
                key,
                window.bound(),
                more
            ),
            Window::After(_) => page_rows!(
                database,
                "records.after",
                r#"select h.through as "through!", m.seq as "seq?", m.sender_id as "sender_id?",
                          m.client_msg_id as "client_msg_id?", m.body as "body?"
                   from (select coalesce(
                       (select through from channel_heads where channel_id = $1), 0) as through) h
                   left join lateral (
                       select seq, sender_id, client_msg_id, body from messages
                       where channel_id = $1 and seq > $2
                       order by seq limit $3
                   ) m on true"#,
                key,
                window.bound(),
                more
            ),
            Window::Around(_) => page_rows!(
                database,
                "records.around",
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
                key,
                window.bound(),
                half(limit),
                more
            ),
        }?;
        self.cut_page(channel, rows, window, limit)
    }

    /// A page from the rows of its statement.
    pub(crate) fn cut_page(
        &self,
        channel: ChannelId,
        rows: Vec<PageRow>,
        window: Window,
        limit: usize,
    ) -> Result<Page, Error> {
        let head = Seq::from_db(rows.first().map_or(0, |row| row.through));
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            let row = row.decode();
            messages.extend(row.map_err(|error| self.channel_shard(channel).place.error(error))?);
        }
        // A join keeps its order in practice and promises none.
        messages.sort_unstable_by_key(|row| row.seq);
        let too_many = cut(&mut messages, window, limit);
        let too_large = cut_to_size(&mut messages, window, limits::PAGE_BYTES);
        let has_more = too_many || too_large;
        Ok(Page {
            rows: messages,
            has_more,
            head,
        })
    }
}

/// Cuts ascending rows, of which each direction has up to one more than it may show, to a page.
/// Gives whether that left any out.
fn cut(rows: &mut Vec<Row>, window: Window, limit: usize) -> bool {
    let before_limit = match window {
        Window::Around(_) => limit / 2,
        _ => limit,
    };
    let surplus = window.before(rows).saturating_sub(before_limit);
    rows.drain(..surplus);
    let has_more = surplus > 0 || rows.len() > limit;
    rows.truncate(limit);
    has_more
}

/// Cuts ascending rows to about `bytes` of bodies, at least one row: those nearest to the bound
/// stay. Gives whether that left any out.
fn cut_to_size(rows: &mut Vec<Row>, window: Window, bytes: usize) -> bool {
    if rows.iter().map(|row| row.body.len()).sum::<usize>() <= bytes {
        return false;
    }
    let middle = window.before(rows);
    // Grows from the middle on both sides by turns, the side behind it first.
    let (mut from, mut to, mut size) = (middle, middle, 0);
    while to - from < rows.len() {
        let behind = to < rows.len() && (from == 0 || to - middle <= middle - from);
        let next = if behind { to } else { from - 1 };
        size += rows[next].body.len();
        if size > bytes && to > from {
            break;
        }
        if behind {
            to += 1;
        } else {
            from -= 1;
        }
    }
    rows.truncate(to);
    rows.drain(..from);
    true
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::{MessageId, MessageKey, UserId};
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

    fn large(seqs: &[u64], bytes: usize) -> Vec<Row> {
        let mut rows = rows(seqs);
        for row in &mut rows {
            row.body = "x".repeat(bytes);
        }
        rows
    }

    #[test]
    fn page_that_is_too_large_keeps_the_rows_next_to_its_bound() {
        let cut = |window, bytes| {
            let mut page = large(&[20, 30, 40, 50, 60], 100);
            let cut = cut_to_size(&mut page, window, bytes);
            (seqs(&page), cut)
        };
        assert_eq!(cut(Window::Newest, 500), (vec![20, 30, 40, 50, 60], false));
        assert_eq!(cut(Window::Newest, 499), (vec![30, 40, 50, 60], true));
        assert_eq!(cut(Window::Before(Seq(70)), 250), (vec![50, 60], true));
        assert_eq!(cut(Window::After(Seq(10)), 250), (vec![20, 30], true));
        assert_eq!(cut(Window::Around(Seq(40)), 300), (vec![30, 40, 50], true));
        assert_eq!(cut(Window::Around(Seq(40)), 200), (vec![30, 40], true));
        assert_eq!(cut(Window::Around(Seq(10)), 200), (vec![20, 30], true));
        assert_eq!(cut(Window::Around(Seq(99)), 200), (vec![50, 60], true));
        // A row that is larger than a page may be is a page of its own.
        assert_eq!(cut(Window::Newest, 10), (vec![60], true));
        assert_eq!(cut(Window::Around(Seq(40)), 10), (vec![40], true));
    }

    proptest! {
        /// Whatever their sizes, pages follow each other to the end and show each row once.
        #[test]
        fn pages_that_are_cut_show_every_row(sizes in prop::collection::vec(0_usize..50, 1..60)) {
            let all: Vec<u64> = (1..=sizes.len() as u64).collect();
            let (mut seen, mut from) = (Vec::new(), 0);
            loop {
                let mut page = rows(&all[from..]);
                for (row, size) in page.iter_mut().zip(&sizes[from..]) {
                    row.body = "x".repeat(*size);
                }
                let more = cut_to_size(&mut page, Window::After(Seq(from as u64)), 100);
                seen.extend(seqs(&page));
                from = seen.len();
                if !more {
                    break;
                }
            }
            prop_assert_eq!(seen, all);
        }

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
