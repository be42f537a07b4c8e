//! A stream that somebody has looked into, to see what is spoken on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are enough to tell one protocol from another.
pub(crate) const FIRST_LEN: usize = 8;

/// A stream whose first bytes have been read, and are read once more.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    first: [u8; FIRST_LEN],
    rest: std::ops::Range<usize>,
    stream: S,
}

impl<S> Rewound<S> {
    /// A stream of which the first `len` bytes have been read already.
    pub(crate) fn new(first: [u8; FIRST_LEN], len: usize, stream: S) -> Self {
        Self { first, rest: 0..len, stream }
    }

    /// What comes behind those bytes.
    pub(crate) fn into_rest(self) -> S {
        self.stream
    }
}

/// Nobody has looked into it.
impl<S> From<S> for Rewound<S> {
    fn from(stream: S) -> Self {
        Self::new([0; FIRST_LEN], 0, stream)
    }
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
