//! What must be there before the API is: the core database, the log and who they are.
use std::{future::Future, time::Duration};

use hubbub_store::{LogIdentity, Store};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long something is waited for, and with what pauses between two tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    deadline: Duration,
    first: Duration,
    most: Duration,
}

impl Patience {
    /// Tries after 200 ms, then at least every 3 s.
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            first: Duration::from_millis(200),
            most: Duration::from_secs(3),
        }
    }
}

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something was not there within the deadline.
    #[error("{what} did not answer within {seconds} s: {error}")]
    Absent {
        /// What was waited for.
        what: &'static str,
        /// The deadline.
        seconds: u64,
        /// What it said last.
        error: String,
    },
    /// It is there and does not fit; the text names the remedy.
    #[error("{0}")]
    Refused(String),
    /// The drain began first.
    #[error("stopped before the start was done")]
    Stopped,
    /// The listener ended although nobody stopped it.
    #[error("the listener ended")]
    Listener,
}

/// Whether a failed try is worth another.
pub(crate) enum Attempt {
    Again(String),
    Never(String),
}

/// Tries until it works, saying what it waits for; the first failure and then every few seconds.
pub(crate) async fn until_there<T, F>(
    what: &'static str,
    patience: Patience,
    stop: &CancellationToken,
    attempt: impl Fn() -> F,
) -> Result<T, StartError>
where
    F: Future<Output = Result<T, Attempt>>,
{
    let (begun, mut pause) = (Instant::now(), patience.first);
    loop {
        // Waits for the try, or for the drain.
        let result = tokio::select! {
            result = attempt() => result,
            () = stop.cancelled() => return Err(StartError::Stopped),
        };
        let error = match result {
            Ok(there) => {
                if pause > patience.first {
                    tracing::info!(waited_ms = begun.elapsed().as_millis(), "{what} is there");
                }
                return Ok(there);
            }
            Err(Attempt::Never(error)) => return Err(StartError::Refused(error)),
            Err(Attempt::Again(error)) => error,
        };
        if begun.elapsed() + pause > patience.deadline {
            let seconds = patience.deadline.as_secs();
            return Err(StartError::Absent {
                what,
                seconds,
                error,
            });
        }
        tracing::info!(%error, waited_s = begun.elapsed().as_secs(), "waiting for {what}");
        // Waits for the pause, or for the drain.
        tokio::select! {
            () = sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
            () = stop.cancelled() => return Err(StartError::Stopped),
        }
        pause = (pause * 2).min(patience.most);
    }
}

/// Opens the store. What it refuses (another log, pending migrations) is not tried again.
pub(crate) async fn open_store(
    config: &hubbub_store::Config,
    metrics: &hubbub_store::Metrics,
) -> Result<Store, Attempt> {
    Store::open(config, metrics)
        .await
        .map_err(|error| match error {
            hubbub_store::Error::Refused(text) => Attempt::Never(text),
            error => Attempt::Again(error.to_string()),
        })
}

/// Checks that the log is the one that the store belongs to: a send into another one would be
/// acknowledged and never stored.
pub(crate) async fn check_log(config: &hubbub_log::Config, store: &Store) -> Result<(), Attempt> {
    let facts = hubbub_log::topic_facts(config)
        .await
        .map_err(|error| Attempt::Again(error.to_string()))?;
    if let Some(text) = mismatch(&facts, store.log_identity()) {
        return Err(Attempt::Never(text));
    }
    let positions = store.known_positions().await;
    let fits = hubbub_log::check_positions(config, &positions).await;
    fits.map_err(|error| match error {
        hubbub_log::Error::Refused(text) => Attempt::Never(text),
        error => Attempt::Again(error.to_string()),
    })
}

fn mismatch(facts: &hubbub_log::TopicFacts, identity: &LogIdentity) -> Option<String> {
    if facts.cluster_id != identity.cluster_id {
        return Some(format!(
            "the databases belong to the Kafka cluster {} and this is {}: check KAFKA_BROKERS, or \
             run `hubbub admin new-log` if the old log is gone for ever",
            identity.cluster_id, facts.cluster_id
        ));
    }
    (facts.partitions != identity.partitions).then(|| {
        format!(
            "the topic {} has {} partitions and the databases were made for {}: the number is \
             fixed for ever, so recreate the topic and run `hubbub admin new-log`",
            identity.topic, facts.partitions, identity.partitions
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SHORT: Patience = Patience {
        deadline: Duration::from_millis(100),
        first: Duration::from_millis(1),
        most: Duration::from_millis(10),
    };

    #[tokio::test]
    async fn tries_until_it_is_there() {
        let tries = AtomicU32::new(0);
        let attempt = || {
            let n = tries.fetch_add(1, Ordering::Relaxed);
            std::future::ready(if n < 5 {
                Err(Attempt::Again("not yet".to_owned()))
            } else {
                Ok(n)
            })
        };
        let patience = Patience {
            deadline: Duration::from_secs(60),
            ..SHORT
        };
        let there = until_there("it", patience, &CancellationToken::new(), attempt).await;
        assert_eq!(there.expect("there"), 5);
    }

    #[tokio::test]
    async fn gives_up_at_the_deadline_and_at_once_where_it_never_fits() {
        let begun = Instant::now();
        let stop = CancellationToken::new();
        let away = || std::future::ready(Err::<(), _>(Attempt::Again("away".to_owned())));
        let error = until_there("it", SHORT, &stop, away).await;
        assert!(matches!(error, Err(StartError::Absent { .. })), "{error:?}");
        assert!(begun.elapsed() >= SHORT.deadline - SHORT.most);

        let never = || std::future::ready(Err::<(), _>(Attempt::Never("other".to_owned())));
        let error = until_there("it", SHORT, &stop, never).await;
        assert!(matches!(error, Err(StartError::Refused(_))), "{error:?}");

        stop.cancel();
        let patience = Patience::new(Duration::from_secs(60));
        let error = until_there("it", patience, &stop, away).await;
        assert!(matches!(error, Err(StartError::Stopped)), "{error:?}");
    }

    #[test]
    fn another_log_is_refused_with_the_remedy() {
        let identity = LogIdentity {
            cluster_id: "a".to_owned(),
            topic: "messages".to_owned(),
            partitions: 32,
            base: 0,
        };
        let facts = |cluster: &str, partitions| hubbub_log::TopicFacts {
            cluster_id: cluster.to_owned(),
            partitions,
            replication: 1,
            min_insync: 1,
            log_append_time: true,
        };
        assert_eq!(mismatch(&facts("a", 32), &identity), None);
        for facts in [facts("b", 32), facts("a", 16)] {
            let text = mismatch(&facts, &identity).expect("does not fit");
            assert!(text.contains("hubbub admin new-log"), "{text}");
        }
    }
}
