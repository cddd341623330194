//! What a user may do: post, reply, edit, delete, react, mark, create a channel, add and remove
//! members, open a direct channel, change their own identity. Check, append, publish.
//!
//! Promises: a send is answered `ok` only after the log acknowledged it (contract P1); an error
//! says whether the message may be in the log (P2); a record is offered to the bus before its
//! sender is answered, in log order, and never after the sender was told that its outcome is
//! unknown; a removal is answered once every pod has confirmed it (P8). Memberships are decided by
//! the core database: a record of a change may be missing, a change may not.
//!
//! It does not deliver anything (that is the edge), store anything (the consumer) or
//! authenticate anyone (the border has done so).

mod change;
mod direct;
mod error;
#[cfg(feature = "mutants")]
mod guess;
mod identity;
mod marks;
mod membership;
mod metrics;
mod people;
mod permit;
mod questions;
mod rate;
mod send;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use hubbub_bus::Publisher;
use hubbub_log::{Appender, ReportQueue, Reports};
use hubbub_protocol::{ChannelId, UserId};
use hubbub_store::Store;
use tokio_util::sync::CancellationToken;

pub use change::{Allowed, MessageChange, STORED_WITHIN};
pub use error::Error;
pub use marks::receipt_of;
pub use metrics::Metrics;
pub use people::ASK_DEADLINE;
pub use permit::Permit;
pub use questions::{Answer, Found, Questions};
pub use rate::{Rate, RateLimiter};
pub use send::Posting;

use send::Pending;

/// The sender's deadline: after it the answer is [`Error::Unknown`]. The log's own delivery timeout
/// overruns by seconds when its brokers are away, so it cannot be this one.
pub const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// How long a removal waits for the pods' confirmations. A pod that is dead loses its lease after
/// 5 s and is no longer waited for, so a longer wait means a pod that renews and does not answer.
pub const EVICT_DEADLINE: Duration = Duration::from_secs(8);

/// Users whose sends are counted at once; past it the one idle for longest is forgotten (and has a
/// full bucket when it comes back).
const RATED_USERS: usize = 65_536;

/// What is configurable about sending.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sends a second and user, kept per process.
    pub send_rate: f64,
    /// Sends that a user who was quiet may make at once.
    pub send_burst: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            send_rate: 20.0,
            send_burst: 40.0,
        }
    }
}

/// What users may do, over one log, store and bus. Cheap handle.
#[derive(Clone)]
pub struct Chat {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    publisher: Publisher,
    appender: Appender<Pending>,
    marks: Appender<marks::Waits>,
    sends: RateLimiter<UserId>,
    questions: Questions<(ChannelId, UserId), ()>,
    metrics: Metrics,
    /// Planted mistakes M1 and M15.
    #[cfg(feature = "mutants")]
    guesses: Arc<guess::Guesses>,
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").finish_non_exhaustive()
    }
}

impl Chat {
    /// Starts the log's producers inside, one for the records and one for the marks, which have a
    /// topic of their own beside it. The task must be run: the reports of records publish and
    /// resolve there, in log order. Fails if Kafka's client refuses the configuration.
    pub fn start(
        config: Config,
        log: &hubbub_log::Config,
        log_metrics: &hubbub_log::Metrics,
        metrics: &Metrics,
        store: Store,
        publisher: Publisher,
    ) -> Result<(Self, ChatTask), hubbub_log::Error> {
        #[cfg(feature = "mutants")]
        let guesses = Arc::new(guess::Guesses::new(log.partitions));
        let (appender, reports) = Appender::start_queued(log, log_metrics)?;
        let task = ChatTask {
            reports,
            publisher: publisher.clone(),
            metrics: metrics.clone(),
            #[cfg(feature = "mutants")]
            guesses: Arc::clone(&guesses),
        };
        let marks = marks::start(&log.marks(), log_metrics, metrics)?;
        let chat = Self {
            inner: Arc::new(Inner {
                store,
                publisher,
                appender,
                marks,
                sends: RateLimiter::new(
                    Rate {
                        per_second: config.send_rate,
                        burst: config.send_burst,
                    },
                    RATED_USERS,
                ),
                questions: Questions::default(),
                metrics: metrics.clone(),
                #[cfg(feature = "mutants")]
                guesses,
            }),
        };
        Ok((chat, task))
    }

    /// Fetches the log's metadata, so that the first send does not wait for it.
    pub async fn warm_up(&self) -> Result<(), hubbub_log::Error> {
        self.inner.appender.warm_up().await?;
        self.inner.marks.warm_up().await
    }

    /// Waits until every send and every mark has its report, at most `deadline`; part of a drain.
    pub async fn flush(&self, deadline: Duration) -> Result<(), hubbub_log::Error> {
        let (sends, marks) = tokio::join!(
            self.inner.appender.flush(deadline),
            self.flush_marks(deadline)
        );
        sends.and(marks)
    }
}

/// Publishes what the log has and answers who sent it, in log order.
#[derive(Debug)]
pub struct ChatTask {
    reports: ReportQueue<Pending>,
    publisher: Publisher,
    metrics: Metrics,
    #[cfg(feature = "mutants")]
    guesses: Arc<guess::Guesses>,
}

impl ChatTask {
    /// Runs until `stop`, which must come behind [`Chat::flush`]: a send whose report is not
    /// handed on is answered [`Error::Unknown`] at its deadline.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let (publisher, metrics) = (&self.publisher, &self.metrics);
        let on_reports = |reports: Reports<'_, Pending>| {
            #[cfg(feature = "mutants")]
            let reports = reports.inspect(|(pending, report): &(Pending, _)| {
                self.guesses.learn(pending.channel(), report);
            });
            send::resolve_all(reports, metrics, |frames| {
                send::publish_all(frames, publisher, metrics);
            });
        };
        self.reports.run(stop, on_reports).await;
        Ok(())
    }
}
