use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use hubbub_bus::Publisher;
use hubbub_log::{Appended, Rejected, Report};
use hubbub_protocol::{
    BusChannel, ChannelEvent, MessageId, MessageReply, Record, SendMessage, UserId,
};
use smallvec::SmallVec;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use crate::{Chat, Error, Metrics, Permit, SEND_DEADLINE, metrics::InFlight};

/// Settles who answers a sender: the log's report or the sender's deadline, never both. Whoever
/// comes second sees that it did.
#[derive(Debug, Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Claim {
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What rides along with a record through the log and comes back with its report.
pub(crate) struct Pending {
    record: Record,
    /// A resend is not published: `stored` shows whichever copy the store kept.
    publish: bool,
    /// After it a success is not published. A sender that has gone away has no timer, so the
    /// deadline is kept here too.
    deadline: Instant,
    claim: Claim,
    answer: oneshot::Sender<Result<Appended, Error>>,
}

impl Pending {
    /// Where the record goes.
    #[cfg(feature = "mutants")]
    pub(crate) fn channel(&self) -> hubbub_protocol::ChannelId {
        self.record.channel()
    }

    /// What its sender is told; before that it is published, if it is to be.
    fn settle(
        self,
        report: Report,
        metrics: &Metrics,
        publish: impl FnOnce(Record, Appended),
    ) -> Settled {
        let in_time = self.claim.take() && Instant::now() < self.deadline;
        let answer = match report {
            Report::Appended(appended) if in_time => {
                fail::fail_point!("chat::after_log_ack", |_| std::process::abort());
                if self.publish {
                    publish(self.record, appended);
                }
                Ok(appended)
            }
            Report::Appended(appended) => {
                metrics.late_reports.inc();
                tracing::debug!(
                    channel.id = %self.record.channel(),
                    message.id = %self.record.message_id(),
                    seq = %appended.seq,
                    "log acknowledged after the sender's deadline"
                );
                Err(Error::Unknown("acknowledged too late".to_owned()))
            }
            Report::Rejected(reason) => Err(Error::Rejected(reason)),
            Report::Unknown(reason) => Err(Error::Unknown(reason)),
        };
        Settled {
            sender: self.answer,
            answer,
        }
    }
}

/// An answer that its sender has not been told yet.
struct Settled {
    sender: oneshot::Sender<Result<Appended, Error>>,
    answer: Result<Appended, Error>,
}

impl Settled {
    fn tell(self) {
        // Nobody listens any more where the sender went away or its deadline came first.
        self.sender.send(self.answer).ok();
    }
}

/// Frames for their channels on the bus.
type Frames = SmallVec<[(BusChannel, Vec<u8>); 1]>;

/// Runs in the one [`crate::ChatTask`], in log order per partition; must not block. Publishing comes
/// first, so that by the time a sender has its `ok` the bus has the message; and both come in this
/// one place, so that the order on the bus is the order of the log.
pub(crate) fn resolve_all(
    reports: impl Iterator<Item = (Pending, Report)>,
    metrics: &Metrics,
    publish_all: impl FnOnce(Frames),
) {
    let mut frames = Frames::new();
    let settled: SmallVec<[Settled; 1]> = reports
        .map(|(pending, report)| {
            pending.settle(report, metrics, |record, appended| {
                frames.push(frame(record, appended));
            })
        })
        .collect();
    publish_all(frames);
    settled.into_iter().for_each(Settled::tell);
}

fn frame(record: Record, appended: Appended) -> (BusChannel, Vec<u8>) {
    let to = BusChannel::Channel(record.channel());
    let frame = ChannelEvent::encode_record(appended.seq, &record.body(appended.ts_ms));
    (to, frame)
}

/// Offers frames to the bus; never waits.
pub(crate) fn publish_all(frames: Frames, bus: &Publisher, metrics: &Metrics) {
    let Some((first, _)) = frames.first() else {
        return;
    };
    let (first, count) = (first.clone(), frames.len());
    let refused = || metrics.publish_refused.inc_by(count as u64);
    fail::fail_point!("chat::before_publish", |_| {
        refused();
    });
    if let Err(error) = bus.offer_all(frames.into_iter()) {
        // The records are in the log, so the senders' answer is still `ok`; the feeds find them by
        // the consumer's announcement.
        refused();
        tracing::debug!(first = %first, records = count, %error, "publish refused");
    }
}

/// A record on its way through the log.
#[derive(Debug)]
pub(crate) struct Append {
    claim: Claim,
    deadline: Instant,
    answer: oneshot::Receiver<Result<Appended, Error>>,
}

