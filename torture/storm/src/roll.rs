//! One process that is told to end, ends, and is started again.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use hubbub_stack::{Role, Service};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use crate::{crowd::Crowd, life::Outage, stats::Spread};

/// `RFC 6455` service restart: what a drained socket is closed with.
const RESTART: u16 = 1012;
/// Between two looks at `/readyz`.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Everybody has come back by then.
const PATIENCE: Duration = Duration::from_secs(40);
/// Half the sockets are told different delays, or the delays are not spread.
const SPREAD_FROM: usize = 8;

/// What a roll did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Roll {
    /// Which process.
    pub process: String,
    /// Which round, from 1.
    pub round: usize,
    /// How it ended; none: by a signal.
    pub exit_code: Option<i32>,
    /// From SIGTERM to its end.
    pub took_ms: u64,
    /// From SIGTERM to the first 404 of `/readyz`; none: it ended before one was seen.
    pub not_ready_ms: Option<u64>,
    /// Sockets that it had at SIGTERM.
    pub sockets: usize,
    /// Those of them that heard `goodbye` and were then closed with 1012.
    pub sent_away: usize,
    /// Sockets of other processes that lost their connection meanwhile.
    pub bystanders: usize,
    /// The delays that `goodbye` named.
    pub delays: Spread,
    /// How many different ones.
    pub distinct_delays: usize,
    /// From its own close until it was back, for each socket.
    pub back: Spread,
    /// Sockets that did not come back.
    pub missing: usize,
    /// Sends that became unknown meanwhile.
    pub unknown: u64,
}

impl Roll {
    /// Rolls `service` while the crowd listens. `unknown` counts the unknown sends so far.
    pub(crate) async fn run(
        service: &Service,
        round: usize,
        crowd: &mut Crowd,
        http: &reqwest::Client,
        unknown: impl Fn() -> u64,
    ) -> anyhow::Result<Self> {
        let process = service.name();
        let here: BTreeSet<usize> = crowd.on(&process).into_iter().collect();
        let before = unknown();
        let signal = Instant::now();
        // The end is waited for as long as the stack gives, which is longer than any grace.
        let (status, not_ready) = tokio::join!(service.stop(), not_ready(service, http, signal));
        let took = signal.elapsed();
        let start = service.start().await;
        start.with_context(|| format!("start {process} again"))?;
        // Those who are missing are counted below.
        crowd.wait_up(PATIENCE).await.ok();
        let mut roll = Self {
            process,
            round,
            exit_code: status.and_then(|status| status.code()),
            took_ms: took.as_millis() as u64,
            not_ready_ms: not_ready.map(|d| d.as_millis() as u64),
            sockets: here.len(),
            unknown: unknown() - before,
            missing: crowd.len() - crowd.up(),
            ..Self::default()
        };
        roll.count(&here, &crowd.outages(signal));
        Ok(roll)
    }

    fn count(&mut self, here: &BTreeSet<usize>, outages: &[(usize, Outage)]) {
        let (ours, others): (Vec<_>, Vec<_>) = outages.iter().partition(|(n, _)| here.contains(n));
        let away = |outage: &Outage| outage.goodbye_ms.is_some() && outage.close == Some(RESTART);
        self.sent_away = ours.iter().filter(|(_, outage)| away(outage)).count();
        self.bystanders = others.len();
        let delays: Vec<u64> = ours.iter().filter_map(|(_, o)| o.goodbye_ms).collect();
        self.delays = Spread::of(delays.iter().map(|ms| Duration::from_millis(*ms)));
        self.distinct_delays = delays.into_iter().collect::<BTreeSet<_>>().len();
        let back = ours.iter().filter_map(|(_, o)| Some(o.up_at? - o.down_at));
        self.back = Spread::of(back);
    }

    /// What is not as it must be, of a process with this grace.
    pub(crate) fn failures(&self, role: Role, grace: Duration) -> Vec<String> {
        let mut found = Vec::new();
        let mut require = |holds: bool, what: String| {
            if !holds {
                found.push(format!("{} in round {}: {what}", self.process, self.round));
            }
        };
        require(
            self.exit_code == Some(0),
            format!("ended with {:?}, not 0", self.exit_code),
        );
        require(
            u128::from(self.took_ms) < grace.as_millis(),
            format!("took {} ms of {} s", self.took_ms, grace.as_secs()),
        );
        // A consumer is behind no load balancer and has no time to show it.
        require(
            role == Role::Consumer || self.not_ready_ms.is_some(),
            "ended without a 404 of /readyz before".to_owned(),
        );
        require(
            self.sent_away == self.sockets,
            format!(
                "{} of {} sockets heard goodbye and were closed with {RESTART}",
                self.sent_away, self.sockets
            ),
        );
        require(
            self.sockets < SPREAD_FROM || self.distinct_delays * 2 > self.sockets,
            format!(
                "{} sockets were told {} different delays",
                self.sockets, self.distinct_delays
            ),
        );
        require(
            self.bystanders == 0,
            format!("{} sockets of others were cut", self.bystanders),
        );
        require(
            self.missing == 0,
            format!("{} sockets are not back", self.missing),
        );
        require(self.unknown == 0, format!("{} sends unknown", self.unknown));
        found
    }
}

