use std::{sync::Arc, time::Duration};

use hubbub_protocol::{BusChannel, PodMessage};
use rand::RngExt;
use redis::{Client, PushInfo, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error, Inbox, Metrics,
    connection::{Backoff, client, connect, settings},
    inbox::{Shared, Step},
    metrics::{Connection, Loss, Probe},
    orders::Order,
};

const BACKOFF_FLOOR: Duration = Duration::from_millis(20);
const BACKOFF_CAP: Duration = Duration::from_millis(250);
/// A connection that lived so long was a good one: the next attempt need not wait long.
const SETTLED: Duration = Duration::from_secs(1);
/// Between two probes, with a jitter of a tenth. With the deadline below it finds a deaf
/// connection in 1.5 s, which leaves half a second of P7's two for the repair.
const PROBE_PERIOD: Duration = Duration::from_millis(500);
const PROBE_JITTER: Duration = Duration::from_millis(50);
/// From Redis's answer to the PUBLISH to the probe's arrival.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// Says what is wanted. Never waits; orders go through one ordered stream. Cheap handle.
#[derive(Debug, Clone)]
pub struct Subscriber {
    shared: Arc<Shared>,
}

impl Subscriber {
    /// The actor must be run (spawned by the binary); it reconnects with jitter for ever.
    pub fn new(config: &Config, metrics: &Metrics) -> (Self, Inbox, SubscriberTask) {
        let own = BusChannel::Pod(config.pod.clone());
        let shared = Shared::new(own, config.inbox_events, metrics);
        let task = SubscriberTask {
            config: config.clone(),
            metrics: metrics.clone(),
            shared: shared.clone(),
        };
        (
            Self {
                shared: shared.clone(),
            },
            Inbox::new(shared),
            task,
        )
    }

    /// Each call is followed by an [`Event::Subscribed`](crate::Event::Subscribed), also for a
    /// channel that is subscribed (a fresh start), unless it is unsubscribed first. Calls that
    /// Redis has not been told of yet may share one.
    pub fn subscribe(&self, channel: BusChannel) {
        self.shared.order(Order::Subscribe, channel);
    }

    /// Messages of it may come for a while. Of calls for one channel the last one holds.
    pub fn unsubscribe(&self, channel: BusChannel) {
        self.shared.order(Order::Unsubscribe, channel);
    }

    /// Whether the connection is up and has heard itself within two seconds.
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }
}

/// The connection of a [`Subscriber`].
#[derive(Debug)]
pub struct SubscriberTask {
    config: Config,
    metrics: Metrics,
    shared: Arc<Shared>,
}

impl SubscriberTask {
    /// Runs until `stop`. Fails only on a URL that is none.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let subscriber = client(&self.config.subscribe_url)?;
        let prober = client(&self.config.url)?;
        // Waits for the stop; the other two never end.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.connections(&subscriber) => {}
            () = self.probes(&prober) => {}
        }
        let generation = self.shared.generation();
        self.shared.lose(generation, Loss::Disconnected);
        Ok(())
    }

    /// One connection after the other, for ever.
    async fn connections(&self, client: &Client) {
        let mut backoff = Backoff::new(BACKOFF_FLOOR, BACKOFF_CAP);
        loop {
            let begun = Instant::now();
            let generation = self.shared.generation();
            if let Err(error) = self.connection(client, generation).await {
                tracing::warn!(%error, "subscriber has no connection to redis");
            }
            self.shared.lose(generation, Loss::Disconnected);
            if begun.elapsed() >= SETTLED {
                backoff.reset();
            }
            sleep(backoff.next()).await;
        }
    }

    /// The life of one connection. It is closed when this returns.
    async fn connection(&self, client: &Client, generation: u64) -> Result<(), Error> {
        let shared = self.shared.clone();
        let settings = settings().set_push_sender(move |push: PushInfo| {
            shared.push(generation, push);
            Ok::<_, redis::aio::SendError>(())
        });
        let name = format!("{}:subscriber", self.config.pod);
        let mut connection = connect(client, &name, &settings).await?;
        self.metrics.connected(Connection::Subscriber);
        tracing::info!("subscriber is connected to redis");
        self.shared.connected(generation);
        loop {
            match self.shared.step(generation) {
                Step::Over => return Ok(()),
                Step::Wait(until) => {
                    // Waits for something to do, or for the loss of the connection.
                    tokio::select! {
                        () = self.shared.until_work(until) => {}
                        () = self.shared.until_lost(generation) => return Ok(()),
                    }
                }
                Step::Send(order, channels) => {
                    // Waits for all confirmations (with the connection's deadline), which are in
                    // the inbox by then; or for the loss of the connection.
                    tokio::select! {
                        sent = send(&mut connection, order, &channels) => sent?,
                        () = self.shared.until_lost(generation) => return Ok(()),
                    }
                }
            }
        }
    }

    /// A connection may be healthy and deaf: it is up, and nothing arrives. So this process sends
    /// itself a message now and then. One that could not be sent says nothing about receiving.
    async fn probes(&self, client: &Client) {
        let mut connection = None;
        // From a random start, so that a namesake's probes do not pass for ours.
        let mut number = u64::from(rand::rng().random::<u32>());
        loop {
            let jitter = rand::rng().random_range(Duration::ZERO..=PROBE_JITTER * 2);
            sleep(PROBE_PERIOD - PROBE_JITTER + jitter).await;
            let Some(generation) = self.shared.to_probe() else {
                continue;
            };
            number += 1;
            let heard = match self.probe(client, &mut connection, number).await {
                // Redis knows of no subscriber, so our connection is gone on its side.
                Ok(0) => false,
                Ok(_) => timeout(PROBE_DEADLINE, self.shared.until_heard(number))
                    .await
                    .is_ok(),
                Err(error) => {
                    tracing::debug!(%error, "cannot send a probe");
                    self.metrics.probed(Probe::Unsent);
                    connection = None;
                    continue;
                }
            };
            if heard {
                self.metrics.probed(Probe::Heard);
            } else {
                self.metrics.probed(Probe::Failed);
                self.shared.lose(generation, Loss::Deaf);
            }
        }
    }

    /// Publishes a probe; gives the number of receivers.
    async fn probe(
        &self,
        client: &Client,
        connection: &mut Option<MultiplexedConnection>,
        number: u64,
    ) -> Result<u64, Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let name = format!("{}:probe", self.config.pod);
                let made = connect(client, &name, &settings()).await?;
                self.metrics.connected(Connection::Probe);
                connection.insert(made)
            }
        };
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.shared.own().to_string());
        publish.arg(PodMessage::Probe { number }.encode());
        Ok(publish.query_async(connection).await?)
    }
}

async fn send(
    connection: &mut MultiplexedConnection,
    order: Order,
    channels: &[BusChannel],
) -> Result<(), Error> {
    let names: Vec<String> = channels.iter().map(BusChannel::to_string).collect();
    match order {
        Order::Subscribe => connection.subscribe(&names).await?,
        Order::Unsubscribe => connection.unsubscribe(&names).await?,
    }
    Ok(())
}
