use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

/// Where the bearer token of a connection attempt comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// The same one every time: an expired one (close code 4401) ends the client at the next
    /// attempt's 401.
    Fixed(String),
    /// Asked before every connection attempt and every HTTP request; must be quick (it mints, or
    /// reads a cache) and must not block. The error's text is for people.
    Provider(Arc<dyn Fn() -> Result<String, String> + Send + Sync>),
}

impl TokenSource {
    /// The token for one attempt.
    pub(crate) fn token(&self) -> Result<String, String> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Provider(provider) => provider(),
        }
    }
}

impl fmt::Debug for TokenSource {
    // Tokens are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(…)",
            Self::Provider(_) => "Provider(…)",
        })
    }
}

/// Something that happened on the wire, for checkers: before any deduplication.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    /// Counts the connections of this client, from 1.
    pub connection: u64,
    /// When it was read or handed to the socket.
    pub at: Instant,
    /// What it was.
    pub event: WireEvent<'a>,
}

/// What happened on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireEvent<'a> {
    /// The handshake is done.
    Opened,
    /// A text frame of the server.
    In(&'a str),
    /// A text frame of this client, handed to the socket.
    Out(&'a str),
    /// The connection is over; the close code, if the server sent one.
    Closed(Option<u16>),
}

/// Called for every [`Wire`] event on the client's task; must not block.
pub type WireRecorder = Arc<dyn Fn(Wire<'_>) + Send + Sync>;

/// The bounds of a client. The defaults suit one person's client; each has its reason.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages accepted by `send` and not yet answered; past it `send` refuses.
    pub unsent: usize,
    /// Sends on the wire without an answer, at most 64: the server reads no further either.
    pub in_flight: usize,
    /// Events waiting for the application; past it the socket is not read.
    pub events: usize,
    /// (user, message id) pairs remembered per channel, to drop doubles by: as many as a resend
    /// can lag behind.
    pub ids_per_channel: usize,
    /// Seqs above the cursor remembered per channel; they grow only while the server announces
    /// nothing (`synced`). Past it the lowest is forgotten and could be shown again after a
    /// reconnect, if its id is forgotten too.
    pub seqs_per_channel: usize,
    /// Name resolution, connect, handshake and `hello` together.
    pub connect: Duration,
    /// Beyond the server's heartbeat, the silence after which a connection counts as dead.
    pub silence: Duration,
    /// Without a single text frame for so long while a reply is owed, the connection is given up.
    pub reply: Duration,
    /// Without the socket taking a byte of what waits to be written, the connection is given up.
    pub write: Duration,
    /// Upper bound of the first reconnect delay; it doubles with each failure in a row.
    pub backoff_first: Duration,
    /// Upper bound of every reconnect delay that the server does not name itself.
    pub backoff_cap: Duration,
    /// A connection that lived so long lets the delays start from the first again.
    pub healthy: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unsent: 1_000,
            in_flight: 32,
            events: 256,
            ids_per_channel: 4_096,
            seqs_per_channel: 100_000,
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(10),
            reply: Duration::from_secs(30),
            write: Duration::from_secs(30),
            backoff_first: Duration::from_millis(250),
            backoff_cap: Duration::from_secs(30),
            healthy: Duration::from_secs(30),
        }
    }
}

/// What a [`Client`](crate::Client) needs to know.
#[derive(Clone)]
pub struct Config {
    /// `ws://host:port/ws`; TLS is HAProxy's business and not spoken here.
    pub url: String,
    /// The bearer token.
    pub token: TokenSource,
    /// This client's device id; the server makes one up without it.
    pub device: Option<hubbub_protocol::DeviceId>,
    /// Whether every `synced` marks the channel as delivered to this device (at most once a
    /// second and channel), so that who wrote to it sees that it arrived.
    pub marks_delivered: bool,
    /// Whether the server joins this device to its user's direct channels by itself.
    pub direct: bool,
    /// Bounds.
    pub limits: Limits,
    /// Sees every text frame as on the wire.
    pub recorder: Option<WireRecorder>,
}

impl Config {
    /// The defaults, for a URL and a token.
    pub fn new(url: impl Into<String>, token: TokenSource) -> Self {
        Self {
            url: url.into(),
            token,
            device: None,
            marks_delivered: true,
            direct: true,
            limits: Limits::default(),
            recorder: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("token", &self.token)
            .field("device", &self.device)
            .field("marks_delivered", &self.marks_delivered)
            .field("direct", &self.direct)
            .field("limits", &self.limits)
            .field("recorder", &self.recorder.is_some())
            .finish()
    }
}
