//! Direct channels: one for each pair of users.

use hubbub_protocol::{ChannelId, ChannelLetter, UserId, http::Role};

use crate::{
    Error, READ_DEADLINE, Store,
    channels::{callers_fault, role_to_db},
    database::{Place, read},
    users::user_id,
};

/// The direct channel of two users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectCreated {
    /// Its id, the same whoever asks.
    pub channel: ChannelId,
    /// Whether this call made it.
    pub created: bool,
}

/// A direct channel as one of its two users sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectChannel {
    /// Who sees it.
    pub user: UserId,
    /// Its id.
    pub channel: ChannelId,
    /// The other one; the user in the channel with oneself.
    pub with: UserId,
}

/// A unique key that another call was faster to take; `None` for every other error.
fn met_another(error: &sqlx::Error) -> Option<()> {
    let constraint = error.as_database_error()?.constraint()?;
    (constraint == "direct_channels_pkey").then_some(())
}

pub(crate) fn direct_id(number: i64) -> Result<ChannelId, sqlx::Error> {
    ChannelId::new(ChannelLetter::Direct, number)
        .ok_or_else(|| sqlx::Error::Decode(format!("{number} is no channel's number").into()))
}

impl Store {
    /// The direct channel of two users, who may be one and the same; made if there is none, with
    /// both as its members. `NoUser` if `other` is nobody.
    pub async fn direct_channel(
        &self,
        user: UserId,
        other: UserId,
    ) -> Result<DirectCreated, Error> {
        if let Some(channel) = self.find_direct(user, other).await? {
            return Ok(DirectCreated {
                channel,
                created: false,
            });
        }
        if let Some(channel) = self.create_direct(user, other).await? {
            return Ok(DirectCreated {
                channel,
                created: true,
            });
        }
        // Somebody else was faster, and has committed: that is what the clash said. Direct
        // channels are never deleted.
        let found = self.find_direct(user, other).await?;
        let channel = found.ok_or_else(|| Place::Core.error(sqlx::Error::RowNotFound))?;
        Ok(DirectCreated {
            channel,
            created: false,
        })
    }

    async fn find_direct(&self, user: UserId, other: UserId) -> Result<Option<ChannelId>, Error> {
        let found = read!(self.core(), "direct_channels.get", |conn| {
            sqlx::query_scalar!(
                "select channel_id from direct_channels where low_user = $1 and high_user = $2",
                user.number().min(other.number()),
                user.number().max(other.number())
            )
            .fetch_optional(conn)
        })?;
        found
            .map(direct_id)
            .transpose()
            .map_err(|error| Place::Core.error(error))
    }

    /// `None` if another call made it meanwhile.
    async fn create_direct(&self, user: UserId, other: UserId) -> Result<Option<ChannelId>, Error> {
        let mut call = self.core().write("direct_channels.create", READ_DEADLINE);
        let mut lease = call.lease().await?;
        let conn = lease.connection();
        // One statement: the clash of two pairs takes its channel and members back with it.
        let statement = sqlx::query_scalar!(
            r#"with made as (
                   insert into channels (kind, created_by) values (3, $1) returning id
               ), paired as (
                   insert into direct_channels (low_user, high_user, channel_id)
                   select least($1, $2), greatest($1, $2), id from made
               ), joined as (
                   insert into memberships (channel_id, user_id, role)
                   select distinct made.id, u.id, $3::smallint
                   from made cross join unnest(array[$1, $2]) as u (id)
               )
               select id from made"#,
            user.number(),
            other.number(),
            role_to_db(Role::Member)
        )
        .fetch_one(conn);
        let result = call.bounded(statement).await;
        let met = result.as_ref().err().and_then(met_another);
        let at_fault = result.as_ref().err().and_then(no_such_user);
        let result = call
            .settle(lease, result)
            .expect("a write is not tried again, so its first try ends it");
        match (met, at_fault) {
            (Some(()), _) => Ok(None),
            (None, Some(error)) => Err(error),
            (None, None) => {
                let id = direct_id(result?).map_err(|error| Place::Core.error(error))?;
                Ok(Some(id))
            }
        }
    }

    /// The direct channels of these users, one statement for them all; in no order.
    pub async fn directs(&self, users: &[UserId]) -> Result<Vec<DirectChannel>, Error> {
        let numbers: Vec<i64> = users.iter().map(|user| user.number()).collect();
        let rows = read!(self.core(), "direct_channels.list", |conn| sqlx::query!(
            r#"select low_user as "user!", channel_id as "channel!", high_user as "other!"
               from direct_channels where low_user = any($1)
               union all
               select high_user, channel_id, low_user
               from direct_channels where high_user = any($1) and low_user <> high_user"#,
            &numbers
        )
        .fetch_all(conn))?;
        rows.into_iter()
            .map(|row| {
                Ok(DirectChannel {
                    user: user_id(row.user)?,
                    channel: direct_id(row.channel)?,
                    with: user_id(row.other)?,
                })
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Place::Core.error(error))
    }
}

/// A user of the pair who does not exist.
fn no_such_user(error: &sqlx::Error) -> Option<Error> {
    let constraint = error.as_database_error()?.constraint()?;
    match constraint {
        "direct_channels_low_user_fkey" | "direct_channels_high_user_fkey" => Some(Error::NoUser),
        _ => callers_fault(error),
    }
}
