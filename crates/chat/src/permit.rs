use hubbub_protocol::{ChannelId, UserId};

use crate::{Chat, Error};

/// Proof that a user was a member of a channel when it was made: only this crate and an edge's
/// member cache make one. It says nothing of later, so it is made for one request and not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    channel: ChannelId,
    user: UserId,
}

impl Permit {
    /// By an edge whose open feed vouches for the membership.
    pub fn from_cache(channel: ChannelId, user: UserId) -> Self {
        Self { channel, user }
    }

    /// Where.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Who.
    pub fn user(&self) -> UserId {
        self.user
    }
}

impl Chat {
    /// Membership by the primary of the core database. An absent channel, a foreign one and one
    /// that the user left are the same [`Error::ChannelNotFound`], after the same one query.
    pub async fn permit(&self, channel: ChannelId, user: UserId) -> Result<Permit, Error> {
        match self.inner.store.membership(channel, user).await? {
            Some(_) => Ok(Permit { channel, user }),
            None => Err(Error::ChannelNotFound),
        }
    }
}
