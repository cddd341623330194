//! B18: the HTTP layer alone: a page that is ready in memory (the API's own description), over
//! connections that are kept. The bare program is hyper with a page of the same size.

use super::Bench;
use crate::client::words;
use crate::http;
use crate::pair::Sample;
use crate::peers::{Peer, Settings};
use crate::process::{Meter, Whose};
use crate::results::{Row, Target};
use crate::town::process;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;

/// At one time, one request each.
pub(super) const CONNECTIONS: usize = 8;

/// A server of pages.
pub(super) struct Pages {
    pub(super) addr: SocketAddr,
    pub(super) whose: Vec<Whose>,
    pub(super) requests: Vec<Vec<u8>>,
}

impl Pages {
    /// One round of so many requests.
    pub(super) async fn measure(&self, count: usize) -> Result<Sample> {
        let meter = Meter::start(&self.whose)?;
        let bytes = http::load(self.addr, CONNECTIONS, count, &self.requests).await?;
        ensure!(bytes > 0, "pages are not empty");
        Ok(Sample {
            cpu: meter.used()?,
            operations: count as u64,
            ..Sample::default()
        })
    }
}

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    const PATH: &str = "/openapi.json";
    let cores = bench.cores;
    let count = bench.pick(60_000, 40_000, 100);
    let town = bench.town().await?;
    let api = town.stack.api(0);
    town.pin(cores, &[api])?;
    let body = http::get(api.addr(), PATH, "").await?;
    let bytes = body.len();
    let page = |addr: SocketAddr, whose: Vec<Whose>, path: &str| Pages {
        addr,
        whose,
        requests: vec![http::request(addr, path, "")],
    };
    let mut sides = vec![page(api.addr(), vec![process(api)?], PATH)];
    let args = words(&["bare-http", "--body-bytes", &bytes.to_string()]);
    let (program, event) = bench.floor(&args).await?;
    let addr = event["addr"].as_str().context("where it listens")?;
    let floor = vec![Whose::Process(program.pid()?)];
    sides.push(page(addr.parse()?, floor, "/"));
    let express = bench.peer(Peer::ExpressHello, Settings::default()).await;
    if let Ok(express) = &express {
        let (addr, path) = split(&express.running.url)?;
        let pids = express.running.pids.iter();
        let whose = pids.map(|pid| Whose::Process(*pid)).collect();
        sides.push(page(addr, whose, &format!("{path}/{bytes}")));
    }
    let samples = by_turns(bench, &sides, count).await?;
    let workload = format!("a page of {bytes} B from memory, {CONNECTIONS} connections");
    let row = || Row::new("B18", &workload, "CPU a request, us", "API server");
    let mut rows = vec![
        row()
            .compared("bare hyper", &samples[0], &samples[1])
            .target(Target::AtLeast(0.85)),
    ];
    let name = Peer::ExpressHello.name();
    match (express, samples.get(2)) {
        (Ok(express), Some(theirs)) => {
            let row = row().compared(name, &samples[0], theirs);
            let version = &express.running.version;
            rows.push(row.version(version).target(Target::AtLeast(8.0)));
            express.running.stop().await;
        }
        (Err(verdict), _) => rows.push(row().without(name, verdict)),
        (Ok(_), None) => {}
    }
    program.end().await?;
    Ok(rows)
}

/// All of them, again and again, after one round each that is thrown away.
pub(super) async fn by_turns(
    bench: &Bench,
    sides: &[Pages],
    count: usize,
) -> Result<Vec<Vec<Sample>>> {
    let own = std::process::id();
    if let Some(core) = bench.cores.client {
        crate::process::allow(own, &[core])?;
    }
    let mut samples: Vec<Vec<Sample>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..=bench.rounds() {
        for (side, samples) in sides.iter().zip(&mut samples) {
            let few = if round == 0 { count / 10 } else { count };
            let sample = side.measure(few.max(1)).await?;
            if round > 0 {
                bench.say(&format!(
                    "round {round}: {:.2} us",
                    sample.cost_ns() / 1_000.0
                ));
                samples.push(sample);
            }
        }
    }
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if bench.cores.client.is_some() {
        crate::process::allow(
            own,
            &(0..bench.cores.server.map_or(all, |n| n + 1)).collect::<Vec<_>>(),
        )?;
    }
    Ok(samples)
}

/// Address and path of an `http://` URL.
pub(super) fn split(url: &str) -> Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").context("an http URL")?;
    let (addr, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((
        addr.parse().with_context(|| url.to_owned())?,
        format!("/{path}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        let (addr, path) = split("http://127.0.0.1:80/a/b").expect("a URL");
        assert_eq!((addr.port(), path.as_str()), (80, "/a/b"));
        assert!(split("ws://127.0.0.1:80/").is_err());
    }
}
