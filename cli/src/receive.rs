use hubbub_client::{Down, Event};
use hubbub_protocol::ChannelId;

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
    down: bool,
}

/// Where a line goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A record: stdout.
    Record(String),
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
            Event::Record { body, .. } => {
                self.names.resolve(&body).await;
                let text = show::record(self.style, &body, |user| self.names.get(user));
                Ok(Some(Line::Record(text)))
            }
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
}
