//! A writer over HTTP: a foreign client, which sees every attempt itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hubbub_checker::Event;
use hubbub_client::{Backoff, Change};
use hubbub_protocol::{ErrorReply, Seq, UserId};
use hubbub_stack::Proxy;
use rand::RngExt;
use reqwest::{Method, StatusCode};
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
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
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
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<Seq>,
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
            match attempts.after(answer.0, &mut rand::rng()) {
                Next::Done => {
                    return match answer {
                        (Answer::Ok, seq) => End::Stored(seq),
                        _ => End::Refused,
                    };
                }
                Next::Abandon => return End::Abandoned,
                Next::Again { marked } => retry = marked,
            }
            let delay = backoff.next(&mut rand::rng(), None);
            sleep(delay).await;
        }
    }

    /// What was answered, and the seq that it named.
    async fn attempt(&self, message: &Message, retry: bool) -> (Answer, Option<Seq>) {
        let op = self.recorder.next_op();
        self.recorder.record(invoke(op, self.user, message, retry));
        let (event, answer) = match self.post(message, retry).await {
            Ok((status, body)) => judge(op, status, &body),
            // Without an answer nobody knows, whatever was or was not written.
            Err(_) => {
                let code = "no_answer".to_owned();
                (Event::Unknown { op, code }, Answer::Unknown)
            }
        };
        let seq = match event {
            Event::Ok { seq, .. } => seq,
            _ => None,
        };
        self.recorder.record(event);
        (answer, seq)
    }

    async fn post(&self, message: &Message, retry: bool) -> reqwest::Result<(StatusCode, String)> {
        let messages = format!("/channels/{}/messages", message.channel);
        let (method, path, text, thread) = match &message.change {
            Change::Message { text, thread } => (Method::POST, messages, Some(text), *thread),
            Change::Edit { target, text } => {
                let path = format!("{messages}/{target}");
                (Method::PATCH, path, Some(text), None)
            }
            Change::Delete { target } => {
                (Method::DELETE, format!("{messages}/{target}"), None, None)
            }
            Change::React {
                target,
                reaction,
                remove,
            } => {
                let method = if *remove { Method::DELETE } else { Method::PUT };
                // The suite's reactions are names, which need no escape.
                let path = format!("{messages}/{target}/reactions/{reaction}");
                (method, path, None, None)
            }
        };
        let url = format!("http://{}{path}", self.link.addr());
        let body = Post {
            text: text.map(String::as_str),
            thread,
            client_msg_id: message.id,
            retry,
        };
        let request = self.client.request(method, url);
        let request = request.bearer_auth(&self.token).json(&body);
        let response = request.send().await?;
        Ok((response.status(), response.text().await?))
    }
}

/// What two answers to copies of one message say together: one that is in the log is enough.
fn both_say(answers: [(Answer, Option<Seq>); 2]) -> (Answer, Option<Seq>) {
    let said = |answer| answers.iter().any(|(said, _)| *said == answer);
    if said(Answer::Ok) {
        // Which copy is kept nobody says.
        (Answer::Ok, None)
    } else if said(Answer::Unknown) {
        (Answer::Unknown, None)
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

    const OK: &str = r#"{"channel":"C000000005","message_id":"00000000-0000-0000-0000-000000000007","seq":9,"ts_ms":1}"#;

    #[test]
    fn a_copy_in_the_log_settles_both() {
        let later = (Answer::Rejected { retryable: true }, None);
        let (ok, unknown) = ((Answer::Ok, Some(Seq(9))), (Answer::Unknown, None));
        assert_eq!(both_say([later, ok]), (Answer::Ok, None));
        assert_eq!(both_say([unknown, later]), unknown);
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
