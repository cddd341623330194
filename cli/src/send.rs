use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_client::{Http, Page};
use hubbub_protocol::{MessageId, MessageReply, Seq, check_text};
use uuid::Uuid;

use crate::{args::SendArgs, connect::Context, failure::usage, room, show::line};

/// `hubbub send`: one message over HTTP.
pub(crate) async fn run(context: &Context, args: &SendArgs) -> anyhow::Result<ExitCode> {
    let text = args.text.join(" ");
    check_text(&text).map_err(|error| usage(error.to_string()))?;
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let message_id = MessageId(Uuid::new_v4());
    let reply = http
        .post(channel, &text, message_id)
        .await
        .with_context(|| format!("send to {}", args.channel))?;
    if args.json {
        line(&serde_json::to_string(&reply)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let seq = match reply.seq {
        Some(seq) => Some(seq),
        None => stored_seq(&http, &reply).await,
    };
    match seq {
        Some(seq) => line(&seq.to_string())?,
        None => line(&format!("sent as {message_id}; its seq is not known yet"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The seq of a message that was sent more than once: history knows which copy was kept.
async fn stored_seq(http: &Http, reply: &MessageReply) -> Option<Seq> {
    let fence = reply.fence?;
    let page = Page {
        before: Some(Seq(fence.0 + 1)),
        at_least: Some(fence),
        limit: Some(200),
        ..Page::default()
    };
    let page = http.messages(reply.channel, page).await.ok()?;
    let entry = page
        .messages
        .into_iter()
        .find(|entry| entry.body.key().message_id == reply.message_id)?;
    Some(entry.seq)
}
