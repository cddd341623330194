//! Connections to one database. Not sqlx's pool, for three reasons: that one asks the server
//! `are you there` before and after every statement, waits its whole timeout out when a server
//! refuses connections, and holds its permits for as long as a frozen server does not answer.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, timeout_at},
};

use crate::{metrics::Metrics, migrations};

/// The most that a caller waits for a connection: for a free one, for a new one to be made, or
/// both. Shorter than [`crate::READ_DEADLINE`], so that a full pool is told from a slow statement.
pub(crate) const ACQUIRE: Duration = Duration::from_secs(2);

/// How long a database that could not be reached is left alone; calls fail at once meanwhile.
/// Long enough that a thousand waiting readers cost one attempt each 100 ms, short enough that
/// its return is found well within the 2 s of contract P7.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads whose database this is; `Err(Configuration)` if it is the wrong one.
pub(crate) type Verify = Box<
    dyn for<'c> Fn(&'c mut PgConnection) -> futures_util::future::BoxFuture<'c, sqlx::Result<()>>
        + Send
        + Sync,
>;

pub(crate) struct Pool {
    options: PgConnectOptions,
    verify: Verify,
    /// One per connection in use.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    pub(crate) label: Arc<String>,
    pub(crate) metrics: Metrics,
    open: Gauge,
}

/// A connection, counted for as long as it is open.
struct Counted {
    conn: PgConnection,
    open: Gauge,
}

impl Counted {
    fn new(conn: PgConnection, open: &Gauge) -> Self {
        open.inc();
        Self {
            conn,
            open: open.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[derive(Default)]
struct State {
    /// Connections of the current generation that nobody uses, the last used last: taken from
    /// the end, so that under little load few stay warm.
    idle: Vec<Counted>,
    /// Counts the losses. A connection made before the last loss is not given out again: what
    /// broke one has as a rule broken them all.
    generation: u64,
    /// When the database was last found away, until it is found again.
    away_since: Option<Instant>,
    /// Somebody is trying to reach a database that was away; the others need not.
    probing: bool,
}

/// A connection in use. Dropped without [`Lease::give_back`] it is closed, because what a
/// cancelled statement left on it is not known.
pub(crate) struct Lease {
    conn: Counted,
    generation: u64,
    /// It was idle before: a failure on it may be an old one that nobody had noticed.
    pub(crate) reused: bool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.conn.conn
    }
}

/// Ends a probe on every path.
struct Probe<'a>(&'a Mutex<State>);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.lock().probing = false;
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("database", &self.label)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// At most `connections` (at least 1) at once; none is made before it is needed.
    pub(crate) fn new(
        options: PgConnectOptions,
        connections: u32,
        label: String,
        metrics: Metrics,
        verify: Verify,
    ) -> Self {
        let options = options
            .application_name("hubbub")
            .options([
                ("statement_timeout", "5s"),
                ("lock_timeout", "1s"),
                ("idle_in_transaction_session_timeout", "10s"),
            ])
            .disable_statement_logging();
        let connections = connections.max(1);
        let label = Arc::new(label);
        let open = metrics.pool(&label, connections);
        Self {
            options,
            verify,
            permits: Arc::new(Semaphore::new(connections as usize)),
            state: Mutex::default(),
            label,
            metrics,
            open,
        }
    }

    /// A connection, until `deadline` or [`ACQUIRE`] from now. With `fresh`, a new one, in the
    /// place of one that nobody uses.
    pub(crate) async fn lease(&self, fresh: bool, deadline: Instant) -> sqlx::Result<Lease> {
        let deadline = deadline.min(Instant::now() + ACQUIRE);
        let probe = self.probe()?;
        let permit = timeout_at(deadline, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        let (idle, generation) = {
            let mut state = self.state.lock();
            (state.idle.pop(), state.generation)
        };
        let (conn, reused) = match idle {
            Some(conn) if !fresh => (conn, true),
            // With one closed for it there are still no more open ones than permits.
            idle => {
                drop(idle);
                (self.connect(deadline).await?, false)
            }
        };
        drop(probe);
        Ok(Lease {
            conn,
            generation,
            reused,
            _permit: permit,
        })
    }

    /// Lets everybody through to a database that answers, and to one that is away one caller
    /// every [`PAUSE`].
    fn probe(&self) -> sqlx::Result<Option<Probe<'_>>> {
        let mut state = self.state.lock();
        match state.away_since {
            None => Ok(None),
            Some(since) if !state.probing && since.elapsed() >= PAUSE => {
                state.probing = true;
                Ok(Some(Probe(&self.state)))
            }
            Some(_) => Err(away("it did not answer a moment ago")),
        }
    }

