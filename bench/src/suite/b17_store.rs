//! B17: from the log into the store: so many records wait in the log while the consumer is
//! frozen; then it goes on. The bare program copies as many rows, a thousand a commit, into a
//! table with the store's partitions and all of its keys; it may not meet a duplicate.

use super::Bench;
use crate::client::words;
use crate::pair::Sample;
use crate::process::{Meter, Whose};
use crate::program::Program;
use crate::results::{Row, Target};
use crate::town::{Town, pid, process};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a text.
const TEXT: usize = 200;
const COPIED: Duration = Duration::from_secs(120);

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let channels = bench.pick(1_000, 1_000, 10);
    let records = bench.pick(60_000, 50_000, 500);
    let single = bench.pick(400, 300, 20);
    let (ids, _) = bench.town().await?.channels(channels).await?;
    let town = bench.running();
    let shards = [town.stack.shard(0), town.stack.shard(1)];
    town.pin(cores, &[town.stack.consumer(0), shards[0], shards[1]])?;
    let mut copy = copy_program(bench, records, 1_000, channels)?;
    let mut one_row = copy_program(bench, single, 1, channels)?;
    let url_family = [Whose::Family(pid(shards[0])?)];

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut rates, mut copy_rates) = (Vec::new(), Vec::new());
    let mut commits = 0.0;
    for round in 0..=bench.rounds() {
        let (sample, seconds, batches) = consume(town, &ids, records).await?;
        let whose = [url_family[0], Whose::Process(copy.pid()?)];
        let (copied, copy_seconds) = copied(&mut copy, &whose).await?;
        bench.say(&format!(
            "round {round}: consumer {:.1} us and {:.0} rows a second, COPY {:.1} us and {:.0}",
            sample.cost_ns() / 1_000.0,
            records as f64 / seconds,
            copied.cost_ns() / 1_000.0,
            records as f64 / copy_seconds
        ));
        // The first one warms up.
        if round > 0 {
            commits += batches;
            rates.push(records as f64 / seconds);
            copy_rates.push(records as f64 / copy_seconds);
            ours.push(sample);
            theirs.push(copied);
        }
    }
    let whose = [url_family[0], Whose::Process(one_row.pid()?)];
    let (_, seconds) = copied(&mut one_row, &whose).await?;
    let one_by_one = single as f64 / seconds;
    copy.end().await?;
    one_row.end().await?;
    let workload = format!("{records} records of {TEXT} B in {channels} channels, 2 shards");
    let rounds = ours.len();
    Ok(vec![
        Row::new(
            "B17",
            &workload,
            "CPU of consumer and shards a row, us",
            "consumer",
        )
        .compared("pg-copy", &ours, &theirs)
        .count("rows", (records * rounds) as u64)
        .count("transactions", commits as u64)
        .figure("rows_a_transaction", (records * rounds) as f64 / commits)
        .target(Target::AtLeast(0.7)),
        Row::new("B17", &workload, "rows a second", "consumer")
            .against("pg-copy", &rates, &copy_rates)
            .target(Target::AtLeast(0.7)),
        Row::new("B17", &workload, "rows a second", "consumer")
            .against("a row a commit", &rates, &vec![one_by_one; rounds])
            .target(Target::AtLeast(100.0)),
    ])
}

fn copy_program(bench: &Bench, rows: usize, batch: usize, channels: usize) -> Result<Program> {
    let url = bench.running().stack.shard(0).url("postgres");
    let args = words(&[
        "pg-copy",
        "--url",
        &url,
        "--rows",
        &rows.to_string(),
        "--batch",
        &batch.to_string(),
        "--channels",
        &channels.to_string(),
        "--payload",
        &TEXT.to_string(),
    ]);
    bench.floor_on(bench.cores, &args)
}

async fn copied(program: &mut Program, whose: &[Whose]) -> Result<(Sample, f64)> {
    let meter = Meter::start(whose)?;
    program.say("go").await?;
    let done = program.event("done", COPIED).await?;
    let rows = done["rows"].as_u64().context("a number of rows")?;
    let wall_ns = done["wall_ns"].as_u64().context("a time")?;
    let sample = Sample {
        cpu: meter.used()?,
        operations: rows,
        ..Sample::default()
    };
    Ok((sample, wall_ns as f64 / 1e9))
}

/// Fills the log while the consumer is frozen, lets it go on, and waits until all is stored.
/// Gives what it cost, the seconds, and how many transactions it took.
async fn consume(
    town: &Town,
    ids: &[hubbub_protocol::ChannelId],
    records: usize,
) -> Result<(Sample, f64, f64)> {
    let consumer = town.stack.consumer(0);
    let batches = async || town.counter(consumer, "consumer_batches_total", "ok").await;
    let (batches_before, before) = (batches().await?, town.stored().await?);
    consumer.pause();
    let appended = town.append(ids, records, TEXT).await;
    let whose = [
        process(consumer)?,
        Whose::Family(pid(town.stack.shard(0))?),
        Whose::Family(pid(town.stack.shard(1))?),
    ];
    let meter = Meter::start(&whose)?;
    let begun = Instant::now();
    consumer.resume();
    appended?;
    town.wait_stored(before + records as f64).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let sample = Sample {
        cpu: meter.used()?,
        operations: records as u64,
        ..Sample::default()
    };
    Ok((sample, seconds, batches().await? - batches_before))
}
