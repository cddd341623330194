//! What the loss of one process did to the sockets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    life::Outage,
    stats::{Spread, most_in_a_second},
};

/// 99 of 100 affected sockets are back after this.
pub(crate) const BACK_MS: u64 = 10_000;
/// Connections that an affected client tries, on average, are below this.
pub(crate) const ATTEMPTS: f64 = 2.0;

/// One process was taken away: what that did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Leg {
    /// Which process.
    pub process: String,
    /// How it ended, if it was asked to.
    pub exit_code: Option<i32>,
    /// From the signal to its end.
    pub ended_ms: u64,
    /// From the signal to the moment at which it was ready again.
    pub ready_again_ms: u64,
    /// Sockets that lost their connection.
    pub affected: usize,
    /// Those of them that came back: connected, joined, caught up.
    pub back: usize,
    /// From the signal to that, for each of them.
    pub after_signal: Spread,
    /// From its own loss to that, for each of them.
    pub after_loss: Spread,
    /// Connections that were tried, on average.
    pub attempts_mean: f64,
    /// The most that one tried.
    pub attempts_max: u32,
    /// Attempts that were answered with "no room".
    pub refused: u64,
    /// The most handshakes that one edge did within a second.
    pub handshakes_a_second: usize,
    /// Sockets that had heard `goodbye` before.
    pub goodbyes: usize,
}

impl Leg {
    /// Of the outages that it caused, which began at or after `signal`.
    pub(crate) fn of(process: &str, signal: Instant, outages: &[&Outage]) -> Self {
        let back: Vec<(&Outage, Instant)> = outages
            .iter()
            .filter_map(|outage| Some((*outage, outage.up_at?)))
            .collect();
        let mut by_pod: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for outage in outages {
            if let Some(at) = outage.connected_at {
                let moments = by_pod.entry(&outage.new_pod).or_default();
                moments.push(at - signal);
            }
        }
        let attempts: u64 = outages.iter().map(|o| u64::from(o.attempts)).sum();
        Self {
            process: process.to_owned(),
            affected: outages.len(),
            back: back.len(),
            after_signal: Spread::of(back.iter().map(|(_, up)| *up - signal)),
            after_loss: Spread::of(back.iter().map(|(o, up)| *up - o.down_at)),
            attempts_mean: attempts as f64 / outages.len().max(1) as f64,
            attempts_max: outages.iter().map(|o| o.attempts).max().unwrap_or(0),
            refused: outages.iter().map(|o| u64::from(o.refused)).sum(),
            handshakes_a_second: by_pod
                .into_values()
                .map(most_in_a_second)
                .max()
                .unwrap_or(0),
            goodbyes: outages.iter().filter(|o| o.goodbye_ms.is_some()).count(),
            ..Self::default()
        }
    }

    /// What is not as it must be; the first list is about counts, the second about time.
    pub(crate) fn failures(&self, planned: bool) -> (Vec<String>, Vec<String>) {
        let (mut counts, mut times) = (Vec::new(), Vec::new());
        let name = &self.process;
        if self.back < self.affected {
            counts.push(format!(
                "{name}: {} sockets are not back",
                self.affected - self.back
            ));
        }
        if planned && self.exit_code != Some(0) {
            counts.push(format!("{name}: ended with {:?}, not 0", self.exit_code));
        }
        if planned && self.goodbyes < self.affected {
            let without = self.affected - self.goodbyes;
            counts.push(format!(
                "{name}: {without} sockets were cut without a goodbye"
            ));
        }
        if self.after_signal.p99_ms > BACK_MS {
            times.push(format!(
                "{name}: 99 % back after {} ms, not within {BACK_MS}",
                self.after_signal.p99_ms
            ));
        }
        if self.attempts_mean >= ATTEMPTS {
            times.push(format!(
                "{name}: {:.2} attempts a client, not below {ATTEMPTS}",
                self.attempts_mean
            ));
        }
        (counts, times)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn outage(signal: Instant, down: u64, up: Option<u64>, attempts: u32) -> Outage {
        let at = |ms| signal + Duration::from_millis(ms);
        Outage {
            lost_pod: "edge-1".to_owned(),
            down_at: at(down),
            connected_at: up.map(|up| at(up - 1)),
            up_at: up.map(at),
            new_pod: "edge-2".to_owned(),
            attempts,
            refused: attempts - 1,
            goodbye_ms: up,
            close: None,
        }
    }

    #[test]
    fn leg_adds_up_its_outages() {
        let signal = Instant::now();
        let outages = [
            outage(signal, 5, Some(100), 1),
            outage(signal, 10, Some(400), 2),
            outage(signal, 10, None, 4),
        ];
        let all: Vec<&Outage> = outages.iter().collect();
        let leg = Leg::of("edge-1", signal, &all);
        assert_eq!((leg.affected, leg.back, leg.goodbyes), (3, 2, 2));
        assert_eq!(
            (leg.after_signal.p50_ms, leg.after_signal.max_ms),
            (100, 400)
        );
        assert_eq!((leg.after_loss.p50_ms, leg.after_loss.max_ms), (95, 390));
        assert!((leg.attempts_mean - 7.0 / 3.0).abs() < 1e-9);
        assert_eq!((leg.attempts_max, leg.refused), (4, 4));
        assert_eq!(leg.handshakes_a_second, 2);
        let (counts, times) = leg.failures(false);
        assert_eq!(counts, ["edge-1: 1 sockets are not back"]);
        assert_eq!(times, ["edge-1: 2.33 attempts a client, not below 2"]);
        let (counts, _) = leg.failures(true);
        assert_eq!(counts.len(), 3, "{counts:?}");
    }
}
