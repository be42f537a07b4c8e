//! A network in memory, on tokio's paused clock: sockets of whole endpoints, and impaired paths between them.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig};
use tokio::time::Sleep;

pub(crate) fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One direction of a path. Several pairs of sockets may share one.
pub(crate) type Path = Arc<Mutex<Impairment>>;

pub(crate) fn path(config: ImpairmentConfig, seed: u64) -> Path {
    Arc::new(Mutex::new(Impairment::new(config, seed)))
}

/// What is on its way to a socket, by time and age.
type Arrivals = BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>;

#[derive(Debug, Default)]
pub(crate) struct Network {
    sockets: Mutex<HashMap<SocketAddr, Arc<Socket>>>,
    paths: Mutex<HashMap<(SocketAddr, SocketAddr), Path>>,
}

impl Network {
    pub(crate) fn socket(self: &Arc<Self>, addr: SocketAddr) -> Arc<Socket> {
        let inbox = Mutex::new(Inbox { arrivals: Arrivals::new(), count: 0, timer: None, waker: None });
        let socket = Arc::new(Socket { addr, network: self.clone(), inbox });
        self.sockets.lock().unwrap().insert(addr, socket.clone());
        socket
    }

    pub(crate) fn set_path(&self, from: SocketAddr, to: SocketAddr, path: Path) {
        self.paths.lock().unwrap().insert((from, to), path);
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let path = self.paths.lock().unwrap().get(&(from, to)).cloned();
        let (Some(path), Some(socket)) = (path, self.sockets.lock().unwrap().get(&to).cloned()) else { return };
        if let Decision::Deliver { at, again } = path.lock().unwrap().submit(clock(), data.len()) {
            [Some(at), again].into_iter().flatten().for_each(|at| socket.arrive(at, from, data));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    addr: SocketAddr,
    network: Arc<Network>,
    inbox: Mutex<Inbox>,
}

#[derive(Debug)]
struct Inbox {
    arrivals: Arrivals,
    count: u64,
    timer: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
}

impl Socket {
    fn arrive(&self, at: Instant, from: SocketAddr, data: &[u8]) {
        let mut inbox = self.inbox.lock().unwrap();
        inbox.count += 1;
        let key = (at, inbox.count);
        inbox.arrivals.insert(key, (from, data.to_vec()));
        if inbox.arrivals.first_key_value().is_some_and(|(first, _)| *first == key) {
            inbox.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        transmit.contents.chunks(size).for_each(|data| self.network.send(self.addr, transmit.destination, data));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap();
        loop {
            let now = clock();
            let mut count = 0;
            for (buffer, meta) in bufs.iter_mut().zip(&mut *meta) {
                let Some(entry) = inbox.arrivals.first_entry().filter(|entry| entry.key().0 <= now) else { break };
                let (addr, data) = entry.remove();
                buffer[..data.len()].copy_from_slice(&data);
                *meta = RecvMeta { addr, len: data.len(), stride: data.len(), ecn: None, dst_ip: None };
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            inbox.waker = Some(cx.waker().clone());
            let Some((&(at, _), _)) = inbox.arrivals.first_key_value() else { return Poll::Pending };
            let timer = inbox.timer.insert(Box::pin(tokio::time::sleep_until(at.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A transfer that takes what it gets, after Reno (RFC 5681), as far as its share of a bottleneck goes: a window that
/// grows by a packet a round trip and is halved by loss. Gives the bytes that arrived.
pub(crate) async fn reno(there: Path, back: Duration, time: Duration) -> u64 {
    const PACKET: usize = 1448;
    let end = clock() + time;
    let (mut window, mut threshold, mut delivered, mut recovering) = (10.0_f64, f64::MAX, 0, None);
    // When the other end's answer comes; of a lost packet, that of the third one behind it.
    let mut under_way: BTreeMap<(Instant, u64), bool> = BTreeMap::new();
    let (mut sent, mut last_answer) = (0_u64, clock());
    while clock() < end {
        while (under_way.len() as f64) < window {
            sent += 1;
            let arrived = match there.lock().unwrap().submit(clock(), PACKET + 40) {
                Decision::Deliver { at, .. } => Some(at + back),
                Decision::Drop(_) => None,
            };
            last_answer = last_answer.max(arrived.unwrap_or(clock()));
            let answer = arrived.unwrap_or(last_answer + Duration::from_millis(5));
            under_way.insert((answer, sent), arrived.is_some());
        }
        let Some((&(at, _), _)) = under_way.first_key_value() else { break };
        tokio::time::sleep_until(at.into()).await;
        while let Some(entry) = under_way.first_entry().filter(|entry| entry.key().0 <= clock()) {
            let ((_, number), arrived) = entry.remove_entry();
            if arrived {
                delivered += PACKET as u64;
                window += if window < threshold { 1.0 } else { 1.0 / window };
            } else if recovering.is_none_or(|until| number > until) {
                recovering = Some(sent);
                (window, threshold) = ((window / 2.0).max(2.0), (window / 2.0).max(2.0));
            }
        }
    }
    delivered
}
