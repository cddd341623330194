use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hubbub_protocol::BusChannel;
use prometheus_client::metrics::gauge::Gauge;
use redis::{Client, Cmd, RedisWrite, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error, Metrics,
    connection::{Backoff, COMMAND, client, connect, settings},
    metrics::{Connection, Published},
};

/// A publish that could not be written for so long is dropped: by then the sweep has found what
/// it announces, and a late one would only delay the fresh ones.
const STALE: Duration = Duration::from_secs(1);
/// Commands in one pipeline, but for a burst that passes it: the answers of the first ones wait
/// for no gain.
const PIPELINE: usize = 512;
/// The command's name and the channel's, as a rule.
const NAMES_BYTES: usize = 32;
/// Payloads that wait, in bytes, beside the bound of their number.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
const BACKOFF_FLOOR: Duration = Duration::from_millis(50);
/// Small: the lease is renewed over this connection, and an edge holds everything until it is.
const BACKOFF_CAP: Duration = Duration::from_millis(250);

type Answer = oneshot::Sender<Result<Value, Error>>;

enum Job {
    Command(Command),
    /// Answered when everything before it is done.
    Flush(oneshot::Sender<()>),
}

/// What is queued at once, so that the connection's task wakes when all of it is there.
enum Jobs {
    One(Job),
    Burst(Vec<Command>),
}

impl Jobs {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Burst(commands) => commands.len(),
        }
    }

    fn unpack(self, into: &mut impl Extend<Job>) {
        match self {
            Self::One(job) => into.extend([job]),
            Self::Burst(commands) => into.extend(commands.into_iter().map(Job::Command)),
        }
    }
}

/// Places in the queue, one for each job: a burst is one thing in the queue and has several.
struct Places {
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for Places {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

struct Queued {
    jobs: Jobs,
    _places: Places,
}

struct Command {
    command: Cmd,
    at: Instant,
    /// `None` for what is forgotten once it is written.
    answer: Option<Answer>,
    is_publish: bool,
    _weight: Weight,
}

/// One waiting command, with the bytes that it holds.
struct Weight {
    total: Arc<AtomicUsize>,
    bytes: usize,
    waiting: Gauge,
}

impl Weight {
    fn new(total: &Arc<AtomicUsize>, bytes: usize, waiting: &Gauge) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        waiting.inc();
        Self {
            total: total.clone(),
            bytes,
            waiting: waiting.clone(),
        }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.waiting.dec();
    }
}

/// Publishes, pipelined on one connection, in the order of the calls. Cheap handle.
#[derive(Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Queued>,
    bytes: Arc<AtomicUsize>,
    /// Places in the queue that are taken.
    places: Arc<AtomicUsize>,
    pub(crate) metrics: Metrics,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        f.debug_struct("Publisher")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// The actor must be run (spawned by the binary); it reconnects with jitter for ever.
    pub fn new(config: &Config, metrics: &Metrics) -> (Self, PublisherTask) {
        let (queue, jobs) = mpsc::channel(config.publish_queue.max(1));
        let publisher = Self {
            queue,
            bytes: Arc::default(),
            places: Arc::default(),
            metrics: metrics.clone(),
        };
        let task = PublisherTask {
            config: config.clone(),
            metrics: metrics.clone(),
            jobs,
            waiting: VecDeque::new(),
        };
        (publisher, task)
    }

    /// Queues; never waits. A publish that fails later, or is not written within a second, is
    /// counted and forgotten. `Full` and `Disconnected` are counted, too.
    pub fn offer(&self, to: &BusChannel, payload: Bytes) -> Result<(), Error> {
        self.push(publish(to, &payload), payload.len(), true, None)
    }

    /// As [`Publisher::offer`] for each, in this order; none is written before all of them are
    /// queued, so they share a pipeline. All of them are refused, or none.
    pub fn offer_all(
        &self,
        offers: impl ExactSizeIterator<Item = (BusChannel, impl AsRef<[u8]>)>,
    ) -> Result<(), Error> {
        let count = offers.len();
        if count == 0 {
            return Ok(());
        }
        let commands = offers.map(|(to, payload)| {
            let payload = payload.as_ref();
            self.command_of(publish(&to, payload), payload.len(), true, None)
        });
        let burst = Jobs::Burst(commands.collect());
        // What it holds counts by now.
        let queued = self.room(0).and_then(|()| self.enqueue(burst));
        queued.inspect_err(|_| self.metrics.published(Published::Full, count))
    }

