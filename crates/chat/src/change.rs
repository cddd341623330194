use std::time::Duration;

use hubbub_protocol::{
    ChannelId, DeleteMessage, EditMessage, MessageId, MessageReply, React, ReactionChange, Record,
    SendMessage, Seq, UserId, http::Role, limits,
};
use hubbub_store::TargetMessage;
use tokio::time::{Instant, sleep};

use crate::{Chat, Error, Permit, Posting, send::random_id};

/// How long a change waits for a message to be stored that is newer than the channel's head.
pub const STORED_WITHIN: Duration = Duration::from_secs(2);

/// Between two looks at the head: doubled from the first to the second.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_MOST: Duration = Duration::from_millis(320);

/// Something that is about a message of the channel: it is looked at before the append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageChange {
    /// Another text.
    Edit(EditMessage),
    /// No text at all.
    Delete(DeleteMessage),
    /// A reaction, given or taken back.
    React(React),
    /// A message in the thread below it; `thread` is there.
    Reply(SendMessage),
}

impl MessageChange {
    /// Where.
    pub fn channel(&self) -> ChannelId {
        match self {
            Self::Edit(edit) => edit.channel,
            Self::Delete(delete) => delete.channel,
            Self::React(react) => react.channel,
            Self::Reply(send) => send.channel,
        }
    }

    /// The message that it is about: the root, for a reply.
    fn target(&self) -> Option<Seq> {
        match self {
            Self::Edit(edit) => Some(edit.target),
            Self::Delete(delete) => Some(delete.target),
            Self::React(react) => Some(react.target),
            Self::Reply(send) => send.thread,
        }
    }

    fn id_and_retry(&self) -> (Option<MessageId>, bool) {
        match self {
            Self::Edit(edit) => (edit.client_msg_id, edit.retry),
            Self::Delete(delete) => (delete.client_msg_id, delete.retry),
            Self::React(react) => (react.client_msg_id, react.retry),
            Self::Reply(send) => (send.client_msg_id, send.retry),
        }
    }

    fn record(self, user: UserId, id: MessageId, as_admin: bool) -> Record {
        let channel = self.channel();
        match self {
            Self::Edit(edit) => Record::edit(channel, user, id, edit.target, edit.text, as_admin),
            Self::Delete(delete) => Record::delete(channel, user, id, delete.target, as_admin),
            Self::React(react) => {
                let change = if react.remove {
                    ReactionChange::Removed
                } else {
                    ReactionChange::Added
                };
                Record::reaction(channel, user, id, react.target, react.reaction, change)
            }
            Self::Reply(send) => Record::reply(channel, user, id, send.text, send.thread),
        }
    }
}

/// Why a change may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// It is the user's own message, or every member may.
    Own,
    /// Only an admin of the channel may.
    Admin,
}

/// A change whose message was looked at. It says nothing of the membership, which is to be proven
/// again when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    pub(crate) record: Record,
    pub(crate) retry: bool,
}

impl Chat {
    /// Looks at the message that a change is about, and takes a token of the user's rate. Waits up
    /// to [`STORED_WITHIN`] for one that is not stored yet. Errors, after each of which nothing
    /// was sent: [`Error::RateLimited`], [`Error::MessageNotFound`], [`Error::NotStoredYet`],
    /// [`Error::Forbidden`], [`Error::ChannelNotFound`], [`Error::Store`]. Cancel-safe, the token
    /// apart.
    pub async fn allow(&self, permit: Permit, change: MessageChange) -> Result<Allowed, Error> {
        let (channel, user) = (permit.channel(), permit.user());
        if channel != change.channel() {
            return Err(Error::ChannelNotFound);
        }
        let target = change.target().ok_or(Error::MessageNotFound)?;
        self.take_send(user)?;
        let message = self.stored_target(channel, target).await?;
        let as_admin = match judge(&message, user, &change)? {
            Right::Own => false,
            Right::Admin => {
                let membership = self.inner.store.membership(channel, user).await?;
                match membership.map(|membership| membership.role) {
                    None => return Err(Error::ChannelNotFound),
                    Some(Role::Admin) => true,
                    Some(Role::Member) => {
                        return Err(Error::Forbidden(
                            "only its author or an admin of the channel may change a message",
                        ));
                    }
                }
            }
        };
        let (id, retry) = change.id_and_retry();
        Ok(Allowed {
            record: change.record(user, id.unwrap_or_else(random_id), as_admin),
            retry,
        })
    }

