//! The names of a made history.

use hubbub_checker::history::{Kind, Record};
use hubbub_protocol::{ChannelId, ChannelLetter, MessageId, Seq, UserId};
use uuid::Uuid;

fn from_one(number: usize) -> i64 {
    i64::try_from(number).expect("a small number") + 1
}

pub(crate) fn channel(number: usize) -> ChannelId {
    ChannelId::new(ChannelLetter::Channel, from_one(number)).expect("from 1")
}

pub(crate) fn user(number: usize) -> UserId {
    UserId::new(from_one(number)).expect("from 1")
}

pub(crate) fn id(message: usize) -> MessageId {
    MessageId(Uuid::from_u128(0xabcd_0000 + message as u128))
}

/// A record as it stands in the world's list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) channel: usize,
    pub(crate) user: usize,
    pub(crate) kind: Kind,
}

pub(crate) fn record(number: usize, message: &Message, seq: u64) -> Record {
    Record {
        channel: channel(message.channel),
        seq: Seq(seq),
        user: user(message.user),
        id: id(number),
        sum: sum(number, message.kind),
        kind: message.kind,
    }
}

/// The sum of what it says: two reactions of three are the same.
pub(crate) fn sum(number: usize, kind: Kind) -> u32 {
    let number = u32::try_from(number).expect("few messages");
    match kind {
        Kind::Message | Kind::Reply(_) | Kind::Edit(_) => number * 7 + 1,
        Kind::React(_) | Kind::Unreact(_) => number % 2 + 1,
        Kind::Delete(_) | Kind::Identity | Kind::Other => 0,
    }
}