    /// Publishes and waits for Redis's answer: number of receivers. Fails after at most a second;
    /// at once while the connection is down. Cancelled before it is written, it is not sent.
    pub async fn publish(&self, to: &BusChannel, payload: Bytes) -> Result<u64, Error> {
        match self.ask(publish(to, &payload), payload.len(), true).await? {
            Value::Int(receivers) => Ok(u64::try_from(receivers).unwrap_or(0)),
            _ => Err(Error::unexpected_answer()),
        }
    }

    /// Any other command, in its turn among the publishes; deadlines as for `publish`.
    pub(crate) async fn command(&self, command: Cmd) -> Result<Value, Error> {
        self.ask(command, 0, false).await
    }

    async fn ask(&self, command: Cmd, bytes: usize, is_publish: bool) -> Result<Value, Error> {
        let (answer, answered) = oneshot::channel();
        self.push(command, bytes, is_publish, Some(answer))?;
        match timeout(COMMAND, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Disconnected),
            Err(_) => Err(Error::Timeout),
        }
    }

    fn push(
        &self,
        command: Cmd,
        bytes: usize,
        is_publish: bool,
        answer: Option<Answer>,
    ) -> Result<(), Error> {
        let queued = self.room(bytes).and_then(|()| {
            let command = self.command_of(command, bytes, is_publish, answer);
            self.enqueue(Jobs::One(Job::Command(command)))
        });
        queued.inspect_err(|_| {
            if is_publish {
                self.metrics.published(Published::Full, 1);
            }
        })
    }

    fn command_of(
        &self,
        command: Cmd,
        bytes: usize,
        is_publish: bool,
        answer: Option<Answer>,
    ) -> Command {
        Command {
            command,
            at: Instant::now(),
            answer,
            is_publish,
            _weight: Weight::new(&self.bytes, bytes, &self.metrics.publish_queue),
        }
    }

    /// Whether so many more bytes may wait.
    fn room(&self, bytes: usize) -> Result<(), Error> {
        if self.bytes.load(Ordering::Relaxed).saturating_add(bytes) > QUEUE_BYTES {
            return Err(Error::Full);
        }
        Ok(())
    }

    /// In places of its own.
    fn placed(&self, jobs: Jobs) -> Queued {
        let count = jobs.len();
        self.places.fetch_add(count, Ordering::Relaxed);
        Queued {
            jobs,
            _places: Places {
                taken: self.places.clone(),
                count,
            },
        }
    }

    fn enqueue(&self, jobs: Jobs) -> Result<(), Error> {
        let queued = self.placed(jobs);
        if self.places.load(Ordering::Relaxed) > self.queue.max_capacity() {
            return Err(Error::Full);
        }
        self.queue.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Disconnected,
        })
    }

    /// Waits until all that was offered so far was written or failed (drain): a few seconds at
    /// most, because what cannot be written goes stale.
    pub async fn flush(&self) {
        let (done, all_done) = oneshot::channel();
        let flush = self.placed(Jobs::One(Job::Flush(done)));
        if self.queue.send(flush).await.is_ok() {
            // An error means that the actor is gone, and all jobs with it.
            all_done.await.ok();
        }
    }
}

fn publish(to: &BusChannel, payload: &[u8]) -> Cmd {
    // Room for all of it at once: there is one for each message.
    let mut command = Cmd::with_capacity(3, NAMES_BYTES + payload.len());
    command.arg("PUBLISH");
    command.write_arg_fmt(to);
    command.arg(payload);
    command
}

/// The connection of a [`Publisher`].
pub struct PublisherTask {
    config: Config,
    metrics: Metrics,
    jobs: mpsc::Receiver<Queued>,
    /// Taken from `jobs` while there was no connection; written before them.
    waiting: VecDeque<Job>,
}

impl fmt::Debug for PublisherTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherTask")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why serving a connection ended.
enum End {
    Broken(Error),
    /// No job will come any more.
    Finished,
}

