//! What an edge does by the clock: its lease, the sweep of heads, ticks of the hub, heartbeats.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hubbub_bus::LEASE;
use hubbub_protocol::{CloseCode, Seq};
use hubbub_service::{telemetry::wall_clock_ms, token::valid_until};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::{Edge, feed::Sweeper, hub::Turn, socket::Flushed, wire::ping_frame};

/// Between sweeps of the heads.
const SWEEP_EVERY: Duration = Duration::from_millis(700);
/// A shard that does not answer a sweep by then is swept again.
const SWEEP_DEADLINE: Duration = Duration::from_secs(2);
/// Between ticks of the hub.
const TICK_EVERY: Duration = Duration::from_millis(100);
/// Between rounds of the heartbeat; a socket's own beat falls into the round of its id, so that
/// pings are spread.
const ROUND: Duration = Duration::from_secs(1);
/// Every so many rounds, at most, a socket is looked at: whether it lives, and what it may give
/// back. To look is to fetch it from memory, which is most of what an idle socket costs.
const ROUNDS_PER_LOOK: u64 = 5;
/// Between renewals of the lease.
const RENEW_EVERY: Duration = Duration::from_millis(1_000);
/// A renewal that takes longer than this counts as failed.
const RENEW_DEADLINE: Duration = Duration::from_secs(2);

/// Renews the lease; a lapse holds every channel (`Edge::check_lease`), a return subscribes anew.
pub(crate) async fn lease(edge: Arc<Edge>) -> Result<(), Infallible> {
    loop {
        let (begun, losses) = (Instant::now(), edge.losses());
        match timeout(RENEW_DEADLINE, edge.leases.renew(&edge.pod)).await {
            // Counted from before the command: the key cannot expire earlier than that.
            Ok(Ok(())) => edge.lease_renewed(begun + LEASE, losses),
            Ok(Err(error)) => {
                edge.metrics.lease_failures.inc();
                tracing::debug!(error = %error, "renew the lease");
            }
            Err(_) => {
                edge.metrics.lease_failures.inc();
            }
        }
        let pause = if edge.lease_is_valid() {
            RENEW_EVERY
        } else {
            RENEW_EVERY / 5
        };
        // Waits for the next renewal, or for the word that one is wanted now; a storm of those
        // still leaves a pause.
        tokio::select! {
            () = sleep(pause.mul_f64(0.8 + rand::random::<f64>() * 0.2)) => {}
            () = edge.renew_now.notified() => sleep(RENEW_EVERY / 50).await,
        }
        edge.check_lease();
    }
}

type Swept = (usize, Option<hubbub_store::Sweep>);

/// Sweeps each shard on its own, one statement at a time: one that hangs delays no other. The
/// first positions were read before the first SUBSCRIBE.
pub(crate) async fn sweep(edge: Arc<Edge>, mut sweeper: Sweeper) -> Result<(), Infallible> {
    let mut sweeps: FuturesUnordered<_> = (0..edge.store.shards())
        .map(|shard| sweep_shard(&edge, shard, sweeper.since(shard).to_vec(), SWEEP_EVERY))
        .collect();
    loop {
        let due = sweeper.next_due_ms();
        let wait = Duration::from_millis(due.map_or(0, |at| at.saturating_sub(edge.now_ms())));
        // Waits for: a shard's answer, after which its next sweep is begun; the moment at which
        // a suspect is looked at again. Both are cancel-safe.
        tokio::select! {
            Some(swept) = sweeps.next() => {
                let shard = swept.0;
                note_sweep(&edge, &mut sweeper, swept);
                let since = sweeper.since(shard).to_vec();
                sweeps.push(sweep_shard(&edge, shard, since, SWEEP_EVERY));
            }
            () = sleep(wait.max(Duration::from_millis(1))), if due.is_some() => {}
        }
        let now = edge.now_ms();
        edge.check_lease();
        let mut turn = Turn::default();
        for (number, head) in sweeper.due(now, |number| edge.hub.horizon_of(number)) {
            edge.hub.on_head(number, head, now, &mut turn);
        }
        edge.perform(turn);
    }
}

/// The first sweep of every shard, all at the same time. One that is away is swept later.
pub(crate) async fn first_sweep(edge: &Edge) -> Sweeper {
    let mut sweeper = Sweeper::new(edge.store.shards());
    let sweeps =
        (0..edge.store.shards()).map(|shard| sweep_shard(edge, shard, Vec::new(), Duration::ZERO));
    for swept in futures_util::future::join_all(sweeps).await {
        note_sweep(edge, &mut sweeper, swept);
    }
    sweeper
}

