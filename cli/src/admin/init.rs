use std::process::ExitCode;

use anyhow::Context as _;

use super::{
    seed,
    servers::{Servers, patiently, say},
};

/// `hubbub admin init`: idempotent.
pub(super) async fn run(servers: &Servers, with_seed: bool) -> anyhow::Result<ExitCode> {
    let facts = servers.topic().await?;
    let identity = servers.identity(&facts);
    say(&format!(
        "Postgres: core and {} shards: databases, tables, shard map, identities",
        servers.store.shard_urls.len()
    ))?;
    let retryable = |error: &hubbub_store::Error| !matches!(error, hubbub_store::Error::Refused(_));
    patiently("Postgres", retryable, || {
        hubbub_store::init(&servers.store, &identity)
    })
    .await
    .context("prepare the databases (CORE_DATABASE_URL, SHARD_DATABASE_URLS)")?;
    let store = servers.open_store().await?;
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
