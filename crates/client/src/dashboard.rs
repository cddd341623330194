//! The live dashboard: its stream of events, and a board that puts them together.

use std::time::Duration;

use hubbub_protocol::{
    ChannelId, ErrorReply,
    events::{
        ChannelRow, DashboardChange, DashboardSnapshot, EventsGoodbye, LiveChannel, PodRow, RowId,
    },
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::HttpError;

/// Connecting, and the head of the answer.
const OPEN: Duration = Duration::from_secs(10);
/// The server gives a sign of life every 10 s.
const SILENT: Duration = Duration::from_secs(25);
/// One event; the server's own are below half of it.
const EVENT_BYTES: usize = 1024 * 1024;

/// What is to be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Rows of channels, 1 to 200; 50 if absent.
    pub top: Option<usize>,
    /// A channel of the caller: who listens, and its records as they pass.
    pub channel: Option<ChannelId>,
    /// The id of the last event that came, to go on after it.
    pub after: Option<String>,
}

/// An event of the dashboard.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Everything.
    Snapshot(DashboardSnapshot),
    /// What has changed since the event before.
    Change(DashboardChange),
    /// Who listens to the channel.
    Live(LiveChannel),
    /// A record of the channel: the WebSocket's frame.
    Record(String),
    /// Records of the channel may have passed unseen.
    Missed,
    /// The caller is no member of the channel any more.
    Left,
    /// The server restarts.
    Goodbye(EventsGoodbye),
    /// Of a newer server.
    Other(String),
}

/// A stream of events. It does not come back by itself when it ends.
#[derive(Debug)]
pub struct Dashboard {
    response: reqwest::Response,
    parser: Parser,
    url: String,
}

impl Dashboard {
    /// Opens a stream at `base`, the address of the front or of an API server, without a slash at
    /// its end. Errors: the server's own, or nobody answered in 10 s.
    pub async fn open(base: &str, token: &str, look: &Look) -> Result<Self, HttpError> {
        let url = format!("{base}/api/events");
        let config = |error: reqwest::Error| HttpError::Config(error.to_string());
        let client = reqwest::Client::builder().build().map_err(config)?;
        let mut request = client.get(&url).bearer_auth(token);
        if let Some(top) = look.top {
            request = request.query(&[("top", top)]);
        }
        if let Some(channel) = look.channel {
            request = request.query(&[("channel", channel.to_string())]);
        }
        if let Some(after) = &look.after {
            request = request.header("last-event-id", after);
        }
        let unreachable = |error: String| HttpError::Unreachable {
            url: url.clone(),
            error,
            sent: false,
        };
        let response = timeout(OPEN, request.send())
            .await
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(Self {
                response,
                parser: Parser::default(),
                url,
            });
        }
        let body = response.text().await.unwrap_or_default();
        match serde_json::from_str::<ErrorReply>(&body) {
            Ok(reply) => Err(HttpError::Api(reply.error)),
            Err(_) => Err(HttpError::Foreign { url, status, body }),
        }
    }

    /// The id of the last event.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.last_id.as_deref()
    }

    /// The next event; `None` once the server has ended the stream. An error after 25 s of silence,
    /// or where the connection breaks. Not to be called again after an error. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Seen>, HttpError> {
        let broken = |url: &str, error: String| HttpError::Unreachable {
            url: url.to_owned(),
            error,
            sent: true,
        };
        loop {
            if let Some(raw) = self.parser.next() {
                let seen = raw.read().map_err(|error| broken(&self.url, error))?;
                return Ok(Some(seen));
            }
            let chunk = timeout(SILENT, self.response.chunk())
                .await
                .map_err(|_| broken(&self.url, "no sign of life".to_owned()))?
                .map_err(|error| broken(&self.url, error.to_string()))?;
            let Some(chunk) = chunk else {
                return Ok(None);
            };
            if self.parser.waiting.len() + chunk.len() > EVENT_BYTES {
                return Err(broken(&self.url, "an event is too long".to_owned()));
            }
            self.parser.waiting.extend_from_slice(&chunk);
        }
    }
}

