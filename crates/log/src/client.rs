//! What every rdkafka context of ours does with librdkafka's own words.
use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

/// Logs a line of librdkafka. Its "errors" are lost connections and the like, which it mends
/// itself: nobody must act on them, so they are warnings here.
pub(crate) fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(kafka.facility = facility, "librdkafka: {line}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(kafka.facility = facility, "librdkafka: {line}");
        }
    }
}

pub(crate) fn log_error(error: &KafkaError, reason: &str) {
    tracing::warn!(kafka.error = %error, "kafka client: {reason}");
}

/// The context of short-lived clients: only its logging is ours.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}
