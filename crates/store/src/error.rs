use hubbub_protocol::ErrorCode;

use crate::pool::is_late;

/// Which database did not answer is part of the error, so that the border can say
/// `core_unavailable` or `shard_unavailable`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The core database is away, did not answer in time, or refused the statement.
    #[error("core database: {0}")]
    Core(#[source] sqlx::Error),
    /// The same for a shard; also one that came back as another one.
    #[error("shard {shard}: {error}")]
    Shard {
        /// Its number in the configuration, from 0.
        shard: usize,
        /// What happened.
        #[source]
        error: sqlx::Error,
    },
    /// Another cluster, another partition count, a shard that says it is another one, pending
    /// migrations, a malformed address: only `open`, `init` and `new_log`. Names the remedy.
    #[error("{0}")]
    Refused(String),
    /// The name is taken by another public or private channel.
    #[error("a channel of that name exists")]
    NameTaken,
    /// No user has this id.
    #[error("no such user")]
    NoUser,
}

impl Error {
    /// What a client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Core(_) => ErrorCode::CoreUnavailable,
            Self::Shard { .. } => ErrorCode::ShardUnavailable,
            Self::Refused(_) => ErrorCode::Internal,
            Self::NameTaken => ErrorCode::NameTaken,
            Self::NoUser => ErrorCode::UserNotFound,
        }
    }

    /// Whether the database had the statements and did not finish them in time: they ran into its
    /// statement timeout (SQLSTATE 57014), or no answer came within the deadline. They may be too
    /// much for one transaction; a server that is frozen looks the same.
    pub fn is_too_slow(&self) -> bool {
        self.of_database()
            .is_some_and(|error| is_late(error) || sqlstate(error).as_deref() == Some("57014"))
    }

    /// Whether somebody else held what the statement waited for (SQLSTATE 55P03, `lock_timeout`).
    pub(crate) fn is_locked(&self) -> bool {
        self.of_database()
            .is_some_and(|error| sqlstate(error).as_deref() == Some("55P03"))
    }

    /// What a database said, or did not say in time.
    fn of_database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Core(error) | Self::Shard { error, .. } => Some(error),
            Self::Refused(_) | Self::NameTaken | Self::NoUser => None,
        }
    }
}

/// Why a batch was not written. In every case nothing of it is in the store, except that after
/// [`WriteError::Store`] the commit may have happened unseen: read the position again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The compare-and-set gave 0 rows: somebody else owns the partition. Forget everything and
    /// start from `log_position`.
    #[error("another consumer has moved the position")]
    Zombie,
    /// SQLSTATE class 22 or 23 on the batch: bisect it; on a batch of one it is a dead letter.
    #[error("record refused by the database: {0}")]
    Data(String),
    /// What the shard holds contradicts the log: a head above the batch, or another record at the
    /// same seq. Trying again does not help; somebody must look.
    #[error("the stored rows contradict the log: {0}")]
    Contradiction(String),
    /// The shard is away: wait, read the position, try again.
    #[error(transparent)]
    Store(#[from] Error),
}

impl WriteError {
    /// The value of a metric's label.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Zombie => "zombie",
            Self::Data(_) => "data",
            Self::Contradiction(_) => "contradiction",
            Self::Store(_) => "store",
        }
    }
}

/// Whether `error` says that the connection or its server is gone, not that a statement was wrong.
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // 08 connection exception; 57P01 to 57P05 shut down, crashed, starting, database
            // dropped, idle session; 53300 too many connections; 58 system error.
            code.starts_with("08")
                || code.starts_with("57P")
                || code.starts_with("58")
                || code == "53300"
                || code == "25P03"
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// The SQLSTATE of a statement that the database refused.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{away, late};

    #[test]
    fn statement_that_got_no_answer_is_too_slow_and_a_server_that_is_away_is_not() {
        assert!(Error::Core(late()).is_too_slow());
        assert!(
            Error::Shard {
                shard: 1,
                error: late()
            }
            .is_too_slow()
        );
        assert!(!Error::Core(away("no connection in time")).is_too_slow());
        assert!(!Error::Core(sqlx::Error::PoolClosed).is_too_slow());
    }
}
