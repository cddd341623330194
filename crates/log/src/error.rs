/// Why the log could not be used. Nothing here says anything about a record: that is what
/// [`crate::Report`] and [`crate::Rejected`] are for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client or a broker answered with an error.
    #[error("{0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// What is there is not what was configured; waiting does not help. Names the remedy.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered within the deadline.
    #[error("kafka did not answer in time: {0}")]
    Timeout(&'static str),
    /// A thread could not be started, or ended by a panic.
    #[error("thread of the log: {0}")]
    Thread(String),
}

impl Error {
    /// Whether the same call may succeed later without anybody's help.
    pub fn retryable(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
