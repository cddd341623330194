use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_protocol::http::{Channel, ChannelKind, NewChannel, Role};

use crate::{
    args::{CreateArgs, ListArgs},
    connect::Context,
    show::{harmless, line},
    table::table,
};

/// `hubbub channels`.
pub(crate) async fn list(context: &Context, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let channels = context.http()?.all_channels().await;
    let channels = channels.context("list channels")?;
    if args.json {
        for channel in &channels {
            line(&serde_json::to_string(channel)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = channels.iter().map(row).collect();
    for text in table(&["ID", "NAME", "KIND", "YOU"], &rows, &[]) {
        line(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(channel: &Channel) -> Vec<String> {
    let kind = match channel.kind {
        ChannelKind::Public => "public",
        ChannelKind::Private => "private",
        ChannelKind::Direct => "direct",
    };
    let you = match (channel.is_member, channel.role) {
        (true, Some(Role::Admin)) => "admin",
        (true, _) => "member",
        (false, _) => "-",
    };
    vec![
        channel.id.to_string(),
        harmless(channel.name.as_deref().unwrap_or("-")).replace('\n', " "),
        kind.to_owned(),
        you.to_owned(),
    ]
}

/// `hubbub create`.
pub(crate) async fn create(context: &Context, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let kind = if args.private {
        ChannelKind::Private
    } else {
        ChannelKind::Public
    };
    let new = NewChannel {
        name: args.name.clone(),
        kind: Some(kind),
    };
    let created = context.http()?.create_channel(&new).await;
    let channel = created.with_context(|| format!("create channel {}", args.name))?;
    if args.json {
        line(&serde_json::to_string(&channel)?)?;
    } else {
        line(&channel.id.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
