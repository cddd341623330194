mod people;

use std::time::Duration;

use hubbub_protocol::{
    ChannelId, ErrorBody, ErrorReply, MessageId, MessageReply, Outcome, Seq, UserId,
    http::{Channel, ListPage, Member, MembershipReply, MessagePage, NewChannel, User},
};
use reqwest::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{Backoff, TokenSource};

pub use people::{Progress, Replies};

/// Connecting and the whole answer of one attempt. Above the server's own 5 s for a send.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Connecting alone.
const CONNECT: Duration = Duration::from_secs(3);
/// All attempts of one call together.
const TOTAL: Duration = Duration::from_secs(30);
/// Attempts of one call.
const ATTEMPTS: u32 = 6;
/// First bound of the delay between attempts, and its cap.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// Answers are small: 200 records of 16 KiB of text, six times that as JSON.
const BODY_BYTES: u64 = 32 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server's own answer.
    #[error("{}", .0.message)]
    Api(ErrorBody),
    /// Nobody answered.
    #[error("cannot reach {url}: {error}")]
    Unreachable {
        /// Without query.
        url: String,
        /// What the system said.
        error: String,
        /// Whether the request may have been carried out all the same.
        sent: bool,
    },
    /// Something answered that is no Hubbub, or a proxy in front of it.
    #[error("{url} answered HTTP {status}, which is not Hubbub's: {body}")]
    Foreign {
        /// Without query.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// No token could be had.
    #[error("no token: {0}")]
    Token(String),
    /// The base URL or a parameter cannot be used.
    #[error("{0}")]
    Config(String),
}

impl HttpError {
    /// The server's error object, if it answered with one.
    pub fn body(&self) -> Option<&ErrorBody> {
        match self {
            Self::Api(body) => Some(body),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Api(body) => body.retryable,
            Self::Unreachable { .. } => true,
            Self::Foreign { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Self::Token(_) | Self::Config(_) => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.body()?.retry_after_ms.map(Duration::from_millis)
    }
}

/// Which page of history; bounds are exclusive, and at most one of them is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The newest records below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// The oldest records above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Records on both sides of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub around: Option<Seq>,
    /// 1 to 200 records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Waits up to 2 s until the head has reached this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Seq>,
    /// Every kind of record: edits, deletions, reactions and identities, too.
    #[serde(skip_serializing_if = "std::ops::Not::not", serialize_with = "one")]
    pub records: bool,
    /// With each edited message what it said before.
    #[serde(skip_serializing_if = "std::ops::Not::not", serialize_with = "one")]
    pub versions: bool,
}

/// A flag of a query that is set.
fn one<S: serde::Serializer>(_: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(1)
}

/// Whose membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The caller's.
    Me,
    /// Another user's.
    User(UserId),
}

#[derive(Serialize, Default)]
struct List<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// The body of a request that brings something into the log.
#[derive(Serialize)]
struct Sending<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<Seq>,
    client_msg_id: MessageId,
    retry: bool,
}

impl Sending<'_> {
    fn new(client_msg_id: MessageId) -> Self {
        Self {
            text: None,
            thread: None,
            client_msg_id,
            retry: false,
        }
    }
}

/// How a call may be repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Nothing changes by it.
    Always,
    /// Only where no server can have read it.
    Unsent,
}

/// The HTTP API, typed. Every call has a deadline (30 s with its repetitions); calls that
/// change nothing are repeated where the server cannot be reached or asks for it, with jitter.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    base: String,
    token: TokenSource,
    client: reqwest::Client,
}

