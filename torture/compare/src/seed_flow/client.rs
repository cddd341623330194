//! One client of the seed: it comes back, joins again, and resends what has no answer.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use hubbub_checker::{Event, history::Via};
use hubbub_client::Backoff;
use hubbub_protocol::{ChannelId, UserId};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::wire::{Asked, Said, Told, encode};
use crate::{
    recorder::{Recorder, said},
    settings,
};

type Socket = WebSocketStream<TcpStream>;

const WRITE: Duration = Duration::from_secs(5);
/// Before a join or a send that failed is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How often it looks whether something is due.
const TICK: Duration = Duration::from_millis(50);

/// A person with a device.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) user: UserId,
    /// Those that it listens to.
    pub(super) channels: Vec<ChannelId>,
    /// Where it connects.
    pub(super) at: SocketAddr,
}

/// Something that one has to say, with the number of the attempt in the history.
pub(super) type Due = (u64, Said);

/// What a client tells of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) joined: bool,
    pub(super) answered: usize,
}

/// Runs until the sender of `due` is gone.
pub(super) struct SeedClient {
    person: Person,
    due: mpsc::Receiver<Due>,
    progress: watch::Sender<Progress>,
    recorder: Recorder,
    /// Said and not answered, the oldest first. One at a time is under way, which keeps the order.
    queue: VecDeque<Due>,
    /// When the first of the queue was sent on this connection.
    sent: Option<Instant>,
    connection: u64,
}

impl SeedClient {
    pub(super) fn new(
        person: Person,
        due: mpsc::Receiver<Due>,
        progress: watch::Sender<Progress>,
        recorder: Recorder,
    ) -> Self {
        Self {
            person,
            due,
            progress,
            recorder,
            queue: VecDeque::new(),
            sent: None,
            connection: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(settings::BACKOFF_FIRST, settings::BACKOFF_CAP);
        loop {
            if let Ok(Ok(socket)) = timeout(settings::CONNECT, connect(&self.person)).await {
                backoff.reset();
                self.connection += 1;
                self.sent = None;
                self.recorder.record(Event::Opened {
                    device: self.person.name.clone(),
                    user: self.person.user,
                    connection: self.connection,
                    pod: String::new(),
                });
                let end = self.talk(socket).await;
                self.recorder.record(Event::Closed {
                    device: self.person.name.clone(),
                    connection: self.connection,
                    code: None,
                });
                // The end of a connection is what reconnecting is for.
                if matches!(end, Ok(())) {
                    return;
                }
            }
            let pause = sleep(backoff.next(&mut rand::rng(), None));
            tokio::pin!(pause);
            // Waits for the pause to end; takes what is said meanwhile.
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    due = self.due.recv() => match due {
                        Some(due) => self.queue.push_back(due),
                        None => return,
                    },
                }
            }
        }
    }

    /// The life of a connection; `Ok` when nothing more is wanted.
    async fn talk(&mut self, mut socket: Socket) -> Result<()> {
        let mut to_join: VecDeque<(Instant, ChannelId)> = VecDeque::new();
        let now = Instant::now();
        to_join.extend(self.person.channels.iter().map(|channel| (now, *channel)));
        let mut left = to_join.len();
        self.progress.send_modify(|p| p.joined |= left == 0);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut pinged = Instant::now();
        loop {
            // Waits for a frame, for something to say, or for time to pass.
            tokio::select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    let Message::Text(text) = frame.context("closed")?? else { continue };
                    match serde_json::from_str(&text)? {
                        Told::Joined { channel } => {
                            left -= 1;
                            self.joined(channel);
                            self.progress.send_modify(|p| p.joined |= left == 0);
                        }
                        Told::NotJoined { channel } => {
                            to_join.push_back((Instant::now() + AGAIN, channel));
                        }
                        Told::Ok { id } => {
                            if self.queue.front().is_some_and(|(_, said)| said.id == id) {
                                self.settled();
                            }
                        }
                        Told::Failed { .. } => {
                            self.sent = Instant::now().checked_sub(settings::ACK_TIMEOUT - AGAIN);
                        }
                        Told::Message(message) => self.shown(&message),
                        Told::Pong => {}
                    }
                }
                due = self.due.recv() => match due {
                    Some(due) => self.queue.push_back(due),
                    None => {
                        timeout(WRITE, socket.close(None)).await??;
                        return Ok(());
                    }
                },
                _ = tick.tick() => {
                    if heard.elapsed() > settings::HEARTBEAT + settings::SILENCE {
                        bail!("the edge is silent");
                    }
                    if pinged.elapsed() >= settings::HEARTBEAT {
                        pinged = Instant::now();
                        write(&mut socket, &Asked::Ping).await?;
                    }
                }
            }
            while let Some((_, channel)) = to_join.pop_front_if(|(at, _)| *at <= Instant::now()) {
                write(&mut socket, &Asked::Join { channel }).await?;
            }
            if let Some((_, said)) = self.queue.front()
                && self
                    .sent
                    .is_none_or(|at| at.elapsed() >= settings::ACK_TIMEOUT)
            {
                write(&mut socket, &Asked::Message(said.clone())).await?;
                self.sent = Some(Instant::now());
            }
        }
    }

    fn joined(&self, channel: ChannelId) {
        self.recorder.record(Event::Joined {
            device: self.person.name.clone(),
            connection: self.connection,
            channel,
            since: None,
            head: None,
            recovered: false,
            ordered: false,
        });
    }

    fn shown(&self, message: &Said) {
        // A writer listens to nobody, but is sent what goes to its channels all the same.
        if !self.person.channels.contains(&message.channel) {
            return;
        }
        let Said {
            channel,
            user,
            id,
            text,
        } = message;
        self.recorder.record(Event::Given {
            device: self.person.name.clone(),
            record: said(*channel, None, *user, *id, text),
            via: Via::Live,
        });
    }

    /// The first of the queue is acknowledged.
    fn settled(&mut self) {
        if let Some((op, _)) = self.queue.pop_front() {
            self.recorder.record(Event::Ok { op, seq: None });
            self.progress.send_modify(|p| p.answered += 1);
        }
        self.sent = None;
    }
}

async fn connect(person: &Person) -> Result<Socket> {
    let stream = TcpStream::connect(person.at).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{}/ws?user={}", person.at, person.user);
    Ok(client_async(url, stream).await?.0)
}

async fn write(socket: &mut Socket, asked: &Asked) -> Result<()> {
    let text = Message::text(encode(asked));
    Ok(timeout(WRITE, socket.send(text)).await??)
}
