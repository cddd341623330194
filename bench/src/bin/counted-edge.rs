//! The edge server with an allocator that counts: at each line of its input it prints how many
//! blocks the Rust side has allocated since its start. The end of its input drains it.

use std::process::ExitCode;
use std::time::Duration;

use hubbub_edge_server::{Config, Pod};
use hubbub_service::{Lifecycle, OnError, config};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() -> ExitCode {
    let _counter = dhat::Profiler::builder().testing().build();
    let config: Config = match config::parse() {
        Ok(config) => config,
        Err(code) => return code,
    };
    // As the edge server's own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs no more than a thread and an epoll descriptor");
    runtime.block_on(run(config))
}

async fn run(config: Config) -> ExitCode {
    let grace = Duration::from_secs(config.grace_s);
    let lifecycle = Lifecycle::new();
    let pod = match Pod::bind(config, &lifecycle).await {
        Ok(pod) => pod,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let addr = pod.addr().to_string();
    pod.run(&lifecycle).await;
    println!("{}", json!({"event": "listening", "addr": addr}));
    let drain = lifecycle.clone();
    lifecycle.spawn_until_hard("answers", OnError::Log, async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while lines.next_line().await?.is_some() {
            let blocks = dhat::HeapStats::get().total_blocks;
            println!("{}", json!({"event": "blocks", "total": blocks}));
        }
        drain.begin_drain("the end of the input");
        Ok::<(), std::io::Error>(())
    });
    lifecycle.finish(grace).await
}
