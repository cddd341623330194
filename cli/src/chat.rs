use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Context as _;
use hubbub_client::{Client, JoinOptions};

use crate::{
    args::ChatArgs, connect::Context, interactive, names::Names, pipe, receive::Receiver, room,
    show,
};

/// `hubbub chat`: a conversation on a terminal, lines in a pipe.
pub(crate) async fn run(context: &Context, args: ChatArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let me = http.me().await.context("ask who you are")?;
    let channel = room::channel(&http, &args.channel).await?;
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !args.json;

    let mut names = Names::new(&http);
    names.insert(me.id, me.name.clone());
    let mut since = None;
    let mut stored = Vec::new();
    if terminal {
        names.learn(channel).await;
        // What history has through its head is shown; the join goes on from there.
        let (page, head) = room::newest(&http, channel, args.history).await?;
        since = head;
        for entry in page.messages {
            names.resolve(&entry.body).await;
            stored.push(show::record(context.style, &entry.body, |u| names.get(u)));
        }
    }
    let receiver = Receiver::new(context.style, args.json, names);
    let (client, events) = Client::start(context.config()?);
    let options = JoinOptions {
        since,
        ordered: false,
    };
    client.start_join(channel, options).await?;
    if terminal {
        let room = interactive::Room {
            http,
            channel,
            title: args.channel,
            me: me.name,
        };
        interactive::run(room, &stored, receiver, client, events).await
    } else {
        pipe::run(channel, receiver, client, events).await
    }
}
