//! What the clients of a run notice, counted.

use std::collections::BTreeMap;

use hubbub_checker::{Event, history::Device};
use parking_lot::Mutex;

/// Counts what devices and writers see. Whoever records the run shows it every event.
#[derive(Debug, Default)]
pub struct Seen {
    counts: Mutex<Counts>,
    /// The pod of each device's connection.
    pods: Mutex<BTreeMap<Device, String>>,
}

/// How often what was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attempts of which nobody knows.
    pub(crate) unknown: u64,
    /// Attempts that were refused.
    pub(crate) rejected: u64,
    /// Messages that were sent again.
    pub(crate) resent: u64,
    /// Connections that ended.
    pub(crate) closed: u64,
    /// By device.
    pub(crate) closed_of: BTreeMap<Device, u64>,
    /// By the pod that they led to.
    pub(crate) closed_on: BTreeMap<String, u64>,
}

impl Seen {
    /// Takes an event of the history. Cheap: most events are none of its.
    pub fn note(&self, event: &Event) {
        match event {
            Event::Unknown { .. } => self.counts.lock().unknown += 1,
            Event::Rejected { .. } => self.counts.lock().rejected += 1,
            Event::Invoke { retry: true, .. } => self.counts.lock().resent += 1,
            Event::Opened { device, pod, .. } => {
                self.pods.lock().insert(device.clone(), pod.clone());
            }
            Event::Closed { device, .. } => {
                let pod = self.pods.lock().remove(device);
                let mut counts = self.counts.lock();
                counts.closed += 1;
                *counts.closed_of.entry(device.clone()).or_default() += 1;
                if let Some(pod) = pod {
                    *counts.closed_on.entry(pod).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// Whether a device has a connection, as far as it knows.
    pub(crate) fn is_open(&self, device: &str) -> bool {
        self.pods.lock().contains_key(device)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}

impl Counts {
    /// What was seen since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let rest = |now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            let rest = now.iter().map(|(name, count)| {
                let count = count - before.get(name).copied().unwrap_or(0);
                (name.clone(), count)
            });
            rest.filter(|(_, count)| *count > 0).collect()
        };
        Self {
            unknown: self.unknown - before.unknown,
            rejected: self.rejected - before.rejected,
            resent: self.resent - before.resent,
            closed: self.closed - before.closed,
            closed_of: rest(&self.closed_of, &before.closed_of),
            closed_on: rest(&self.closed_on, &before.closed_on),
        }
    }
}

#[cfg(test)]
mod tests {
    use hubbub_protocol::UserId;

    use super::*;

    #[test]
    fn closes_are_counted_by_device_and_by_pod() {
        let seen = Seen::default();
        let open = |pod: &str, connection| Event::Opened {
            device: "mary.1".to_owned(),
            user: UserId::new(1).unwrap(),
            connection,
            pod: pod.to_owned(),
        };
        let close = |connection| Event::Closed {
            device: "mary.1".to_owned(),
            connection,
            code: None,
        };
        seen.note(&open("edge-1", 1));
        seen.note(&close(1));
        let before = seen.counts();
        assert!(!seen.is_open("mary.1"));
        seen.note(&open("edge-2", 2));
        assert!(seen.is_open("mary.1"));
        seen.note(&close(2));
        seen.note(&Event::Unknown {
            op: 1,
            code: "timeout".to_owned(),
        });
        let since = seen.counts().since(&before);
        assert_eq!((since.closed, since.unknown, since.rejected), (1, 1, 0));
        assert_eq!(since.closed_on, [("edge-2".to_owned(), 1)].into());
        assert_eq!(since.closed_of, [("mary.1".to_owned(), 1)].into());
    }
}
