//! The readers: who listens where, who comes late, and who never stays.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use hubbub_protocol::Seq;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    device::{Device, Identity},
    ledger::Ledger,
    profile::Profile,
    recorder::Recorder,
    setup::People,
    system::System,
};

/// These leave and rejoin from time to time: one in eight, none of whom anything else is expected.
const RESTLESS: [&str; 3] = ["reader-0.1", "reader-2.1", "reader-4.2"];
/// Between two departures of a restless device.
const STAYS_MS: std::ops::Range<u64> = 1_000..4_000;
const AWAY_MS: std::ops::Range<u64> = 0..1_500;
/// Devices of so many users listen to the busy channel, too.
const BUSY_READERS: usize = 6;
/// An answering writer reads the so many most popular channels.
const ANSWERING_CHANNELS: usize = 16;
/// These come late: the first wants everything from the beginning, the second from now on.
const LATE: [(&str, Option<Seq>); 2] = [("reader-3.2", Some(Seq::ZERO)), ("reader-5.1", None)];

/// All devices of a run.
#[derive(Debug)]
pub struct Audience {
    /// Those of the writers, in their order, with what tells of doubtful sends.
    pub writers: Vec<(Arc<Device>, mpsc::Receiver<()>)>,
    /// Those of the readers.
    pub readers: Vec<Arc<Device>>,
    /// The rest.
    pub crowd: Vec<Arc<Device>>,
    /// Those of [`Self::readers`] that listen to the busy channel.
    pub busy: Vec<String>,
    late: Vec<(Arc<Device>, Option<Seq>)>,
}

impl Audience {
    /// Connects everybody and starts their joins.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub async fn connect(
        system: &System,
        profile: &Profile,
        people: &People,
        recorder: &Recorder,
        ledger: &Arc<Ledger>,
    ) -> Result<Self> {
        let start = |who: &Identity, n: usize| -> Result<_> {
            let identity = Identity {
                name: format!("{}.{n}", who.name),
                ..who.clone()
            };
            let link = system.link()?;
            Ok(Device::start(
                identity,
                link,
                recorder.clone(),
                Arc::clone(ledger),
            ))
        };
        let mut audience = Self {
            writers: Vec::new(),
            readers: Vec::new(),
            crowd: Vec::new(),
            busy: Vec::new(),
            late: Vec::new(),
        };
        let sockets = profile.writers - profile.http_writers;
        for (at, who) in people.writers.iter().take(sockets).enumerate() {
            let (device, doubts) = start(who, 0)?;
            if at < profile.answering {
                for channel in people.channels.iter().take(ANSWERING_CHANNELS) {
                    device.join(*channel, None, at % 2 == 0).await?;
                }
            }
            audience.writers.push((device, doubts));
        }
        for (at, who) in people.readers.iter().enumerate() {
            for n in 0..profile.devices {
                let (device, _) = start(who, n)?;
                let late = LATE.iter().find(|(name, _)| *name == device.name());
                match late {
                    Some((_, since)) => audience.late.push((Arc::clone(&device), *since)),
                    None => join_all(&device, people, None).await?,
                }
                if n == 0 && at < BUSY_READERS {
                    let ordered = is_ordered(&device);
                    device.join(people.busy, None, ordered).await?;
                    audience.busy.push(device.name().to_owned());
                }
                audience.readers.push(device);
            }
        }
        let mut left = profile.crowd;
        for (who, channels) in &people.crowd {
            for n in 0..people.crowd_devices.min(left) {
                let (device, _) = start(who, n)?;
                for channel in channels {
                    device.join(*channel, None, is_ordered(&device)).await?;
                }
                audience.crowd.push(device);
                left -= 1;
            }
        }
        Ok(audience)
    }

    /// Everybody who is connected.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<Device>> {
        let writers = self.writers.iter().map(|(device, _)| device);
        let all = writers.chain(&self.readers).chain(&self.crowd);
        all.map(Arc::clone).collect()
    }

    /// The devices of one user.
    #[must_use]
    pub fn of(&self, who: &Identity) -> Vec<Arc<Device>> {
        let mine = |device: &&Arc<Device>| device.user() == who.user;
        self.readers.iter().filter(mine).map(Arc::clone).collect()
    }

    /// The devices of one user, who may be a writer.
    #[must_use]
    pub fn all_of(&self, who: &Identity) -> Vec<Arc<Device>> {
        let mine = |device: &&Arc<Device>| device.user() == who.user;
        let writers = self.writers.iter().map(|(device, _)| device);
        writers
            .chain(&self.readers)
            .filter(mine)
            .map(Arc::clone)
            .collect()
    }

    /// Those who come in the middle, as a task.
    pub fn come_late(
        &self,
        people: Arc<People>,
        at: Instant,
    ) -> impl Future<Output = Result<()>> + use<> {
        let late = self.late.clone();
        async move {
            sleep_until(at).await;
            for (device, since) in late {
                join_all(&device, &people, since).await?;
            }
            Ok(())
        }
    }

    /// Those who leave and rejoin, with and without a cursor, each as a task.
    pub fn restless(
        &self,
        people: &Arc<People>,
        seed: u64,
        stop: &CancellationToken,
    ) -> Vec<impl Future<Output = Result<()>> + use<>> {
        let restless = self
            .readers
            .iter()
            .filter(|device| RESTLESS.contains(&device.name()));
        let mut tasks = Vec::new();
        for (n, device) in restless.enumerate() {
            let (device, people, stop) = (Arc::clone(device), Arc::clone(people), stop.clone());
            let rng = SmallRng::seed_from_u64(seed.wrapping_add(n as u64));
            tasks.push(async move {
                match stop
                    .run_until_cancelled(come_and_go(&device, &people, rng))
                    .await
                {
                    Some(ended) => ended,
                    None => Ok(()),
                }
            });
        }
        tasks
    }
}

async fn come_and_go(device: &Device, people: &People, mut rng: SmallRng) -> Result<()> {
    loop {
        sleep(Duration::from_millis(rng.random_range(STAYS_MS))).await;
        let channel = people.channels[rng.random_range(0..people.channels.len())];
        let cursor = device.cursor(channel);
        device.leave(channel).await?;
        sleep(Duration::from_millis(rng.random_range(AWAY_MS))).await;
        let since = cursor.filter(|_| rng.random_bool(0.5));
        device.join(channel, since, is_ordered(device)).await?;
    }
}

async fn join_all(device: &Device, people: &People, since: Option<Seq>) -> Result<()> {
    for channel in &people.channels {
        device.join(*channel, since, is_ordered(device)).await?;
    }
    Ok(())
}

/// Half of the devices want their records strictly by seq: every second one of a user, the odd
/// ones of every second user.
#[must_use]
pub fn is_ordered(device: &Device) -> bool {
    let digits = |part: Option<&str>| part.and_then(|p| p.parse::<usize>().ok()).unwrap_or(0);
    let mut parts = device.name().split(['-', '.']).skip(1);
    (digits(parts.next()) + digits(parts.next())) % 2 == 1
}
