//! Performs what feeds ask of the store, and reads memberships again after a loss of the bus.
//!
//! At most [`PER_SHARD`] questions to a shard at once, the others wait their turn. A feed has at
//! most two questions open, so the queue is bounded by the open channels.

use std::{collections::VecDeque, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{ChannelId, with_seq};
use hubbub_store::{Error as StoreError, Row};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use crate::{
    Edge,
    feed::{Answer, Ask, Failure, Frame, Request},
    hub::frame_of,
};

/// Questions to one shard at once, and membership reads at once.
const PER_SHARD: usize = 16;
/// Between attempts to read memberships again.
const RECHECK_PAUSE: Duration = Duration::from_millis(200);
const RECHECK_PAUSE_MOST: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Job {
    Ask(ChannelId, Request),
    /// Read the memberships of a held channel again, then open it.
    Recheck(ChannelId),
}

/// The queue. Offers never wait.
#[derive(Debug)]
pub(crate) struct Fetcher {
    /// One queue for each shard, the last for memberships.
    queues: Mutex<Vec<VecDeque<Job>>>,
    wake: Notify,
}

impl Fetcher {
    /// For so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let queues = (0..=shards).map(|_| VecDeque::new()).collect();
        Self {
            queues: Mutex::new(queues),
            wake: Notify::new(),
        }
    }

    fn push(&self, queue: usize, job: Job) {
        if let Some(queue) = self.queues.lock().get_mut(queue) {
            queue.push_back(job);
        }
        self.wake.notify_one();
    }

    /// Queues a feed's question.
    pub(crate) fn ask(&self, shard: usize, channel: ChannelId, request: Request) {
        self.push(shard, Job::Ask(channel, request));
    }

    /// Queues the second reading of a held channel's memberships.
    pub(crate) fn recheck(&self, channel: ChannelId) {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.last_mut() else {
            return;
        };
        // One that still waits serves this confirmation as well.
        if !queue
            .iter()
            .any(|job| matches!(job, Job::Recheck(c) if *c == channel))
        {
            queue.push_back(Job::Recheck(channel));
        }
        drop(queues);
        self.wake.notify_one();
    }

    fn queued(&self) -> usize {
        self.queues.lock().iter().map(VecDeque::len).sum()
    }
}

/// Runs until cancelled.
pub(crate) async fn run(edge: Arc<Edge>) -> Result<(), Infallible> {
    let lanes = edge.store.shards() + 1;
    let mut running = vec![0_usize; lanes];
    type JobFuture = Pin<Box<dyn Future<Output = usize> + Send>>;
    let mut jobs: FuturesUnordered<JobFuture> = FuturesUnordered::new();
    loop {
        for (lane, busy) in running.iter_mut().enumerate() {
            while *busy < PER_SHARD {
                let Some(job) = edge
                    .fetcher
                    .queues
                    .lock()
                    .get_mut(lane)
                    .and_then(VecDeque::pop_front)
                else {
                    break;
                };
                *busy += 1;
                let edge = Arc::clone(&edge);
                jobs.push(
                    async move {
                        perform(&edge, job).await;
                        lane
                    }
                    .boxed(),
                );
            }
        }
        edge.metrics.store_queue.set(edge.fetcher.queued() as i64);
        // Waits for: the end of a job, which frees its lane; a new job. Both are cancel-safe.
        tokio::select! {
            Some(lane) = jobs.next(), if !jobs.is_empty() => running[lane] -= 1,
            () = edge.fetcher.wake.notified() => {}
        }
    }
}

async fn perform(edge: &Edge, job: Job) {
    match job {
        Job::Ask(channel, request) => {
            let result = answer(edge, channel, &request.ask).await.map_err(|error| {
                tracing::debug!(channel.id = %channel, error = %error, "read the store for a feed");
                Failure {
                    reason: "the channel's history cannot be read now".to_owned(),
                    jitter: rand::random(),
                }
            });
            edge.check_lease();
            let turn = edge
                .hub
                .on_answer(channel, request.id, result, edge.now_ms());
            edge.perform(turn);
        }
        Job::Recheck(channel) => recheck(edge, channel).await,
    }
}

async fn answer(edge: &Edge, channel: ChannelId, ask: &Ask) -> Result<Answer, StoreError> {
    let rows = match ask {
        Ask::Head => {
            edge.metrics.store_request("head");
            return edge.store.head(channel).await.map(Answer::Head);
        }
        Ask::Rows(seqs) => {
            edge.metrics.store_request("rows");
            edge.store.rows(channel, seqs).await?
        }
        Ask::Range {
            from,
            through,
            limit,
        } => {
            edge.metrics.store_request("range");
            edge.store.range(channel, *from, *through, *limit).await?
        }
    };
    if planted(Mutant::DecidedAtTheAnswer) || planted(Mutant::ReaderGetsNoLive) {
        // A slow store: what comes live meanwhile is what they are about.
        sleep(Duration::from_millis(200)).await;
    }
    Ok(Answer::Rows(rows.iter().map(frame_of_row).collect()))
}

fn frame_of_row(row: &Row) -> Frame {
    frame_of(row.seq, row.key, with_seq(row.seq, &row.body).as_bytes())
}

/// A pod that lost the bus may have missed a removal: who listens here is asked of the primary
/// again, and only then is the channel relayed. While the core database is away it waits.
async fn recheck(edge: &Edge, channel: ChannelId) {
    let mut pause = RECHECK_PAUSE;
    loop {
        let evictions = edge.hub.evictions();
        let Some((epoch, users)) = edge.hub.listening_users(channel) else {
            return;
        };
        match edge.store.members_among(channel, &users).await {
            Ok(members) => {
                edge.check_lease();
                let (turn, done) =
                    edge.hub
                        .reopen(channel, epoch, &users, &members, evictions, edge.now_ms());
                edge.perform(turn);
                if done {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(channel.id = %channel, error = %error, "read memberships again");
                sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                pause = (pause * 2).min(RECHECK_PAUSE_MOST);
            }
        }
    }
}
