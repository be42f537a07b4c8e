//! The media port over UDP: one socket a worker under one number, batched in both directions.

mod options;
mod sender;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use sluice_media::Transmit;
use sluice_media::drop_reason::{DropCounters, DropReason};
use socket2::{Domain, Socket, Type};

pub(super) use self::sender::datagrams;
use self::sender::{Sender, Sent};

/// Largest datagram, or run of datagrams that the kernel merged, that one buffer takes.
const BUFFER_LEN: usize = 65_535;

/// Length of a buffer where the kernel merges nothing: more than any Ethernet frame.
const SINGLE_BUFFER_LEN: usize = 2048;

/// Messages in one turn, each of them a datagram or a run that the kernel merged: two calls. More waits for the next
/// turn, so that timers and commands of a flooded worker are not late by more than a few milliseconds.
pub(super) const MAX_MESSAGES: usize = 2 * BATCH_SIZE;

/// Failed receive calls in a row after which the socket is taken for empty: errors of packets come singly.
const MAX_FAILED_CALLS: usize = 64;

/// Sends that wait while the kernel's buffer is full. That buffer holds tens of milliseconds already; what comes later
/// still is better lost.
const MAX_WAITING: usize = 256;

/// Binds the media port once for each worker.
///
/// The first socket is bound without SO_REUSEPORT, which would let another process of the same user share the port
/// unnoticed, and gets the option afterwards, when its siblings need it.
pub(super) fn bind_all(addr: SocketAddr, count: u16, buffer_bytes: usize) -> io::Result<Vec<MediaSocket>> {
    let first = unbound(addr, Type::DGRAM, buffer_bytes)?;
    for Clamped { sysctl, asked, granted } in clamped(&first, buffer_bytes)? {
        tracing::warn!(
            sysctl,
            asked,
            granted,
            "buffers of the media port are smaller than asked for: bursts will be lost"
        );
    }
    first.bind(&addr.into())?;
    first.set_reuse_port(true)?;
    let addr = first.local_addr()?.as_socket().unwrap_or(addr);
    let mut sockets = vec![first];
    for _ in 1..count {
        let sibling = unbound(addr, Type::DGRAM, buffer_bytes)?;
        sibling.set_reuse_port(true)?;
        sibling.bind(&addr.into())?;
        sockets.push(sibling);
    }
    sockets.into_iter().map(|socket| MediaSocket::new(socket.into())).collect()
}

/// A socket of this type for the media port, whose kernel buffers have so many bytes if the system grants them.
pub(super) fn unbound(addr: SocketAddr, kind: Type, buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(buffer_bytes)?;
    socket.set_send_buffer_size(buffer_bytes)?;
    Ok(socket)
}

/// A buffer that the system made smaller than it was asked to, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Clamped {
    /// The limit that an operator can raise.
    sysctl: &'static str,
    asked: usize,
    granted: usize,
}

fn clamped(socket: &Socket, asked: usize) -> io::Result<Vec<Clamped>> {
    // The kernel doubles what it grants, for its own bookkeeping.
    let granted =
        [("net.core.rmem_max", socket.recv_buffer_size()? / 2), ("net.core.wmem_max", socket.send_buffer_size()? / 2)];
    let clamped = granted.into_iter().filter(|(_, granted)| *granted < asked);
    Ok(clamped.map(|(sysctl, granted)| Clamped { sysctl, asked, granted }).collect())
}

/// What a driver needs of its socket.
pub(super) trait DatagramSocket {
    /// Has the system tell when it can be read or written.
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()>;
    /// Receives what there is, up to `max_messages` and [`MAX_MESSAGES`]. The flag tells whether there may be more. If
    /// `measured`, the batch tells how long its first datagram had waited, which takes two more system calls.
    fn receive(&mut self, max_messages: usize, measured: bool) -> (Batch<'_>, bool);
    /// Sends, or lets the datagrams wait if the kernel's buffer is full. Yields the emptied buffer.
    fn send(&mut self, transmit: Transmit) -> Option<Vec<u8>>;
    /// Sends what waits, as far as the kernel takes it. Yields one emptied buffer at a time.
    fn send_waiting(&mut self) -> Option<Vec<u8>>;
    /// What the kernel did not take, and what came when its buffer was full.
    fn drops(&self) -> DropCounters;
}

/// One worker's socket.
pub(super) struct MediaSocket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    buffer_len: usize,
    metas: Vec<RecvMeta>,
    /// Calls in a row that failed.
    failed_calls: usize,
    sender: Sender,
    waiting: VecDeque<Transmit>,
}

