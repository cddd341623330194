//! The stack's own tests, on the real servers.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod compose;
mod dependencies;
mod haproxy;
mod links;
mod postgres;
mod process;
mod proxy;
mod redis;
mod stack;
mod test_env;

use hubbub_stack::Server;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// That a server which was started answers. On a machine that stands still for a moment one question
/// may go unanswered.
async fn assert_ready(server: &Server) {
    let answers = async {
        while !server.is_ready().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let answered = timeout(Duration::from_secs(20), answers).await;
    assert!(answered.is_ok(), "{} is not ready", server.name());
}
