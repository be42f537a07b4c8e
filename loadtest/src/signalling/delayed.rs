//! A byte stream over a path that is not perfect: what signalling feels of it.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep, sleep_until};

use crate::driver::{Direction, PathHandle};

/// Bytes that are taken in one piece.
const CHUNK: usize = 8 * 1024;
/// Pieces under way in one direction; beyond it the sender waits, as TCP's does for its window.
const MAX_UNDER_WAY: usize = 256;

/// Waits as long as TCP's handshake takes on the path: a round trip, once it is not dark.
pub(super) async fn handshake(path: &PathHandle) {
    let mut paths = path.subscribe();
    let lit = paths.wait_for(|paths| !paths.inbound.blackout && !paths.outbound.blackout).await;
    let round_trip = lit.map(|paths| paths.inbound.delay + paths.outbound.delay);
    sleep(round_trip.unwrap_or_default()).await;
}

/// Puts `stream` at the far end of a path. Bytes take its delay and its jitter, in order, and wait while it is dark.
/// Loss, reordering and bottlenecks are not felt: they are TCP's to hide, at a price that is not imitated. Jitter is
/// drawn from `seed`.
pub(super) fn delayed<S>(stream: S, path: &PathHandle, seed: u64) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (near, far) = tokio::io::duplex(CHUNK);
    let (from_server, to_server) = tokio::io::split(stream);
    let (from_user, to_user) = tokio::io::split(far);
    let inbound = carry(from_server, to_user, path.clone(), Direction::In, seed);
    let outbound = carry(from_user, to_server, path.clone(), Direction::Out, seed.wrapping_add(1));
    tokio::spawn(async move {
        tokio::pin!(outbound);
        // When the user is gone, nobody listens to what is still to come.
        tokio::select! {
            _ = &mut outbound => {}
            _ = inbound => drop(outbound.await),
        }
    });
    near
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    path: PathHandle,
    direction: Direction,
    seed: u64,
) -> io::Result<()> {
    let mut paths = path.subscribe();
    let mut impairment = Impairment::new(ImpairmentConfig::default(), seed);
    let mut under_way = VecDeque::new();
    let mut buffer = BytesMut::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        let ImpairmentConfig { delay, jitter, blackout, .. } = *paths.borrow_and_update().direction(direction);
        impairment.set_config(ImpairmentConfig { delay, jitter, ..ImpairmentConfig::default() });
        let arrival = under_way.front().map(|&(at, _)| at).filter(|_| !blackout);
        buffer.reserve(CHUNK);
        tokio::select! {
            read = from.read_buf(&mut buffer), if open && under_way.len() < MAX_UNDER_WAY => {
                // The end travels too: as a chunk with nothing in it.
                open = read? > 0;
                let chunk = buffer.split();
                if let Decision::Deliver { at, .. } = impairment.submit(Instant::now().into_std(), chunk.len()) {
                    under_way.push_back((Instant::from_std(at), chunk));
                }
            }
            () = sleep_until(arrival.unwrap_or_else(Instant::now)), if arrival.is_some() => {
                if let Some((_, chunk)) = under_way.pop_front() {
                    to.write_all(&chunk).await?;
                }
            }
            // The path's handle is held here: there is always somebody who could change it.
            _ = paths.changed() => {}
        }
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::driver::PathConfig;

    const DELAY: Duration = Duration::from_millis(80);

    fn slow() -> PathConfig {
        let slow = ImpairmentConfig { delay: DELAY, ..ImpairmentConfig::default() };
        PathConfig { inbound: slow, outbound: slow }
    }

    fn dark() -> PathConfig {
        let dark = ImpairmentConfig { blackout: true, ..slow().inbound };
        PathConfig { inbound: dark, outbound: dark }
    }

    async fn read(from: &mut DuplexStream) -> String {
        let mut bytes = BytesMut::new();
        from.read_buf(&mut bytes).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_in_both_directions() {
        let path = PathHandle::new(slow());
        let (mut server, end) = tokio::io::duplex(CHUNK);
        let mut user = delayed(end, &path, 1);
        let start = Instant::now();
        user.write_all(b"ping").await.unwrap();
        assert_eq!(read(&mut server).await, "ping");
        server.write_all(b"pong").await.unwrap();
        assert_eq!(read(&mut user).await, "pong");
        let took = start.elapsed();
        assert!(took >= 2 * DELAY && took < 2 * DELAY + Duration::from_millis(5), "{took:?}");
        handshake(&path).await;
        assert!(start.elapsed() >= 4 * DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dark_path_holds_everything_back() {
        let path = PathHandle::new(slow());
        let (mut server, end) = tokio::io::duplex(CHUNK);
        let mut user = delayed(end, &path, 1);
        user.write_all(b"before").await.unwrap();
        assert_eq!(read(&mut server).await, "before");
        path.set(dark());
        user.write_all(b"during").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), read(&mut server)).await.is_err());
        assert!(tokio::time::timeout(Duration::from_secs(60), handshake(&path)).await.is_err());
        path.set(slow());
        assert_eq!(read(&mut server).await, "during");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_either_side_arrives_after_what_was_said() {
        let path = PathHandle::new(slow());
        let (mut server, end) = tokio::io::duplex(CHUNK);
        let mut user = delayed(end, &path, 1);
        user.write_all(b"bye").await.unwrap();
        user.shutdown().await.unwrap();
        assert_eq!((read(&mut server).await, read(&mut server).await), ("bye".to_owned(), String::new()));

        let (mut server, end) = tokio::io::duplex(CHUNK);
        let mut user = delayed(end, &path, 1);
        server.write_all(b"bye").await.unwrap();
        drop(server);
        assert_eq!((read(&mut user).await, read(&mut user).await), ("bye".to_owned(), String::new()));
    }
}
