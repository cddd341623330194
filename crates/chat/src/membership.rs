use hubbub_bus::{Asker, Survey};
use hubbub_protocol::{
    Change, ChannelId, Question, Record, Seq, UserId,
    http::{Channel, ChannelKind, MembershipReply, NewChannel, Role},
    limits,
};

use crate::{Chat, EVICT_DEADLINE, Error, send::random_id};

impl Chat {
    /// Creates a public or private channel; `user` becomes its first member and admin. That
    /// membership has no record: it is as old as the channel (`added_seq` 0). Errors:
    /// [`Error::Invalid`], [`Error::NameTaken`], [`Error::Store`].
    pub async fn create_channel(&self, user: UserId, new: NewChannel) -> Result<Channel, Error> {
        check_name(&new.name)?;
        let kind = match new.kind.unwrap_or(ChannelKind::Public) {
            ChannelKind::Direct => {
                return Err(Error::Invalid {
                    field: "kind",
                    message: "kind must be public or private".to_owned(),
                    limit: None,
                });
            }
            kind => kind,
        };
        self.inner
            .store
            .create_channel(&new.name, kind, user)
            .await
            .map_err(named)
    }

    /// `actor` adds `member`: anyone adds themself to a public channel, any member adds others to
    /// it, only admins add to a private one, and nobody to a direct one. Repeatable: the reply says
    /// whether this call changed anything, and the seq of the record where it is known. Errors:
    /// [`Error::ChannelNotFound`], [`Error::UserNotFound`], [`Error::Forbidden`], [`Error::Store`].
    pub async fn add_member(
        &self,
        actor: UserId,
        channel: ChannelId,
        member: UserId,
    ) -> Result<MembershipReply, Error> {
        let store = &self.inner.store;
        let seen = store
            .channel(channel, actor)
            .await?
            .ok_or(Error::ChannelNotFound)?;
        may_add(&seen, actor == member)?;
        // The statement asks again: who was removed since adds nobody, not even themself.
        if !store.admit(channel, actor, member).await.map_err(named)? {
            if store.membership(channel, member).await?.is_none() {
                return Err(Error::ChannelNotFound);
            }
            return Ok(MembershipReply {
                changed: false,
                seq: None,
            });
        }
        // Before the record, which may take seconds: a removal meanwhile is the later word.
        self.tell_devices(member, channel);
        let seq = self.record(actor, channel, Change::Joined, member).await;
        if let Some(seq) = seq
            && let Err(error) = store.set_added_seq(channel, member, seq).await
        {
            // It is for display only; the member sees the whole history either way.
            tracing::warn!(channel.id = %channel, user.id = %member, %error, "added_seq not set");
        }
        Ok(MembershipReply { changed: true, seq })
    }

    /// `actor` removes `member`: admins remove others, everybody may leave. Answered once every
    /// leased pod has confirmed that `member` gets nothing more (contract P8). Repeatable: the pods
    /// are asked again even where the membership is gone already, so a repeat after
    /// [`Error::Unconfirmed`] or [`Error::Bus`] gets the confirmation. Other errors:
    /// [`Error::ChannelNotFound`] (also for leaving a channel that one does not belong to),
    /// [`Error::Forbidden`], [`Error::Store`].
    ///
    /// Dropped before its end, the removal may stand without record or confirmation.
    pub async fn remove_member(
        &self,
        asker: &Asker,
        actor: UserId,
        channel: ChannelId,
        member: UserId,
    ) -> Result<MembershipReply, Error> {
        let leaves = actor == member;
        let Some(own) = self.inner.store.membership(channel, actor).await? else {
            if leaves {
                // Perhaps the repeat of a leave that was not confirmed. The same is done for a
                // channel that never was, so that the two cannot be told apart.
                self.evict(asker, channel, member).await?;
            }
            return Err(Error::ChannelNotFound);
        };
        if own.kind == ChannelKind::Direct {
            return Err(Error::Forbidden(
                "the members of a direct channel are fixed",
            ));
        }
        if !leaves && own.role != Role::Admin {
            return Err(Error::Forbidden("only an admin removes others"));
        }
        let changed = self.inner.store.remove_member(channel, member).await?;
        if !changed {
            self.evict(asker, channel, member).await?;
            return Ok(MembershipReply { changed, seq: None });
        }
        // From here on the core database says no, whoever asks it. The record tells the other
        // members, the question stops what the pods still relay: neither waits for the other, so
        // that a slow log does not delay the second.
        let (seq, confirmed) = tokio::join!(
            self.record(actor, channel, Change::Left, member),
            self.evict(asker, channel, member),
        );
        confirmed?;
        Ok(MembershipReply { changed, seq })
    }

