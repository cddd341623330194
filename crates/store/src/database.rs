use std::future::Future;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Duration, Instant, timeout_at};

use crate::{
    Error,
    error::{is_connection_lost, sqlstate},
    pool::{ACQUIRE, Lease, Pool, away, late},
};

/// Deadline of every read and of every small write, waiting for a connection included.
pub const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Deadline of a batch: its statements have 5 s each by the server's clock, and a healthy shard
/// needs some milliseconds for all of them.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Core,
    Shard(usize),
}

impl Place {
    /// Says where `error` happened.
    pub(crate) fn error(self, error: sqlx::Error) -> Error {
        match self {
            Self::Core => Error::Core(error),
            Self::Shard(shard) => Error::Shard { shard, error },
        }
    }

    /// The same at start-up, where a wrong or missing database is a refusal.
    pub(crate) fn start_error(self, error: sqlx::Error) -> Error {
        match &error {
            sqlx::Error::Configuration(reason) => Error::Refused(reason.to_string()),
            _ if sqlstate(&error).as_deref() == Some("3D000") => {
                Error::Refused(format!("{self} does not exist: run `hubbub admin init`"))
            }
            _ => self.error(error),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Core => f.write_str("the core database"),
            Self::Shard(shard) => write!(f, "the database of shard {shard}"),
        }
    }
}

/// Reads an address; refuses a malformed one without repeating it, as it may hold a password.
pub(crate) fn options(place: Place, url: &str) -> Result<PgConnectOptions, Error> {
    url.parse().map_err(|_| {
        Error::Refused(format!(
            "the address of {place} is malformed: postgres://user@host:port/database is expected"
        ))
    })
}

/// One database of the store.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) place: Place,
    pool: Pool,
}

impl Database {
    pub(crate) fn new(place: Place, pool: Pool) -> Self {
        Self { place, pool }
    }

    pub(crate) fn label(place: Place) -> String {
        match place {
            Place::Core => "core".to_owned(),
            Place::Shard(shard) => format!("shard-{shard}"),
        }
    }

    /// Connects once, at start-up.
    pub(crate) async fn start(&self) -> Result<(), Error> {
        let lease = self.pool.lease(false, Instant::now() + ACQUIRE).await;
        self.pool
            .give_back(lease.map_err(|error| self.place.start_error(error))?);
        Ok(())
    }

    /// Starts a call that may be tried twice, because it only reads.
    pub(crate) fn read(&self, query: &'static str) -> Call<'_> {
        self.call(query, READ_DEADLINE, true)
    }

    /// Starts a call that must not be tried twice: its first try may have taken effect.
    pub(crate) fn write(&self, query: &'static str, deadline: Duration) -> Call<'_> {
        self.call(query, deadline, false)
    }

    fn call(&self, query: &'static str, deadline: Duration, repeatable: bool) -> Call<'_> {
        let started = Instant::now();
        Call {
            database: self,
            query,
            started,
            deadline: started + deadline,
            repeatable,
            retry: false,
        }
    }
}

/// One call: its name, its deadline, and whether it has been tried.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    database: &'a Database,
    query: &'static str,
    started: Instant,
    deadline: Instant,
    repeatable: bool,
    retry: bool,
}

impl Call<'_> {
    /// A connection to run it on. For a write it is one that answers now: an idle one that broke
    /// unseen would leave open whether the write took effect.
    pub(crate) async fn lease(&mut self) -> Result<Lease, Error> {
        let pool = &self.database.pool;
        loop {
            let mut lease = match pool.lease(self.retry, self.deadline).await {
                Ok(lease) => lease,
                Err(error) => {
                    pool.metrics
                        .call(&pool.label, self.query, "away", self.started);
                    return Err(self.database.place.error(error));
                }
            };
            if self.repeatable || !lease.reused {
                return Ok(lease);
            }
            let ping = timeout_at(
                self.deadline.min(Instant::now() + ACQUIRE),
                lease.connection().ping(),
            );
            match ping
                .await
                .unwrap_or_else(|_| Err(away("no answer to a ping")))
            {
                Ok(()) => return Ok(lease),
                Err(error) => pool.lost(lease, &error),
            }
            self.retry = true;
        }
    }

    /// Waits for a statement until the call's deadline.
    pub(crate) async fn bounded<T>(
        &self,
        statement: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        timeout_at(self.deadline, statement)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Ends a try: gives the connection back or up, counts, and says what came of it; `None`
    /// where it is to be tried again.
    pub(crate) fn settle<T>(
        &mut self,
        lease: Lease,
        result: sqlx::Result<T>,
    ) -> Option<Result<T, Error>> {
        let pool = &self.database.pool;
        let outcome = match &result {
            Ok(_) => {
                pool.give_back(lease);
                "ok"
            }
            Err(error) if is_connection_lost(error) => {
                let reused = lease.reused;
                pool.lost(lease, error);
                let time_left = Instant::now() < self.deadline;
                if self.repeatable && reused && time_left && !self.retry {
                    self.retry = true;
                    return None;
                }
                if time_left { "error" } else { "deadline" }
            }
            Err(_) => {
                pool.give_back(lease);
                "error"
            }
        };
        pool.metrics
            .call(&pool.label, self.query, outcome, self.started);
        Some(result.map_err(|error| self.database.place.error(error)))
    }
}

/// Runs one statement that only reads, with deadline, one retry on a stale connection, metrics
/// and the span `db.<query>`: `read!(database, "messages.page", |conn| query!(…).fetch_all(conn))`.
/// A macro, because a closure that borrows its connection cannot promise that its future is `Send`.
macro_rules! read {
    ($database:expr, $query:literal, |$conn:ident| $statement:expr) => {{
        use tracing::Instrument as _;
        let mut call = $database.read($query);
        async {
            loop {
                let mut lease = call.lease().await?;
                let result = {
                    let $conn: &mut sqlx::PgConnection = lease.connection();
                    call.bounded($statement).await
                };
                if let Some(result) = call.settle(lease, result) {
                    break result;
                }
            }
        }
        .instrument(tracing::debug_span!(concat!("db.", $query)))
        .await
    }};
}

/// The same for one statement that writes: it is sent once.
macro_rules! write_once {
    ($database:expr, $query:literal, |$conn:ident| $statement:expr) => {{
        use tracing::Instrument as _;
        let mut call = $database.write($query, crate::READ_DEADLINE);
        async {
            let mut lease = call.lease().await?;
            let result = {
                let $conn: &mut sqlx::PgConnection = lease.connection();
                call.bounded($statement).await
            };
            call.settle(lease, result)
                .expect("a write is not tried again, so its first try ends it")
        }
        .instrument(tracing::debug_span!(concat!("db.", $query)))
        .await
    }};
}

pub(crate) use {read, write_once};

/// A connection outside every pool, without statement timeout, for `hubbub admin`.
pub(crate) async fn connect_admin(
    place: Place,
    options: &PgConnectOptions,
) -> Result<PgConnection, sqlx::Error> {
    let connect = PgConnection::connect_with(options);
    match tokio::time::timeout(READ_DEADLINE, connect).await {
        Ok(connected) => connected,
        Err(_) => {
            tracing::debug!(%place, "no connection in time");
            Err(away("no connection in time"))
        }
    }
}
