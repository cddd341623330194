use std::collections::HashSet;

use hubbub_protocol::{
    ChannelId, ChannelLetter, UserId,
    http::{Channel, ChannelKind, ListPage, Role},
};

use crate::{
    Error, READ_DEADLINE, Store,
    database::{Call, Place, read, write_once},
    pool::Lease,
    users::user_id,
};

const KIND_PUBLIC: i16 = 1;
const KIND_PRIVATE: i16 = 2;
const KIND_DIRECT: i16 = 3;

/// The value of the column `kind`.
pub(crate) fn kind_to_db(kind: ChannelKind) -> i16 {
    match kind {
        ChannelKind::Public => KIND_PUBLIC,
        ChannelKind::Private => KIND_PRIVATE,
        ChannelKind::Direct => KIND_DIRECT,
    }
}

pub(crate) fn kind_from_db(kind: i16) -> Result<ChannelKind, sqlx::Error> {
    match kind {
        KIND_PUBLIC => Ok(ChannelKind::Public),
        KIND_PRIVATE => Ok(ChannelKind::Private),
        KIND_DIRECT => Ok(ChannelKind::Direct),
        other => Err(sqlx::Error::Decode(format!("channel kind {other}").into())),
    }
}

/// The value of the column `role`.
pub(crate) fn role_to_db(role: Role) -> i16 {
    match role {
        Role::Member => 1,
        Role::Admin => 2,
    }
}

pub(crate) fn role_from_db(role: i16) -> Result<Role, sqlx::Error> {
    match role {
        1 => Ok(Role::Member),
        2 => Ok(Role::Admin),
        other => Err(sqlx::Error::Decode(format!("role {other}").into())),
    }
}

/// Whether the id's letter says direct: it must agree with the stored kind, else it is the id of
/// no channel.
pub(crate) fn is_direct(channel: ChannelId) -> bool {
    channel.letter == ChannelLetter::Direct
}

/// The public id of a channel: the letter follows from the kind.
pub(crate) fn public_id(number: i64, kind: i16) -> Result<ChannelId, sqlx::Error> {
    let letter = match kind_from_db(kind)? {
        ChannelKind::Direct => ChannelLetter::Direct,
        ChannelKind::Public | ChannelKind::Private => ChannelLetter::Channel,
    };
    ChannelId::new(letter, number)
        .ok_or_else(|| sqlx::Error::Decode(format!("{number} is no channel's number").into()))
}

/// What a channel is called, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelName {
    /// Which channel.
    pub channel: ChannelId,
    /// What it is.
    pub kind: ChannelKind,
    /// `None` for a direct channel.
    pub name: Option<String>,
}

struct ChannelRow {
    id: i64,
    kind: i16,
    name: Option<String>,
    created_by: i64,
    created_ms: i64,
    /// The viewer's, if a member.
    role: Option<i16>,
    /// The other user of a direct channel.
    with_user: Option<i64>,
}

impl ChannelRow {
    fn decode(self) -> Result<Channel, sqlx::Error> {
        let kind = kind_from_db(self.kind)?;
        let role = self.role.map(role_from_db).transpose()?;
        Ok(Channel {
            id: public_id(self.id, self.kind)?,
            kind,
            name: self.name,
            created_by: user_id(self.created_by)?,
            created_ms: self.created_ms,
            is_member: role.is_some(),
            role,
            with: self.with_user.map(user_id).transpose()?,
        })
    }
}

impl TryFrom<ChannelRow> for Channel {
    type Error = Error;

    fn try_from(row: ChannelRow) -> Result<Self, Error> {
        row.decode().map_err(|error| Place::Core.error(error))
    }
}

