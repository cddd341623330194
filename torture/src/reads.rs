//! The final reads: history from every API server, the rows, the whole log.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hubbub_checker::{
    Event,
    history::{Cursor, Kind, Paging, State, Thread},
};
use hubbub_client::{Http, HttpError, Page};
use hubbub_protocol::{Body, ChannelId, ReactionChange, Record, Seq, http::Entry};
use tokio::time::{Instant, sleep};

use crate::{
    message,
    quiet::on_shards,
    recorder::Recorder,
    setup::{ADMIN, People},
    system::System,
    wire::record_of,
};

/// As whom the rows themselves speak.
const SQL: &str = "sql";
/// Calls to one API server under way at the same time.
const AT_ONCE: usize = 8;
/// A server that was just brought back is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(100);

/// Reads everything and records it. Pages of one row are read of every `single_rows_of`-th
/// channel only: each is a request of its own.
///
/// # Errors
/// When something cannot be read: then the run proves nothing.
pub async fn read_all(
    system: &System,
    people: &People,
    recorder: &Recorder,
    single_rows_of: usize,
) -> Result<()> {
    tokio::try_join!(
        log(system, recorder),
        rows(system, recorder),
        pages(system, people, recorder, single_rows_of),
        cursors(system, people, recorder),
    )?;
    Ok(())
}

/// The whole log, with a consumer of our own.
async fn log(system: &System, recorder: &Recorder) -> Result<()> {
    let all = hubbub_log::read_all(&system.log()).await;
    for (partition, found) in all.context("read the log")? {
        let record = found.payload.as_deref().map(Record::decode);
        let record = record.and_then(Result::ok).map(|record| {
            let (text, kind) = match &record {
                Record::Message { text, thread, .. } => {
                    (text.as_str(), thread.map_or(Kind::Message, Kind::Reply))
                }
                Record::Edit { target, text, .. } => (text.as_str(), Kind::Edit(*target)),
                Record::Delete { target, .. } => ("", Kind::Delete(*target)),
                Record::Reaction {
                    target,
                    reaction,
                    change: ReactionChange::Added,
                    ..
                } => (reaction.as_str(), Kind::React(*target)),
                Record::Reaction {
                    target, reaction, ..
                } => (reaction.as_str(), Kind::Unreact(*target)),
                Record::Membership { .. } => ("", Kind::Other),
                Record::Identity { .. } => ("", Kind::Identity),
            };
            let sum = message::sum(text);
            hubbub_checker::history::Record {
                channel: record.channel(),
                seq: found.seq,
                user: record.user(),
                id: record.message_id(),
                sum,
                kind,
            }
        });
        recorder.record(Event::Log {
            partition,
            offset: found.next_offset - 1,
            record,
        });
    }
    Ok(())
}

/// Rows, dead letters and counts, by SQL of our own.
async fn rows(system: &System, recorder: &Recorder) -> Result<()> {
    let identity = system.identity();
    let rows = "select h.partition, m.seq, m.body from messages m \
                join channel_heads h using (channel_id) order by m.channel_id, m.seq";
    let mut counts: HashMap<i32, u64> = HashMap::new();
    for line in on_shards(system, rows).await.context("read the rows")? {
        let mut columns = line.splitn(3, '|');
        let mut column = || columns.next().with_context(|| format!("row `{line}`"));
        let partition = column()?.parse().context("a row's partition")?;
        let seq = column()?.parse().context("a row's seq")?;
        let body: Body = serde_json::from_str(column()?).context("a row's body")?;
        let record = record_of(Seq(seq), &body);
        if record.seq.0 > identity.base {
            *counts.entry(partition).or_default() += 1;
        }
        let shown = state_of(&body).map(|state| Event::Shown {
            server: SQL.to_owned(),
            channel: record.channel,
            seq: record.seq,
            state,
        });
        recorder.record(Event::Row { partition, record });
        shown.into_iter().for_each(|shown| recorder.record(shown));
    }
    let dead = "select partition, seq from dead_letters order by partition, seq";
    for line in on_shards(system, dead).await.context("read dead letters")? {
        let [partition, seq] = numbers(&line)?;
        let base = i64::try_from(identity.base).context("a base of 63 bits")?;
        recorder.record(Event::Dead {
            partition: i32::try_from(partition).context("a partition's number")?,
            offset: seq - 1 - base,
        });
    }
    let positions = "select partition, next_offset, duplicates, dead from log_position";
    let positions = on_shards(system, positions).await;
    for line in positions.context("read positions")? {
        let [partition, next_offset, duplicates, dead] = numbers(&line)?;
        let partition = i32::try_from(partition).context("a partition's number")?;
        recorder.record(Event::Counts {
            partition,
            next_offset,
            rows: counts.get(&partition).copied().unwrap_or(0),
            duplicates: u64::try_from(duplicates).context("a count")?,
            dead: u64::try_from(dead).context("a count")?,
        });
    }
    Ok(())
}