    async fn connect(&self, deadline: Instant) -> sqlx::Result<Counted> {
        let connected = timeout_at(deadline, async {
            let mut conn = Counted::new(self.options.connect().await?, &self.open);
            (self.verify)(&mut conn.conn).await?;
            Ok(conn)
        })
        .await
        .unwrap_or_else(|_| Err(away("no connection in time")));
        match &connected {
            Ok(_) => {
                self.metrics.connection(&self.label, "opened");
                if self.state.lock().away_since.take().is_some() {
                    tracing::info!(database = %self.label, "database is back");
                }
            }
            Err(error) => {
                if matches!(error, sqlx::Error::Configuration(_)) {
                    self.metrics.connection(&self.label, "refused");
                }
                self.found_away(error);
            }
        }
        connected
    }

    /// Takes a connection back that is known to be whole: between statements, in no transaction.
    pub(crate) fn give_back(&self, lease: Lease) {
        let mut state = self.state.lock();
        if lease.generation == state.generation {
            state.idle.push(lease.conn);
            // It answered, so it is there, whatever became of an attempt to connect meanwhile.
            state.away_since = None;
        }
        // The permit goes after the push, at the end of this function: whoever waits for it finds
        // the connection.
    }

    /// Notes that `lease` broke. Its contemporaries are not used again. Where it had been idle it
    /// may have broken long ago, so only a fresh one's failure says that the database is away.
    pub(crate) fn lost(&self, lease: Lease, error: &sqlx::Error) {
        let stale = {
            let mut state = self.state.lock();
            if lease.generation == state.generation {
                state.generation += 1;
                std::mem::take(&mut state.idle)
            } else {
                Vec::new()
            }
        };
        drop(stale);
        if lease.reused && !is_deadline(error) {
            self.metrics.connection(&self.label, "replaced");
        } else {
            self.found_away(error);
        }
    }

    fn found_away(&self, error: &sqlx::Error) {
        self.metrics.connection(&self.label, "lost");
        let mut state = self.state.lock();
        let first = state.away_since.is_none();
        state.away_since = Some(Instant::now());
        drop(state);
        match error {
            _ if !first => {}
            // The wrong database: somebody has to correct an address.
            sqlx::Error::Configuration(reason) => {
                tracing::error!(database = %self.label, %reason, "database is refused");
            }
            error => tracing::warn!(database = %self.label, %error, "database is away"),
        }
    }
}

/// The server did not say this; it is what a caller gets instead of an answer.
pub(crate) fn away(reason: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
}

/// A database that was given a statement and did not answer within the call's deadline.
#[derive(Debug, thiserror::Error)]
#[error("no answer within the deadline")]
struct Late;

pub(crate) fn late() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, Late))
}

/// Whether it is that error, which may be the statement's fault, as [`away`] is not.
pub(crate) fn is_late(error: &sqlx::Error) -> bool {
    let sqlx::Error::Io(error) = error else {
        return false;
    };
    error.get_ref().is_some_and(|why| why.is::<Late>())
}

fn is_deadline(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// The check of a core database: its schema, and that it is the one of `identity`, if known.
pub(crate) fn verify_core(identity: Option<crate::identity::CoreIdentity>) -> Verify {
    let identity = Arc::new(identity);
    Box::new(move |conn| {
        let identity = identity.clone();
        Box::pin(async move {
            refuse(migrations::unfit(conn, &migrations::CORE, "the core database").await?)?;
            let Some(expected) = identity.as_ref() else {
                return Ok(());
            };
            let same = crate::identity::read_core(conn).await?.as_ref() == Some(expected);
            refuse((!same).then(|| {
                "the core database has another identity than when this process started: restart \
                 it, or correct CORE_DATABASE_URL"
                    .to_owned()
            }))
        })
    })
}

/// The check of a shard: its schema, and that it says it is `expected`.
pub(crate) fn verify_shard(expected: crate::identity::ShardIdentity) -> Verify {
    let expected = Arc::new(expected);
    Box::new(move |conn| {
        let expected = expected.clone();
        Box::pin(async move {
            let what = format!("shard {}", expected.shard);
            refuse(migrations::unfit(conn, &migrations::SHARD, &what).await?)?;
            refuse(match crate::identity::read_shard(conn).await? {
                Some(found) => found.mismatch(&expected),
                None => Some(format!("{what} has no identity: run `hubbub admin init`")),
            })
        })
    })
}

fn refuse(reason: Option<String>) -> sqlx::Result<()> {
    match reason {
        Some(reason) => Err(sqlx::Error::Configuration(reason.into())),
        None => Ok(()),
    }
}

/// Closes politely, for the few connections that live outside a pool; a failure changes nothing.
pub(crate) async fn close(conn: PgConnection) {
    if let Ok(Err(error)) = tokio::time::timeout(ACQUIRE, conn.close()).await {
        tracing::debug!(%error, "close connection");
    }
}
