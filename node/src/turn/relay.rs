//! The UDP sockets of an allocation. Each is connected to where the media port listens, so that the kernel itself lets
//! nothing pass from or to anybody else.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;

use super::counters::TurnCounters;
use super::protocol::Family;
use crate::address_limits::Held;
use crate::support::count;

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
    sockets: Vec<UdpSocket>,
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
    ) -> std::io::Result<(Self, SocketAddr, Vec<SocketAddr>)> {
        let peers: Vec<_> = peers.iter().filter(|peer| Family::of(peer.announced) == family).collect();
        let open = |peer: &&Peer| {
            let socket = std::net::UdpSocket::bind((peer.listens.ip(), 0))?;
            socket.connect(peer.listens)?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let sockets = peers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let announced: Vec<_> = peers.iter().map(|peer| peer.announced).collect();
        let (Some(first), Some(socket)) = (announced.first(), sockets.first()) else {
            return Err(ErrorKind::AddrNotAvailable.into());
        };
        let relayed = SocketAddr::new(first.ip(), socket.local_addr()?.port());
        count(&counters.made);
        counters.open.fetch_add(1, Ordering::Relaxed);
        Ok((Self { sockets, counters: counters.clone(), _places: places }, relayed, announced))
    }

    /// Sends to the peer with this index. False if it takes nothing now.
    pub(super) fn send(&self, peer: usize, datagram: &[u8]) -> bool {
        self.sockets.get(peer).is_some_and(|socket| socket.try_send(datagram).is_ok())
    }

    /// The next datagram of a peer, with the peer's index and its length in `buffer`; `None` is no datagram but what
    /// became of one that was sent.
    pub(super) async fn recv(&self, buffer: &mut [u8]) -> Option<(usize, usize)> {
        std::future::poll_fn(|context| {
            for (peer, socket) in self.sockets.iter().enumerate() {
                let mut read = ReadBuf::new(buffer);
                if let Poll::Ready(received) = socket.poll_recv(context, &mut read) {
                    return Poll::Ready(received.is_ok().then(|| (peer, read.filled().len())));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The same, of what has come already.
    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> Option<(usize, usize)> {
        self.sockets.iter().enumerate().find_map(|(peer, socket)| Some((peer, socket.try_recv(buffer).ok()?)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}
