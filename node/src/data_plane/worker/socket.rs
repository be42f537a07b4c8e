//! The media port: one socket a worker under one number, batched in both directions.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::SocketAddr;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit as UdpTransmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::data_plane::drop_reason::{DropCounters, DropReason};
use crate::data_plane::io::Transmit;

/// Largest datagram, or run of datagrams that the kernel merged, that one buffer takes.
const BUFFER_LEN: usize = 65_535;

/// Length of a buffer where the kernel merges nothing: more than any Ethernet frame.
const SINGLE_BUFFER_LEN: usize = 2048;

/// Receive calls in one turn, of `BATCH_SIZE` (32) messages each. More waits for the next turn, so that timers and commands of a flooded
/// worker are not late by more than a few milliseconds.
const MAX_RECV_CALLS: usize = 2;

/// Sends that wait while the kernel's buffer is full. That buffer holds tens of milliseconds already; what comes later still is better
/// lost.
const MAX_WAITING: usize = 256;

/// Binds the media port once for each worker.
///
/// The first socket is bound without SO_REUSEPORT, which would let another process of the same user share the port unnoticed, and
/// gets the option afterwards, when its siblings need it.
pub(super) fn bind_all(addr: SocketAddr, count: u16, buffer_bytes: usize) -> io::Result<Vec<MediaSocket>> {
    let first = unbound(addr, buffer_bytes)?;
    first.bind(&addr.into())?;
    first.set_reuse_port(true)?;
    let addr = first.local_addr()?.as_socket().unwrap_or(addr);
    let mut sockets = vec![first];
    for _ in 1..count {
        let sibling = unbound(addr, buffer_bytes)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&addr.into())?;
        sockets.push(sibling);
    }
    sockets.into_iter().map(|socket| MediaSocket::new(socket.into())).collect()
}

fn unbound(addr: SocketAddr, buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    Ok(socket)
}

/// One worker's socket.
pub(super) struct MediaSocket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    buffer_len: usize,
    metas: Vec<RecvMeta>,
    waiting: VecDeque<Transmit>,
    /// What the kernel did not take, by reason.
    drops: DropCounters,
}

impl MediaSocket {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let buffer_len = if state.gro_segments() > 1 { BUFFER_LEN } else { SINGLE_BUFFER_LEN };
        Ok(Self {
            socket: mio::net::UdpSocket::from_std(socket),
            state,
            buffers: vec![0; MAX_RECV_CALLS * BATCH_SIZE * buffer_len],
            buffer_len,
            metas: vec![RecvMeta::default(); MAX_RECV_CALLS * BATCH_SIZE],
            waiting: VecDeque::new(),
            drops: DropCounters::default(),
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Receives what there is, up to a bound. The flag tells whether there may be more.
    pub(super) fn receive(&mut self) -> (Batch<'_>, bool) {
        let mut received = 0;
        let mut more = true;
        for (buffers, metas) in
            self.buffers.chunks_mut(BATCH_SIZE * self.buffer_len).zip(self.metas.chunks_mut(BATCH_SIZE))
        {
            let mut slices = [const { None }; BATCH_SIZE];
            slices.iter_mut().zip(buffers.chunks_mut(self.buffer_len)).for_each(|(s, b)| *s = Some(IoSliceMut::new(b)));
            let mut slices = slices.map(|slice| slice.unwrap_or_else(|| IoSliceMut::new(&mut [])));
            match self.state.recv((&self.socket).into(), &mut slices, metas) {
                Ok(count) => {
                    received += count;
                    // A call that was not filled has emptied the queue, but for what came since: that is the next event's.
                    if count < BATCH_SIZE {
                        more = false;
                        break;
                    }
                }
                Err(error) => {
                    more = false;
                    if error.kind() != ErrorKind::WouldBlock {
                        tracing::debug!(%error, "media socket reports an error of an earlier packet");
                    }
                    break;
                }
            }
        }
        (
            Batch {
                buffers: &mut self.buffers,
                buffer_len: self.buffer_len,
                metas: self.metas.get(..received).unwrap_or_default(),
            },
            more,
        )
    }

    /// Sends, or lets the datagrams wait if the kernel's buffer is full. Yields the emptied buffer.
    pub(super) fn send(&mut self, transmit: Transmit) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            match try_send(&self.socket, &self.state, &mut self.drops, &transmit) {
                Sent::Done => return Some(transmit.contents),
                Sent::Full => {}
            }
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(transmit);
            return None;
        }
        self.drops.count_many(DropReason::SocketFull, datagrams(&transmit));
        Some(transmit.contents)
    }