impl Append {
    /// Waits for the report, at most until the deadline. The record stays in the log, and is
    /// published, whoever waits.
    pub(crate) async fn wait(mut self) -> Result<Appended, Error> {
        let deadline = self.deadline;
        until(deadline, |late, cx| self.poll(late, cx)).await
    }

    /// The report, once it is there. After the deadline, which is for the caller to watch, none is
    /// waited for.
    fn poll(&mut self, late: bool, cx: &mut Context<'_>) -> Poll<Result<Appended, Error>> {
        match Pin::new(&mut self.answer).poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer.unwrap_or_else(|_| {
                let gone = "the log gave no report";
                Err(Error::Unknown(gone.to_owned()))
            })),
            Poll::Pending if late && self.claim.take() => {
                Poll::Ready(Err(Error::Unknown("deadline passed".to_owned())))
            }
            // If it is late, the report came first by a hair and is being resolved: that takes no
            // wait.
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Polls until it is ready, from the deadline on with `true`.
async fn until<T>(deadline: Instant, mut poll: impl FnMut(bool, &mut Context<'_>) -> Poll<T>) -> T {
    let mut passed = pin!(sleep_until(deadline));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = poll(false, cx) {
            return Poll::Ready(answer);
        }
        ready!(passed.as_mut().poll(cx));
        poll(true, cx)
    })
    .await
}

impl Chat {
    /// Hands a record to the log at once; never waits.
    pub(crate) fn append(&self, record: Record, publish: bool) -> Result<Append, Error> {
        let (sender, answer) = oneshot::channel();
        let (claim, deadline) = (Claim::default(), Instant::now() + SEND_DEADLINE);
        let (channel, payload) = (record.channel(), record.encode());
        #[cfg(feature = "mutants")]
        let publish = publish && !self.published_early(&record);
        let pending = Pending {
            record,
            publish,
            deadline,
            claim: claim.clone(),
            answer: sender,
        };
        match self.inner.appender.append(channel, payload, pending) {
            Ok(()) => Ok(Append {
                claim,
                deadline,
                #[cfg(feature = "mutants")]
                answer: self.answered_early(channel, answer),
                #[cfg(not(feature = "mutants"))]
                answer,
            }),
            Err((_, Rejected::Full)) => Err(Error::Overloaded),
            Err((_, Rejected::Invalid(reason))) => Err(Error::Rejected(reason)),
        }
    }

    /// Planted mistake M15: whether it was published already.
    #[cfg(feature = "mutants")]
    fn published_early(&self, record: &Record) -> bool {
        let early = hubbub_mutant::planted(hubbub_mutant::Mutant::M15);
        if early {
            let at = self.inner.guesses.next(record.channel());
            let frames = Frames::from_iter([frame(record.clone(), at)]);
            publish_all(frames, &self.inner.publisher, &self.inner.metrics);
        }
        early
    }

    /// Planted mistake M1: an answer that is there already.
    #[cfg(feature = "mutants")]
    fn answered_early(
        &self,
        channel: hubbub_protocol::ChannelId,
        answer: oneshot::Receiver<Result<Appended, Error>>,
    ) -> oneshot::Receiver<Result<Appended, Error>> {
        if !hubbub_mutant::planted(hubbub_mutant::Mutant::M1) {
            return answer;
        }
        let (sender, early) = oneshot::channel();
        // Cannot fail: the receiver is here.
        sender.send(Ok(self.inner.guesses.next(channel))).ok();
        early
    }

    /// Hands the message to the log at once (so that the calls of one socket keep their order) and
    /// returns what will say how it went. Errors: [`Error::RateLimited`], [`Error::Overloaded`] and
    /// [`Error::Rejected`] (also for a permit older than 2 s), after which nothing was sent;
    /// [`Error::ChannelNotFound`] if the permit is for another channel. A reply in a thread goes
    /// through [`Chat::allow`] instead, and is [`Error::Invalid`] here.
    pub fn post(&self, permit: Permit, send: SendMessage) -> Result<Posting, Error> {
        if permit.channel() != send.channel {
            return Err(Error::ChannelNotFound);
        }
        if send.thread.is_some() {
            return Err(Error::Invalid {
                field: "thread",
                message: "the root of the thread was not looked at".to_owned(),
                limit: None,
            });
        }
        let metrics = &self.inner.metrics;
        permit
            .check_fresh()
            .inspect_err(|error| metrics.answered(outcome(error)))?;
        self.take_send(permit.user())?;
        let message_id = send.client_msg_id.unwrap_or_else(random_id);
        let record = Record::message(send.channel, permit.user(), message_id, send.text);
        self.post_record(permit, record, send.retry)
    }

