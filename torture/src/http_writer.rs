//! A writer over HTTP: a foreign client, which sees every attempt itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hubbub_checker::Event;
use hubbub_client::Backoff;
use hubbub_protocol::{ErrorReply, SendMessage, UserId};
use hubbub_stack::Proxy;
use rand::RngExt;
use reqwest::StatusCode;
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    attempts::{Answer, Attempts, Manners, Next},
    device::Identity,
    recorder::Recorder,
    wire::{answer, invoke},
    writer::{End, Message},
};

/// The API's own deadline for a send is 5 s.
const ATTEMPT: Duration = Duration::from_secs(8);
const CONNECT: Duration = Duration::from_secs(2);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
const MANNERS: Manners = Manners {
    abandon: 0.05,
    unmarked: 0.1,
};

/// Share of the messages that are posted twice at once, as by a person who presses the key twice: no
/// copy is marked, both reach the log, and everybody is shown one.
const PRESSED_TWICE: f64 = 0.05;

/// A user who posts.
#[derive(Debug)]
pub struct HttpWriter {
    user: UserId,
    token: String,
    link: Arc<Proxy>,
    client: reqwest::Client,
    recorder: Recorder,
}

#[derive(Serialize)]
struct Post<'a> {
    text: &'a str,
    client_msg_id: hubbub_protocol::MessageId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retry: bool,
}

impl HttpWriter {
    /// Of a user, through a link of its own.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(who: &Identity, link: Arc<Proxy>, recorder: Recorder) -> Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ATTEMPT)
            .no_proxy()
            .build()
            .context("make an HTTP client")?;
        Ok(Self {
            user: who.user,
            token: who.token.clone(),
            link,
            client,
            recorder,
        })
    }

    /// Sends a message until the answer is definite, or it is abandoned. Takes as long as it
    /// takes: the caller bounds it.
    pub async fn send(&self, message: &Message) -> End {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let (mut attempts, mut retry) = (Attempts::new(MANNERS), false);
        let mut twice = rand::rng().random_bool(PRESSED_TWICE);
        loop {
            let answer = if std::mem::take(&mut twice) {
                let both = (self.attempt(message, retry), self.attempt(message, retry));
                both_say(tokio::join!(both.0, both.1).into())
            } else {
                self.attempt(message, retry).await
            };
            let next = attempts.after(answer, &mut rand::rng());
            match next {
                Next::Done => return End::Settled,
                Next::Abandon => return End::Abandoned,
                Next::Again { marked } => retry = marked,
            }
            let delay = backoff.next(&mut rand::rng(), None);
            sleep(delay).await;
        }
    }

    async fn attempt(&self, message: &Message, retry: bool) -> Answer {
        let op = self.recorder.next_op();
        self.recorder.record(invoke(
            op,
            self.user,
            &SendMessage {
                channel: message.channel,
                text: message.text.clone(),
                thread: None,
                client_msg_id: Some(message.id),
                retry,
            },
        ));
        let (event, answer) = match self.post(message, retry).await {
            Ok((status, body)) => judge(op, status, &body),
            // Without an answer nobody knows, whatever was or was not written.
            Err(_) => {
                let code = "no_answer".to_owned();
                (Event::Unknown { op, code }, Answer::Unknown)
            }
        };
        self.recorder.record(event);
        answer
    }

    async fn post(&self, message: &Message, retry: bool) -> reqwest::Result<(StatusCode, String)> {
        let url = format!(
            "http://{}/channels/{}/messages",
            self.link.addr(),
            message.channel
        );
        let body = Post {
            text: &message.text,
            client_msg_id: message.id,
            retry,
        };
        let request = self.client.post(url).bearer_auth(&self.token).json(&body);
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }
}

/// What two answers to copies of one message say together: one that is in the log is enough.
fn both_say(answers: [Answer; 2]) -> Answer {
    if answers.contains(&Answer::Ok) {
        Answer::Ok
    } else if answers.contains(&Answer::Unknown) {
        Answer::Unknown
    } else {
        answers[0]
    }
}

/// What an answer says, for the history and for the writer.
fn judge(op: u64, status: StatusCode, body: &str) -> (Event, Answer) {
    if status.is_success() {
        let event = answer(op, Ok(body.into()));
        let answer = match event {
            Event::Ok { .. } => Answer::Ok,
            _ => Answer::Unknown,
        };
        return (event, answer);
    }
    let Ok(ErrorReply { error }) = serde_json::from_str(body) else {
        let code = format!("http_{}", status.as_u16());
        return (Event::Unknown { op, code }, Answer::Unknown);
    };
    let retryable = error.retryable;
    let event = answer(op, Err(error));
    let answer = match event {
        Event::Rejected { .. } => Answer::Rejected { retryable },
        _ => Answer::Unknown,
    };
    (event, answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubbub_protocol::Seq;

    const OK: &str = r#"{"channel":"C000000005","message_id":"00000000-0000-0000-0000-000000000007","seq":9,"ts_ms":1}"#;

    #[test]
    fn a_copy_in_the_log_settles_both() {
        let later = Answer::Rejected { retryable: true };
        assert_eq!(both_say([later, Answer::Ok]), Answer::Ok);
        assert_eq!(both_say([Answer::Unknown, later]), Answer::Unknown);
        assert_eq!(both_say([later, later]), later);
    }

    #[test]
    fn answers_are_taken_at_their_word_and_nothing_else() {
        let (event, answer) = judge(1, StatusCode::OK, OK);
        assert_eq!(
            (event, answer),
            (
                Event::Ok {
                    op: 1,
                    seq: Some(Seq(9))
                },
                Answer::Ok
            )
        );
        let (event, answer) = judge(1, StatusCode::OK, "truncat");
        assert!(matches!(event, Event::Unknown { .. }));
        assert_eq!(answer, Answer::Unknown);
        let refused = r#"{"error":{"code":"overloaded","message":"m","retryable":true,"outcome":"rejected"}}"#;
        let (event, answer) = judge(1, StatusCode::SERVICE_UNAVAILABLE, refused);
        assert!(matches!(event, Event::Rejected { .. }));
        assert_eq!(answer, Answer::Rejected { retryable: true });
        let (event, answer) = judge(1, StatusCode::BAD_GATEWAY, "<html>");
        assert_eq!(
            event,
            Event::Unknown {
                op: 1,
                code: "http_502".to_owned()
            }
        );
        assert_eq!(answer, Answer::Unknown);
    }
}
