use hubbub_protocol::{DeviceId, ErrorBody, ErrorCode, UserId};
use hubbub_service::token::{self, Claims, TokenError};
use warp::http::header::AUTHORIZATION;

use crate::{call::Call, reply::Failure};

fn unauthorized(message: impl Into<String>) -> Failure {
    ErrorBody::new(ErrorCode::Unauthorized, message).into()
}

impl Call {
    /// Who asks: the user of the token's subject. A token in the query is refused even beside a
    /// good header, since it has been written to logs on its way here.
    pub(crate) async fn user(&self) -> Result<UserId, Failure> {
        self.user_and_device().await.map(|(user, _)| user)
    }

    /// And on which device, if the token names one.
    pub(crate) async fn user_and_device(&self) -> Result<(UserId, Option<DeviceId>), Failure> {
        let (user, claims) = self.user_and_claims().await?;
        Ok((user, claims.device))
    }

    /// And until when the token is good, in seconds since 1970.
    pub(crate) async fn user_and_expiry(&self) -> Result<(UserId, i64), Failure> {
        let (user, claims) = self.user_and_claims().await?;
        Ok((user, claims.expires_at))
    }

    async fn user_and_claims(&self) -> Result<(UserId, Claims), Failure> {
        if self.query.has_token() {
            return Err(unauthorized(
                "a token in the address is not taken: send Authorization: Bearer",
            ));
        }
        let claims = token::from_headers(self.authorization()?, None)
            .and_then(|token| {
                self.context
                    .verifier
                    .verify(token, self.context.clock.now_s())
            })
            .map_err(|error| unauthorized(error.to_string()))?;
        let user = self.user_of(claims.subject.clone()).await?;
        // Set once a request; a second look gives the same user.
        Ok((*self.user.get_or_init(|| user), claims))
    }

    fn authorization(&self) -> Result<Option<&str>, Failure> {
        let malformed = || unauthorized(TokenError::Malformed.to_string());
        let mut values = self.headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(malformed()),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed()),
            (None, _) => Ok(None),
        }
    }

    async fn user_of(&self, subject: String) -> Result<UserId, Failure> {
        let context = &self.context;
        if let Some(user) = context.known_user(&subject) {
            return Ok(user);
        }
        let user = match context.store.user_by_subject(&subject).await? {
            Some(user) => user.id,
            None if context.provision_users => {
                let user = context.store.provision_user(&subject, &subject).await?;
                tracing::info!(user.id = %user.id, "user created for a new subject");
                user.id
            }
            None => return Err(unauthorized("nobody here has the token's subject")),
        };
        context.remember_user(subject, user);
        Ok(user)
    }
}
