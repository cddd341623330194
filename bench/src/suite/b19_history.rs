//! B19: pages of history through the API and its shard: the newest, and pages a thousand deep.
//! Held against the same statement by pgbench, against OFFSET, and against Express with pg.

use super::b18_http::{CONNECTIONS, Pages, by_turns, split};
use super::{Bench, Mode};
use crate::http;
use crate::pair::Sample;
use crate::peers::{Peer, Settings};
use crate::process::{Meter, Whose};
use crate::results::{Row, Target, Verdict};
use crate::town::{Town, pid, process};
use anyhow::{Context, Result, ensure};
use hubbub_protocol::ChannelId;
use std::process::Stdio;
use tokio::process::Command;

/// Messages of a page.
const LIMIT: usize = 50;
/// Bytes of a text.
const TEXT: usize = 200;
/// So many pages around a depth are asked for by turns.
const DIFFERENT: usize = 50;

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let pages = bench.pick(1_050, 1_050, 60);
    let count = bench.pick(8_000, 5_000, 60);
    let (ids, _) = bench.town().await?.channels(1).await?;
    let town = bench.running();
    let channel = ids[0];
    let before = town.stored().await?;
    town.append(&ids, pages * LIMIT, TEXT).await?;
    town.wait_stored(before + (pages * LIMIT) as f64).await?;
    let number = town.shard_of(channel);
    let shard = town.stack.shard(number);
    town.shard_sql(number, "vacuum (analyze) messages").await?;
    let api = town.stack.api(0);
    town.pin(cores, &[api, shard])?;
    let whose = vec![process(api)?, Whose::Family(pid(shard)?)];
    let token = format!("Authorization: Bearer {}\r\n", town.everybodys_token()?);
    let deep = bounds(town, channel, pages - DIFFERENT).await?;
    let path = |bound: &str| format!("/channels/{channel}/messages?limit={LIMIT}{bound}");
    let request = |bound: &str| http::request(api.addr(), &path(bound), &token);
    let newest = http::get(api.addr(), &path(""), &token).await?;
    ensure!(
        newest.matches("\"message_id\"").count() == LIMIT,
        "a page of {LIMIT}: {newest}"
    );
    let mut sides = vec![
        Pages {
            addr: api.addr(),
            whose: whose.clone(),
            requests: vec![request("")],
        },
        Pages {
            addr: api.addr(),
            whose,
            requests: deep
                .iter()
                .map(|seq| request(&format!("&before={seq}")))
                .collect(),
        },
    ];
    let settings = Settings {
        postgres_url: town.stack.endpoints().shard_urls.get(number).cloned(),
        ..Settings::default()
    };
    let express = bench.peer(Peer::ExpressPg, settings).await;
    if let Ok(express) = &express {
        let (addr, base) = split(&express.running.url)?;
        let pids = express.running.pids.iter().map(|pid| Whose::Process(*pid));
        let path = format!("{base}/{channel}/messages?limit={LIMIT}");
        sides.push(Pages {
            addr,
            whose: pids.chain([Whose::Family(pid(shard)?)]).collect(),
            requests: vec![http::request(addr, &path, "")],
        });
    }
    let samples = by_turns(bench, &sides, count).await?;

    let workload = format!(
        "pages of {LIMIT} messages of {TEXT} B, {} in the channel",
        pages * LIMIT
    );
    let row = |what: &str| {
        let metric = "CPU of API and shard a page, us";
        Row::new("B19", &format!("{what}: {workload}"), metric, "API server")
    };
    let costs = |samples: &[Sample]| -> Vec<f64> {
        samples
            .iter()
            .map(|sample| sample.cost_ns() / 1_000.0)
            .collect()
    };
    let mut rows = vec![
        row("deep")
            .against("the newest page", &costs(&samples[1]), &costs(&samples[0]))
            .target(Target::AtMost(1.25)),
    ];
    rows.extend(
        Box::pin(with_pgbench(
            bench,
            channel,
            &deep,
            &samples[0],
            count,
            &row,
        ))
        .await?,
    );
    let name = Peer::ExpressPg.name();
    match (express, samples.get(2)) {
        (Ok(express), Some(theirs)) => {
            let version = express.running.version.clone();
            let row = row("newest").compared(name, &samples[0], theirs);
            rows.push(row.version(&version).target(Target::AtLeast(2.0)));
            express.running.stop().await;
        }
        (Err(verdict), _) => rows.push(row("newest").without(name, verdict)),
        (Ok(_), None) => {}
    }
    Ok(rows)
}

