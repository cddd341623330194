//! Reads memberships again after a loss of the bus, many channels at once.
//!
//! A pod that lost the bus may have missed a removal: who listens here is asked of the primary,
//! and only then is a channel relayed again. While the core database is away it waits.

use std::{collections::VecDeque, time::Duration};

use hubbub_protocol::{ChannelId, UserId};
use tokio::time::sleep;

use crate::{
    Edge,
    hub::{Reopened, Turn},
};

/// Listeners in one question, unless one channel alone has more: some milliseconds of the
/// database, well within its deadline.
const LISTENERS: usize = 4_096;
/// Channels in one question. They are opened in one turn, in which nothing else happens here.
const CHANNELS: usize = 512;
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// A channel that is asked about.
struct Asked {
    channel: ChannelId,
    epoch: u64,
    users: Vec<UserId>,
}

/// Opens every one of these channels, unless it is closed or held for the lease by then.
pub(crate) async fn run(edge: &Edge, channels: Vec<ChannelId>) {
    let mut channels = VecDeque::from(channels);
    let mut pause = PAUSE;
    while !channels.is_empty() {
        let evictions = edge.hub.evictions();
        let asked = take(edge, &mut channels);
        let pairs: Vec<(ChannelId, UserId)> = asked
            .iter()
            .flat_map(|asked| asked.users.iter().map(|user| (asked.channel, *user)))
            .collect();
        match edge.store.members_among(&pairs).await {
            Ok(members) => {
                pause = PAUSE;
                edge.check_lease();
                channels.extend(reopen(edge, &asked, evictions, |pair| {
                    members.contains(&pair)
                }));
            }
            Err(error) => {
                tracing::warn!(channels = asked.len(), error = %error, "read memberships again");
                channels.extend(asked.iter().map(|asked| asked.channel));
                sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                pause = (pause * 2).min(PAUSE_MOST);
            }
        }
    }
}

/// The next channels that are still open, with who listens to them here.
fn take(edge: &Edge, channels: &mut VecDeque<ChannelId>) -> Vec<Asked> {
    let (mut asked, mut listeners) = (Vec::new(), 0);
    while asked.len() < CHANNELS
        && listeners < LISTENERS
        && let Some(channel) = channels.pop_front()
    {
        if let Some((epoch, users)) = edge.hub.listening_users(channel) {
            listeners += users.len();
            asked.push(Asked {
                channel,
                epoch,
                users,
            });
        }
    }
    asked
}

/// Opens what was asked about; returns the channels whose answer is stale.
fn reopen(
    edge: &Edge,
    asked: &[Asked],
    mut evictions: u64,
    is_member: impl Fn((ChannelId, UserId)) -> bool,
) -> Vec<ChannelId> {
    let (mut all, mut stale) = (Turn::default(), Vec::new());
    for Asked {
        channel,
        epoch,
        users,
    } in asked
    {
        let members: Vec<UserId> = users
            .iter()
            .copied()
            .filter(|user| is_member((*channel, *user)))
            .collect();
        let (turn, reopened) =
            edge.hub
                .reopen(*channel, *epoch, users, &members, evictions, edge.now_ms());
        all.merge(turn);
        match reopened {
            // These evictions follow from the same answer, so they make no part of it stale.
            Reopened::Done { evicted } => evictions += evicted,
            Reopened::Stale => stale.push(*channel),
        }
    }
    edge.perform(all);
    stale
}
