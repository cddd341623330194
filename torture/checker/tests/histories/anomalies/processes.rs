//! Anomalies of statuses, resources and logs.

use hubbub_checker::{
    Event,
    history::{Load, Phase},
};

use super::made::Made;
use crate::names;

pub(super) fn status_goes_back(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Status { .. }))?;
    let mut back = made.event(place).clone();
    if let Event::Status { delivered, .. } = &mut back {
        delivered.0 -= 1;
    }
    made.behind(place, back);
    Some(())
}

/// A status names the channel's last row before the device was given it.
pub(super) fn delivered_to_nobody(made: &mut Made) -> Option<()> {
    let last = made.rows_of(names::channel(0)).pop()?.seq;
    let place = made.places(|e| matches!(e, Event::Status { .. }))[0];
    let Event::Status { delivered, .. } = made.event(place) else {
        return None;
    };
    if *delivered == last {
        return None;
    }
    *delivered = last;
    Some(())
}

/// Raises a figure in every final sample.
fn raise(made: &mut Made, figure: &str, to: f64) -> Option<()> {
    let last = made.phase(Phase::Final);
    let entries = made.entries.iter_mut().filter(|e| e.at_us >= last);
    for entry in entries {
        if let Event::Gauge {
            process,
            name,
            value,
            ..
        } = &mut entry.event
            && process == "edge-1"
            && name == figure
        {
            *value = to;
        }
    }
    Some(())
}

pub(super) fn leaked_descriptors(made: &mut Made) -> Option<()> {
    raise(made, "descriptors", 80.0)
}

pub(super) fn connections_beyond_their_bound(made: &mut Made) -> Option<()> {
    raise(made, r#"store_connections_open{database="core"}"#, 9.0)
}

pub(super) fn leaked_memory(made: &mut Made) -> Option<()> {
    raise(made, "rss_bytes", 9e7)
}

pub(super) fn stuck_queue(made: &mut Made) -> Option<()> {
    raise(made, "hubbub_edge_outbox_bytes", 300.0)
}

fn line(made: &mut Made, at_us: u64, level: &str, text: &str) -> Option<()> {
    made.at(
        at_us,
        Event::LogLine {
            process: "edge-1".to_owned(),
            level: level.to_owned(),
            text: text.to_owned(),
        },
    );
    Some(())
}

pub(super) fn panicked(made: &mut Made) -> Option<()> {
    let at = made.phase(Phase::Faults);
    line(made, at, "panic", "ERROR panic panic=index out of bounds")
}

pub(super) fn unexplained_error(made: &mut Made) -> Option<()> {
    let at = made.phase(Phase::Faults) + 1;
    line(made, at, "error", "ERROR a task blocks its thread")
}

pub(super) fn error_long_after_its_fault(made: &mut Made) -> Option<()> {
    let at = made.phase(Phase::Final);
    let text = "ERROR the log's producer failed for good and is replaced: fatal";
    line(made, at, "error", text)
}

/// Changes what one of the dashboards showed.
fn shown(made: &mut Made, change: impl Fn(&mut Load) -> Option<()>) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Looked { .. }))?;
    match made.event(place) {
        Event::Looked { shown, .. } => change(shown),
        _ => None,
    }
}

pub(super) fn stale_count(made: &mut Made) -> Option<()> {
    shown(made, |load| {
        load.sockets += 1;
        Some(())
    })
}

pub(super) fn channel_not_shown(made: &mut Made) -> Option<()> {
    shown(made, |load| load.connections.pop_last().map(|_| ()))
}

pub(super) fn channel_that_nobody_is_in(made: &mut Made) -> Option<()> {
    shown(made, |load| {
        let nobody_is_in = names::channel(load.connections.len());
        load.connections.insert(nobody_is_in, 1);
        Some(())
    })
}

pub(super) fn pod_not_shown(made: &mut Made) -> Option<()> {
    shown(made, |load| {
        load.pods -= 1;
        Some(())
    })
}

pub(super) fn watch_that_does_not_end(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Watched { .. }))?;
    if let Event::Watched { watchers, .. } = made.event(place) {
        *watchers = 1;
    }
    Some(())
}

pub(super) fn join_without_an_answer(made: &mut Made) -> Option<()> {
    let place = made.pick(|e| matches!(e, Event::Asked { .. }))?;
    if let Event::Asked { answered, .. } = made.event(place) {
        *answered = false;
    }
    Some(())
}
