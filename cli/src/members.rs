use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_client::Who;
use hubbub_protocol::http::{MembershipReply, Role};

use crate::{
    args::{ChannelArgs, MemberArgs},
    connect::Context,
    room,
    show::{harmless, line},
    table::table,
};

/// `hubbub members`.
pub(crate) async fn list(context: &Context, args: &ChannelArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let members = http.all_members(channel).await;
    let members = members.with_context(|| format!("list the members of {}", args.channel))?;
    if args.json {
        for member in &members {
            line(&serde_json::to_string(member)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = members
        .iter()
        .map(|member| {
            let role = match member.role {
                Role::Admin => "admin",
                Role::Member => "member",
            };
            let name = harmless(&member.user.name).replace('\n', " ");
            vec![member.user.id.to_string(), name, role.to_owned()]
        })
        .collect();
    for text in table(&["ID", "NAME", "ROLE"], &rows, &[]) {
        line(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `hubbub join`.
pub(crate) async fn join(context: &Context, args: &ChannelArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let reply = http.add_member(channel, Who::Me).await;
    let reply = reply.with_context(|| format!("join {}", args.channel))?;
    say(&reply, args.json, "joined", "you were a member already")
}

/// `hubbub leave`.
pub(crate) async fn leave(context: &Context, args: &ChannelArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let reply = http.remove_member(channel, Who::Me).await;
    let reply = reply.with_context(|| format!("leave {}", args.channel))?;
    say(&reply, args.json, "left", "you were no member")
}

/// `hubbub add`.
pub(crate) async fn add(context: &Context, args: &MemberArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let user = room::user(&http, &args.user).await?;
    let reply = http.add_member(channel, Who::User(user)).await;
    let reply = reply.with_context(|| format!("add {} to {}", args.user, args.channel))?;
    say(&reply, args.json, "added", "is a member already")
}

/// `hubbub remove`.
pub(crate) async fn remove(context: &Context, args: &MemberArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let user = room::user(&http, &args.user).await?;
    let reply = http.remove_member(channel, Who::User(user)).await;
    let reply = reply.with_context(|| format!("remove {} from {}", args.user, args.channel))?;
    say(&reply, args.json, "removed", "was no member")
}

fn say(
    reply: &MembershipReply,
    json: bool,
    changed: &str,
    unchanged: &str,
) -> anyhow::Result<ExitCode> {
    if json {
        line(&serde_json::to_string(reply)?)?;
    } else {
        line(if reply.changed { changed } else { unchanged })?;
    }
    Ok(ExitCode::SUCCESS)
}
