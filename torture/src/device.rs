//! One client of one user, with everything that it sees in the history.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hubbub_checker::{Event as Seen, history::Kind};
use hubbub_client::{Client, Config, Event, Events, JoinOptions, Limits, TokenSource, Via, Wire};
use hubbub_protocol::{Body, ChannelId, ChannelLetter, MessageId, Seq, UserId};
use hubbub_stack::Proxy;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    ledger::{Ledger, What},
    recorder::Recorder,
    wire::{WireLog, record_of},
};

/// What a writer may answer later; older ones are forgotten first.
const TO_ANSWER: usize = 8;
/// Closing says goodbye to a server that may be frozen.
const CLOSE: Duration = Duration::from_secs(5);

/// The bounds of the suite's clients. Shorter than the defaults where a default would make the
/// client's own patience the recovery time that is measured.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        // The edges of a run ping every 2 s.
        silence: Duration::from_secs(2),
        connect: Duration::from_secs(3),
        reply: Duration::from_secs(10),
        write: Duration::from_secs(10),
        backoff_cap: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// Who a device is, and how it connects.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `reader-3.2`
    pub name: String,
    /// Its user.
    pub user: UserId,
    /// The user's token.
    pub token: String,
}

/// What an application knows of its client.
#[derive(Debug, Default)]
struct State {
    /// The channels that it listens to or wants to, and its cursor in each.
    channels: HashMap<ChannelId, Option<Seq>>,
    /// Messages that came, for writers who answer.
    heard: Vec<(ChannelId, MessageId)>,
}

/// A device, its link and its client.
#[derive(Debug)]
pub struct Device {
    identity: Identity,
    /// One way in for each device, so that each can be cut alone.
    link: Arc<Proxy>,
    recorder: Recorder,
    ledger: Arc<Ledger>,
    wire: Arc<Mutex<WireLog>>,
    state: Arc<Mutex<State>>,
    client: watch::Sender<Client>,
    /// Told when nobody knows what became of a send.
    doubts: mpsc::Sender<()>,
    left: Arc<watch::Sender<u64>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Device {
    /// Starts connecting. The second value tells of sends of which nobody knows what
    /// became of them.
    #[must_use]
    pub fn start(
        identity: Identity,
        link: Arc<Proxy>,
        recorder: Recorder,
        ledger: Arc<Ledger>,
    ) -> (Arc<Self>, mpsc::Receiver<()>) {
        let wire = WireLog::new(identity.name.clone(), identity.user);
        let wire = Arc::new(Mutex::new(wire));
        // One is enough: it says that there is something, not how much.
        let (doubts, told) = mpsc::channel(1);
        let config = config(&identity, &link, &recorder, &wire, &doubts);
        let (client, events) = Client::start(config);
        let device = Arc::new(Self {
            identity,
            link,
            recorder,
            ledger,
            wire,
            state: Arc::default(),
            client: watch::Sender::new(client),
            doubts,
            left: Arc::new(watch::Sender::new(0)),
            tasks: Mutex::new(JoinSet::new()),
        });
        device.take_events(events);
        (device, told)
    }

    /// `reader-3.2`
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its user.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.identity.user
    }

    /// Its way in.
    #[must_use]
    pub fn link(&self) -> &Arc<Proxy> {
        &self.link
    }

    /// Its client of the moment.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Tells when the device has another client.
    #[must_use]
    pub fn clients(&self) -> watch::Receiver<Client> {
        self.client.subscribe()
    }

    /// Begins to listen; the events tell the rest.
    ///
    /// # Errors
    /// When the client has ended, which it may not while the run lasts.
    pub async fn join(&self, channel: ChannelId, since: Option<Seq>, ordered: bool) -> Result<()> {
        self.state.lock().channels.insert(channel, since);
        let options = JoinOptions { since, ordered };
        let joining = self.client();
        let joining = joining.start_join(channel, options);
        joining.await.with_context(|| self.ended())
    }

    /// Listens no more; returns when the server has said so, or the connection is gone.
    ///
    /// # Errors
    /// When the client has ended, which it may not while the run lasts.
    pub async fn leave(&self, channel: ChannelId) -> Result<()> {
        let left = self.wire.lock().leave(channel);
        self.recorder.record(left);
        let client = self.client();
        client.leave(channel).await.with_context(|| self.ended())?;
        // The client gives up a connection on which a reply is owed for so long, and does not
        // tell of a `leave` that was on it.
        let patience = limits().reply + limits().silence + limits().connect;
        if !self.wait_gone(channel, patience).await {
            let crossed = self.wire.lock().gone(channel);
            crossed
                .into_iter()
                .for_each(|left| self.recorder.record(left));
            self.state.lock().channels.remove(&channel);
        }
        Ok(())
    }

