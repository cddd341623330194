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
    let title = args.channel.clone();
    run_titled(context, args, title).await
}

/// The same in a channel that is called otherwise than its id.
pub(crate) async fn run_titled(
    context: &Context,
    args: ChatArgs,
    title: String,
) -> anyhow::Result<ExitCode> {
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
            let name = |user| names.get(user);
            stored.push(show::numbered(context.style, entry.seq, &entry.body, name));
        }
    }
    let mut receiver = Receiver::new(context.style, args.json, names);
    receiver.live = terminal;
    receiver.me = Some(me.id);
    let config = if terminal {
        context.config_of_person()?
    } else {
        context.config()?
    };
    let (client, events) = Client::start(config);
    let options = JoinOptions {
        since,
        ordered: false,
    };
    client.start_join(channel, options).await?;
    if terminal {
        let room = interactive::Room {
            http,
            channel,
            title,
            me: me.name,
        };
        interactive::run(room, &stored, receiver, client, events).await
    } else {
        pipe::run(channel, receiver, client, events).await
    }
}
