use std::{collections::HashSet, process::ExitCode, time::Duration};

use anyhow::Context as _;
use hubbub_client::{Client, Event, Events, Refused};
use hubbub_protocol::{ChannelId, MessageId};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    time::Instant,
};

use crate::{
    receive::{Line, Receiver},
    show::line,
};

/// After the last acknowledgement: how long one's own messages may take to come back.
const ECHO: Duration = Duration::from_secs(3);

/// Messages of stdin that are under way.
#[derive(Default)]
struct Sending {
    unsettled: usize,
    failed: usize,
    /// Sent and not yet seen in the channel.
    unseen: HashSet<MessageId>,
}

/// Sends each line of stdin, prints what is received, ends when stdin has ended and every message
/// has a definite answer. Exit code 1 if one was refused.
pub(crate) async fn run(
    channel: ChannelId,
    mut receiver: Receiver,
    client: Client,
    mut events: Events,
) -> anyhow::Result<ExitCode> {
    let mut stdin = Some(BufReader::new(tokio::io::stdin()).lines());
    let mut sending = Sending::default();
    // A line that found the client full waits here, and stdin with it.
    let mut held: Option<String> = None;
    let mut echo_until = None;
    loop {
        if stdin.is_none() && held.is_none() && sending.unsettled == 0 {
            let until = *echo_until.get_or_insert_with(|| Instant::now() + ECHO);
            if sending.unseen.is_empty() || Instant::now() >= until {
                break;
            }
        }
        if let Some(text) = held.take() {
            held = offer(&client, channel, text, &mut sending)?;
        }
        // Waits for: an event; a line, while there is room for it; the end of the echo time.
        tokio::select! {
            event = events.recv() => {
                let event = event.context("the client has ended")?;
                sending.note(&event);
                match receiver.line(event).await {
                    Ok(Some(Line::Record(text))) => line(&text)?,
                    Ok(Some(Line::Notice(text))) => eprintln!("hubbub: {text}"),
                    // Programs read records.
                    Ok(Some(Line::Live(_)) | None) => {}
                    Err(over) => {
                        let error = anyhow::Error::new(over);
                        return Err(match sending.unsettled {
                            0 => error,
                            n => error.context(format!("{n} messages have no answer")),
                        });
                    }
                }
            }
            // Only once we listen, so that nobody's answer is missed.
            text = next_line(&mut stdin), if receiver.joined && held.is_none() => {
                match text.context("read stdin")? {
                    Some(text) => held = Some(text),
                    None => stdin = None,
                }
            }
            () = sleep_until(echo_until) => {}
        }
    }
    drop(events);
    client.close().await;
    Ok(ExitCode::from(u8::from(sending.failed > 0)))
}

async fn next_line(stdin: &mut Option<Lines<BufReader<Stdin>>>) -> std::io::Result<Option<String>> {
    match stdin {
        Some(lines) => lines.next_line().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Hands a line to the client; gives it back if there is no room.
fn offer(
    client: &Client,
    channel: ChannelId,
    text: String,
    sending: &mut Sending,
) -> anyhow::Result<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    match client.send(channel, text.as_str()) {
        Ok(handle) => {
            sending.unsettled += 1;
            sending.unseen.insert(handle.message_id());
            Ok(None)
        }
        Err(Refused::Full) => Ok(Some(text)),
        Err(error @ (Refused::Text(_) | Refused::Reaction(_))) => {
            eprintln!("hubbub: a line was not sent: {error}");
            sending.failed += 1;
            Ok(None)
        }
        Err(Refused::Closed) => anyhow::bail!("the client has ended"),
    }
}

impl Sending {
    fn note(&mut self, event: &Event) {
        match event {
            Event::SendResult(done) => {
                self.unsettled -= 1;
                if let Err(error) = &done.result {
                    self.unseen.remove(&done.message_id);
                    self.failed += 1;
                    eprintln!("hubbub: a message was not sent: {}", error.message);
                }
            }
            Event::Record { body, .. } => {
                self.unseen.remove(&body.key().message_id);
            }
            _ => {}
        }
    }
}
