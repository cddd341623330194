//! Users, channels and memberships, before anything is said.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hubbub_checker::{Event, history::Change};
use hubbub_client::{Http, Who};
use hubbub_protocol::{
    ChannelId, UserId,
    http::{ChannelKind, NewChannel},
};

use crate::{
    device::Identity, direct::Directs, profile::Profile, recorder::Recorder, system::System,
    visits::ROOMS,
};

/// Calls under way at the same time.
const AT_ONCE: usize = 16;
/// Devices of one user of the crowd.
const CROWD_DEVICES: usize = 6;
/// Channels of a device of the crowd.
const CROWD_CHANNELS: usize = 2;
/// Rooms of a round of visits in the calm, and of one after the faults.
const VISITED: usize = 2 * ROOMS;
/// Who creates, adds and removes.
pub const ADMIN: &str = "admin";

/// Who there is and where they talk.
#[derive(Debug)]
pub struct People {
    /// `writer-0` and so on.
    pub writers: Vec<Identity>,
    /// `reader-0` and so on.
    pub readers: Vec<Identity>,
    /// Pages history and never connects.
    pub pager: Identity,
    /// Users of the crowd, with the channels of each.
    pub crowd: Vec<(Identity, Vec<ChannelId>)>,
    /// How many devices a user of the crowd has.
    pub crowd_devices: usize,
    /// By popularity.
    pub channels: Vec<ChannelId>,
    /// Beside these: for bursts.
    pub busy: ChannelId,
    /// Beside these: each is visited once.
    pub rooms: Vec<ChannelId>,
    /// Between two users each.
    pub directs: Arc<Directs>,
}

impl People {
    /// Every channel in which something is said, direct ones apart.
    pub fn everywhere(&self) -> impl Iterator<Item = ChannelId> + '_ {
        let beside = self.rooms.iter().chain([&self.busy]);
        self.channels.iter().chain(beside).copied()
    }
}

/// Makes everybody and everything.
///
/// # Errors
/// When the API refuses.
pub async fn people(system: &System, profile: &Profile, recorder: &Recorder) -> Result<People> {
    let users = |prefix: &'static str, count: usize| async move {
        let all = (0..count).map(|n| async move { system.user(&format!("{prefix}-{n}")).await });
        stream::iter(all)
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await
    };
    let writers = users("writer", profile.writers).await?;
    let readers = users("reader", profile.readers).await?;
    let crowd = users("crowd", profile.crowd.div_ceil(CROWD_DEVICES)).await?;
    let pager = system.user("pager").await?;
    let admin = Arc::new(system.http_at(ADMIN, 0)?);
    admin.me().await.context("make the admin")?;

    let created = (0..=profile.channels + VISITED).map(|n| {
        let admin = Arc::clone(&admin);
        async move {
            let new = NewChannel {
                name: format!("torture-{n}"),
                kind: Some(ChannelKind::Private),
            };
            let channel = admin.create_channel(&new).await;
            channel
                .map(|c| c.id)
                .with_context(|| format!("create {}", new.name))
        }
    });
    let created = stream::iter(created).buffered(AT_ONCE);
    let mut channels: Vec<ChannelId> = created.try_collect().await?;
    let rooms = channels.split_off(profile.channels + 1);
    let busy = channels.pop().context("one more channel was created")?;
    let pairs = |n: usize| {
        let pick = |k: usize| channels[(n * CROWD_CHANNELS + k) % channels.len()];
        (0..CROWD_CHANNELS).map(pick).collect::<Vec<_>>()
    };
    let crowd: Vec<_> = crowd
        .into_iter()
        .enumerate()
        .map(|(n, user)| (user, pairs(n)))
        .collect();

    let mut adds: Vec<(ChannelId, UserId)> = Vec::new();
    for channel in channels.iter().chain(&rooms).chain([&busy]) {
        let everybody = writers.iter().chain(&readers).chain([&pager]);
        adds.extend(everybody.map(|who| (*channel, who.user)));
    }
    for (who, channels) in &crowd {
        adds.extend(channels.iter().map(|channel| (*channel, who.user)));
    }
    let adds = adds.into_iter().map(|(channel, user)| {
        let (admin, recorder) = (Arc::clone(&admin), recorder.clone());
        async move { add(&admin, &recorder, channel, user).await }
    });
    stream::iter(adds)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(People {
        writers,
        readers,
        pager,
        crowd,
        crowd_devices: CROWD_DEVICES,
        channels,
        busy,
        rooms,
        directs: Arc::default(),
    })
}

async fn add(admin: &Http, recorder: &Recorder, channel: ChannelId, user: UserId) -> Result<()> {
    let op = recorder.next_op();
    recorder.record(Event::MembershipAsked {
        op,
        channel,
        user,
        change: Change::Add,
    });
    admin
        .add_member(channel, Who::User(user))
        .await
        .with_context(|| format!("add {user} to {channel}"))?;
    recorder.record(Event::MembershipAnswered { op, done: true });
    Ok(())
}
