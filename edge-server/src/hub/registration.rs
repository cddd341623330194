//! A socket's place in the hub.

use std::sync::{Arc, atomic::Ordering};

use hubbub_protocol::CloseCode;
use thin_vec::ThinVec;

use super::{
    Bus, Hub, Turn,
    state::{Entry, Holder},
};
use crate::{Edge, feed::SocketId, handshake::Identity, socket::Socket};

/// A socket's place in the hub: taken at once, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    edge: Arc<Edge>,
    id: SocketId,
}

impl Registration {
    /// Registers a socket. The oldest socket of a user with too many is asked to close.
    pub(crate) fn new(edge: Arc<Edge>, socket: &Arc<Socket>, identity: &Identity) -> Self {
        let turn = edge.hub.register(
            socket,
            identity,
            edge.config.max_sockets_per_user,
            edge.now_ms(),
            &*edge,
        );
        edge.perform(turn);
        Self {
            id: socket.id,
            edge,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let edge = &self.edge;
        let turn = edge.hub.unregister(self.id, edge.now_ms(), &**edge);
        self.edge.perform(turn);
        self.edge.unregistered.notify_one();
    }
}

impl Hub {
    pub(super) fn register(
        &self,
        socket: &Arc<Socket>,
        identity: &Identity,
        most: usize,
        now_ms: u64,
        bus: &impl Bus,
    ) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let entry = Entry {
            socket: Arc::clone(socket),
            holder: Box::new(Holder {
                user: identity.user,
                device: identity.device.clone(),
                expires_at_s: identity.expires_at_s,
                channels: Vec::new(),
                joins: ThinVec::new(),
                next_room: 0,
                direct: identity.direct,
                left: ThinVec::new(),
                away: false,
            }),
        };
        state.sockets.insert(socket.id, entry);
        let of_user = state.user_id_to_sockets.entry(identity.user).or_default();
        of_user.push(socket.id);
        // Ids only grow, so the first are the oldest. All that are too many are asked: those that
        // were asked before may not have gone yet.
        let surplus = of_user.len().saturating_sub(most);
        let oldest: Vec<SocketId> = of_user[..surplus].to_vec();
        for id in oldest {
            if let Some(entry) = state.sockets.get(&id) {
                entry.socket.request_close(
                    CloseCode::Replaced,
                    "a newer connection of this user took this one's place",
                );
            }
        }
        self.sockets.fetch_add(1, Ordering::Relaxed);
        state.person_came(identity.user, identity.direct, now_ms, bus, &mut turn);
        turn
    }

    pub(super) fn unregister(&self, id: SocketId, now_ms: u64, bus: &impl Bus) -> Turn {
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        let channels = state
            .sockets
            .get(&id)
            .map(|entry| entry.holder.channels.clone())
            .unwrap_or_default();
        for channel in channels {
            state.leave(id, channel, now_ms, &mut turn);
        }
        state.synced.remove(&id);
        state.unwatch(id, now_ms);
        if let Some(entry) = state.sockets.remove(&id) {
            if let Some(of_user) = state.user_id_to_sockets.get_mut(&entry.holder.user) {
                of_user.retain(|socket| *socket != id);
                if of_user.is_empty() {
                    state.user_id_to_sockets.remove(&entry.holder.user);
                }
            }
            state.person_went(entry.holder.user, now_ms, bus);
            self.sockets.fetch_sub(1, Ordering::Relaxed);
        }
        turn
    }
}
