//! One user who never connects and pages history over HTTP all the time.

use std::time::Duration;

use hubbub_client::{Http, Page};
use hubbub_protocol::{ChannelId, Seq};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two pages.
const PAUSE: Duration = Duration::from_millis(100);
const LIMITS: [usize; 3] = [7, 50, 200];

/// What the pager saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Paged {
    /// Pages that were answered.
    pub pages: u64,
    /// Calls that were not.
    pub failed: u64,
    /// Rows that were not in strict order, or beyond the bound of their page: each is an error of
    /// the server that no later read would show.
    pub wrong: Vec<String>,
}

/// Pages until `stop`.
pub async fn page(
    http: Http,
    channels: Vec<ChannelId>,
    seed: u64,
    stop: CancellationToken,
) -> Paged {
    let mut paged = Paged::default();
    let mut rng = SmallRng::seed_from_u64(seed);
    while stop.run_until_cancelled(sleep(PAUSE)).await.is_some() {
        let channel = channels[rng.random_range(0..channels.len())];
        let limit = LIMITS[rng.random_range(0..LIMITS.len())];
        let Some(read) = stop
            .run_until_cancelled(through(&http, channel, limit, &mut paged))
            .await
        else {
            break;
        };
        if read.is_err() {
            paged.failed += 1;
        }
    }
    paged
}

/// All pages of one channel, forward.
async fn through(
    http: &Http,
    channel: ChannelId,
    limit: usize,
    paged: &mut Paged,
) -> Result<(), hubbub_client::HttpError> {
    let mut after = Seq::ZERO;
    loop {
        let page = Page {
            after: Some(after),
            limit: Some(limit),
            ..Page::default()
        };
        let page = http.messages(channel, page).await?;
        paged.pages += 1;
        for entry in &page.messages {
            if entry.seq <= after {
                let text = format!("{channel}: {} after {after}", entry.seq);
                paged.wrong.push(text);
            }
            after = entry.seq;
        }
        if !page.has_more || page.messages.is_empty() {
            return Ok(());
        }
    }
}
