//! The pass over a history.

mod bits;
mod faults;
mod gauges;
mod index;
mod listeners;
mod points;
mod recovery;
mod sends;
mod series;

use hubbub_checker::{
    Entry, Event,
    history::{Phase, Via},
};

use crate::measures::{Latency, Measures};
use gauges::Gauges;
use index::Index;
use listeners::Listeners;
use recovery::Recovery;
use sends::Attempts;
use series::{Series, Which};

/// Measures a history, which must be in the order of `at_us`.
///
/// Two passes, O(n). Beside the history it needs memory for each message, a bit for each message
/// and device that listens to its channel, and 8 bytes for each receipt of a live message.
#[must_use]
pub fn measure(entries: &[Entry]) -> Measures {
    let index = Index::of(entries);
    let clusters = faults::clusters(&index);
    let ends: Vec<u64> = clusters.iter().map(|cluster| cluster.end_us).collect();
    let calm = index
        .phase(Phase::Calm)
        .map(|span| (span.start_us, span.end_us));
    let mut pass = Pass {
        index: &index,
        listeners: Listeners::new(&index),
        recovery: Recovery::new(&index, &ends),
        attempts: Attempts::default(),
        gauges: Gauges::default(),
        series: Series::new(index.end_us, calm),
        phase: Phase::Calm,
        faults_on: 0,
    };
    for entry in entries {
        pass.follow(entry.at_us, &entry.event);
    }
    pass.finish(clusters)
}

/// Everything that follows the history, in one pass.
#[derive(Debug)]
struct Pass<'a> {
    index: &'a Index<'a>,
    listeners: Listeners<'a>,
    recovery: Recovery<'a>,
    attempts: Attempts,
    gauges: Gauges<'a>,
    series: Series,
    phase: Phase,
    faults_on: usize,
}

impl<'a> Pass<'a> {
    fn follow(&mut self, at_us: u64, event: &'a Event) {
        self.recovery.pass(&self.listeners, at_us);
        match event {
            Event::Phase(phase) => self.phase = *phase,
            Event::FaultStarted(_) => self.faults_on += 1,
            Event::FaultEnded { .. } => self.faults_on = self.faults_on.saturating_sub(1),
            Event::Given { .. } => self.given(at_us, event),
            _ => {
                if let Some(changed) = self.listeners.follow(at_us, event) {
                    self.recovery.changed(&self.listeners, changed);
                }
                self.recovery.follow(at_us, event);
                let calm = self.phase == Phase::Calm;
                self.attempts
                    .follow(&mut self.series, at_us, event, calm, self.faults_on);
                self.gauges.follow(&mut self.series, at_us, event);
            }
        }
    }

    fn given(&mut self, at_us: u64, event: &'a Event) {
        let Event::Given {
            device,
            record,
            via,
        } = event
        else {
            return;
        };
        let Some(no) = self.index.message(record) else {
            return;
        };
        let message = &self.index.messages[no as usize];
        let pair = self.listeners.pair(device, message.channel);
        self.recovery.given(at_us, pair, message.rank);
        let pair = &mut self.listeners.pairs[pair as usize];
        pair.given.insert(message.rank);
        let Some(stay) = pair.stay.filter(|_| *via == Via::Live) else {
            return;
        };
        let (from_invoke, from_ok) = if stay.ordered {
            (Which::Ordered, Which::OrderedFromOk)
        } else {
            (Which::Plain, Which::PlainFromOk)
        };
        let invoked_us = message.invoked_us;
        self.series
            .latency(from_invoke, invoked_us, at_us.saturating_sub(invoked_us));
        if let Some(ok_us) = message.ok_us {
            self.series
                .latency(from_ok, ok_us, at_us.saturating_sub(ok_us));
        }
    }

    fn finish(self, mut clusters: Vec<crate::measures::Cluster>) -> Measures {
        let Self {
            index,
            listeners,
            recovery,
            attempts,
            gauges,
            series,
            ..
        } = self;
        let (mut sends, gaps) = attempts.finish();
        sends.messages = index.messages.len() as u64;
        sends.abandoned = recovery.abandoned();
        let (repairs, effects, lag) = gauges.finish();
        let times = recovery.finish(&listeners);
        faults::recovered(&mut clusters, &times);
        faults::lagged(
            &mut clusters,
            &lag,
            index.phase(Phase::Calm),
            index.acked_a_second(),
        );
        let faults = faults::faults(index, &clusters, &gaps, &effects);
        Measures {
            end_us: index.end_us,
            phases: index.phases.clone(),
            kinds: faults::kinds(&faults),
            recovery: faults::overall(&faults, &clusters),
            faults,
            clusters,
            sends,
            latency: latency(&series),
            repairs,
            seconds: series.finish(),
        }
    }
}

fn latency(series: &Series) -> Latency {
    let [
        (calm_plain, plain),
        (calm_plain_from_ok, plain_from_ok),
        (calm_ordered, ordered),
        (calm_ordered_from_ok, ordered_from_ok),
    ] = Which::ALL.map(|which| series.overall(which));
    Latency {
        calm_plain,
        calm_plain_from_ok,
        calm_ordered,
        calm_ordered_from_ok,
        plain,
        plain_from_ok,
        ordered,
        ordered_from_ok,
    }
}
