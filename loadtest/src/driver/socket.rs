//! A UDP socket with batched receive, which can be many clients at once: on loopback every address of 127/8 is local, so
//! one socket bound to the wildcard address sends from, and receives for, as many of them as there are users.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A second of 3,000 packets of video; the kernel caps it at net.core.rmem_max.
pub(crate) const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// Largest datagram that is received in one piece; WebRTC's stay below an Ethernet frame.
const MAX_DATAGRAM: usize = 2048;

pub(super) struct BatchSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    slot: usize,
}

impl BatchSocket {
    /// Binds a free port of the unspecified address of `family`. With `offload` the kernel may hand over several datagrams
    /// of one sender in one piece (GRO): cheaper for this end, and on loopback for the sender too.
    pub(super) fn bind(family: IpAddr, offload: bool) -> io::Result<Self> {
        let unspecified: IpAddr = match family {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((unspecified, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        state.set_recv_buffer_size(UdpSockRef::from(&socket), RECEIVE_BUFFER)?;
        if !offload {
            disable_receive_offload(&socket)?;
        }
        let slot = if offload { state.gro_segments() * MAX_DATAGRAM } else { MAX_DATAGRAM };
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, buffer: vec![0; slot * BATCH_SIZE], slot })
    }

    pub(super) fn local_port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Waits until there is something to receive.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives one batch and calls `each` with the local address, the sender and the datagram. `false` when there was none.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Option<IpAddr>, SocketAddr, &[u8])) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let Self { socket, state, buffer, slot } = self;
        let mut slices: Vec<IoSliceMut<'_>> = buffer.chunks_mut(*slot).map(IoSliceMut::new).collect();
        let received =
            socket.try_io(Interest::READABLE, || state.recv(UdpSockRef::from(&*socket), &mut slices, &mut metas));
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP answer to an earlier send: the server's port is closed. Its users will notice by consent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                each(meta.dst_ip, meta.addr, datagram);
            }
        }
        Ok(true)
    }

    /// Sends at once; `false` when the kernel had no room.
    pub(super) fn send(&self, source: Option<IpAddr>, destination: SocketAddr, contents: &[u8]) -> bool {
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: source };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit).is_ok()
    }
}

fn disable_receive_offload(socket: &std::net::UdpSocket) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let off: libc::c_int = 0;
        // SAFETY: the descriptor is open, and the value is a C int of the size that is named.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_GRO,
                (&raw const off).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
    Ok(())
}
