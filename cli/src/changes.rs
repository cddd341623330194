use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_client::Replies;
use hubbub_protocol::{
    ChannelId, ErrorCode, MessageId, MessageReply, Seq, check_reaction, check_text,
    http::{Entry, ThreadPage},
};
use uuid::Uuid;

use crate::{
    args::{DeleteArgs, EditArgs, ReactArgs, TargetArgs, ThreadArgs},
    connect::Context,
    failure::usage,
    history::Printer,
    room,
    show::line,
};

/// Replies on a page.
const REPLIES: usize = 200;

fn new_id() -> MessageId {
    MessageId(Uuid::new_v4())
}

fn about(target: &TargetArgs) -> String {
    format!("message {} of {}", target.seq, target.channel)
}

/// `hubbub edit`.
pub(crate) async fn edit(context: &Context, args: &EditArgs) -> anyhow::Result<ExitCode> {
    let text = args.text.join(" ");
    check_text(&text).map_err(|error| usage(error.to_string()))?;
    let http = context.http()?;
    let channel = room::channel(&http, &args.target.channel).await?;
    let reply = http.edit(channel, args.target.seq, &text, new_id()).await;
    let reply = reply.with_context(|| format!("edit {}", about(&args.target)))?;
    say(&reply, args.json, "edited")
}

/// `hubbub delete`.
pub(crate) async fn delete(context: &Context, args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.target.channel).await?;
    let reply = http.delete(channel, args.target.seq, new_id()).await;
    let reply = reply.with_context(|| format!("delete {}", about(&args.target)))?;
    say(&reply, args.json, "deleted")
}

/// `hubbub react`.
pub(crate) async fn react(context: &Context, args: &ReactArgs) -> anyhow::Result<ExitCode> {
    check_reaction(&args.reaction).map_err(|error| usage(error.to_string()))?;
    let http = context.http()?;
    let channel = room::channel(&http, &args.target.channel).await?;
    let (seq, reaction) = (args.target.seq, args.reaction.as_str());
    let reply = http
        .react(channel, seq, reaction, args.remove, new_id())
        .await;
    let reply = reply.with_context(|| format!("react to {}", about(&args.target)))?;
    say(
        &reply,
        args.json,
        if args.remove { "taken back" } else { "given" },
    )
}

/// `hubbub thread`: shows it, or answers in it.
pub(crate) async fn thread(context: &Context, args: &ThreadArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.target.channel).await?;
    let root = args.target.seq;
    if !args.text.is_empty() {
        let text = args.text.join(" ");
        check_text(&text).map_err(|error| usage(error.to_string()))?;
        let reply = http.reply(channel, root, &text, new_id()).await;
        let reply = reply.with_context(|| format!("answer {}", about(&args.target)))?;
        return say(&reply, args.json, "sent");
    }
    let mut printer = Printer::new(context.style, args.json, &http);
    let mut after = None;
    loop {
        let page = read(&http, channel, root, after)
            .await
            .with_context(|| format!("read the thread of {}", about(&args.target)))?;
        if after.is_none() {
            printer.entries(std::slice::from_ref(&page.root)).await?;
        }
        printer.entries(&page.messages).await?;
        match page.messages.last() {
            Some(Entry { seq, .. }) if page.has_more => after = Some(*seq),
            _ => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn read(
    http: &hubbub_client::Http,
    channel: ChannelId,
    root: Seq,
    after: Option<Seq>,
) -> anyhow::Result<ThreadPage> {
    let page = Replies {
        after,
        limit: Some(REPLIES),
    };
    match http.replies(channel, root, page).await {
        Ok(page) => Ok(page),
        Err(error) if error.body().map(|e| e.code) == Some(ErrorCode::MessageNotFound) => {
            anyhow::bail!("there is no message {root}: `hubbub history` shows the seqs")
        }
        Err(error) => Err(error.into()),
    }
}

fn say(reply: &MessageReply, json: bool, done: &str) -> anyhow::Result<ExitCode> {
    if json {
        line(&serde_json::to_string(reply)?)?;
    } else {
        match reply.seq {
            Some(seq) => line(&format!("{done}, as record {seq}"))?,
            // It was sent more than once: which copy is kept is the store's to say.
            None => line(done)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
