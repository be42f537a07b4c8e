//! Connections: a relay that stands for a node's TCP port.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::relay::{RelayConfig, clock};
use super::{Path, PathPair};

/// Connections at a time; further ones are closed at once. Nodes of a mesh have one to each other; one that gave up
/// during a blackout is noticed only after it.
const MAX_CONNECTIONS: usize = 256;

/// Largest piece that is delayed as one: a segment of TCP on an Ethernet.
const MAX_PIECE: usize = 1448;

/// Pieces under way in one direction of a connection: a window of 1.4 MB, 140 Mbit/s at 80 ms. When it is full the
/// relay stops reading, which the sender notices.
const WINDOW: usize = 1024;

/// A SYN and its answer.
const SYN: usize = 40;

/// The bottleneck is waited for when it is behind by more than tokio's timers are coarse.
const SLACK: Duration = Duration::from_millis(2);

/// After a failed accept (file descriptors have run out), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running relay of connections; it ends when dropped, and its connections with it.
///
/// Delay, jitter and rate apply to each piece, in order; a blackout holds everything back until it is over. Loss,
/// reordering and duplication are not modelled: TCP hides them from its users, at the price of delay that depends on
/// both ends' kernels.
#[derive(Debug)]
pub struct TcpRelay {
    local_addr: SocketAddr,
    _stop: DropGuard,
}

impl TcpRelay {
    /// Starts relaying. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn spawn(config: RelayConfig) -> io::Result<Self> {
        let listener = StdListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let local_addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, config, stop.clone())));
        Ok(Self { local_addr, _stop: stop.drop_guard() })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

async fn accept(listener: TcpListener, config: RelayConfig, stop: CancellationToken) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "relay cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = free.clone().try_acquire_owned() else { continue };
        let (target, paths) = (config.target, config.path(source).clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            if let Err(error) = connect(stream, target, paths).await {
                debug!(%source, %error, "a relayed connection ended");
            }
            drop(place);
        }));
    }
}

/// One connection, until both ends have closed it or one of them breaks it.
async fn connect(near: TcpStream, target: SocketAddr, PathPair { forward, backward }: PathPair) -> io::Result<()> {
    near.set_nodelay(true)?;
    // The kernel has shaken hands with the near end already: the round trip that this takes is made up for.
    tokio::time::sleep_until(forward.pass(SYN).await.arrives.into()).await;
    let far = TcpStream::connect(target).await?;
    far.set_nodelay(true)?;
    tokio::time::sleep_until(backward.pass(SYN).await.arrives.into()).await;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::try_join!(carry(near_read, far_write, &forward), carry(far_read, near_write, &backward))?;
    Ok(())
}

/// One direction of a connection, until its end has arrived.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, path: &Path) -> io::Result<()> {
    let (under_way, arriving) = mpsc::channel(WINDOW);
    tokio::try_join!(depart(from, path, under_way), arrive(arriving, to))?;
    Ok(())
}

/// The end of the stream travels as an empty piece.
async fn depart(mut from: OwnedReadHalf, path: &Path, under_way: mpsc::Sender<(Instant, Bytes)>) -> io::Result<()> {
    let mut buffer = [0; MAX_PIECE];
    loop {
        let len = from.read(&mut buffer).await?;
        let passage = path.pass(len).await;
        let piece = buffer.get(..len).map_or_else(Bytes::new, Bytes::copy_from_slice);
        if under_way.send((passage.arrives, piece)).await.is_err() || len == 0 {
            return Ok(());
        }
        if passage.sent > clock() + SLACK {
            tokio::time::sleep_until(passage.sent.into()).await;
        }
    }
}

async fn arrive(mut arriving: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some((at, piece)) = arriving.recv().await {
        tokio::time::sleep_until(at.into()).await;
        if piece.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&piece).await?;
    }
    Ok(())
}
