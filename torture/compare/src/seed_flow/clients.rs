//! All clients of the seed's flow.

use std::time::Duration;

use anyhow::{Context, Result};
use hubbub_checker::Event;
use hubbub_protocol::{ChannelId, UserId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    client::{Due, Person, Progress, SeedClient},
    wire::Said,
};
use crate::{
    plan::{LISTENERS, Plan, WRITERS},
    recorder::{Recorder, said},
    site::{self, Site},
};

/// Messages that a client has not looked at yet; it does so at once.
const SAYINGS: usize = 256;

/// The clients' tasks, and what they tell.
#[derive(Debug)]
pub(super) struct Clients {
    writers: Vec<Handle>,
    listeners: Vec<Handle>,
    tasks: JoinSet<()>,
    recorder: Recorder,
}

#[derive(Debug)]
struct Handle {
    user: UserId,
    /// How many messages it has to say.
    says: usize,
    due: mpsc::Sender<Due>,
    progress: watch::Receiver<Progress>,
}

impl Clients {
    pub(super) fn start(plan: &Plan, site: &Site, recorder: &Recorder) -> Self {
        let mut tasks = JoinSet::new();
        let mut start = |name: String, user: UserId, says: usize, channels: Vec<ChannelId>, at| {
            let (due, sayings) = mpsc::channel(SAYINGS);
            let (tell, progress) = watch::channel(Progress::default());
            let person = Person {
                name,
                user,
                channels,
                at,
            };
            tasks.spawn(SeedClient::new(person, sayings, tell, recorder.clone()).run());
            Handle {
                user,
                says,
                due,
                progress,
            }
        };
        let writers = (0..WRITERS)
            .map(|n| {
                let user = site::writer_user(n);
                let says = plan.sayings.iter().filter(|s| s.writer == n).count();
                start(Plan::writer(n), user, says, Vec::new(), site.writer(n))
            })
            .collect();
        let listeners = (0..LISTENERS)
            .map(|n| {
                let channels = plan.listeners[n].map(site::channel).to_vec();
                let user = site::listener_user(n);
                start(Plan::listener(n), user, 0, channels, site.listener(n))
            })
            .collect();
        Self {
            writers,
            listeners,
            tasks,
            recorder: recorder.clone(),
        }
    }

    /// Waits until everybody has joined.
    pub(super) async fn all_joined(&mut self) -> Result<()> {
        for handle in self.writers.iter_mut().chain(&mut self.listeners) {
            let joined = handle.progress.wait_for(|p| p.joined).await;
            joined.context("a client has ended")?;
        }
        Ok(())
    }

    /// Has everything said at its time.
    pub(super) async fn play(&self, plan: &Plan, begun: Instant) -> Result<()> {
        for (op, saying) in (1..).zip(&plan.sayings) {
            sleep_until(begun + Duration::from_millis(saying.at_ms)).await;
            let writer = &self.writers[saying.writer];
            let message = Said {
                channel: site::channel(saying.channel),
                user: writer.user,
                id: saying.id,
                text: saying.text.clone(),
            };
            let Said {
                channel,
                user,
                id,
                text,
            } = &message;
            let record = said(*channel, None, *user, *id, text);
            self.recorder.record(Event::Invoke {
                op,
                record,
                answers: None,
                retry: false,
            });
            let handed = writer.due.send((op, message)).await;
            handed.ok().context("a client has ended")?;
        }
        Ok(())
    }

    /// Waits until every send has its answer.
    pub(super) async fn all_answered(&self) -> Result<()> {
        for handle in &self.writers {
            let mut progress = handle.progress.clone();
            let done = progress.wait_for(|p| p.answered >= handle.says).await;
            done.context("a client has ended")?;
        }
        Ok(())
    }

    /// Ends them.
    pub(super) async fn close(self) {
        let Self {
            writers,
            listeners,
            mut tasks,
            ..
        } = self;
        drop((writers, listeners));
        while tasks.join_next().await.is_some() {}
    }
}
