//! A user's connection in place of a socket (RFC 6544): each datagram behind its length (RFC 4571).

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Bytes that wait while the kernel takes no more: a second of 8 Mbit/s.
const MAX_UNSENT: usize = 1 << 20;
/// Before each datagram.
const LENGTH_LEN: usize = 2;

/// One connection, from its attempt on.
pub(super) struct UserStream {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    unsent: Vec<u8>,
    over: bool,
}

impl UserStream {
    /// Begins to connect.
    pub(super) fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: Vec::new(), unsent: Vec::new(), over: false })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Puts a datagram behind those that were not sent yet; `false` if there is no room.
    pub(super) fn push(&mut self, datagram: &[u8]) -> bool {
        let Ok(len) = u16::try_from(datagram.len()) else { return false };
        if self.over || self.unsent.len() + LENGTH_LEN + datagram.len() > MAX_UNSENT {
            return false;
        }
        self.unsent.extend_from_slice(&len.to_be_bytes());
        self.unsent.extend_from_slice(datagram);
        true
    }

    /// Sends what the kernel takes.
    pub(super) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.unsent.len() && !self.over {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                // Not connected yet is the same.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.end(&error),
            }
        }
        self.unsent.drain(..sent);
    }

    /// Reads the datagrams that have come whole, as many as `buffer` has room for. The flag tells whether there may be
    /// more.
    pub(super) fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> (Vec<&'a mut [u8]>, bool) {
        let mut len = self.rest.len();
        buffer[..len].copy_from_slice(&self.rest);
        let mut more = true;
        while len < buffer.len() && more && !self.over {
            match self.stream.read(&mut buffer[len..]) {
                Ok(0) => self.end(&ErrorKind::UnexpectedEof.into()),
                Ok(count) => len += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => more = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.end(&error),
            }
        }
        let (mut rest, mut datagrams) = (&mut buffer[..len], Vec::new());
        while let Some(&length) = rest.first_chunk() {
            let end = LENGTH_LEN + usize::from(u16::from_be_bytes(length));
            if rest.len() < end {
                break;
            }
            let (frame, behind) = std::mem::take(&mut rest).split_at_mut(end);
            datagrams.push(&mut frame[LENGTH_LEN..]);
            rest = behind;
        }
        self.rest.clear();
        self.rest.extend_from_slice(rest);
        (datagrams, more && !self.over)
    }

    /// Nothing goes and comes any more. The user notices by consent.
    fn end(&mut self, error: &io::Error) {
        tracing::debug!(%error, "a connection is over");
        self.over = true;
    }
}
