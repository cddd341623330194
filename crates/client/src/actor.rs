use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    time::Duration,
};

use hubbub_protocol::{ChannelId, Hello, JoinReply, Outcome, ServerFrame};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Backoff, Config, Down, Event, JoinError, SendError, Wire, WireEvent,
    connection::{Connection, Incoming},
    handle::{Command, Settle},
    session::{Output, Session},
};

/// How long a server may take to answer a close.
const CLOSE: Duration = Duration::from_secs(1);
/// Close code 4009, whose delay came with the last `rate_limited`.
const RATE: u16 = 4009;

type JoinAnswer = oneshot::Sender<Result<JoinReply, JoinError>>;

/// Performs what the session decides: the one task of a client.
pub(crate) struct Actor {
    config: Config,
    session: Session,
    backoff: Backoff,
    commands: mpsc::Receiver<Command>,
    /// `None` once the application has dropped its end.
    events: Option<mpsc::Sender<Event>>,
    /// Decided and not yet taken; the socket is not read until it is empty.
    pending: VecDeque<Event>,
    settles: HashMap<u64, Settle>,
    joins: HashMap<ChannelId, JoinAnswer>,
    closing: Option<oneshot::Sender<()>>,
    connections: u64,
}

/// The application wants the client to end.
struct Stop;

impl Actor {
    pub(crate) fn new(
        config: Config,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let limits = config.limits.clone();
        Self {
            backoff: Backoff::new(limits.backoff_first, limits.backoff_cap),
            session: Session::new(limits, config.marks_delivered, rand::random()),
            config,
            commands,
            events: Some(events),
            pending: VecDeque::new(),
            settles: HashMap::new(),
            joins: HashMap::new(),
            closing: None,
            connections: 0,
        }
    }

    /// Runs until the application closes the client or the server says that it may not return.
    pub(crate) async fn run(mut self) {
        let why = loop {
            let down = match self.connect().await {
                Ok(Ok((connection, hello))) => {
                    let since = Instant::now();
                    let down = Box::pin(self.serve(connection, hello)).await;
                    if since.elapsed() >= self.config.limits.healthy {
                        self.backoff.reset();
                    }
                    down
                }
                Ok(Err(down)) => down,
                Err(Stop) => Down::Stopped,
            };
            if !down.reconnects() {
                break down;
            }
            let retry_in = self.delay(&down);
            tracing::debug!(why = %down, retry_ms = retry_in.as_millis(), "disconnected");
            self.pending.push_back(Event::Disconnected {
                why: down,
                retry_in: Some(retry_in),
            });
            if let Err(Stop) = self.pause(retry_in).await {
                break Down::Stopped;
            }
        };
        self.end(why).await;
    }

    /// How long to wait before the next attempt.
    fn delay(&mut self, down: &Down) -> Duration {
        if let Some(delay) = self.session.take_goodbye_delay() {
            // A planned restart is no failure, and the server has spread its clients already.
            self.backoff.reset();
            return delay;
        }
        let floor = match down {
            Down::Refused { retry_after, .. } => *retry_after,
            Down::Closed { code: RATE, .. } => self.session.rate_delay(),
            _ => None,
        };
        self.backoff.next(self.session.rng(), floor)
    }

    async fn connect(&mut self) -> Result<Result<(Connection, Hello), Down>, Stop> {
        let token = match self.config.token.token() {
            Ok(token) => token,
            Err(error) => return Ok(Err(Down::Token(error))),
        };
        let config = self.config.clone();
        let opening = Box::pin(async move { Connection::open(&config, &token).await });
        let opened = self.attend(opening).await?;
        Ok(opened.map(|(connection, hello, text)| {
            self.connections += 1;
            // The device that the server made up stays this client's: what was sent to it while
            // it was away is delivered to it, and not to yet another one, when it comes back.
            self.config
                .device
                .get_or_insert_with(|| hello.device.clone());
            self.record(WireEvent::Opened);
            self.record(WireEvent::In(&text));
            (connection, hello)
        }))
    }

    /// Waits, and until the application has taken what there was to tell: one that does not
    /// look gets no new connection either, so that what is pending stays bounded.
    async fn pause(&mut self, delay: Duration) -> Result<(), Stop> {
        self.attend(tokio::time::sleep(delay)).await?;
        while !self.pending.is_empty() {
            let due = Instant::now() + Duration::from_secs(1);
            self.attend(tokio::time::sleep_until(due)).await?;
        }
        Ok(())
    }

