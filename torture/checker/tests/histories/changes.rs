//! What is done to messages that were said: replies in threads, edits, deletions, reactions. What
//! becomes of a message is told here from all of its records at once, and not step by step.

use hubbub_checker::{
    Event,
    history::{Kind, State, Thread},
};
use hubbub_protocol::Seq;

use crate::{
    names::{self, Message},
    script::What,
    world::{CHANNELS, READERS, WRITERS, World},
};

impl World {
    /// The last channel is the direct channel of the first two readers, whoever asks.
    pub(crate) fn direct(&mut self) {
        let channel = names::channel(CHANNELS - 1);
        let (one, other) = (names::user(READERS), names::user(READERS + 1));
        for (user, with) in [(one, other), (other, one)] {
            self.say(Event::Direct {
                user,
                with,
                channel,
            });
        }
    }

    /// Somebody does something to one of the latest messages of a channel that went over the bus and
    /// are stored: its writer, if nobody else may.
    pub(crate) fn change(&mut self, what: What) {
        let channel = self.dice.index(CHANNELS);
        let rows = self.channels[channel].rows.iter().rev();
        let messages = rows.filter(|(_, m)| match what {
            What::Reply => self.messages[*m].kind == Kind::Message,
            _ => self.messages[*m].kind.is_message(),
        });
        let messages = messages.filter(|(_, m)| self.published.contains(m));
        let latest: Vec<(u64, usize)> = messages.take(6).copied().collect();
        if latest.is_empty() {
            return;
        }
        let (seq, target) = latest[self.dice.index(latest.len())];
        let seq = Seq(seq);
        let (kind, own) = match what {
            What::Reply => (Kind::Reply(seq), false),
            What::Edit => (Kind::Edit(seq), true),
            What::Delete => (Kind::Delete(seq), true),
            What::React => (Kind::React(seq), false),
            What::Unreact => (Kind::Unreact(seq), false),
        };
        let anybody = self.dice.index(WRITERS);
        let user = if own {
            self.messages[target].user
        } else {
            anybody
        };
        let message = self.new_message(Message {
            channel,
            user,
            kind,
        });
        let op = self.attempt(message, None, false);
        self.sent(op, message);
    }

    /// A record is stored: the texts that the store has from here on.
    pub(crate) fn apply(&mut self, message: usize) {
        let it = self.messages[message];
        let Some(target) = it.kind.about().and_then(|seq| self.at(it.channel, seq)) else {
            return;
        };
        let deleted = self.deletion(target).is_some_and(|by| by != message);
        match it.kind {
            Kind::Edit(_) if deleted => self.texts[message] = 0,
            Kind::Edit(_) => self.texts[target] = self.texts[message],
            Kind::Delete(_) => {
                self.texts[target] = 0;
                for (_, edit) in self.about(target) {
                    if let Kind::Edit(_) = self.messages[edit].kind {
                        self.texts[edit] = 0;
                    }
                }
            }
            _ => {}
        }
    }

    fn at(&self, channel: usize, seq: Seq) -> Option<usize> {
        let rows = self.channels[channel].rows.iter();
        rows.rev().find(|(at, _)| *at == seq.0).map(|(_, m)| *m)
    }

    /// The stored records about a message, in order.
    fn about(&self, message: usize) -> Vec<(u64, usize)> {
        let channel = self.messages[message].channel;
        let rows = &self.channels[channel].rows;
        let Some((seq, _)) = rows.iter().find(|(_, m)| *m == message) else {
            return Vec::new();
        };
        let about = |m: usize| self.messages[m].kind.about() == Some(Seq(*seq));
        let rows = rows.iter().filter(|(_, m)| about(*m));
        rows.copied().collect()
    }

    fn deletion(&self, message: usize) -> Option<usize> {
        let about = self.about(message);
        let deletion = |m: usize| matches!(self.messages[m].kind, Kind::Delete(_));
        about
            .into_iter()
            .find(|(_, m)| deletion(*m))
            .map(|(_, m)| m)
    }

