//! A TCP proxy between any two parts that cuts, tears, silences, delays and heals on command.

mod carry;
mod pump;

use carry::carry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Connections that the kernel takes before the proxy does.
const BACKLOG: u32 = 1024;
/// Pause when no connection can be taken for want of descriptors.
const PAUSE: Duration = Duration::from_millis(20);

/// Threads that carry all proxies of this process.
const THREADS: usize = 2;

/// A runtime apart for the links: one that also has thousands of busy tasks would add its queue to
/// every hop, and a transaction of ten round trips would take a second.
static LINKS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("proxy")
        .enable_all()
        .build()
});

fn links() -> io::Result<&'static Handle> {
    match &*LINKS {
        Ok(runtime) => Ok(runtime.handle()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

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

/// What the link does at the moment. What is counted holds for the connections that were made
/// before the count went up.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    /// New connections are closed at once.
    refusing: bool,
    /// Bytes towards the server, towards the client: held, as by a network that drops packets.
    holding: [bool; 2],
    delay: Duration,
    bytes_per_second: Option<u64>,
    /// Connections are reset.
    cuts: u64,
    /// Connections are abandoned.
    silences: u64,
    /// Connections may carry so many more bytes towards the client.
    tears: u64,
    tear_after: Option<u64>,
}

impl Conditions {
    /// Whether a connection that was `made` under those is cut or silenced by now.
    fn ends(&self, made: &Self) -> bool {
        self.cuts != made.cuts || self.silences != made.silences
    }
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicUsize,
    cut: AtomicU64,
    silenced: AtomicU64,
    refused: AtomicU64,
    forwarded: [AtomicU64; 2],
}

/// Where connections lead and how.
#[derive(Debug)]
struct Route {
    /// Tried in this order.
    upstreams: Vec<SocketAddr>,
    /// Size of the kernel's buffers on both sides; its own choice (megabytes) if absent.
    buffer_bytes: Option<u32>,
}

/// A link to one server, or to the first of several that takes the connection. New conditions hold
/// for connections that are open, too. Dropping the proxy cuts everything. It has threads of its
/// own, which all proxies of the process share.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    route: Arc<Route>,
    conditions: watch::Sender<Conditions>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_many(vec![upstream])
    }

    /// Listens on a free loopback port. Every connection goes to the first of `upstreams` that
    /// takes it, as with a virtual address.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start_many(upstreams: Vec<SocketAddr>) -> io::Result<Self> {
        Self::listen(upstreams, None)
    }

    /// [`Proxy::start_many`] whose kernel buffers have this size, so that the one end feels soon
    /// that the other is slow.
    pub(crate) fn with_buffers(upstreams: Vec<SocketAddr>, bytes: u32) -> io::Result<Self> {
        Self::listen(upstreams, Some(bytes))
    }

    fn listen(upstreams: Vec<SocketAddr>, buffer_bytes: Option<u32>) -> io::Result<Self> {
        let links = links()?;
        let listener = {
            let _there = links.enter();
            let socket = TcpSocket::new_v4()?;
            carry::set_buffers(&socket, buffer_bytes)?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            socket.listen(BACKLOG)?
        };
        let addr = listener.local_addr()?;
        let (conditions, seen) = watch::channel(Conditions::default());
        let counters = Arc::<Counters>::default();
        let route = Arc::new(Route {
            upstreams,
            buffer_bytes,
        });
        let mut tasks = JoinSet::new();
        let accepting = accept(listener, Arc::clone(&route), seen, Arc::clone(&counters));
        tasks.spawn_on(accepting, links);
        Ok(Self {
            addr,
            route,
            conditions,
            counters,
            _tasks: tasks,
        })
    }

    /// Where to connect instead of upstream.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where connections lead.
    #[must_use]
    pub fn upstreams(&self) -> &[SocketAddr] {
        &self.route.upstreams
    }

    /// Connections that are open now, silenced ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Open connections that the proxy has reset so far: cut or torn.
    #[must_use]
    pub fn connections_cut(&self) -> u64 {
        self.counters.cut.load(Ordering::SeqCst)
    }

    /// Open connections that [`Proxy::go_silent`] has abandoned so far.
    #[must_use]
    pub fn connections_silenced(&self) -> u64 {
        self.counters.silenced.load(Ordering::SeqCst)
    }

    /// New connections that were closed at once so far, because the link was down.
    #[must_use]
    pub fn connections_refused(&self) -> u64 {
        self.counters.refused.load(Ordering::SeqCst)
    }

    /// Bytes handed on so far: towards the server, towards the client.
    #[must_use]
    pub fn forwarded(&self) -> [u64; 2] {
        let [to_server, to_client] = &self.counters.forwarded;
        [to_server, to_client].map(|bytes| bytes.load(Ordering::SeqCst))
    }

    /// Resets every open connection (a real RST on both sides). New ones are still taken.
    pub fn cut(&self) {
        self.conditions.send_modify(|now| now.cuts += 1);
    }

    /// Lets so many more bytes towards the client pass on each open connection, then resets it,
    /// which tears a frame. A connection that carries less than that stays open; [`Proxy::heal`]
    /// spares those that are not torn yet.
    pub fn tear_after(&self, bytes: u64) {
        if bytes == 0 {
            return self.cut();
        }
        self.conditions.send_modify(|now| {
            now.tears += 1;
            now.tear_after = Some(bytes);
        });
    }

    /// From now on the open connections carry nothing, not even their end, and the proxy never
    /// closes them: what either side sees when the other vanished. Only [`Proxy::cut`] or the end
    /// of the proxy ends them; [`Proxy::heal`] does not. New connections work.
    pub fn go_silent(&self) {
        self.conditions.send_modify(|now| now.silences += 1);
    }

    /// Resets every open connection and closes every new one, until [`Proxy::heal`].
    pub fn go_down(&self) {
        self.conditions.send_modify(|now| {
            now.cuts += 1;
            now.refusing = true;
        });
    }

    /// Forwards nothing in a direction, without closing anything, until [`Proxy::heal`]. What was
    /// sent meanwhile then arrives late, as it does when TCP repeats lost packets.
    pub fn black_hole(&self, direction: Direction) {
        self.conditions.send_modify(|now| {
            now.holding[0] |= direction != Direction::ToClient;
            now.holding[1] |= direction != Direction::ToServer;
        });
    }

    /// Adds this much to each way.
    pub fn delay(&self, delay: Duration) {
        self.conditions.send_modify(|now| now.delay = delay);
    }

    /// Limits each way of each connection.
    pub fn limit_bandwidth(&self, bytes_per_second: u64) {
        let limit = Some(bytes_per_second.max(1));
        self.conditions
            .send_modify(|now| now.bytes_per_second = limit);
    }

    /// Back to a plain link.
    pub fn heal(&self) {
        self.conditions.send_modify(|now| {
            *now = Conditions {
                cuts: now.cuts,
                silences: now.silences,
                tears: now.tears + 1,
                ..Conditions::default()
            };
        });
    }
}