fn numbers<const N: usize>(line: &str) -> Result<[i64; N]> {
    let numbers: Vec<i64> = line
        .split('|')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("numbers are expected: `{line}`"))?;
    let found = numbers.try_into().ok();
    found.with_context(|| format!("{N} numbers are expected: `{line}`"))
}

/// What a message says of what was done to it; `None` for another record.
fn state_of(body: &Body) -> Option<State> {
    let Body::Message {
        text,
        edited,
        deleted,
        reactions,
        replies,
        ..
    } = body
    else {
        return None;
    };
    let reactions = reactions.iter().map(|given| {
        let sum = message::sum(&given.reaction);
        (sum, given.users.clone())
    });
    Some(State {
        sum: message::sum(text),
        deleted: *deleted,
        edited: edited.map(|edited| (edited.seq, edited.count)),
        reactions: reactions.collect(),
        thread: replies.as_ref().map(|replies| Thread {
            count: replies.count,
            last: replies.last_seq,
            users: replies.users.clone(),
        }),
        versions: None,
    })
}

/// A channel and who may read it.
#[derive(Clone)]
struct Place {
    channel: ChannelId,
    reader: String,
}

/// One way through a channel's history.
#[derive(Clone, Copy)]
struct Way {
    paging: Paging,
    limit: usize,
    /// Records of every kind.
    every: bool,
    /// With what edited messages said before, to be held against what was done to them.
    versions: bool,
}

const fn way(paging: Paging, limit: usize, every: bool, versions: bool) -> Way {
    Way {
        paging,
        limit,
        every,
        versions,
    }
}

/// Pages of one row take a request each, and are read of some channels only.
const WAYS: [Way; 6] = [
    way(Paging::Forward, 1, false, false),
    way(Paging::Backward, 1, true, false),
    way(Paging::Forward, 7, true, false),
    way(Paging::Backward, 7, false, false),
    way(Paging::Forward, 100, false, true),
    way(Paging::Backward, 100, true, false),
];

/// History as each API server gives it, past HAProxy and every link, and the cursors.
async fn pages(
    system: &System,
    people: &People,
    recorder: &Recorder,
    single_rows_of: usize,
) -> Result<()> {
    let groups = people.everywhere().map(|channel| Place {
        channel,
        reader: ADMIN.to_owned(),
    });
    let directs = people.directs.opened().into_iter();
    let directs = directs.map(|(channel, [one, _])| Place {
        channel,
        reader: one.name,
    });
    let (groups, directs): (Vec<_>, Vec<_>) = (groups.collect(), directs.collect());
    let places: Vec<Place> = groups.iter().chain(&directs).cloned().collect();
    let servers = (0..system.stack().apis().len()).map(|api| {
        let (places, directs, recorder) = (places.clone(), directs.clone(), recorder.clone());
        async move {
            let name = system.stack().api(api).name();
            for place in &directs {
                let http = system.http_at(&place.reader, api)?;
                let receipts = again(async || http.receipts(place.channel).await).await;
                let receipts = receipts.with_context(|| format!("read receipts on {name}"))?;
                let cursors = receipts.receipts.into_iter().map(|it| Cursor {
                    of: it.device.to_string(),
                    delivered: it.delivered,
                    read: it.read,
                });
                recorder.record(Event::Cursors {
                    server: name.clone(),
                    channel: place.channel,
                    cursors: cursors.collect(),
                });
            }
            let mut wanted = Vec::new();
            for way in WAYS {
                for (n, place) in places.iter().enumerate() {
                    // The busy channel and the quiet ones; the popular ones have most rows.
                    if way.limit > 1 || n % single_rows_of == single_rows_of - 1 {
                        wanted.push((place.clone(), way));
                    }
                }
            }
            let reads = wanted.into_iter().map(|(place, way)| {
                let (name, recorder) = (name.clone(), recorder.clone());
                let http = system.http_at(&place.reader, api);
                async move {
                    let channel = place.channel;
                    let entries = through(&http?, channel, way).await;
                    let entries = entries.with_context(|| format!("page {channel} on {name}"))?;
                    write(&recorder, &name, channel, way, &entries)
                }
            });
            let reads = stream::iter(reads).buffer_unordered(AT_ONCE);
            reads.try_collect::<()>().await
        }
    });
    futures_util::future::try_join_all(servers).await?;
    Ok(())
}

