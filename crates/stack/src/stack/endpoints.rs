//! Where the parts of a stack are.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that a program needs to find the system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Endpoints {
    /// `http://127.0.0.1:<port>` of HAProxy.
    pub front_url: String,
    /// `ws://127.0.0.1:<port>/ws` of HAProxy.
    pub ws_url: String,
    /// HAProxy's stats page.
    pub stats_url: String,
    /// Redis.
    pub redis_url: String,
    /// Kafka.
    pub kafka_brokers: String,
    /// Core database.
    pub core_url: String,
    /// Shard databases.
    pub shard_urls: Vec<String>,
    /// Kafka topic of the records.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// Partitions of the topic.
    pub partitions: u32,
    /// The key with which tokens are signed and checked.
    pub token_secret_file: PathBuf,
}

impl Endpoints {
    /// The same as the environment that our programs read.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let secret = self.token_secret_file.display().to_string();
        let pairs = [
            ("HUBBUB_URL", self.front_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("KAFKA_BROKERS", self.kafka_brokers.clone()),
            ("CORE_DATABASE_URL", self.core_url.clone()),
            ("SHARD_DATABASE_URLS", self.shard_urls.join(",")),
            ("HUBBUB_TOPIC", self.topic.clone()),
            ("HUBBUB_GROUP", self.group.clone()),
            ("HUBBUB_PARTITIONS", self.partitions.to_string()),
            ("HUBBUB_JWT_SECRET_FILE", secret),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value)).to_vec()
    }
}
