//! After the last message: waiting until everybody has everything, and saying who has not.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use hubbub_protocol::{ChannelId, Seq};
use tokio::time::{Instant, sleep};

use crate::{device::Device, system::System};

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How many of those who lack something are named.
const NAMED: usize = 5;

/// Whether everybody has everything, and if not, who lacks what.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Records of the log that no consumer has processed.
    pub lag: u64,
    /// `reader-3.2 in C000000005: 17 of 19`, the first few.
    pub behind: Vec<String>,
    /// All of these.
    pub count: usize,
}

impl Quiet {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lag == 0 && self.count == 0
    }
}

/// Waits until the consumers have processed the whole log and every device is synced to the head
/// of every channel that it listens to, at most `limit`.
///
/// # Errors
/// When log or store cannot be read at all.
pub async fn wait(system: &System, devices: &[Arc<Device>], limit: Duration) -> Result<Quiet> {
    let begun = Instant::now();
    loop {
        let quiet = look(system, devices).await;
        match quiet {
            Ok(quiet) if quiet.is_complete() => return Ok(quiet),
            // What was just brought back answers the next time.
            _ if begun.elapsed() < limit => sleep(LOOK_AGAIN).await,
            quiet => return quiet,
        }
    }
}

async fn look(system: &System, devices: &[Arc<Device>]) -> Result<Quiet> {
    let lag = lag(system).await?;
    let heads = heads(system).await?;
    let mut quiet = Quiet {
        lag,
        ..Quiet::default()
    };
    for device in devices {
        for (channel, cursor) in device.cursors() {
            let head = heads.get(&channel).copied().unwrap_or(Seq::ZERO);
            if cursor.unwrap_or(Seq::ZERO) < head {
                quiet.count += 1;
                if quiet.behind.len() < NAMED {
                    let at = cursor.map_or_else(|| "nothing".to_owned(), |seq| seq.to_string());
                    let text = format!("{} in {channel}: {at} of {head}", device.name());
                    quiet.behind.push(text);
                }
            }
        }
    }
    Ok(quiet)
}

/// Records of the log that are not in the store yet.
///
/// # Errors
/// When one of the two cannot be read.
pub async fn lag(system: &System) -> Result<u64> {
    let marks = hubbub_log::watermarks(&system.log())
        .await
        .context("read the log's ends")?;
    let mut positions = HashMap::new();
    for line in on_shards(system, "select partition, next_offset from log_position").await? {
        let (partition, next): (usize, i64) = pair(&line)?;
        positions.insert(partition, next);
    }
    let lags = marks.iter().enumerate().map(|(partition, mark)| {
        let next = positions.get(&partition).copied().unwrap_or(mark.low);
        u64::try_from(mark.high - next).unwrap_or(0)
    });
    Ok(lags.sum())
}

/// Every channel's head.
///
/// # Errors
/// When a shard cannot be read.
pub async fn heads(system: &System) -> Result<HashMap<ChannelId, Seq>> {
    let lines = on_shards(system, "select channel_id, through from channel_heads").await?;
    let heads = lines.iter().map(|line| {
        let (number, through): (i64, u64) = pair(line)?;
        let channel = ChannelId::from_shard_key(number);
        Ok((channel.context("no channel has the key 0")?, Seq(through)))
    });
    heads.collect()
}

/// The rows of a statement from all shards.
///
/// # Errors
/// When a shard cannot be read.
pub async fn on_shards(system: &System, statement: &str) -> Result<Vec<String>> {
    let stack = system.stack();
    let shards = (0..stack.endpoints().shard_urls.len()).map(|n| async move {
        let database = format!("hubbub_shard_{n}");
        stack.shard(n).sql(&database, statement).await
    });
    let rows = try_join_all(shards).await?;
    let lines = rows.iter().flat_map(|rows| rows.lines());
    Ok(lines.map(str::to_owned).collect())
}

/// Two numbers of a row.
fn pair<A: std::str::FromStr, B: std::str::FromStr>(line: &str) -> Result<(A, B)> {
    let found = line
        .split_once('|')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    found.with_context(|| format!("two numbers are expected: `{line}`"))
}