/// One sweep of one shard, after a pause; `None` if it failed.
async fn sweep_shard(edge: &Edge, shard: usize, since: Vec<(i32, Seq)>, pause: Duration) -> Swept {
    sleep(pause).await;
    match timeout(SWEEP_DEADLINE, edge.store.sweep(shard, &since)).await {
        Ok(Ok(swept)) => return (shard, Some(swept)),
        Ok(Err(error)) => tracing::debug!(shard, error = %error, "sweep heads"),
        Err(_) => tracing::debug!(shard, "sweep heads: no answer in time"),
    }
    edge.metrics.sweep_failures.inc();
    (shard, None)
}

fn note_sweep(edge: &Edge, sweeper: &mut Sweeper, (shard, swept): Swept) {
    let Some(swept) = swept else { return };
    if sweeper.since(shard).is_empty() {
        // The shard was away until now. What was stored between a feed's head read and these
        // first positions is found by another head read.
        edge.check_again(shard);
    }
    let horizon_of = |number| edge.hub.horizon_of(number);
    sweeper.swept(
        shard,
        swept.positions,
        &swept.heads,
        edge.now_ms(),
        horizon_of,
    );
}

/// Ticks of the hub, and gauges.
pub(crate) async fn tick(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut every = interval(TICK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        edge.check_lease();
        let turn = edge.hub.tick(edge.now_ms(), |channel| {
            edge.subscriber.unsubscribe(channel)
        });
        edge.perform(turn);
        edge.metrics.feed_counts(edge.hub.take_counts());
        edge.metrics.sockets.set(edge.hub.sockets() as i64);
        edge.metrics.channels.set(edge.hub.channels() as i64);
        edge.metrics
            .watched_users
            .set(edge.hub.watched_users() as i64);
    }
}

/// Pings, and the end of sockets that are dead, slow or whose token expired. One task for all
/// sockets instead of a timer for each.
pub(crate) async fn heartbeat(edge: Arc<Edge>) -> Result<(), Infallible> {
    let mut every = interval(ROUND);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = (edge.config.heartbeat_ms / 1_000).max(1);
    // Often enough to see who is slow in time, and a divisor, so that who is to be pinged is looked
    // at in the same round.
    let most = ROUNDS_PER_LOOK.min(edge.config.slow_ms / 4_000).max(1);
    let looks = (1..=most).rev().find(|looks| rounds.is_multiple_of(*looks));
    let looks = looks.unwrap_or(1);
    let mut waiting = [0; ROUNDS_PER_LOOK as usize];
    let dead_after_ms = edge.config.dead_after().as_millis() as u64;
    for round in 0_u64.. {
        every.tick().await;
        let (now, now_s) = (edge.now_ms(), wall_clock_ms() / 1_000);
        let waits = &mut waiting[(round % looks) as usize];
        *waits = 0;
        for (socket, expires_at_s) in edge.hub.sockets_of_turn(round, looks) {
            let empty = socket.with_outbox(|outbox| {
                *waits += outbox.bytes();
                outbox.rest();
                outbox.is_empty()
            });
            // A slow reader that still takes bytes lives, although its pong is far behind them.
            let silent = now.saturating_sub(socket.heard_ms()) > dead_after_ms;
            let stuck = empty || now.saturating_sub(socket.wrote_ms()) > dead_after_ms;
            if silent && stuck {
                socket.request_close(CloseCode::Dead, "no sign of life");
            } else if !empty && now.saturating_sub(socket.wrote_ms()) > edge.config.slow_ms {
                socket.request_close(CloseCode::Slow, "nothing could be sent for too long");
            } else if valid_until(expires_at_s) <= now_s {
                socket.request_close(CloseCode::TokenExpired, "the token expired");
            } else if socket.id.0 % rounds == round % rounds {
                socket.with_outbox(|outbox| outbox.push_control(ping_frame()));
                if edge.flush(&socket) == Flushed::Gone {
                    socket.wake.notify_one();
                }
            }
        }
        edge.metrics
            .outbox_bytes
            .set(waiting.iter().sum::<usize>() as i64);
    }
    Ok(())
}
