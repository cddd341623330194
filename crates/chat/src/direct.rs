use bytes::Bytes;
use hubbub_protocol::{BusChannel, ChannelId, UserEvent, UserId};
use hubbub_store::DirectCreated;

use crate::{Chat, Error, membership::named};

impl Chat {
    /// The direct channel of two users, or of one with themself: created at the first call, the
    /// same whoever calls first and however often. Both are told, so that their devices join it:
    /// a new one, or one that they have not used for long. Errors: [`Error::UserNotFound`],
    /// [`Error::Store`].
    pub async fn open_direct(&self, user: UserId, other: UserId) -> Result<ChannelId, Error> {
        let opened = self.inner.store.direct_channel(user, other).await;
        let DirectCreated { channel, created } = opened.map_err(named)?;
        tracing::debug!(
            channel.id = %channel, user.id = %user, other.id = %other, created, "direct channel"
        );
        self.tell_devices(user, channel);
        if other != user {
            self.tell_devices(other, channel);
        }
        Ok(channel)
    }

    /// Tells the devices of a member that a channel is there, so that they can join at once. May
    /// be lost: the list of channels is read at every connection.
    pub(crate) fn tell_devices(&self, member: UserId, channel: ChannelId) {
        let event = UserEvent::ChannelAdded { channel }.encode();
        let offered = self
            .inner
            .publisher
            .offer(&BusChannel::User(member), Bytes::from(event));
        if let Err(error) = offered {
            self.inner.metrics.publish_refused.inc();
            tracing::debug!(channel.id = %channel, user.id = %member, %error, "publish refused");
        }
    }
}
