//! The sending end: streams for the routes that have something to say.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use quinn::WriteError;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::debug;

use super::queues::Route;
use crate::data_message::{encode_data_message, encode_data_route};
use crate::io::close::CloseCode;
use crate::io::link::{Current, Link};
use crate::io::streams;

/// Streams of data of a connection at one time. Each is a task and some kilobytes; of more routes one gives way to the
/// next.
pub(in crate::io) const MAX_STREAMS: usize = 512;

/// A stream that has nothing to carry for this long ends. Opening one costs six bytes and no time.
const IDLE: Duration = Duration::from_secs(5);

/// Messages that are written at once.
const BATCH: usize = 64 * 1024;

/// Of what is written as much leaves at a time: the others have their turns soon.
const PIECE: usize = 8 * 1024;

/// After control messages and gossip.
const PRIORITY: i32 = -1;

/// Sends what waits, until the connection ends.
pub(in crate::io) async fn write(link: Arc<Link>, current: Arc<Current>) {
    let gives_way = Arc::new(Notify::new());
    let mut streams = JoinSet::new();
    loop {
        let ended = tokio::select! {
            route = current.data.queues.next() => {
                let crowded = streams.len() >= MAX_STREAMS;
                let ended = if crowded {
                    gives_way.notify_one();
                    streams.join_next().await
                } else {
                    None
                };
                let stream = Stream { link: link.clone(), current: current.clone(), gives_way: gives_way.clone() };
                streams.spawn(stream.run(route));
                ended
            }
            ended = streams.join_next(), if !streams.is_empty() => ended,
        };
        match ended {
            None | Some(Ok(Ok(()))) => {}
            // The peer has stopped a stream, or the connection has ended.
            Some(Ok(Err(error))) => {
                debug!(peer = %link.instance, %error, "a stream of data is closed");
                return CloseCode::Protocol.close(&current.connection);
            }
            // It has panicked.
            Some(Err(_)) => return,
        }
    }
}

/// One stream of one route.
struct Stream {
    link: Arc<Link>,
    current: Arc<Current>,
    /// Another route needs the place.
    gives_way: Arc<Notify>,
}

impl Stream {
    async fn run(self, route: Route) -> Result<(), WriteError> {
        let data = &self.current.data;
        let ready = data.queues.ready(route);
        let mut send = self.current.connection.open_uni().await?;
        // Fails only when the stream is closed, which the first write tells.
        let _ = send.set_priority(PRIORITY);
        let mut bytes = BytesMut::new();
        bytes.put_u8(streams::DATA);
        encode_data_route(route.0, route.1, &mut bytes);
        let mut messages = Vec::new();
        loop {
            data.queues.take(route, BATCH, &mut messages);
            if messages.is_empty() {
                tokio::select! {
                    () = ready.notified() => continue,
                    () = self.gives_way.notified() => break,
                    () = tokio::time::sleep(IDLE) => break,
                }
            }
            data.window.take(messages.iter().map(|message| message.encoded_len()).sum()).await;
            let counters = &self.link.counters;
            for message in messages.drain(..) {
                // None is too long: it would not have been queued.
                if encode_data_message(&message, &mut bytes).is_ok() {
                    counters.data_sent.add(1);
                    counters.data_bytes_sent.add(message.payload.len() as u64);
                }
            }
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE)).freeze();
                data.window.pace(piece.len()).await;
                send.write_chunk(piece).await?;
            }
            let is_to_give_way = tokio::select! {
                biased;
                () = self.gives_way.notified() => true,
                () = std::future::ready(()) => false,
            };
            if is_to_give_way {
                break;
            }
        }
        // Fails only on a stream that was finished before.
        let _ = send.finish();
        // What the next stream of the route brings is to come after what this one did.
        let end = send.stopped().await;
        let end = end.map_err(|_| WriteError::ConnectionLost(quinn::ConnectionError::LocallyClosed))?;
        if let Some(code) = end {
            return Err(WriteError::Stopped(code));
        }
        data.queues.end(route);
        Ok(())
    }
}
