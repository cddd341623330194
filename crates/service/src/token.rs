//! Tokens: JWT (RFC 7519) checked by the rules of RFC 8725.
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct TokenConfig {
    #[arg(long, env = "HUBBUB_JWT_SECRET_FILE")]
    pub jwt_secret_file: Option<PathBuf>,
    #[arg(long, env = "HUBBUB_JWKS_FILE")]
    pub jwks_file: Option<PathBuf>,
    #[arg(long, env = "HUBBUB_JWT_ISSUER", default_value = "hubbub")]
    pub jwt_issuer: String,
    #[arg(long, env = "HUBBUB_JWT_AUDIENCE", default_value = "hubbub")]
    pub jwt_audience: String,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub subject: String,
    pub device: Option<hubbub_protocol::DeviceId>,
    pub expires_at: i64, /* s */
    pub issued_at: Option<i64>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("no token")]
    Missing,
    #[error("token is malformed")]
    Malformed,
    #[error("token has expired")]
    Expired,
    #[error("token is not valid here")]
    Invalid,
}
#[derive(Clone)]
pub struct Verifier {}
impl Verifier {
    /// Reads the key or key set. Errors name the file and the remedy (a secret under 256 bits is refused).
    pub fn load(_config: &TokenConfig) -> anyhow::Result<Self> {
        todo!()
    }
    /// `now_s`: seconds since 1970 (leeway 30 s).
    pub fn verify(&self, _token: &str, _now_s: i64) -> Result<Claims, TokenError> {
        todo!()
    }
}
/// Mints HS256 tokens for development (`hubbub token`) and tests.
pub fn mint(
    _secret: &[u8],
    _issuer: &str,
    _audience: &str,
    _subject: &str,
    _device: Option<&str>,
    _now_s: i64,
    _ttl_s: i64,
) -> anyhow::Result<String> {
    todo!()
}
/// The token of a request: `Authorization: Bearer <jwt>`, or `bearer.<jwt>` among the offered subprotocols.
pub fn from_headers<'a>(
    _authorization: Option<&'a str>,
    _subprotocols: Option<&'a str>,
) -> Result<&'a str, TokenError> {
    todo!()
}
