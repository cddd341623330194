//! Everybody who does something while a run lasts.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use hubbub_stack::Proxy;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    churn::Churn,
    device::Identity,
    direct::{Side, Talk, pairs},
    http_writer::HttpWriter,
    ledger::Ledger,
    lookers,
    pager::{Paged, page},
    play::{AFTER_FAULTS, SETTLED},
    profile::Profile,
    readers::Audience,
    recorder::Recorder,
    setup::{ADMIN, People},
    system::System,
    visits::Visits,
    workload::{Pace, Person, Voice, Writer},
    writer::crash_now_and_then,
};

/// The last answers are waited for so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Channels in which memberships change: popular ones, where the others go on talking.
const CHURNED: std::ops::Range<usize> = 2..6;
/// The last so many reading users are removed and added.
const CHURNERS: usize = 2;

/// Visits rooms in which nobody listens; beside that it is a reader as the others are.
const VISITOR: &str = "reader-1.2";

/// Where it happens.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The servers.
    pub system: &'a System,
    /// The size.
    pub profile: &'a Profile,
    /// Users and channels.
    pub people: &'a Arc<People>,
    /// The history.
    pub recorder: &'a Recorder,
    /// What is said.
    pub ledger: &'a Arc<Ledger>,
    /// What was said lately.
    pub board: &'a Arc<Board>,
    /// Of all choices.
    pub seed: u64,
    /// When the calm begins.
    pub start: Instant,
}

/// The tasks of a run's people.
#[derive(Debug)]
pub struct Cast {
    writers: JoinSet<usize>,
    others: JoinSet<Result<()>>,
    pager: JoinSet<Paged>,
    crashing: JoinSet<()>,
    /// Of those who have no device.
    _links: Vec<Arc<Proxy>>,
}

impl Cast {
    /// Everybody begins; `stop` ends it.
    ///
    /// # Errors
    /// When a link or an HTTP client cannot be made.
    pub fn start(
        scene: &Scene<'_>,
        audience: Audience,
        bursts: &watch::Receiver<Vec<String>>,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let mut cast = Self {
            writers: JoinSet::new(),
            others: JoinSet::new(),
            pager: JoinSet::new(),
            crashing: JoinSet::new(),
            _links: Vec::new(),
        };
        cast.readers(scene, &audience, stop)?;
        cast.talks(scene, &audience, stop)?;
        cast.lookers(scene, stop)?;
        cast.writers(scene, audience, bursts, stop)?;
        let http = scene.system.http_through("pager", &*cast.link(scene)?)?;
        let channels = scene.people.channels.clone();
        let paging = page(http, channels, scene.choices(2_000), stop.clone());
        cast.pager.spawn(paging);
        Ok(cast)
    }

    fn link(&mut self, scene: &Scene<'_>) -> Result<Arc<Proxy>> {
        let link = scene.system.link()?;
        self._links.push(Arc::clone(&link));
        Ok(link)
    }

    fn readers(
        &mut self,
        scene: &Scene<'_>,
        audience: &Audience,
        stop: &CancellationToken,
    ) -> Result<()> {
        let people = scene.people;
        let middle = scene.profile.calm + scene.profile.writing() / 2;
        let late = audience.come_late(Arc::clone(people), scene.start + middle);
        self.others.spawn(late);
        if let Some(visits) = self.visits(scene, audience)? {
            self.others.spawn(visits.run(stop.clone()));
        }
        for restless in audience.restless(people, scene.choices(3_000), stop) {
            self.others.spawn(restless);
        }
        for (n, who) in people.readers.iter().rev().take(CHURNERS).enumerate() {
            let link = self.link(scene)?;
            let churn = Churn {
                who: who.clone(),
                devices: audience.of(who),
                channels: people.channels[CHURNED].to_vec(),
                http: scene.system.http_through(ADMIN, &link)?,
                recorder: scene.recorder.clone(),
                ledger: Arc::clone(scene.ledger),
                seed: scene.choices(1_000 + n as u64),
            };
            self.others.spawn(churn.run(stop.clone()));
        }
        Ok(())
    }

    /// One round in the calm, when the first sample is taken, and one after the faults, when what
    /// they left behind is gone.
    fn visits(&mut self, scene: &Scene<'_>, audience: &Audience) -> Result<Option<Visits>> {
        let (profile, people) = (scene.profile, scene.people);
        let visitor = audience.readers.iter().find(|d| d.name() == VISITOR);
        let (Some(device), Some(who)) = (visitor, people.writers.first()) else {
            return Ok(None);
        };
        let phase = Duration::from_millis(profile.faults.phase_ms);
        let healed = scene.start + profile.calm + phase;
        Ok(Some(Visits {
            device: Arc::clone(device),
            voice: HttpWriter::new(who, self.link(scene)?, scene.recorder.clone())?,
            name: format!("{}.visits", who.name),
            rooms: people.rooms.clone(),
            rounds: vec![scene.start + SETTLED, healed + AFTER_FAULTS],
            ledger: Arc::clone(scene.ledger),
            seed: scene.choices(4_000),
        }))
    }

