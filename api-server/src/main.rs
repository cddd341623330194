//! `hubbub-api-server`: parses, binds, runs.
use std::process::ExitCode;

use hubbub_api_server::{Api, BindError, Config};
use hubbub_service::{Lifecycle, OnError, config, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let config = match config::parse::<Config>() {
        Ok(config) => config,
        Err(code) => return code,
    };
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let (_logs, log) = match telemetry::init(&config.log) {
        Ok(logs) => (Some(logs), Ok(())),
        Err(error) => (None, Err(error)),
    };
    #[cfg(feature = "mutants")]
    config.mutant.plant();
    let grace = config.grace();
    let api = match Api::bind(config, log).await {
        Ok(api) => api,
        Err(BindError::Mistakes(mistakes)) => return mistakes.report(),
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let lifecycle = Lifecycle::new();
    let signals = lifecycle.clone();
    lifecycle.spawn("signals", OnError::Stop, async move {
        signals.watch_signals().await
    });
    let shared = lifecycle.clone();
    lifecycle.spawn("api", OnError::Stop, async move { api.run(shared).await });
    lifecycle.finish(grace).await
}
