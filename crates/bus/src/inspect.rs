use std::fmt;

use redis::{Client, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::sync::mpsc;

use crate::{
    Error,
    connection::{client, connect, settings},
};

/// Messages that wait for the printer; the ones above it are left out and counted.
const TAIL_QUEUE: usize = 4_096;
const NAME: &str = "hubbub-inspect";

/// What is live in Redis now, for `hubbub pubsub`. It changes nothing there.
pub struct Inspect {
    client: Client,
    connection: MultiplexedConnection,
}

impl fmt::Debug for Inspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspect").finish_non_exhaustive()
    }
}

impl Inspect {
    /// Connects, within two seconds.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let client = client(url)?;
        let connection = connect(&client, NAME, &settings()).await?;
        Ok(Self { client, connection })
    }

    /// Channels with subscribers whose names match a glob (`channel-*`), sorted.
    pub async fn channels(&mut self, pattern: &str) -> Result<Vec<String>, Error> {
        let mut command = redis::cmd("PUBSUB");
        command.arg("CHANNELS").arg(pattern);
        let mut names: Vec<String> = command.query_async(&mut self.connection).await?;
        names.sort();
        Ok(names)
    }

    /// How many connections subscribe each channel, in the order of the question.
    pub async fn numsub(&mut self, channels: &[String]) -> Result<Vec<(String, u64)>, Error> {
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg(channels);
        Ok(command.query_async(&mut self.connection).await?)
    }

    /// Hands each message of the channels that match a glob to `on` as (channel, payload), until
    /// it returns false. `on` may be slow: what comes too fast is left out, and a log line counts
    /// it at the end. Fails when the connection is lost. May be dropped at any time.
    pub async fn tail(
        self,
        pattern: &str,
        mut on: impl FnMut(&str, &[u8]) -> bool + Send,
    ) -> Result<(), Error> {
        let (queue, mut messages) = mpsc::channel(TAIL_QUEUE);
        let left_out = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = left_out.clone();
        let settings =
            settings().set_push_sender(move |push: PushInfo| match queue.try_send(push) {
                Ok(()) => Ok(()),
                Err(mpsc::error::TrySendError::Full(push)) => {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    // The end of the connection must be seen; its task ends now, which closes the
                    // queue, and that is the same to the reader.
                    drop(push);
                    Ok(())
                }
                Err(mpsc::error::TrySendError::Closed(_)) => Err(redis::aio::SendError),
            });
        let mut connection = connect(&self.client, NAME, &settings).await?;
        // The settings hold a sender: with them alive the queue would never close.
        drop(settings);
        connection.psubscribe(pattern).await?;
        let ended = loop {
            match messages.recv().await {
                Some(push) if push.kind == PushKind::PMessage => match push.data.as_slice() {
                    [_, Value::BulkString(channel), Value::BulkString(payload)] => {
                        if !on(&String::from_utf8_lossy(channel), payload) {
                            break Ok(());
                        }
                    }
                    _ => break Err(Error::unexpected_answer()),
                },
                Some(push) if push.kind == PushKind::Disconnection => {
                    break Err(Error::Disconnected);
                }
                Some(_) => {}
                None => break Err(Error::Disconnected),
            }
        };
        let left_out = left_out.load(std::sync::atomic::Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(
                messages = left_out,
                "messages came too fast and were left out"
            );
        }
        ended
    }
}
