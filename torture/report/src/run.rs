use std::collections::BTreeMap;

use hubbub_checker::FaultKind;
use serde::{Deserialize, Serialize};

/// What a run was: the content of `run.json`, and what one must know to repeat it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The profile, `t0` or `t1`.
    pub profile: String,
    /// The seed that the schedule and the workload were drawn from.
    pub seed: u64,
    /// The planted bug that the servers ran with, if any.
    pub mutant: Option<String>,
    /// The commit that the servers were built from.
    pub commit: String,
    /// Where it ran: processors, memory, kernel.
    pub machine: String,
    /// When it began, milliseconds since 1970.
    pub began_unix_ms: u64,
    /// How long it took, start and stop of the servers included.
    pub took_ms: u64,
    /// The command that runs it again.
    pub command: String,
    /// Sizes and settings: `messages`, `sockets`, `edges`, …
    pub settings: BTreeMap<String, String>,
    /// Kinds of faults that this machine or system cannot have, and why.
    pub left_out: BTreeMap<FaultKind, String>,
    /// What went wrong with the suite itself. A run with an error here is not valid: it shows
    /// neither that the contract holds nor that it does not.
    pub errors: Vec<String>,
}