impl Store {
    /// Creates a channel with its creator as its first member and admin. A direct channel has no
    /// name: `name` is not used for it. `NameTaken` and `NoUser` are the caller's fault.
    pub async fn create_channel(
        &self,
        name: &str,
        kind: ChannelKind,
        creator: UserId,
    ) -> Result<Channel, Error> {
        let name = (kind != ChannelKind::Direct).then_some(name);
        let mut call = self.core().write("channels.create", READ_DEADLINE);
        let mut lease = call.lease().await?;
        let conn = lease.connection();
        // One statement, so that there is never a channel without its admin.
        let statement = sqlx::query_as!(
            ChannelRow,
            r#"with created as (
                   insert into channels (kind, name, created_by) values ($1, $2, $3) returning *
               ), joined as (
                   insert into memberships (channel_id, user_id, role)
                   select id, created_by, $4 from created
                   returning role
               )
               select c.id, c.kind, c.name, c.created_by,
                      (extract(epoch from c.created_at) * 1000)::bigint as "created_ms!",
                      j.role as "role?", null::bigint as "with_user?"
               from created c cross join joined j"#,
            kind_to_db(kind),
            name,
            creator.number(),
            role_to_db(Role::Admin),
        )
        .fetch_one(conn);
        let result = call.bounded(statement).await;
        settled(call, lease, result)?.try_into()
    }

    /// Makes a private channel public; `true` = changed. Of any other kind, or of no channel,
    /// nothing happens.
    pub async fn open_channel(&self, channel: ChannelId) -> Result<bool, Error> {
        let opened = write_once!(self.core(), "channels.open", |conn| sqlx::query!(
            "update channels set kind = 1 where id = $1 and kind = 2",
            channel.number()
        )
        .execute(conn))?;
        Ok(opened.rows_affected() > 0)
    }

    /// The channel if `viewer` may see it (member, or public).
    pub async fn channel(
        &self,
        channel: ChannelId,
        viewer: UserId,
    ) -> Result<Option<Channel>, Error> {
        read!(self.core(), "channels.get", |conn| sqlx::query_as!(
            ChannelRow,
            r#"select c.id, c.kind, c.name, c.created_by,
                      (extract(epoch from c.created_at) * 1000)::bigint as "created_ms!",
                      m.role as "role?",
                      case when d.low_user = $2 then d.high_user else d.low_user end
                          as "with_user?"
               from channels c
               left join memberships m on m.channel_id = c.id and m.user_id = $2
               left join direct_channels d on d.channel_id = c.id
               where c.id = $1 and (c.kind = 3) = $3 and (c.kind = 1 or m.user_id is not null)"#,
            channel.number(),
            viewer.number(),
            is_direct(channel)
        )
        .fetch_optional(conn))?
        .map(Channel::try_from)
        .transpose()
    }

    /// The same by name; a direct channel has none.
    pub async fn channel_by_name(
        &self,
        name: &str,
        viewer: UserId,
    ) -> Result<Option<Channel>, Error> {
        read!(self.core(), "channels.by_name", |conn| sqlx::query_as!(
            ChannelRow,
            r#"select c.id, c.kind, c.name, c.created_by,
                      (extract(epoch from c.created_at) * 1000)::bigint as "created_ms!",
                      m.role as "role?", null::bigint as "with_user?"
               from channels c
               left join memberships m on m.channel_id = c.id and m.user_id = $2
               where c.name = $1 and (c.kind = 1 or m.user_id is not null)"#,
            name,
            viewer.number()
        )
        .fetch_optional(conn))?
        .map(Channel::try_from)
        .transpose()
    }

    /// The viewer's channels and the public ones, by number. `after` is the last number of the
    /// previous page, which its `next` spells in decimal, or 0. `limit` is at least 1.
    pub async fn channels(
        &self,
        viewer: UserId,
        after: i64,
        limit: usize,
    ) -> Result<ListPage<Channel>, Error> {
        // Each half is one walk along an index, cut at the limit; their union is what the page
        // is cut from, so the cost is that of the page and not of the table.
        let rows = read!(self.core(), "channels.list", |conn| sqlx::query_as!(
            ChannelRow,
            r#"select c.id, c.kind, c.name, c.created_by,
                      (extract(epoch from c.created_at) * 1000)::bigint as "created_ms!",
                      m.role as "role?",
                      case when d.low_user = $1 then d.high_user else d.low_user end
                          as "with_user?"
               from (
                   (select id from channels where kind = 1 and id > $2 order by id limit $3)
                   union
                   (select channel_id from memberships where user_id = $1 and channel_id > $2
                    order by channel_id limit $3)
               ) seen
               join channels c on c.id = seen.id
               left join memberships m on m.channel_id = c.id and m.user_id = $1
               left join direct_channels d on d.channel_id = c.id
               order by c.id
               limit $3"#,
            viewer.number(),
            after,
            one_more(limit)
        )
        .fetch_all(conn))?;
        list_page(rows, limit, |channel: &Channel| channel.id.number())
    }

    /// The names of those of these channels that exist, in no order. Whether somebody may see them
    /// is for the caller to ask.
    pub async fn channel_names(&self, channels: &[ChannelId]) -> Result<Vec<ChannelName>, Error> {
        let numbers: Vec<i64> = channels.iter().map(|channel| channel.number()).collect();
        let rows = read!(self.core(), "channels.names", |conn| sqlx::query!(
            "select id, kind, name from channels where id = any($1)",
            &numbers
        )
        .fetch_all(conn))?;
        let decode = |kind, id, name| {
            Ok(ChannelName {
                channel: public_id(id, kind)?,
                kind: kind_from_db(kind)?,
                name,
            })
        };
        rows.into_iter()
            .map(|row| decode(row.kind, row.id, row.name))
            .collect::<Result<_, _>>()
            .map_err(|error| Place::Core.error(error))
    }

    /// Who of these users is a member of which of these channels: one statement, whose cost is
    /// that of the memberships found.
    pub async fn memberships_among(
        &self,
        users: &[UserId],
        channels: &[ChannelId],
    ) -> Result<HashSet<(ChannelId, UserId)>, Error> {
        let users: Vec<i64> = users.iter().map(|user| user.number()).collect();
        let channels: Vec<i64> = channels.iter().map(|channel| channel.number()).collect();
        let rows = read!(self.core(), "memberships.among_all", |conn| sqlx::query!(
            "select m.channel_id, c.kind, m.user_id
             from memberships m join channels c on c.id = m.channel_id
             where m.channel_id = any($1) and m.user_id = any($2)",
            &channels,
            &users
        )
        .fetch_all(conn))?;
        rows.into_iter()
            .map(|row| Ok((public_id(row.channel_id, row.kind)?, user_id(row.user_id)?)))
            .collect::<Result<_, _>>()
            .map_err(|error| Place::Core.error(error))
    }
}

