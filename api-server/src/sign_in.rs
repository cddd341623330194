//! The development sign-in: whoever asks becomes one of the example users. Off unless it is turned
//! on, and then it says so in the log.
use std::{fmt, sync::Arc};

use anyhow::Context as _;
use hubbub_protocol::{EXAMPLE_USERS, ErrorBody, ErrorCode, UserId};
use hubbub_service::token::{self, TokenConfig};
use warp::{http::StatusCode, reply::Response};

use crate::{
    call::{Body, Call},
    fields::Fields,
    reply::{self, Failure},
};

/// A working day: the page asks for a fresh one by itself.
const TOKEN_S: i64 = 8 * 3_600;

/// Signs tokens of the example users, of no other.
pub(crate) struct SignIn {
    secret: Vec<u8>,
    issuer: String,
    audience: String,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").finish_non_exhaustive()
    }
}

impl SignIn {
    /// With the secret by which this server checks tokens.
    pub(crate) fn load(config: &TokenConfig) -> anyhow::Result<Self> {
        let path = config.jwt_secret_file.as_deref();
        let path = path.context("needs --jwt-secret-file, to sign with")?;
        Ok(Self {
            secret: token::read_secret(path)?,
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
        })
    }
}

#[derive(Debug, serde::Serialize)]
struct People {
    users: Vec<Person>,
}

#[derive(Debug, serde::Serialize)]
struct Person {
    id_user: usize,
    user: UserId,
    name: String,
}

#[derive(Debug, serde::Serialize)]
struct SignedIn {
    token: String,
    user: UserId,
    expires_ms: i64,
}

/// Where it is off nothing of it can be seen.
fn wanted(call: &Call) -> Result<&SignIn, ErrorBody> {
    let sign_in = call.context.sign_in.as_ref();
    sign_in.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "no such address"))
}

/// The users to choose among, under the numbers that `?id_user=` takes.
pub(crate) async fn people(call: Arc<Call>) -> Result<Response, Failure> {
    wanted(&call)?;
    let mut users = Vec::with_capacity(EXAMPLE_USERS.len());
    for (id_user, subject) in (1..).zip(EXAMPLE_USERS) {
        if let Some(user) = call.context.store.user_by_subject(subject).await? {
            users.push(Person {
                id_user,
                user: user.id,
                name: user.name,
            });
        }
    }
    reply::json(StatusCode::OK, &People { users })
}

/// `{id_user}` → a token of that user.
pub(crate) async fn sign_in(call: Arc<Call>, body: Body) -> Result<Response, Failure> {
    let signer = wanted(&call)?;
    let fields = Fields::read(&call.json_body(body).await?)?;
    let unknown = || ErrorBody::new(ErrorCode::UserNotFound, "no example user has this number");
    let subject = usize::try_from(fields.required_number("id_user")?)
        .ok()
        .and_then(|number| EXAMPLE_USERS.get(number.checked_sub(1)?))
        .ok_or_else(unknown)?;
    let found = call.context.store.user_by_subject(subject).await?;
    let user = found.ok_or_else(unknown)?.id;
    let now_s = call.context.clock.now_s();
    let token = token::mint(
        &signer.secret,
        &signer.issuer,
        &signer.audience,
        subject,
        None,
        now_s,
        TOKEN_S,
    )
    .map_err(|error| {
        tracing::error!(%error, "cannot sign a token");
        ErrorBody::new(ErrorCode::Internal, "an error of the server")
    })?;
    let signed_in = SignedIn {
        token,
        user,
        expires_ms: (now_s + TOKEN_S) * 1_000,
    };
    reply::json(StatusCode::OK, &signed_in)
}
