//! Somebody comes into a room that nobody listens to, just when something is said there.
//!
//! A first join makes its edge subscribe and read the head. What is said between the two must
//! arrive live all the same; nothing follows it in the room, and nobody else is there to hear it,
//! so an edge that misses it finds it by its sweep alone, which the checker counts.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use hubbub_client::Change;
use hubbub_protocol::ChannelId;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    device::Device, http_writer::HttpWriter, ledger::Ledger, message, wire::what, writer::Message,
};

/// Rooms that are visited in one round: several times what the checker takes for chance.
pub const ROOMS: usize = 12;
/// Between two visits.
const BETWEEN: Duration = Duration::from_millis(200);
/// From a join to what is said: the time in which an edge subscribes.
const MOMENT: Duration = Duration::from_millis(30);
const PAD_BYTES: usize = 40;

/// Who comes, who speaks, and where.
#[derive(Debug)]
pub struct Visits {
    /// Comes.
    pub device: Arc<Device>,
    /// Speaks; listens to nothing.
    pub voice: HttpWriter,
    /// Of what is said.
    pub name: String,
    /// One visit each, [`ROOMS`] in a round.
    pub rooms: Vec<ChannelId>,
    /// When each round begins.
    pub rounds: Vec<Instant>,
    /// What is said.
    pub ledger: Arc<Ledger>,
    /// Of what is said.
    pub seed: u64,
}

impl Visits {
    /// Makes all visits, until `stop`. What is being said then is said to its end.
    ///
    /// # Errors
    /// When the client has ended, which it may not while the run lasts.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let voice = Arc::new(self.voice);
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let mut sends = JoinSet::new();
        let mut n = 0;
        for (round, rooms) in self.rounds.into_iter().zip(self.rooms.chunks(ROOMS)) {
            let begun = stop.run_until_cancelled(sleep_until(round)).await;
            for room in rooms {
                if begun.is_none() || stop.is_cancelled() {
                    break;
                }
                let id = message::id_of(&self.name, n);
                let text = message::compose(n, None, &message::pad(&mut rng, PAD_BYTES));
                n += 1;
                self.device.join(*room, None, false).await?;
                sleep(MOMENT).await;
                let said = Message {
                    channel: *room,
                    id,
                    change: Change::message(text),
                };
                self.ledger.say(id, what(&said.change));
                let (voice, ledger) = (Arc::clone(&voice), Arc::clone(&self.ledger));
                sends.spawn(async move { ledger.end(voice.send(&said).await) });
                sleep(BETWEEN).await;
            }
        }
        while sends.join_next().await.is_some() {}
        Ok(())
    }
}