    /// Runs a future while there is no connection.
    ///
    /// Waits for: the future; a command; room for an event.
    async fn attend<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::pin!(future);
        loop {
            self.hand_over();
            tokio::select! {
                value = &mut future => return Ok(value),
                command = self.commands.recv() => self.on_command(command)?,
                room = room(&self.events), if !self.pending.is_empty() => self.on_room(room),
            }
        }
    }

    /// Speaks over one connection until it is down.
    ///
    /// Waits for: a command; room for an event; the socket (both ways); the next moment at
    /// which something is due. Every arm keeps its state outside of its future.
    async fn serve(&mut self, mut connection: Connection, hello: Hello) -> Down {
        let silence = Duration::from_millis(hello.heartbeat_ms) + self.config.limits.silence;
        // Twice in the shortest time after which a server may call us dead.
        let life = Duration::from_millis((hello.heartbeat_ms / 2).max(100));
        self.session.connected(hello, Instant::now());
        let mut heard = Instant::now();
        let mut pong_at = heard + life;
        let down = loop {
            self.hand_over();
            let reading = self.pending.is_empty();
            let now = Instant::now();
            if !reading {
                // Nothing is read, so nothing can be held against the server; but it hears us.
                heard = now;
                self.session.excuse(now);
                if now >= pong_at {
                    connection.offer_pong();
                    pong_at = now + life;
                }
            }
            self.session.tick(now);
            let due = self.due(&connection, heard + silence, (!reading).then_some(pong_at));
            let (session, config, number) = (&mut self.session, &self.config, self.connections);
            let mut next = || {
                let frame = session.next_frame(Instant::now());
                if let (Some(frame), Some(record)) = (&frame, &config.recorder) {
                    record(Wire {
                        connection: number,
                        at: Instant::now(),
                        event: WireEvent::Out(frame),
                    });
                }
                frame
            };
            tokio::select! {
                command = self.commands.recv() => {
                    if let Err(Stop) = self.on_command(command) {
                        connection.close(CLOSE).await;
                        self.record(WireEvent::Closed(None));
                        self.session.disconnected(Instant::now());
                        return Down::Stopped;
                    }
                }
                room = room(&self.events), if !reading => self.on_room(room),
                incoming = std::future::poll_fn(|cx| connection.poll(cx, reading, &mut next)) => {
                    heard = Instant::now();
                    match incoming {
                        Incoming::Text(text) => self.on_text(&text),
                        Incoming::Life => {}
                        Incoming::Down(down) => break down,
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    if let Some(down) = self.overdue(&connection, heard + silence, silence) {
                        break down;
                    }
                }
            }
        };
        self.record(WireEvent::Closed(match &down {
            Down::Closed { code, .. } => Some(*code),
            _ => None,
        }));
        self.session.disconnected(Instant::now());
        down
    }

    fn due(
        &self,
        connection: &Connection,
        silent_at: Instant,
        pong_at: Option<Instant>,
    ) -> Instant {
        let blocked_at = connection
            .blocked_since()
            .map(|at| at + self.config.limits.write);
        [
            pong_at,
            blocked_at,
            self.session.stalls_at(),
            self.session.next_due(Instant::now()),
        ]
        .into_iter()
        .flatten()
        .fold(silent_at, Instant::min)
    }

    fn overdue(
        &self,
        connection: &Connection,
        silent_at: Instant,
        silence: Duration,
    ) -> Option<Down> {
        let now = Instant::now();
        let blocked_at = connection
            .blocked_since()
            .map(|at| at + self.config.limits.write);
        if now >= silent_at {
            Some(Down::Silent(silence))
        } else if self.session.stalls_at().is_some_and(|at| now >= at) {
            Some(Down::Stalled("no reply"))
        } else if blocked_at.is_some_and(|at| now >= at) {
            Some(Down::Stalled("the socket takes nothing"))
        } else {
            None
        }
    }

    fn on_text(&mut self, text: &str) {
        self.record(WireEvent::In(text));
        match ServerFrame::decode(text) {
            Ok(frame) => self.session.on_frame(frame, Instant::now()),
            // Of a newer server, or a broken one: the seq or the reply stays owed, and that is
            // what decides.
            Err(error) => tracing::warn!(%error, bytes = text.len(), "unreadable frame"),
        }
    }

    fn on_command(&mut self, command: Option<Command>) -> Result<(), Stop> {
        match command {
            None => return Err(Stop),
            Some(Command::Close(done)) => {
                self.closing = Some(done);
                return Err(Stop);
            }
            Some(Command::Join {
                channel,
                options,
                answer,
            }) => {
                self.answer_join(channel, Err(JoinError::Replaced));
                self.joins.extend(answer.map(|answer| (channel, answer)));
                self.session.join(channel, options.since, options.ordered);
            }
            Some(Command::Leave { channel }) => {
                self.answer_join(channel, Err(JoinError::Replaced));
                self.session.leave(channel);
            }
            Some(Command::Send {
                channel,
                change,
                message_id,
                retry,
                settle,
            }) => {
                let order = self.session.send(channel, change, message_id, retry);
                self.settles.insert(order, settle);
            }
            Some(Command::Mark {
                channel,
                delivered,
                read,
            }) => self.session.mark(channel, delivered, read),
            Some(Command::Typing { channel }) => self.session.typing(channel, Instant::now()),
            Some(Command::Presence { state }) => self.session.set_presence(state),
            Some(Command::Watch { users }) => self.session.watch(users),
        }
        Ok(())
    }

    /// Takes the session's decisions: handles are answered, events wait for their turn.
    fn hand_over(&mut self) {
        while let Some(output) = self.session.outputs.pop_front() {
            match output {
                Output::Settled { order, result } => {
                    if let Some(settle) = self.settles.remove(&order) {
                        let result = result.result.map_err(SendError::Refused);
                        // Nobody waits for it: the event tells it as well.
                        settle.answer.send(result).ok();
                    }
                }
                Output::Event(event) => {
                    match &event {
                        Event::Joined(joined) => {
                            let (channel, reply) = (joined.reply.channel, joined.reply.clone());
                            self.answer_join(channel, Ok(reply));
                        }
                        Event::JoinFailed { channel, error } => {
                            self.answer_join(*channel, Err(JoinError::Refused(error.clone())));
                        }
                        _ => {}
                    }
                    self.pending.push_back(event);
                }
            }
        }
        while let (Some(events), Some(event)) = (&self.events, self.pending.pop_front()) {
            match events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.pending.push_front(event);
                    break;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.events = None,
            }
        }
        if self.events.is_none() {
            self.pending.clear();
        }
    }

    fn on_room(&mut self, open: bool) {
        if !open {
            self.events = None;
        }
        // The next turn hands over.
    }

    fn answer_join(&mut self, channel: ChannelId, result: Result<JoinReply, JoinError>) {
        if let Some(answer) = self.joins.remove(&channel) {
            // Nobody waits for it: the event tells it as well.
            answer.send(result).ok();
        }
    }

    fn record(&self, event: WireEvent<'_>) {
        if let Some(record) = &self.config.recorder {
            record(Wire {
                connection: self.connections,
                at: Instant::now(),
                event,
            });
        }
    }

    /// Everything ends: sends say whether they may be in the log, then the last event.
    async fn end(mut self, why: Down) {
        self.hand_over();
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            // What was queued and never looked at: sends of these were never written.
            if let Command::Send { settle, .. } = command {
                settle.end(&why, Outcome::Rejected);
            }
        }
        let unsettled: Vec<_> = self.session.unsettled().collect();
        for (order, written) in unsettled {
            let outcome = if written {
                Outcome::Unknown
            } else {
                Outcome::Rejected
            };
            if let Some(settle) = self.settles.remove(&order) {
                settle.end(&why, outcome);
            }
        }
        for (_, answer) in self.joins.drain() {
            answer.send(Err(JoinError::Closed)).ok();
        }
        if let Some(done) = self.closing.take() {
            // The one who closes may be the one who would have to take the events.
            done.send(()).ok();
        }
        self.pending.push_back(Event::Disconnected {
            why,
            retry_in: None,
        });
        if let Some(events) = self.events.take() {
            for event in self.pending.drain(..) {
                if events.send(event).await.is_err() {
                    break;
                }
            }
        }
    }
}

impl Settle {
    fn end(self, why: &Down, outcome: Outcome) {
        let error = SendError::Ended {
            why: why.clone(),
            outcome,
        };
        // Nobody waits for it.
        self.answer.send(Err(error)).ok();
    }
}

/// Waits for room among the events; false: the application has dropped its end.
async fn room(events: &Option<mpsc::Sender<Event>>) -> bool {
    match events {
        Some(events) => events.reserve().await.is_ok(),
        None => false,
    }
}
