//! Asks the pods about watched users, and lists the leases while somebody watches.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hubbub_bus::LEASE;
use hubbub_protocol::Question;
use tokio::time::{Instant, sleep, timeout};

use crate::Edge;

/// What the pods have to answer.
const DEADLINE: Duration = Duration::from_millis(300);
/// Users in one question.
const USERS_AT_ONCE: usize = 500;
/// While the bus is away.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// A killed edge's users are offline within its lease and this.
const LIST_EVERY: Duration = Duration::from_millis(800);
/// A listing that takes longer counts as failed.
const LIST_DEADLINE: Duration = Duration::from_secs(1);
/// All that is watched is asked about again so often: a pod's publish that was lost on its way
/// shows nowhere else.
const ASK_ALL_EVERY: Duration = LEASE;

/// Asks about users whose watch has begun or may have missed something. Runs until cancelled.
pub(crate) async fn ask(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut pause = PAUSE;
    loop {
        let users = edge.hub.users_to_ask(USERS_AT_ONCE);
        if users.is_empty() {
            edge.presence_due.notified().await;
            continue;
        }
        let question = Question::Presence {
            users: users.clone(),
        };
        match edge.asker.ask(question, DEADLINE).await {
            // What was answered is in: the relay hands it over as it comes, in its order.
            Ok(_) => {
                pause = PAUSE;
                let turn = edge.hub.surveyed(&users, &*edge);
                edge.perform(turn);
            }
            Err(error) => {
                tracing::debug!(error = %error, "ask the pods for presence");
                edge.hub.not_asked(&users);
                sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                pause = (pause * 2).min(PAUSE_MOST);
            }
        }
    }
}

/// Lists the leases while somebody watches. Runs until cancelled.
///
/// A Redis that comes back empty has forgotten the leases of all, and nobody is gone for that: for
/// the length of one after the bus is back, and while this pod's own is not among them, the list
/// says nothing.
pub(crate) async fn leases(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut asked = Instant::now();
    loop {
        sleep(LIST_EVERY.mul_f64(0.9 + rand::random::<f64>() * 0.2)).await;
        if !edge.hub.listing_begins() {
            continue;
        }
        match timeout(LIST_DEADLINE, edge.leases.pods()).await {
            Ok(Ok(pods)) => {
                if edge.leases_are_known() && pods.contains(&edge.pod) {
                    let turn = edge.hub.listed(pods.into_iter().collect(), &*edge);
                    edge.perform(turn);
                }
            }
            // What is known stands until they can be listed.
            Ok(Err(error)) => tracing::debug!(error = %error, "list the leases"),
            Err(_) => tracing::debug!("list the leases: no answer in time"),
        }
        if asked.elapsed() >= ASK_ALL_EVERY {
            asked = Instant::now();
            edge.hub.ask_all_watched();
        }
        edge.presence_due.notify_one();
    }
}
