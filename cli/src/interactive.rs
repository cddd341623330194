use std::process::ExitCode;

use anyhow::Context as _;
use crossterm::terminal;
use hubbub_client::{Client, Event, Events, Http, Refused};
use hubbub_protocol::{ChannelId, limits};
use rustyline::{DefaultEditor, ExternalPrinter, error::ReadlineError};
use tokio::sync::mpsc;

use crate::{
    receive::{Line, Receiver},
    show::harmless,
};

mod command;

use command::{HELP, Typed};

/// Lines that were typed and not yet looked at; more than a person types ahead.
const TYPED: usize = 16;

/// What is talked in.
pub(crate) struct Room {
    pub(crate) http: Http,
    pub(crate) channel: ChannelId,
    pub(crate) title: String,
    pub(crate) me: String,
}

/// A conversation on a terminal: the prompt stays whole while lines come in above it.
pub(crate) async fn run(
    room: Room,
    stored: &[String],
    mut receiver: Receiver,
    client: Client,
    mut events: Events,
) -> anyhow::Result<ExitCode> {
    let style = receiver.style;
    let mut editor = DefaultEditor::new().context("set the terminal up")?;
    let mut printer = editor.create_external_printer()?;
    let mut print = move |text: &str| -> anyhow::Result<()> {
        printer
            .print(format!("{text}\n"))
            .context("write to the terminal")
    };
    print(&style.dim(&format!(
        "{} as {}. Enter sends, /who lists who is here, /help what else, /quit or Ctrl-D leaves.",
        harmless(&room.title),
        harmless(&room.me)
    )))?;
    for text in stored {
        print(text)?;
    }
    let prompt = format!("{} > ", harmless(&room.title).replace('\n', " "));
    let (lines, mut typed) = mpsc::channel(TYPED);
    // Its own thread, because it waits for a key: it ends with the process, or when nobody
    // takes its lines.
    std::thread::Builder::new()
        .name("prompt".to_owned())
        .spawn(move || prompt_loop(&mut editor, &prompt, &lines))
        .context("start the prompt")?;

    let mut unsettled = 0_usize;
    loop {
        // Waits for: a typed line (or the end of them); an event.
        tokio::select! {
            text = typed.recv() => {
                let Some(text) = text else { break };
                match Typed::read(&text) {
                    Typed::Nothing => {}
                    Typed::Who => print(&who(&room).await)?,
                    Typed::Members => print(&members(&room).await)?,
                    Typed::Help => print(&style.dim(HELP))?,
                    Typed::Wrong(reason) => print(&style.alert(&harmless(&reason)))?,
                    Typed::Change(change) => match client.change(room.channel, change) {
                        Ok(_) => unsettled += 1,
                        Err(Refused::Closed) => {}
                        Err(error) => print(&style.alert(&format!("not sent: {error}")))?,
                    },
                }
            }
            event = events.recv() => {
                let event = event.context("the client has ended")?;
                if let Event::SendResult(done) = &event {
                    unsettled -= 1;
                    if let Err(error) = &done.result {
                        print(&style.alert(&format!("not sent: {}", error.message)))?;
                    }
                }
                if let Event::Synced { channel, seq } = &event {
                    // It stands on the screen of somebody who sits in front of it.
                    client.mark_read(*channel, *seq).await?;
                }
                match receiver.line(event).await {
                    Ok(Some(Line::Record(text))) => print(&text)?,
                    Ok(Some(Line::Live(text))) => print(&style.dim(&text))?,
                    Ok(Some(Line::Notice(mut text))) => {
                        if unsettled > 0 {
                            text.push_str(&format!("; {unsettled} unsent"));
                        }
                        print(&style.alert(&text))?;
                    }
                    Ok(None) => {}
                    Err(over) => {
                        let text = style.alert(&over.to_string());
                        return end(&mut print, &text, &mut typed).await;
                    }
                }
            }
        }
    }
    leave(&client, events, unsettled).await
}

/// Closes; messages without an answer get a little time for it.
async fn leave(client: &Client, mut events: Events, unsettled: usize) -> anyhow::Result<ExitCode> {
    let mut left = unsettled;
    let settle = async {
        while left > 0 {
            match events.recv().await {
                Some(Event::SendResult(_)) => left -= 1,
                Some(_) => {}
                None => break,
            }
        }
    };
    let settled = tokio::time::timeout(std::time::Duration::from_secs(3), settle).await;
    drop(events);
    client.close().await;
    if settled.is_err() {
        anyhow::bail!("{left} messages had no answer yet: look at the history whether they are in");
    }
    Ok(ExitCode::SUCCESS)
}

/// Says why it is over. The prompt owns the terminal until a key ends it, so that it is left as
/// it was found.
async fn end(
    print: &mut impl FnMut(&str) -> anyhow::Result<()>,
    text: &str,
    typed: &mut mpsc::Receiver<String>,
) -> anyhow::Result<ExitCode> {
    print(text)?;
    print("Press Enter to leave.")?;
    typed.close();
    while typed.recv().await.is_some() {}
    Ok(ExitCode::FAILURE)
}

/// Who listens now, on any pod.
async fn who(room: &Room) -> String {
    let here = match room.http.who(room.channel).await {
        Ok(here) => here,
        Err(error) => return format!("cannot ask who is here: {error}"),
    };
    let mut users: Vec<_> = here.users.iter().map(|listener| listener.user).collect();
    users.sort_unstable();
    users.dedup();
    users.truncate(limits::HYDRATED_USERS);
    let names = match room.http.users(&users).await {
        Ok(users) => users.iter().map(|user| harmless(&user.name)).collect(),
        Err(_) => users.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    let missing = if here.complete {
        ""
    } else {
        " (some edge did not answer)"
    };
    format!("here: {}{missing}", names.join(", "))
}

async fn members(room: &Room) -> String {
    match room.http.all_members(room.channel).await {
        Ok(members) => {
            let names: Vec<_> = members.iter().map(|m| harmless(&m.user.name)).collect();
            format!("members: {}", names.join(", "))
        }
        Err(error) => format!("cannot list the members: {error}"),
    }
}

fn prompt_loop(editor: &mut DefaultEditor, prompt: &str, lines: &mpsc::Sender<String>) {
    loop {
        match editor.readline(prompt) {
            Ok(text) => {
                wipe(prompt, &text);
                if text.trim() == "/quit" {
                    // Here, so that the terminal is left as it was found: another readline
                    // would own it when the process ends.
                    return;
                }
                if !text.trim().is_empty() {
                    // History is a comfort; a line too much for it is no failure.
                    editor.add_history_entry(text.as_str()).ok();
                }
                if lines.blocking_send(text).is_err() {
                    return;
                }
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return,
            Err(error) => {
                eprintln!("hubbub: read the terminal: {error}");
                return;
            }
        }
    }
}

/// Takes the typed line off the screen: the message itself appears when it has come back.
fn wipe(prompt: &str, text: &str) {
    let columns = terminal::size().map_or(80, |(columns, _)| usize::from(columns).max(1));
    let cells = prompt.chars().count() + text.chars().count();
    let rows = u16::try_from(cells / columns + 1).unwrap_or(1);
    // Where the terminal cannot do it the line just stays.
    crossterm::execute!(
        std::io::stdout(),
        crossterm::cursor::MoveToPreviousLine(rows),
        terminal::Clear(terminal::ClearType::FromCursorDown)
    )
    .ok();
}
