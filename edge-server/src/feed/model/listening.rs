//! What the clients do.

use hubbub_protocol::Seq;

use crate::feed::{Feed, SocketId};

use super::{
    edge::{Open, Subscription},
    sockets::Cause,
    store::{CHANNELS, LONGEST, channel_id},
    world::{Outcome, World},
};

impl World {
    /// Everybody listens to everything, and every horizon is known.
    pub(super) fn warm_up(&mut self) -> Outcome {
        for client in 0..self.clients.len() {
            let edge = self.random.below(self.edges.len());
            self.connect(client, edge);
            let socket = self.clients[client].socket.expect("just connected");
            for channel in 0..self.plan.channels {
                let ordered = self.random.chance(35);
                self.join_with(client, socket, channel, None, ordered)?;
                self.subscribe(edge, channel)?;
                self.subscribe(edge, channel)?;
                self.store_reads(edge, channel);
                self.store_answers(edge, channel)?;
            }
            self.drain(client, 64)?;
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, client: usize, edge: usize) {
        if self.clients[client].socket.is_none() {
            let capacity = self.plan.capacity;
            let socket = self
                .sockets
                .connect(edge, client, capacity, self.plan.synced_rides);
            self.clients[client].socket = Some(socket);
            self.tell(|_| format!("client {client} connects to edge {edge} as {socket:?}"));
        }
    }

    /// What is in its outbox is lost.
    pub(super) fn disconnect(&mut self, client: usize) {
        let Some(socket) = self.clients[client].socket else {
            return;
        };
        self.tell(|_| format!("client {client} {socket:?} disconnects"));
        let edge = self.sockets.get(socket).edge;
        for open in self.edges[edge].feeds.iter_mut().flatten() {
            open.feed.leave(socket, &mut self.sockets);
        }
        self.sockets.get(socket).open = false;
        self.clients[client].disconnected();
    }

    pub(super) fn join(&mut self, client: usize, channel: usize) -> Outcome {
        let Some(socket) = self.clients[client].socket else {
            return Ok(());
        };
        if self.clients[client].channels[channel].joined && self.random.chance(70) {
            return Ok(());
        }
        let listening = &self.clients[client].channels[channel];
        let mut since = listening.cursor;
        // Until a join is answered the cursor is that of another join point.
        if self.random.chance(15) || !listening.is_answered() {
            since = None;
        } else if self.random.chance(2) {
            // A cursor of another log.
            since = Some(Seq(LONGEST as u64 + 1));
        }
        let ordered = self.random.chance(35);
        self.join_with(client, socket, channel, since, ordered)
    }

    pub(super) fn join_with(
        &mut self,
        client: usize,
        socket: SocketId,
        channel: usize,
        since: Option<Seq>,
        ordered: bool,
    ) -> Outcome {
        let edge = self.sockets.get(socket).edge;
        if self.edges[edge].feeds[channel].is_none() {
            let limits = self.edges[edge].limits.clone();
            self.edges[edge].feeds[channel] = Some(Open {
                feed: Feed::new(channel_id(channel), limits),
                subscription: Subscription::Asked,
                asked: Vec::new(),
                answered: Vec::new(),
            });
        }
        self.tell(|_| format!("client {client} joins c{channel} since {since:?} {ordered}"));
        let outbox = self.sockets.get(socket);
        outbox.since[channel] = since;
        outbox.joins[channel] += 1;
        let listening = &mut self.clients[client].channels[channel];
        listening.joined = true;
        listening.ordered = ordered;
        listening.joins += 1;
        self.with_feed(edge, channel, Cause::Feed, |feed, out| {
            feed.join(socket, since, ordered, out);
        })
    }

    pub(super) fn leave(&mut self, client: usize, channel: usize) -> Outcome {
        let Some(socket) = self.clients[client].socket else {
            return Ok(());
        };
        self.tell(|_| format!("client {client} leaves c{channel}"));
        self.clients[client].channels[channel].joined = false;
        let edge = self.sockets.get(socket).edge;
        self.with_feed(edge, channel, Cause::Feed, |feed, out| {
            feed.leave(socket, out)
        })
    }

    pub(super) fn drain(&mut self, client: usize, frames: usize) -> Outcome {
        let Some(socket) = self.clients[client].socket else {
            return Ok(());
        };
        for _ in 0..frames {
            let Some((channel, item, room)) = self.sockets.get(socket).take()? else {
                return Ok(());
            };
            self.tell(|_| format!("client {client} c{channel} receives {item:?}"));
            self.clients[client]
                .receive(channel, &item, &self.store)
                .map_err(|what| format!("client {client}, c{channel}: {what}"))?;
            if room {
                let edge = self.sockets.get(socket).edge;
                for channel in 0..CHANNELS {
                    self.with_feed(edge, channel, Cause::Feed, |feed, out| {
                        feed.room(socket, out);
                    })?;
                }
            }
        }
        Ok(())
    }
}
