use std::{collections::HashMap, process::ExitCode};

use anyhow::Context as _;
use hubbub_client::{Client, Event, Http};
use hubbub_protocol::{
    ChannelId, MessageId, PresenceState, UserId, UserPresence, check_text,
    http::{Channel, UnreadChannel},
};
use uuid::Uuid;

use crate::{
    args::{ChatArgs, DmArgs, PresenceArgs, UnreadArgs, WhoArgs},
    chat,
    connect::Context,
    failure::usage,
    receive::Over,
    room,
    show::{day, harmless, line, time},
    table::table,
};

/// Users that one request names.
const HYDRATED: usize = hubbub_protocol::limits::HYDRATED_USERS;

/// Names of these users; the id of one that is not there.
async fn names(http: &Http, users: &[UserId]) -> anyhow::Result<HashMap<UserId, String>> {
    let mut names = HashMap::new();
    for some in users.chunks(HYDRATED) {
        let found = http.users(some).await.context("ask for names")?;
        names.extend(found.into_iter().map(|user| (user.id, user.name)));
    }
    Ok(names)
}

fn named(names: &HashMap<UserId, String>, user: UserId) -> String {
    let name = names.get(&user).cloned();
    harmless(&name.unwrap_or_else(|| user.to_string())).replace('\n', " ")
}

/// `hubbub who`: the sockets of a channel on every pod. Exit code 1 if a pod is missing.
pub(crate) async fn who(context: &Context, args: &WhoArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let channel = room::channel(&http, &args.channel).await?;
    let here = http.who(channel).await;
    let here = here.with_context(|| format!("ask who is in {}", args.channel))?;
    let code = ExitCode::from(u8::from(!here.complete));
    if args.json {
        line(&serde_json::to_string(&here)?)?;
        return Ok(code);
    }
    let mut users: Vec<_> = here.users.iter().map(|listener| listener.user).collect();
    users.sort_unstable();
    users.dedup();
    let names = names(&http, &users).await?;
    let row = |listener: &hubbub_protocol::http::Listener| {
        vec![
            named(&names, listener.user),
            listener.device.to_string(),
            listener.pod.to_string(),
            harmless(&listener.socket),
        ]
    };
    let mut rows: Vec<_> = here.users.iter().map(row).collect();
    rows.sort();
    for text in table(&["USER", "DEVICE", "POD", "SOCKET"], &rows, &[]) {
        line(&text)?;
    }
    if !here.complete {
        let missing: Vec<_> = here.missing.iter().map(ToString::to_string).collect();
        eprintln!(
            "hubbub: not in full: no whole answer of {}",
            missing.join(", ")
        );
    }
    Ok(code)
}

