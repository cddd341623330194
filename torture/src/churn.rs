//! Users who are removed from channels and added again, while the others keep talking there.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use hubbub_checker::{Event, history::Change};
use hubbub_client::{Http, HttpError, Who};
use hubbub_protocol::{ChannelId, Seq};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    device::{Device, Identity},
    ledger::Ledger,
    message,
    readers::is_ordered,
    recorder::Recorder,
    wire::what,
    writer::Message,
};

/// Between two removals.
const STAYS_MS: std::ops::Range<u64> = 500..2_000;
const AWAY_MS: std::ops::Range<u64> = 300..1_500;
/// A device that is connected has heard of its removal by then.
const HEARS_OF_IT: Duration = Duration::from_secs(3);
/// Of an answer to a send that must be refused.
const REFUSAL: Duration = Duration::from_secs(3);
/// At the end everybody is added again.
const LAST: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(200);

/// One user and the channels where it happens.
#[derive(Debug)]
pub struct Churn {
    /// Who is removed and added.
    pub who: Identity,
    /// Their devices.
    pub devices: Vec<Arc<Device>>,
    /// Where.
    pub channels: Vec<ChannelId>,
    /// The admin's way.
    pub http: Http,
    /// Of all that happens.
    pub recorder: Recorder,
    /// Of what they try to say.
    pub ledger: Arc<Ledger>,
    /// Of all choices.
    pub seed: u64,
}

impl Churn {
    /// Removes and adds until `stop`; at the end the user is a member everywhere.
    ///
    /// # Errors
    /// When the last additions cannot be made.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut n = 0;
        loop {
            let pause = Duration::from_millis(rng.random_range(STAYS_MS));
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return Ok(());
            }
            let channel = self.channels[rng.random_range(0..self.channels.len())];
            let cursors: Vec<_> = self.devices.iter().map(|d| d.cursor(channel)).collect();
            if self.change(channel, Change::Remove).await == Some(true) {
                self.try_to_stay(channel, &cursors, &mut n, &mut rng)
                    .await?;
                let away = Duration::from_millis(rng.random_range(AWAY_MS));
                stop.run_until_cancelled(sleep(away)).await;
            }
            self.add_again(channel, &cursors, &mut rng).await?;
        }
    }

    /// One change, as the history has it: `None` if nobody knows whether it was made.
    async fn change(&self, channel: ChannelId, change: Change) -> Option<bool> {
        let op = self.recorder.next_op();
        let user = self.who.user;
        self.recorder.record(Event::MembershipAsked {
            op,
            channel,
            user,
            change,
        });
        let done = match change {
            Change::Add => self.http.add_member(channel, Who::User(user)).await,
            Change::Remove => self.http.remove_member(channel, Who::User(user)).await,
        };
        let done = match done {
            Ok(_) => true,
            // The server's definite word; anything else may have been carried out.
            Err(HttpError::Api(error)) if !error.retryable && error.status() < 500 => false,
            Err(_) => return None,
        };
        self.recorder.record(Event::MembershipAnswered { op, done });
        Some(done)
    }

    /// What a removed user tries: to listen, and to speak.
    async fn try_to_stay(
        &self,
        channel: ChannelId,
        cursors: &[Option<Seq>],
        n: &mut u64,
        rng: &mut SmallRng,
    ) -> Result<()> {
        self.wait_gone(channel).await;
        for (at, device) in self.devices.iter().enumerate() {
            if at == 0 {
                let text = message::compose(*n, None, &message::pad(rng, 20));
                let id = message::id_of(device.name(), *n);
                *n += 1;
                let message = Message {
                    channel,
                    id,
                    change: hubbub_client::Change::message(text),
                };
                self.ledger.say(id, what(&message.change));
                // Cut off, it goes on trying; whatever comes of it stands in the history.
                let sent = crate::writer::send(device, &message);
                match timeout(REFUSAL, sent).await {
                    Ok(end) => self.ledger.end(end),
                    Err(_) => self.ledger.abandon(),
                }
            } else if !device.listens(channel) {
                let joined = device.join(channel, cursors[at], is_ordered(device));
                joined.await?;
            }
        }
        Ok(())
    }

    /// Waits until every device that is connected has been told.
    async fn wait_gone(&self, channel: ChannelId) {
        let all = self.devices.iter();
        join_all(all.map(|device| device.wait_gone(channel, HEARS_OF_IT))).await;
    }

    async fn add_again(
        &self,
        channel: ChannelId,
        cursors: &[Option<Seq>],
        rng: &mut SmallRng,
    ) -> Result<()> {
        self.wait_gone(channel).await;
        let begun = Instant::now();
        while self.change(channel, Change::Add).await != Some(true) {
            anyhow::ensure!(
                begun.elapsed() < LAST,
                "{} could not be added to {channel} again within {LAST:?}",
                self.who.name
            );
            sleep(AGAIN).await;
        }
        for (device, cursor) in self.devices.iter().zip(cursors) {
            // One that never heard of its removal goes on by itself.
            if !device.listens(channel) {
                let since = cursor.filter(|_| rng.random_bool(0.5));
                let joined = device.join(channel, since, is_ordered(device)).await;
                joined.context("join after an addition")?;
            }
        }
        Ok(())
    }
}
