use std::time::Duration;

use hubbub_protocol::{ChannelId, UserId};
use tokio::time::Instant;

use crate::{Chat, Error};

/// How old a permit may be when it is used. Requests need milliseconds; a process that was frozen
/// in between must ask again, for a removal may have been confirmed without it.
const FRESH: Duration = Duration::from_secs(2);

/// Proof that a user was a member of a channel when it was made: only this crate and an edge's
/// member cache make one. It says nothing of later, so it is made for one request and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    channel: ChannelId,
    user: UserId,
    /// Taken before the membership was read.
    as_of: Instant,
}

impl Permit {
    /// By an edge whose open feed vouches for the membership.
    pub fn from_cache(channel: ChannelId, user: UserId) -> Self {
        Self {
            channel,
            user,
            as_of: Instant::now(),
        }
    }

    /// Where.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Who.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Refuses a permit whose membership was read too long ago.
    pub fn check_fresh(&self) -> Result<(), Error> {
        if self.as_of.elapsed() > FRESH {
            let reason = "membership was read too long ago";
            return Err(Error::Rejected(reason.to_owned()));
        }
        Ok(())
    }
}

impl Chat {
    /// Membership by the primary of the core database. An absent channel, a foreign one and one
    /// that the user left are the same [`Error::ChannelNotFound`], after the same one query,
    /// which many who ask at once share. Cancel-safe.
    pub async fn permit(&self, channel: ChannelId, user: UserId) -> Result<Permit, Error> {
        let store = &self.inner.store;
        let answer = self
            .inner
            .questions
            .ask((channel, user), |asked| async move {
                store.members_among(&asked).await
            });
        let answer = answer.await.map_err(Error::Members)?;
        if answer.found.is_none() {
            return Err(Error::ChannelNotFound);
        }
        Ok(Permit {
            channel,
            user,
            as_of: answer.as_of,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permit_goes_stale() {
        let permit = Permit::from_cache(
            "C000000005".parse().expect("an id"),
            "U000000001".parse().expect("an id"),
        );
        let aged = |age: Duration| Permit {
            as_of: permit.as_of.checked_sub(age).expect("up for seconds"),
            ..permit
        };
        assert!(permit.check_fresh().is_ok());
        assert!(aged(FRESH / 2).check_fresh().is_ok());
        let error = aged(FRESH).check_fresh().expect_err("stale");
        assert!(matches!(error, Error::Rejected(_)), "{error}");
    }
}
