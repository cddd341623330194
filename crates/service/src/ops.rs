//! The ops port: /livez, /readyz, /metrics, /debug/state. None of them touches Redis, Kafka or Postgres.
use crate::Lifecycle;
use prometheus_client::registry::Registry;
use std::{net::SocketAddr, sync::Arc};

#[derive(Debug, Clone, clap::Args)]
pub struct OpsConfig {
    /// Address of the ops port. Keep it off the public network.
    #[arg(long, env = "HUBBUB_OPS_ADDR", default_value = "127.0.0.1:0")]
    pub ops_addr: SocketAddr,
}

/// What `/readyz` says: starting 503, ready 200, draining 404. Cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Readiness {}
impl Readiness {
    pub fn set_ready(&self) {
        todo!()
    }
    pub fn set_draining(&self) {
        todo!()
    }
    pub fn is_ready(&self) -> bool {
        todo!()
    }
}

pub type DebugState = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;
pub struct Ops {}
impl Ops {
    pub async fn bind(
        _config: &OpsConfig,
        _registry: Arc<Registry>,
        _readiness: Readiness,
        _debug: Option<DebugState>,
    ) -> std::io::Result<Self> {
        todo!()
    }
    pub fn addr(&self) -> SocketAddr {
        todo!()
    }
    /// Spawns the server; it ends at hard (so that a drain can be watched).
    pub fn start(self, _lifecycle: &Lifecycle) {
        todo!()
    }
}
