//! Edits, threads, direct channels, receipts, unread counts, presence: the HTTP API about people.
use hubbub_protocol::{
    ChannelId, MessageId, MessageReply, Seq, UserId, checked_reaction,
    http::{
        Direct, IdentityPatch, IdentityReply, Listeners, MessageStatus, NewDirect, Presence,
        Receipts, RoomUser, ThreadPage, Unread, User, Users,
    },
};
use reqwest::Method;
use serde::Serialize;

use super::{Http, HttpError, Repeat, Sending};

/// How far a device came, for [`Http::mark`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Everything through this seq reached the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Seq>,
    /// Everything through this seq was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Seq>,
}

/// Which replies of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replies {
    /// Those above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// 1 to 200 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A segment of a path: whatever is not plain is escaped (RFC 3986, 2.3).
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Http {
    /// Answers in the thread of the message `root`; repeated as [`Self::post`] is.
    pub async fn reply(
        &self,
        channel: ChannelId,
        root: Seq,
        text: &str,
        message_id: MessageId,
    ) -> Result<MessageReply, HttpError> {
        let path = format!("/channels/{channel}/messages");
        let sending = Sending {
            text: Some(text),
            thread: Some(root),
            ..Sending::new(message_id)
        };
        self.settle(Method::POST, &path, sending).await
    }

    /// Gives the message `target` another text (its author, or an admin); repeated as
    /// [`Self::post`] is, under `edit_id`.
    pub async fn edit(
        &self,
        channel: ChannelId,
        target: Seq,
        text: &str,
        edit_id: MessageId,
    ) -> Result<MessageReply, HttpError> {
        let path = format!("/channels/{channel}/messages/{target}");
        let sending = Sending {
            text: Some(text),
            ..Sending::new(edit_id)
        };
        self.settle(Method::PATCH, &path, sending).await
    }

    /// Deletes the message `target` (its author, or an admin).
    pub async fn delete(
        &self,
        channel: ChannelId,
        target: Seq,
        delete_id: MessageId,
    ) -> Result<MessageReply, HttpError> {
        let path = format!("/channels/{channel}/messages/{target}");
        self.settle(Method::DELETE, &path, Sending::new(delete_id))
            .await
    }

    /// Gives the message `target` a reaction, or takes it back.
    pub async fn react(
        &self,
        channel: ChannelId,
        target: Seq,
        reaction: &str,
        remove: bool,
        react_id: MessageId,
    ) -> Result<MessageReply, HttpError> {
        let reaction = checked_reaction(reaction.to_owned()).map_err(HttpError::Api)?;
        let reaction = segment(&reaction);
        let path = format!("/channels/{channel}/messages/{target}/reactions/{reaction}");
        let method = if remove { Method::DELETE } else { Method::PUT };
        self.settle(method, &path, Sending::new(react_id)).await
    }

    /// A page of the thread below the message `root`, oldest first.
    pub async fn replies(
        &self,
        channel: ChannelId,
        root: Seq,
        page: Replies,
    ) -> Result<ThreadPage, HttpError> {
        self.get(
            &format!("/channels/{channel}/messages/{root}/replies"),
            &page,
        )
        .await
    }

    /// What became of the message `seq` on its way to each device of the channel.
    pub async fn status(&self, channel: ChannelId, seq: Seq) -> Result<MessageStatus, HttpError> {
        self.get(&format!("/channels/{channel}/messages/{seq}/status"), &())
            .await
    }

    /// The direct channel with `user`, created by the first call of either side.
    pub async fn direct(&self, user: UserId) -> Result<Direct, HttpError> {
        let body = NewDirect { user };
        self.call(Method::POST, "/direct", &(), Some(&body), Repeat::Always)
            .await
    }

    /// Marks how far the device of this token came. Idempotent: cursors never go back.
    pub async fn mark(
        &self,
        channel: ChannelId,
        device: Option<&hubbub_protocol::DeviceId>,
        progress: Progress,
    ) -> Result<hubbub_protocol::MarkReply, HttpError> {
        #[derive(Serialize)]
        struct Query<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            device: Option<&'a hubbub_protocol::DeviceId>,
        }
        let path = format!("/channels/{channel}/marks");
        let query = Query { device };
        self.call(Method::PUT, &path, &query, Some(&progress), Repeat::Always)
            .await
    }

    /// How far the devices of a channel's members came; in a large channel the caller's own alone.
    pub async fn receipts(&self, channel: ChannelId) -> Result<Receipts, HttpError> {
        self.get(&format!("/channels/{channel}/receipts"), &())
            .await
    }

    /// How much the caller has not read, of every channel.
    pub async fn unread(&self) -> Result<Unread, HttpError> {
        self.get("/unread", &()).await
    }

    /// Users by id, at most 100; absent ones are absent.
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, HttpError> {
        #[derive(Serialize)]
        struct Query {
            ids: String,
        }
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let query = Query { ids: ids.join(",") };
        let users: Users = self.get("/users", &query).await?;
        Ok(users.users)
    }

    /// Changes the caller's own name, picture or status and tells every channel of theirs.
    pub async fn change_identity(
        &self,
        me: UserId,
        patch: &IdentityPatch,
    ) -> Result<IdentityReply, HttpError> {
        let path = format!("/users/{me}");
        self.call(Method::PATCH, &path, &(), Some(patch), Repeat::Unsent)
            .await
    }

    /// Whether a user is there, over all pods.
    pub async fn presence(&self, user: UserId) -> Result<Presence, HttpError> {
        self.get(&format!("/users/{user}/presence"), &()).await
    }

    /// The sockets that listen to a channel, over all pods.
    pub async fn who(&self, channel: ChannelId) -> Result<Listeners, HttpError> {
        self.get(&format!("/channels/{channel}/users"), &()).await
    }

    /// The same by the channel's name, in the shape of the playground.
    pub async fn room_users(&self, name: &str) -> Result<Vec<RoomUser>, HttpError> {
        self.get(&format!("/{}/users", segment(name)), &()).await
    }
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn segments_of_a_path_are_escaped() {
        assert_eq!(segment("+1"), "%2B1");
        assert_eq!(segment("a/b?c#d"), "a%2Fb%3Fc%23d");
        assert_eq!(segment("\u{1F44D}"), "%F0%9F%91%8D");
        assert_eq!(segment("Maths_1-.~"), "Maths_1-.~");
    }
}
