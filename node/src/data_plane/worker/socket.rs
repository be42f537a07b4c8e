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
