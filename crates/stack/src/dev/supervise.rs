//! Processes that die are named, and started again.

use super::screen::{Screen, say};
use super::state::State;
use futures_util::future::join_all;
use hubbub_stack::process::describe;
use hubbub_stack::{Server, Stack};
use rand::RngExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that ran this long starts again without a pause that grew.
const HEALTHY: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 10;

/// Watches every server until it is dropped.
pub(super) async fn supervise(stack: &Stack, dir: &Path, restart: bool, screen: Screen) {
    let keep = || {
        if let Err(error) = State::of(stack).write(dir) {
            say(format_args!("dev: {error:#}"));
        }
    };
    let all = stack.servers().into_iter();
    join_all(all.map(|server| watch(server, restart, screen, &keep))).await;
    // Everything died and nothing is to be restarted: the logs are still worth a look.
    std::future::pending().await
}

async fn watch(server: &Server, restart: bool, screen: Screen, keep: &(dyn Fn() + Sync)) {
    let mut pause = FIRST_PAUSE;
    let mut started = Instant::now();
    loop {
        let status = server.exited().await;
        keep();
        let how = status.map_or("ended".to_owned(), describe);
        let name = server.name();
        say(format_args!(
            "{} {name} died: {how}; its log {} ends:",
            screen.red("!"),
            server.log_path().display()
        ));
        for line in server.last_log_lines(LOG_LINES) {
            say(format_args!("    {line}"));
        }
        if !restart {
            return;
        }
        if started.elapsed() >= HEALTHY {
            pause = FIRST_PAUSE;
        }
        sleep(pause.mul_f64(rand::rng().random_range(0.75..1.25))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        started = Instant::now();
        match server.start().await {
            Ok(()) => say(format_args!(
                "{} {name} is up again after {:.1} s",
                screen.green("+"),
                started.elapsed().as_secs_f64()
            )),
            // It is told again by the next turn of the loop, unless it runs and is merely late.
            Err(_) if !server.is_running() => {}
            Err(error) => say(format_args!("{} {error:#}", screen.red("!"))),
        }
        keep();
    }
}
