use std::collections::HashSet;

use hubbub_protocol::{
    ChannelId, Seq, UserId,
    http::{ChannelKind, ListPage, Member, Role},
};

use crate::{
    Error, READ_DEADLINE, Store,
    channels::{is_direct, kind_from_db, list_page, one_more, role_from_db, role_to_db, settled},
    database::{Place, read, write_once},
    users::UserRow,
};

/// That somebody belongs to a channel, and what kind of channel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The channel's.
    pub kind: ChannelKind,
    /// What the member may do.
    pub role: Role,
}

struct MemberRow {
    id: i64,
    name: String,
    picture: Option<String>,
    status: Option<String>,
    version: i64,
    role: i16,
    added_seq: i64,
}

impl TryFrom<MemberRow> for Member {
    type Error = Error;

    fn try_from(row: MemberRow) -> Result<Self, Error> {
        let role = role_from_db(row.role).map_err(|error| Place::Core.error(error))?;
        let user = UserRow {
            id: row.id,
            name: row.name,
            picture: row.picture,
            status: row.status,
            version: row.version,
        };
        Ok(Self {
            user: user.try_into()?,
            role,
            added_seq: Seq::from_db(row.added_seq),
        })
    }
}

impl Store {
    /// The membership of `user`; `None` for no member, no channel, or an id whose letter is not
    /// that of the channel's kind.
    pub async fn membership(
        &self,
        channel: ChannelId,
        user: UserId,
    ) -> Result<Option<Membership>, Error> {
        let row = read!(self.core(), "memberships.get", |conn| sqlx::query!(
            "select c.kind, m.role
             from memberships m join channels c on c.id = m.channel_id
             where m.channel_id = $1 and m.user_id = $2 and (c.kind = 3) = $3",
            channel.number(),
            user.number(),
            is_direct(channel)
        )
        .fetch_optional(conn))?;
        let decode = |kind, role| {
            Ok(Membership {
                kind: kind_from_db(kind)?,
                role: role_from_db(role)?,
            })
        };
        row.map(|row| decode(row.kind, row.role))
            .transpose()
            .map_err(|error| Place::Core.error(error))
    }

    /// Those of the pairs that are memberships, as [`Store::membership`] knows them: one statement
    /// for a batch.
    pub async fn members_among(
        &self,
        asked: &[(ChannelId, UserId)],
    ) -> Result<HashSet<(ChannelId, UserId)>, Error> {
        let channels: Vec<i64> = asked.iter().map(|(channel, _)| channel.number()).collect();
        let direct: Vec<bool> = asked
            .iter()
            .map(|(channel, _)| is_direct(*channel))
            .collect();
        let users: Vec<i64> = asked.iter().map(|(_, user)| user.number()).collect();
        let found = read!(self.core(), "memberships.among", |conn| {
            sqlx::query!(
                r#"select m.channel_id, asked.direct as "direct!", m.user_id
                   from unnest($1::bigint[], $2::bool[], $3::bigint[])
                       as asked (channel_id, direct, user_id)
                   join memberships m
                       on m.channel_id = asked.channel_id and m.user_id = asked.user_id
                   join channels c on c.id = m.channel_id and (c.kind = 3) = asked.direct"#,
                &channels,
                &direct,
                &users
            )
            .fetch_all(conn)
        })?;
        let found: HashSet<(i64, bool, i64)> = found
            .into_iter()
            .map(|row| (row.channel_id, row.direct, row.user_id))
            .collect();
        let is_found = |(channel, user): &(ChannelId, UserId)| {
            found.contains(&(channel.number(), is_direct(*channel), user.number()))
        };
        Ok(asked.iter().copied().filter(is_found).collect())
    }

    /// The members by user number. `after` is the last number of the previous page, which its
    /// `next` spells in decimal, or 0. `limit` is at least 1.
    pub async fn members(
        &self,
        channel: ChannelId,
        after: i64,
        limit: usize,
    ) -> Result<ListPage<Member>, Error> {
        let rows = read!(self.core(), "memberships.list", |conn| sqlx::query_as!(
            MemberRow,
            "select u.id, u.name, u.picture, u.status, u.version, m.role, m.added_seq
             from memberships m join users u on u.id = m.user_id
             where m.channel_id = $1 and m.user_id > $2
             order by m.user_id
             limit $3",
            channel.number(),
            after,
            one_more(limit)
        )
        .fetch_all(conn))?;
        list_page(rows, limit, |member: &Member| member.user.id.number())
    }

    /// Adds a member; `true` = changed. Who is a member already keeps the role. An id of no
    /// channel changes nothing; of no user it is `NoUser`.
    pub async fn add_member(
        &self,
        channel: ChannelId,
        user: UserId,
        role: Role,
    ) -> Result<bool, Error> {
        let mut call = self.core().write("memberships.add", READ_DEADLINE);
        let mut lease = call.lease().await?;
        let conn = lease.connection();
        let statement = sqlx::query!(
            "insert into memberships (channel_id, user_id, role)
             select id, $2, $3 from channels where id = $1 and (kind = 3) = $4
             on conflict (channel_id, user_id) do nothing",
            channel.number(),
            user.number(),
            role_to_db(role),
            is_direct(channel)
        )
        .execute(conn);
        let result = call.bounded(statement).await;
        Ok(settled(call, lease, result)?.rows_affected() > 0)
    }

    /// Adds a plain member on behalf of `actor`: to a public channel oneself, or others by a
    /// member; to a private one others by an admin. The rule is part of the statement, so that who
    /// was removed a moment ago adds nobody, themself least of all. `true` = changed; `false` =
    /// who is a member already, or an actor who may not.
    pub async fn admit(
        &self,
        channel: ChannelId,
        actor: UserId,
        member: UserId,
    ) -> Result<bool, Error> {
        let mut call = self.core().write("memberships.admit", READ_DEADLINE);
        let mut lease = call.lease().await?;
        let conn = lease.connection();
        let statement = sqlx::query!(
            "insert into memberships (channel_id, user_id, role)
             select c.id, $3, 1 from channels c
             where c.id = $1 and c.kind < 3 and not $4 and case when $2::bigint = $3::bigint then c.kind = 1 else
                 exists (select from memberships m
                         where m.channel_id = c.id and m.user_id = $2
                           and (c.kind = 1 or m.role = 2)) end
             on conflict (channel_id, user_id) do nothing",
            channel.number(),
            actor.number(),
            member.number(),
            is_direct(channel)
        )
        .execute(conn);
        let result = call.bounded(statement).await;
        Ok(settled(call, lease, result)?.rows_affected() > 0)
    }

    /// Notes the seq of the record that added a member, once the log has given it. It never goes
    /// back; without such a member nothing happens.
    pub async fn set_added_seq(
        &self,
        channel: ChannelId,
        user: UserId,
        seq: Seq,
    ) -> Result<(), Error> {
        write_once!(self.core(), "memberships.set_added_seq", |conn| {
            sqlx::query!(
                "update memberships set added_seq = greatest(added_seq, $3)
                 where channel_id = $1 and user_id = $2",
                channel.number(),
                user.number(),
                seq.to_db()
            )
            .execute(conn)
        })?;
        Ok(())
    }

    /// Removes a member; `true` = changed.
    pub async fn remove_member(&self, channel: ChannelId, user: UserId) -> Result<bool, Error> {
        let removed = write_once!(self.core(), "memberships.remove", |conn| sqlx::query!(
            "delete from memberships where channel_id = $1 and user_id = $2",
            channel.number(),
            user.number()
        )
        .execute(conn))?;
        Ok(removed.rows_affected() > 0)
    }
}