impl Http {
    /// `base`: `http://host:port`, without a path.
    pub fn new(base: &str, token: TokenSource) -> Result<Self, HttpError> {
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            let text = format!("not an HTTP URL (http://host:port): {base}");
            return Err(HttpError::Config(text));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ATTEMPT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| HttpError::Config(error.to_string()))?;
        Ok(Self {
            base,
            token,
            client,
        })
    }

    /// A page of a channel's history (`getMessages`).
    pub async fn messages(&self, channel: ChannelId, page: Page) -> Result<MessagePage, HttpError> {
        self.get(&format!("/channels/{channel}/messages"), &page)
            .await
    }

    /// Sends a message and waits for a definite answer: it is sent again under the same id, with
    /// `retry:true`, while its outcome is unknown, within the deadline of every call. An error
    /// with `outcome: unknown`, or [`HttpError::Unreachable`], leaves it open.
    pub async fn post(
        &self,
        channel: ChannelId,
        text: &str,
        message_id: MessageId,
    ) -> Result<MessageReply, HttpError> {
        let path = format!("/channels/{channel}/messages");
        let sending = Sending {
            text: Some(text),
            ..Sending::new(message_id)
        };
        self.settle(Method::POST, &path, sending).await
    }

    /// Sends a change until the answer is definite.
    async fn settle(
        &self,
        method: Method,
        path: &str,
        mut sending: Sending<'_>,
    ) -> Result<MessageReply, HttpError> {
        let mut schedule = Schedule::new();
        loop {
            let attempt = self.attempt(method.clone(), path, &(), Some(&sending));
            let mut error = match attempt.await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let outcome = error.body().and_then(|body| body.outcome);
            let again = error.retryable() || outcome == Some(Outcome::Unknown);
            if !again || !schedule.wait(error.retry_after()).await {
                if let (HttpError::Api(error), true) = (&mut error, sending.retry) {
                    // The refusal is of this copy; an earlier one may be in the log.
                    error.outcome = Some(Outcome::Unknown);
                }
                return Err(error);
            }
            let unsent = matches!(error, HttpError::Unreachable { sent: false, .. });
            sending.retry |= outcome != Some(Outcome::Rejected) && !unsent;
        }
    }

    /// The caller's channels and the public ones. `cursor`: `next` of the page before.
    pub async fn channels(&self, cursor: Option<&str>) -> Result<ListPage<Channel>, HttpError> {
        let list = List { cursor, name: None };
        self.get("/channels", &list).await
    }

    /// All pages of [`Self::channels`].
    pub async fn all_channels(&self) -> Result<Vec<Channel>, HttpError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.channels(cursor.as_deref()).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// The channel of this name, if the caller may see it.
    pub async fn channel_by_name(&self, name: &str) -> Result<Option<Channel>, HttpError> {
        let name = Some(name);
        let mut cursor: Option<String> = None;
        loop {
            let list = List {
                cursor: cursor.as_deref(),
                name,
            };
            let page: ListPage<Channel> = self.get("/channels", &list).await?;
            // A server that does not know the filter gives everything.
            let found = page.items.into_iter().find(|c| c.name.as_deref() == name);
            match (found, page.next) {
                (None, Some(next)) => cursor = Some(next),
                (found, _) => return Ok(found),
            }
        }
    }

    /// Creates a channel; the caller becomes its admin.
    pub async fn create_channel(&self, new: &NewChannel) -> Result<Channel, HttpError> {
        self.call(Method::POST, "/channels", &(), Some(new), Repeat::Unsent)
            .await
    }

    /// The members of a channel. `cursor`: `next` of the page before.
    pub async fn members(
        &self,
        channel: ChannelId,
        cursor: Option<&str>,
    ) -> Result<ListPage<Member>, HttpError> {
        let list = List { cursor, name: None };
        self.get(&format!("/channels/{channel}/members"), &list)
            .await
    }

    /// All pages of [`Self::members`].
    pub async fn all_members(&self, channel: ChannelId) -> Result<Vec<Member>, HttpError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.members(channel, cursor.as_deref()).await?;
            all.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Makes a user a member: oneself of a public channel, others as admin. Idempotent.
    pub async fn add_member(
        &self,
        channel: ChannelId,
        who: Who,
    ) -> Result<MembershipReply, HttpError> {
        self.membership(Method::PUT, channel, who).await
    }

    /// Ends a membership: one's own, or another's as admin. When it is answered, nothing more
    /// reaches that user. Idempotent.
    pub async fn remove_member(
        &self,
        channel: ChannelId,
        who: Who,
    ) -> Result<MembershipReply, HttpError> {
        self.membership(Method::DELETE, channel, who).await
    }

    async fn membership(
        &self,
        method: Method,
        channel: ChannelId,
        who: Who,
    ) -> Result<MembershipReply, HttpError> {
        let who = match who {
            Who::Me => "me".to_owned(),
            Who::User(user) => user.to_string(),
        };
        let path = format!("/channels/{channel}/members/{who}");
        self.call(method, &path, &(), None::<&()>, Repeat::Always)
            .await
    }

    /// A user.
    pub async fn user(&self, user: UserId) -> Result<User, HttpError> {
        self.get(&format!("/users/{user}"), &()).await
    }

    /// The caller.
    pub async fn me(&self) -> Result<User, HttpError> {
        self.get("/users/me", &()).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, HttpError> {
        self.call(Method::GET, path, query, None::<&()>, Repeat::Always)
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
        body: Option<&impl Serialize>,
        repeat: Repeat,
    ) -> Result<T, HttpError> {
        let mut schedule = Schedule::new();
        loop {
            let error = match self.attempt(method.clone(), path, query, body).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let unsent = matches!(error, HttpError::Unreachable { sent: false, .. });
            let again = unsent || (repeat == Repeat::Always && error.retryable());
            if !again || !schedule.wait(error.retry_after()).await {
                return Err(error);
            }
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &impl Serialize,
        body: Option<&impl Serialize>,
    ) -> Result<T, HttpError> {
        let url = format!("{}{path}", self.base);
        let token = self.token.token().map_err(HttpError::Token)?;
        let mut request = self
            .client
            .request(method, &url)
            .query(query)
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| HttpError::Unreachable {
            url: url.clone(),
            error: innermost(&error),
            sent: !error.is_connect(),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = retry_after_ms(response.headers());
        if response.content_length().is_some_and(|n| n > BODY_BYTES) {
            let text = format!("{url} answered with more than {BODY_BYTES} bytes");
            return Err(HttpError::Config(text));
        }
        let bytes = response.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| foreign(&url, status, &bytes));
        }
        match serde_json::from_slice::<ErrorReply>(&bytes) {
            Ok(ErrorReply { mut error }) => {
                error.retry_after_ms = error.retry_after_ms.or(retry_after);
                Err(HttpError::Api(error))
            }
            Err(_) => Err(foreign(&url, status, &bytes)),
        }
    }
}

/// When the attempts of one call are made.
struct Schedule {
    backoff: Backoff,
    attempts: u32,
    deadline: Instant,
}

impl Schedule {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            attempts: 1,
            deadline: Instant::now() + TOTAL,
        }
    }

    /// Waits until the next attempt; false: there is none within the bounds.
    async fn wait(&mut self, floor: Option<Duration>) -> bool {
        let at = Instant::now() + self.backoff.next(&mut rand::rng(), floor);
        if self.attempts >= ATTEMPTS || at + CONNECT > self.deadline {
            return false;
        }
        self.attempts += 1;
        tokio::time::sleep_until(at).await;
        true
    }
}

fn foreign(url: &str, status: StatusCode, bytes: &[u8]) -> HttpError {
    let text = String::from_utf8_lossy(bytes);
    HttpError::Foreign {
        url: url.to_owned(),
        status: status.as_u16(),
        body: text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(120)
            .collect(),
    }
}

fn retry_after_ms(headers: &header::HeaderMap) -> Option<u64> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse::<u64>().ok()?.checked_mul(1_000)
}

/// The cause that a person can use: "connection refused", not the layers above it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
