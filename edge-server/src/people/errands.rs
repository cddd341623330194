//! What has to be asked of the store for people: their direct channels, which their sockets are
//! then joined to, and memberships that nobody here vouches for.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use hubbub_protocol::{ChannelId, Receipt, UserId, limits};
use hubbub_store::DirectChannel;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    Edge,
    hub::{JoinRefused, JoinRequest, Passed, Turn},
};

/// Users whose direct channels are read with one statement.
const USERS_AT_ONCE: usize = 256;
/// New direct channels that wait; past it all of the user's are read, as at a connection.
const ADDED: usize = 10_000;
/// Receipts that wait for a membership; one more is dropped and counted, as any receipt may be.
const RECEIPTS: usize = 1_024;
/// Memberships asked for at once.
const MEMBERSHIPS_AT_ONCE: usize = 4;
/// The store has deadlines of its own; this one covers several statements.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts while the store is away.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(3);

/// The queue. Offers never wait.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    waiting: Mutex<Waiting>,
    directs: Notify,
    receipts: Notify,
}

/// Each once; `users` is bounded by the users who are here.
#[derive(Debug, Default)]
struct Waiting {
    users: BTreeSet<UserId>,
    added: BTreeSet<(UserId, ChannelId)>,
    receipts: Vec<Receipt>,
}

impl Errands {
    /// The direct channels of a user are to be read and joined: all, or a new one.
    pub(crate) fn directs(&self, user: UserId, added: Option<ChannelId>) {
        let mut waiting = self.waiting.lock();
        match added {
            Some(channel) if waiting.added.len() < ADDED => {
                waiting.added.insert((user, channel));
            }
            _ => {
                waiting.users.insert(user);
            }
        }
        drop(waiting);
        self.directs.notify_one();
    }

    /// A receipt waits for somebody to vouch for the membership; false if there is no room.
    fn receipt(&self, receipt: Receipt) -> bool {
        let mut waiting = self.waiting.lock();
        let room = waiting.receipts.len() < RECEIPTS;
        if room {
            waiting.receipts.push(receipt);
        }
        drop(waiting);
        self.receipts.notify_one();
        room
    }

    fn take_directs(&self) -> (BTreeSet<UserId>, BTreeSet<(UserId, ChannelId)>) {
        let mut waiting = self.waiting.lock();
        let mut users = BTreeSet::new();
        while users.len() < USERS_AT_ONCE
            && let Some(user) = waiting.users.pop_first()
        {
            users.insert(user);
        }
        let mut added = BTreeSet::new();
        while added.len() < USERS_AT_ONCE
            && let Some(one) = waiting.added.pop_first()
        {
            added.insert(one);
        }
        (users, added)
    }
}

/// A device of a user came further: shown to the user's devices here, at once or after a look at
/// the membership.
pub(crate) fn own_receipt(edge: &Edge, receipt: Receipt, turn: &mut Turn) {
    if edge.hub.own_receipt(&receipt, turn) == Passed::NotVouched && !edge.errands.receipt(receipt)
    {
        edge.metrics.bus_event("receipt_dropped");
    }
}

