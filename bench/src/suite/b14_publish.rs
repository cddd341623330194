//! B14: many tasks publish to Redis at once through our publisher, which writes what came during
//! one turn as one pipeline. The bare program writes the protocol by hand, as deeply pipelined;
//! a second bare run waits for each answer.

use super::Bench;
use crate::client::words;
use crate::machine::Cores;
use crate::pair::Sample;
use crate::process::{Cpu, Meter, Whose, pin};
use crate::program::Program;
use crate::results::{Row, Target};
use crate::town::{pid, process};
use anyhow::{Context, Result};
use bytes::Bytes;
use hubbub_bus::{Config, Metrics, Publisher};
use hubbub_protocol::{BusChannel, ChannelId, ChannelLetter};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Bytes of a message.
const PAYLOAD: usize = 200;
/// A round is a matter of seconds.
const ROUND: Duration = Duration::from_secs(60);
/// Channels that are published to; nobody listens.
const CHANNELS: i64 = 100;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for senders in [64, 512] {
        rows.extend(Box::pin(pairs(bench, senders)).await?);
    }
    Ok(rows)
}

/// Of one side: what Redis used, and what the client did.
#[derive(Debug, Default)]
struct Both {
    redis: Vec<Sample>,
    client: Vec<Sample>,
}

async fn pairs(bench: &mut Bench, senders: usize) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let messages = bench.pick(600_000, 400_000, 500);
    let alone = bench.pick(20_000, 10_000, 50);
    let town = bench.town().await?;
    town.pin(cores, &[])?;
    pin(pid(town.stack.redis())?, cores.server)?;
    let redis = process(town.stack.redis())?;
    let url = town.stack.endpoints().redis_url.clone();
    let mut ours = subject_program(bench, &url, senders, messages)?;
    let mut floor = floor_program(bench, &url, senders, messages)?;
    let mut single = floor_program(bench, &url, 1, alone)?;
    let (mut us, mut bare, mut one) = (Both::default(), Both::default(), Both::default());
    let rounds = bench.rounds();
    for round in 0..=rounds {
        for (program, both) in [(&mut ours, &mut us), (&mut floor, &mut bare)] {
            let (redis, client) = measure(program, redis).await?;
            // The first round warms up.
            if round > 0 {
                both.redis.push(redis);
                both.client.push(client);
            }
        }
    }
    let (redis_alone, client_alone) = measure(&mut single, redis).await?;
    one.redis = vec![redis_alone; rounds];
    one.client = vec![client_alone; rounds];
    for program in [ours, floor, single] {
        program.end().await?;
    }
    let workload = format!("{senders} senders, {PAYLOAD} B, nobody listens");
    let redis_row = || {
        Row::new(
            "B14",
            &workload,
            "Redis's CPU a publish, us",
            "our publisher",
        )
    };
    let client = Row::new(
        "B14",
        &workload,
        "the client's CPU a publish, us",
        "our publisher",
    );
    Ok(vec![
        redis_row()
            .compared("resp-floor", &us.redis, &bare.redis)
            .target(Target::AtLeast(1.0 / 1.3)),
        redis_row()
            .compared("resp-floor, each awaited", &us.redis, &one.redis)
            .target(Target::AtLeast(15.0)),
        client
            .compared("resp-floor", &us.client, &bare.client)
            .target(Target::AtLeast(1.0 / 3.0)),
    ])
}

async fn measure(program: &mut Program, redis: Whose) -> Result<(Sample, Sample)> {
    let whose = [redis, Whose::Process(program.pid()?)];
    let meters = whose.map(|one| Meter::start(&[one]));
    program.say("go").await?;
    let done = program.event("done", ROUND).await?;
    let operations = done["messages"].as_u64().context("a number of messages")?;
    let sample = |cpu: Cpu| Sample {
        cpu,
        operations,
        ..Sample::default()
    };
    let [redis, client] = meters;
    Ok((sample(redis?.used()?), sample(client?.used()?)))
}

fn subject_program(bench: &Bench, url: &str, senders: usize, messages: usize) -> Result<Program> {
    let args = words(&[
        "--subject-publish",
        url,
        "--senders",
        &senders.to_string(),
        "--messages",
        &messages.to_string(),
    ]);
    let program = Program::start(
        "publish",
        &bench.tools.join("bench"),
        &args,
        &[],
        &bench.dir,
    )?;
    pin(program.pid()?, bench.cores.client)?;
    Ok(program)
}

fn floor_program(bench: &Bench, url: &str, senders: usize, messages: usize) -> Result<Program> {
    let args = words(&[
        "resp-floor",
        "publish",
        "--redis",
        url,
        "--senders",
        &senders.to_string(),
        "--messages",
        &messages.to_string(),
        "--payload",
        &PAYLOAD.to_string(),
        "--channels",
        &CHANNELS.to_string(),
    ]);
    let cores = Cores {
        // Redis has the server core to itself.
        server: bench.cores.client,
        client: bench.cores.client,
    };
    bench.floor_on(cores, &args)
}

/// The process that is measured: tasks that publish through our publisher, at each line of input.
///
/// # Errors
/// When Redis is not there.
pub async fn subject(url: &str, senders: usize, messages: usize) -> Result<()> {
    let config = Config::new(url, "bench".parse().context("a pod's id")?);
    let (publisher, task) = Publisher::new(&config, &Metrics::default());
    let stop = CancellationToken::new();
    let mut actor = JoinSet::new();
    actor.spawn(task.run(stop.clone()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        let mut tasks = JoinSet::new();
        for sender in 0..senders {
            let publisher = publisher.clone();
            let count = (messages + senders - 1 - sender) / senders;
            tasks.spawn(send(publisher, sender, count));
        }
        let mut sent = 0;
        while let Some(done) = tasks.join_next().await {
            sent += done.context("a sender's task")??;
        }
        let done: Value = json!({"event": "done", "messages": sent});
        println!("{done}");
    }
    stop.cancel();
    while let Some(ended) = actor.join_next().await {
        ended.context("the publisher's task")??;
    }
    Ok(())
}

/// Each waits for Redis's answer before it sends the next, as a request of a user would; together
/// they fill the pipeline.
async fn send(publisher: Publisher, sender: usize, count: usize) -> Result<usize> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD]);
    for n in 0..count {
        let number = i64::try_from(sender + n)? % CHANNELS + 1;
        let channel = ChannelId::new(ChannelLetter::Channel, number).context("an id from 1")?;
        publisher
            .publish(&BusChannel::Channel(channel), payload.clone())
            .await?;
    }
    Ok(count)
}
