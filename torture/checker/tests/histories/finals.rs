//! The final reads of a made history.

use std::collections::HashSet;

use hubbub_checker::{
    Event,
    history::{Paging, Record},
};
use hubbub_protocol::Seq;

use crate::{
    names,
    world::{BASE, CHANNELS, PARTITIONS, World},
};

impl World {
    /// The log, the shards, and what the consumer counts.
    pub(crate) fn log_and_rows(&mut self) {
        for partition in 0..PARTITIONS {
            let number = i32::try_from(partition).expect("few partitions");
            let mut stored = HashSet::new();
            let (mut rows, mut duplicates, mut dead) = (0, 0, 0);
            for (offset, message) in (0..).zip(self.log[partition].clone()) {
                let seq = u64::try_from(offset).expect("from 0") + 1 + BASE;
                let record = message.map(|m| names::record(m, &self.messages[m], seq));
                self.say(Event::Log {
                    partition: number,
                    offset,
                    record: record.clone(),
                });
                match (record, message) {
                    (Some(record), Some(message)) if stored.insert(message) => {
                        rows += 1;
                        let sum = self.texts[message];
                        let record = Record { sum, ..record };
                        self.say(Event::Row {
                            partition: number,
                            record,
                        });
                    }
                    (Some(_), _) => duplicates += 1,
                    (None, _) => {
                        dead += 1;
                        self.say(Event::Dead {
                            partition: number,
                            offset,
                        });
                    }
                }
            }
            self.say(Event::Counts {
                partition: number,
                next_offset: i64::try_from(self.log[partition].len()).expect("a short log"),
                rows,
                duplicates,
                dead,
            });
        }
    }

    pub(crate) fn pages(&mut self) {
        for channel in 0..CHANNELS {
            let rows = self.channels[channel].rows.clone();
            for server in ["api-1", "api-2"] {
                for (paging, limit, every) in
                    [(Paging::Forward, 7, false), (Paging::Backward, 100, true)]
                {
                    let kind = |message: usize| self.messages[message].kind;
                    let shown = rows.iter().filter(|(_, m)| every || kind(*m).is_shown());
                    let entries = shown.map(|(seq, m)| (Seq(*seq), names::id(*m)));
                    let entries = entries.collect();
                    self.say(Event::Page {
                        server: server.to_owned(),
                        channel: names::channel(channel),
                        paging,
                        limit,
                        every,
                        entries,
                    });
                }
            }
        }
    }
}