/// Cuts a stream into events (WHATWG HTML, 9.2.6), as far as the server writes them: lines end in
/// a line feed, and an event has one line of data.
#[derive(Debug, Default)]
struct Parser {
    waiting: Vec<u8>,
    last_id: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Raw {
    name: String,
    data: String,
}

impl Parser {
    fn next(&mut self) -> Option<Raw> {
        loop {
            let end = self.waiting.windows(2).position(|two| two == b"\n\n")?;
            let block: Vec<u8> = self.waiting.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| {
                let lines = block.lines();
                let mut values = lines.filter_map(|line| line.strip_prefix(name));
                values.next().map(|value| value.trim_start().to_owned())
            };
            if let Some(id) = field("id:") {
                self.last_id = Some(id);
            }
            if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
                return Some(Raw { name, data });
            }
        }
    }
}

impl Raw {
    fn read(self) -> Result<Seen, String> {
        fn of<T: DeserializeOwned>(data: &str) -> Result<T, String> {
            serde_json::from_str(data).map_err(|error| error.to_string())
        }
        Ok(match self.name.as_str() {
            "snapshot" => Seen::Snapshot(of(&self.data)?),
            "change" => Seen::Change(of(&self.data)?),
            "live" => Seen::Live(of(&self.data)?),
            "record" => Seen::Record(self.data),
            "missed" => Seen::Missed,
            "left" => Seen::Left,
            "goodbye" => Seen::Goodbye(of(&self.data)?),
            _ => Seen::Other(self.name),
        })
    }
}

/// What the events add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Board {
    /// Rows by name and by connections; `None` before the first snapshot.
    pub now: Option<DashboardSnapshot>,
}

impl Board {
    /// Takes an event; those that are about one channel change nothing here.
    pub fn apply(&mut self, seen: &Seen) {
        match seen {
            Seen::Snapshot(snapshot) => self.now = Some(snapshot.clone()),
            Seen::Change(change) => {
                if let Some(now) = &mut self.now {
                    now.at_ms = change.at_ms;
                    now.complete = change.complete;
                    now.missing.clone_from(&change.missing);
                    now.totals = change.totals.clone();
                    now.more = change.more;
                    now.more_pods = change.more_pods;
                    merge(&mut now.pods, &change.pods, &change.pods_gone, |row| {
                        row.pod.clone()
                    });
                    merge(
                        &mut now.channels,
                        &change.channels,
                        &change.channels_gone,
                        |row| row.channel,
                    );
                    sort(now);
                }
            }
            _ => {}
        }
    }

    /// The row of a channel.
    pub fn channel(&self, id: RowId) -> Option<&ChannelRow> {
        self.now
            .as_ref()?
            .channels
            .iter()
            .find(|row| row.channel == id)
    }

    /// The rows of pods.
    pub fn pods(&self) -> &[PodRow] {
        self.now.as_ref().map_or(&[], |now| &now.pods)
    }
}

fn merge<R: Clone, K: PartialEq>(rows: &mut Vec<R>, new: &[R], gone: &[K], key: impl Fn(&R) -> K) {
    rows.retain(|row| {
        let key_of = key(row);
        !gone.contains(&key_of) && !new.iter().any(|other| key(other) == key_of)
    });
    rows.extend_from_slice(new);
}

fn sort(now: &mut DashboardSnapshot) {
    now.pods.sort_by(|one, other| one.pod.cmp(&other.pod));
    now.channels.sort_by_key(|row| {
        let is_group = matches!(row.channel, RowId::Group(_));
        (is_group, std::cmp::Reverse(row.connections), row.channel)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_cut_into_events_wherever_it_is_torn() {
        let text = "retry: 1000\n\n:\n\nid: a-1\nevent: snapshot\ndata: {\"x\": 1}\n\n\
                    id: a-2\nevent: missed\ndata: {}\n\n";
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                parser.waiting.extend_from_slice(part.as_bytes());
                while let Some(raw) = parser.next() {
                    found.push((raw.name, raw.data));
                }
            }
            let expected = [("snapshot", "{\"x\": 1}"), ("missed", "{}")];
            let expected = expected.map(|(name, data)| (name.to_owned(), data.to_owned()));
            assert_eq!(found, expected);
            assert_eq!(parser.last_id.as_deref(), Some("a-2"));
            assert!(parser.waiting.is_empty());
        }
    }
}
