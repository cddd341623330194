use std::{collections::BTreeSet, time::Duration};

use hubbub_protocol::{PodId, lease_key, pod_of_lease_key};
use redis::{FromRedisValue, Value};

use crate::{Error, Publisher};

/// How long a lease lives after its last renewal. Renew it about every third of that.
pub const LEASE: Duration = Duration::from_secs(5);
/// Keys that one SCAN looks at: Redis holds little else, so one or two calls do.
const SCAN_COUNT: usize = 1_000;

/// Leases of pods: keys `pod:<id>` that expire 5 s after the last renewal. No clock of ours is
/// in it. Cheap handle.
#[derive(Debug, Clone)]
pub struct Leases {
    publisher: Publisher,
}

impl Leases {
    /// Over the publisher's connection, whose deadlines hold.
    pub fn new(publisher: &Publisher) -> Self {
        Self {
            publisher: publisher.clone(),
        }
    }

    /// Takes or prolongs the lease. After an error it may stand or not: who relays to sockets
    /// must stop once its last success is [`LEASE`] ago.
    pub async fn renew(&self, pod: &PodId) -> Result<(), Error> {
        let mut set = redis::cmd("SET");
        set.arg(lease_key(pod))
            .arg(1)
            .arg("EX")
            .arg(LEASE.as_secs());
        self.publisher.command(set).await.map(drop)
    }

    /// Gives the lease back, so that nobody waits for this pod any more.
    pub async fn release(&self, pod: &PodId) -> Result<(), Error> {
        let mut del = redis::cmd("DEL");
        del.arg(lease_key(pod));
        self.publisher.command(del).await.map(drop)
    }

    /// All pods with a lease, sorted, by SCAN; never cached. A lease that stands during the whole
    /// call is in it.
    pub async fn pods(&self) -> Result<Vec<PodId>, Error> {
        let mut pods = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg("pod:*");
            scan.arg("COUNT").arg(SCAN_COUNT);
            let (next, keys) = page(self.publisher.command(scan).await?)?;
            pods.extend(keys.iter().filter_map(|key| pod_of_lease_key(key)));
            if next == "0" {
                return Ok(pods.into_iter().collect());
            }
            cursor = next;
        }
    }
}

fn page(answer: Value) -> Result<(String, Vec<String>), Error> {
    FromRedisValue::from_redis_value(answer).map_err(|_| Error::unexpected_answer())
}
