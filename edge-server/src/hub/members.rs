//! Who may listen: what an open feed vouches for, evictions, and opening a held channel again.

use std::{collections::HashSet, sync::atomic::Ordering};

use hubbub_protocol::{ChannelId, UserId};

#[cfg(feature = "mutants")]
use super::state::State;
use super::{Hub, Turn, state::Gate};
use crate::feed::SocketId;

/// What an answer about the members of a held channel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reopened {
    /// It counted, or there is nothing to be opened any more. By it so many were evicted.
    Done { evicted: u64 },
    /// Somebody else joined or was evicted meanwhile: it is to be asked for again.
    Stale,
}

/// Planted mistake M9: how long a membership is cached.
#[cfg(feature = "mutants")]
const CACHED_MS: u64 = 5_000;

impl Hub {
    /// Counts evictions, and losses of the bus. A membership read before the count changed may be stale.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Acquire)
    }

    /// Contract P8: `user` gets nothing more of `channel`, and no cache calls them a member.
    /// Returns how many of their sockets listened.
    pub(crate) fn evict(&self, channel: ChannelId, user: UserId, now_ms: u64) -> (Turn, u64) {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        #[cfg(feature = "mutants")]
        if hubbub_mutant::planted(hubbub_mutant::Mutant::M9) {
            let late = (now_ms + CACHED_MS, channel, user);
            state.late_evictions.push_back(late);
            return (turn, 0);
        }
        self.evictions.fetch_add(1, Ordering::Release);
        let listening = state.evict(channel, user, now_ms, &mut turn);
        (turn, listening)
    }

    /// Planted mistake M9: what is cached has its time.
    #[cfg(feature = "mutants")]
    pub(super) fn evict_late(&self, state: &mut State, now_ms: u64, turn: &mut Turn) {
        while let Some((due_ms, channel, user)) = state.late_evictions.front().copied()
            && due_ms <= now_ms
        {
            state.late_evictions.pop_front();
            self.evictions.fetch_add(1, Ordering::Release);
            state.evict(channel, user, now_ms, turn);
        }
    }

    /// The bus is lost, or this pod's lease has lapsed: nothing is relayed before the memberships
    /// were read again.
    pub(crate) fn hold_all(&self) {
        let mut state = self.state.lock();
        // A membership that was read before may have ended unheard: whoever waits for one asks
        // again.
        self.evictions.fetch_add(1, Ordering::Release);
        state.suspended = true;
        state.vouched.clear();
        for channel in state.channels.values_mut() {
            channel.gate = Gate::Held;
            channel.members.clear();
        }
    }

    /// The lease is back. Returns the channels to subscribe again.
    pub(crate) fn resume_all(&self) -> Vec<ChannelId> {
        let mut state = self.state.lock();
        state.suspended = false;
        state.channels.keys().copied().collect()
    }

    /// Users that listen to a channel here, and the life of its feed.
    pub(crate) fn listening_users(&self, channel: ChannelId) -> Option<(u64, Vec<UserId>)> {
        let state = self.state.lock();
        let channel = state.channels.get(&channel)?;
        let users: HashSet<UserId> = channel
            .sockets()
            .filter_map(|id| state.sockets.get(&id))
            .map(|entry| entry.holder.user)
            .collect();
        Some((channel.epoch, users.into_iter().collect()))
    }

    /// Opens a held channel again: `members` are those of `asked` that the primary still calls
    /// members; the others are evicted. `evictions` is [`Hub::evictions`] before the question, and
    /// what answers to the same question have evicted since.
    pub(crate) fn reopen(
        &self,
        channel: ChannelId,
        epoch: u64,
        asked: &[UserId],
        members: &[UserId],
        evictions: u64,
        now_ms: u64,
    ) -> (Turn, Reopened) {
        let asked: HashSet<UserId> = asked.iter().copied().collect();
        let members: HashSet<UserId> = members.iter().copied().collect();
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let state = &mut *state;
        let entry = match state.channels.get(&channel) {
            Some(entry) if entry.epoch == epoch && entry.gate == Gate::Held && !state.suspended => {
                entry
            }
            // Opened, closed, or held for the lease, whose return subscribes again.
            _ => return (turn, Reopened::Done { evicted: 0 }),
        };
        let listeners: Vec<SocketId> = entry.sockets().collect();
        let joined_since = listeners.iter().any(|id| {
            state
                .sockets
                .get(id)
                .is_some_and(|entry| !asked.contains(&entry.holder.user))
        });
        if joined_since || self.evictions() != evictions {
            return (turn, Reopened::Stale);
        }
        let mut evicted = 0;
        for user in asked.difference(&members) {
            self.evictions.fetch_add(1, Ordering::Release);
            state.evict(channel, *user, now_ms, &mut turn);
            evicted += 1;
        }
        state.with_feed(channel, now_ms, &mut turn, |channel, out| {
            channel.open(members, out);
        });
        for id in listeners {
            state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                channel.feed.room(id, out)
            });
        }
        (turn, Reopened::Done { evicted })
    }
}