impl MediaSocket {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // Has the kernel stamp what comes.
        let _ = options::waited(socket.as_fd());
        options::allow_fragments(socket.as_fd(), socket.local_addr()?.is_ipv6())?;
        let buffer_len = if state.gro_segments() > 1 { BUFFER_LEN } else { SINGLE_BUFFER_LEN };
        Ok(Self {
            socket: mio::net::UdpSocket::from_std(socket),
            sender: Sender::new(state.max_gso_segments()),
            state,
            buffers: vec![0; MAX_MESSAGES * buffer_len],
            buffer_len,
            metas: vec![RecvMeta::default(); MAX_MESSAGES],
            failed_calls: 0,
            waiting: VecDeque::new(),
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl DatagramSocket for MediaSocket {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn receive(&mut self, max_messages: usize, measured: bool) -> (Batch<'_>, bool) {
        let max_messages = max_messages.min(MAX_MESSAGES);
        let (mut received, mut waited) = (0, None);
        let mut more = true;
        while received < max_messages {
            // The stamp is that of the last datagram of a call.
            let is_sample = measured && received == 0;
            let room = if is_sample { 1 } else { (max_messages - received).min(BATCH_SIZE) };
            let free = self.buffers.chunks_mut(self.buffer_len).skip(received).take(room);
            let mut slices = [const { None }; BATCH_SIZE];
            slices.iter_mut().zip(free).for_each(|(slice, buffer)| *slice = Some(IoSliceMut::new(buffer)));
            let mut slices = slices.map(|slice| slice.unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let slices = slices.get_mut(..room).unwrap_or_default();
            let metas = self.metas.get_mut(received..).unwrap_or_default();
            match self.state.recv((&self.socket).into(), slices, metas) {
                Ok(count) => {
                    self.failed_calls = 0;
                    received += count;
                    if is_sample {
                        waited = options::waited(self.socket.as_fd()).ok();
                    }
                    // A call that was not filled has emptied the queue, but for what came since: that is the next
                    // event's.
                    if count < room {
                        more = false;
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                // An error of an earlier packet says nothing of those that wait, and the poll will not speak of them
                // again.
                Err(error) => {
                    tracing::debug!(%error, "media socket reports an error");
                    self.failed_calls += 1;
                    more = self.failed_calls < MAX_FAILED_CALLS;
                    break;
                }
            }
        }
        (
            Batch {
                buffers: &mut self.buffers,
                buffer_len: self.buffer_len,
                metas: self.metas.get(..received).unwrap_or_default(),
                waited,
            },
            more,
        )
    }

    fn send(&mut self, transmit: Transmit) -> Option<Vec<u8>> {
        if self.waiting.is_empty() && self.sender.send(&self.socket, &transmit) == Sent::Done {
            return Some(transmit.contents);
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(transmit);
            return None;
        }
        self.sender.give_up(&transmit);
        Some(transmit.contents)
    }

    fn send_waiting(&mut self) -> Option<Vec<u8>> {
        match self.sender.send(&self.socket, self.waiting.front()?) {
            Sent::Done => self.waiting.pop_front().map(|transmit| transmit.contents),
            Sent::Full => None,
        }
    }

    fn drops(&self) -> DropCounters {
        let mut drops = self.sender.drops().clone();
        match options::dropped(self.socket.as_fd()) {
            Ok(count) => drops.count_many(DropReason::ReceiveBufferFull, count),
            Err(error) => tracing::debug!(%error, "the kernel does not tell what it dropped"),
        }
        drops
    }
}

/// What one turn has received.
pub(super) struct Batch<'a> {
    pub(super) buffers: &'a mut [u8],
    pub(super) buffer_len: usize,
    pub(super) metas: &'a [RecvMeta],
    /// How long the first datagram had waited, if that was measured.
    pub(super) waited: Option<Duration>,
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
