use std::sync::Arc;

use hubbub_protocol::{ChannelId, partition_of};

use crate::{
    Error, LogIdentity, Metrics,
    database::{self, Database, Place, READ_DEADLINE},
    identity::{self, CoreIdentity, ShardIdentity},
    pool::{self, Pool},
};

/// Where the databases are, and how many connections each may have.
#[derive(Clone)]
pub struct Config {
    /// `postgres://…` of the core database.
    pub core_url: String,
    /// The same of each shard, in the order of their numbers.
    pub shard_urls: Vec<String>,
    /// Connections to the core database, at least 1.
    pub core_connections: u32,
    /// Connections to each shard, at least 1.
    pub shard_connections: u32,
}

impl std::fmt::Debug for Config {
    /// Leaves the addresses out: they may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("shards", &self.shard_urls.len())
            .field("core_connections", &self.core_connections)
            .field("shard_connections", &self.shard_connections)
            .finish_non_exhaustive()
    }
}

/// Cheap handle; connections inside; every call has a deadline.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Database,
    shards: Vec<Database>,
    identity: CoreIdentity,
    /// The shard of each partition.
    map: Vec<usize>,
}

impl Store {
    /// Reads the maps and identities and tries every shard once. Fails if the core database is
    /// away, and refuses, naming the remedy, where migrations are pending, `hubbub admin init`
    /// has not run, or a shard says it is another one. A shard that is away is no error: it is
    /// checked on the first connection to it.
    pub async fn open(config: &Config, metrics: &Metrics) -> Result<Self, Error> {
        let (identity, map) = read_core(config).await?;
        if let Some(shard) = map.iter().copied().max()
            && shard >= config.shard_urls.len()
        {
            return Err(Error::Refused(format!(
                "shard_map names shard {shard}, but SHARD_DATABASE_URLS has {} addresses: name \
                 them all, in the order of `hubbub admin init`",
                config.shard_urls.len()
            )));
        }
        let verify = pool::verify_core(Some(identity.clone()));
        let core = connect(
            Place::Core,
            &config.core_url,
            config.core_connections,
            metrics,
            verify,
        )?;
        let mut shards = Vec::with_capacity(config.shard_urls.len());
        for (shard, url) in config.shard_urls.iter().enumerate() {
            let verify = pool::verify_shard(ShardIdentity::expected(&identity, shard));
            let place = Place::Shard(shard);
            shards.push(connect(
                place,
                url,
                config.shard_connections,
                metrics,
                verify,
            )?);
        }
        let inner = Inner {
            core,
            shards,
            identity,
            map,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.try_shards().await?;
        Ok(store)
    }

    /// Refuses a wrong shard; one that is away is logged where that was noticed.
    async fn try_shards(&self) -> Result<(), Error> {
        let tries = self.inner.shards.iter().map(Database::start);
        for tried in futures_util::future::join_all(tries).await {
            if let Err(error @ Error::Refused(_)) = tried {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The log that the stored seqs come from, as `hubbub admin init` wrote it.
    pub fn log_identity(&self) -> &LogIdentity {
        &self.inner.identity.log
    }

    /// How many shards are configured.
    pub fn shards(&self) -> usize {
        self.inner.shards.len()
    }

    /// The shard that holds a partition.
    ///
    /// # Panics
    /// If `partition` is not one of the log's (`log_identity().partitions`).
    pub fn shard_of_partition(&self, partition: i32) -> usize {
        usize::try_from(partition)
            .ok()
            .and_then(|at| self.inner.map.get(at).copied())
            .expect("the log has only the partitions of its identity, which open has compared")
    }

    /// The shard that holds a channel.
    pub fn shard_of(&self, channel: ChannelId) -> usize {
        self.shard_of_partition(partition_of(channel, self.log_identity().partitions))
    }

    pub(crate) fn core(&self) -> &Database {
        &self.inner.core
    }

    /// # Panics
    /// If `shard` is not below `shards()`.
    pub(crate) fn shard(&self, shard: usize) -> &Database {
        &self.inner.shards[shard]
    }

    pub(crate) fn channel_shard(&self, channel: ChannelId) -> &Database {
        self.shard(self.shard_of(channel))
    }

    /// The partitions that a shard holds.
    pub(crate) fn partitions_of(&self, shard: usize) -> impl Iterator<Item = i32> + '_ {
        (0_i32..)
            .zip(&self.inner.map)
            .filter(move |&(_, &at)| at == shard)
            .map(|(partition, _)| partition)
    }
}

fn connect(
    place: Place,
    url: &str,
    connections: u32,
    metrics: &Metrics,
    verify: pool::Verify,
) -> Result<Database, Error> {
    let options = database::options(place, url)?;
    let label = Database::label(place);
    let pool = Pool::new(options, connections, label, metrics.clone(), verify);
    Ok(Database::new(place, pool))
}

/// The identity and the shard map, over a connection of its own: until they are known there is
/// nothing to check a pool against.
async fn read_core(config: &Config) -> Result<(CoreIdentity, Vec<usize>), Error> {
    let options = database::options(Place::Core, &config.core_url)?;
    let read = async {
        let mut conn = database::connect_admin(Place::Core, &options).await?;
        (pool::verify_core(None))(&mut conn).await?;
        let identity = identity::read_core(&mut conn).await?;
        let map = identity::read_shard_map(&mut conn).await?;
        pool::close(conn).await;
        Ok((identity, map))
    };
    let (identity, map) = tokio::time::timeout(READ_DEADLINE, read)
        .await
        .unwrap_or_else(|_| Err(pool::away("no answer within the deadline")))
        .map_err(|error| Place::Core.start_error(error))?;
    let not_initialised = || {
        Error::Refused(
            "the core database has no log identity or shard map: run `hubbub admin init`"
                .to_owned(),
        )
    };
    let identity = identity.ok_or_else(not_initialised)?;
    if map.len() != identity.log.partitions as usize {
        return Err(not_initialised());
    }
    Ok((identity, map))
}
