//! Sending: datagrams of one size to one destination leave in one call, and the kernel or the device cuts them
//! (UDP_SEGMENT).

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use socket2::{MsgHdr, SockAddr, SockRef};

use sluice_media::Transmit;
use sluice_media::drop_reason::{DropCounters, DropReason};

/// Runs that were refused one after the other: then it is not the destination that cannot be sent runs to, but the
/// device that cannot segment.
const MAX_REFUSED: u32 = 16;

/// How many runs are then sent singly before segmentation is tried again.
const RETRY_AFTER: u32 = 64;

/// What became of a transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It left, or never will.
    Done,
    /// The kernel's buffer is full.
    Full,
}

/// How to send, and what was not sent.
#[derive(Debug)]
pub(super) struct Sender {
    /// Datagrams in one call; 1 if the kernel cannot segment.
    max_segments: usize,
    /// Runs that were not segmented since one was.
    refused: u32,
    drops: DropCounters,
}

/// How many datagrams a transmission is.
pub(in crate::worker) fn datagrams(transmit: &Transmit) -> usize {
    transmit.segment_size.map_or(1, |size| transmit.contents.len().div_ceil(size.max(1)))
}

impl Sender {
    pub(super) fn new(max_segments: usize) -> Self {
        Self { max_segments, refused: 0, drops: DropCounters::default() }
    }

    /// What was not sent, by reason.
    pub(super) fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// There was no room to wait.
    pub(super) fn give_up(&mut self, transmit: &Transmit) {
        self.drops.count_many(DropReason::SocketFull, datagrams(transmit) as u64);
    }

    pub(super) fn send(&mut self, socket: &mio::net::UdpSocket, transmit: &Transmit) -> Sent {
        let Some(size) = transmit.segment_size.and_then(|size| u16::try_from(size).ok()) else {
            return self.send_singly(socket, transmit);
        };
        if datagrams(transmit) > self.max_segments || !self.may_segment() {
            return self.send_singly(socket, transmit);
        }
        match send(socket, transmit.destination.socket_addr(), &transmit.contents, Some(size)) {
            Ok(()) => {
                self.refused = 0;
                Sent::Done
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Full,
            // A segment above the path's MTU, or a way that takes no segments, IPsec for one: single datagrams will do,
            // and everybody else's runs go on as before.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE)) => {
                self.refused = self.refused.saturating_add(1);
                self.send_singly(socket, transmit)
            }
            Err(error) => {
                self.count(&error, transmit, datagrams(transmit));
                Sent::Done
            }
        }
    }

    fn may_segment(&mut self) -> bool {
        if self.refused < MAX_REFUSED {
            return true;
        }
        self.refused += 1;
        if self.refused < MAX_REFUSED + RETRY_AFTER {
            return false;
        }
        self.refused = MAX_REFUSED;
        true
    }

    fn send_singly(&mut self, socket: &mio::net::UdpSocket, transmit: &Transmit) -> Sent {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for (index, datagram) in transmit.contents.chunks(size).enumerate() {
            match send(socket, transmit.destination.socket_addr(), datagram, None) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && index == 0 => return Sent::Full,
                Err(error) => self.count(&error, transmit, 1),
            }
        }
        Sent::Done
    }

    fn count(&mut self, error: &io::Error, transmit: &Transmit, datagrams: usize) {
        let reason = match error.raw_os_error() {
            Some(libc::EMSGSIZE) => DropReason::PathMtu,
            _ if error.kind() == ErrorKind::WouldBlock => DropReason::SocketFull,
            _ => DropReason::SocketError,
        };
        tracing::trace!(%error, destination = %transmit.destination.socket_addr(), "media packet not sent");
        self.drops.count_many(reason, datagrams as u64);
    }
}

fn send(
    socket: &mio::net::UdpSocket,
    destination: SocketAddr,
    contents: &[u8],
    segment_size: Option<u16>,
) -> io::Result<()> {
    let (address, buffers) = (SockAddr::from(destination), [IoSlice::new(contents)]);
    let control = segment_size.map(segment_control);
    let mut message = MsgHdr::new().with_addr(&address).with_buffers(&buffers);
    if let Some(control) = &control {
        message = message.with_control(control);
    }
    loop {
        match SockRef::from(socket).sendmsg(&message, 0) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            sent => return sent.map(drop),
        }
    }
}

const CONTROL_HEADER_LEN: usize = size_of::<libc::cmsghdr>();
/// With the padding that aligns the next one, which there is not.
const CONTROL_LEN: usize = CONTROL_HEADER_LEN + align_of::<libc::cmsghdr>();

/// A control message that says where to cut, as CMSG_DATA(3) lays it out.
fn segment_control(segment_size: u16) -> [u8; CONTROL_LEN] {
    let mut control = [0; CONTROL_LEN];
    let len = (CONTROL_HEADER_LEN + size_of::<u16>()).to_ne_bytes();
    let (level, kind) = (libc::SOL_UDP.to_ne_bytes(), libc::UDP_SEGMENT.to_ne_bytes());
    let fields = len.iter().chain(&level).chain(&kind).copied().chain(segment_size.to_ne_bytes());
    control.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    control
}

const _: () = assert!(CONTROL_HEADER_LEN == size_of::<usize>() + 2 * size_of::<libc::c_int>());
