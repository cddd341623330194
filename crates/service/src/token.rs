//! Tokens: JWT (RFC 7519) checked by the rules of RFC 8725.
//!
//! The key decides the algorithm, never the token: a token that names another one is refused
//! before its signature is looked at.
use std::path::PathBuf;

use anyhow::Context;
use hubbub_protocol::DeviceId;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

mod keys;
mod verify;

pub use keys::read_secret;
pub use verify::{Verifier, valid_until};

/// A secret of HS256 has at least as many bytes as its hash (RFC 7518, 3.2).
pub const SECRET_BYTES: usize = 32;
/// A longer token is refused unread.
pub const TOKEN_BYTES: usize = 8 * 1024;
/// A longer subject is refused.
pub const SUBJECT_BYTES: usize = 255;

/// Whether a token's `sub` may say this: 1 to [`SUBJECT_BYTES`] bytes without control characters.
pub fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.len() <= SUBJECT_BYTES && !text.chars().any(char::is_control)
}

/// Which tokens are accepted. One of the two files is needed; with both, either key will do.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenConfig {
    /// File with the HS256 secret, at least 32 bytes (one line end is dropped). Such tokens carry
    /// no `kid`.
    #[arg(long, env = "HUBBUB_JWT_SECRET_FILE")]
    pub jwt_secret_file: Option<PathBuf>,
    /// File with a JSON Web Key Set (RFC 7517): RSA, EC P-256 and P-384, Ed25519 and octet keys.
    /// A token chooses among them by `kid`. Read once, at the start.
    #[arg(long, env = "HUBBUB_JWKS_FILE")]
    pub jwks_file: Option<PathBuf>,
    /// `iss` of the tokens.
    #[arg(long, env = "HUBBUB_JWT_ISSUER", default_value = "hubbub")]
    pub jwt_issuer: String,
    /// What `aud` of the tokens must be or contain.
    #[arg(long, env = "HUBBUB_JWT_AUDIENCE", default_value = "hubbub")]
    pub jwt_audience: String,
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who: `users.subject`. 1 to 255 bytes without control characters.
    pub subject: String,
    /// Which of their clients, if the issuer says.
    pub device: Option<DeviceId>,
    /// Seconds since 1970, without the leeway of [`valid_until`].
    pub expires_at: i64,
    /// Seconds since 1970, if the token says.
    pub issued_at: Option<i64>,
}

/// Why there are no claims. Every variant is a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request has none.
    #[error("no token")]
    Missing,
    /// It is no JWT of a known algorithm, or a claim is absent or of the wrong type.
    #[error("token is malformed")]
    Malformed,
    /// It was valid once.
    #[error("token has expired")]
    Expired,
    /// Wrong key, algorithm, signature, issuer, audience or type, or not valid yet.
    #[error("token is not valid here")]
    Invalid,
}

impl TokenError {
    /// The label of this error in metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
        }
    }
}

/// Mints HS256 tokens for development (`hubbub token`) and tests. `secret` has at least 32 bytes
/// ([`read_secret`] gives it as [`Verifier::load`] reads it); `now_s` is in seconds since 1970,
/// `ttl_s` in seconds (negative values mint an expired token).
pub fn mint(
    secret: &[u8],
    issuer: &str,
    audience: &str,
    subject: &str,
    device: Option<&str>,
    now_s: i64,
    ttl_s: i64,
) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Minted<'a> {
        iss: &'a str,
        aud: &'a str,
        sub: &'a str,
        iat: i64,
        exp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<&'a str>,
    }
    anyhow::ensure!(
        secret.len() >= SECRET_BYTES,
        "the secret has {} bytes, at least {SECRET_BYTES} are needed",
        secret.len()
    );
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some("at+jwt".to_owned());
    let claims = Minted {
        iss: issuer,
        aud: audience,
        sub: subject,
        iat: now_s,
        exp: now_s.saturating_add(ttl_s),
        device,
    };
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&header, &claims, &key).context("sign the token")
}

/// The token of a request: `Authorization: Bearer <jwt>`, or `bearer.<jwt>` among the offered
/// subprotocols (browsers cannot set the former). The former wins if both are there; two tokens
/// among the subprotocols are malformed.
pub fn from_headers<'a>(
    authorization: Option<&'a str>,
    subprotocols: Option<&'a str>,
) -> Result<&'a str, TokenError> {
    let token = match authorization {
        Some(header) => {
            let (scheme, token) = header.trim().split_once(' ').ok_or(TokenError::Malformed)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(TokenError::Malformed);
            }
            token.trim()
        }
        None => {
            let mut tokens = subprotocols
                .unwrap_or_default()
                .split(',')
                .filter_map(|offered| offered.trim().strip_prefix("bearer."));
            let token = tokens.next().ok_or(TokenError::Missing)?;
            if tokens.next().is_some() {
                return Err(TokenError::Malformed);
            }
            token
        }
    };
    if token.is_empty() {
        return Err(TokenError::Malformed);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_found_in_either_header() {
        let found = |authorization, subprotocols| from_headers(authorization, subprotocols);
        assert_eq!(found(Some("Bearer a.b.c"), None), Ok("a.b.c"));
        assert_eq!(found(Some("bEARER  a.b.c "), None), Ok("a.b.c"));
        assert_eq!(found(None, Some("hubbub.v1, bearer.a.b.c")), Ok("a.b.c"));
        assert_eq!(found(None, Some("bearer.a.b.c,hubbub.v1")), Ok("a.b.c"));
        assert_eq!(found(Some("Bearer x"), Some("bearer.y")), Ok("x"));
        for (authorization, subprotocols, error) in [
            (None, None, TokenError::Missing),
            (None, Some(""), TokenError::Missing),
            (None, Some("hubbub.v1"), TokenError::Missing),
            (None, Some("bearer."), TokenError::Malformed),
            (None, Some("bearer.a, bearer.b"), TokenError::Malformed),
            (Some(""), None, TokenError::Malformed),
            (Some("Bearer"), None, TokenError::Malformed),
            (Some("Bearer "), None, TokenError::Malformed),
            (Some("Basic abc"), Some("bearer.a"), TokenError::Malformed),
        ] {
            assert_eq!(
                found(authorization, subprotocols),
                Err(error),
                "{authorization:?} {subprotocols:?}"
            );
        }
    }

    #[test]
    fn short_secret_mints_nothing() {
        let error = mint(&[7; 31], "i", "a", "s", None, 0, 1).expect_err("31 bytes");
        assert!(error.to_string().contains("31 bytes"), "{error}");
    }
}
