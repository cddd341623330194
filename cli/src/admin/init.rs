use std::process::ExitCode;

use anyhow::Context as _;

use super::{
    seed,
    servers::{Servers, patiently, say},
};

/// `hubbub admin init`: idempotent.
pub(super) async fn run(servers: &Servers, with_seed: bool) -> anyhow::Result<ExitCode> {
    let retryable = |error: &hubbub_store::Error| !matches!(error, hubbub_store::Error::Refused(_));
    let stored = patiently("Postgres", retryable, || {
        hubbub_store::stored_log(&servers.store)
    });
    let stored = stored
        .await
        .context("read which log the store belongs to (CORE_DATABASE_URL)")?;
    // Only a store that has no log yet gets a topic. An absent one was lost, or is not the right
    // one: made anew it would give out seqs that are taken.
    let facts = match stored {
        None => servers.topic().await?,
        Some(_) => servers.present_topic().await?,
    };
    let identity = servers.identity(&facts);
    say(&format!(
        "Postgres: core and {} shards: databases, tables, shard map, identities",
        servers.store.shard_urls.len()
    ))?;
    patiently("Postgres", retryable, || {
        hubbub_store::init(&servers.store, &identity)
    })
    .await
    .context("prepare the databases (CORE_DATABASE_URL, SHARD_DATABASE_URLS)")?;
    // After the store agreed that this is its log.
    servers.marks_topic().await?;
    let store = servers.open_store().await?;
    let positions = store.known_positions().await;
    patiently("Kafka", hubbub_log::Error::retryable, || {
        hubbub_log::check_positions(&servers.log, &positions)
    })
    .await
    .context("compare the log with the store")?;
    let log = store.log_identity();
    say(&format!(
        "  log {} of cluster {}, {} partitions, base {}",
        log.topic, log.cluster_id, log.partitions, log.base
    ))?;
    if with_seed {
        seed::run(&store).await?;
    }
    say("ready")?;
    Ok(ExitCode::SUCCESS)
}
