//! Performs what feeds ask of the store. (`recheck.rs` reads memberships.)
//!
//! At most [`PER_SHARD`] questions to a shard at once, the others wait their turn. A feed has at
//! most two questions open, so the queue is bounded by the open channels.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    mem::take,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

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
    recheck,
};

/// Questions to one shard at once.
const PER_SHARD: usize = 16;

type Job = (ChannelId, Request);

/// The queues. Offers never wait.
#[derive(Debug)]
pub(crate) struct Fetcher {
    /// One for each shard.
    queues: Mutex<Vec<VecDeque<Job>>>,
    /// Held channels whose memberships are to be read again.
    held: Mutex<Held>,
    wake: Notify,
}

/// In the order of their confirmations, each once: one that still waits serves a later
/// confirmation as well.
#[derive(Debug, Default)]
struct Held {
    order: Vec<ChannelId>,
    known: HashSet<ChannelId>,
}

impl Fetcher {
    /// For so many shards.
    pub(crate) fn new(shards: usize) -> Self {
        let queues = (0..shards).map(|_| VecDeque::new()).collect();
        Self {
            queues: Mutex::new(queues),
            held: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Queues a feed's question.
    pub(crate) fn ask(&self, shard: usize, channel: ChannelId, request: Request) {
        if let Some(queue) = self.queues.lock().get_mut(shard) {
            queue.push_back((channel, request));
        }
        self.wake.notify_one();
    }

    /// Queues the second reading of a held channel's memberships.
    pub(crate) fn recheck(&self, channel: ChannelId) {
        let mut held = self.held.lock();
        if held.known.insert(channel) {
            held.order.push(channel);
        }
        drop(held);
        self.wake.notify_one();
    }

    fn take_held(&self) -> Vec<ChannelId> {
        take(&mut *self.held.lock()).order
    }

    fn queued(&self) -> usize {
        let questions: usize = self.queues.lock().iter().map(VecDeque::len).sum();
        questions + self.held.lock().order.len()
    }
}

/// Runs until cancelled.
pub(crate) async fn run(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut running = vec![0_usize; edge.store.shards()];
    type JobFuture = Pin<Box<dyn Future<Output = usize> + Send>>;
    let mut jobs: FuturesUnordered<JobFuture> = FuturesUnordered::new();
    // One reading of memberships at a time: what is confirmed meanwhile shares the next one.
    let mut recheck: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    loop {
        for (lane, busy) in running.iter_mut().enumerate() {
            while *busy < PER_SHARD {
                let Some((channel, request)) = edge
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
                        perform(&edge, channel, request).await;
                        lane
                    }
                    .boxed(),
                );
            }
        }
        if recheck.is_none() {
            let held = edge.fetcher.take_held();
            if !held.is_empty() {
                let edge = Arc::clone(&edge);
                recheck = Some(async move { recheck::run(&edge, held).await }.boxed());
            }
        }
        edge.metrics.store_queue.set(edge.fetcher.queued() as i64);
        // Waits for: the end of a job, which frees its lane; the end of a reading of memberships;
        // something new. All are cancel-safe.
        tokio::select! {
            Some(lane) = jobs.next(), if !jobs.is_empty() => running[lane] -= 1,
            () = async {
                match &mut recheck {
                    Some(recheck) => recheck.await,
                    None => std::future::pending().await,
                }
            }, if recheck.is_some() => recheck = None,
            () = edge.fetcher.wake.notified() => {}
        }
    }
}

async fn perform(edge: &Edge, channel: ChannelId, request: Request) {
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