/// What of a write's errors is the caller's own.
pub(crate) fn callers_fault(error: &sqlx::Error) -> Option<Error> {
    let error = error.as_database_error()?;
    match error.constraint()? {
        "channels_name_key" => Some(Error::NameTaken),
        "channels_created_by_fkey" => Some(Error::NoUser),
        // Each partition of `memberships` may have a name of its own for it.
        name if name.ends_with("_user_id_fkey") => Some(Error::NoUser),
        _ => None,
    }
}

/// Ends a write; an error that is the caller's own is told as such.
pub(crate) fn settled<T>(
    mut call: Call<'_>,
    lease: Lease,
    result: sqlx::Result<T>,
) -> Result<T, Error> {
    let at_fault = result.as_ref().err().and_then(callers_fault);
    let result = call
        .settle(lease, result)
        .expect("a write is not tried again, so its first try ends it");
    match at_fault {
        Some(error) => Err(error),
        None => result,
    }
}

/// The limit of a statement that is to show whether there is more.
pub(crate) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit.max(1)).map_or(i64::MAX, |limit| limit.saturating_add(1))
}

/// Cuts what [`one_more`] let through to a page; `number` is the key that the rows are sorted by.
pub(crate) fn list_page<R, T>(
    rows: Vec<R>,
    limit: usize,
    number: impl Fn(&T) -> i64,
) -> Result<ListPage<T>, Error>
where
    T: TryFrom<R, Error = Error>,
{
    let limit = limit.max(1);
    let has_more = rows.len() > limit;
    let items = rows
        .into_iter()
        .take(limit)
        .map(T::try_from)
        .collect::<Result<Vec<T>, Error>>()?;
    let next = items
        .last()
        .filter(|_| has_more)
        .map(|last| number(last).to_string());
    Ok(ListPage { items, next })
}
