use std::sync::Arc;

use anyhow::Context as _;
use hubbub_client::{Config, Http, TokenSource};
use hubbub_protocol::DeviceId;
use hubbub_service::wall_clock_ms;

use crate::{args::ConnectArgs, failure::usage, show::Style};

/// Lifetime of a token that is minted for one connection attempt or request.
const MINTED_S: i64 = 3_600;
/// The device of somebody who did not name theirs.
const DEVICE: &str = "terminal";

/// What every command needs: who, where, how to show.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) args: ConnectArgs,
    pub(crate) style: Style,
}

impl Context {
    pub(crate) fn new(args: ConnectArgs) -> Self {
        Self {
            args,
            style: Style::of_stdout(),
        }
    }

    /// Signs a token with the development secret.
    pub(crate) fn mint(&self, subject: &str, ttl_s: i64) -> anyhow::Result<String> {
        mint(&self.secret()?, &self.args, subject, ttl_s)
    }

    fn secret(&self) -> anyhow::Result<Vec<u8>> {
        let Some(path) = &self.args.jwt_secret_file else {
            return Err(usage(
                "no secret to sign a token with: name its file by --jwt-secret-file or \
                 HUBBUB_JWT_SECRET_FILE (`./dev hubbub …` does it for you)",
            ));
        };
        hubbub_service::token::read_secret(path)
    }

    /// `--as` wins over HUBBUB_TOKEN, since it was typed for this very command.
    fn token(&self) -> anyhow::Result<TokenSource> {
        match (&self.args.subject, &self.args.token) {
            (Some(subject), _) => {
                let (secret, args) = (self.secret()?, self.args.clone());
                let subject = subject.clone();
                // Once here, so that a bad secret is an error of this command, not of a retry.
                mint(&secret, &args, &subject, MINTED_S)?;
                Ok(TokenSource::Provider(Arc::new(move || {
                    mint(&secret, &args, &subject, MINTED_S).map_err(|e| format!("{e:#}"))
                })))
            }
            (None, Some(token)) => Ok(TokenSource::Fixed(token.trim().to_owned())),
            (None, None) => Err(usage(
                "who are you? Set HUBBUB_TOKEN, or use --as NAME with HUBBUB_JWT_SECRET_FILE \
                 (development)",
            )),
        }
    }

    /// The HTTP API as this user.
    pub(crate) fn http(&self) -> anyhow::Result<Http> {
        // Also says what is wrong with the URL.
        websocket_url(&self.args.url)?;
        Ok(Http::new(&self.args.url, self.token()?)?)
    }

    /// The WebSocket as this user, for looking on: what it is given is no sign that a person's
    /// device has it, so nothing is marked by itself.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::new(websocket_url(&self.args.url)?, self.token()?);
        config.device = self.args.device.clone();
        config.marks_delivered = false;
        // A command is about the channel that it names.
        config.direct = false;
        Ok(config)
    }

    /// The same for a person in front of a terminal, whose device is always the same one. What
    /// it shows it marks as read.
    pub(crate) fn config_of_person(&self) -> anyhow::Result<Config> {
        let mut config = self.config()?;
        if config.device.is_none() {
            config.device = Some(DEVICE.parse().context("the terminal's device id")?);
        }
        Ok(config)
    }
}

fn mint(secret: &[u8], args: &ConnectArgs, subject: &str, ttl_s: i64) -> anyhow::Result<String> {
    let device = args.device.as_ref().map(DeviceId::as_str);
    let now_s = wall_clock_ms() / 1_000;
    let (issuer, audience) = (&args.jwt_issuer, &args.jwt_audience);
    hubbub_service::token::mint(secret, issuer, audience, subject, device, now_s, ttl_s)
        .context("mint a token")
}

/// `ws://…/ws` of `http://…`.
fn websocket_url(url: &str) -> anyhow::Result<String> {
    match url.trim_end_matches('/').strip_prefix("http://") {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#']) => {
            Ok(format!("ws://{host}/ws"))
        }
        _ => Err(usage(format!(
            "HUBBUB_URL must look like http://host:port, not {url}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websocket_address_is_made_of_the_http_one() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("http://chat.local/", "ws://chat.local/ws"),
        ] {
            assert_eq!(websocket_url(url).expect(url), expected);
        }
        for url in [
            "",
            "https://x",
            "127.0.0.1:8080",
            "http://",
            "http://x/chat",
        ] {
            let error = websocket_url(url).expect_err(url);
            assert!(error.is::<crate::failure::Usage>(), "{url}");
        }
    }
}