    /// Hands an allowed change to the log at once. The permit is a new one: looking at the
    /// message may have taken seconds. Errors as those of [`Chat::post`].
    pub fn apply(&self, permit: Permit, allowed: Allowed) -> Result<Posting, Error> {
        let Allowed { record, retry } = allowed;
        if permit.channel() != record.channel() || permit.user() != record.user() {
            return Err(Error::ChannelNotFound);
        }
        self.post_record(permit, record, retry)
    }

    /// Edits a message: its author may, and an admin of the channel. Errors as those of
    /// [`Chat::permit`], [`Chat::allow`], [`Chat::post`] and [`Posting::wait`]; so for the three
    /// below.
    pub async fn edit(&self, user: UserId, edit: EditMessage) -> Result<MessageReply, Error> {
        self.change(user, MessageChange::Edit(edit)).await
    }

    /// Deletes a message: its author may, and an admin of the channel.
    pub async fn delete(&self, user: UserId, delete: DeleteMessage) -> Result<MessageReply, Error> {
        self.change(user, MessageChange::Delete(delete)).await
    }

    /// Gives or takes back a reaction: every member may.
    pub async fn react(&self, user: UserId, react: React) -> Result<MessageReply, Error> {
        self.change(user, MessageChange::React(react)).await
    }

    /// Says something in a thread: every member may.
    pub async fn reply(&self, user: UserId, send: SendMessage) -> Result<MessageReply, Error> {
        self.change(user, MessageChange::Reply(send)).await
    }

    async fn change(&self, user: UserId, change: MessageChange) -> Result<MessageReply, Error> {
        let channel = change.channel();
        let permit = self.permit(channel, user).await?;
        let allowed = self.allow(permit, change).await?;
        let permit = self.permit(channel, user).await?;
        self.apply(permit, allowed)?.wait().await
    }

    /// The message at a seq, once the channel is stored through it.
    async fn stored_target(&self, channel: ChannelId, seq: Seq) -> Result<TargetMessage, Error> {
        let mut looks = Looks::new();
        loop {
            let target = self.inner.store.target(channel, seq).await?;
            match target.message {
                Some(message) => return Ok(message),
                None if target.head >= seq => return Err(Error::MessageNotFound),
                None => looks.pause().await?,
            }
        }
    }

    /// Waits until a channel is stored through a seq, at most [`STORED_WITHIN`]. Errors:
    /// [`Error::NotStoredYet`], [`Error::Store`]. Cancel-safe.
    pub async fn until_stored(&self, channel: ChannelId, seq: Seq) -> Result<(), Error> {
        let mut looks = Looks::new();
        while self.inner.store.head(channel).await? < seq {
            looks.pause().await?;
        }
        Ok(())
    }
}

/// Looks at the store, further and further apart, until it is too late.
struct Looks {
    end: Instant,
    pause: Duration,
}

impl Looks {
    fn new() -> Self {
        Self {
            end: Instant::now() + STORED_WITHIN,
            pause: LOOK_FIRST,
        }
    }

    /// How long to wait for the next look, or that it is too late.
    fn next(&mut self, now: Instant) -> Result<Duration, Error> {
        if now >= self.end {
            return Err(Error::NotStoredYet);
        }
        // Spread, for all that wait for one consumer.
        let pause = self.pause.mul_f64(0.75 + rand::random::<f64>() / 2.0);
        self.pause = (self.pause * 2).min(LOOK_MOST);
        Ok(pause)
    }

    async fn pause(&mut self) -> Result<(), Error> {
        sleep(self.next(Instant::now())?).await;
        Ok(())
    }
}

