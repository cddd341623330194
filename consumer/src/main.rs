//! `hubbub-consumer`: parses, binds, runs.
use std::{process::ExitCode, sync::Arc};

use hubbub_consumer::{Config, Consumer};
use hubbub_service::{Lifecycle, OnError, config, telemetry};
use parking_lot::Mutex;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match config::parse::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut mistakes = config.check().err().unwrap_or_default();
    let log = telemetry::init_without(&config.log, &[hubbub_log::CLOSED_TWICE]);
    let _logs = mistakes.take("--log", log);
    if let Err(mistakes) = mistakes.finish() {
        return mistakes.report();
    }
    #[cfg(feature = "mutants")]
    config.mutant.plant();
    // Reads FAILPOINTS; without the feature there is nothing to set up.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let grace = config.grace();
    let consumer = match Consumer::bind(config).await {
        Ok(consumer) => consumer,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return error.exit_code();
        }
    };
    let lifecycle = Lifecycle::new();
    let signals = lifecycle.clone();
    lifecycle.spawn("signals", OnError::Stop, async move {
        signals.watch_signals().await
    });
    let failure = Arc::new(Mutex::new(None));
    let (shared, failed) = (lifecycle.clone(), Arc::clone(&failure));
    lifecycle.spawn("consumer", OnError::Stop, async move {
        let ended = consumer.run(shared).await;
        ended.inspect_err(|error| *failed.lock() = Some(error.exit_code()))
    });
    let code = lifecycle.finish(grace).await;
    let failed = *failure.lock();
    failed.unwrap_or(code)
}
