//! The system that faults are made on.

use std::{fmt, sync::Arc};

use anyhow::{Context, Result};
use hubbub_checker::history::Device;
use hubbub_stack::{Haproxy, Postgres, Proxy, Service, Stack};
use tokio::sync::watch;

use crate::{Seen, Shape, shape::number};

/// A running system, with the links of its clients and what they see.
pub struct Ground {
    /// Its processes and the links between them.
    pub stack: Arc<Stack>,
    /// The link of each device.
    pub clients: Vec<(Device, Arc<Proxy>)>,
    /// The devices that are slow at the moment: whoever writes fills a channel that they have
    /// joined, until this is empty again.
    pub burst: watch::Sender<Vec<Device>>,
    /// What the clients notice.
    pub seen: Arc<Seen>,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground")
            .field("dir", &self.stack.dir())
            .field("clients", &self.clients.len())
            .finish_non_exhaustive()
    }
}

impl Ground {
    pub(crate) fn shape(&self) -> Shape {
        let devices: Vec<Device> = self.clients.iter().map(|(name, _)| name.clone()).collect();
        Shape::of(&self.stack, devices.clone(), devices)
    }

    /// An edge, API server or consumer, spare ones included.
    pub(crate) fn service(&self, name: &str) -> Result<&Service> {
        let mut all = self.services();
        let found = all.find(|service| service.name() == name);
        found.with_context(|| format!("no process {name}"))
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        let stack = &self.stack;
        let all = stack.edges().iter().chain(stack.apis());
        all.chain(stack.consumers()).chain(stack.spare_consumers())
    }

    /// Whether a process is one that runs only when a fault adds it.
    pub(crate) fn is_spare(&self, name: &str) -> bool {
        let mut spares = self.stack.spare_consumers().iter();
        spares.any(|service| service.name() == name)
    }

    pub(crate) fn haproxy(&self, name: &str) -> Result<&Haproxy> {
        let found = number(name).and_then(|n| self.stack.haproxies().get(n.checked_sub(1)?));
        found.with_context(|| format!("no HAProxy {name}"))
    }

    /// A shard, and the name of its database.
    pub(crate) fn shard(&self, name: &str) -> Result<(&Postgres, String)> {
        let count = self.stack.endpoints().shard_urls.len();
        let i = number(name).filter(|i| *i < count);
        let i = i.with_context(|| format!("no shard {name}"))?;
        Ok((self.stack.shard(i), format!("hubbub_shard_{i}")))
    }

    /// The link of a target `edge-1>redis`.
    pub(crate) fn link(&self, target: &str) -> Result<&Proxy> {
        let ends = target.split_once('>');
        let link = ends.and_then(|(from, to)| self.stack.link(from, to));
        Ok(link.with_context(|| format!("no link {target}"))?)
    }

    pub(crate) fn client(&self, device: &str) -> Result<&Proxy> {
        let mut clients = self.clients.iter();
        let found = clients.find(|(name, _)| name == device);
        Ok(&found.with_context(|| format!("no link of {device}"))?.1)
    }
}
