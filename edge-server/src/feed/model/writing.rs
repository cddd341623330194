//! What senders and consumers do.

use super::{
    edge::{Event, Subscription},
    store::{PARTITIONS, Record, channel_of, partition_of},
    world::{CONSUMERS, World},
};

impl World {
    pub(super) fn send(&mut self, edge: usize, channel: usize, poison: bool) {
        let number = u16::try_from(self.store.messages.len()).expect("few");
        let record = Record {
            channel,
            number,
            poison,
        };
        let Some(seq) = self.store.append(record) else {
            return;
        };
        self.sockets.numbers[partition_of(channel)].push(number);
        self.store.messages.push(channel);
        self.tell(|_| format!("append c{channel} {seq:?} message {number} poison {poison}"));
        if !poison {
            self.edges[edge].unpublished.push((channel, seq));
        }
    }

    /// A sender without an answer sends again: marked as a resend it is not published.
    pub(super) fn resend(&mut self, edge: usize) {
        if self.store.messages.is_empty() {
            return;
        }
        // A recent one: nobody resends after a minute.
        let last = self.store.messages.len();
        let number = last - 1 - self.random.below(last.min(4));
        let channel = self.store.messages[number];
        let record = Record {
            channel,
            number: u16::try_from(number).expect("few"),
            poison: false,
        };
        let of_poison = self.store.log[partition_of(channel)]
            .iter()
            .any(|r| usize::from(r.number) == number && r.poison);
        if of_poison {
            return;
        }
        let Some(seq) = self.store.append(record) else {
            return;
        };
        self.sockets.numbers[partition_of(channel)].push(record.number);
        let marked = self.random.chance(50);
        self.tell(|_| format!("resend c{channel} {seq:?} message {number} marked {marked}"));
        if !marked {
            self.edges[edge].unpublished.push((channel, seq));
        }
    }

    pub(super) fn publish(&mut self, edge: usize, crash: bool) {
        let pending = self.edges[edge].unpublished.len();
        if pending == 0 {
            return;
        }
        let at = self.random.below(pending);
        let (channel, seq) = self.edges[edge].unpublished.swap_remove(at);
        self.tell(|_| format!("publish c{channel} {seq:?} by edge {edge}, lost: {crash}"));
        if !crash {
            self.put_on_bus(edge, channel, &Event::Message { channel, seq });
        }
    }

    pub(super) fn put_on_bus(&mut self, publisher: usize, channel: usize, event: &Event) {
        for edge in 0..self.edges.len() {
            let lost = self.plan.silent && self.random.chance(8);
            let receives = matches!(&self.edges[edge].feeds[channel],
                Some(open) if open.subscription != Subscription::Asked);
            if receives && !lost {
                let inbox = &mut self.edges[edge].inbox[publisher];
                inbox.push_back(event.clone());
                // A publisher whose connection broke cannot know whether it has published.
                if self.random.chance(4) {
                    inbox.push_back(event.clone());
                }
            } else if receives {
                self.tell(|_| format!("  lost on the way to edge {edge}"));
            }
        }
    }

    pub(super) fn consume(&mut self) {
        let consumer = self.random.below(CONSUMERS);
        let partition = self.random.below(PARTITIONS.min(self.plan.channels));
        let records = 1 + self.random.below(4);
        self.consume_by(consumer, partition, records);
    }

    pub(super) fn consume_by(&mut self, consumer: usize, partition: usize, records: usize) {
        if self.store.away[partition] {
            return;
        }
        let known = self.consumers[consumer].position[partition];
        let position = known.unwrap_or(self.store.position[partition]);
        let longest_list = self.plan.longest_list;
        let committed = self
            .store
            .commit(partition, position, records, longest_list);
        self.tell(|_| format!("consumer {consumer} from {position}: {committed:?}"));
        let Some(announced) = committed else {
            self.consumers[consumer].position[partition] = None;
            return;
        };
        for stored in announced {
            let channel = channel_of(stored.channel.number());
            self.sockets.heads[channel] = stored.through;
            self.consumers[consumer].unannounced.push_back(stored);
        }
        self.consumers[consumer].position[partition] = Some(self.store.position[partition]);
    }

    pub(super) fn announce(&mut self) {
        let consumer = self.random.below(CONSUMERS);
        self.announce_by(consumer);
    }

    pub(super) fn announce_by(&mut self, consumer: usize) {
        let Some(stored) = self.consumers[consumer].unannounced.pop_front() else {
            return;
        };
        let channel = channel_of(stored.channel.number());
        if self.plan.silent && self.random.chance(self.plan.announcements_lost) {
            self.tell(|_| format!("announcement lost: {stored:?}"));
            return;
        }
        self.tell(|_| format!("announce {stored:?}"));
        let publisher = self.edges.len() + consumer;
        let event = Event::Stored(stored.clone());
        self.put_on_bus(publisher, channel, &event);
        if self.random.chance(5) {
            // Once more, later.
            self.consumers[consumer].unannounced.push_back(stored);
        }
    }
}
