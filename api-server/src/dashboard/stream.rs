//! One caller's stream of events (Server-Sent Events: WHATWG HTML, 9.2).

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream as Events;
use hubbub_chat::Error;
use hubbub_protocol::{
    ChannelId, UserId,
    events::{EventsGoodbye, LiveChannel, OfChannel},
    limits,
};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch as latest},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use warp::{
    Reply,
    http::{HeaderValue, header::CONTENT_TYPE},
    reply::Response,
};

use super::{
    Dashboard, Viewer,
    channels::{Attached, Touch},
    frames::Frame,
    parked::{Shown, VIEWS},
    view::View,
};
use crate::{context::Context, metrics::Event};

/// Without an event a comment is written so often. A proxy that has been told of the reader's end
/// (HAProxy, for one) hands it on when it cannot write any more, which it knows at the second
/// attempt: pods are to be quiet half a second after the last look.
const BEAT: Duration = Duration::from_millis(200);
/// A reader that takes nothing for so long loses the stream.
const SLOW: Duration = Duration::from_secs(10);
/// What a reader waits before it comes back.
const RETRY_MS: u64 = 1_000;
/// Records are gathered for a moment, so that one look at the membership is for all of them.
const GATHER: Duration = Duration::from_millis(20);
const RECORDS_EVERY: Duration = Duration::from_millis(100);
/// Who listens is asked at most so often, and again where not every pod has answered.
const LIVE_EVERY: Duration = Duration::from_millis(500);
const LIVE_AGAIN: Duration = Duration::from_secs(1);
/// And so long after something was said, whatever the counts say.
const LIVE_PERHAPS: Duration = Duration::from_secs(5);

/// What a caller has asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) user: UserId,
    pub(crate) top: usize,
    /// A channel that the caller belongs to.
    pub(crate) channel: Option<ChannelId>,
    /// The header `Last-Event-ID`.
    pub(crate) last_event: Option<String>,
    /// When the caller's token expires: the stream ends with it.
    pub(crate) until: Instant,
}

/// The response that hands on what a stream writes.
pub(crate) fn body() -> (mpsc::Sender<Bytes>, Response) {
    // One event: what is newer is put together when that one was taken.
    let (sender, receiver) = mpsc::channel(1);
    let mut response = warp::reply::stream(Body { receiver }).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    (sender, response)
}

struct Body {
    receiver: mpsc::Receiver<Bytes>,
}

impl Events for Body {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context).map(|event| event.map(Ok))
    }
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The reader went away.
    Gone,
    /// It took nothing for too long.
    Slow,
    /// The server drains.
    Drain,
    /// The token has expired.
    Expired,
}

/// What a stream waited for.
enum Due {
    End(End),
    Frame,
    News,
    Records,
    Live,
    Beat,
}

/// One caller's stream.
pub(crate) struct Stream {
    context: Arc<Context>,
    dashboard: Dashboard,
    viewer: Viewer,
    asked: Asked,
    sender: mpsc::Sender<Bytes>,
    stop: CancellationToken,
    frames: latest::Receiver<Option<Arc<Frame>>>,
    attached: Option<Attached>,
    /// After each of the last events; the reader has the newest, or one of these.
    shown: Shown,
    live: Option<Arc<LiveChannel>>,
    records_at: Option<Instant>,
    live_at: Option<Instant>,
    /// What was known of who listens before that is of no use.
    live_since: Instant,
    /// When records, and who listens, were written or asked for last.
    recorded: Instant,
    looked: Instant,
    written: Instant,
}

impl Stream {
    pub(crate) fn new(
        context: Arc<Context>,
        viewer: Viewer,
        asked: Asked,
        sender: mpsc::Sender<Bytes>,
    ) -> Self {
        let dashboard = viewer.dashboard.clone();
        let shared = &dashboard.shared;
        let attached = asked.channel.map(|channel| shared.channels.attach(channel));
        let mut frames = shared.frames.subscribe();
        // The one that is there may do.
        frames.mark_changed();
        let shown = dashboard.goes_on_after(&asked).into_iter().collect();
        let now = Instant::now();
        let long_ago = now.checked_sub(LIVE_AGAIN).unwrap_or(now);
        Self {
            stop: context.work.soft(),
            context,
            viewer,
            asked,
            sender,
            frames,
            attached,
            shown,
            live: None,
            records_at: None,
            live_at: None,
            live_since: now,
            recorded: long_ago,
            looked: long_ago,
            written: now,
            dashboard,
        }
    }

