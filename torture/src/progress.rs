//! What people see of a run while it lasts.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hubbub_checker::{Event, Fault, history::Phase};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, interval};

use crate::ledger::Ledger;

/// Counts what is recorded.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// Nobody looks: a test, or the mutants' driver.
    silent: bool,
    ok: AtomicU64,
    unknown: AtomicU64,
    rejected: AtomicU64,
    given: AtomicU64,
    closed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Option<Phase>,
    /// By number.
    under_way: BTreeMap<u32, Fault>,
    over: usize,
    seen: std::collections::BTreeSet<u32>,
}

impl Progress {
    /// Of a run that begins now.
    #[must_use]
    pub fn new(silent: bool) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            silent,
            ok: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            given: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Takes an event of the history.
    pub fn note(&self, event: &Event) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match event {
            Event::Ok { .. } => add(&self.ok),
            Event::Unknown { .. } => add(&self.unknown),
            Event::Rejected { .. } => add(&self.rejected),
            Event::Given { .. } => add(&self.given),
            Event::Closed { .. } => add(&self.closed),
            Event::Phase(phase) => {
                self.state.lock().phase = Some(*phase);
                self.say(&format!("{} begins", word(*phase)));
            }
            Event::FaultStarted(fault) => {
                let mut state = self.state.lock();
                state.under_way.insert(fault.number, fault.clone());
            }
            Event::FaultEnded { number } => {
                let mut state = self.state.lock();
                state.under_way.remove(number);
                state.over += 1;
            }
            Event::FaultSeen { number, .. } => {
                self.state.lock().seen.insert(*number);
            }
            _ => {}
        }
    }

    /// One line, with the time since the start.
    pub fn say(&self, text: &str) {
        if self.silent {
            return;
        }
        let seconds = self.began.elapsed().as_secs();
        let mut out = std::io::stdout().lock();
        // A closed pipe is no reason to stop a run.
        writeln!(out, "{:02}:{:02}  {text}", seconds / 60, seconds % 60).ok();
    }

    /// Says where the run stands, again and again.
    pub async fn tell(&self, ledger: &Ledger, faults: usize, until: Instant, every: Duration) {
        let mut beat = interval(every);
        beat.tick().await;
        loop {
            beat.tick().await;
            let left = until.saturating_duration_since(Instant::now());
            self.say(&self.line(ledger, faults, left));
        }
    }

    fn line(&self, ledger: &Ledger, faults: usize, left: Duration) -> String {
        let (said, open) = ledger.counts();
        let state = self.state.lock();
        let under_way: Vec<String> = state
            .under_way
            .values()
            .map(|fault| format!("#{} {} {}", fault.number, kind(fault), fault.target))
            .collect();
        let under_way = match under_way.is_empty() {
            true => "none".to_owned(),
            false => under_way.join(", "),
        };
        let phase = state.phase.map_or("start", word);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{phase}: {said} messages ({open} open, {} unknown, {} refused), {} received, {} \
             connections lost; faults {} of {faults} over, under way: {under_way}; {} s left",
            load(&self.unknown),
            load(&self.rejected),
            load(&self.given),
            load(&self.closed),
            state.over,
            left.as_secs(),
        )
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Calm => "calm",
        Phase::Faults => "faults",
        Phase::Healed => "healed",
        Phase::Quiet => "quiet",
        Phase::Final => "final reads",
    }
}

/// A kind as the history spells it.
#[must_use]
pub fn kind(fault: &Fault) -> String {
    spelled(&fault.kind)
}

/// A unit variant as JSON spells it, without the quotes.
pub fn spelled<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}
