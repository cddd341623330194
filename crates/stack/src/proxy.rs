//! A TCP proxy between any two parts that cuts, delays and heals on command.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// One read's size. With [`QUEUE`] it bounds what the proxy itself holds: 256 KiB a direction.
const CHUNK: usize = 16 * 1024;
/// Chunks on their way through a delay.
const QUEUE: usize = 16;
/// A bandwidth limit is kept by writing this often.
const SLICES_PER_SECOND: u64 = 20;
const CONNECT: Duration = Duration::from_secs(2);

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the side that connected to the side that listens.
    ToServer,
    /// The other way.
    ToClient,
    /// Both ways.
    Both,
}

/// What the link does at the moment.
#[derive(Debug, Clone, Default)]
struct Link {
    /// New connections are closed at once.
    refusing: bool,
    /// Bytes towards the server, towards the client: held, as by a network that drops packets.
    holding: [bool; 2],
    delay: Duration,
    bytes_per_second: Option<u64>,
    /// A change cuts every connection that was made before it.
    cuts: u64,
}

/// A link to `upstream`. New conditions hold for connections that are open, too. Dropping the
/// proxy cuts everything; it must be made within a runtime and lives no longer than that.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    link: watch::Sender<Link>,
    open: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (link, conditions) = watch::channel(Link::default());
        let open = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, conditions, Arc::clone(&open)));
        Ok(Self {
            addr,
            link,
            open,
            _tasks: tasks,
        })
    }

    /// Where to connect instead of upstream.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Resets every open connection. New ones are still taken.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.cuts += 1);
    }

    /// Resets every open connection and closes every new one, until [`Proxy::heal`].
    pub fn go_down(&self) {
        self.link.send_modify(|link| {
            link.cuts += 1;
            link.refusing = true;
        });
    }

    /// Forwards nothing in a direction, without closing anything, until [`Proxy::heal`]. What was
    /// sent meanwhile then arrives late, as it does when TCP repeats lost packets.
    pub fn black_hole(&self, direction: Direction) {
        self.link.send_modify(|link| {
            link.holding[0] |= direction != Direction::ToClient;
            link.holding[1] |= direction != Direction::ToServer;
        });
    }

    /// Adds this much to each way.
    pub fn delay(&self, delay: Duration) {
        self.link.send_modify(|link| link.delay = delay);
    }

    /// Limits each way of each connection.
    pub fn limit_bandwidth(&self, bytes_per_second: u64) {
        let limit = Some(bytes_per_second.max(1));
        self.link.send_modify(|link| link.bytes_per_second = limit);
    }

    /// Back to a plain link.
    pub fn heal(&self) {
        self.link.send_modify(|link| {
            *link = Link {
                cuts: link.cuts,
                ..Link::default()
            };
        });
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    link: watch::Receiver<Link>,
    open: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        // An accept may fail for want of descriptors, which passes.
        let Ok((client, _)) = listener.accept().await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if link.borrow().refusing {
            client.set_zero_linger().ok();
            continue;
        }
        let guard = OpenGuard::new(&open);
        let link = link.clone();
        connections.spawn(async move {
            forward(client, upstream, link).await;
            drop(guard);
        });
    }
}

struct OpenGuard(Arc<AtomicUsize>);

impl OpenGuard {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries one connection until both ways are at their end, an error, or a cut.
async fn forward(mut client: TcpStream, upstream: SocketAddr, mut link: watch::Receiver<Link>) {
    let cuts = link.borrow().cuts;
    let Ok(Ok(mut server)) = timeout(CONNECT, TcpStream::connect(upstream)).await else {
        client.set_zero_linger().ok();
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (to_server, to_client) = (link.clone(), link.clone());
    let orderly = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let both = async {
            tokio::try_join!(
                pump(client_read, server_write, 0, to_server),
                pump(server_read, client_write, 1, to_client)
            )
        };
        // Waits for: the end of both ways; a cut, or the end of the proxy.
        tokio::select! {
            ended = both => ended.is_ok(),
            _ = link.wait_for(|link| link.cuts != cuts) => false,
        }
    };
    if !orderly {
        client.set_zero_linger().ok();
        server.set_zero_linger().ok();
    }
}

/// One way of a connection: a reader that stamps chunks with the time of their delivery, and a
/// writer that waits for it.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: usize,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let mut reader_link = link.clone();
    let read = async move {
        loop {
            until_open(&mut reader_link, way).await;
            let mut chunk = vec![0; CHUNK];
            let n = from.read(&mut chunk).await?;
            chunk.truncate(n);
            let at = Instant::now() + reader_link.borrow().delay;
            if n == 0 || queue.send((at, chunk)).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async {
        while let Some((at, chunk)) = due.recv().await {
            sleep_until(at).await;
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                until_open(&mut link, way).await;
                let rate = link.borrow().bytes_per_second;
                let slice = rate.map_or(rest.len(), |rate| slice_len(rate).min(rest.len()));
                to.write_all(&rest[..slice]).await?;
                rest = &rest[slice..];
                if let Some(rate) = rate {
                    sleep(Duration::from_secs_f64(slice as f64 / rate as f64)).await;
                }
            }
        }
        until_open(&mut link, way).await;
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}

fn slice_len(rate: u64) -> usize {
    usize::try_from(rate / SLICES_PER_SECOND).map_or(CHUNK, |n| n.clamp(1, CHUNK))
}

/// Waits while bytes that way are held.
async fn until_open(link: &mut watch::Receiver<Link>, way: usize) {
    // The sender is gone only when the proxy is, and then this task is about to be aborted.
    link.wait_for(|link| !link.holding[way])
        .await
        .map(drop)
        .ok();
}
