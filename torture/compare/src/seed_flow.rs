//! The flow of the seed document, by its letter: an edge publishes on the Redis channel and
//! produces to Kafka, edges that subscribed send to the members' sockets. Nothing is repaired and
//! nothing is resumed. For the comparison alone; never part of the product.
//!
//! Where the letter is silent it does what a sensible beginner would: clients reconnect and join
//! again, resend what was not acknowledged under the same id, and notice a dead connection.

mod client;
mod clients;
pub mod edge;
mod socket;
mod wire;

use std::{collections::HashMap, path::Path, time::Duration};

use anyhow::{Context, Result};
use hubbub_checker::{Event, history::Paging};
use hubbub_protocol::{ChannelId, MessageId, Seq};
use hubbub_stack::{Kafka, Port};
use tokio::time::{Instant, timeout};

use crate::{
    bus::Bus,
    faults::Ground,
    plan::{CHANNELS, LISTENERS, Plan, SERVERS, WRITERS},
    recorder::Recorder,
    settings,
    site::{self, Program, Site},
};
use clients::Clients;

const TOPIC: &str = "messages";
const PARTITIONS: u32 = 4;
const JOINED: Duration = Duration::from_secs(20);

/// The processes and the clients.
#[derive(Debug)]
pub(crate) struct SeedFlow {
    clients: Clients,
    recorder: Recorder,
    log: hubbub_log::Config,
    site: Site,
    kafka: Kafka,
}

impl SeedFlow {
    /// Starts everything and waits until everybody has joined.
    pub(crate) async fn start(
        bin_dir: &Path,
        dir: &Path,
        plan: &Plan,
        recorder: &Recorder,
    ) -> Result<Self> {
        let (broker, controller) = (Port::free()?, Port::free()?);
        let purpose = hubbub_stack::Purpose::ThrowAway;
        let kafka_dir = dir.join("kafka");
        let (redis_dir, kafka) = (
            dir.join("redis"),
            Kafka::launch(&kafka_dir, broker, controller, purpose),
        );
        let (bus, kafka) = tokio::try_join!(Bus::forgetting(&redis_dir), kafka)?;
        let log = edge::log(&kafka.brokers(), TOPIC, PARTITIONS);
        hubbub_log::create_topic(&log, 1).await?;

        let members = dir.join("members.json");
        let text = serde_json::to_vec(&members_of(plan)).context("encode the members")?;
        std::fs::write(&members, text).context("write the members")?;
        let mut programs = Vec::new();
        for n in 1..=SERVERS {
            let (listen, ops) = (Port::free()?, Port::free()?);
            let flags = [
                ("--name", format!("server-{n}")),
                ("--listen", listen.addr().to_string()),
                ("--ops", ops.addr().to_string()),
                ("--redis", format!("redis://{}", bus.addr())),
                ("--brokers", kafka.brokers()),
                ("--topic", TOPIC.to_owned()),
                ("--partitions", PARTITIONS.to_string()),
                ("--members", members.display().to_string()),
            ];
            let mut argv = vec![bin_dir.join("seed-edge").display().to_string()];
            argv.extend(flags.into_iter().flat_map(|(k, v)| [k.to_owned(), v]));
            programs.push(Program {
                argv,
                env: Vec::new(),
                listen,
                ops: Some(ops),
            });
        }
        let site = Site::start(dir, bus, "pubsub", programs).await?;
        let mut clients = Clients::start(plan, &site, recorder);
        let joined = timeout(JOINED, clients.all_joined()).await;
        joined.context("not everybody joined in time")??;
        Ok(Self {
            clients,
            recorder: recorder.clone(),
            log,
            site,
            kafka,
        })
    }

    /// What faults are made on.
    pub(crate) fn ground(&self) -> Ground<'_> {
        self.site.ground()
    }

    /// Has everybody say what they have to say, and waits for the answers.
    pub(crate) async fn play(&self, plan: &Plan, begun: Instant) -> Result<()> {
        self.clients.play(plan, begun).await?;
        let last = timeout(settings::LAST_ANSWER, self.clients.all_answered()).await;
        // Those without an answer by then are without one in the history.
        last.unwrap_or(Ok(()))
    }

    /// What is in Kafka stands for what the consumer would have stored: nobody reads its table
    /// during a run.
    pub(crate) async fn read_log(&self) -> Result<()> {
        let mut stored: HashMap<ChannelId, Vec<(Seq, MessageId)>> = HashMap::new();
        for (_, record) in hubbub_log::read_all(&self.log).await? {
            let payload = record.payload.context("a record without a message")?;
            let said: wire::Said = serde_json::from_slice(&payload).context("read a record")?;
            let entries = stored.entry(said.channel).or_default();
            entries.push((record.seq, said.id));
        }
        for (channel, entries) in stored {
            self.recorder.record(Event::Page {
                server: "kafka".to_owned(),
                channel,
                paging: Paging::Forward,
                limit: u32::MAX,
                every: false,
                entries,
            });
        }
        Ok(())
    }

    /// Ends the clients, then the processes.
    pub(crate) async fn close(self) {
        self.clients.close().await;
        self.site.stop().await;
        self.kafka.stop().await;
    }
}

/// Stands for the membership table: who listens to a channel, and who writes.
fn members_of(plan: &Plan) -> wire::Members {
    let of = |n: usize| {
        let listens = |l: &usize| plan.listeners[*l].contains(&n);
        let listeners = (0..LISTENERS).filter(listens).map(site::listener_user);
        let writers = (0..WRITERS).map(site::writer_user);
        (site::channel(n), listeners.chain(writers).collect())
    };
    (0..CHANNELS).map(of).collect()
}