    /// Writes until the reader goes away, is too slow, or the server drains.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let end = match self.write(format!("retry: {RETRY_MS}\n\n").into()).await {
            Ok(()) => self.write_all().await,
            Err(end) => end,
        };
        if end == End::Drain {
            let goodbye = EventsGoodbye {
                reconnect_after_ms: rand::random_range(50..1_000),
            };
            let event = self.event("goodbye", &goodbye).1;
            // Where there is no room the end of the stream says the same.
            self.sender.try_send(event).ok();
        }
        tracing::debug!(user.id = %self.asked.user, ?end, "stream of the dashboard ended");
        let shown = std::mem::take(&mut self.shown);
        let mut parked = self.dashboard.shared.parked.lock();
        parked.park(self.asked.user, self.asked.top, shown);
        Ok(())
    }

    async fn write_all(&mut self) -> End {
        loop {
            let written = match self.due().await {
                Due::End(end) => return end,
                Due::Frame => self.write_frame().await,
                Due::News => {
                    self.on_news();
                    Ok(())
                }
                Due::Records => self.write_records().await,
                Due::Live => self.write_live().await,
                Due::Beat => self.write(Bytes::from_static(b":\n\n")).await,
            };
            if let Err(end) = written {
                return end;
            }
        }
    }

    /// Waits for: the drain, the end of the token, the end of the reader; a frame; something that
    /// passed in the channel; the time to write it, to ask who listens, or to give a sign of life.
    /// All are cancel-safe.
    async fn due(&mut self) -> Due {
        let news = async {
            match &self.attached {
                Some(attached) => attached.news().await,
                None => std::future::pending().await,
            }
        };
        let at = |at: Option<Instant>| async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => Due::End(End::Drain),
            () = sleep_until(self.asked.until) => Due::End(End::Expired),
            () = self.sender.closed() => Due::End(End::Gone),
            Ok(()) = self.frames.changed() => Due::Frame,
            () = news => Due::News,
            () = at(self.records_at) => Due::Records,
            () = at(self.live_at) => Due::Live,
            () = sleep_until(self.written + BEAT) => Due::Beat,
        }
    }

    /// Waits until the last event was taken.
    async fn room(&self) -> Result<mpsc::OwnedPermit<Bytes>, End> {
        let room = timeout(SLOW, self.sender.clone().reserve_owned());
        // Waits for room, at most for `SLOW`, or for the drain. Both are cancel-safe.
        tokio::select! {
            room = room => match room {
                Ok(Ok(room)) => Ok(room),
                Ok(Err(_)) => Err(End::Gone),
                Err(_) => {
                    self.dashboard.shared.metrics.event(Event::Slow);
                    Err(End::Slow)
                }
            },
            () = self.stop.cancelled() => Err(End::Drain),
        }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), End> {
        self.room().await?.send(bytes);
        self.written = Instant::now();
        Ok(())
    }

    /// An event with its number.
    fn event<T: Serialize>(&self, name: &str, data: &T) -> (u64, Bytes) {
        let data = serde_json::to_string(data).expect("an event has only string keys");
        let number = self.dashboard.next_event();
        (number, Bytes::from(self.encoded(number, name, &data)))
    }

    fn encoded(&self, number: u64, name: &str, data: &str) -> String {
        let instance = self.dashboard.instance();
        format!("id: {instance}-{number}\nevent: {name}\ndata: {data}\n\n")
    }

    /// Room comes first: what is written then is as new as it can be.
    async fn write_frame(&mut self) -> Result<(), End> {
        let room = self.room().await?;
        let Some(frame) = self.frames.borrow_and_update().clone() else {
            return Ok(());
        };
        if frame.newest < self.viewer.number || !frame.is_believed() {
            return Ok(());
        }
        let view = View::of(&frame, self.asked.user, self.asked.top);
        let metrics = &self.dashboard.shared.metrics;
        let (number, event) = match self.shown.back() {
            None => {
                metrics.event(Event::Snapshot);
                self.event("snapshot", &view.snapshot(frame.at_ms))
            }
            Some((_, before)) => {
                let Some(change) = view.change(before, frame.at_ms) else {
                    return Ok(());
                };
                metrics.event(Event::Change);
                self.event("change", &change)
            }
        };
        room.send(event);
        self.written = Instant::now();
        self.shown.push_back((number, Arc::new(view)));
        if self.shown.len() > VIEWS {
            self.shown.pop_front();
        }
        Ok(())
    }

    fn on_news(&mut self) {
        let now = Instant::now();
        let records_at = (now + GATHER).max(self.recorded + RECORDS_EVERY);
        self.records_at.get_or_insert(records_at);
    }

    /// Writes what has passed, if the caller still belongs to the channel: it is asked of the
    /// primary after it has passed, so that a removal that was answered holds (contract P8).
    async fn write_records(&mut self) -> Result<(), End> {
        self.records_at = None;
        let room = self.room().await?;
        let Some(attached) = &self.attached else {
            return Ok(());
        };
        let passed = attached.take();
        self.recorded = Instant::now();
        if let Some(touch) = passed.touched {
            self.live_since = self.recorded;
            let at = match touch {
                Touch::Surely => self.recorded.max(self.looked + LIVE_EVERY),
                Touch::Perhaps => self.recorded.max(self.looked + LIVE_PERHAPS),
            };
            self.live_at = Some(self.live_at.map_or(at, |before| before.min(at)));
        }
        if passed.records.is_empty() && !passed.missed {
            return Ok(());
        }
        let channel = attached.channel();
        match self.context.chat.permit(channel, self.asked.user).await {
            Ok(_) => {}
            Err(Error::ChannelNotFound) => return self.leave(room),
            Err(error) => {
                tracing::debug!(%error, "ask who may see a channel's records");
                attached.miss();
                self.records_at = Some(Instant::now() + LIVE_AGAIN);
                return Ok(());
            }
        }
        let mut text = String::new();
        if passed.missed {
            self.dashboard.shared.metrics.event(Event::Missed);
            let data = serde_json::to_string(&OfChannel { channel }).expect("string keys");
            text.push_str(&self.encoded(self.dashboard.next_event(), "missed", &data));
        }
        for record in &passed.records {
            self.dashboard.shared.metrics.event(Event::Record);
            let data = std::str::from_utf8(record).unwrap_or_default();
            text.push_str(&self.encoded(self.dashboard.next_event(), "record", data));
        }
        room.send(Bytes::from(text));
        self.written = Instant::now();
        Ok(())
    }

    /// The caller is no member any more.
    fn leave(&mut self, room: mpsc::OwnedPermit<Bytes>) -> Result<(), End> {
        if let Some(attached) = self.attached.take() {
            let channel = attached.channel();
            room.send(self.event("left", &OfChannel { channel }).1);
            self.written = Instant::now();
        }
        (self.live, self.live_at, self.records_at) = (None, None, None);
        Ok(())
    }

    /// Asks who listens, and writes it where it is not what was written last.
    async fn write_live(&mut self) -> Result<(), End> {
        self.live_at = None;
        let room = self.room().await?;
        let Some(attached) = &self.attached else {
            return Ok(());
        };
        let (channel, look) = (attached.channel(), attached.look());
        self.looked = Instant::now();
        let ask = ask_who_listens(&self.context, channel);
        let Some(live) = look.at(self.live_since, ask).await else {
            self.look_again();
            return Ok(());
        };
        match self.context.chat.permit(channel, self.asked.user).await {
            Ok(_) => {}
            Err(Error::ChannelNotFound) => return self.leave(room),
            Err(error) => {
                tracing::debug!(%error, "ask who may see who listens");
                self.look_again();
                return Ok(());
            }
        }
        if !live.complete {
            self.look_again();
        }
        if self.live.as_ref() != Some(&live) {
            self.dashboard.shared.metrics.event(Event::Live);
            room.send(self.event("live", &*live).1);
            self.written = Instant::now();
            self.live = Some(live);
        }
        Ok(())
    }

    fn look_again(&mut self) {
        self.live_since = Instant::now();
        self.live_at = Some(self.live_since + LIVE_AGAIN);
    }
}

