use std::sync::Arc;

use hubbub_protocol::{
    ChannelId, ErrorBody, JoinReply, MessageId, Outcome, PresenceState, ReactionError, Seq,
    TextError, UserId,
};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{Change, Config, Down, Event, Sent, actor::Actor};

/// What the handle asks of the actor.
#[derive(Debug)]
pub(crate) enum Command {
    Join {
        channel: ChannelId,
        options: JoinOptions,
        answer: Option<oneshot::Sender<Result<JoinReply, JoinError>>>,
    },
    Leave {
        channel: ChannelId,
    },
    Send {
        channel: ChannelId,
        change: Change,
        message_id: MessageId,
        retry: bool,
        settle: Settle,
    },
    Mark {
        channel: ChannelId,
        delivered: Seq,
        read: Seq,
    },
    Typing {
        channel: ChannelId,
    },
    Presence {
        state: PresenceState,
    },
    Watch {
        users: Vec<UserId>,
    },
    Close(oneshot::Sender<()>),
}

/// Settles one send: its place among the unsent is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Settle {
    pub(crate) answer: oneshot::Sender<Result<Sent, SendError>>,
    _place: OwnedSemaphorePermit,
}

/// How to listen to a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinOptions {
    /// The last seq that is had already: everything after it is given first. `None`: from now on.
    pub since: Option<Seq>,
    /// Strictly by seq, at the price of a little delay.
    pub ordered: bool,
}

/// The client is closed, or ended for good: its last event says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is closed")]
pub struct Closed;

/// Why a message was not taken. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many wait for their answer already; see [`Limits::unsent`](crate::Limits).
    #[error("too many messages wait for the server's answer")]
    Full,
    /// No message may have this text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Nobody may give this reaction.
    #[error(transparent)]
    Reaction(#[from] ReactionError),
    /// The client is closed, or ended for good.
    #[error("the client is closed")]
    Closed,
}

/// Why a join came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The server's definite answer.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// `leave` or another `join` of the channel came first.
    #[error("the join was replaced")]
    Replaced,
    /// The client is closed, or ended for good.
    #[error("the client is closed")]
    Closed,
}

/// How a send failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The server's definite answer: the message is not in the log.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// The client ended first.
    #[error("{why}, before the server had answered")]
    Ended {
        /// Why it ended.
        why: Down,
        /// Whether the message may be in the log.
        outcome: Outcome,
    },
}

/// One user's connection to Hubbub, kept up over reconnects. Cheap to clone; when the last clone
/// is dropped the connection is cut (without the close handshake that [`Self::close`] makes).
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
    /// Owns the actor: the set aborts it when the last handle goes.
    _actor: Arc<Mutex<JoinSet<()>>>,
}

/// Where the events come out.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` once the client has ended. Cancel-safe. Dropping [`Events`] makes
    /// the client discard what it would have told.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event, if one is there.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}

impl Client {
    /// Starts connecting. Must be called inside a tokio runtime. Events must be taken all the
    /// time, also while waiting for a send or a join: what is not taken stops the reading of the
    /// socket, and with it every answer.
    pub fn start(config: Config) -> (Self, Events) {
        let unsent = config.limits.unsent.max(1);
        // Every unsent message has its slot; the others are for what waits for its turn.
        let (commands, inbox) = mpsc::channel(unsent + 64);
        let (outbox, receiver) = mpsc::channel(config.limits.events.max(1));
        let mut actor = JoinSet::new();
        actor.spawn(Actor::new(config, inbox, outbox).run());
        let client = Self {
            commands,
            places: Arc::new(Semaphore::new(unsent)),
            _actor: Arc::new(Mutex::new(actor)),
        };
        (client, Events { receiver })
    }

    /// Listens to a channel, over all reconnects, until [`Self::leave`]; waits for the first
    /// reply, which comes as [`Event::Joined`] too. A join of a channel that is joined replaces
    /// it, and what had been given may be given again. Cancelling does not take the join back.
    pub async fn join(
        &self,
        channel: ChannelId,
        options: JoinOptions,
    ) -> Result<JoinReply, JoinError> {
        let (answer, reply) = oneshot::channel();
        let command = Command::Join {
            channel,
            options,
            answer: Some(answer),
        };
        let queued = self.commands.send(command).await;
        queued.map_err(|_| JoinError::Closed)?;
        reply.await.map_err(|_| JoinError::Closed)?
    }

    /// As [`Self::join`], without waiting for the reply: the events tell it.
    pub async fn start_join(&self, channel: ChannelId, options: JoinOptions) -> Result<(), Closed> {
        let command = Command::Join {
            channel,
            options,
            answer: None,
        };
        self.commands.send(command).await.map_err(|_| Closed)
    }

    /// Listens no more: nothing of the channel is given after this has been taken; waits only
    /// for that. [`Event::Left`] follows.
    pub async fn leave(&self, channel: ChannelId) -> Result<(), Closed> {
        let command = Command::Leave { channel };
        self.commands.send(command).await.map_err(|_| Closed)
    }

