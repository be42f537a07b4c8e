//! The unidirectional streams of a connection. The first byte of each says what it is for.

use std::sync::Arc;

use quinn::{Connection, RecvStream};
use tokio::task::JoinSet;

use super::close::CloseCode;
use super::{data, gossip};

/// A gossip message.
pub(super) const GOSSIP: u8 = 0;

/// Messages of a route of data.
pub(super) const DATA: u8 = 1;

/// Streams that a peer may have open at one time.
pub(super) const MAX_STREAMS: u32 = gossip::MAX_STREAMS + data::MAX_STREAMS as u32;

/// Reads what the peer's streams bring, until the connection ends.
pub(super) async fn read(connection: Connection, gossip: gossip::Reader, data: data::Reader) {
    let readers = Arc::new((gossip, data));
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_uni() => match accepted {
                Ok(stream) => {
                    streams.spawn(receive(connection.clone(), stream, readers.clone()));
                }
                Err(_) => return,
            },
            // Keeps the set as small as the number of streams under way, which the connection bounds.
            Some(ended) = streams.join_next() => if ended.is_err() {
                // It has panicked.
                return;
            },
        }
    }
}

async fn receive(connection: Connection, mut stream: RecvStream, readers: Arc<(gossip::Reader, data::Reader)>) {
    let mut kind = [0];
    if stream.read_exact(&mut kind).await.is_err() {
        // It has ended before it said anything, or the connection has.
        return;
    }
    let (gossip, data) = &*readers;
    match kind {
        [GOSSIP] => gossip.run(stream).await,
        [DATA] => data.run(stream).await,
        _ => CloseCode::Protocol.close(&connection),
    }
}
