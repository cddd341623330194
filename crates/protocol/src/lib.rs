//! Every type and name that crosses a wire: client frames, server frames, log records, bus
//! events, HTTP bodies, error codes, close codes and the names of channels, topics and keys.
//!
//! Promises: no I/O, no clock, no randomness; whatever decodes here is within its limits, and
//! what two parts of the system must spell alike is spelled here once. It does not check
//! permissions and knows nothing of offsets (that is `hubbub-log`).
#![warn(missing_docs)]

mod body;
mod bus;
mod client_frame;
mod close;
mod dashboard;
mod error;
pub mod events;
pub mod http;
mod id;
pub mod limits;
mod mark;
mod names;
mod partition;
mod presence;
mod record;
mod request;
mod server_frame;
mod text;

pub use body::{Body, Edited, Reaction, Replies, with_seq};
pub use bus::{
    Answer, ChannelEvent, Command, ListeningSocket, MessageKey, PodMessage, Question, Stored,
    UserEvent,
};
pub use client_frame::{ClientFrame, FrameError, RequestId};
pub use close::CloseCode;
pub use dashboard::{ChannelLoad, DashboardEvent, Report, Snapshot, Unwatch, Watch};
pub use error::{ErrorBody, ErrorCode, ErrorReply, Outcome};
pub use id::{ChannelId, ChannelLetter, DeviceId, IdError, MessageId, PodId, Seq, UserId};
pub use mark::{MarkRecord, Receipt};
pub use names::{
    BusChannel, EXAMPLE_USERS, GROUP_DEFAULT, TOPIC_MARKS, TOPIC_MESSAGES, lease_key, marks_topic,
    pod_of_lease_key,
};
pub use partition::partition_of;
pub use presence::{PresenceEvent, PresenceState, UserPresence};
pub use record::{Change, ReactionChange, Record, RecordError, RecordKind};
pub use request::{
    ChangeOptions, DeleteMessage, EditMessage, Mark, React, SendMessage, check_json_depth,
    checked_reaction,
};
pub use server_frame::{
    Goodbye, Hello, JoinReply, Joined, MarkReply, MessageReply, ServerFrame, Typing, WatchReply,
    added_frame, left_frame, replay_frame, reply_error, reply_ok, synced_frame,
};
pub use text::{ReactionError, TextError, check_reaction, check_text};