async fn not_ready(service: &Service, http: &reqwest::Client, signal: Instant) -> Option<Duration> {
    let url = format!("http://{}/readyz", service.ops_addr());
    while service.is_running() {
        match http.get(&url).send().await {
            Ok(answer) if answer.status() == reqwest::StatusCode::NOT_FOUND => {
                return Some(signal.elapsed());
            }
            // It still calls itself ready, or does not answer any more.
            Ok(_) | Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
    None
}

/// A start that must be refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which process.
    pub process: String,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// What it said about its grace.
    pub message: String,
}

/// A grace that no process accepts.
const SHORT: &str = "5";
/// Wrong configuration.
const EXIT_CONFIG: i32 = 64;
/// A process that refuses says so at once.
const REFUSES: Duration = Duration::from_secs(10);

impl Refusal {
    /// Ends `service`, starts it with a grace that is too short, and again without.
    pub(crate) async fn run(service: &Service) -> anyhow::Result<Self> {
        const GRACE: &str = "HUBBUB_GRACE_S";
        let process = service.name();
        service.stop().await;
        service.set_env(GRACE, SHORT);
        service.spawn().await?;
        let status = timeout(REFUSES, service.exited()).await;
        let log = service.log_since_start();
        service.stop().await;
        service.unset_env(GRACE);
        service.start().await?;
        let line = log.lines().find(|line| line.contains("--grace-s"));
        Ok(Self {
            process,
            exit_code: status.ok().flatten().and_then(|status| status.code()),
            message: line.unwrap_or_default().trim().to_owned(),
        })
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.exit_code != Some(EXIT_CONFIG) {
            let code = self.exit_code;
            found.push(format!(
                "{}: a grace of {SHORT} s ends with {code:?}, not {EXIT_CONFIG}",
                self.process
            ));
        }
        // The line was found by the name of the flag; how long a grace must be is a figure.

        if !self.message.chars().any(|c| c.is_ascii_digit()) {
            found.push(format!(
                "{}: its refusal does not name the figure: {:?}",
                self.process, self.message
            ));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn outage(goodbye_ms: Option<u64>, close: Option<u16>) -> Outage {
        let down_at = Instant::now();
        Outage {
            lost_pod: "edge-1".to_owned(),
            down_at,
            connected_at: Some(down_at),
            up_at: Some(down_at + Duration::from_millis(300)),
            new_pod: "edge-2".to_owned(),
            attempts: 1,
            refused: 0,
            goodbye_ms,
            close,
        }
    }

    fn roll(outages: &[(usize, Outage)]) -> Roll {
        let mut roll = Roll {
            process: "edge-1".to_owned(),
            round: 1,
            exit_code: Some(0),
            took_ms: 900,
            not_ready_ms: Some(4),
            sockets: 10,
            ..Roll::default()
        };
        roll.count(&(0..10).collect(), outages);
        roll
    }

    fn good() -> Vec<(usize, Outage)> {
        let away = |n: usize| (n, outage(Some(50 + n as u64 % 7), Some(RESTART)));
        (0..10).map(away).collect()
    }

    fn failures(roll: &Roll) -> usize {
        roll.failures(Role::Edge, GRACE).len()
    }

    #[test]
    fn good_roll_passes_and_is_counted() {
        let roll = roll(&good());
        assert_eq!(failures(&roll), 0, "{:?}", roll.failures(Role::Edge, GRACE));
        assert_eq!((roll.sent_away, roll.bystanders), (10, 0));
        assert_eq!((roll.delays.min_ms, roll.delays.max_ms), (50, 56));
        assert_eq!((roll.distinct_delays, roll.back.p99_ms), (7, 300));
    }

    #[test]
    fn each_promise_of_a_drain_is_judged() {
        let mut cut = good();
        cut[3].1 = outage(Some(60), None);
        assert_eq!(failures(&roll(&cut)), 1, "cut after a goodbye");
        cut[3].1 = outage(None, Some(RESTART));
        assert_eq!(failures(&roll(&cut)), 1, "closed without a goodbye");
        cut.remove(3);
        assert_eq!(failures(&roll(&cut)), 1, "never told at all");
        let mut other = good();
        other.push((77, outage(None, None)));
        assert_eq!(failures(&roll(&other)), 1, "a bystander");
        let herd = (0..10).map(|n| (n, outage(Some(500), Some(RESTART))));
        assert_eq!(failures(&roll(&herd.collect::<Vec<_>>())), 1, "a herd");
        let spoils: [fn(&mut Roll); 5] = [
            |roll| roll.exit_code = None,
            |roll| roll.took_ms = 30_000,
            |roll| roll.not_ready_ms = None,
            |roll| roll.missing = 1,
            |roll| roll.unknown = 1,
        ];
        for spoil in spoils {
            let mut roll = roll(&good());
            spoil(&mut roll);
            assert_eq!(failures(&roll), 1, "{roll:?}");
        }
        let mut consumer = roll(&good());
        consumer.not_ready_ms = None;
        assert_eq!(consumer.failures(Role::Consumer, GRACE).len(), 0);
    }

    #[test]
    fn refusal_must_have_its_code_and_its_figure() {
        let refusal = |exit_code, message: &str| Refusal {
            process: "edge-1".to_owned(),
            exit_code,
            message: message.to_owned(),
        };
        let text = "--grace-s 5 is too short: 10000 sockets at --drain-rate 500 need 30";
        assert_eq!(refusal(Some(64), text).failures().len(), 0);
        assert_eq!(refusal(Some(1), text).failures().len(), 1);
        assert_eq!(refusal(None, "").failures().len(), 2);
        assert_eq!(refusal(Some(64), "--grace-s is wrong").failures().len(), 1);
    }
}