/// Reads direct channels and joins sockets to them. Runs until cancelled.
pub(crate) async fn directs(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut pause = PAUSE;
    loop {
        let (users, added) = edge.errands.take_directs();
        if users.is_empty() && added.is_empty() {
            edge.errands.directs.notified().await;
            continue;
        }
        match timeout(DEADLINE, join_directs(&edge, &users, &added)).await {
            Ok(Ok(())) => {
                pause = PAUSE;
                continue;
            }
            Ok(Err(error)) => tracing::warn!(error = %error, "read direct channels"),
            Err(_) => tracing::warn!("read direct channels: no answer in time"),
        }
        for user in users {
            edge.errands.directs(user, None);
        }
        for (user, channel) in added {
            edge.errands.directs(user, Some(channel));
        }
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

async fn join_directs(
    edge: &Edge,
    users: &BTreeSet<UserId>,
    added: &BTreeSet<(UserId, ChannelId)>,
) -> Result<(), hubbub_store::Error> {
    // Before the question: who is evicted afterwards is not joined by its answer.
    let evictions = edge.hub.evictions();
    let new = added.iter().map(|(user, _)| *user);
    let all: BTreeSet<UserId> = users.iter().copied().chain(new).collect();
    let asked: Vec<UserId> = all.into_iter().collect();
    let mut found: BTreeMap<UserId, Vec<DirectChannel>> = BTreeMap::new();
    for direct in edge.store.directs(&asked).await? {
        found.entry(direct.user).or_default().push(direct);
    }
    for (user, directs) in found {
        let chosen = if users.contains(&user) {
            latest(edge, &directs).await
        } else {
            HashSet::new()
        };
        for direct in directs {
            if chosen.contains(&direct.channel) || added.contains(&(user, direct.channel)) {
                join(edge, &direct, evictions);
                // Everybody's channels may come at once, when the bus is back.
                tokio::task::coop::consume_budget().await;
            }
        }
    }
    Ok(())
}

/// The channels to join: all, or those with the latest activity; while a shard is away and the
/// activity is not known, those that were opened last.
async fn latest(edge: &Edge, directs: &[DirectChannel]) -> HashSet<ChannelId> {
    let mut channels: Vec<ChannelId> = directs.iter().map(|direct| direct.channel).collect();
    if channels.len() > limits::DIRECT_JOINS {
        channels.sort_unstable_by_key(|channel| Reverse(channel.number()));
        match edge.store.activity(&channels).await {
            Ok(mut activity) => {
                // Stable: of those without any, the ones that were opened last.
                activity.sort_by_key(|one| Reverse(one.last_ts_ms));
                channels = activity.into_iter().map(|one| one.channel).collect();
            }
            Err(error) => tracing::debug!(error = %error, "read the activity of channels"),
        }
        channels.truncate(limits::DIRECT_JOINS);
    }
    channels.into_iter().collect()
}

fn join(edge: &Edge, direct: &DirectChannel, evictions: u64) {
    for socket in edge.hub.to_join(direct.user, direct.channel) {
        let request = JoinRequest {
            channel: direct.channel,
            since: None,
            ordered: false,
            id: None,
            evictions,
            by_edge: Some(direct.with),
        };
        if edge.join(socket, request) == Err(JoinRefused::Evicted) {
            // Somebody was evicted somewhere meanwhile: it is read again.
            edge.errands.directs(direct.user, Some(direct.channel));
        }
    }
}

/// Asks for the memberships that receipts wait for. Runs until cancelled.
pub(crate) async fn receipts(edge: Arc<Edge>) -> Result<(), Infallible> {
    loop {
        let waiting = std::mem::take(&mut edge.errands.waiting.lock().receipts);
        if waiting.is_empty() {
            edge.errands.receipts.notified().await;
            continue;
        }
        let members: HashSet<(ChannelId, UserId)> = waiting
            .iter()
            .map(|receipt| (receipt.channel, receipt.user))
            .collect();
        stream::iter(members)
            .for_each_concurrent(MEMBERSHIPS_AT_ONCE, |(channel, user)| {
                let edge = &edge;
                async move {
                    let evictions = edge.hub.evictions();
                    match edge.store.membership(channel, user).await {
                        Ok(Some(_)) => {
                            edge.hub.vouch(channel, user, evictions);
                        }
                        Ok(None) => {}
                        Err(error) => tracing::debug!(
                            channel.id = %channel, user.id = %user, error = %error,
                            "read a membership for a receipt"
                        ),
                    }
                }
            })
            .await;
        edge.check_lease();
        let mut turn = Turn::default();
        for receipt in &waiting {
            if edge.hub.own_receipt(receipt, &mut turn) == Passed::NotVouched {
                // No member, or nobody knows now: the cursors are in the store.
                edge.metrics.bus_event("receipt_dropped");
            }
        }
        edge.perform(turn);
    }
}
