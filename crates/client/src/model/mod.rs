//! The session against small models of a server: of what it delivers, and of what it takes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use hubbub_protocol::{
    Body, ChannelId, ClientFrame, ErrorBody, ErrorCode, Goodbye, Hello, JoinReply, MessageId,
    MessageReply, Outcome, RequestId, SendMessage, Seq, ServerFrame, UserId, reply_error, reply_ok,
};
use proptest::{collection::vec, prelude::*};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Change, Event, Limits, SendResult, View,
    session::{Output, Session},
};

mod cases;
mod delivery;
mod sends;

fn channel(number: i64) -> ChannelId {
    format!("C{number:09}").parse().expect("an id")
}

fn message(channel: ChannelId, id: u128) -> Body {
    let user = UserId::new(1).expect("from 1");
    let message_id = MessageId(Uuid::from_u128(id));
    Body::message(channel, message_id, user, id.to_string(), 0)
}

fn hello() -> Hello {
    Hello {
        connection_id: "1".to_owned(),
        pod: "edge-1".parse().expect("a pod id"),
        region: "local".to_owned(),
        user: UserId::new(1).expect("from 1"),
        device: "d".parse().expect("a device id"),
        heartbeat_ms: 15_000,
        max_frame_bytes: 65_536,
    }
}

fn reply(text: &str) -> ServerFrame {
    ServerFrame::decode(text).expect("a reply")
}

fn request(frame: &str) -> (RequestId, ClientFrame) {
    let (id, frame) = ClientFrame::decode(frame).expect("the session writes valid frames");
    (id.expect("every request has an id"), frame)
}