    /// Waits until the device does not listen to a channel any more; false: it still does.
    pub async fn wait_gone(&self, channel: ChannelId, limit: Duration) -> bool {
        let mut left = self.left.subscribe();
        let gone = async {
            while self.listens(channel) {
                if left.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout(limit, gone).await.is_ok()
    }

    /// Whether it listens to a channel, or wants to.
    #[must_use]
    pub fn listens(&self, channel: ChannelId) -> bool {
        self.state.lock().channels.contains_key(&channel)
    }

    /// The cursor in a channel: through there everything was given.
    #[must_use]
    pub fn cursor(&self, channel: ChannelId) -> Option<Seq> {
        self.state.lock().channels.get(&channel).copied().flatten()
    }

    /// The channels that it listens to, with its cursors.
    #[must_use]
    pub fn cursors(&self) -> Vec<(ChannelId, Option<Seq>)> {
        let state = self.state.lock();
        state.channels.iter().map(|(c, s)| (*c, *s)).collect()
    }

    /// Takes the newest message of somebody else that nobody has answered.
    #[must_use]
    pub fn take_heard(&self) -> Option<(ChannelId, MessageId)> {
        self.state.lock().heard.pop()
    }

    /// Ends the client as if the application had crashed, and starts another one that knows
    /// nothing. Only for devices that listen to nothing: cursors are not carried over.
    pub async fn crash(&self) {
        let old = self.client();
        // Past this the actor is as good as gone: its sends end with the client below.
        timeout(CLOSE, old.close()).await.ok();
        self.wire.lock().another_client();
        self.state.lock().channels.clear();
        let config = config(
            &self.identity,
            &self.link,
            &self.recorder,
            &self.wire,
            &self.doubts,
        );
        let (client, events) = Client::start(config);
        self.take_events(events);
        self.client.send_replace(client);
    }

    /// Says goodbye.
    pub async fn close(&self) {
        timeout(CLOSE, self.client().close()).await.ok();
    }

    fn ended(&self) -> String {
        format!("the client of {} has ended", self.name())
    }

    fn take_events(&self, mut events: Events) {
        let (name, user) = (self.identity.name.clone(), self.identity.user);
        let (recorder, ledger) = (self.recorder.clone(), Arc::clone(&self.ledger));
        let (wire, state) = (Arc::clone(&self.wire), Arc::clone(&self.state));
        let left = Arc::clone(&self.left);
        self.tasks.lock().spawn(async move {
            while let Some(event) = events.recv().await {
                let seen = on_event(&event, &name, user, &ledger, &wire, &state);
                if let Some(seen) = seen {
                    recorder.record(seen);
                }
                // Told only after it stands in the history.
                if let Event::Left { channel } | Event::JoinFailed { channel, .. } = event {
                    state.lock().channels.remove(&channel);
                    left.send_modify(|count| *count += 1);
                }
            }
        });
    }
}

fn config(
    identity: &Identity,
    link: &Proxy,
    recorder: &Recorder,
    wire: &Arc<Mutex<WireLog>>,
    doubts: &mpsc::Sender<()>,
) -> Config {
    let url = format!("ws://{}/ws", link.addr());
    let mut config = Config::new(url, TokenSource::Fixed(identity.token.clone()));
    config.device = identity.name.parse().ok();
    config.limits = limits();
    let (recorder, wire, doubts) = (recorder.clone(), Arc::clone(wire), doubts.clone());
    config.recorder = Some(Arc::new(move |seen: Wire<'_>| {
        let mut next_op = || recorder.next_op();
        let mut record = |event| {
            if let Seen::Unknown { .. } = event {
                // Full: it has been said.
                doubts.try_send(()).ok();
            }
            recorder.record(event);
        };
        wire.lock()
            .on(seen.connection, seen.event, &mut next_op, &mut record);
    }));
    config
}

/// Keeps the state, and says what belongs into the history.
fn on_event(
    event: &Event,
    name: &str,
    user: UserId,
    ledger: &Ledger,
    wire: &Mutex<WireLog>,
    state: &Mutex<State>,
) -> Option<Seen> {
    let device = || name.to_owned();
    match event {
        Event::Record { seq, body, via } => {
            let record = record_of(*seq, body);
            if let Body::Message { .. } = body
                && record.user != user
                && *via == Via::Live
            {
                let mut state = state.lock();
                if state.heard.len() >= TO_ANSWER {
                    state.heard.remove(0);
                }
                state.heard.push((record.channel, record.id));
            }
            let via = match via {
                Via::Live => hubbub_checker::history::Via::Live,
                Via::CatchUp => hubbub_checker::history::Via::CatchUp,
            };
            Some(Seen::Given {
                device: device(),
                record,
                via,
            })
        }
        Event::Reseq {
            channel,
            key,
            from,
            to,
        } => {
            // The client names the message alone; its text came with the frame before.
            let other = What {
                sum: 0,
                kind: Kind::Other,
            };
            let What { sum, kind } = ledger.what(key.message_id).unwrap_or(other);
            let record = hubbub_checker::history::Record {
                channel: *channel,
                seq: *to,
                user: key.user,
                id: key.message_id,
                sum,
                kind,
            };
            Some(Seen::Moved {
                device: device(),
                record,
                from: *from,
            })
        }
        Event::Joined(joined) => {
            let reply = &joined.reply;
            let mut state = state.lock();
            if let Some(cursor) = state.channels.get_mut(&reply.channel) {
                match (joined.since, reply.recovered) {
                    (Some(since), true) => *cursor = (*cursor).max(Some(since)),
                    _ => *cursor = reply.head.or(*cursor),
                }
            }
            None
        }
        // From here on it is a channel like those that the application has joined.
        Event::Direct(joined) => {
            state.lock().channels.insert(joined.channel, joined.head);
            None
        }
        Event::Receipt(receipt) if receipt.channel.letter == ChannelLetter::Direct => {
            Some(Seen::Status {
                device: device(),
                channel: receipt.channel,
                of: receipt.device.to_string(),
                delivered: receipt.delivered,
                read: receipt.read,
            })
        }
        Event::Synced { channel, seq } => {
            let mut state = state.lock();
            if let Some(cursor) = state.channels.get_mut(channel) {
                *cursor = (*cursor).max(Some(*seq));
            }
            None
        }
        // A join that failed for good ends the listening as a `leave` does: the client forgets
        // the channel, and another join may give again what was given above its cursor.
        Event::Left { channel } | Event::JoinFailed { channel, .. } => wire.lock().gone(*channel),
        _ => None,
    }
}