    /// Takes a token of the user's rate.
    pub(crate) fn take_send(&self, user: UserId) -> Result<(), Error> {
        self.inner.sends.take(user).map_err(|retry_after_ms| {
            self.inner.metrics.answered("rate_limited");
            Error::RateLimited { retry_after_ms }
        })
    }

    /// Hands a record of the permit's user and channel to the log at once.
    pub(crate) fn post_record(
        &self,
        permit: Permit,
        record: Record,
        retry: bool,
    ) -> Result<Posting, Error> {
        let metrics = &self.inner.metrics;
        permit
            .check_fresh()
            .inspect_err(|error| metrics.answered(outcome(error)))?;
        let message_id = record.message_id();
        let append = self
            .append(record, !retry)
            .inspect_err(|error| metrics.answered(outcome(error)))?;
        Ok(Posting {
            append,
            permit,
            message_id,
            retry,
            chat: self.clone(),
            _in_flight: InFlight::new(metrics),
        })
    }
}

/// The id of a message whose sender chose none, and of a membership's record.
pub(crate) fn random_id() -> MessageId {
    MessageId(Uuid::from_u128(rand::random()))
}

fn outcome(error: &Error) -> &'static str {
    match error {
        Error::Unknown(_) => "unknown",
        Error::Overloaded => "overloaded",
        _ => "rejected",
    }
}

/// A send under way. Dropping it does not take the message back.
#[derive(Debug)]
pub struct Posting {
    append: Append,
    permit: Permit,
    message_id: MessageId,
    retry: bool,
    chat: Chat,
    _in_flight: InFlight,
}

impl Posting {
    /// The message's identity: the client's choice or a random one.
    pub fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// Waits for the log's answer, at most [`SEND_DEADLINE`] after the post. `Ok` only after the
    /// log acknowledged and the event was offered to the bus. The reply to a resend has no seq but
    /// the `fence` of its copy. Errors: [`Error::Rejected`] (it never reached the log) and
    /// [`Error::Unknown`] (it may be in it).
    pub async fn wait(mut self) -> Result<MessageReply, Error> {
        let deadline = self.deadline();
        until(deadline, |late, cx| self.poll_wait(late, cx)).await
    }