    /// Every message as the servers and its row show it in the end.
    pub(crate) fn shown(&mut self) {
        for channel in 0..CHANNELS {
            for (seq, message) in self.channels[channel].rows.clone() {
                if !self.messages[message].kind.is_message() {
                    continue;
                }
                let state = self.state(message);
                for server in ["api-1", "api-2", "sql"] {
                    let mut state = state.clone();
                    if server == "sql" {
                        state.versions = None;
                    }
                    self.say(Event::Shown {
                        server: server.to_owned(),
                        channel: names::channel(channel),
                        seq: Seq(seq),
                        state,
                    });
                }
            }
        }
    }

    fn state(&self, message: usize) -> State {
        let about = self.about(message);
        let of = |is: fn(&Kind) -> bool| -> Vec<(u64, usize)> {
            let these = about.iter().filter(|(_, m)| is(&self.messages[*m].kind));
            these.copied().collect()
        };
        let replies = of(|kind| matches!(kind, Kind::Reply(_)));
        let standing: Vec<_> = self.standing(&replies);
        let thread = (!standing.is_empty()).then(|| Thread {
            count: standing.len() as u64,
            last: Seq(replies.last().map_or(0, |(seq, _)| *seq)),
            users: self.took_part(&replies),
        });
        if self.deletion(message).is_some() {
            return State {
                deleted: true,
                thread,
                versions: Some(Vec::new()),
                ..State::default()
            };
        }
        let edits = of(|kind| matches!(kind, Kind::Edit(_)));
        let sum = |m: usize| names::sum(m, self.messages[m].kind);
        let rows = &self.channels[self.messages[message].channel].rows;
        let own = rows.iter().find(|(_, m)| *m == message).copied();
        let mut versions: Vec<(Seq, u32)> = own
            .into_iter()
            .chain(edits.iter().copied())
            .map(|(seq, m)| (Seq(seq), sum(m)))
            .collect();
        let (last, text) = versions.pop().expect("the message itself is one");
        let count = u32::try_from(edits.len()).expect("few edits");
        State {
            sum: text,
            deleted: false,
            edited: (count > 0).then_some((last, count)),
            reactions: self.reactions(&about),
            thread,
            versions: Some(versions),
        }
    }

    /// Those of a thread's replies that are not deleted.
    fn standing(&self, replies: &[(u64, usize)]) -> Vec<usize> {
        let replies = replies.iter().map(|(_, m)| *m);
        replies.filter(|m| self.deletion(*m).is_none()).collect()
    }

    /// Who took part since the thread was last empty.
    fn took_part(&self, replies: &[(u64, usize)]) -> Vec<hubbub_protocol::UserId> {
        let place = |message: usize| {
            let rows = &self.channels[self.messages[message].channel].rows;
            rows.iter()
                .find(|(_, m)| *m == message)
                .map(|(seq, _)| *seq)
        };
        let gone_at = |m: usize| self.deletion(m).and_then(place).unwrap_or(u64::MAX);
        let mut users = Vec::new();
        for (i, (seq, message)) in replies.iter().enumerate() {
            if replies[..i]
                .iter()
                .all(|(_, earlier)| gone_at(*earlier) < *seq)
            {
                users.clear();
            }
            let user = names::user(self.messages[*message].user);
            if !users.contains(&user) {
                users.push(user);
            }
        }
        users
    }

    fn reactions(&self, about: &[(u64, usize)]) -> Vec<(u32, Vec<hubbub_protocol::UserId>)> {
        let mut given: Vec<(u32, Vec<hubbub_protocol::UserId>)> = Vec::new();
        for (_, m) in about {
            let it = &self.messages[*m];
            let (sum, user) = (names::sum(*m, it.kind), names::user(it.user));
            let place = given.iter().position(|(of, _)| *of == sum);
            match (it.kind, place) {
                (Kind::React(_), Some(place)) if !given[place].1.contains(&user) => {
                    given[place].1.push(user);
                }
                (Kind::React(_), None) => given.push((sum, vec![user])),
                (Kind::Unreact(_), Some(place)) => given[place].1.retain(|of| *of != user),
                _ => {}
            }
            given.retain(|(_, users)| !users.is_empty());
        }
        given
    }
}
