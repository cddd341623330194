//! What happens to a channel: the bus, the store and the clock.

use std::sync::Arc;

use hubbub_protocol::{BusChannel, ChannelId, ErrorBody, ErrorCode, Seq, Stored, reply_error};

use super::{
    Hub, LINGER_MS, Turn,
    state::{Gate, PendingJoin},
};
use crate::feed::{Answer, Counts, Failure, Frame, Horizon, SocketId};

impl Hub {
    /// Hands a record that came over the bus to the channel's feed.
    pub(crate) fn on_record(
        &self,
        channel: ChannelId,
        frame: Frame,
        now_ms: u64,
        turn: &mut Turn,
    ) -> bool {
        self.state
            .lock()
            .with_feed(channel, now_ms, turn, |channel, out| {
                let open = channel.gate == Gate::Open;
                if open {
                    channel.feed.message(frame, out);
                }
                open
            })
            .unwrap_or(false)
    }

    /// Hands an announcement of the consumer to the channel's feed.
    pub(crate) fn on_stored(&self, stored: Stored, now_ms: u64, turn: &mut Turn) -> bool {
        self.state
            .lock()
            .with_feed(stored.channel, now_ms, turn, |channel, out| {
                let open = channel.gate == Gate::Open;
                if open {
                    channel.feed.stored(stored, out);
                }
                open
            })
            .unwrap_or(false)
    }

    /// Redis confirmed a SUBSCRIBE. True: the channel is held, and its memberships must be read
    /// again ([`Hub::listening_users`], [`Hub::reopen`]).
    pub(crate) fn on_subscribed(&self, channel: ChannelId, now_ms: u64, turn: &mut Turn) -> bool {
        self.state
            .lock()
            .with_feed(channel, now_ms, turn, |channel, out| match channel.gate {
                Gate::Open => {
                    channel.feed.subscribed(out);
                    false
                }
                Gate::Held => true,
            })
            .unwrap_or(false)
    }

    /// The sweep found the head of the channel with this number above its horizon, twice.
    pub(crate) fn on_head(&self, number: i64, head: Seq, now_ms: u64, turn: &mut Turn) {
        let mut state = self.state.lock();
        let Some(channel) = state.channel_of(number).map(|(id, _)| id) else {
            return;
        };
        state.with_feed(channel, now_ms, turn, |channel, out| {
            if channel.gate == Gate::Open {
                channel.feed.head_seen(head, out);
            }
        });
    }

    /// What is known here of the channel with this number.
    pub(crate) fn horizon_of(&self, number: i64) -> Horizon {
        let state = self.state.lock();
        match state.channel_of(number) {
            None => Horizon::NoFeed,
            Some((_, channel)) => channel.feed.horizon().map_or(Horizon::Unknown, Horizon::At),
        }
    }

    /// The store's answer to a feed's question; one to a feed that is gone is dropped. While the
    /// channel is held an answer does not count: it is asked for again.
    pub(crate) fn on_answer(
        &self,
        channel: ChannelId,
        request: u64,
        answer: Result<Answer, Failure>,
        now_ms: u64,
    ) -> Turn {
        let mut turn = Turn::default();
        self.state
            .lock()
            .with_feed(channel, now_ms, &mut turn, |channel, out| {
                let answer = match channel.gate {
                    Gate::Open => answer,
                    Gate::Held => Err(Failure {
                        reason: "the bus was away: memberships are read again".to_owned(),
                        jitter: rand::random(),
                    }),
                };
                channel.feed.answer(request, answer, now_ms, out);
            });
        turn
    }

    /// A socket's outbox fell under half: its readers go on.
    pub(crate) fn on_room(&self, id: SocketId, now_ms: u64) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let channels = state
            .sockets
            .get(&id)
            .map(|entry| entry.channels.clone())
            .unwrap_or_default();
        for channel in channels {
            state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                if channel.gate == Gate::Open {
                    channel.feed.room(id, out);
                }
            });
        }
        turn
    }

    /// What time does: joins without an answer, channels without listeners, questions to be asked
    /// again, `synced` without a ride. Called every 100 ms or so.
    pub(crate) fn tick(&self, now_ms: u64, unsubscribe: impl Fn(BusChannel)) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let state = &mut *state;
        while let Some((deadline_ms, id, channel)) = state.deadlines.front().copied()
            && deadline_ms <= now_ms
        {
            state.deadlines.pop_front();
            let owed = state.sockets.get_mut(&id).and_then(|entry| {
                let late =
                    |join: &PendingJoin| join.channel == channel && join.deadline_ms == deadline_ms;
                let at = entry.joins.iter().position(late)?;
                Some((Arc::clone(&entry.socket), entry.joins.remove(at).id))
            });
            let Some((socket, request)) = owed else {
                continue;
            };
            state.leave(id, channel, now_ms, &mut turn);
            if let Some(request) = request {
                let error = ErrorBody::new(
                    ErrorCode::BusUnavailable,
                    "the channel could not be opened in time: join again",
                )
                .retry_after_ms(1_000);
                socket.push_text(&reply_error(Some(&request), &error));
                if !socket.mark_dirty() {
                    turn.dirty.push(socket);
                }
            }
        }
        let retrying: Vec<ChannelId> = state.retrying.iter().copied().collect();
        for channel in retrying {
            let known = state.with_feed(channel, now_ms, &mut turn, |channel, out| {
                // What is due is taken by `next_request`, which follows every turn.
                (channel.gate == Gate::Open, out.channel)
            });
            if known.is_none() {
                state.retrying.remove(&channel);
            }
        }
        for id in std::mem::take(&mut state.synced) {
            if let Some(entry) = state.sockets.get(&id) {
                entry.socket.with_outbox(|outbox| outbox.flush_synced());
                if !entry.socket.mark_dirty() {
                    turn.dirty.push(Arc::clone(&entry.socket));
                }
            }
        }
        state.channels.retain(|id, channel| {
            let lingered = channel.listeners == 0
                && channel
                    .empty_since_ms
                    .is_some_and(|since| since + LINGER_MS <= now_ms);
            if lingered {
                state.retrying.remove(id);
                unsubscribe(BusChannel::Channel(*id));
            }
            !lingered
        });
        turn
    }

    /// What the feeds did since the last call.
    pub(crate) fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.state.lock().counts)
    }
}
