//! The channel of a room: created, or found as an earlier run of the same import left it.
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::Context as _;
use hubbub_protocol::{
    ChannelId, MessageId, MessageKey, Seq, UserId,
    http::{Channel, ChannelKind},
    partition_of,
};
use hubbub_store::{Error, Store};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

/// How long the store may stand still while it has something to read.
const STILL: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Rows a page, when a channel is read back.
const ROWS: usize = 500;

/// The records that a channel is to have, each with whose it is. Ids alone say nothing: whoever
/// has the export can compute them and post under them.
#[derive(Debug)]
pub(super) struct Planned(pub(super) HashMap<MessageId, UserId>);

impl Planned {
    pub(super) fn key(&self, message_id: MessageId) -> Option<MessageKey> {
        let user = *self.0.get(&message_id)?;
        Some(MessageKey { user, message_id })
    }

    fn has(&self, key: MessageKey) -> bool {
        self.0.get(&key.message_id) == Some(&key.user)
    }

    /// How many of them are there.
    pub(super) fn there(&self, known: &Known) -> usize {
        let keys = self.0.keys().filter_map(|id| self.key(*id));
        keys.filter(|key| known.seq(*key).is_some()).count()
    }
}

/// The rows of a channel: the seqs that the store kept.
#[derive(Debug, Default)]
pub(super) struct Known {
    seqs: HashMap<MessageKey, Seq>,
    /// A planned message is there, at the time that it has in the export: clients cannot set one.
    began: bool,
}

impl Known {
    pub(super) fn seq(&self, key: MessageKey) -> Option<Seq> {
        self.seqs.get(&key).copied()
    }

    pub(super) fn note(&mut self, key: MessageKey, seq: Seq) {
        self.seqs.insert(key, seq);
    }

    pub(super) fn head(&self) -> Seq {
        self.seqs.values().max().copied().unwrap_or_default()
    }
}

/// Whether a channel of that name, which the owner sees, may be one that an earlier run began.
pub(super) async fn is_free(store: &Store, name: &str, owner: UserId) -> anyhow::Result<bool> {
    let found = store.channel_by_name(name, owner).await;
    let found = found.with_context(|| format!("look for channel {name}"))?;
    Ok(found.is_none_or(|channel| channel.created_by == owner))
}

/// Creates the channel, or takes the one of that name that `owner` created. A public one is private
/// until everything is in it, so that nobody comes in before that.
pub(super) async fn open(
    store: &Store,
    name: &str,
    private: bool,
    owner: UserId,
) -> anyhow::Result<Channel> {
    match store
        .create_channel(name, ChannelKind::Private, owner)
        .await
    {
        Ok(channel) => Ok(channel),
        Err(Error::NameTaken) => {
            let found = store.channel_by_name(name, owner).await;
            let found = found.with_context(|| format!("look for channel {name}"))?;
            let fits = |kind| match kind {
                ChannelKind::Private => true,
                ChannelKind::Public => !private,
                ChannelKind::Direct => false,
            };
            found
                .filter(|channel| channel.created_by == owner && fits(channel.kind))
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

/// Whether the channel is new, or one that an earlier run of this import began: whatever else has
/// come into it since, what an import brought is in it. One that has no history tells by its
/// members: the owner alone, and where nothing is to be written, those who are to be added.
pub(super) async fn is_ours(
    store: &Store,
    channel: ChannelId,
    known: &Known,
    planned: &Planned,
    mut members: HashSet<UserId>,
    owner: UserId,
) -> anyhow::Result<bool> {
    if known.began || !known.seqs.is_empty() {
        return Ok(known.began);
    }
    if !planned.0.is_empty() {
        // They come last.
        members.clear();
    }
    members.insert(owner);
    // One more than there may be shows a stranger.
    let there = store.members(channel, 0, members.len() + 1).await;
    let there = there.with_context(|| format!("list the members of {channel}"))?;
    Ok(there.items.iter().all(|m| members.contains(&m.user.id)))
}

/// Waits until the store has everything that the log has of the channel's partition, then reads
/// the channel back.
pub(super) async fn read_back(
    store: &Store,
    log: &hubbub_log::Config,
    channel: ChannelId,
    planned: &Planned,
) -> anyhow::Result<Known> {
    catch_up(store, log, channel).await?;
    #[derive(Deserialize)]
    struct Posted {
        posted_ms: Option<i64>,
    }

    let mut known = Known::default();
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
        for row in &rows {
            known.note(row.key, row.seq);
            if !known.began && planned.has(row.key) {
                let body: Posted = serde_json::from_str(&row.body)
                    .with_context(|| format!("read the row {} of {channel}", row.seq))?;
                known.began = body.posted_ms.is_some();
            }
        }
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