/// Whether a message can be changed so, and by whom.
fn judge(message: &TargetMessage, user: UserId, change: &MessageChange) -> Result<Right, Error> {
    let (_, retry) = change.id_and_retry();
    // The first copy of a resend may have been applied before the message was deleted, perhaps it
    // is the deletion itself: the store keeps that one, and a second has no effect.
    if message.deleted && !retry {
        return Err(Error::MessageNotFound);
    }
    match change {
        // The store would give it no effect. A resend may be the last of them itself.
        MessageChange::Edit(_) if message.edits >= limits::EDITS_PER_MESSAGE && !retry => {
            Err(Error::Invalid {
                field: "target",
                message: format!(
                    "a message can be edited {} times, and this one was",
                    limits::EDITS_PER_MESSAGE
                ),
                limit: Some(u64::from(limits::EDITS_PER_MESSAGE)),
            })
        }
        MessageChange::Edit(_) | MessageChange::Delete(_) if message.author != user => {
            Ok(Right::Admin)
        }
        MessageChange::Reply(_) if message.thread.is_some() => Err(Error::Invalid {
            field: "thread",
            message: "thread must be the seq of a message that is no reply itself".to_owned(),
            limit: None,
        }),
        _ => Ok(Right::Own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(deleted: bool, thread: Option<u64>) -> TargetMessage {
        TargetMessage {
            author: user(1),
            deleted,
            thread: thread.map(Seq),
            edits: 0,
        }
    }

    fn user(n: i64) -> UserId {
        UserId::new(n).expect("from 1")
    }

    fn changes(retry: bool) -> [MessageChange; 4] {
        let channel = "C000000005".parse().expect("an id");
        let (target, client_msg_id, text) = (Seq(7), None, "x".to_owned());
        [
            MessageChange::Edit(EditMessage {
                channel,
                target,
                text: text.clone(),
                client_msg_id,
                retry,
            }),
            MessageChange::Delete(DeleteMessage {
                channel,
                target,
                client_msg_id,
                retry,
            }),
            MessageChange::React(React {
                channel,
                target,
                reaction: "+1".to_owned(),
                remove: true,
                client_msg_id,
                retry,
            }),
            MessageChange::Reply(SendMessage {
                channel,
                text,
                thread: Some(target),
                client_msg_id,
                retry,
            }),
        ]
    }

    #[test]
    fn only_author_and_admin_change_a_message_and_every_member_reacts_and_replies() {
        let message = message(false, None);
        let rights = |n| changes(false).map(|change| judge(&message, user(n), &change).ok());
        assert_eq!(rights(1), [Some(Right::Own); 4]);
        let (own, admin) = (Some(Right::Own), Some(Right::Admin));
        assert_eq!(rights(2), [admin, admin, own, own]);
    }

    #[test]
    fn deleted_message_is_not_found_and_a_resend_is_let_through() {
        for change in changes(false).iter().chain(&changes(true)) {
            let (_, retry) = change.id_and_retry();
            let answer = judge(&message(true, None), user(1), change);
            assert_eq!(answer.is_ok(), retry, "{change:?}: {answer:?}");
        }
    }

    #[test]
    fn edit_above_the_limit_is_refused_and_everything_else_is_not() {
        let with = |edits| TargetMessage {
            edits,
            ..message(false, None)
        };
        let most = limits::EDITS_PER_MESSAGE;
        for change in changes(false).iter().chain(&changes(true)) {
            assert!(judge(&with(most - 1), user(1), change).is_ok());
            let answer = judge(&with(most), user(1), change);
            let (_, retry) = change.id_and_retry();
            let refused = matches!(change, MessageChange::Edit(_)) && !retry;
            assert_eq!(answer.is_err(), refused, "{change:?}: {answer:?}");
            if let Err(error) = answer {
                let body = error.body();
                let said = (body.field.as_deref(), body.limit);
                assert_eq!(said, (Some("target"), Some(u64::from(most))));
            }
        }
    }

    #[test]
    fn threads_have_one_level() {
        let reply = message(false, Some(3));
        let [edit, delete, react, answer] = changes(false);
        for change in [edit, delete, react] {
            assert!(judge(&reply, user(1), &change).is_ok());
        }
        let error = judge(&reply, user(1), &answer).expect_err("a reply to a reply");
        assert_eq!(error.body().field.as_deref(), Some("thread"));
    }

    #[test]
    fn record_says_what_was_asked_and_by_which_right() {
        for as_admin in [false, true] {
            for change in changes(false) {
                let (channel, target) = (change.channel(), change.target());
                let record = change.clone().record(user(2), random_id(), as_admin);
                assert_eq!((record.channel(), record.user()), (channel, user(2)));
                assert_eq!(record.target().or(record.thread()), target);
                let can = matches!(change, MessageChange::Edit(_) | MessageChange::Delete(_));
                assert_eq!(record.as_admin(), can && as_admin, "{record:?}");
                assert_eq!(Record::decode(&record.encode()).expect("valid"), record);
            }
        }
    }

    #[test]
    fn looks_end_after_two_seconds_and_are_few() {
        let mut looks = Looks::new();
        let begun = looks.end - STORED_WITHIN;
        let (mut now, mut count) = (begun, 0);
        while let Ok(pause) = looks.next(now) {
            now += pause;
            count += 1;
        }
        let took = now - begun;
        assert!(
            (STORED_WITHIN..STORED_WITHIN + LOOK_MOST * 2).contains(&took),
            "{took:?}"
        );
        assert!((6..20).contains(&count), "{count} looks");
    }
}
