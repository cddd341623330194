use std::process::ExitCode;

use anyhow::Context as _;
use hubbub_client::{Client, JoinOptions};

use crate::{
    args::TailArgs,
    connect::Context,
    names::Names,
    receive::{Line, Receiver},
    room,
    show::line,
};

/// `hubbub tail`.
pub(crate) async fn run(context: &Context, args: &TailArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let mut names = Names::new(&http);
    if !args.json {
        names.learn(channel).await;
    }
    let mut receiver = Receiver::new(context.style, args.json, names);
    receiver.live = !args.json;
    let (client, mut events) = Client::start(context.config()?);
    let options = JoinOptions {
        since: args.since,
        ordered: args.ordered,
    };
    client.start_join(channel, options).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = tokio::select! {
            event = events.recv() => event.context("the client has ended")?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        };
        match receiver.line(event).await {
            Ok(Some(Line::Record(text))) => {
                line(&text)?;
                left -= 1;
            }
            Ok(Some(Line::Live(text))) => eprintln!("{}", context.style.dim(&text)),
            Ok(Some(Line::Notice(text))) => eprintln!("hubbub: {text}"),
            Ok(None) => {}
            Err(over) => return Err(over.into()),
        }
    }
    drop(events);
    client.close().await;
    Ok(ExitCode::SUCCESS)
}