/// `hubbub dm`: one message to somebody, or a conversation.
pub(crate) async fn dm(context: &Context, args: DmArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let user = room::user(&http, &args.user).await?;
    let direct = http.direct(user).await;
    let channel = direct.with_context(|| format!("open the channel with {}", args.user))?;
    let channel = channel.channel;
    if args.id {
        line(&channel.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.text.is_empty() {
        let chat = ChatArgs {
            channel: channel.to_string(),
            history: 20,
            json: args.json,
        };
        return chat::run_titled(context, chat, args.user).await;
    }
    let text = args.text.join(" ");
    check_text(&text).map_err(|error| usage(error.to_string()))?;
    let reply = http.post(channel, &text, MessageId(Uuid::new_v4())).await;
    let reply = reply.with_context(|| format!("send to {}", args.user))?;
    match (args.json, reply.seq) {
        (true, _) => line(&serde_json::to_string(&reply)?)?,
        (false, Some(seq)) => line(&seq.to_string())?,
        (false, None) => line(&format!("sent as {}", reply.message_id))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `hubbub unread`. Exit code 1 if a channel could not be counted.
pub(crate) async fn unread(context: &Context, args: &UnreadArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let unread = http.unread().await.context("ask what is unread")?;
    let wanted = |channel: &&UnreadChannel| args.all || channel.unread > 0;
    let mut wanted: Vec<_> = unread.channels.iter().filter(wanted).collect();
    // What was written to last stands at the end, next to the prompt.
    wanted.sort_by_key(|channel| channel.last_ts_ms);
    let code = ExitCode::from(u8::from(!unread.missing.is_empty()));
    if !unread.missing.is_empty() {
        let missing: Vec<_> = unread.missing.iter().map(ToString::to_string).collect();
        eprintln!(
            "hubbub: not in full: cannot count {} now",
            missing.join(", ")
        );
    }
    if args.json {
        for channel in wanted {
            line(&serde_json::to_string(channel)?)?;
        }
        return Ok(code);
    }
    let channels = http.all_channels().await.context("list channels")?;
    let with: Vec<_> = channels.iter().filter_map(|channel| channel.with).collect();
    let names = names(&http, &with).await?;
    let titles: HashMap<ChannelId, String> = channels
        .iter()
        .map(|channel| (channel.id, title(channel, &names)))
        .collect();
    let row = |channel: &UnreadChannel| {
        let last = match channel.last_ts_ms {
            0 => "-".to_owned(),
            ts_ms => format!("{} {}", day(ts_ms), time(ts_ms)),
        };
        vec![
            channel.channel.to_string(),
            titles.get(&channel.channel).cloned().unwrap_or_default(),
            channel.unread.to_string(),
            channel.read.to_string(),
            channel.head.to_string(),
            last,
        ]
    };
    let rows: Vec<_> = wanted.into_iter().map(row).collect();
    let head = ["ID", "NAME", "UNREAD", "READ", "HEAD", "LAST (UTC)"];
    for text in table(&head, &rows, &[2, 3, 4]) {
        line(&text)?;
    }
    Ok(code)
}

fn title(channel: &Channel, names: &HashMap<UserId, String>) -> String {
    match (&channel.name, channel.with) {
        (Some(name), _) => harmless(name).replace('\n', " "),
        (None, Some(user)) => format!("@{}", named(names, user)),
        (None, None) => "-".to_owned(),
    }
}

/// `hubbub presence`.
pub(crate) async fn presence(context: &Context, args: &PresenceArgs) -> anyhow::Result<ExitCode> {
    let http = context.http()?;
    let mut users = Vec::with_capacity(args.users.len());
    for name in &args.users {
        users.push(room::user(&http, name).await?);
    }
    let names = names(&http, &users).await?;
    let say = |presence: UserPresence| -> anyhow::Result<()> {
        if args.json {
            line(&serde_json::to_string(&presence)?)?;
        } else {
            let state = presence.state.as_str();
            line(&format!("{:8} {}", state, named(&names, presence.user)))?;
        }
        Ok(())
    };
    if args.watch {
        return watch(context, users, say).await;
    }
    let mut complete = true;
    for (user, name) in users.into_iter().zip(&args.users) {
        let presence = http.presence(user).await;
        let presence = presence.with_context(|| format!("ask whether {name} is there"))?;
        complete &= presence.complete;
        say(presence.user)?;
    }
    if !complete {
        eprintln!("hubbub: some pod did not answer: somebody may be there all the same");
    }
    Ok(ExitCode::from(u8::from(!complete)))
}

/// Prints each state, and what changes, until Ctrl-C.
async fn watch(
    context: &Context,
    users: Vec<UserId>,
    say: impl Fn(UserPresence) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let (client, mut events) = Client::start(context.config()?);
    // Who only looks is not there.
    client.set_presence(PresenceState::Away).await?;
    client.watch(users).await?;
    let mut last: HashMap<UserId, PresenceState> = HashMap::new();
    loop {
        // Waits for an event, or for Ctrl-C.
        let event = tokio::select! {
            event = events.recv() => event.context("the client has ended")?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        };
        match event {
            // After a reconnect all states come again.
            Event::Presence(p) if last.insert(p.user, p.state) != Some(p.state) => say(p)?,
            Event::ServerError(error) => anyhow::bail!("{}", error.message),
            Event::Disconnected {
                why,
                retry_in: None,
            } => return Err(Over::Down(why).into()),
            Event::Disconnected {
                why,
                retry_in: Some(_),
            } => {
                eprintln!("hubbub: disconnected ({why}); trying again");
            }
            _ => {}
        }
    }
    drop(events);
    client.close().await;
    Ok(ExitCode::SUCCESS)
}
