//! The impairment core over real sockets: a relay that stands for a node's address.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::{Decision, Impairment, ImpairmentConfig, ImpairmentStats};

/// Sources that may send through a relay at one time; each has a socket. A mesh for tests has a handful of nodes.
const MAX_FLOWS: usize = 64;

/// Datagrams under way in one direction; what a 1 Gbit/s path of 80 ms holds. More are dropped: a relay is for tests.
const MAX_UNDER_WAY: usize = 8192;

/// Largest UDP datagram.
const MAX_DATAGRAM: usize = 65_535;

/// What a relay stands for.
#[derive(Debug, Clone, Copy)]
pub struct RelayConfig {
    /// Where to listen: what the diallers take for the node.
    pub listen: SocketAddr,
    /// Where the node really is.
    pub target: SocketAddr,
    /// The path to the node.
    pub forward: ImpairmentConfig,
    /// The path back.
    pub backward: ImpairmentConfig,
    /// Decides what gets lost.
    pub seed: u64,
}

/// A running relay; it ends when dropped.
#[derive(Debug)]
pub struct UdpRelay {
    local_addr: SocketAddr,
    forward: Arc<Mutex<Impairment>>,
    backward: Arc<Mutex<Impairment>>,
    _stop: DropGuard,
}

impl UdpRelay {
    /// Starts relaying. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn spawn(config: RelayConfig) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(config.listen).await?);
        let local_addr = socket.local_addr()?;
        let stop = CancellationToken::new();
        let forward = Arc::new(Mutex::new(Impairment::new(config.forward, config.seed)));
        let backward = Arc::new(Mutex::new(Impairment::new(config.backward, config.seed.wrapping_add(1))));
        let flows = Flows {
            listen: socket,
            target: config.target,
            forward: Direction::spawn(forward.clone(), &stop),
            backward: Direction::spawn(backward.clone(), &stop),
            upstreams: FxHashMap::default(),
            stop: stop.clone(),
        };
        let cancelled = stop.clone();
        tokio::spawn(async move { cancelled.run_until_cancelled(flows.run()).await });
        Ok(Self { local_addr, forward, backward, _stop: stop.drop_guard() })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Changes the path to the node, from the next packet on.
    pub fn set_forward(&self, config: ImpairmentConfig) {
        lock(&self.forward).set_config(config);
    }

    /// Changes the path back, from the next packet on.
    pub fn set_backward(&self, config: ImpairmentConfig) {
        lock(&self.backward).set_config(config);
    }

    /// What happened on the path to the node.
    pub fn forward_stats(&self) -> ImpairmentStats {
        lock(&self.forward).stats()
    }

    /// What happened on the path back.
    pub fn backward_stats(&self) -> ImpairmentStats {
        lock(&self.backward).stats()
    }
}

fn lock(path: &Mutex<Impairment>) -> std::sync::MutexGuard<'_, Impairment> {
    path.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::disallowed_methods, reason = "the relay's driver is what reads the clock for the core")]
fn clock() -> Instant {
    Instant::now()
}

/// Sources and their sockets towards the target.
struct Flows {
    listen: Arc<UdpSocket>,
    target: SocketAddr,
    forward: Direction,
    backward: Direction,
    upstreams: FxHashMap<SocketAddr, Arc<UdpSocket>>,
    stop: CancellationToken,
}

impl Flows {
    async fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            // An error is one of another datagram (ICMP port unreachable); the socket lives on.
            let Ok((len, source)) = self.listen.recv_from(&mut buffer).await else { continue };
            let Some(data) = buffer.get(..len) else { continue };
            match self.upstream(source).await {
                Ok(Some(upstream)) => self.forward.submit(data, upstream, self.target),
                Ok(None) => debug!(%source, "relay has too many flows"),
                Err(error) => debug!(%source, %error, "relay cannot open a socket"),
            }
        }
    }

    async fn upstream(&mut self, source: SocketAddr) -> io::Result<Option<Arc<UdpSocket>>> {
        if let Some(upstream) = self.upstreams.get(&source) {
            return Ok(Some(upstream.clone()));
        }
        if self.upstreams.len() >= MAX_FLOWS {
            return Ok(None);
        }
        let any: SocketAddr = match self.target {
            SocketAddr::V4(target) if target.ip().is_loopback() => ([127, 0, 0, 1], 0).into(),
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let upstream = Arc::new(UdpSocket::bind(any).await?);
        self.upstreams.insert(source, upstream.clone());
        let back =
            Back { upstream: upstream.clone(), listen: self.listen.clone(), source, direction: self.backward.clone() };
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(back.run()).await });
        Ok(Some(upstream))
    }
}

/// The way back of one source.
struct Back {
    upstream: Arc<UdpSocket>,
    listen: Arc<UdpSocket>,
    source: SocketAddr,
    direction: Direction,
}

impl Back {
    async fn run(self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let Ok((len, _)) = self.upstream.recv_from(&mut buffer).await else { continue };
            if let Some(data) = buffer.get(..len) {
                self.direction.submit(data, self.listen.clone(), self.source);
            }
        }
    }
}

/// One direction: decides, and hands over to the task that waits.
#[derive(Clone)]
struct Direction {
    path: Arc<Mutex<Impairment>>,
    under_way: mpsc::Sender<UnderWay>,
}

impl Direction {
    fn spawn(path: Arc<Mutex<Impairment>>, stop: &CancellationToken) -> Self {
        let (under_way, queue) = mpsc::channel(MAX_UNDER_WAY);
        let stop = stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(deliver(queue)).await });
        Self { path, under_way }
    }

    fn submit(&self, data: &[u8], via: Arc<UdpSocket>, to: SocketAddr) {
        let Decision::Deliver { at, again } = lock(&self.path).submit(clock(), data.len()) else { return };
        for at in [Some(at), again].into_iter().flatten() {
            let datagram = UnderWay { at, order: 0, data: data.to_vec(), via: via.clone(), to };
            // Full: the relay cannot keep up and loses the packet, as a path does.
            if self.under_way.try_send(datagram).is_err() {
                debug!("relay is overloaded");
            }
        }
    }
}

struct UnderWay {
    at: Instant,
    /// Of entry, among those that arrive at the same time.
    order: u64,
    data: Vec<u8>,
    via: Arc<UdpSocket>,
    to: SocketAddr,
}

impl UnderWay {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.order)
    }
}

impl Ord for UnderWay {
    /// The earliest is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UnderWay {}

async fn deliver(mut queue: mpsc::Receiver<UnderWay>) {
    let mut heap: BinaryHeap<UnderWay> = BinaryHeap::new();
    let mut order = 0;
    loop {
        let next = heap.peek().map(|datagram| datagram.at);
        let wait = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            datagram = queue.recv(), if heap.len() < MAX_UNDER_WAY => {
                let Some(datagram) = datagram else { return };
                order += 1;
                heap.push(UnderWay { order, ..datagram });
            }
            () = wait => {}
        }
        // tokio's timers are a millisecond coarse: what is due within half of one goes now.
        let due = clock() + Duration::from_micros(500);
        while heap.peek().is_some_and(|datagram| datagram.at <= due) {
            let Some(datagram) = heap.pop() else { break };
            // An unreachable receiver is a loss on the path.
            let _ = datagram.via.send_to(&datagram.data, datagram.to).await;
        }
    }
}
