//! Every type and name that crosses a wire: client frames, server frames, log records, bus
//! events, HTTP bodies, error codes, close codes and the names of channels, topics and keys.
//!
//! Promises: no I/O, no clock, no randomness; whatever decodes here is within its limits, and
//! what two parts of the system must spell alike is spelled here once. It does not check
//! permissions and knows nothing of offsets (that is `hubbub-log`).
#![warn(missing_docs)]

mod bus;
mod client_frame;
mod close;
mod error;
pub mod http;
mod id;
pub mod limits;
mod names;
mod partition;
mod record;
mod server_frame;

pub use bus::{Answer, ChannelEvent, Command, MessageKey, PodMessage, Question, Stored, UserEvent};
pub use client_frame::{ClientFrame, FrameError, RequestId, SendMessage, check_json_depth};
pub use close::CloseCode;
pub use error::{ErrorBody, ErrorCode, ErrorReply, Outcome};
pub use id::{ChannelId, ChannelLetter, DeviceId, IdError, MessageId, PodId, Seq, UserId};
pub use names::{BusChannel, GROUP_DEFAULT, TOPIC_MESSAGES, lease_key, pod_of_lease_key};
pub use partition::partition_of;
pub use record::{Body, Change, Record, RecordError, RecordKind, TextError, check_text, with_seq};
pub use server_frame::{
    Goodbye, Hello, JoinReply, MessageReply, ServerFrame, left_frame, replay_frame, reply_error,
    reply_ok, synced_frame,
};
