//! From the bus to the sockets: drains the inbox in batches, hands events to the hub, and writes
//! what that made dirty once a batch.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use hubbub_bus::{Event, Inbox};
use hubbub_mutant::{Mutant, planted};
use hubbub_protocol::{
    BusChannel, ChannelEvent, ChannelId, PresenceEvent, Receipt, UserEvent, UserId,
};
use tokio::time::Instant;

use crate::{
    Edge, control,
    feed::Frame,
    hub::{Turn, frame_of},
    people::errands,
};

/// Events between two writes: fewer than an outbox holds, so that a burst alone detaches nobody.
const BATCH: usize = 128;

/// Records of one channel that came one after the other. They are handed on together, so that the
/// way to each socket is gone once for all of them; before anything else is.
#[derive(Default)]
struct Burst {
    channel: Option<ChannelId>,
    /// Kept from burst to burst, so that a record takes no room of its own.
    frames: Vec<Frame>,
}

impl Burst {
    /// Adds a record, behind those of its channel.
    fn add(&mut self, edge: &Edge, channel: ChannelId, frame: Frame, turn: &mut Turn) {
        if self.channel != Some(channel) {
            self.hand_on(edge, turn);
            self.channel = Some(channel);
        }
        self.frames.push(frame);
    }

    /// Before anything else of the turn.
    fn hand_on(&mut self, edge: &Edge, turn: &mut Turn) {
        self.give(edge, false, turn);
    }

    /// At the end of a turn.
    fn hand_on_last(&mut self, edge: &Edge, turn: &mut Turn) {
        self.give(edge, true, turn);
    }

    fn give(&mut self, edge: &Edge, last: bool, turn: &mut Turn) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        let now = edge.now_ms();
        let used = edge.hub.on_records(channel, &self.frames, last, now, turn);
        let kind = if used { "record" } else { "held" };
        edge.metrics.bus_events(kind, self.frames.len());
        self.frames.clear();
    }
}

/// Runs until cancelled. This is the only task that drains the inbox.
pub(crate) async fn run(edge: Arc<Edge>, mut inbox: Inbox) -> Result<(), Infallible> {
    // Kept from turn to turn, so that a delivery takes no allocation.
    let (mut events, mut turn, mut burst) = (Vec::new(), Turn::default(), Burst::default());
    loop {
        inbox.recv_all(&mut events).await;
        let begun = Instant::now();
        edge.check_lease();
        for (count, event) in events.drain(..).enumerate() {
            if count % BATCH == BATCH - 1 {
                burst.hand_on_last(&edge, &mut turn);
                edge.perform_all(&mut turn);
                // The process may have stood still for any time.
                edge.check_lease();
            }
            on_event(&edge, event, &mut burst, &mut turn);
        }
        burst.hand_on_last(&edge, &mut turn);
        edge.perform_all(&mut turn);
        edge.note_turn(begun.elapsed());
    }
}

fn on_event(edge: &Arc<Edge>, event: Event, burst: &mut Burst, turn: &mut Turn) {
    if let Event::Message {
        channel: BusChannel::Channel(channel),
        payload,
    } = event
    {
        on_channel(edge, channel, &payload, burst, turn);
    } else {
        burst.hand_on(edge, turn);
        on_other(edge, event, turn);
    }
}

