//! Who listens to a channel, asked of all pods.

use super::{EDGES, slowest};
use crate::http::{self, Answer};
use crate::results::{Row, Target};
use crate::suite::Bench;
use crate::town::Town;
use anyhow::{Context, Result, ensure};
use hubbub_protocol::ChannelId;
use hubbub_protocol::http::Listeners;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What people wait at most.
const PROMISE_MS: f64 = 300.0;
/// A pod that was late, or stood still and goes on, is heard by then.
const HEARD: Duration = Duration::from_secs(15);
/// Between two questions meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// The question, and what is known of its answer.
struct Asked {
    addr: SocketAddr,
    request: Vec<u8>,
    /// Sockets that listen.
    listeners: usize,
    /// How often a series of questions is asked, until all its answers are right. A pod that is late
    /// is named as missing: on a machine with other work that is no error of the suite.
    attempts: usize,
}

impl Asked {
    async fn ask(&self, connections: usize, count: usize) -> Result<Vec<(Duration, Listeners)>> {
        let answers = http::timed(self.addr, connections, count, &self.request).await?;
        let read = |answer: Answer| -> Result<_> {
            let listeners = serde_json::from_slice(&answer.body);
            Ok((answer.took, listeners.context("understand who listens")?))
        };
        answers.into_iter().map(read).collect()
    }

    /// An answer of all pods.
    async fn of_all_pods(&self) -> Result<Listeners> {
        let begun = Instant::now();
        loop {
            let (_, told) = self.ask(1, 1).await?.remove(0);
            if told.complete {
                return Ok(told);
            }
            let missing = &told.missing;
            ensure!(begun.elapsed() < HEARD, "{missing:?} are not heard");
            sleep(LOOK).await;
        }
    }

    /// A series whose answers are all right; gives how long they took.
    async fn series(
        &self,
        connections: usize,
        count: usize,
        is_right: impl Fn(&Listeners) -> Result<()>,
    ) -> Result<Vec<Duration>> {
        let mut attempt = 1;
        loop {
            let answers = self.ask(connections, count).await.and_then(|answers| {
                answers.iter().try_for_each(|(_, told)| is_right(told))?;
                Ok(answers)
            });
            match answers {
                Ok(answers) => return Ok(answers.into_iter().map(|(took, _)| took).collect()),
                Err(error) if attempt >= self.attempts => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Everybody is named by each answer.
    async fn in_full(&self, connections: usize, count: usize) -> Result<Vec<Duration>> {
        let is_right = |told: &Listeners| {
            ensure!(
                told.complete && told.users.len() == self.listeners,
                "{} listeners, {} were to be; missing: {:?}",
                told.users.len(),
                self.listeners,
                told.missing
            );
            Ok(())
        };
        self.series(connections, count, is_right).await
    }

    /// Everybody but those of a pod that does not answer, which is named.
    async fn without(
        &self,
        pod: &str,
        there: usize,
        connections: usize,
        count: usize,
    ) -> Result<Vec<Duration>> {
        let is_right = |told: &Listeners| {
            let missing: Vec<&str> = told.missing.iter().map(|one| one.as_str()).collect();
            ensure!(
                !told.complete && missing == [pod] && told.users.len() == self.listeners - there,
                "complete: {}, missing: {missing:?}, {} listeners",
                told.complete,
                told.users.len()
            );
            Ok(())
        };
        self.series(connections, count, is_right).await
    }
}

/// Rows of the question. Leaves a pod that stood still for some seconds: what follows must not mind.
pub(super) async fn run(
    bench: &Bench,
    channel: ChannelId,
    listeners: usize,
    token: &str,
) -> Result<Vec<Row>> {
    let in_turn = bench.pick(1_000, 1_000, 20);
    let at_once = bench.pick(200, 200, 20);
    let town = bench.running();
    let addr = town.stack.haproxy().front();
    let path = format!("/channels/{channel}/users");
    let asked = Asked {
        addr,
        request: http::request(addr, &path, token),
        listeners,
        attempts: bench.pick(1, 1, 10),
    };
    let mut rows = Vec::new();
    let mut row = |how: &str, took: &[Duration]| {
        let workload = format!("who listens: {listeners} sockets on {EDGES} pods, {how}");
        let row = slowest(&workload, "slowest answer, ms", took);
        rows.push(
            row.count("answers", took.len() as u64)
                .target(Target::AtMost(PROMISE_MS)),
        );
    };
    row(
        "one question after another",
        &asked.in_full(1, in_turn).await?,
    );
    row(
        &format!("{at_once} at once"),
        &asked.in_full(at_once, at_once).await?,
    );
    let (together, after) = frozen(town, &asked, at_once, bench.pick(4, 4, 1)).await?;
    row(&format!("a pod frozen, {at_once} at once"), &together);
    row("a pod frozen, one after another", &after);
    Ok(rows)
}

/// The last pod stands still, for less than its lease lasts.
async fn frozen(
    town: &Town,
    asked: &Asked,
    at_once: usize,
    in_turn: usize,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let pod = town.stack.edge(EDGES - 1);
    let name = pod.name();
    let told = asked.of_all_pods().await?;
    let there = told.users.iter().filter(|one| one.pod.as_str() == name);
    let there = there.count();
    pod.pause();
    let outcome = async {
        let together = asked.without(&name, there, at_once, at_once).await?;
        let after = asked.without(&name, there, 1, in_turn).await?;
        anyhow::Ok((together, after))
    }
    .await;
    pod.resume();
    let again = asked.of_all_pods().await;
    again.with_context(|| format!("{name} goes on"))?;
    outcome
}
