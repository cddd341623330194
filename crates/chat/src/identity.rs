use std::time::Duration;

use futures_util::{StreamExt, stream};
use hubbub_protocol::{
    ChannelId, Record, UserId,
    http::{IdentityPatch, IdentityReply},
    limits,
};
use hubbub_store::IdentityChange;

use crate::{Chat, Error, membership::named, send::random_id};

/// Between two changes of one user: each is told to every channel of theirs.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// Channels that are told of a change at once.
const AT_ONCE: usize = 16;
/// How long channels are told of a change; those that are left then are not told.
const TELLING: Duration = Duration::from_secs(10);

impl Chat {
    /// Changes a user's own name, picture or status, which counts its version up, and tells every
    /// channel of the user by a record, for 10 s at most. The reply says how many have it: the
    /// change stands where the log did not take the record, and clients see the version when they
    /// read the user again. At most one in 5 s. Errors: [`Error::Invalid`], [`Error::RateLimited`],
    /// [`Error::UserNotFound`], [`Error::Store`].
    ///
    /// Dropped before its end, the change may stand without its records.
    pub async fn change_identity(
        &self,
        user: UserId,
        patch: IdentityPatch,
    ) -> Result<IdentityReply, Error> {
        check(&patch)?;
        let store = &self.inner.store;
        let change = store.change_identity(user, &patch, LEAST_PAUSE).await;
        let changed = match change.map_err(named)? {
            IdentityChange::Changed(user) => user,
            IdentityChange::TooSoon { retry_after_ms } => {
                return Err(Error::RateLimited { retry_after_ms });
            }
        };
        let channels = store.channels_of(user).await?;
        let tell = |channel| self.tell_identity(channel, user, changed.version);
        let announced = stream::iter(channels.iter().copied())
            .map(tell)
            .buffer_unordered(AT_ONCE)
            .take_until(tokio::time::sleep(TELLING))
            .filter(|told| std::future::ready(*told))
            .count()
            .await;
        Ok(IdentityReply {
            user: changed,
            announced: announced as u64,
            channels: channels.len() as u64,
        })
    }

    /// Whether the log has the record. The membership is looked at again for each channel: the
    /// list is as old as the channels before it took, and a removed user sends nothing more.
    async fn tell_identity(&self, channel: ChannelId, user: UserId, version: i64) -> bool {
        let told = async {
            self.permit(channel, user).await?.check_fresh()?;
            let record = Record::identity(channel, user, random_id(), version);
            self.append(record, true)?.wait().await
        };
        match told.await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(
                    channel.id = %channel, user.id = %user, %error, "identity change not told"
                );
                false
            }
        }
    }
}

fn check(patch: &IdentityPatch) -> Result<(), Error> {
    let IdentityPatch {
        name,
        picture,
        status,
    } = patch;
    if name.is_none() && picture.is_none() && status.is_none() {
        return Err(invalid("name", "name, picture or status is expected", 0));
    }
    if let Some(name) = name {
        let most = limits::USER_NAME_BYTES;
        if name.is_empty() || name.trim() != name {
            return Err(invalid(
                "name",
                "name is empty, or begins or ends with white space",
                most,
            ));
        }
        check_line("name", name, most)?;
    }
    if let Some(status) = status {
        check_line("status", status, limits::USER_STATUS_BYTES)?;
    }
    if let Some(picture) = picture {
        check_line("picture", picture, limits::USER_PICTURE_BYTES)?;
        // Clients put it into pages: an address of another kind could run there.
        let address =
            picture.is_empty() || picture.starts_with("https://") || picture.starts_with("http://");
        if !address || picture.contains(char::is_whitespace) {
            return Err(invalid(
                "picture",
                "picture must be an https address, or empty for none",
                limits::USER_PICTURE_BYTES,
            ));
        }
    }
    Ok(())
}

fn check_line(field: &'static str, text: &str, most: usize) -> Result<(), Error> {
    if text.len() > most {
        let message = format!("{field} is longer than {most} bytes");
        return Err(invalid(field, &message, most));
    }
    if text.chars().any(char::is_control) {
        let message = format!("{field} has a control character");
        return Err(invalid(field, &message, most));
    }
    Ok(())
}

fn invalid(field: &'static str, message: &str, limit: usize) -> Error {
    Error::Invalid {
        field,
        message: message.to_owned(),
        limit: (limit > 0).then_some(limit as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(name: Option<&str>, picture: Option<&str>, status: Option<&str>) -> IdentityPatch {
        IdentityPatch {
            name: name.map(str::to_owned),
            picture: picture.map(str::to_owned),
            status: status.map(str::to_owned),
        }
    }

    #[test]
    fn identity_is_short_printable_and_safe_in_a_page() {
        for good in [
            patch(Some("Mary"), None, None),
            patch(None, Some(""), Some("")),
            patch(
                None,
                Some("https://example.com/a.png?b=c"),
                Some("at lunch \u{1F35C}"),
            ),
            patch(Some(&"x".repeat(80)), None, Some(&"x".repeat(140))),
        ] {
            assert!(check(&good).is_ok(), "{good:?}");
        }
        for (field, bad) in [
            ("name", patch(None, None, None)),
            ("name", patch(Some(""), None, None)),
            ("name", patch(Some(" Mary"), None, None)),
            ("name", patch(Some("Ma\nry"), None, None)),
            ("name", patch(Some(&"x".repeat(81)), None, None)),
            ("status", patch(None, None, Some("a\u{0}"))),
            ("status", patch(None, None, Some(&"x".repeat(141)))),
            ("picture", patch(None, Some("javascript:alert(1)"), None)),
            ("picture", patch(None, Some("https://a b"), None)),
            ("picture", patch(Some("Mary"), Some("x"), None)),
        ] {
            let error = check(&bad).expect_err(field).body();
            assert_eq!(error.field.as_deref(), Some(field), "{bad:?}");
        }
    }
}
