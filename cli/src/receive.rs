use hubbub_client::{Down, Event};
use hubbub_protocol::{Body, ChannelId, Receipt, Typing, UserId};

use crate::{
    names::Names,
    show::{self, Style},
};

/// Turns events into lines: for a terminal, a pipe, `tail`.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) style: Style,
    pub(crate) json: bool,
    pub(crate) names: Names,
    /// Whether the channel was joined once.
    pub(crate) joined: bool,
    /// Whether messages are shown with their numbers, and what is not in the log is told: to
    /// people, not to programs that read lines.
    pub(crate) live: bool,
    /// Whose devices' receipts and typing are no news.
    pub(crate) me: Option<UserId>,
    down: bool,
}

/// Where a line goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A record: stdout.
    Record(String),
    /// What is not in the log: typing, receipts.
    Live(String),
    /// What people should know about the connection: stderr, or between the records on a
    /// terminal.
    Notice(String),
}

/// Nothing more will come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Over {
    /// The connection is down for good.
    #[error(transparent)]
    Down(#[from] Down),
    /// The channel was never open to this user.
    #[error("cannot listen to {channel}: {why}")]
    Refused { channel: ChannelId, why: String },
    /// It was, until now.
    #[error("you are no member of {0} any more")]
    Removed(ChannelId),
}

impl Receiver {
    pub(crate) fn new(style: Style, json: bool, names: Names) -> Self {
        Self {
            style,
            json,
            names,
            joined: false,
            live: false,
            me: None,
            down: false,
        }
    }

    /// The line of an event, if it has one.
    pub(crate) async fn line(&mut self, event: Event) -> Result<Option<Line>, Over> {
        let notice = |text: String| Ok(Some(Line::Notice(text)));
        let again = self.joined;
        self.joined |= matches!(event, Event::Joined(_));
        match event {
            Event::Record { seq, body, .. } if self.json => {
                Ok(Some(Line::Record(show::json(seq, &body))))
            }
            // The store's word that the edit is not to be applied: its message is gone.
            Event::Record {
                body: Body::MessageChanged { text, .. },
                ..
            } if text.is_empty() => Ok(None),
            Event::Record { seq, body, .. } => {
                self.names.resolve(&body).await;
                let name = |user| self.names.get(user);
                let text = if self.live {
                    show::numbered(self.style, seq, &body, name)
                } else {
                    show::record(self.style, &body, name)
                };
                Ok(Some(Line::Record(text)))
            }
            Event::Typing(typing) if self.live => Ok(self.typing(typing).await),
            Event::Receipt(receipt) if self.live => Ok(self.receipt(receipt).await),
            Event::Reseq { key, from, to, .. } if self.json => {
                Ok(Some(Line::Record(show::json_reseq(&key, from, to))))
            }
            Event::Disconnected {
                why,
                retry_in: None,
            } => Err(Over::Down(why)),
            Event::Disconnected {
                why,
                retry_in: Some(retry_in),
            } => {
                self.down = true;
                let seconds = retry_in.as_secs_f32();
                notice(format!(
                    "disconnected ({why}); trying again in {seconds:.1} s"
                ))
            }
            Event::Joined(joined) if !joined.reply.recovered => {
                self.down = false;
                let reason = joined.reply.reason.unwrap_or_default();
                notice(format!(
                    "connected, but messages may be missing here ({reason}): `hubbub history` \
                     has them"
                ))
            }
            Event::Joined(_) if std::mem::take(&mut self.down) => {
                notice("connected again; nothing is missing".to_owned())
            }
            Event::JoinFailed { channel, .. } if again => Err(Over::Removed(channel)),
            Event::JoinFailed { channel, error } => {
                let why = error.message;
                Err(Over::Refused { channel, why })
            }
            Event::JoinDelayed {
                error, retry_in, ..
            } => {
                let (why, seconds) = (error.message, retry_in.as_secs_f32());
                notice(format!(
                    "cannot listen now ({why}); trying again in {seconds:.1} s"
                ))
            }
            Event::Goodbye(goodbye) => notice(format!("the server says: {}", goodbye.reason)),
            _ => Ok(None),
        }
    }

    async fn typing(&mut self, typing: Typing) -> Option<Line> {
        let name = self.other(typing.user).await?;
        Some(Line::Live(format!("{name} is typing")))
    }

    async fn receipt(&mut self, receipt: Receipt) -> Option<Line> {
        let name = self.other(receipt.user).await?;
        let (what, seq) = match (receipt.read, receipt.delivered) {
            (read, delivered) if read >= delivered => ("read everything through", read),
            (_, delivered) => ("has everything through", delivered),
        };
        let device = receipt.device;
        Some(Line::Live(format!("{name} {what} #{seq} ({device})")))
    }

    /// The name of somebody else.
    async fn other(&mut self, user: UserId) -> Option<String> {
        if self.me == Some(user) {
            return None;
        }
        self.names.ask([user]).await;
        Some(show::harmless(&self.names.get(user)).replace('\n', " "))
    }
}
