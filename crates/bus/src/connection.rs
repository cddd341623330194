use std::time::Duration;

use rand::RngExt;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, aio::MultiplexedConnection,
    io::tcp::TcpSettings,
};
use tokio::time::timeout;

use crate::Error;

/// Deadline of a connection, its handshake included.
const CONNECT: Duration = Duration::from_secs(1);
/// Deadline of a command. P7 (repair within 2 s) leaves no more.
pub(crate) const COMMAND: Duration = Duration::from_secs(1);
/// Commands that the crate's own queue holds; its default of 50 would make callers wait.
const PIPELINE: usize = 1_024;

/// The client of a URL. RESP3, because pushes share the connection with answers only there;
/// nodelay, because the default costs up to 40 ms a message.
pub(crate) fn client(url: &str) -> Result<Client, Error> {
    let info = url.into_connection_info()?;
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let info = info
        .set_redis_settings(settings)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok(Client::open(info)?)
}

/// What every connection is made with; the subscriber adds its push sender.
pub(crate) fn settings() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(COMMAND))
        .set_pipeline_buffer_size(PIPELINE)
}

/// Connects and names the connection, within a second each. Cancel-safe.
pub(crate) async fn connect(
    client: &Client,
    name: &str,
    settings: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, Error> {
    let connecting = client.get_multiplexed_async_connection_with_config(settings);
    // The crate's own timeout does the same; this one does not depend on it.
    let mut connection = timeout(CONNECT, connecting)
        .await
        .map_err(|_| Error::Timeout)??;
    let mut set_name = redis::cmd("CLIENT");
    set_name.arg("SETNAME").arg(name);
    set_name.exec_async(&mut connection).await?;
    Ok(connection)
}

/// Waits between attempts: at random between `floor` and a bound that doubles up to `cap`.
#[derive(Debug)]
pub(crate) struct Backoff {
    floor: Duration,
    cap: Duration,
    bound: Duration,
}

impl Backoff {
    pub(crate) fn new(floor: Duration, cap: Duration) -> Self {
        let bound = floor * 2;
        Self { floor, cap, bound }
    }

    pub(crate) fn reset(&mut self) {
        self.bound = self.floor * 2;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = rand::rng().random_range(self.floor..=self.bound);
        self.bound = (self.bound * 2).min(self.cap);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let (floor, cap) = (Duration::from_millis(20), Duration::from_millis(500));
        let mut backoff = Backoff::new(floor, cap);
        let waits: Vec<_> = (0..1_000).map(|_| backoff.next()).collect();
        assert!(waits.iter().all(|wait| (floor..=cap).contains(wait)));
        assert!(waits[0] <= floor * 2);
        assert!(waits.iter().any(|wait| *wait > cap / 2));
        backoff.reset();
        assert!(backoff.next() <= floor * 2);
    }

    #[test]
    fn url_that_is_none_is_an_error() {
        assert!(client("not a url").is_err());
    }
}
