//! A UDP socket that takes and gives many datagrams in one call: what QUIC sends in one piece stays in one piece.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Largest piece that the kernel hands over or takes: an IPv4 packet.
const MAX_PIECE: usize = 65_535;

/// Largest payload of a piece.
pub(super) const MAX_PAYLOAD: usize = MAX_PIECE - 20 - 8;

/// Pieces in one call; each is up to 64 datagrams already.
const BATCH: usize = 8;

/// 30 ms at 1 Gbit/s, longer than the relay's thread is ever kept waiting on a machine that is not overloaded.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// What a task receives into.
pub(super) struct Buffers(Vec<u8>);

impl Buffers {
    pub(super) fn new() -> Self {
        Self(vec![0; BATCH * MAX_PIECE])
    }
}

#[derive(Debug)]
pub(super) struct BatchSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl BatchSocket {
    /// Must be called within a tokio runtime.
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(addr)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel may grant less; it is no reason not to start.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        Ok(Self { socket: UdpSocket::from_std(socket)?, state })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Datagrams of one size that may be sent in one piece.
    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Waits for datagrams and calls `each` with their sender, the bytes of one or more of them, and the length of each
    /// of these but the last, which may be shorter.
    pub(super) async fn recv(
        &self,
        buffers: &mut Buffers,
        mut each: impl FnMut(SocketAddr, &[u8], usize),
    ) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut pieces: Vec<IoSliceMut<'_>> = buffers.0.chunks_mut(MAX_PIECE).map(IoSliceMut::new).collect();
        let receive = || self.state.recv(UdpSockRef::from(&self.socket), &mut pieces, &mut metas);
        let count = self.socket.async_io(Interest::READABLE, receive).await?;
        for (meta, piece) in metas.iter().zip(&pieces).take(count) {
            if let Some(piece) = piece.get(..meta.len) {
                each(meta.addr, piece, meta.stride.max(1));
            }
        }
        Ok(())
    }

    /// Sends `contents`: one datagram, or several of `segment_size` of which the last may be shorter.
    pub(super) async fn send(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        let send = || self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}
