//! A15, stale dashboard: where nothing changes, who looks is shown what there is; and a pod that
//! nobody watches any more knows it.

use crate::{Assertion, findings::Findings, history::Load, index::Index};

const A15: Assertion = Assertion::A15;

pub(super) fn check(index: &Index, findings: &mut Findings) {
    for looked in &index.looked {
        let channels = looked.there.connections.len() as u64;
        findings.checked(A15, 2 + channels);
        if let Some(difference) = difference(&looked.there, &looked.shown) {
            findings.broken(A15, "stale dashboard", Some(looked.at), || {
                let server = index.processes.name(looked.server);
                format!("{server} showed {difference}")
            });
        }
    }
    for (at, pod, watchers) in &index.watched {
        findings.checked(A15, 1);
        if *watchers > 0 {
            findings.broken(A15, "stuck watch", Some(*at), || {
                let pod = index.processes.name(*pod);
                format!("{pod} still had {watchers} watchers when nobody looked any more")
            });
        }
    }
}

/// The first thing that is shown wrong.
fn difference(there: &Load, shown: &Load) -> Option<String> {
    let of = |shown: u64, there: u64, what: &str| {
        (shown != there).then(|| format!("{shown} {what} where {there} were"))
    };
    let channels = there.connections.keys().chain(shown.connections.keys());
    let mut channels = channels.map(|channel| {
        let count = |load: &Load| load.connections.get(channel).copied().unwrap_or(0);
        of(
            count(shown),
            count(there),
            &format!("connections in {channel}"),
        )
    });
    of(shown.pods, there.pods, "pods")
        .or_else(|| of(shown.sockets, there.sockets, "sockets"))
        .or_else(|| channels.find_map(|difference| difference))
}