    /// Those who write to each other.
    fn talks(
        &mut self,
        scene: &Scene<'_>,
        audience: &Audience,
        stop: &CancellationToken,
    ) -> Result<()> {
        let people = scene.people;
        let pairs = pairs(&people.writers, &people.readers, scene.profile.http_writers);
        for (n, ([one, other], after_ms)) in pairs.into_iter().enumerate() {
            let sides = [
                self.side(scene, audience, one)?,
                self.side(scene, audience, other)?,
            ];
            let talk = Talk {
                sides,
                begins: scene.start + Duration::from_millis(after_ms),
                directs: Arc::clone(&people.directs),
                ledger: Arc::clone(scene.ledger),
                board: Arc::clone(scene.board),
                recorder: scene.recorder.clone(),
                seed: scene.choices(5_000 + 2 * n as u64),
            };
            self.others.spawn(talk.run(stop.clone(), PATIENCE));
        }
        Ok(())
    }

    /// Those who look at the dashboard, one at each API server.
    fn lookers(&mut self, scene: &Scene<'_>, stop: &CancellationToken) -> Result<()> {
        for api in 0..scene.system.stack().apis().len() {
            let (base, token) = (lookers::base(scene.system, api), scene.system.token(ADMIN)?);
            let (seed, stop) = (scene.choices(6_000 + api as u64), stop.clone());
            self.others.spawn(async move {
                lookers::come_and_go(base, token, seed, stop).await;
                Ok(())
            });
        }
        Ok(())
    }

    fn side(&mut self, scene: &Scene<'_>, audience: &Audience, who: Identity) -> Result<Side> {
        let devices = audience.all_of(&who);
        let voice = match devices.first() {
            Some(device) => Voice::Socket(Arc::clone(device)),
            None => {
                let link = self.link(scene)?;
                Voice::Http(HttpWriter::new(&who, link, scene.recorder.clone())?)
            }
        };
        let http = scene.system.http_through(&who.name, &*self.link(scene)?)?;
        Ok(Side {
            who,
            voice,
            http,
            devices,
        })
    }

    fn writers(
        &mut self,
        scene: &Scene<'_>,
        audience: Audience,
        bursts: &watch::Receiver<Vec<String>>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let (profile, people) = (scene.profile, scene.people);
        let mut devices = audience.writers.into_iter();
        for (n, who) in people.writers.iter().enumerate() {
            let answering = n < profile.answering;
            let voice = match devices.next() {
                Some((device, doubts)) => {
                    // Those who read keep their cursors, so they never crash.
                    if !answering {
                        let crashing = crash_now_and_then(Arc::clone(&device), doubts);
                        self.crashing.spawn(crashing);
                    }
                    Voice::Socket(device)
                }
                None => {
                    let link = self.link(scene)?;
                    Voice::Http(HttpWriter::new(who, link, scene.recorder.clone())?)
                }
            };
            let name = match &voice {
                Voice::Socket(device) => device.name().to_owned(),
                Voice::Http(_) => format!("{}.http", who.name),
            };
            let (ledger, board) = (Arc::clone(scene.ledger), Arc::clone(scene.board));
            let (channels, busy) = (&people.channels, people.busy);
            let person = Person {
                name,
                user: who.user,
                answering,
                changing: n % 2 == 1,
            };
            let writer = Writer::new(person, voice, channels, busy, ledger, board);
            let share = profile.messages / profile.writers as u64;
            let rest = profile.messages % profile.writers as u64;
            let pace = Pace {
                start: scene.start,
                over: profile.writing(),
                messages: share + u64::from((n as u64) < rest),
                seed: scene.choices(n as u64),
            };
            let (bursts, stop) = (bursts.clone(), stop.clone());
            self.writers
                .spawn(writer.run(pace, bursts, profile.writers, stop, PATIENCE));
        }
        Ok(())
    }

    /// Waits until everybody has ended, which `stop` has asked for. What went wrong is added to
    /// the run's errors.
    pub async fn finish(mut self, errors: &mut Vec<String>) -> Paged {
        let mut open = 0;
        while let Some(ended) = self.writers.join_next().await {
            match ended {
                Ok(count) => open += count,
                Err(error) => errors.push(format!("a writer: {error}")),
            }
        }
        if open > 0 {
            let text = format!("{open} messages had no last answer {PATIENCE:?} after the end");
            errors.push(text);
        }
        self.crashing.shutdown().await;
        while let Some(ended) = self.others.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(format!("a reader: {error:#}")),
                Err(error) => errors.push(format!("a reader: {error}")),
            }
        }
        let mut paged = Paged::default();
        while let Some(ended) = self.pager.join_next().await {
            match ended {
                Ok(ended) => paged = ended,
                Err(error) => errors.push(format!("the pager: {error}")),
            }
        }
        for wrong in &paged.wrong {
            errors.push(format!("history out of order while it was paged: {wrong}"));
        }
        paged
    }
}

impl Scene<'_> {
    /// A seed of one's own.
    fn choices(&self, n: u64) -> u64 {
        self.seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(n)
    }
}