/// Who listens, cut to what is shown; `None` if the pods could not be asked.
async fn ask_who_listens(context: &Context, channel: ChannelId) -> Option<LiveChannel> {
    let asked = context.chat.who(&context.asker, channel).await;
    let listeners = asked
        .inspect_err(|error| tracing::debug!(%error, "ask who listens to a channel"))
        .ok()?;
    let more = listeners.users.len().saturating_sub(limits::DASHBOARD_ROWS);
    let mut live = LiveChannel {
        channel,
        listeners: listeners.users,
        more: more as u64,
        complete: listeners.complete,
        missing: listeners.missing,
    };
    live.listeners.truncate(limits::DASHBOARD_ROWS);
    live.listeners.shrink_to_fit();
    live.missing.truncate(limits::DASHBOARD_ROWS);
    Some(live)
}

impl Dashboard {
    /// Names this process in the ids of events.
    fn instance(&self) -> String {
        let mut id = self.shared.watcher.simple().to_string();
        id.truncate(12);
        id
    }

    /// What the caller had been shown after the event that they name, if that is still known.
    fn goes_on_after(&self, asked: &Asked) -> Option<(u64, Arc<View>)> {
        let (instance, number) = asked.last_event.as_ref()?.rsplit_once('-')?;
        let number = number.parse().ok()?;
        if instance != self.instance() {
            return None;
        }
        let mut parked = self.shared.parked.lock();
        let view = parked.take(asked.user, asked.top, number)?;
        Some((number, view))
    }
}