    /// Sends what waits, as far as the kernel takes it. Yields one emptied buffer at a time.
    pub(super) fn send_waiting(&mut self) -> Option<Vec<u8>> {
        let transmit = self.waiting.front()?;
        match try_send(&self.socket, &self.state, &mut self.drops, transmit) {
            Sent::Done => self.waiting.pop_front().map(|transmit| transmit.contents),
            Sent::Full => None,
        }
    }

    /// What the kernel did not take, by reason.
    pub(super) fn drops(&self) -> &DropCounters {
        &self.drops
    }
}

/// What one turn has received.
pub(super) struct Batch<'a> {
    buffers: &'a mut [u8],
    buffer_len: usize,
    metas: &'a [RecvMeta],
}

impl<'a> Batch<'a> {
    /// Each datagram with its source. Runs that the kernel merged are cut again.
    pub(super) fn into_datagrams(self) -> impl Iterator<Item = (SocketAddr, &'a mut [u8])> {
        self.buffers.chunks_mut(self.buffer_len).zip(self.metas).flat_map(|(buffer, meta)| {
            let stride = meta.stride.max(1);
            let filled = buffer.get_mut(..meta.len).unwrap_or_default();
            filled.chunks_mut(stride).map(move |datagram| (meta.addr, datagram))
        })
    }
}

enum Sent {
    /// It left, or never will.
    Done,
    /// The kernel's buffer is full.
    Full,
}

fn datagrams(transmit: &Transmit) -> u64 {
    transmit.segment_size.map_or(1, |size| transmit.contents.len().div_ceil(size.max(1)) as u64)
}

fn try_send(
    socket: &mio::net::UdpSocket,
    state: &UdpSocketState,
    drops: &mut DropCounters,
    transmit: &Transmit,
) -> Sent {
    let segments = datagrams(transmit) as usize;
    if segments <= state.max_gso_segments() || segments == 1 {
        match send_one(socket, state, transmit.destination, &transmit.contents, transmit.segment_size) {
            Ok(()) => return Sent::Done,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Sent::Full,
            // quinn-udp has noticed that the device cannot segment: the packets go one by one.
            Err(_) if segments > state.max_gso_segments() => {}
            Err(error) => {
                tracing::trace!(%error, destination = %transmit.destination, "media packet not sent");
                drops.count_many(DropReason::SocketError, segments as u64);
                return Sent::Done;
            }
        }
    }
    send_singly(socket, state, drops, transmit)
}

fn send_singly(
    socket: &mio::net::UdpSocket,
    state: &UdpSocketState,
    drops: &mut DropCounters,
    transmit: &Transmit,
) -> Sent {
    let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
    for (index, datagram) in transmit.contents.chunks(size).enumerate() {
        match send_one(socket, state, transmit.destination, datagram, None) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && index == 0 => return Sent::Full,
            Err(error) if error.kind() == ErrorKind::WouldBlock => drops.count(DropReason::SocketFull),
            Err(_) => drops.count(DropReason::SocketError),
        }
    }
    Sent::Done
}

