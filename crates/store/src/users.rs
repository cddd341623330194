use std::{collections::HashMap, time::Duration};

use hubbub_protocol::{
    UserId,
    http::{IdentityPatch, User},
};

use crate::{
    Error, Store,
    database::{Place, read, write_once},
};

/// A row of `users`, as every query here selects it.
pub(crate) struct UserRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) picture: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) version: i64,
}

impl TryFrom<UserRow> for User {
    type Error = Error;

    fn try_from(row: UserRow) -> Result<Self, Error> {
        Ok(Self {
            id: user_id(row.id).map_err(|error| Place::Core.error(error))?,
            name: row.name,
            picture: row.picture,
            status: row.status,
            version: row.version,
        })
    }
}

pub(crate) fn user_id(number: i64) -> Result<UserId, sqlx::Error> {
    UserId::new(number)
        .ok_or_else(|| sqlx::Error::Decode(format!("{number} is no user's number").into()))
}

/// What came of a change of identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityChange {
    /// The user as they are now. The version is the old one where the patch changed nothing.
    Changed(User),
    /// The last change was too short ago.
    TooSoon {
        /// Milliseconds until the next one is taken, from 1.
        retry_after_ms: u64,
    },
}

impl Store {
    /// The user with this token subject.
    pub async fn user_by_subject(&self, subject: &str) -> Result<Option<User>, Error> {
        read!(self.core(), "users.by_subject", |conn| sqlx::query_as!(
            UserRow,
            "select id, name, picture, status, version from users where subject = $1",
            subject
        )
        .fetch_optional(conn))?
        .map(User::try_from)
        .transpose()
    }

    /// The users with these token subjects, by subject; those of nobody are left out.
    pub async fn users_by_subject(
        &self,
        subjects: &[String],
    ) -> Result<HashMap<String, UserId>, Error> {
        let rows = read!(self.core(), "users.by_subjects", |conn| sqlx::query!(
            "select subject, id from users where subject = any($1)",
            subjects
        )
        .fetch_all(conn))?;
        rows.into_iter()
            .map(|row| Ok((row.subject, user_id(row.id)?)))
            .collect::<Result<_, _>>()
            .map_err(|error| Place::Core.error(error))
    }

    /// The user with this subject, created with `name` if absent (`--provision-users`, seeding).
    /// An existing one keeps its name.
    pub async fn provision_user(&self, subject: &str, name: &str) -> Result<User, Error> {
        let created = write_once!(self.core(), "users.provision", |conn| sqlx::query_as!(
            UserRow,
            "insert into users (subject, name) values ($1, $2)
             on conflict (subject) do nothing
             returning id, name, picture, status, version",
            subject,
            name
        )
        .fetch_optional(conn))?;
        match created {
            Some(row) => row.try_into(),
            // Users are never deleted, so what was in the way is there to be read.
            None => self
                .user_by_subject(subject)
                .await?
                .ok_or_else(|| Place::Core.error(sqlx::Error::RowNotFound)),
        }
    }

    /// The user with this id.
    pub async fn user(&self, user: UserId) -> Result<Option<User>, Error> {
        read!(self.core(), "users.get", |conn| sqlx::query_as!(
            UserRow,
            "select id, name, picture, status, version from users where id = $1",
            user.number()
        )
        .fetch_optional(conn))?
        .map(User::try_from)
        .transpose()
    }

    /// Those of these users that exist, by number.
    pub async fn users(&self, users: &[UserId]) -> Result<Vec<User>, Error> {
        let numbers: Vec<i64> = users.iter().map(|user| user.number()).collect();
        read!(self.core(), "users.many", |conn| sqlx::query_as!(
            UserRow,
            "select id, name, picture, status, version from users where id = any($1) order by id",
            &numbers
        )
        .fetch_all(conn))?
        .into_iter()
        .map(User::try_from)
        .collect()
    }

    /// Changes what the patch names, and with it the version; at most once in `pause`, whichever
    /// server is asked. An empty picture or status is none. The caller has checked the texts.
    /// `NoUser` if there is none of this id.
    pub async fn change_identity(
        &self,
        user: UserId,
        patch: &IdentityPatch,
        pause: Duration,
    ) -> Result<IdentityChange, Error> {
        // The row as it was is locked first, so that of two changes at once the second one sees
        // the time of the first.
        let changed = write_once!(self.core(), "users.change", |conn| sqlx::query!(
            r#"with before as (
                   select id, name, picture, status, version,
                          ceil(extract(epoch from
                              identity_changed_at + $5 * interval '1 millisecond'
                              - clock_timestamp()) * 1000)::bigint as wait_ms
                   from users where id = $1 for update
               ), wanted as (
                   select id, wait_ms, coalesce($2, name) as name,
                          nullif(coalesce($3, picture), '') as picture,
                          nullif(coalesce($4, status), '') as status,
                          (coalesce($2, name), nullif(coalesce($3, picture), ''),
                           nullif(coalesce($4, status), ''))
                              is distinct from (name, picture, status) as differs
                   from before
               ), changed as (
                   update users u
                   set name = w.name, picture = w.picture, status = w.status,
                       version = u.version + 1, identity_changed_at = clock_timestamp()
                   from wanted w
                   where u.id = w.id and w.differs and coalesce(w.wait_ms, 0) <= 0
                   returning u.id, u.version
               )
               select w.id as "id!", w.name as "name!", w.picture as "picture?",
                      w.status as "status?",
                      coalesce(c.version, b.version) as "version!",
                      case when w.differs and c.id is null then w.wait_ms else 0 end as "wait_ms!"
               from wanted w join before b on b.id = w.id left join changed c on c.id = w.id"#,
            user.number(),
            patch.name.as_deref(),
            patch.picture.as_deref(),
            patch.status.as_deref(),
            i64::try_from(pause.as_millis()).unwrap_or(i64::MAX) as f64
        )
        .fetch_optional(conn))?;
        let Some(row) = changed else {
            return Err(Error::NoUser);
        };
        if let Ok(retry_after_ms @ 1..) = u64::try_from(row.wait_ms) {
            return Ok(IdentityChange::TooSoon { retry_after_ms });
        }
        let row = UserRow {
            id: row.id,
            name: row.name,
            picture: row.picture,
            status: row.status,
            version: row.version,
        };
        row.try_into().map(IdentityChange::Changed)
    }
}
