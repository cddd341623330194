//! B8: CPU of 9,000 sockets that do nothing but answer a ping every 25 s. The edge and a bare
//! program are watched at the same time: neither is busy.

use super::Bench;
use super::b6_idle_memory::JOINS;
use crate::client::{Target as Address, words};
use crate::process::{Meter, Whose};
use crate::results::{Row, Target};
use crate::town::process;
use anyhow::Result;
use std::time::Duration;
use tokio::time::sleep;

const PING_MS: &str = "25000";

pub(super) async fn run(bench: &mut Bench) -> Result<Vec<Row>> {
    let cores = bench.cores;
    let sockets = bench.pick(9_000, 9_000, 60);
    // Two rounds of pings; a sum of several pairs would say the same.
    let window = Duration::from_secs(bench.pick(100, 50, 2));
    let channels = sockets / 3;
    let town = bench.town().await?;
    let (ids, file) = town.channels(channels).await?;
    let tokens = town.people(sockets, JOINS, &ids).await?;
    town.receiving()
        .set_env("HUBBUB_SOCKET_HEARTBEAT_MS", PING_MS);
    town.receiving().restart().await?;
    town.pin(cores, &[town.receiving()])?;
    let edge = process(town.receiving())?;
    let empty = Meter::start(&[edge])?;
    sleep(window / 5).await;
    let empty_us = empty.used()?.total_ns() as f64 / 1_000.0 / (window / 5).as_secs_f64();
    let mut target = town.target(file);
    target.tokens = Some(tokens);
    let more = words(&[
        "--sockets",
        &sockets.to_string(),
        "--joins",
        &JOINS.to_string(),
    ]);
    let load = bench.client("edge-B8", &target, &more).await?;
    let (program, event) = bench.floor(&words(&["idle", "--ping-ms", PING_MS])).await?;
    let floor = Whose::Process(program.pid()?);
    let floor_target = Address::raw(&event, channels)?;
    let floor_load = bench.client("idle-B8", &floor_target, &more).await?;

    let meters = (Meter::start(&[edge])?, Meter::start(&[floor])?);
    sleep(window).await;
    let a_socket = |meter: &Meter| -> Result<f64> {
        let us = meter.used()?.total_ns() as f64 / 1_000.0;
        Ok(us / window.as_secs_f64() / sockets as f64)
    };
    let (ours, theirs) = (a_socket(&meters.0)?, a_socket(&meters.1)?);
    load.end().await?;
    floor_load.end().await?;
    program.end().await?;
    let town = bench.running();
    town.receiving().unset_env("HUBBUB_SOCKET_HEARTBEAT_MS");
    town.receiving().restart().await?;
    let workload = format!("{sockets} idle sockets, {JOINS} joins each, a ping every 25 s");
    let row = Row::new("B8", &workload, "CPU a second and socket, us", "edge")
        .against("idle", &[ours], &[theirs])
        .figure("edge_without_sockets_us_a_second", empty_us);
    Ok(vec![row.target(Target::AtMost(1.5))])
}
