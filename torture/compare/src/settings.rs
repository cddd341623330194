//! What all systems have in common, so that none is better off for its patience.

use std::time::Duration;

/// How often a server shows that it is there.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Beyond it, the silence after which a connection counts as dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// A connection attempt.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// The first pause before a client comes back; it doubles, with jitter.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest.
pub(crate) const BACKOFF_CAP: Duration = Duration::from_secs(2);
/// A send without an answer for so long is sent again.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often, where a number must be named: more often than a run is long.
pub(crate) const RETRIES: u32 = 100;
/// How long a writer waits for its last answers.
pub(crate) const LAST_ANSWER: Duration = Duration::from_secs(20);
/// How long devices stay after the last answer, for what comes late. Nothing announces that
/// nothing more will come.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
