use anyhow::Context as _;
use hubbub_client::{Http, Page};
use hubbub_protocol::{ChannelId, Seq, UserId, http::MessagePage};

use crate::failure::usage;

/// The channel of an id or a name.
pub(crate) async fn channel(http: &Http, text: &str) -> anyhow::Result<ChannelId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let found = http
        .channel_by_name(text)
        .await
        .with_context(|| format!("look for channel {text}"))?;
    match found {
        Some(channel) => Ok(channel.id),
        None => anyhow::bail!(
            "there is no channel {text} that you can see: `hubbub channels` lists them"
        ),
    }
}

/// The user of an id, or of a name among the people that the caller shares a channel with.
pub(crate) async fn user(http: &Http, text: &str) -> anyhow::Result<UserId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let mut found = Vec::new();
    let channels = http.all_channels().await.context("list channels")?;
    for channel in channels.iter().filter(|c| c.is_member) {
        let members = http.all_members(channel.id).await.context("list members")?;
        for member in members {
            if member.user.name == text && !found.contains(&member.user.id) {
                found.push(member.user.id);
            }
        }
    }
    match found.as_slice() {
        [id] => Ok(*id),
        [] => anyhow::bail!("nobody in your channels is called {text}: use the user id (U…)"),
        _ => Err(usage(format!(
            "several people are called {text}: {}; use the id",
            found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// The newest page, or nothing and `None` where history cannot be read now: chat goes on
/// without it.
pub(crate) async fn newest(
    http: &Http,
    channel: ChannelId,
    limit: u16,
) -> anyhow::Result<(MessagePage, Option<Seq>)> {
    let page = Page {
        limit: Some(usize::from(limit.max(1))),
        ..Page::default()
    };
    match http.messages(channel, page).await {
        Ok(mut page) => {
            let head = page.head;
            if limit == 0 {
                page.messages.clear();
            }
            Ok((page, Some(head)))
        }
        Err(error) if error.retryable() => {
            eprintln!("hubbub: history cannot be read now ({error}); live messages follow");
            let empty = MessagePage {
                messages: Vec::new(),
                has_more: false,
                head: Seq::ZERO,
            };
            Ok((empty, None))
        }
        Err(error) => Err(error).with_context(|| format!("read the history of {channel}")),
    }
}
