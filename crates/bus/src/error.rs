/// Why something on the bus was not done. All of them may pass; none says whether Redis acted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing was sent.
    #[error("publish queue is full")]
    Full,
    /// Nothing was sent: the connection is lost and its next attempt is not due, or the task of
    /// the publisher has ended.
    #[error("redis is not connected")]
    Disconnected,
    /// Redis may have acted, or may act later.
    #[error("redis did not answer in time")]
    Timeout,
    /// Redis refused, or the connection broke under way.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
}

impl Error {
    /// An answer that is not of the type its command gives.
    pub(crate) fn unexpected_answer() -> Self {
        Self::Redis((redis::ErrorKind::UnexpectedReturnType, "unexpected answer").into())
    }
}
