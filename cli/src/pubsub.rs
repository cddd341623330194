use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_bus::Inspect;
use hubbub_protocol::{BusChannel, ChannelId};

use crate::{
    args::{PubsubArgs, PubsubCommand},
    show::{harmless, line},
    table::table,
};

/// `hubbub pubsub`: what is live in Redis now.
pub(crate) async fn run(args: &PubsubArgs) -> anyhow::Result<ExitCode> {
    let mut redis = Inspect::connect(&args.redis_url).await.context(
        "connect to Redis (REDIS_URL or --redis-url names it; `./dev status` shows the local one)",
    )?;
    match &args.command {
        PubsubCommand::Channels { pattern } => {
            let mut names = redis.channels(pattern).await.context("ask Redis")?;
            names.sort_unstable();
            for name in names {
                line(&harmless(&name))?;
            }
        }
        PubsubCommand::Numsub { channels } => {
            let mut names: Vec<_> = channels.iter().map(|c| bus_name(c)).collect();
            if names.is_empty() {
                names = redis.channels("*").await.context("ask Redis")?;
                names.sort_unstable();
            }
            let counts = redis.numsub(&names).await.context("ask Redis")?;
            let rows: Vec<_> = counts
                .into_iter()
                .map(|(name, count)| vec![harmless(&name), count.to_string()])
                .collect();
            for text in table(&["CHANNEL", "SUBSCRIBERS"], &rows, &[1]) {
                line(&text)?;
            }
        }
        PubsubCommand::Tail { pattern } => {
            let mut failure = None;
            let show = |channel: &str, payload: &[u8]| {
                let text = format!("{channel} {}", String::from_utf8_lossy(payload));
                failure = line(&harmless(&text)).err();
                failure.is_none()
            };
            redis.tail(pattern, show).await.context("listen to Redis")?;
            if let Some(error) = failure {
                return Err(error.into());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes `C000000005` for `channel-C000000005`.
fn bus_name(text: &str) -> String {
    match text.parse::<ChannelId>() {
        Ok(id) => BusChannel::Channel(id).to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_id_stands_for_its_redis_channel() {
        assert_eq!(bus_name("C000000005"), "channel-C000000005");
        assert_eq!(bus_name("pods"), "pods");
    }
}
