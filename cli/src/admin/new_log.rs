use std::process::ExitCode;

use anyhow::Context as _;

use super::servers::{Servers, say};
use crate::failure::usage;

/// `hubbub admin new-log`: the remedy for a lost log.
pub(super) async fn run(servers: &Servers, yes: bool) -> anyhow::Result<ExitCode> {
    if !yes {
        return Err(usage(
            "this forgets the old log: what it acknowledged and the store has not read is lost. \
             Stop edge servers, API servers and consumers, then add --yes",
        ));
    }
    let facts = servers.topic().await?;
    let ends = hubbub_log::watermarks(&servers.log).await;
    let ends = ends.context("read the ends of the new log")?;
    if let Some((partition, end)) = (0..).zip(&ends).find(|(_, end): &(i32, _)| end.low > 0) {
        // The positions become 0, and a partition that begins above its position is refused.
        anyhow::bail!(
            "partition {partition} of topic {} begins at offset {}: a new log must be read from its \
             beginning, so name a new topic by HUBBUB_TOPIC, here and for every server",
            servers.log.topic,
            end.low
        );
    }
    if ends.iter().any(|end| end.high > 0) {
        say("  the topic is not empty: its records will be stored as new ones")?;
    }
    servers.marks_topic().await?;
    let identity = servers.identity(&facts);
    let identity = hubbub_store::new_log(&servers.store, &identity)
        .await
        .context("move the store to the new log")?;
    say(&format!(
        "the store follows topic {} of cluster {} now; its seqs start above {}",
        identity.topic, identity.cluster_id, identity.base
    ))?;
    say("start the servers again")?;
    Ok(ExitCode::SUCCESS)
}