impl PublisherTask {
    /// Runs until `stop` or until every [`Publisher`] is gone, then writes what is queued if the
    /// connection is there, and returns. Fails only on a URL that is none.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let client = client(&self.config.url)?;
        let mut backoff = Backoff::new(BACKOFF_FLOOR, BACKOFF_CAP);
        while !stop.is_cancelled() {
            let error = match self.connect(&client, &stop).await {
                Ok(Some(connection)) => {
                    backoff.reset();
                    match self.serve(connection, &stop).await {
                        End::Finished => return Ok(()),
                        End::Broken(error) => error,
                    }
                }
                Ok(None) => break,
                Err(error) => error,
            };
            tracing::warn!(%error, "publisher has no connection to redis");
            self.wait(backoff.next(), &stop).await;
        }
        self.give_up();
        Ok(())
    }

    /// `None` when stopped.
    async fn connect(
        &self,
        client: &Client,
        stop: &CancellationToken,
    ) -> Result<Option<MultiplexedConnection>, Error> {
        let settings = settings();
        // Waits for the connection (it has a deadline), or for the stop.
        let connection = tokio::select! {
            connection = connect(client, self.config.pod.as_str(), &settings) => connection?,
            () = stop.cancelled() => return Ok(None),
        };
        self.metrics.connected(Connection::Publisher);
        tracing::info!("publisher is connected to redis");
        Ok(Some(connection))
    }

    /// One pipeline a turn, with everything that came during the turn before.
    async fn serve(
        &mut self,
        mut connection: MultiplexedConnection,
        stop: &CancellationToken,
    ) -> End {
        let mut batch = Vec::with_capacity(PIPELINE);
        loop {
            if self.waiting.is_empty() {
                // Waits for jobs, or for the stop: then nobody can add any, and the rest is done.
                tokio::select! {
                    first = self.jobs.recv() => {
                        let Some(first) = first else {
                            return End::Finished;
                        };
                        first.jobs.unpack(&mut batch);
                        // What was begun together is nearly here, and then goes with it.
                        tokio::task::yield_now().await;
                        while batch.len() < PIPELINE
                            && let Ok(more) = self.jobs.try_recv()
                        {
                            more.jobs.unpack(&mut batch);
                        }
                    }
                    () = stop.cancelled(), if !self.jobs.is_closed() => {
                        self.jobs.close();
                        continue;
                    }
                }
            } else {
                let count = self.waiting.len().min(PIPELINE);
                batch.extend(self.waiting.drain(..count));
            }
            if let Err(error) = self.write(&mut connection, &mut batch).await {
                return End::Broken(error);
            }
        }
    }

    /// Writes a batch and hands out the answers. An error means that the connection is of no use
    /// any more; nothing is written twice.
    async fn write(
        &self,
        connection: &mut MultiplexedConnection,
        batch: &mut Vec<Job>,
    ) -> Result<(), Error> {
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        let mut flushes = Vec::new();
        for job in batch.drain(..) {
            match job {
                Job::Flush(done) => flushes.push(done),
                Job::Command(command) if self.is_over(&command) => {}
                Job::Command(command) => {
                    pipeline.add_command(command.command);
                    answers.push((command.answer, command.is_publish));
                }
            }
        }
        let result = if answers.is_empty() {
            Ok(Vec::new())
        } else {
            // The deadline is the connection's response timeout.
            connection
                .send_packed_commands(&pipeline, 0, answers.len())
                .await
        };
        let ended = match result {
            Ok(values) => {
                self.answer_all(answers, values);
                Ok(())
            }
            Err(error) => {
                let error = Error::Redis(error);
                for (answer, is_publish) in answers {
                    self.fail(answer, is_publish, error.clone());
                }
                Err(error)
            }
        };
        for done in flushes {
            // The one who flushed need not wait.
            done.send(()).ok();
        }
        ended
    }

    fn answer_all(&self, answers: Vec<(Option<Answer>, bool)>, values: Vec<Value>) {
        let mut published = 0;
        for ((answer, is_publish), value) in answers.into_iter().zip(values) {
            match value.extract_error() {
                Ok(value) => {
                    published += usize::from(is_publish);
                    if let Some(answer) = answer {
                        // The asker may have given up.
                        answer.send(Ok(value)).ok();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "redis refused a command");
                    self.fail(answer, is_publish, Error::Redis(error));
                }
            }
        }
        self.metrics.published(Published::Ok, published);
    }

    fn fail(&self, answer: Option<Answer>, is_publish: bool, error: Error) {
        if is_publish {
            self.metrics.published(Published::Failed, 1);
        }
        if let Some(answer) = answer {
            answer.send(Err(error)).ok();
        }
    }

    /// Whether writing it has no use any more: too old, or nobody waits for the answer.
    fn is_over(&self, command: &Command) -> bool {
        let is_over = command.at.elapsed() >= STALE
            || command
                .answer
                .as_ref()
                .is_some_and(|answer| answer.is_closed());
        if is_over && command.is_publish {
            self.metrics.published(Published::Stale, 1);
        }
        is_over
    }

    /// Without a connection: who waits for an answer is told at once; the rest stays until it is
    /// stale, so that a short break costs nothing.
    async fn wait(&mut self, pause: Duration, stop: &CancellationToken) {
        let end = Instant::now() + pause;
        loop {
            // Waits for a job, for the end of the pause, or for the stop. Biased: jobs first
            // would starve the pause under load.
            let queued = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep_until(end) => break,
                queued = self.jobs.recv() => queued,
            };
            match queued.map(|queued| queued.jobs) {
                Some(Jobs::One(Job::Command(Command {
                    answer: Some(answer),
                    is_publish,
                    ..
                }))) => self.fail(Some(answer), is_publish, Error::Disconnected),
                Some(jobs) => jobs.unpack(&mut self.waiting),
                // Every publisher is gone; what waits is still worth the next attempt.
                None => sleep_until(end).await,
            }
            self.drop_stale();
        }
        self.drop_stale();
    }

    /// Drops what is too old or too much, from the front.
    fn drop_stale(&mut self) {
        while let Some(first) = self.waiting.front() {
            match first {
                Job::Flush(_) => {}
                Job::Command(command) if self.is_over(command) => {}
                Job::Command(command) if self.waiting.len() > self.config.publish_queue => {
                    if command.is_publish {
                        self.metrics.published(Published::Stale, 1);
                    }
                }
                Job::Command(_) => return,
            }
            if let Some(Job::Flush(done)) = self.waiting.pop_front() {
                done.send(()).ok();
            }
        }
    }

    /// Fails whatever is left.
    fn give_up(&mut self) {
        self.jobs.close();
        let mut left: Vec<_> = self.waiting.drain(..).collect();
        while let Ok(queued) = self.jobs.try_recv() {
            queued.jobs.unpack(&mut left);
        }
        for job in left {
            match job {
                Job::Flush(done) => {
                    done.send(()).ok();
                }
                Job::Command(command) => {
                    self.fail(command.answer, command.is_publish, Error::Disconnected);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_until_it_is_gone() {
        let config = Config::new("redis://127.0.0.1:1", "me".parse().expect("an id"));
        let metrics = Metrics::default();
        let (publisher, task) = Publisher::new(&config, &metrics);
        for _ in 0..2 {
            let offered = publisher.offer(&BusChannel::Pods, Bytes::from_static(b"x"));
            offered.expect("room");
        }
        assert_eq!(metrics.publish_queue.get(), 2);
        drop(task);
        assert_eq!(metrics.publish_queue.get(), 0);
    }

    #[test]
    fn burst_takes_a_place_for_each_and_all_of_it_or_none() {
        let mut config = Config::new("redis://127.0.0.1:1", "me".parse().expect("an id"));
        config.publish_queue = 4;
        let metrics = Metrics::default();
        let (publisher, mut task) = Publisher::new(&config, &metrics);
        let burst = |count: usize| {
            let offers = vec![(BusChannel::Pods, Bytes::from_static(b"x")); count];
            publisher.offer_all(offers.into_iter())
        };
        burst(0).expect("nothing");
        burst(3).expect("room");
        assert!(matches!(burst(2), Err(Error::Full)));
        assert_eq!(metrics.publish_queue.get(), 3);
        burst(1).expect("room");
        let one = publisher.offer(&BusChannel::Pods, Bytes::from_static(b"x"));
        assert!(matches!(one, Err(Error::Full)));
        let mut jobs = Vec::new();
        task.jobs
            .try_recv()
            .expect("a burst")
            .jobs
            .unpack(&mut jobs);
        assert_eq!(jobs.len(), 3);
        burst(3).expect("their places are free");
    }
}
