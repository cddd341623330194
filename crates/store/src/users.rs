use hubbub_protocol::{UserId, http::User};

use crate::{
    Error, Store,
    database::{Place, read, write_once},
};

/// A row of `users`, as every query here selects it.
pub(crate) struct UserRow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) picture: Option<String>,
    pub(crate) version: i64,
}

impl TryFrom<UserRow> for User {
    type Error = Error;

    fn try_from(row: UserRow) -> Result<Self, Error> {
        Ok(Self {
            id: user_id(row.id).map_err(|error| Place::Core.error(error))?,
            name: row.name,
            picture: row.picture,
            status: None,
            version: row.version,
        })
    }
}

pub(crate) fn user_id(number: i64) -> Result<UserId, sqlx::Error> {
    UserId::new(number)
        .ok_or_else(|| sqlx::Error::Decode(format!("{number} is no user's number").into()))
}

impl Store {
    /// The user with this token subject.
    pub async fn user_by_subject(&self, subject: &str) -> Result<Option<User>, Error> {
        read!(self.core(), "users.by_subject", |conn| sqlx::query_as!(
            UserRow,
            "select id, name, picture, version from users where subject = $1",
            subject
        )
        .fetch_optional(conn))?
        .map(User::try_from)
        .transpose()
    }

    /// The user with this subject, created with `name` if absent (`--provision-users`, seeding).
    /// An existing one keeps its name.
    pub async fn provision_user(&self, subject: &str, name: &str) -> Result<User, Error> {
        let created = write_once!(self.core(), "users.provision", |conn| sqlx::query_as!(
            UserRow,
            "insert into users (subject, name) values ($1, $2)
             on conflict (subject) do nothing
             returning id, name, picture, version",
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
            "select id, name, picture, version from users where id = $1",
            user.number()
        )
        .fetch_optional(conn))?
        .map(User::try_from)
        .transpose()
    }
}
