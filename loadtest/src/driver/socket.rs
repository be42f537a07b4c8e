//! UDP sockets with batched receive and burst send. One can be many clients at once: on loopback every address of 127/8
//! is local, so a socket bound to the wildcard address sends from, and receives for, as many of them as there are
//! users.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// 130 ms of 100,000 small packets/s: the kernel grants twice what is asked for, and counts 1.3 KiB for each. More than
/// net.core.rmem_max is for the privileged only.
pub(crate) const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// A burst of a thousand large packets.
const SEND_BUFFER: usize = 2 * 1024 * 1024;
/// Largest datagram that is received where the kernel merges none; WebRTC's stay below an Ethernet frame.
const MAX_DATAGRAM: usize = 2048;
/// Room for a run of merged datagrams, 64 KiB at most; the cache lines on top keep the beginnings of the batch's runs
/// from sharing one set of the processor's cache.
const MAX_RUN: usize = 65_536 + 3 * 64;
/// Bytes that leave in one send; an IP packet has room for 65,507.
const MAX_BURST: usize = 65_000;

/// One socket, and what the kernel dropped on it.
pub(super) struct UserSocket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    receive_drops: Cell<u32>,
}

impl UserSocket {
    /// Binds a free port of the unspecified address of `family`. With `offload` the kernel may hand over several
    /// datagrams of one sender in one piece (GRO): cheaper for this end, and on loopback for the sender too.
    pub(super) fn bind(family: IpAddr, offload: bool) -> io::Result<Self> {
        let unspecified: IpAddr = match family {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((unspecified, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        state.set_send_buffer_size(UdpSockRef::from(&socket), SEND_BUFFER)?;
        grow_receive_buffer(&socket, &state)?;
        if !offload {
            disable_receive_offload(&socket)?;
        }
        Ok(Self { socket: mio::net::UdpSocket::from_std(socket), state, receive_drops: Cell::new(0) })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Sends all of a burst at once. Returns how many datagrams the kernel did not take.
    pub(super) fn send(&self, source: Option<IpAddr>, destination: SocketAddr, burst: &Burst) -> u64 {
        let transmit =
            |contents, segment_size| Transmit { destination, ecn: None, contents, segment_size, src_ip: source };
        let send = |transmit: &Transmit<'_>| self.state.try_send(UdpSockRef::from(&self.socket), transmit);
        match send(&transmit(&burst.contents, (burst.count > 1).then_some(burst.segment))) {
            Ok(()) => 0,
            // Not every device can cut a burst.
            Err(error) if burst.count > 1 && error.kind() != ErrorKind::WouldBlock => {
                let datagrams = burst.contents.chunks(burst.segment);
                datagrams.filter(|datagram| send(&transmit(datagram, None)).is_err()).count() as u64
            }
            Err(error) => {
                tracing::trace!(%error, %destination, "not sent");
                burst.count as u64
            }
        }
    }

    /// Datagrams that the kernel dropped since the last call because its buffer was full.
    pub(super) fn take_receive_drops(&self) -> u64 {
        let drops = kernel_drops(&self.socket).unwrap_or_else(|error| {
            tracing::debug!(%error, "the kernel does not say what it dropped");
            self.receive_drops.get()
        });
        drops.wrapping_sub(self.receive_drops.replace(drops)).into()
    }
}

/// Where datagrams are received to, for any number of sockets, one at a time.
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    slot: usize,
    metas: [RecvMeta; BATCH_SIZE],
}

/// Datagrams of one sender to one address, all of length `stride` but for a shorter last one.
pub(super) struct Run<'a> {
    pub(super) to: Option<IpAddr>,
    pub(super) stride: usize,
    pub(super) bytes: &'a mut [u8],
}

impl ReceiveBuffer {
    pub(super) fn new(offload: bool) -> Self {
        let slot = if offload { MAX_RUN } else { MAX_DATAGRAM };
        Self { bytes: vec![0; slot * BATCH_SIZE], slot, metas: [RecvMeta::default(); BATCH_SIZE] }
    }

    /// All of it, for what is no batch.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Receives one batch. The flag tells whether there may be more; without it the next event of the socket does.
    pub(super) fn receive(&mut self, socket: &UserSocket) -> (impl Iterator<Item = Run<'_>>, bool) {
        let mut slots = self.bytes.chunks_mut(self.slot);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let received = socket.state.recv(UdpSockRef::from(&socket.socket), &mut slices, &mut self.metas);
        let count = received.unwrap_or_else(|error| {
            if error.kind() != ErrorKind::WouldBlock {
                // An ICMP answer to an earlier send, say. Users notice by consent.
                tracing::debug!(%error, "a socket reports an error");
            }
            0
        });
        let runs = self.metas.iter().zip(self.bytes.chunks_mut(self.slot)).take(count).filter_map(|(meta, slot)| {
            Some(Run { to: meta.dst_ip, stride: meta.stride.max(1), bytes: slot.get_mut(..meta.len)? })
        });
        (runs, count == BATCH_SIZE)
    }
}

/// Datagrams for one destination that leave in one call (UDP_SEGMENT): all of one length, but for a shorter last one.
#[derive(Default)]
pub(super) struct Burst {
    contents: Vec<u8>,
    segment: usize,
    count: usize,
}

impl Burst {
    /// Takes a datagram; `false` when it has to go in the next burst.
    pub(super) fn push(&mut self, datagram: &[u8], socket: &UserSocket) -> bool {
        if self.count == 0 {
            self.segment = datagram.len();
        } else if self.contents.len() != self.count * self.segment
            || datagram.len() > self.segment
            || self.contents.len() + datagram.len() > MAX_BURST
            || self.count == socket.state.max_gso_segments()
        {
            return false;
        }
        self.contents.extend_from_slice(datagram);
        self.count += 1;
        true
    }

    pub(super) fn clear(&mut self) {
        self.contents.clear();
        self.count = 0;
    }

    pub(super) fn datagrams(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.contents.len()
    }
}

/// Asks for [`RECEIVE_BUFFER`], beyond the system's limit if that is allowed.
fn grow_receive_buffer(socket: &std::net::UdpSocket, state: &UdpSocketState) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER as libc::c_int).is_ok() {
        return Ok(());
    }
    state.set_recv_buffer_size(UdpSockRef::from(socket), RECEIVE_BUFFER)
}

#[cfg(target_os = "linux")]
fn disable_receive_offload(socket: &std::net::UdpSocket) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 0)
}

#[cfg(not(target_os = "linux"))]
fn disable_receive_offload(_: &std::net::UdpSocket) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn set_option(socket: impl AsFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the value is a C int of the size that is named.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The socket's count of datagrams that found its buffer full.
#[cfg(target_os = "linux")]
fn kernel_drops(socket: impl AsFd) -> io::Result<u32> {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut info = [0_u32; DROPS + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is open, and `info` has room for `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(info[DROPS]) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn kernel_drops(_: impl AsFd) -> io::Result<u32> {
    Err(ErrorKind::Unsupported.into())
}
