use std::collections::{BTreeMap, HashMap};

use hubbub_checker::Event;

use super::{sends::refuses, series::Series};
use crate::measures::Repairs;

const FEED_EVENTS: &str = "hubbub_edge_feed_events_total";
const LAG: &str = "consumer_lag_records";

/// Follows what is sampled of the edges and consumers, and the connections.
#[derive(Debug, Default)]
pub(super) struct Gauges<'a> {
    repairs: Repairs,
    /// The last value of each counter, and of which process it was.
    counters: HashMap<(&'a str, &'a str), (u32, u64)>,
    lags: HashMap<(&'a str, &'a str), f64>,
    /// The sum of the lags after each sample.
    pub(super) lag: Vec<(u64, f64)>,
    samples: HashMap<(&'a str, &'a str), u64>,
    intervals: BTreeMap<u64, u64>,
    /// When anything went wrong on a client, or was repaired: ascending.
    pub(super) effects: Vec<u64>,
}

impl<'a> Gauges<'a> {
    pub(super) fn follow(&mut self, series: &mut Series, at_us: u64, event: &'a Event) {
        match event {
            Event::Gauge {
                process,
                pid,
                name,
                value,
            } => self.gauge(series, at_us, process, *pid, name, *value),
            Event::Opened { connection, .. } if *connection > 1 => {
                series.at(at_us).reconnects += 1;
                self.repairs.reconnects += 1;
            }
            Event::Closed { code, .. } => {
                let code = code.map_or("none".to_owned(), |code| code.to_string());
                *self.repairs.closes.entry(code).or_default() += 1;
                series.at(at_us).closes += 1;
                self.effects.push(at_us);
            }
            Event::Rejected { code, .. } if refuses(code) => {}
            Event::Unknown { .. } | Event::Rejected { .. } => self.effects.push(at_us),
            _ => {}
        }
    }

    pub(super) fn finish(self) -> (Repairs, Vec<u64>, Vec<(u64, f64)>) {
        let mut repairs = self.repairs;
        let total: u64 = self.intervals.values().sum();
        let mut below = 0;
        repairs.sampled_every_us = self
            .intervals
            .into_iter()
            .find(|(_, count)| {
                below += count;
                below * 2 >= total
            })
            .map_or(0, |(every_ms, _)| every_ms * 1000);
        (repairs, self.effects, self.lag)
    }

    fn gauge(
        &mut self,
        series: &mut Series,
        at_us: u64,
        process: &'a str,
        pid: u32,
        name: &'a str,
        value: f64,
    ) {
        match base(name) {
            LAG => {
                self.lags.insert((process, name), value);
                let total = self.lags.values().sum();
                match self.lag.last_mut() {
                    Some((last_us, last)) if *last_us == at_us => *last = total,
                    _ => self.lag.push((at_us, total)),
                }
            }
            FEED_EVENTS => {
                let Some(kind) = label(name, "kind") else {
                    return;
                };
                self.repairs.sampled = true;
                if let Some(before_us) = self.samples.insert((process, name), at_us) {
                    // By milliseconds: only the median is wanted.
                    *self
                        .intervals
                        .entry(at_us.saturating_sub(before_us) / 1000)
                        .or_default() += 1;
                }
                let value = value as u64;
                let before = self.counters.insert((process, name), (pid, value));
                // Another process counts from 0.
                let before = match before {
                    Some((of, before)) if of == pid && before <= value => before,
                    _ => 0,
                };
                let more = value - before;
                if more == 0 {
                    return;
                }
                for sums in [
                    &mut self.repairs.feed_events,
                    &mut series.at(at_us).feed_events,
                ] {
                    *sums.entry(kind.to_owned()).or_default() += more;
                }
                if Repairs::is_repair(kind) {
                    self.effects.push(at_us);
                }
            }
            _ => {}
        }
    }
}

/// A metric's name without its labels.
fn base(name: &str) -> &str {
    name.split('{').next().unwrap_or(name)
}

/// The value of a label in `name{label="value",…}`.
fn label<'a>(name: &'a str, label: &str) -> Option<&'a str> {
    let (_, labels) = name.split_once('{')?;
    labels.trim_end_matches('}').split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == label).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let name = r#"hubbub_edge_feed_events_total{pod="edge-1",kind="repaired"}"#;
        assert_eq!(
            (base(name), label(name, "kind")),
            (FEED_EVENTS, Some("repaired"))
        );
        assert_eq!(
            (base("rss_bytes"), label("rss_bytes", "kind")),
            ("rss_bytes", None)
        );
    }
}
