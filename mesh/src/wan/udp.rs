//! Datagrams: a relay that stands for a node's address.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::relay::{RelayConfig, clock};
use super::socket::{BatchSocket, Buffers, MAX_PAYLOAD};
use super::{Decision, Path};

/// Sources that may send through a relay at one time; each has a socket. A mesh on one machine has a handful of nodes.
const MAX_FLOWS: usize = 64;

/// Datagrams under way through a relay: 50,000 a second with 0.6 s of delay. More are dropped and counted.
const MAX_UNDER_WAY: usize = 32_768;

/// A running relay of datagrams; it ends when dropped.
///
/// Datagrams are never early. With little traffic they are about a millisecond late, as tokio's timers are; the more
/// traffic the less (`cargo bench --bench relay`).
#[derive(Debug)]
pub struct UdpRelay {
    local_addr: SocketAddr,
    _stop: DropGuard,
}

impl UdpRelay {
    /// Starts relaying. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn spawn(config: RelayConfig) -> io::Result<Self> {
        let listen = Arc::new(BatchSocket::bind(config.listen)?);
        let local_addr = listen.local_addr()?;
        let stop = CancellationToken::new();
        let line = Arc::new(Line::default());
        tokio::spawn(stop.clone().run_until_cancelled_owned(line.clone().deliver()));
        let flows = Flows { listen, config, line, upstreams: FxHashMap::default(), stop: stop.clone() };
        tokio::spawn(stop.clone().run_until_cancelled_owned(flows.run()));
        Ok(Self { local_addr, _stop: stop.drop_guard() })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// Sources, and their sockets towards the target: by these the target tells them apart.
struct Flows {
    listen: Arc<BatchSocket>,
    config: RelayConfig,
    line: Arc<Line>,
    upstreams: FxHashMap<SocketAddr, Arc<BatchSocket>>,
    stop: CancellationToken,
}

impl Flows {
    async fn run(mut self) {
        let mut buffers = Buffers::new();
        let listen = self.listen.clone();
        loop {
            let received = listen.recv(&mut buffers, |source, piece, segment_size| match self.upstream(source) {
                Ok(Some(upstream)) => {
                    let path = &self.config.path(source).forward;
                    self.line.submit(path, piece, segment_size, &upstream, self.config.target);
                }
                Ok(None) => debug!(%source, "relay has too many flows"),
                Err(error) => debug!(%source, %error, "relay cannot open a socket"),
            });
            // An error is one of another datagram (ICMP port unreachable); the socket lives on.
            let _ = received.await;
        }
    }

    fn upstream(&mut self, source: SocketAddr) -> io::Result<Option<Arc<BatchSocket>>> {
        if let Some(upstream) = self.upstreams.get(&source) {
            return Ok(Some(upstream.clone()));
        }
        if self.upstreams.len() >= MAX_FLOWS {
            return Ok(None);
        }
        let any: SocketAddr = match self.config.target {
            SocketAddr::V4(target) if target.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let upstream = Arc::new(BatchSocket::bind(any)?);
        self.upstreams.insert(source, upstream.clone());
        let back = Back {
            upstream: upstream.clone(),
            listen: self.listen.clone(),
            source,
            path: self.config.path(source).backward.clone(),
            line: self.line.clone(),
        };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(back.run()));
        Ok(Some(upstream))
    }
}

/// The way back of one source.
struct Back {
    upstream: Arc<BatchSocket>,
    listen: Arc<BatchSocket>,
    source: SocketAddr,
    path: Path,
    line: Arc<Line>,
}

impl Back {
    async fn run(self) {
        let mut buffers = Buffers::new();
        loop {
            let received = self.upstream.recv(&mut buffers, |_, piece, segment_size| {
                self.line.submit(&self.path, piece, segment_size, &self.listen, self.source);
            });
            let _ = received.await;
        }
    }
}

/// What is under way, both directions.
#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
    /// Something is due, or will be earlier than all that was.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: BinaryHeap<UnderWay>,
    /// Datagrams so far.
    entered: u64,
}

impl Line {
    /// Datagrams enter a path.
    fn submit(&self, path: &Path, piece: &[u8], segment_size: usize, via: &Arc<BatchSocket>, to: SocketAddr) {
        let now = clock();
        let piece = Bytes::copy_from_slice(piece);
        let mut waiting = self.waiting();
        let due = waiting.next_due();
        path.with(|impairment| {
            for start in (0..piece.len()).step_by(segment_size) {
                let data = piece.slice(start..piece.len().min(start + segment_size));
                let Decision::Deliver { at, again } = impairment.submit(now, data.len()) else { continue };
                for at in [Some(at), again].into_iter().flatten() {
                    if waiting.datagrams.len() >= MAX_UNDER_WAY {
                        path.count_overload();
                        continue;
                    }
                    waiting.entered += 1;
                    let order = waiting.entered;
                    waiting.datagrams.push(UnderWay { at, order, data: data.clone(), via: via.clone(), to });
                }
            }
        });
        // Tokio's timers are a millisecond late: what comes meanwhile takes along what is due.
        if waiting.next_due() != due || due.is_some_and(|at| at <= now) {
            self.wake.notify_one();
        }
    }

    async fn deliver(self: Arc<Self>) {
        let (mut due, mut buffer) = (Vec::new(), Vec::with_capacity(MAX_PAYLOAD));
        loop {
            let next = self.take_due(&mut due);
            send(&due, &mut buffer).await;
            due.clear();
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Moves what is due, and says when more is.
    fn take_due(&self, due: &mut Vec<UnderWay>) -> Option<Instant> {
        let now = clock();
        let mut waiting = self.waiting();
        while waiting.next_due().is_some_and(|at| at <= now) {
            due.extend(waiting.datagrams.pop());
        }
        waiting.next_due()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn next_due(&self) -> Option<Instant> {
        self.datagrams.peek().map(|datagram| datagram.at)
    }
}

/// Sends datagrams in order, as many in one piece as may be.
async fn send(mut datagrams: &[UnderWay], buffer: &mut Vec<u8>) {
    while let Some(first) = datagrams.first() {
        let (run, others) = datagrams.split_at(run_length(first, datagrams));
        datagrams = others;
        // An unreachable receiver is a loss on the path.
        let _ = match run {
            [single] => single.via.send(single.to, &single.data, None).await,
            run => {
                buffer.clear();
                run.iter().for_each(|datagram| buffer.extend_from_slice(&datagram.data));
                first.via.send(first.to, buffer, Some(first.data.len())).await
            }
        };
    }
}

/// How many of `datagrams`, of which `first` is the first, go in one piece: of one size, the last perhaps shorter.
fn run_length(first: &UnderWay, datagrams: &[UnderWay]) -> usize {
    let size = first.data.len();
    let max = first.via.max_segments().min(MAX_PAYLOAD / size.max(1)).max(1);
    let fits =
        |other: &&UnderWay| Arc::ptr_eq(&first.via, &other.via) && first.to == other.to && other.data.len() <= size;
    let run = datagrams.iter().take(max).take_while(fits);
    let full = run.clone().take_while(|other| other.data.len() == size).count();
    full + run.skip(full).take(1).count()
}

#[derive(Debug)]
struct UnderWay {
    at: Instant,
    /// Of entry, among those that arrive at the same time.
    order: u64,
    data: Bytes,
    via: Arc<BatchSocket>,
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
