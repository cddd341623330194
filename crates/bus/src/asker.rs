use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hubbub_protocol::{Answer, BusChannel, PodId, PodMessage, Question};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::{Error, Leases, Publisher};

/// A question that must be answered by everyone is asked again so often.
const AGAIN: Duration = Duration::from_millis(250);

/// Answers to one question that are kept: more pods than any region has. The others are counted as
/// late.
const ANSWERS: usize = 4_096;

/// Asks all pods and collects their answers. The asker subscribes to its own `pod-<id>` and hands
/// over the replies that arrive there. Cheap handle.
#[derive(Debug, Clone)]
pub struct Asker {
    publisher: Publisher,
    leases: Leases,
    me: PodId,
    open: Arc<Mutex<HashMap<Uuid, Open>>>,
}

/// A question that waits for answers.
#[derive(Debug, Default)]
struct Open {
    answers: BTreeMap<PodId, Answer>,
    changed: Arc<Notify>,
}

/// What the pods said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// By pod, also of pods that had no lease when asked.
    pub answers: BTreeMap<PodId, Answer>,
    /// Pods with a lease that did not answer in time, sorted.
    pub missing: Vec<PodId>,
}

/// How far asking until all answer has come.
#[derive(Debug, Default)]
struct Progress {
    /// The pods of the last reading of the leases that succeeded.
    expected: Option<BTreeSet<PodId>>,
    /// The question went out at least once.
    is_asked: bool,
}

/// Takes a question out of the map, however the asking ends (its future may be dropped).
struct OpenQuestion {
    asker: Asker,
    request: Uuid,
    changed: Arc<Notify>,
}

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.asker.open.lock().remove(&self.request);
    }
}

impl OpenQuestion {
    fn missing(&self, expected: &BTreeSet<PodId>) -> Vec<PodId> {
        let open = self.asker.open.lock();
        let answers = open.get(&self.request).map(|open| &open.answers);
        expected
            .iter()
            .filter(|pod| !answers.is_some_and(|answers| answers.contains_key(pod)))
            .cloned()
            .collect()
    }

    /// Waits until all have answered. Cancel-safe.
    async fn until_all(&self, expected: &BTreeSet<PodId>) {
        while !self.missing(expected).is_empty() {
            // An answer that comes between the look and the wait leaves a permit.
            self.changed.notified().await;
        }
    }

    fn survey(&self, expected: &BTreeSet<PodId>) -> Survey {
        let missing = self.missing(expected);
        let answers = self
            .asker
            .open
            .lock()
            .get_mut(&self.request)
            .map(|open| std::mem::take(&mut open.answers));
        Survey {
            answers: answers.unwrap_or_default(),
            missing,
        }
    }

    async fn send(&self, question: &Question) -> Result<(), Error> {
        let ask = PodMessage::Ask {
            request: self.request,
            reply_to: self.asker.me.clone(),
            question: question.clone(),
        };
        let sent = self
            .asker
            .publisher
            .publish(&BusChannel::Pods, ask.encode().into());
        sent.await.map(drop)
    }
}

impl Asker {
    /// `me` is where the replies go.
    pub fn new(publisher: Publisher, leases: Leases, me: PodId) -> Self {
        Self {
            publisher,
            leases,
            me,
            open: Arc::default(),
        }
    }

    /// Hands over a `PodMessage::Reply` from the inbox. Late ones are dropped and counted.
    pub fn on_reply(&self, request: Uuid, pod: PodId, answer: Answer) {
        let changed = self.open.lock().get_mut(&request).and_then(|open| {
            let room = open.answers.len() < ANSWERS || open.answers.contains_key(&pod);
            room.then(|| {
                open.answers.insert(pod, answer);
                open.changed.clone()
            })
        });
        match changed {
            Some(changed) => changed.notify_one(),
            None => {
                self.publisher.metrics.late_replies.inc();
            }
        }
    }

    /// Questions that wait for answers now.
    pub fn pending(&self) -> usize {
        self.open.lock().len()
    }

    /// One question; expected set = leases; answers until `deadline`, which counts for reading the
    /// leases, too. Fails if the bus cannot be asked. May be dropped at any time.
    pub async fn ask(&self, question: Question, deadline: Duration) -> Result<Survey, Error> {
        let end = Instant::now() + deadline;
        let expected = self.expected(end).await?;
        let open = self.begin();
        timeout_at(end, open.send(&question))
            .await
            .map_err(|_| Error::Timeout)??;
        // The end of the time is no error: the survey names who is missing.
        timeout_at(end, open.until_all(&expected)).await.ok();
        Ok(open.survey(&expected))
    }

    /// Asks every 250 ms until each pod that has a lease has answered; a pod whose lease vanished
    /// is no longer expected, one with a new lease is. Pods see the same request id each time. At
    /// most `deadline`, then `missing` is not empty. Fails only if the bus could not be asked even
    /// once.
    pub async fn ask_until_all(
        &self,
        question: Question,
        deadline: Duration,
    ) -> Result<Survey, Error> {
        let end = Instant::now() + deadline;
        let open = self.begin();
        let mut progress = Progress::default();
        loop {
            let round = (Instant::now() + AGAIN).min(end);
            let result = self
                .round(&open, &question, &mut progress, end, round)
                .await;
            let is_over = Instant::now() >= end;
            match (&progress.expected, result) {
                (Some(expected), Ok(())) if is_over || open.missing(expected).is_empty() => {
                    return Ok(open.survey(expected));
                }
                (Some(expected), Err(error)) if is_over => {
                    return if progress.is_asked {
                        Ok(open.survey(expected))
                    } else {
                        Err(error)
                    };
                }
                (None, Err(error)) if is_over => return Err(error),
                (_, Err(error)) => tracing::debug!(%error, "cannot ask, will ask again"),
                (_, Ok(())) => {}
            }
            tokio::time::sleep_until(round).await;
        }
    }

    /// Reads the leases, asks if someone is missing, and waits for them until `round`.
    async fn round(
        &self,
        open: &OpenQuestion,
        question: &Question,
        progress: &mut Progress,
        end: Instant,
        round: Instant,
    ) -> Result<(), Error> {
        let expected = progress.expected.insert(self.expected(end).await?);
        // Asked at least once: a pod that Redis has no lease of ought to hear it, too.
        if progress.is_asked && open.missing(expected).is_empty() {
            return Ok(());
        }
        timeout_at(end, open.send(question))
            .await
            .map_err(|_| Error::Timeout)??;
        progress.is_asked = true;
        // The end of the round is no error: there is another one.
        timeout_at(round, open.until_all(expected)).await.ok();
        Ok(())
    }

    async fn expected(&self, end: Instant) -> Result<BTreeSet<PodId>, Error> {
        let pods = timeout_at(end, self.leases.pods()).await;
        Ok(pods.map_err(|_| Error::Timeout)??.into_iter().collect())
    }

    fn begin(&self) -> OpenQuestion {
        let request = Uuid::new_v4();
        let changed = Arc::new(Notify::new());
        let open = Open {
            answers: BTreeMap::new(),
            changed: changed.clone(),
        };
        self.open.lock().insert(request, open);
        OpenQuestion {
            asker: self.clone(),
            request,
            changed,
        }
    }
}
