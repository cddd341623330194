//! Bringing back what a fault may have left, when it failed halfway or everything is over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use hubbub_stack::Server;
use tokio::time::{Instant, sleep};

use super::{Deed, back, bus::lossy, clients, clock};
use crate::Ground;

/// For everybody to be ready in the end.
const READY: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Undoes one fault, whatever of it was done; what fails here shows up in the end.
pub(super) async fn undo(deed: &Deed<'_>) {
    let ground = deed.ground;
    for target in deed.targets() {
        if let Ok(link) = ground.link(target) {
            link.heal();
        }
        if let Ok(link) = ground.client(target) {
            link.heal();
        }
    }
    clients::calm(deed);
    for target in deed.targets() {
        let Some(server) = server(ground, target) else {
            continue;
        };
        server.resume();
        if let Ok(service) = ground.service(target) {
            clock::restore(service);
            for point in failpoints(service.role()) {
                deed.disarm(service, point).await.map_err(complain).ok();
            }
        }
        if ground.is_spare(target) {
            server.stop().await;
        } else {
            back(server).await.map_err(complain).ok();
        }
    }
}

/// Heals every link and brings every process back, whoever took it. Says who was not there
/// though no fault had left it so.
///
/// # Errors
/// When somebody does not come back.
pub(crate) async fn make_whole(ground: &Ground, http: &reqwest::Client) -> Result<Vec<String>> {
    let stack = &ground.stack;
    for link in stack.links() {
        link.heal();
    }
    for (_, link) in &ground.clients {
        link.heal();
    }
    ground.burst.send_modify(Vec::clear);
    let servers = stack.servers();
    let mut gone = Vec::new();
    for server in &servers {
        server.resume();
        if !server.is_running() {
            gone.push(server.name());
        }
    }
    for spare in stack.spare_consumers() {
        spare.resume();
        spare.stop().await;
    }
    let started = join_all(servers.iter().map(|server| back(server))).await;
    let started: Result<Vec<()>> = started.into_iter().collect();
    started.context("start what was not there")?;
    for service in ground.services().filter(|service| service.is_running()) {
        clock::restore(service);
        let off: Vec<String> = failpoints(service.role())
            .map(|point| format!("{point}=off"))
            .into();
        let url = format!("http://{}/failpoints", service.ops_addr());
        let reply = http.post(url).body(off.join("\n")).send().await;
        // A build without failpoints has none that could be left.
        reply.with_context(|| format!("take the failpoints of {} away", service.name()))?;
    }
    let begun = Instant::now();
    for server in servers {
        while !server.is_ready().await {
            ensure!(
                begun.elapsed() < READY,
                "{} is not ready {READY:?} after the last fault",
                server.name()
            );
            sleep(LOOK_AGAIN).await;
        }
    }
    Ok(gone)
}

fn failpoints(role: hubbub_stack::Role) -> [&'static str; 2] {
    let crash = match role {
        hubbub_stack::Role::Consumer => "consumer::after_commit_before_announce",
        hubbub_stack::Role::Edge | hubbub_stack::Role::Api => "chat::after_log_ack",
    };
    [lossy(role).0, crash]
}

fn server<'a>(ground: &'a Ground, target: &str) -> Option<&'a Server> {
    let stack = &ground.stack;
    match target {
        "redis" => Some(stack.redis()),
        "kafka" => Some(stack.kafka()),
        _ => {
            let service = ground.service(target).map(|service| -> &Server { service });
            let haproxy = || ground.haproxy(target).map(|haproxy| -> &Server { haproxy });
            let shard = || ground.shard(target).map(|(shard, _)| -> &Server { shard });
            if target.starts_with("haproxy-") {
                return haproxy().ok();
            }
            if target.starts_with("shard-") {
                return shard().ok();
            }
            service.ok()
        }
    }
}

fn complain(error: anyhow::Error) {
    tracing::warn!("undo a fault that failed: {error:#}");
}
