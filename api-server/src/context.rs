use std::{convert::Infallible, future::Future, num::NonZeroUsize, time::Duration};

use hubbub_bus::Asker;
use hubbub_chat::{Chat, Rate, RateLimiter};
use hubbub_protocol::{ChannelId, ErrorBody, ErrorCode, UserId};
use hubbub_service::{Clock, Lifecycle, OnError, token::Verifier};
use hubbub_store::Store;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Config, dashboard::Dashboard, metrics::Metrics, origin::Origins, reply::Failure,
    sign_in::SignIn, waiters::Waiters,
};

/// Users that are known by subject, and whose requests are counted, at one time.
const USERS: usize = 65_536;
/// How long a membership that was seen spares a stranger's check; see [`Context::seen_as_member`].
const SEEN: Duration = Duration::from_secs(10);

/// What every request shares.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) chat: Chat,
    pub(crate) asker: Asker,
    pub(crate) dashboard: Dashboard,
    pub(crate) waiters: Waiters,
    pub(crate) verifier: Verifier,
    pub(crate) clock: Clock,
    pub(crate) origins: Origins,
    pub(crate) provision_users: bool,
    /// `None`: nobody signs in here.
    pub(crate) sign_in: Option<SignIn>,
    pub(crate) metrics: Metrics,
    /// Ends before the bus and the log do: requests and what they have begun.
    pub(crate) work: Lifecycle,
    history: RateLimiter<UserId>,
    requests: RateLimiter<UserId>,
    /// A subject is one user for ever, so nothing in here grows old.
    users: Mutex<LruCache<String, UserId>>,
    members: Mutex<LruCache<(ChannelId, UserId), Instant>>,
}

/// What [`Context::new`] takes beside the configuration.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) chat: Chat,
    pub(crate) asker: Asker,
    pub(crate) dashboard: Dashboard,
    pub(crate) waiters: Waiters,
    pub(crate) verifier: Verifier,
    pub(crate) sign_in: Option<SignIn>,
    pub(crate) metrics: Metrics,
    pub(crate) work: Lifecycle,
}

impl Context {
    pub(crate) fn new(config: &Config, parts: Parts) -> Self {
        let keys = NonZeroUsize::new(USERS).expect("above 0");
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            store: parts.store,
            chat: parts.chat,
            asker: parts.asker,
            dashboard: parts.dashboard,
            waiters: parts.waiters,
            verifier: parts.verifier,
            clock: Clock::system(),
            origins: Origins::new(config.allowed_origins.clone()),
            provision_users: config.provision_users,
            sign_in: parts.sign_in,
            metrics: parts.metrics,
            work: parts.work,
            history: RateLimiter::new(rate(config.history_rate, config.history_burst), USERS),
            requests: RateLimiter::new(rate(config.request_rate, config.request_burst), USERS),
            users: Mutex::new(LruCache::sparse(keys)),
            members: Mutex::new(LruCache::sparse(keys)),
        }
    }

    pub(crate) fn known_user(&self, subject: &str) -> Option<UserId> {
        self.users.lock().get(subject).copied()
    }

    pub(crate) fn remember_user(&self, subject: String, user: UserId) {
        self.users.lock().put(subject, user);
    }

    /// Takes one page of history from the user's rate.
    pub(crate) fn take_history(&self, user: UserId) -> Result<(), ErrorBody> {
        self.history
            .take(user)
            .map_err(|ms| limited("pages of history", ms))
    }

    /// Takes one other request from the user's rate.
    pub(crate) fn take_request(&self, user: UserId) -> Result<(), ErrorBody> {
        self.requests
            .take(user)
            .map_err(|ms| limited("requests", ms))
    }

    /// Refuses a stranger before the shard is asked, so that a foreign channel costs and takes what
    /// an absent one does. This is no permission: a membership that was seen within 10 s passes
    /// without a query, and the permission is checked by [`Chat::permit`] after the read.
    pub(crate) async fn seen_as_member(
        &self,
        channel: ChannelId,
        user: UserId,
    ) -> Result<(), Failure> {
        let seen = self.members.lock().get(&(channel, user)).copied();
        if seen.is_some_and(|at| at.elapsed() < SEEN) {
            return Ok(());
        }
        self.chat.permit(channel, user).await?;
        self.members.lock().put((channel, user), Instant::now());
        Ok(())
    }

    /// Runs something that must not stop half-way when its client hangs up: as a task that the
    /// drain waits for.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, hubbub_chat::Error>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, done) = oneshot::channel();
        self.work.spawn(name, OnError::Log, async move {
            // Where the client is gone nobody is there to be told.
            sender.send(work.await).ok();
            Ok::<_, Infallible>(())
        });
        match done.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ErrorBody::new(ErrorCode::Internal, "an error of the server").into()),
        }
    }
}

fn limited(what: &str, retry_after_ms: u64) -> ErrorBody {
    ErrorBody::new(ErrorCode::RateLimited, format!("too many {what} a second"))
        .retry_after_ms(retry_after_ms)
}
