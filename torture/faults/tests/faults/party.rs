//! A small system with devices that talk all the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use hubbub_checker::Event;
use hubbub_client::{
    Client, Config, Event as Heard, Http, JoinOptions, TokenSource, Wire, WireEvent,
};
use hubbub_faults::{Ground, Seen};
use hubbub_protocol::{Body, ChannelId, UserId, http::NewChannel};
use hubbub_stack::{Options, Stack};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

const READERS: [&str; 7] = [
    "Mary", "Mike", "Frank", "Sonia", "Charlie", "Rowan", "Victoria",
];
/// Channels in which nobody listens.
const BESIDE: usize = 12;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Party {
    pub(crate) ground: Arc<Ground>,
    writer: Client,
    channel: ChannelId,
    readers: Vec<Client>,
    heard: broadcast::Sender<String>,
    _tasks: JoinSet<()>,
}

impl Party {
    pub(crate) async fn start() -> Result<Self> {
        let mut options = Options::for_test()?;
        options.links = true;
        options.haproxies = 2;
        options.edges = 2;
        options.apis = 1;
        options.consumers = 2;
        options.spare_consumers = 1;
        options.shards = 1;
        for (key, value) in [
            ("HUBBUB_SEND_RATE", "100000"),
            ("HUBBUB_SEND_BURST", "100000"),
            ("HUBBUB_FRAME_RATE", "100000"),
            ("HUBBUB_FRAME_BURST", "100000"),
            ("HUBBUB_SESSION_TIMEOUT_MS", "3000"),
            ("HUBBUB_HEARTBEAT_MS", "1000"),
            ("HUBBUB_SOCKET_HEARTBEAT_MS", "2000"),
            ("HUBBUB_DRAIN_DELAY_MS", "100"),
            // An outbox feels a slow reader before megabytes are in the kernel.
            ("HUBBUB_SEND_BUFFER_BYTES", "32768"),
        ] {
            options.env.push((key.to_owned(), value.to_owned()));
        }
        let stack = Arc::new(Stack::start(options).await?);
        let secret = std::fs::read(stack.token_secret_path())?;
        let http = Http::new(
            &stack.front_url(),
            TokenSource::Fixed(token(&secret, "John")?),
        )?;
        let channel = http.channel_by_name("Maths").await?.context("no Maths")?.id;
        // Each consumer has some of them, whichever of the partitions came to it.
        let mut beside = Vec::new();
        for n in 0..BESIDE {
            let new = NewChannel {
                name: format!("beside {n}"),
                kind: None,
            };
            beside.push(http.create_channel(&new).await?.id);
        }
        let seen = Arc::new(Seen::default());
        let (heard, _) = broadcast::channel(1_024);
        let mut tasks = JoinSet::new();
        let (mut clients, mut readers) = (Vec::new(), Vec::new());
        for user in ["John"].iter().chain(&READERS) {
            let device = format!("{user}.1");
            let link = Arc::new(stack.client_link()?);
            let mut config = Config::new(
                format!("ws://{}/ws", link.addr()),
                TokenSource::Fixed(token(&secret, user)?),
            );
            config.limits.silence = Duration::from_secs(2);
            config.limits.backoff_first = Duration::from_millis(50);
            config.limits.backoff_cap = Duration::from_secs(1);
            let recorder = Recorder::new(&device, &seen);
            config.recorder = Some(Arc::new(move |wire: Wire<'_>| recorder.take(&wire)));
            let (client, mut events) = Client::start(config);
            let sink = heard.clone();
            tasks.spawn(async move {
                while let Some(event) = events.recv().await {
                    if let Heard::Record {
                        body: Body::Message { text, .. },
                        ..
                    } = event
                    {
                        // Nobody listens most of the time.
                        sink.send(format!("{device} {text}")).ok();
                    }
                }
            });
            timeout(PATIENCE, client.join(channel, JoinOptions::default())).await??;
            clients.push((format!("{user}.1"), link));
            readers.push(client);
        }
        let writer = readers.remove(0);
        let (burst, slow) = watch::channel(Vec::new());
        tasks.spawn(talk(writer.clone(), channel, beside, slow));
        let ground = Ground {
            stack,
            clients,
            burst,
            seen,
        };
        Ok(Self {
            ground: Arc::new(ground),
            writer,
            channel,
            readers,
            heard,
            _tasks: tasks,
        })
    }

    /// The names of all edges, consumers and API servers that run.
    pub(crate) fn services(&self) -> String {
        let stack = &self.ground.stack;
        let all = stack
            .edges()
            .iter()
            .chain(stack.consumers())
            .chain(stack.apis());
        all.map(|service| service.name())
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) async fn everybody_hears(&self) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let text = format!("hear, hear {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut heard = self.heard.subscribe();
        let mut missing: Vec<String> = READERS
            .iter()
            .map(|user| format!("{user}.1 {text}"))
            .collect();
        let sent = self.writer.send(self.channel, text.clone())?;
        timeout(PATIENCE, sent.wait())
            .await
            .context("the send is answered")??;
        let all = timeout(PATIENCE, async {
            while !missing.is_empty() {
                match heard.recv().await {
                    Ok(line) => missing.retain(|wanted| *wanted != line),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => break,
                }
            }
        });
        ensure!(all.await.is_ok(), "not heard: {missing:?}");
        Ok(())
    }

    pub(crate) async fn stop(self) -> Result<()> {
        drop(self._tasks);
        for client in self.readers.iter().chain([&self.writer]) {
            client.close().await;
        }
        let stack = Arc::clone(&self.ground.stack);
        drop(self.ground);
        let stack = Arc::into_inner(stack).context("somebody still has the stack")?;
        stack.stop().await;
        Ok(())
    }
}

/// Tokens hold for servers whose clock is an hour off.
fn token(secret: &[u8], user: &str) -> Result<String> {
    let issued_s = hubbub_service::wall_clock_ms() / 1_000 - 2 * 3_600;
    hubbub_service::token::mint(secret, "hubbub", "hubbub", user, None, issued_s, 6 * 3_600)
}

/// About fifty short messages a second; a hundred long ones while somebody is slow.
async fn talk(
    writer: Client,
    channel: ChannelId,
    beside: Vec<ChannelId>,
    slow: watch::Receiver<Vec<String>>,
) {
    let long = "x".repeat(2_000);
    for n in 0_usize.. {
        let burst = !slow.borrow().is_empty();
        let text = if burst {
            format!("{n} {long}")
        } else {
            format!("message {n}")
        };
        // What is refused, because too much waits already, is not said.
        writer.send(channel, text).map(drop).ok();
        let other = beside[n % beside.len()];
        writer.send(other, format!("aside {n}")).map(drop).ok();
        sleep(Duration::from_millis(if burst { 8 } else { 20 })).await;
    }
}

/// Shows what is on the wire to [`Seen`], as the recorder of the suite does.
struct Recorder {
    device: String,
    seen: Arc<Seen>,
    opened: Mutex<bool>,
}

impl Recorder {
    fn new(device: &str, seen: &Arc<Seen>) -> Self {
        Self {
            device: device.to_owned(),
            seen: Arc::clone(seen),
            opened: Mutex::new(false),
        }
    }

    fn take(&self, wire: &Wire<'_>) {
        let (device, connection) = (self.device.clone(), wire.connection);
        let event = match wire.event {
            WireEvent::In(text) if text.contains("\"type\":\"hello\"") => {
                *self.opened.lock() = true;
                let hello: serde_json::Value = serde_json::from_str(text).expect("a frame is JSON");
                Event::Opened {
                    device,
                    user: UserId::new(1).expect("above 0"),
                    connection,
                    pod: hello["pod"].as_str().expect("hello has a pod").to_owned(),
                }
            }
            WireEvent::In(text) if text.contains("\"outcome\":\"unknown\"") => Event::Unknown {
                op: 0,
                code: "timeout".to_owned(),
            },
            WireEvent::Closed(code) if std::mem::take(&mut *self.opened.lock()) => Event::Closed {
                device,
                connection,
                code,
            },
            _ => return,
        };
        self.seen.note(&event);
    }
}
