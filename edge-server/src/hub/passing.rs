//! What passes by a channel and is never stored: typing, receipts; and marks on their way to the
//! log. Nothing here goes through a feed: it is offered to who is attached and has room.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use hubbub_protocol::{BusChannel, ChannelId, Receipt, Typing, UserId};

use super::{
    Hub, Turn,
    people::Bus,
    state::{Gate, State},
};
use crate::wire::text_frame;

/// What became of a request that needs a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It was done, or was not due.
    Done,
    /// Nobody here vouches for the membership: it is to be asked of the store.
    NotVouched,
    /// The seq is above what this pod knows of the channel.
    Above,
}

impl State {
    /// Whether the user belongs to the channel: an open feed says so, or the store said so since
    /// the last eviction of theirs.
    fn vouches(&mut self, channel: ChannelId, user: UserId) -> bool {
        if self.suspended {
            return false;
        }
        let by_feed = self
            .channels
            .get(&channel)
            .is_some_and(|channel| channel.gate == Gate::Open && channel.members.contains(&user));
        by_feed || self.vouched.get(&(channel, user)).is_some()
    }

    /// The user belongs to the channel no more: nothing here says so any longer.
    pub(super) fn forget_member(&mut self, channel: ChannelId, user: UserId) {
        self.vouched.pop(&(channel, user));
        self.marks.forget(channel, user);
    }
}

impl Hub {
    /// Runs `f`, which must not wait, on `with` if somebody here vouches for the membership;
    /// evictions are kept out meanwhile. Otherwise gives it back.
    pub(crate) fn if_vouched<A, T>(
        &self,
        channel: ChannelId,
        user: UserId,
        with: A,
        f: impl FnOnce(A) -> T,
    ) -> Result<T, A> {
        let mut state = self.state.lock();
        if state.vouches(channel, user) {
            Ok(f(with))
        } else {
            Err(with)
        }
    }

    /// The store called the user a member, asked when the evictions were so many; false if there
    /// was one since, so that the answer may be stale.
    pub(crate) fn vouch(&self, channel: ChannelId, user: UserId, evictions: u64) -> bool {
        let mut state = self.state.lock();
        let fresh = self.evictions.load(Ordering::Acquire) == evictions;
        if fresh && !state.suspended {
            state.vouched.put((channel, user), ());
        }
        fresh
    }

    /// Runs `f`, which must not wait, on `with` if nobody was evicted since the evictions were so
    /// many. Otherwise gives it back.
    pub(crate) fn unless_evicted<A, T>(
        &self,
        evictions: u64,
        with: A,
        f: impl FnOnce(A) -> T,
    ) -> Result<T, A> {
        let state = self.state.lock();
        let result = if self.evictions() == evictions {
            Ok(f(with))
        } else {
            Err(with)
        };
        drop(state);
        result
    }

    /// Shows that a member types, if it is time to.
    pub(crate) fn typing(&self, typing: Typing, now_ms: u64, bus: &impl Bus) -> Passed {
        let Typing { channel, user } = typing;
        let mut state = self.state.lock();
        if !state.typing.take(channel, user, now_ms) {
            return Passed::Done;
        }
        if !state.vouches(channel, user) {
            state.typing.give_back(channel, user);
            return Passed::NotVouched;
        }
        let to = BusChannel::Channel(channel);
        bus.publish(&to, Bytes::from(typing.frame()));
        Passed::Done
    }

    /// Takes a mark of a member. `write` gets one that has to be written now.
    pub(crate) fn mark(&self, mark: Receipt, now_ms: u64, write: impl FnOnce(Receipt)) -> Passed {
        let mut state = self.state.lock();
        if !state.vouches(mark.channel, mark.user) {
            return Passed::NotVouched;
        }
        let known = state
            .channels
            .get(&mark.channel)
            .and_then(|channel| channel.feed.known_through());
        if known.is_none_or(|known| known < mark.delivered) {
            return Passed::Above;
        }
        self.gather(&mut state, mark, now_ms, write);
        Passed::Done
    }

    /// The same of a mark whose seq the store has.
    pub(crate) fn mark_stored(
        &self,
        mark: Receipt,
        now_ms: u64,
        write: impl FnOnce(Receipt),
    ) -> Passed {
        let mut state = self.state.lock();
        if !state.vouches(mark.channel, mark.user) {
            return Passed::NotVouched;
        }
        self.gather(&mut state, mark, now_ms, write);
        Passed::Done
    }

    fn gather(&self, state: &mut State, mark: Receipt, now_ms: u64, write: impl FnOnce(Receipt)) {
        match state.marks.add(mark, now_ms) {
            Some(now) => write(now),
            None => self.marks_wait.notify_one(),
        }
    }

    /// Waits until marks wait.
    pub(crate) async fn marks_wait(&self) {
        self.marks_wait.notified().await;
    }

    /// When the first of the marks that wait is due.
    pub(crate) fn marks_due_ms(&self) -> Option<u64> {
        self.state.lock().marks.due_ms()
    }

    /// Hands out the marks whose time has come. Under the lock: a removed member's are gone
    /// before, or were written before. Those whose membership nobody vouches for any more are
    /// dropped: since the bus or the lease was lost a removal may have gone past this pod.
    pub(crate) fn write_marks(&self, now_ms: u64, mut write: impl FnMut(Receipt)) {
        let mut state = self.state.lock();
        while let Some(mark) = state.marks.next_due(now_ms) {
            if state.vouches(mark.channel, mark.user) {
                write(mark);
            }
        }
    }

    /// Offers a frame of somebody else's doing to who is attached to the channel and has room;
    /// the others never know. `of` needs no telling, or hears of it on `user-<id>`.
    pub(crate) fn pass_by(
        &self,
        channel: ChannelId,
        of: UserId,
        json: &[u8],
        turn: &mut Turn,
    ) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let open = state
            .channels
            .get(&channel)
            .filter(|channel| channel.gate == Gate::Open);
        let Some(open) = open else {
            return false;
        };
        let frame = text_frame(json);
        for id in open.feed.attached() {
            let Some(entry) = state.sockets.get(&id) else {
                continue;
            };
            if entry.holder.user == of {
                continue;
            }
            let offered = entry
                .socket
                .with_outbox(|outbox| outbox.under_half() && outbox.offer_record(channel, &frame));
            if offered {
                turn.touch(&entry.socket);
            }
        }
        true
    }

    /// A device of a user came further: news for the user's devices, if somebody vouches for the
    /// membership; if nobody does, it is to be asked for.
    pub(crate) fn own_receipt(&self, receipt: &Receipt, turn: &mut Turn) -> Passed {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(of_user) = state.user_id_to_sockets.get(&receipt.user).cloned() else {
            return Passed::Done;
        };
        if !state.vouches(receipt.channel, receipt.user) {
            return Passed::NotVouched;
        }
        let frame = text_frame(receipt.frame().as_bytes());
        for entry in of_user.iter().filter_map(|id| state.sockets.get(id)) {
            // Counted as the channel's, so that an eviction takes it out again.
            let offered = entry.socket.with_outbox(|outbox| {
                outbox.under_half() && outbox.offer_record(receipt.channel, &frame)
            });
            if offered {
                turn.touch(&entry.socket);
            }
        }
        Passed::Done
    }
}