fn write(
    recorder: &Recorder,
    server: &str,
    channel: ChannelId,
    way: Way,
    entries: &[Entry],
) -> Result<()> {
    let ids = entries.iter();
    let ids = ids.map(|entry| (entry.seq, entry.body.key().message_id));
    recorder.record(Event::Page {
        server: server.to_owned(),
        channel,
        paging: way.paging,
        limit: u32::try_from(way.limit).context("a small number")?,
        every: way.every,
        entries: ids.collect(),
    });
    for entry in entries.iter().filter(|_| way.versions) {
        let Some(state) = state_of(&entry.body) else {
            continue;
        };
        let versions = entry.versions.iter();
        let versions = versions.map(|it| (it.seq, message::sum(&it.text)));
        recorder.record(Event::Shown {
            server: server.to_owned(),
            channel,
            seq: entry.seq,
            state: State {
                versions: Some(versions.collect()),
                ..state
            },
        });
    }
    Ok(())
}

/// How far the devices came, by SQL.
async fn cursors(system: &System, people: &People, recorder: &Recorder) -> Result<()> {
    let statement = "select channel_id, delivered, read, device_id from member_cursors \
                     where channel_id < 0 order by channel_id, device_id";
    let mut by_channel: HashMap<ChannelId, Vec<Cursor>> = HashMap::new();
    for line in on_shards(system, statement).await.context("read cursors")? {
        let mut columns = line.splitn(4, '|');
        let mut column = || columns.next().with_context(|| format!("cursor `{line}`"));
        let channel = column()?.parse().context("a channel's key")?;
        let channel = ChannelId::from_shard_key(channel).context("a channel's key")?;
        let delivered = Seq(column()?.parse().context("a seq")?);
        let read = Seq(column()?.parse().context("a seq")?);
        by_channel.entry(channel).or_default().push(Cursor {
            of: column()?.to_owned(),
            delivered,
            read,
        });
    }
    for (channel, _) in people.directs.opened() {
        recorder.record(Event::Cursors {
            server: SQL.to_owned(),
            channel,
            cursors: by_channel.remove(&channel).unwrap_or_default(),
        });
    }
    Ok(())
}

/// All of a channel's history in one way, ascending.
async fn through(http: &Http, channel: ChannelId, way: Way) -> Result<Vec<Entry>> {
    match way.paging {
        Paging::Forward => forward(http, channel, way).await,
        Paging::Backward => backward(http, channel, way).await,
    }
}

async fn forward(http: &Http, channel: ChannelId, way: Way) -> Result<Vec<Entry>> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(Seq::ZERO, |entry| entry.seq);
        let page = Page {
            after: Some(after),
            ..asked(way)
        };
        let page = again(async || http.messages(channel, page).await).await?;
        let empty = page.messages.is_empty();
        all.extend(page.messages);
        if !page.has_more || empty {
            return Ok(all);
        }
    }
}

/// From the newest page back, which is asked for without a bound, as a client does.
async fn backward(http: &Http, channel: ChannelId, way: Way) -> Result<Vec<Entry>> {
    let mut pages: Vec<Vec<Entry>> = Vec::new();
    loop {
        let before = pages.last().and_then(|page| page.first()).map(|e| e.seq);
        let page = Page {
            before,
            ..asked(way)
        };
        let page = again(async || http.messages(channel, page).await).await?;
        let empty = page.messages.is_empty();
        pages.push(page.messages);
        if !page.has_more || empty {
            return Ok(pages.into_iter().rev().flatten().collect());
        }
    }
}

fn asked(way: Way) -> Page {
    Page {
        limit: Some(way.limit),
        records: way.every,
        versions: way.versions,
        ..Page::default()
    }
}

/// Asks until a server that was just brought back answers.
async fn again<T>(call: impl AsyncFn() -> Result<T, HttpError>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.retryable() && begun.elapsed() < PATIENCE => sleep(AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
}
