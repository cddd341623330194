//! The task that watches the pods while somebody looks: it begins with the first viewer and ends
//! with the last; in between it renews its lease, lists the pods and asks for what was lost.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use hubbub_dashboard::Picture;
use hubbub_protocol::{BusChannel, PodId, PodMessage, Unwatch, Watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Dashboard;

/// Between renewals: three of them fit into the lease.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Between listings of the pods' leases.
const LIST_EVERY: Duration = Duration::from_secs(1);
const LIST_DEADLINE: Duration = Duration::from_secs(1);
/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// The word that it is over is said again where it could not be; after that the lease ends it.
const FAREWELLS: usize = 3;
const FAREWELL_PAUSE: Duration = Duration::from_millis(100);

impl Dashboard {
    /// Watches whenever somebody looks, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            // Waits for the first viewer, or for the end.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.until_wanted(true) => {}
            }
            self.begin();
            // Waits for the last viewer to go, or for the end; the other two never end.
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.until_wanted(false) => {}
                () = self.speak() => {}
                () = self.make_frames() => {}
            }
            self.end().await;
        }
    }

    /// Waits until somebody looks, or nobody. Cancel-safe; one waiter.
    async fn until_wanted(&self, wanted: bool) {
        while self.shared.state.lock().viewers.is_empty() == wanted {
            self.shared.wanted.notified().await;
        }
    }

    fn begin(&self) {
        let mut state = self.shared.state.lock();
        state.watching = true;
        state.generation += 1;
        state.ask_all = false;
        state.picture = Picture::new();
        tracing::info!(generation = state.generation, "the dashboard is watched");
        drop(state);
        self.shared.names.lock().clear();
        // Its confirmation is what everything begins with: what is asked for then is heard.
        self.shared.subscriber.subscribe(BusChannel::Dashboard);
    }

    async fn end(&self) {
        let unwatch = self.end_picture();
        for _ in 0..FAREWELLS {
            if self.tell(&BusChannel::Pods, &unwatch).await {
                return;
            }
            sleep(FAREWELL_PAUSE).await;
        }
    }

    /// Forgets the picture; gives the word to the pods that it is over.
    fn end_picture(&self) -> PodMessage {
        self.shared.subscriber.unsubscribe(BusChannel::Dashboard);
        let mut state = self.shared.state.lock();
        state.watching = false;
        state.picture = Picture::new();
        let unwatch = PodMessage::Unwatch(Unwatch {
            watcher: self.shared.watcher,
            generation: state.generation,
        });
        tracing::info!(
            generation = state.generation,
            "nobody looks at the dashboard"
        );
        drop(state);
        self.shared.frames.send_replace(None);
        unwatch
    }

    /// Publishes; false if Redis did not take it within a second.
    async fn tell(&self, to: &BusChannel, message: &PodMessage) -> bool {
        let payload = Bytes::from(message.encode());
        let told = self.shared.publisher.publish(to, payload).await;
        if let Err(error) = &told {
            tracing::debug!(%error, "speak to the pods for the dashboard");
        }
        told.is_ok()
    }

    fn watch_message(&self, generation: u64, snapshot: bool) -> PodMessage {
        PodMessage::Watch(Watch {
            watcher: self.shared.watcher,
            generation,
            reply_to: self.shared.pod.clone(),
            snapshot,
        })
    }

    /// Renews, lists and asks. Never ends.
    async fn speak(&self) {
        let (mut renew, mut list) = (Instant::now() + RENEW_EVERY, Instant::now());
        loop {
            let now = Instant::now();
            let (generation, ask_all) = {
                let mut state = self.shared.state.lock();
                (state.generation, std::mem::take(&mut state.ask_all))
            };
            if ask_all || now >= renew {
                let told = self
                    .tell(&BusChannel::Pods, &self.watch_message(generation, ask_all))
                    .await;
                // A Redis that does not answer is asked again soon.
                renew = now + if told { RENEW_EVERY } else { RENEW_EVERY / 10 };
                if ask_all {
                    let mut state = self.shared.state.lock();
                    state.ask_all |= !told;
                    drop(state);
                    self.on_picture(Picture::asked_all);
                }
            }
            if now >= list {
                list = now + LIST_EVERY.mul_f64(0.9 + rand::random::<f64>() * 0.2);
                self.list().await;
            }
            let mut due: Vec<PodId> = Vec::new();
            self.on_picture(|picture, now| {
                picture.tick(now);
                due = picture.to_ask(now);
            });
            for pod in due {
                self.shared.metrics.dashboard_asks.inc();
                let message = self.watch_message(generation, true);
                self.tell(&BusChannel::Pod(pod), &message).await;
            }
            // Waits for the next look, or for something to ask. Both are cancel-safe.
            tokio::select! {
                () = sleep_until(now + TICK) => {}
                () = self.shared.ask.notified() => {}
            }
        }
    }

    async fn list(&self) {
        let began = self.now_ms();
        match timeout(LIST_DEADLINE, self.shared.leases.pods()).await {
            Ok(Ok(pods)) if !self.leases_may_be_forgotten() => {
                self.on_picture(|picture, now| {
                    picture.listed(pods.into_iter().collect(), began, now);
                });
            }
            // What is known stands.
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "list the leases"),
            Err(_) => tracing::debug!("list the leases: no answer in time"),
        }
    }
}
