//! Parses, binds, runs.

use std::{process::ExitCode, time::Duration};

use hubbub_edge_server::{Config, Pod};
use hubbub_service::{Lifecycle, OnError, config, telemetry};

fn main() -> ExitCode {
    let config: Config = match config::parse() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let mut mistakes = config::Mistakes::new();
    for mistake in config.mistakes() {
        mistakes.add("configuration", mistake);
    }
    let _logs = mistakes.take("log", telemetry::init(&config.log));
    if let Err(mistakes) = mistakes.finish() {
        return mistakes.report();
    }
    #[cfg(feature = "mutants")]
    config.mutant.plant();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    // One thread for all sockets: the fan-out takes no contended lock and wakes no other core.
    // More cores are more pods.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs no more than a thread and an epoll descriptor");
    runtime.block_on(run(config))
}

async fn run(config: Config) -> ExitCode {
    let grace = Duration::from_secs(config.grace_s);
    let lifecycle = Lifecycle::new();
    let signals = lifecycle.clone();
    lifecycle.spawn_until_hard("signals", OnError::Log, async move {
        signals.watch_signals().await
    });
    let pod = match Pod::bind(config, &lifecycle).await {
        Ok(pod) => pod,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "start");
            return ExitCode::FAILURE;
        }
    };
    let (addr, ops, id) = (pod.addr(), pod.ops_addr(), pod.pod_id().clone());
    pod.run(&lifecycle).await;
    tracing::info!(
        pod = %id, "ready: WebSocket on ws://{addr}/ws, metrics on http://{ops}/metrics"
    );
    lifecycle.finish(grace).await
}