/// Seqs before which deep pages lie, by turns.
async fn bounds(town: &Town, channel: ChannelId, page: usize) -> Result<Vec<i64>> {
    let sql = format!(
        "select seq from (
             select seq, row_number() over (order by seq desc) as n
             from messages where channel_id = {}
         ) numbered where n > {} and n % {LIMIT} = 0 order by seq limit {DIFFERENT}",
        channel.number(),
        page * LIMIT
    );
    let text = town.shard_sql(town.shard_of(channel), &sql).await?;
    let seqs = text.lines().map(|line| line.trim().parse::<i64>());
    let seqs: Vec<i64> = seqs.collect::<Result<_, _>>().context("seqs")?;
    ensure!(!seqs.is_empty(), "there are deep pages");
    Ok(seqs)
}

/// The same statement without us, and the way that costs what it skips.
async fn with_pgbench(
    bench: &Bench,
    channel: ChannelId,
    deep: &[i64],
    ours: &[Sample],
    count: usize,
    row: &dyn Fn(&str) -> Row,
) -> Result<Vec<Row>> {
    let columns = "m.seq, m.sender_id, m.client_msg_id, m.body";
    let keyset = format!(
        "select h.through, {columns} from (select coalesce((select through from channel_heads \
         where channel_id = {0}), 0) as through) h left join lateral (select * from messages \
         where channel_id = {0} and seq < 9223372036854775807 order by seq desc limit {1}) m on true;",
        channel.number(),
        LIMIT + 1
    );
    let offset = format!(
        "select {columns} from messages m where channel_id = {} order by seq desc limit {} offset {};",
        channel.number(),
        LIMIT + 1,
        if bench.mode == Mode::Smoke {
            LIMIT
        } else {
            100 * LIMIT
        }
    );
    ensure!(deep.iter().all(|seq| *seq > 0), "seqs are from 1");
    let (mut bare, mut skipping) = (Vec::new(), Vec::new());
    for _ in ours {
        let Some(sample) = pgbench(bench, channel, "keyset", &keyset, count).await? else {
            let why = Verdict::NotMeasured("pgbench is not installed".to_owned());
            return Ok(vec![row("newest").without("pgbench", why)]);
        };
        bare.push(sample);
        // Each is far dearer.
        let few = (count / 10).max(1);
        skipping.extend(pgbench(bench, channel, "offset", &offset, few).await?);
    }
    Ok(vec![
        row("newest")
            .compared("pgbench, same SQL", ours, &bare)
            .target(Target::AtLeast(0.75)),
        row("page 100 by OFFSET")
            .compared("pgbench, OFFSET", ours, &skipping)
            .target(Target::AtLeast(10.0)),
    ])
}

/// CPU of pgbench and the shard together; `None` where there is no pgbench.
async fn pgbench(
    bench: &Bench,
    channel: ChannelId,
    name: &str,
    sql: &str,
    count: usize,
) -> Result<Option<Sample>> {
    let town = bench.running();
    let shard = town.shard_of(channel);
    let file = bench.dir.join(format!("{name}.sql"));
    std::fs::write(&file, sql).context("write pgbench's script")?;
    let url = &town.stack.endpoints().shard_urls[shard];
    let each = (count / CONNECTIONS).max(1);
    let mut command = Command::new("pgbench");
    command
        .args(["-n", "-M", "prepared", "-c", &CONNECTIONS.to_string()])
        .args(["-t", &each.to_string(), "-f"])
        .arg(&file)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Ended children of this process are pgbench alone meanwhile.
    let whose = [
        Whose::Family(pid(town.stack.shard(shard))?),
        Whose::Ended(std::process::id()),
    ];
    let meter = Meter::start(&whose)?;
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("run pgbench"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pgbench: {said}");
    Ok(Some(Sample {
        cpu: meter.used()?,
        operations: (each * CONNECTIONS) as u64,
        ..Sample::default()
    }))
}
