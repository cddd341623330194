//! The channel of a room: created, or found as an earlier run of the same import left it.
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::Context as _;
use hubbub_protocol::{
    ChannelId, MessageId, Seq, UserId,
    http::{Channel, ChannelKind},
    partition_of,
};
use hubbub_store::{Error, Store};
use tokio::time::{Instant, sleep};

/// How long the store may stand still while it has something to read.
const STILL: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Rows a page, when a channel is read back.
const ROWS: usize = 500;

/// The rows of a channel by id: the seq that the store kept.
pub(super) type Known = HashMap<MessageId, Seq>;

/// Whether a channel of that name, which the owner sees, may be one that an earlier run began.
pub(super) async fn is_free(store: &Store, name: &str, owner: UserId) -> anyhow::Result<bool> {
    let found = store.channel_by_name(name, owner).await;
    let found = found.with_context(|| format!("look for channel {name}"))?;
    Ok(found.is_none_or(|channel| channel.created_by == owner))
}

/// Creates the channel, or takes the one of that name that `owner` created.
pub(super) async fn open(
    store: &Store,
    name: &str,
    private: bool,
    owner: UserId,
) -> anyhow::Result<Channel> {
    let kind = if private {
        ChannelKind::Private
    } else {
        ChannelKind::Public
    };
    match store.create_channel(name, kind, owner).await {
        Ok(channel) => Ok(channel),
        Err(Error::NameTaken) => {
            let found = store.channel_by_name(name, owner).await;
            let found = found.with_context(|| format!("look for channel {name}"))?;
            found
                .filter(|channel| channel.created_by == owner && channel.kind == kind)
                .ok_or_else(|| taken(name))
        }
        Err(error) => Err(error).with_context(|| format!("create channel {name}")),
    }
}

/// The refusal to write into a channel that is not new.
pub(super) fn taken(name: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "there is a channel {name} already, and only new ones are imported into: choose other \
         names by --prefix, or leave it out by --except"
    )
}

/// Whether the channel is as an earlier run of this import left it: what is in it came from there,
/// or nothing is, and nobody but its owner belongs to it. Members are added when everything else
/// is there, so until then nobody writes into it.
pub(super) async fn is_ours(
    store: &Store,
    channel: ChannelId,
    known: &Known,
    planned: &HashSet<MessageId>,
) -> anyhow::Result<bool> {
    if planned.iter().all(|id| known.contains_key(id)) {
        return Ok(!known.is_empty() || is_empty(store, channel).await?);
    }
    if !known.keys().all(|id| planned.contains(id)) {
        return Ok(false);
    }
    is_empty(store, channel).await
}

async fn is_empty(store: &Store, channel: ChannelId) -> anyhow::Result<bool> {
    let members = store.members(channel, 0, 2).await;
    let members = members.with_context(|| format!("list the members of {channel}"))?;
    Ok(members.items.len() < 2)
}

/// Waits until the store has everything that the log has of the channel's partition, then reads
/// the channel back.
pub(super) async fn read_back(
    store: &Store,
    log: &hubbub_log::Config,
    channel: ChannelId,
) -> anyhow::Result<Known> {
    catch_up(store, log, channel).await?;
    let mut known = Known::new();
    let mut after = Seq::ZERO;
    loop {
        let rows = store
            .range(channel, after, Seq::MAX, ROWS)
            .await
            .with_context(|| format!("read {channel} back"))?;
        let Some(last) = rows.last() else {
            return Ok(known);
        };
        after = last.seq;
        known.extend(rows.iter().map(|row| (row.key.message_id, row.seq)));
    }
}

async fn catch_up(
    store: &Store,
    log: &hubbub_log::Config,
    channel: ChannelId,
) -> anyhow::Result<()> {
    let partition = partition_of(channel, log.partitions);
    let ends = hubbub_log::watermarks(log)
        .await
        .context("ask the log for its end")?;
    let end = usize::try_from(partition).ok().and_then(|p| ends.get(p));
    let end = end.context("the log has no such partition")?.high;
    let (mut seen, mut moved) = (-1, Instant::now());
    loop {
        let read = store.positions(&[partition]).await;
        let read = read.context("ask the store how far it has read")?;
        let at = read.first().map_or(0, |(_, next)| *next);
        if at >= end {
            return Ok(());
        }
        if at > seen {
            (seen, moved) = (at, Instant::now());
        }
        anyhow::ensure!(
            moved.elapsed() < STILL,
            "the store has read partition {partition} through offset {at} of {end} and stands \
             still: does a consumer run? The same command goes on where this one ended"
        );
        sleep(LOOK).await;
    }
}
