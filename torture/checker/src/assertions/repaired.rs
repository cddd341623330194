//! Which records a connection carried as a repair, told from the wire alone.
//!
//! A feed that repairs gives the missing rows in order of seq and `synced` right behind them, in
//! one step: on the wire they stand together. A live message has its `synced` only after the
//! consumer stored it, which takes a transaction. So a record is taken for a repair if an
//! ascending run of records that ends in a `synced` of at least their seqs begins or goes on with
//! it, each within [`TOGETHER_US`] of the next. In a busy moment a live message may look like one,
//! and a repair whose `synced` waits for the next tick of its edge looks like none: the flag only
//! ever excuses and counts, it accuses nobody.

use crate::index::{Stream, What};

/// What is written in one step arrives within this, on a loaded machine too.
const TOGETHER_US: u64 = 2_000;

/// The run that leads to a `synced`, seen from its end.
struct Run {
    connection: u32,
    at: u64,
    below: u64,
}

/// Tells for each fact of a stream whether it is a record that looks like a repair.
pub(super) fn flags(stream: &Stream, flags: &mut Vec<bool>) {
    flags.clear();
    flags.resize(stream.facts.len(), false);
    let mut run: Option<Run> = None;
    for (fact, flag) in stream.facts.iter().zip(flags).rev() {
        match fact.what {
            What::Synced(seq) => {
                run = Some(Run {
                    connection: fact.connection,
                    at: fact.at,
                    below: seq.saturating_add(1),
                });
            }
            What::Wire { seq, .. } => {
                let goes_on = |run: &Run| {
                    run.connection == fact.connection
                        && seq < run.below
                        && run.at.saturating_sub(fact.at) <= TOGETHER_US
                };
                run = run.filter(goes_on).map(|run| Run {
                    at: fact.at,
                    below: seq,
                    ..run
                });
                *flag = run.is_some();
            }
            // What the client crate says stands between the lines of the wire.
            What::Asked | What::Given { .. } | What::Moved { .. } => {}
            What::Joined(_) | What::Left { .. } | What::Replay(_) => run = None,
        }
    }
}
