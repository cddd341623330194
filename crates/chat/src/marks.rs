use std::time::Duration;

use hubbub_log::{Appender, Rejected, Report};
use hubbub_protocol::{DeviceId, Mark, MarkRecord, Receipt, Seq, UserId};
use tokio::sync::oneshot;

use crate::{Chat, Error, Metrics, SEND_DEADLINE};

/// Who waits for the report of a mark, if anybody does.
pub(crate) type Waits = Option<oneshot::Sender<Result<(), Error>>>;

/// What the log says of a mark; runs on the producer's thread.
pub(crate) fn on_report(waits: Waits, report: Report, metrics: &Metrics) {
    let result = match report {
        Report::Appended(_) => Ok(()),
        Report::Rejected(reason) => Err(Error::Rejected(reason)),
        Report::Unknown(reason) => Err(Error::Unknown(reason)),
    };
    metrics.marked(if result.is_ok() { "ok" } else { "lost" });
    if let Some(waits) = waits {
        // Nobody listens any more where the request was given up.
        waits.send(result).ok();
    }
}

/// A mark as the log has it: what was read was delivered as well.
pub fn receipt_of(user: UserId, device: DeviceId, mark: Mark) -> Receipt {
    let mut receipt = Receipt {
        channel: mark.channel,
        user,
        device,
        delivered: Seq::ZERO,
        read: Seq::ZERO,
    };
    receipt.merge(
        mark.delivered.unwrap_or_default(),
        mark.read.unwrap_or_default(),
    );
    receipt
}

impl Chat {
    /// Hands a mark to the log at once; never waits, and nobody is told how it went: a mark that
    /// is lost is made up for by the device's next one. The caller has checked the membership and
    /// that the channel has the seqs.
    pub fn append_mark(&self, receipt: Receipt) {
        if self.hand_over(receipt, None).is_err() {
            self.inner.metrics.marked("refused");
        }
    }

    /// Sets the cursors of a device; they never go back. `Ok` after the log has it; readers see it
    /// once the consumer has applied it. Errors: [`Error::ChannelNotFound`],
    /// [`Error::NotStoredYet`] for a seq that the channel does not have, [`Error::Store`],
    /// [`Error::Overloaded`], [`Error::Rejected`], [`Error::Unknown`].
    pub async fn mark(&self, user: UserId, device: DeviceId, mark: Mark) -> Result<(), Error> {
        let receipt = receipt_of(user, device, mark);
        self.permit(receipt.channel, user).await?;
        self.until_stored(receipt.channel, receipt.delivered)
            .await?;
        // Again: the wait may have taken seconds.
        self.permit(receipt.channel, user).await?.check_fresh()?;
        let (waits, answer) = oneshot::channel();
        self.hand_over(receipt, Some(waits))?;
        let gone = || Error::Unknown("the log gave no report".to_owned());
        match tokio::time::timeout(SEND_DEADLINE, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(Error::Unknown("deadline passed".to_owned())),
        }
    }

    fn hand_over(&self, receipt: Receipt, waits: Waits) -> Result<(), Error> {
        let channel = receipt.channel;
        let payload = MarkRecord(receipt).encode();
        match self.inner.marks.append(channel, payload, waits) {
            Ok(()) => Ok(()),
            Err((_, Rejected::Full)) => Err(Error::Overloaded),
            Err((_, Rejected::Invalid(reason))) => Err(Error::Rejected(reason)),
        }
    }

    /// Waits until every mark has its report, at most `deadline`.
    pub(crate) async fn flush_marks(&self, deadline: Duration) -> Result<(), hubbub_log::Error> {
        self.inner.marks.flush(deadline).await
    }
}

/// The producer of the marks.
pub(crate) fn start(
    log: &hubbub_log::Config,
    log_metrics: &hubbub_log::Metrics,
    metrics: &Metrics,
) -> Result<Appender<Waits>, hubbub_log::Error> {
    let metrics = metrics.clone();
    Appender::start(log, log_metrics, move |waits, report| {
        on_report(waits, report, &metrics);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_was_delivered() {
        let mark = |delivered: Option<u64>, read: Option<u64>| {
            let mark = Mark {
                channel: "D000000005".parse().expect("an id"),
                delivered: delivered.map(Seq),
                read: read.map(Seq),
            };
            let user = UserId::new(1).expect("from 1");
            let receipt = receipt_of(user, "phone".parse().expect("an id"), mark);
            (receipt.delivered.0, receipt.read.0)
        };
        assert_eq!(mark(Some(5), None), (5, 0));
        assert_eq!(mark(None, Some(5)), (5, 5));
        assert_eq!(mark(Some(3), Some(5)), (5, 5));
        assert_eq!(mark(Some(9), Some(5)), (9, 5));
    }

    #[tokio::test]
    async fn who_waits_hears_what_the_log_said() {
        for (report, ok) in [
            (
                Report::Appended(hubbub_log::Appended {
                    seq: Seq(1),
                    ts_ms: 1,
                }),
                true,
            ),
            (Report::Unknown("u".to_owned()), false),
        ] {
            let (waits, answer) = oneshot::channel();
            on_report(Some(waits), report, &Metrics::default());
            assert_eq!(answer.await.expect("an answer").is_ok(), ok);
        }
    }
}
