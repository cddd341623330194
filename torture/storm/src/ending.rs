//! The end of every run: all is quiet, and every socket is compared with the store.

use std::{collections::HashMap, time::Duration};

use hubbub_protocol::ChannelId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    crowd::Crowd,
    diff::Diff,
    town::Town,
    writers::{Ledger, Sends},
};

/// For the last messages to reach everybody (contract P7 and a busy machine).
const QUIET: Duration = Duration::from_secs(20);

/// What everybody had in the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ending {
    /// What became of the sends.
    pub sends: Sends,
    /// Records in the store.
    pub stored: u64,
    /// Acknowledged messages that are not in the store.
    pub acked_missing: u64,
    /// What all sockets were given against what the store has.
    pub diff: Diff,
    /// From the last answer until every socket was told that it has everything.
    pub quiet_ms: u64,
    /// Differences, ends for good and panics, in words.
    pub words: Vec<String>,
    /// The first unknown and failed sends, in words.
    pub notes: Vec<String>,
}

impl Ending {
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut found = self.words.clone();
        if !self.diff.is_clean() {
            let Diff {
                lost,
                doubled,
                foreign,
                ..
            } = self.diff;
            found.push(format!("{lost} lost, {doubled} doubled, {foreign} foreign"));
        }
        if self.acked_missing > 0 {
            found.push(format!(
                "{} acknowledged and not stored",
                self.acked_missing
            ));
        }
        if self.sends.failed + self.sends.full > 0 {
            let Sends { failed, full, .. } = self.sends;
            found.push(format!("{failed} sends failed, {full} were not taken"));
        }
        found
    }
}

impl Ending {
    /// Waits until all is quiet and compares every socket with the store.
    /// An end that cannot be compared is wrong, and what was measured before it stands.
    pub(crate) async fn of(town: &Town, crowd: &Crowd, ledger: &Mutex<Ledger>) -> Self {
        match Self::compare(town, crowd, ledger).await {
            Ok(ending) => ending,
            Err(error) => Self {
                sends: ledger.lock().sends.clone(),
                words: vec![format!("the end cannot be compared: {error:#}")],
                notes: ledger.lock().words.clone(),
                ..Self::default()
            },
        }
    }

    async fn compare(town: &Town, crowd: &Crowd, ledger: &Mutex<Ledger>) -> anyhow::Result<Self> {
        town.wait_stored().await?;
        let http = town.http()?;
        let mut stored: HashMap<ChannelId, Vec<u64>> = HashMap::new();
        let mut missing = ledger.lock().acked.clone();
        for channel in &town.channels {
            let history = town.history(&http, *channel).await?;
            for (_, id) in &history {
                missing.remove(id);
            }
            let seqs = history.into_iter().map(|(seq, _)| seq);
            stored.insert(*channel, seqs.collect());
        }
        let quiet = crowd.wait_synced(&stored, QUIET).await;
        let (diff, mut words) = crowd.compare(&stored);
        let broken = crowd.broken();
        words.extend(
            broken
                .iter()
                .take(20)
                .map(|(n, what)| format!("socket {n}: {what}")),
        );
        words.extend(town.panics());
        let ledger = ledger.lock();
        Ok(Self {
            sends: ledger.sends.clone(),
            stored: stored.values().map(|seqs| seqs.len() as u64).sum(),
            acked_missing: missing.len() as u64,
            diff,
            quiet_ms: quiet.as_millis() as u64,
            words,
            notes: ledger.words.clone(),
        })
    }
}