    /// Sends a message under a new id. Never waits; messages to one channel go in the order of
    /// the calls. The message is sent again by itself until the answer is definite.
    pub fn send(&self, channel: ChannelId, text: impl Into<String>) -> Result<SendHandle, Refused> {
        self.send_as(channel, text, MessageId(Uuid::new_v4()), false)
    }

    /// Sends a message under an id of the caller's. `retry`: an earlier process may have sent it
    /// already.
    pub fn send_as(
        &self,
        channel: ChannelId,
        text: impl Into<String>,
        message_id: MessageId,
        retry: bool,
    ) -> Result<SendHandle, Refused> {
        self.change_as(channel, Change::message(text), message_id, retry)
    }

    /// Answers in the thread of the message `root`, which is no reply itself.
    pub fn reply(
        &self,
        channel: ChannelId,
        root: Seq,
        text: impl Into<String>,
    ) -> Result<SendHandle, Refused> {
        let change = Change::Message {
            text: text.into(),
            thread: Some(root),
        };
        self.change(channel, change)
    }

    /// Gives the message `target` another text.
    pub fn edit(
        &self,
        channel: ChannelId,
        target: Seq,
        text: impl Into<String>,
    ) -> Result<SendHandle, Refused> {
        let text = text.into();
        self.change(channel, Change::Edit { target, text })
    }

    /// Deletes the message `target`.
    pub fn delete(&self, channel: ChannelId, target: Seq) -> Result<SendHandle, Refused> {
        self.change(channel, Change::Delete { target })
    }

    /// Gives the message `target` a reaction, or takes it back.
    pub fn react(
        &self,
        channel: ChannelId,
        target: Seq,
        reaction: impl Into<String>,
        remove: bool,
    ) -> Result<SendHandle, Refused> {
        let reaction = reaction.into();
        let change = Change::React {
            target,
            reaction,
            remove,
        };
        self.change(channel, change)
    }

    /// Brings a change into the log, under a new id: as [`Self::send`] does, with its promises.
    pub fn change(&self, channel: ChannelId, change: Change) -> Result<SendHandle, Refused> {
        self.change_as(channel, change, MessageId(Uuid::new_v4()), false)
    }

    /// As [`Self::change`], under an id of the caller's. `retry`: an earlier process may have
    /// sent it already.
    pub fn change_as(
        &self,
        channel: ChannelId,
        change: Change,
        message_id: MessageId,
        retry: bool,
    ) -> Result<SendHandle, Refused> {
        change.check()?;
        if self.commands.is_closed() {
            return Err(Refused::Closed);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refused::Full)?;
        let (answer, reply) = oneshot::channel();
        let command = Command::Send {
            channel,
            change,
            message_id,
            retry,
            settle: Settle {
                answer,
                _place: place,
            },
        };
        match self.commands.try_send(command) {
            Ok(()) => Ok(SendHandle { message_id, reply }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refused::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refused::Closed),
        }
    }

    /// Marks a channel as read (and so delivered) through `seq` on this device. Kept until the
    /// server has it, over reconnects; marks never go back. Waits only until it has been taken.
    pub async fn mark_read(&self, channel: ChannelId, seq: Seq) -> Result<(), Closed> {
        self.tell(Command::Mark {
            channel,
            delivered: seq,
            read: seq,
        })
        .await
    }

    /// Marks a channel as delivered through `seq`; the client does so by itself unless
    /// [`Config::marks_delivered`] is off.
    pub async fn mark_delivered(&self, channel: ChannelId, seq: Seq) -> Result<(), Closed> {
        self.tell(Command::Mark {
            channel,
            delivered: seq,
            read: Seq::ZERO,
        })
        .await
    }

    /// Says that the user types; call it with each key. Said once in 3 s, lost while there is no
    /// connection.
    pub async fn typing(&self, channel: ChannelId) -> Result<(), Closed> {
        self.tell(Command::Typing { channel }).await
    }

    /// Says whether the user is at this device: active, or away. Kept over reconnects.
    pub async fn set_presence(&self, state: PresenceState) -> Result<(), Closed> {
        self.tell(Command::Presence { state }).await
    }

    /// Watches the presence of these users, at most 200, and of no others. Kept over reconnects;
    /// [`Event::Presence`] tells each state once when it begins, and every change.
    pub async fn watch(&self, users: Vec<UserId>) -> Result<(), Closed> {
        self.tell(Command::Watch { users }).await
    }

    async fn tell(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).await.map_err(|_| Closed)
    }

    /// Closes with code 1000 and waits until the client has ended, at most about a second. Sends
    /// without an answer end as [`SendError::Ended`]: wait for their handles first.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // An error says that the actor has ended, which is what is waited for.
            closed.await.ok();
        }
    }
}

/// A send under way. Dropping it does not take the message back.
#[derive(Debug)]
pub struct SendHandle {
    message_id: MessageId,
    reply: oneshot::Receiver<Result<Sent, SendError>>,
}

impl SendHandle {
    /// The message's identity, known at once.
    pub fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// Waits for the definite answer, as long as it takes: bound it with a timeout where the
    /// caller cannot wait for the server to come back.
    pub async fn wait(self) -> Result<Sent, SendError> {
        self.reply.await.unwrap_or(Err(SendError::Ended {
            why: Down::Stopped,
            outcome: Outcome::Unknown,
        }))
    }
}
