//! The UDP sockets of an allocation. Each is connected to where the media port listens, so that the kernel itself lets
//! nothing pass from or to anybody else.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;

use super::counters::TurnCounters;
use super::protocol::Family;
use crate::address_limits::Held;
use crate::support::count;

/// What is taken of a socket at a time: datagrams, or runs of them that the media port sent at once.
const RUNS: usize = 8;

/// The longest run.
const RUN_BYTES: usize = 64 * 1024;

/// Where clients of TURN send their media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// As clients know it.
    pub(super) announced: SocketAddr,
    /// Where it is, seen from here.
    listens: SocketAddr,
}

impl Peer {
    /// The media port, which is bound there, as it is announced.
    pub(super) fn new(announced: SocketAddr, bound: SocketAddr) -> Self {
        let ip = match bound.ip() {
            ip if !ip.is_unspecified() => ip,
            ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv6Addr::LOCALHOST.into(),
        };
        Self { announced, listens: (ip, bound.port()).into() }
    }
}

/// Among the allocations of a session, of a node and of an address.
pub(super) type Places = ([OwnedSemaphorePermit; 2], Held);

/// An allocation's sockets, one for each peer: by the socket it is known which of the media port's addresses the client
/// sent to, and answers must come from that one (RFC 8445 section 7.2.5.2.1).
#[derive(Debug)]
pub(super) struct Relay {
    sockets: Vec<RelaySocket>,
    counters: Arc<TurnCounters>,
    _places: Places,
}

impl Relay {
    /// Sockets for those of the peers that are of this family, the address that the client is told, and the peers.
    /// Nobody else reaches the sockets, so that the address need not be one of theirs: the announced one has the
    /// client's family.
    ///
    /// # Errors
    /// The system's, or that no peer is of this family.
    pub(super) fn open(
        peers: &[Peer],
        family: Family,
        counters: &Arc<TurnCounters>,
        places: Places,
    ) -> io::Result<(Self, SocketAddr, Vec<SocketAddr>)> {
        let peers: Vec<_> = peers.iter().filter(|peer| Family::of(peer.announced) == family).collect();
        let sockets = peers.iter().map(|peer| RelaySocket::open(peer)).collect::<Result<Vec<_>, _>>()?;
        let announced: Vec<_> = peers.iter().map(|peer| peer.announced).collect();
        let (Some(first), Some(socket)) = (announced.first(), sockets.first()) else {
            return Err(ErrorKind::AddrNotAvailable.into());
        };
        let relayed = SocketAddr::new(first.ip(), socket.socket.local_addr()?.port());
        count(&counters.made);
        counters.open.fetch_add(1, Ordering::Relaxed);
        Ok((Self { sockets, counters: counters.clone(), _places: places }, relayed, announced))
    }

    /// Sends to the peer with this index. False if it takes nothing now.
    pub(super) fn send(&self, peer: usize, datagram: &[u8]) -> bool {
        self.sockets.get(peer).is_some_and(|socket| socket.socket.try_send(datagram).is_ok())
    }

    /// Waits until there may be something of a peer.
    pub(super) async fn readable(&self) {
        std::future::poll_fn(|context| {
            match self.sockets.iter().any(|socket| socket.socket.poll_recv_ready(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Takes what has come, some of it at most, each datagram with its peer's index.
    pub(super) fn receive(&self, mut take: impl FnMut(usize, &[u8])) {
        RECEIVED.with_borrow_mut(|buffer| {
            for (peer, socket) in self.sockets.iter().enumerate() {
                buffer.receive(socket).for_each(|datagram| take(peer, datagram));
            }
        });
    }
}

/// One of an allocation's.
#[derive(Debug)]
struct RelaySocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl RelaySocket {
    fn open(peer: &Peer) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((peer.listens.ip(), 0))?;
        socket.connect(peer.listens)?;
        socket.set_nonblocking(true)?;
        // From now on the kernel does not cut what the media port sends at once (UDP_GRO).
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state })
    }
}

/// Where the datagrams of one socket come to.
struct Buffer {
    bytes: Vec<u8>,
    metas: [RecvMeta; RUNS],
}

thread_local! {
    /// Nothing stays here: one buffer serves all connections of a thread.
    static RECEIVED: RefCell<Buffer> =
        RefCell::new(Buffer { bytes: vec![0; RUNS * RUN_BYTES], metas: [RecvMeta::default(); RUNS] });
}

impl Buffer {
    fn receive(&mut self, socket: &RelaySocket) -> impl Iterator<Item = &[u8]> {
        let Self { bytes, metas } = self;
        let mut received = 0;
        // Whatever this fails with: what was sent before came to nothing, or nothing is there.
        let _ = socket.socket.try_io(Interest::READABLE, || {
            let mut rooms = bytes.chunks_exact_mut(RUN_BYTES);
            let mut slices = [(); RUNS].map(|()| IoSliceMut::new(rooms.next().unwrap_or_default()));
            received = socket.state.recv((&socket.socket).into(), &mut slices, metas)?;
            // What was not filled has emptied the socket: no other call is needed to see that.
            if received < RUNS { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        bytes.chunks_exact(RUN_BYTES).zip(metas.iter()).take(received).flat_map(|(run, meta)| {
            let filled = run.get(..meta.len).unwrap_or_default();
            filled.chunks(meta.stride.max(1))
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}