    /// As [`Self::wait`], for who waits for many with one timer: `late` says that the deadline has
    /// passed. Not to be called again after it was ready.
    pub fn poll_wait(
        &mut self,
        late: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<MessageReply, Error>> {
        let answer = ready!(self.append.poll(late, cx));
        let metrics = &self.chat.inner.metrics;
        metrics.answered(answer.as_ref().map_or_else(outcome, |_| "ok"));
        Poll::Ready(answer.map(|appended| MessageReply {
            channel: self.permit.channel(),
            message_id: self.message_id,
            seq: (!self.retry).then_some(appended.seq),
            ts_ms: appended.ts_ms,
            fence: self.retry.then_some(appended.seq),
        }))
    }

    /// When no answer is waited for any more.
    pub fn deadline(&self) -> Instant {
        self.append.deadline
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use hubbub_protocol::Seq;

    use super::*;

    const APPENDED: Appended = Appended {
        seq: Seq(7),
        ts_ms: 9,
    };

    fn pair(publish: bool, patience: Duration) -> (Pending, Append) {
        let record = Record::message(
            "C000000005".parse().expect("an id"),
            "U000000001".parse().expect("an id"),
            random_id(),
            "hi".to_owned(),
        );
        let (sender, answer) = oneshot::channel();
        let (claim, deadline) = (Claim::default(), Instant::now() + patience);
        let pending = Pending {
            record,
            publish,
            deadline,
            claim: claim.clone(),
            answer: sender,
        };
        let append = Append {
            claim,
            deadline,
            answer,
        };
        (pending, append)
    }

    /// Resolves, and says whether the record was published.
    fn resolve(pending: Pending, report: Report, metrics: &Metrics) -> bool {
        let published = Cell::new(false);
        let settled = pending.settle(report, metrics, |_, _| published.set(true));
        settled.tell();
        published.get()
    }

    #[tokio::test]
    async fn record_is_published_before_its_sender_is_answered() {
        let (pending, mut append) = pair(true, SEND_DEADLINE);
        let reports = [(pending, Report::Appended(APPENDED))];
        resolve_all(reports.into_iter(), &Metrics::default(), |frames| {
            assert_eq!(frames.len(), 1);
            assert!(append.answer.try_recv().is_err(), "answered first");
        });
        assert_eq!(append.wait().await.expect("ok"), APPENDED);
    }

    #[tokio::test]
    async fn resend_is_not_published() {
        let (pending, append) = pair(false, SEND_DEADLINE);
        let metrics = Metrics::default();
        assert!(!resolve(pending, Report::Appended(APPENDED), &metrics));
        assert_eq!(append.wait().await.expect("ok"), APPENDED);
    }

    #[tokio::test]
    async fn late_success_is_not_published() {
        let (pending, append) = pair(true, Duration::ZERO);
        let error = append.wait().await.expect_err("past its deadline");
        assert!(matches!(error, Error::Unknown(_)), "{error}");
        let metrics = Metrics::default();
        assert!(!resolve(pending, Report::Appended(APPENDED), &metrics));
        assert_eq!(metrics.late_reports.get(), 1);
    }

    #[tokio::test]
    async fn late_success_is_not_published_where_no_timer_ran() {
        let (pending, append) = pair(true, Duration::ZERO);
        assert!(!resolve(
            pending,
            Report::Appended(APPENDED),
            &Metrics::default()
        ));
        let error = append.wait().await.expect_err("past its deadline");
        assert!(matches!(error, Error::Unknown(_)), "{error}");
    }

    #[tokio::test]
    async fn sender_that_went_away_is_published_for_all_the_same() {
        let (pending, append) = pair(true, SEND_DEADLINE);
        drop(append);
        assert!(resolve(
            pending,
            Report::Appended(APPENDED),
            &Metrics::default()
        ));
    }

    #[tokio::test]
    async fn failures_keep_their_kind() {
        let metrics = Metrics::default();
        let (pending, append) = pair(true, SEND_DEADLINE);
        assert!(!resolve(pending, Report::Rejected("r".into()), &metrics));
        assert!(matches!(append.wait().await, Err(Error::Rejected(_))));
        let (pending, append) = pair(true, SEND_DEADLINE);
        assert!(!resolve(pending, Report::Unknown("u".into()), &metrics));
        assert!(matches!(append.wait().await, Err(Error::Unknown(_))));
        let (pending, append) = pair(true, SEND_DEADLINE);
        drop(pending);
        assert!(matches!(append.wait().await, Err(Error::Unknown(_))));
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn lost_publish_is_counted_and_its_sender_gets_ok() {
        let _scenario = fail::FailScenario::setup();
        let config = hubbub_bus::Config::new("redis://127.0.0.1:1", "me".parse().expect("an id"));
        // Nobody runs the task: what is offered stays where it can be seen.
        let (bus, _task) = Publisher::new(&config, &hubbub_bus::Metrics::default());
        let metrics = Metrics::default();
        let send = |expected: &str| {
            let (pending, mut append) = pair(true, SEND_DEADLINE);
            let reports = [(pending, Report::Appended(APPENDED))];
            resolve_all(reports.into_iter(), &metrics, |frames| {
                publish_all(frames, &bus, &metrics);
            });
            assert!(matches!(append.answer.try_recv(), Ok(Ok(APPENDED))));
            let waiting = format!("{bus:?}");
            assert!(waiting.contains(expected), "{waiting}");
        };
        send("waiting: 1,");
        fail::cfg("chat::before_publish", "return").expect("an action");
        send("waiting: 1,");
        assert_eq!(metrics.publish_refused.get(), 1);
        fail::remove("chat::before_publish");
        send("waiting: 2,");
    }

    /// Report and deadline race on two threads: a sender that was told "unknown" is never followed
    /// by a publish, and one that was told "ok" always is.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answer_and_publish_agree_in_a_race() {
        let (mut ok, mut unknown) = (0, 0);
        for round in 0_u64..2_000 {
            let (pending, append) = pair(true, Duration::from_millis(2));
            // From half a millisecond before the deadline to as long after it.
            let report_at = pending.deadline - Duration::from_micros(500)
                + Duration::from_micros(round % 1_000);
            let reporter = tokio::task::spawn_blocking(move || {
                while Instant::now() < report_at {
                    std::hint::spin_loop();
                }
                resolve(pending, Report::Appended(APPENDED), &Metrics::default())
            });
            let answer = append.wait().await;
            let published = reporter.await.expect("no panic");
            assert_eq!(answer.is_ok(), published, "round {round}: {answer:?}");
            *(if published { &mut ok } else { &mut unknown }) += 1;
        }
        assert!(ok > 0 && unknown > 0, "no race: {ok} ok, {unknown} unknown");
    }
}