fn send_one(
    socket: &mio::net::UdpSocket,
    state: &UdpSocketState,
    destination: SocketAddr,
    contents: &[u8],
    segment_size: Option<usize>,
) -> io::Result<()> {
    state.try_send(socket.into(), &UdpTransmit { destination, ecn: None, contents, segment_size, src_ip: None })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn client() -> UdpSocket {
        let client = UdpSocket::bind(ANY).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    }

    /// Receives until `count` datagrams are there; the kernel hands them over on its own time.
    fn receive(socket: &mut MediaSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut received = Vec::new();
        for _ in 0..10_000_000 {
            let (batch, _) = socket.receive();
            received.extend(batch.into_datagrams().map(|(source, data)| (source, data.to_vec())));
            if received.len() >= count {
                return received;
            }
            std::thread::yield_now();
        }
        panic!("{} of {count} datagrams", received.len());
    }

    fn transmit(destination: SocketAddr, segment_size: Option<usize>, len: usize) -> Transmit {
        Transmit { destination, segment_size, contents: (0..len).map(|at| (at / 100) as u8).collect() }
    }

    #[test]
    fn workers_share_the_port_and_strangers_do_not() {
        let sockets = bind_all(ANY, 3, 1 << 20).unwrap();
        let addr = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == addr));
        drop(sockets);

        // Somebody who bound the port alone keeps it, and one who shares it by the option gets no company unnoticed.
        let alone = UdpSocket::bind(ANY).unwrap();
        assert_eq!(bind_all(alone.local_addr().unwrap(), 2, 1 << 20).err().unwrap().kind(), ErrorKind::AddrInUse);
        let node = bind_all(ANY, 2, 1 << 20).unwrap();
        assert_eq!(bind_all(node[0].local_addr().unwrap(), 2, 1 << 20).err().unwrap().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn runs_leave_as_single_datagrams_and_merged_ones_are_cut() {
        let client = client();
        let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
        let socket = &mut sockets[0];
        let emptied = socket.send(transmit(client.local_addr().unwrap(), Some(100), 950));
        assert_eq!(emptied.unwrap().len(), 950);
        let mut buffer = [0; 2000];
        for index in 0..10 {
            let (len, source) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(source, socket.local_addr().unwrap());
            assert_eq!(buffer[..len], [index; 100][..if index == 9 { 50 } else { 100 }]);
        }

        // To itself: segmentation offload on the way out, merging on the way in where the kernel does it.
        let own = socket.local_addr().unwrap();
        assert!(socket.send(transmit(own, Some(100), 950)).is_some());
        let received = receive(socket, 10);
        for (index, (source, data)) in received.iter().enumerate() {
            assert_eq!(*source, own);
            assert_eq!(data[..], [index as u8; 100][..if index == 9 { 50 } else { 100 }]);
        }
        assert_eq!(socket.drops().nonzero().count(), 0);
    }

    #[test]
    fn what_cannot_be_segmented_leaves_one_by_one() {
        let client = client();
        let sockets = bind_all(ANY, 1, 1 << 20).unwrap();
        let mut drops = DropCounters::default();
        let transmit = transmit(client.local_addr().unwrap(), Some(100), 250);
        assert!(matches!(send_singly(&sockets[0].socket, &sockets[0].state, &mut drops, &transmit), Sent::Done));
        let lens: Vec<_> = (0..3).map(|_| client.recv(&mut [0; 2000]).unwrap()).collect();
        assert_eq!(lens, [100, 100, 50]);
        assert_eq!(drops.nonzero().count(), 0);
    }

    #[test]
    fn what_the_system_refuses_is_counted() {
        let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
        // IPv6 has no way out of an IPv4 socket.
        assert!(sockets[0].send(transmit("[::1]:9".parse().unwrap(), Some(100), 250)).is_some());
        assert_eq!(sockets[0].drops().get(DropReason::SocketError), 3);
    }

    #[test]
    fn many_datagrams_are_received_in_bounded_turns() {
        let client = client();
        let mut sockets = bind_all(ANY, 1, 4 << 20).unwrap();
        let socket = &mut sockets[0];
        for index in 0..200_u8 {
            client.send_to(&[index; 50], socket.local_addr().unwrap()).unwrap();
        }
        let received = receive(socket, 200);
        assert!(received.iter().enumerate().all(|(index, (_, data))| data[..] == [index as u8; 50]));
    }
}
