//! The final reads: history from every API server, the rows, the whole log.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use hubbub_checker::{
    Event,
    history::{Kind, Paging},
};
use hubbub_client::{Http, Page};
use hubbub_protocol::{Body, ChannelId, MessageId, Record, Seq};
use tokio::time::{Instant, sleep};

use crate::{
    message,
    quiet::on_shards,
    recorder::Recorder,
    setup::{ADMIN, People},
    system::System,
    wire::record_of,
};

const LIMITS: [usize; 3] = [1, 7, 100];
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
    )?;
    Ok(())
}

/// The whole log, with a consumer of our own.
async fn log(system: &System, recorder: &Recorder) -> Result<()> {
    let all = hubbub_log::read_all(&system.log()).await;
    for (partition, found) in all.context("read the log")? {
        let record = found.payload.as_deref().map(Record::decode);
        let record = record.and_then(Result::ok).map(|record| {
            let (sum, kind) = match &record {
                Record::Message { text, .. } => (message::sum(text), Kind::Message),
                Record::Membership { .. }
                | Record::Edit { .. }
                | Record::Delete { .. }
                | Record::Reaction { .. }
                | Record::Identity { .. } => (0, Kind::Other),
            };
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
        recorder.record(Event::Row { partition, record });
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

/// History as each API server gives it, past HAProxy and every link.
async fn pages(
    system: &System,
    people: &People,
    recorder: &Recorder,
    single_rows_of: usize,
) -> Result<()> {
    let channels: Vec<ChannelId> = people.everywhere().collect();
    let servers = (0..system.stack().apis().len()).map(|api| {
        let (channels, recorder) = (channels.clone(), recorder.clone());
        async move {
            let http = Arc::new(system.http_at(ADMIN, api)?);
            let name = system.stack().api(api).name();
            let mut wanted = Vec::new();
            for limit in LIMITS {
                for (n, channel) in channels.iter().enumerate() {
                    // The busy channel and the quiet ones; the popular ones have most rows.
                    if limit > 1 || n % single_rows_of == single_rows_of - 1 {
                        wanted.push((*channel, limit, Paging::Forward));
                        wanted.push((*channel, limit, Paging::Backward));
                    }
                }
            }
            let reads = wanted.into_iter().map(|(channel, limit, paging)| {
                let (http, name, recorder) = (Arc::clone(&http), name.clone(), recorder.clone());
                async move {
                    let entries = match paging {
                        Paging::Forward => forward(&http, channel, limit).await,
                        Paging::Backward => backward(&http, channel, limit).await,
                    };
                    let entries = entries.with_context(|| format!("page {channel} on {name}"))?;
                    recorder.record(Event::Page {
                        server: name,
                        channel,
                        paging,
                        limit: u32::try_from(limit).context("a small number")?,
                        entries,
                    });
                    anyhow::Ok(())
                }
            });
            let reads = stream::iter(reads).buffer_unordered(AT_ONCE);
            reads.try_collect::<()>().await
        }
    });
    futures_util::future::try_join_all(servers).await?;
    Ok(())
}

type Entries = Vec<(Seq, MessageId)>;

async fn forward(http: &Http, channel: ChannelId, limit: usize) -> Result<Entries> {
    let mut all = Entries::new();
    loop {
        let after = all.last().map_or(Seq::ZERO, |(seq, _)| *seq);
        let page = Page {
            after: Some(after),
            limit: Some(limit),
            ..Page::default()
        };
        let (rows, more) = read(http, channel, page).await?;
        let empty = rows.is_empty();
        all.extend(rows);
        if !more || empty {
            return Ok(all);
        }
    }
}

/// From the newest page back, which is asked for without a bound, as a client does.
async fn backward(http: &Http, channel: ChannelId, limit: usize) -> Result<Entries> {
    let mut pages: Vec<Entries> = Vec::new();
    loop {
        let before = pages.last().and_then(|page| page.first()).map(|(s, _)| *s);
        let page = Page {
            before,
            limit: Some(limit),
            ..Page::default()
        };
        let (rows, more) = read(http, channel, page).await?;
        let empty = rows.is_empty();
        pages.push(rows);
        if !more || empty {
            return Ok(pages.into_iter().rev().flatten().collect());
        }
    }
}

async fn read(http: &Http, channel: ChannelId, page: Page) -> Result<(Entries, bool)> {
    let begun = Instant::now();
    loop {
        match http.messages(channel, page).await {
            Ok(page) => {
                let rows = page.messages.iter();
                let rows = rows.map(|entry| (entry.seq, entry.body.key().message_id));
                return Ok((rows.collect(), page.has_more));
            }
            Err(error) if error.retryable() && begun.elapsed() < PATIENCE => sleep(AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
}