async fn accept(
    listener: TcpListener,
    route: Arc<Route>,
    conditions: watch::Receiver<Conditions>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    loop {
        // An accept may fail for want of descriptors, which passes.
        let Ok((client, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if conditions.borrow().refusing {
            client.set_zero_linger().ok();
            counters.refused.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let (route, counters) = (Arc::clone(&route), Arc::clone(&counters));
        connections.spawn(carry(client, route, conditions.clone(), counters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    /// How much a server can write to a client that reads nothing.
    async fn taken_by(proxy: impl Fn(SocketAddr) -> io::Result<Proxy>) -> usize {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = proxy(listener.local_addr().unwrap()).unwrap();
        let _client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let mut taken = 0;
        while let Ok(ready) = timeout(Duration::from_secs(1), server.writable()).await {
            ready.unwrap();
            taken += server.try_write(&[0; 4096]).unwrap_or(0);
        }
        taken
    }

    /// The client's own receive buffer (128 KiB) and the server's send buffer, which grows, take
    /// their share; the rest is ours.
    #[tokio::test]
    async fn small_buffers_let_the_server_feel_a_slow_client() {
        let small = taken_by(|to| Proxy::with_buffers(vec![to], 32 * 1024)).await;
        let large = taken_by(|to| Proxy::listen(vec![to], None)).await;
        assert!(small + 1024 * 1024 < large, "{small} and {large}");
    }
}
