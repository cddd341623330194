//! Appends an import's records to the log, no faster than it was told to.
use std::time::Duration;

use anyhow::Context as _;
use hubbub_log::{Appender, Metrics, Rejected, Report};
use hubbub_protocol::{ChannelId, MessageKey, Record, Seq};
use indicatif::ProgressBar;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::room::Known;

/// How long the log may refuse to take anything.
const REFUSED: Duration = Duration::from_secs(60);
/// How long a report may take; the log gives a record up after less.
const REPORT: Duration = Duration::from_secs(30);
/// Pause after a refusal.
const PAUSE: Duration = Duration::from_millis(100);

/// A record on its way; `Err` where the log did not say that it has it.
type Answer = oneshot::Receiver<Report>;

/// The log, and the pace.
pub(super) struct Writer {
    appender: Appender<oneshot::Sender<Report>>,
    interval: Duration,
    /// No append before then.
    next: Instant,
}

/// What came of a wave.
#[derive(Debug)]
pub(super) enum Wave {
    Done,
    /// The log did not acknowledge all of it: which of it is there is to be read back.
    Unsure(String),
}

impl Writer {
    /// `rate`: records a second, from 1.
    pub(super) async fn start(log: &hubbub_log::Config, rate: u32) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let appender =
            Appender::start(log, &metrics, |answer: oneshot::Sender<Report>, report| {
                // Nobody waits where the import was given up.
                answer.send(report).ok();
            })?;
        appender.warm_up().await.context("open the log")?;
        Ok(Self {
            appender,
            interval: Duration::from_secs(1) / rate.max(1),
            next: Instant::now(),
        })
    }

    /// Appends records that do not depend on each other, in their order, and waits for all.
    /// What is acknowledged is in `known` afterwards, with its seq.
    pub(super) async fn wave(
        &mut self,
        records: Vec<Record>,
        known: &mut Known,
        bar: &ProgressBar,
    ) -> anyhow::Result<Wave> {
        let mut answers = Vec::with_capacity(records.len());
        for record in records {
            let key = MessageKey {
                user: record.user(),
                message_id: record.message_id(),
            };
            let answer = self.append(record.channel(), record.encode()).await?;
            answers.push((key, answer));
        }
        let mut unsure = None;
        for (key, answer) in answers {
            match wait(answer).await {
                Ok(seq) => {
                    known.note(key, seq);
                    bar.inc(1);
                }
                Err(reason) => unsure = Some(reason),
            }
        }
        Ok(unsure.map_or(Wave::Done, Wave::Unsure))
    }

    async fn append(&mut self, channel: ChannelId, payload: Vec<u8>) -> anyhow::Result<Answer> {
        sleep_until(self.next).await;
        self.next = self.next.max(Instant::now()) + self.interval;
        let (mut sender, answer) = oneshot::channel();
        let deadline = Instant::now() + REFUSED;
        loop {
            match self.appender.append(channel, payload.clone(), sender) {
                Ok(()) => return Ok(answer),
                Err((back, reason @ (Rejected::Full | Rejected::Invalid(_)))) => {
                    // A producer that is being replaced refuses for a moment.
                    anyhow::ensure!(Instant::now() < deadline, "the log takes nothing: {reason}");
                    sender = back;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Appends payloads of any kind; what matters is that each is there at least once.
    pub(super) async fn at_least_once(
        &mut self,
        payloads: Vec<(ChannelId, Vec<u8>)>,
    ) -> anyhow::Result<()> {
        for (channel, payload) in payloads {
            let deadline = Instant::now() + REFUSED;
            loop {
                let answer = self.append(channel, payload.clone()).await?;
                match wait(answer).await {
                    Ok(_) => break,
                    Err(reason) => {
                        anyhow::ensure!(Instant::now() < deadline, "{reason}");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
        Ok(())
    }
}

async fn wait(answer: Answer) -> Result<Seq, String> {
    match tokio::time::timeout(REPORT, answer).await {
        Ok(Ok(Report::Appended(appended))) => Ok(appended.seq),
        Ok(Ok(Report::Rejected(reason) | Report::Unknown(reason))) => Err(reason),
        Ok(Err(_)) | Err(_) => Err("the log gave no report".to_owned()),
    }
}