    /// Appends the record of a change that the core database has committed, and publishes it.
    /// `None` if the log did not say that it has it. The change stands all the same: memberships
    /// are decided by the core database, which every join and read asks; undoing it here could
    /// fail too, and would let a removed member in again. The record is what other members see.
    async fn record(
        &self,
        actor: UserId,
        channel: ChannelId,
        change: Change,
        member: UserId,
    ) -> Option<Seq> {
        let record = Record::membership(channel, actor, random_id(), change, member);
        let appended = match self.append(record, true) {
            Ok(append) => append.wait().await,
            Err(error) => Err(error),
        };
        match appended {
            Ok(appended) => Some(appended.seq),
            Err(error) => {
                self.inner.metrics.unrecorded_changes.inc();
                tracing::warn!(
                    channel.id = %channel, user.id = %member, ?change, %error,
                    "membership changed without a record"
                );
                None
            }
        }
    }

    /// Asks every pod to relay the channel to the user no more, until all that have a lease said
    /// that they do not.
    async fn evict(&self, asker: &Asker, channel: ChannelId, user: UserId) -> Result<(), Error> {
        let question = Question::Evict { channel, user };
        let Survey { missing, .. } = asker.ask_until_all(question, EVICT_DEADLINE).await?;
        if missing.is_empty() {
            return Ok(());
        }
        self.inner.metrics.unconfirmed_removals.inc();
        tracing::warn!(channel.id = %channel, user.id = %user, ?missing, "removal not confirmed");
        Err(Error::Unconfirmed(missing))
    }
}

/// Rules of adding to a channel that the actor can see.
fn may_add(channel: &Channel, oneself: bool) -> Result<(), Error> {
    match channel.kind {
        ChannelKind::Direct => Err(Error::Forbidden(
            "the members of a direct channel are fixed",
        )),
        _ if oneself => Ok(()),
        // A public channel can be seen without being a member.
        _ if !channel.is_member => Err(Error::ChannelNotFound),
        ChannelKind::Private if channel.role != Some(Role::Admin) => {
            Err(Error::Forbidden("only an admin adds to a private channel"))
        }
        ChannelKind::Public | ChannelKind::Private => Ok(()),
    }
}

/// 1 to 80 bytes, no control characters, and no white space at its ends, where nobody sees it.
fn check_name(name: &str) -> Result<(), Error> {
    let problem = if name.is_empty() {
        "name is empty"
    } else if name.len() > limits::CHANNEL_NAME_BYTES {
        "name is longer than 80 bytes"
    } else if name.chars().any(char::is_control) {
        "name has a control character"
    } else if name.trim() != name {
        "name begins or ends with white space"
    } else {
        return Ok(());
    };
    Err(Error::Invalid {
        field: "name",
        message: problem.to_owned(),
        limit: Some(limits::CHANNEL_NAME_BYTES as u64),
    })
}

/// Gives the store's answers about names and users the variants that a client can act on.
pub(crate) fn named(error: hubbub_store::Error) -> Error {
    match error {
        hubbub_store::Error::NameTaken => Error::NameTaken,
        hubbub_store::Error::NoUser => Error::UserNotFound,
        error => Error::Store(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(kind: ChannelKind, role: Option<Role>) -> Channel {
        Channel {
            id: "C000000005".parse().expect("an id"),
            kind,
            name: Some("Maths".to_owned()),
            created_by: "U000000001".parse().expect("an id"),
            created_ms: 0,
            is_member: role.is_some(),
            role,
            with: None,
        }
    }

    #[test]
    fn who_may_add_whom() {
        use ChannelKind::{Direct, Private, Public};
        let (member, admin) = (Some(Role::Member), Some(Role::Admin));
        for (kind, role, oneself, allowed) in [
            (Public, None, true, Some(true)),
            (Public, None, false, None),
            (Public, member, false, Some(true)),
            (Public, admin, false, Some(true)),
            (Private, member, true, Some(true)),
            (Private, member, false, Some(false)),
            (Private, admin, false, Some(true)),
            (Direct, member, true, Some(false)),
            (Direct, member, false, Some(false)),
        ] {
            let answer = match may_add(&channel(kind, role), oneself) {
                Ok(()) => Some(true),
                Err(Error::Forbidden(_)) => Some(false),
                Err(Error::ChannelNotFound) => None,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(answer, allowed, "{kind:?} {role:?} {oneself}");
        }
    }

    #[test]
    fn names_are_bounded_and_printable() {
        for good in ["a", "Maths", "général \u{1F600}", &"x".repeat(80)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a\n", "a\u{0}b", "a\u{7f}", " ", &"x".repeat(81)] {
            let error = check_name(bad).expect_err(bad).body();
            assert_eq!(error.field.as_deref(), Some("name"), "{bad:?}");
            assert_eq!(error.limit, Some(80));
        }
    }
}
