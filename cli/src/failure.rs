use std::{io, process::ExitCode};

use hubbub_client::{Down, HttpError};
use hubbub_protocol::{ErrorCode, Outcome};

use crate::receive::Over;

/// `EX_USAGE` of sysexits.
const USAGE: u8 = 64;

/// The command line or a setting is wrong: exit code 64.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A usage error as the commands return it.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Prints an error for people to stderr: what failed, and what to do. Returns the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if broken_pipe(error) {
        // `hubbub history … | head`: nobody reads on, which is no failure.
        return ExitCode::SUCCESS;
    }
    eprintln!("hubbub: {error:#}");
    if let Some(advice) = advice(error) {
        eprintln!("  {advice}");
    }
    ExitCode::from(if error.is::<Usage>() { USAGE } else { 1 })
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn advice(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<HttpError>() {
            http_advice(error)
        } else if let Some(down) = cause.downcast_ref::<Down>() {
            down_advice(down)
        } else if let Some(Over::Down(down)) = cause.downcast_ref::<Over>() {
            down_advice(down)
        } else {
            None
        }
    })
}

const START: &str = "Is Hubbub up? `./dev status` shows it, `./dev up` starts it; --url or \
                     HUBBUB_URL names another address.";
const TOKEN: &str = "Is the token of this deployment, not expired, and its user known? `hubbub \
                     token NAME` mints one; HUBBUB_JWT_SECRET_FILE must be the servers' own.";

fn http_advice(error: &HttpError) -> Option<String> {
    match error {
        HttpError::Unreachable { .. } => Some(START.to_owned()),
        HttpError::Foreign { status: 503, .. } => Some(
            "The front door is there and no server behind it: `./dev status` shows which is down."
                .to_owned(),
        ),
        HttpError::Foreign { .. } => Some("Does --url or HUBBUB_URL name Hubbub?".to_owned()),
        HttpError::Api(body) => match (body.outcome, body.code) {
            (Some(Outcome::Unknown), _) => Some(
                "The message may be in the log all the same: look at the history before you send \
                 it again."
                    .to_owned(),
            ),
            (_, ErrorCode::Unauthorized) => Some(TOKEN.to_owned()),
            (_, ErrorCode::ChannelNotFound) => Some(
                "`hubbub channels` lists those that you can see; `hubbub join` enters a public one."
                    .to_owned(),
            ),
            (_, code) if code.retryable() => Some("It may work in a moment.".to_owned()),
            _ => None,
        },
        HttpError::Token(_) | HttpError::Config(_) => None,
    }
}

fn down_advice(down: &Down) -> Option<String> {
    match down {
        Down::Connect { .. } => Some(START.to_owned()),
        Down::Refused {
            status: 401 | 403, ..
        } => Some(TOKEN.to_owned()),
        Down::Closed { code: 4502, .. } => {
            Some("This user has too many devices connected; close one.".to_owned())
        }
        Down::Closed { code: 4501, .. } => Some(TOKEN.to_owned()),
        _ => None,
    }
}
