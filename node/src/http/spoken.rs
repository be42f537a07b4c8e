//! What is spoken on a connection to the users' port: told by the first bytes that the client sends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use sluice_media::wire::stun::MAGIC_COOKIE;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// With which it can be told.
const ENOUGH: usize = 8;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Or something that HTTP refuses.
    Http,
    /// Whose messages begin as those of STUN do.
    Turn,
}

impl Spoken {
    /// As soon as there are enough bytes. HTTP begins with a letter, STUN with two zero bits, and has its cookie behind
    /// its length (RFC 8489 section 5).
    fn of(first: &[u8]) -> Option<Self> {
        match first.first()? {
            b' '.. => Some(Self::Http),
            _ if first.len() < ENOUGH => None,
            _ if first[4..ENOUGH] == MAGIC_COOKIE.to_be_bytes() => Some(Self::Turn),
            _ => Some(Self::Http),
        }
    }
}

/// Reads until it is known what is spoken; nothing of what was read is lost. `None` if the client went before.
///
/// # Errors
/// The system's.
pub(super) async fn listen<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Option<(Spoken, Rewound<S>)>> {
    let (mut first, mut len) = ([0; ENOUGH], 0);
    loop {
        match stream.read(&mut first[len..]).await? {
            0 => return Ok(None),
            read => len += read,
        }
        if let Some(spoken) = Spoken::of(&first[..len]) {
            return Ok(Some((spoken, Rewound { first, rest: 0..len, stream })));
        }
    }
}

/// A stream whose first bytes have been read, and are read once more.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    first: [u8; ENOUGH],
    rest: std::ops::Range<usize>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let len = self.rest.len().min(buffer.remaining());
        let end = self.rest.start + len;
        buffer.put_slice(&self.first[self.rest.start..end]);
        self.rest.start = end;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_told_by_the_first_bytes() {
        let turn = [0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        assert_eq!(Spoken::of(&turn), Some(Spoken::Turn));
        assert!((0..turn.len()).all(|len| Spoken::of(&turn[..len]).is_none()));
        assert_eq!(Spoken::of(b"G"), Some(Spoken::Http));
        assert_eq!(Spoken::of(&[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x43]), Some(Spoken::Http));
        assert_eq!(Spoken::of(&[0x40, 0, 0, 4, 0x21, 0x12, 0xa4, 0x42]), Some(Spoken::Http));
    }

    #[tokio::test]
    async fn nothing_that_was_read_is_lost() {
        let request = b"\r\nGET / HTTP/1.1\r\n\r\n".as_slice();
        let (spoken, mut stream) = listen(request).await.unwrap().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!((spoken, read.as_slice()), (Spoken::Http, request));
        assert!(listen([0_u8; 3].as_slice()).await.unwrap().is_none());
    }
}
