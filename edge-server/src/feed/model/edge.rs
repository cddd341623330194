//! An edge of the model: its feeds, its connection to Redis, its sweeper.

use std::collections::VecDeque;

use hubbub_protocol::{Seq, Stored};

use crate::feed::{Answer, Feed, Horizon, Limits, Request, Sweeper};

use super::{
    sockets::Cause,
    store::{CHANNELS, PARTITIONS},
};

#[derive(Debug, Clone)]
pub(super) enum Event {
    Message { channel: usize, seq: Seq },
    Stored(Stored),
}

/// How far a SUBSCRIBE has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    /// Sent; Redis has not seen it.
    Asked,
    /// Redis has it; the confirmation is on its way, in front of every message.
    Confirming,
    Live,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) feed: Feed,
    pub(super) subscription: Subscription,
    /// Requests that the store has not read yet, and its answers on their way.
    pub(super) asked: Vec<(Request, Cause)>,
    pub(super) answered: Vec<(Request, Cause, Answer)>,
}

#[derive(Debug)]
pub(super) struct Edge {
    pub(super) limits: Limits,
    pub(super) feeds: [Option<Open>; CHANNELS],
    /// What came from Redis, by publisher: in order of each, in any order between them.
    pub(super) inbox: Vec<VecDeque<Event>>,
    /// Appended, not published.
    pub(super) unpublished: Vec<(usize, Seq)>,
    pub(super) sweeper: Sweeper,
    /// Sweeps that have read and not answered, by shard.
    pub(super) sweeps: [Option<SweepRead>; PARTITIONS],
}

pub(super) type SweepRead = (Vec<(i32, Seq)>, Vec<(i64, Seq)>);

#[derive(Debug, Default)]
pub(super) struct Consumer {
    /// Where it believes a partition to be; `None` = it has to ask.
    pub(super) position: [Option<usize>; PARTITIONS],
    pub(super) unannounced: VecDeque<Stored>,
}

pub(super) fn horizons(feeds: &[Option<Open>; CHANNELS]) -> [Horizon; CHANNELS] {
    std::array::from_fn(|channel| match &feeds[channel] {
        None => Horizon::NoFeed,
        Some(open) => open.feed.horizon().map_or(Horizon::Unknown, Horizon::At),
    })
}