fn on_other(edge: &Arc<Edge>, event: Event, turn: &mut Turn) {
    match event {
        Event::Message {
            channel: BusChannel::Pods | BusChannel::Pod(_),
            payload,
        } => {
            control::on_message(edge, &payload, turn);
        }
        Event::Message {
            channel: BusChannel::User(user),
            payload,
        } => {
            on_user(edge, user, &payload, turn);
        }
        Event::Message {
            channel: BusChannel::Presence(user),
            payload,
        } => {
            on_presence(edge, user, &payload, turn);
        }
        Event::Message { .. } => edge.metrics.bus_event("unexpected"),
        Event::Subscribed(BusChannel::Channel(channel)) => {
            edge.metrics.bus_event("subscribed");
            let held = edge.hub.on_subscribed(channel, edge.now_ms(), turn);
            let forgotten = planted(Mutant::M3) && edge.losses() > 0;
            if held && !forgotten {
                edge.fetcher.recheck(channel);
            }
        }
        Event::Subscribed(BusChannel::User(user)) => edge.hub.on_user_subscribed(user, turn),
        Event::Subscribed(BusChannel::Presence(user)) => {
            if edge.hub.on_presence_subscribed(user) {
                edge.presence_due.notify_one();
            }
        }
        Event::Subscribed(_) => {}
        Event::Lost => {
            edge.metrics.bus_event("lost");
            tracing::warn!("the bus was lost: channels are held until memberships were read again");
            edge.bus_lost();
        }
    }
}

fn on_channel(
    edge: &Edge,
    channel: ChannelId,
    payload: &Bytes,
    burst: &mut Burst,
    turn: &mut Turn,
) {
    let event = ChannelEvent::decode(channel, payload);
    if !matches!(event, Ok(ChannelEvent::Record { .. })) {
        burst.hand_on(edge, turn);
    }
    let now = edge.now_ms();
    let (kind, used) = match event {
        Ok(ChannelEvent::Record { seq, key, left }) => {
            burst.add(edge, channel, frame_of(seq, key, payload), turn);
            if let Some(user) = left {
                burst.hand_on(edge, turn);
                // The question on `pods` does this too; whichever comes first.
                turn.merge(edge.hub.evict(channel, user, now).0);
            }
            // Counted when it is handed on.
            return;
        }
        Ok(ChannelEvent::Stored(stored)) => ("stored", edge.hub.on_stored(stored, now, turn)),
        Ok(ChannelEvent::Typing(typing)) => {
            let used = edge.hub.pass_by(channel, typing.user, payload, turn);
            ("typing", used)
        }
        Ok(ChannelEvent::Receipt(receipt)) => {
            // The user's own devices hear of it on `user-<id>`.
            let used = edge.hub.pass_by(channel, receipt.user, payload, turn);
            ("receipt", used)
        }
        Ok(ChannelEvent::Unknown) => ("unknown", true),
        Err(error) => {
            tracing::warn!(channel.id = %channel, error, "malformed event on the bus");
            ("malformed", true)
        }
    };
    edge.metrics.bus_event(if used { kind } else { "held" });
}

fn on_user(edge: &Edge, user: UserId, payload: &Bytes, turn: &mut Turn) {
    let kind = match UserEvent::decode(payload) {
        Ok(Some(UserEvent::Revoked {})) => {
            let sockets = edge.hub.revoke(user);
            tracing::info!(user.id = %user, sockets, "tokens revoked");
            "revoked"
        }
        Ok(Some(UserEvent::ChannelAdded { channel })) => {
            edge.hub.on_channel_added(user, channel, turn);
            "channel_added"
        }
        Ok(Some(UserEvent::Receipt {
            channel,
            device,
            delivered,
            read,
        })) => {
            let receipt = Receipt {
                channel,
                user,
                device,
                delivered,
                read,
            };
            errands::own_receipt(edge, receipt, turn);
            "own_receipt"
        }
        Ok(None) => "unknown",
        Err(error) => {
            tracing::warn!(user.id = %user, error, "malformed user event on the bus");
            "malformed"
        }
    };
    edge.metrics.bus_event(kind);
}

fn on_presence(edge: &Edge, user: UserId, payload: &Bytes, turn: &mut Turn) {
    let kind = match serde_json::from_slice(payload) {
        Ok(PresenceEvent { pod, state }) => {
            edge.hub.presence_said(&pod, [(user, state)], edge, turn);
            "presence"
        }
        Err(error) => {
            tracing::warn!(user.id = %user, error = %error, "malformed presence on the bus");
            "malformed"
        }
    };
    edge.metrics.bus_event(kind);
}
