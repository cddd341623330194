use std::{fmt, sync::Arc};

use hubbub_protocol::DeviceId;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

use super::{
    Claims, TOKEN_BYTES, TokenConfig, TokenError, is_subject,
    keys::{self, Key},
};

/// Clocks of issuers and servers may differ by so much, in seconds.
const LEEWAY_S: i64 = 30;

/// The second from which a token that expires at `expires_at` is good for nothing, sockets and
/// streams that were opened with it included. Clocks of issuers differ a little (RFC 7519, 4.1.4).
pub fn valid_until(expires_at: i64) -> i64 {
    expires_at.saturating_add(LEEWAY_S)
}

/// Checks tokens. Cheap handle.
#[derive(Clone)]
pub struct Verifier {
    shared: Arc<Shared>,
}

struct Shared {
    keys: Vec<Key>,
    issuer: String,
    audience: String,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.shared.keys.iter().map(|key| &key.id).collect();
        f.debug_struct("Verifier")
            .field("keys", &keys)
            .field("issuer", &self.shared.issuer)
            .field("audience", &self.shared.audience)
            .finish_non_exhaustive()
    }
}

/// The claims on the wire. A claim that is there twice is refused (serde), because two readers
/// may take different ones; so is `null`.
#[derive(Deserialize)]
struct Wire {
    iss: String,
    aud: Audience,
    sub: String,
    exp: Seconds,
    #[serde(default, deserialize_with = "present")]
    iat: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    device: Option<DeviceId>,
}

/// Without this `null` would count as absent.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// A `NumericDate`: a JSON number, whole or not; never a string.
#[derive(Clone, Copy)]
struct Seconds(i64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(value)?;
        let seconds = number
            .as_i64()
            // Rounded down, and a float outside the range of i64 becomes its nearest end: both
            // are far from where the difference would matter.
            .or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
        seconds
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a number of seconds is expected"))
    }
}

impl Verifier {
    /// Reads the key or key set. Errors name the file and the remedy (a secret under 256 bits is
    /// refused).
    pub fn load(config: &TokenConfig) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !config.jwt_issuer.is_empty() && !config.jwt_audience.is_empty(),
            "--jwt-issuer and --jwt-audience must not be empty"
        );
        Ok(Self {
            shared: Arc::new(Shared {
                keys: keys::load(config)?,
                issuer: config.jwt_issuer.clone(),
                audience: config.jwt_audience.clone(),
            }),
        })
    }

    /// `now_s`: seconds since 1970 (leeway 30 s). No I/O; below a millisecond.
    pub fn verify(&self, token: &str, now_s: i64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let key = self.key_of(token)?;
        let mut validation = Validation::new(key.algorithm);
        // The claims are checked below, against the caller's clock and with their types.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let decoded =
            decode::<Wire>(token, &key.key, &validation).map_err(|e| refusal(e.kind()))?;
        self.check(decoded.claims, now_s)
    }

    /// The key that the header names. The token chooses among our keys, never their algorithm,
    /// and nothing in it is fetched or used as a key.
    fn key_of(&self, token: &str) -> Result<&Key, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        let brings_key = header.jku.is_some()
            || header.jwk.is_some()
            || header.x5u.is_some()
            || header.x5c.is_some();
        let typ = header.typ.as_deref().unwrap_or("JWT");
        let typ = typ.strip_prefix("application/").unwrap_or(typ);
        let is_access = typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("jwt");
        // `crit` names extensions that a reader must understand (RFC 7515, 4.1.11); we know none.
        if brings_key || header.crit.is_some() || !is_access {
            return Err(TokenError::Invalid);
        }
        let key = self.shared.keys.iter().find(|key| key.id == header.kid);
        key.filter(|key| key.algorithm == header.alg)
            .ok_or(TokenError::Invalid)
    }

    fn check(&self, claims: Wire, now_s: i64) -> Result<Claims, TokenError> {
        if !is_subject(&claims.sub) {
            return Err(TokenError::Malformed);
        }
        if claims.iss != self.shared.issuer || !claims.aud.contains(&self.shared.audience) {
            return Err(TokenError::Invalid);
        }
        let latest = now_s.saturating_add(LEEWAY_S);
        let begins = [claims.nbf, claims.iat];
        if begins.iter().flatten().any(|begin| begin.0 > latest) {
            return Err(TokenError::Invalid);
        }
        if valid_until(claims.exp.0) <= now_s {
            return Err(TokenError::Expired);
        }
        Ok(Claims {
            subject: claims.sub,
            device: claims.device,
            expires_at: claims.exp.0,
            issued_at: claims.iat.map(|iat| iat.0),
        })
    }
}

fn refusal(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Invalid,
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;
