//! The receiving end: what comes by the peer's streams, for the sinks of its routes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::RecvStream;
use tracing::warn;

use super::window::WINDOW;
use crate::data_message::{DataDecoder, DataError, DataMessage};
use crate::io::clock;
use crate::io::close::CloseCode;
use crate::io::link::{Current, Link};
use crate::io::routes::RouteTable;
use crate::io::unknown::UnknownRoutes;

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("more is begun than may be under way")]
    Window,
    #[error(transparent)]
    Stream(#[from] quinn::ReadError),
}

/// Reads the streams of data of one connection.
pub(in crate::io) struct Reader {
    link: Arc<Link>,
    current: Arc<Current>,
    routes: Arc<RouteTable>,
    unknown: Mutex<UnknownRoutes>,
    /// Bytes of messages of all streams that are not complete.
    held: AtomicUsize,
}

impl Reader {
    pub(in crate::io) fn new(link: Arc<Link>, current: Arc<Current>, routes: Arc<RouteTable>) -> Self {
        let unknown = Mutex::new(UnknownRoutes::new(clock()));
        Self { link, current, routes, unknown, held: AtomicUsize::new(0) }
    }

    /// Hands over what a stream brings, until it ends. A peer that cannot be understood is closed.
    pub(in crate::io) async fn run(&self, stream: RecvStream) {
        match self.read(stream).await {
            Ok(()) | Err(Unreadable::Stream(quinn::ReadError::ConnectionLost(_))) => {}
            Err(error) => {
                warn!(peer = %self.link.instance, %error, "the peer sends data that cannot be understood");
                CloseCode::Protocol.close(&self.current.connection);
            }
        }
    }

    async fn read(&self, mut stream: RecvStream) -> Result<(), Unreadable> {
        let mut decoder = DataDecoder::new();
        while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
            let before = decoder.held();
            let mut input = chunk.bytes.as_ref();
            while let Some(message) = decoder.decode(&mut input)? {
                self.deliver(message);
            }
            self.hold(before, decoder.held())?;
        }
        Ok(decoder.finish()?)
    }

    /// A peer that keeps to its window has no more messages under way than fit in it.
    fn hold(&self, before: usize, now: usize) -> Result<(), Unreadable> {
        let others = self.held.fetch_sub(before, Ordering::Relaxed) - before;
        self.held.fetch_add(now, Ordering::Relaxed);
        if others + now > WINDOW as usize { Err(Unreadable::Window) } else { Ok(()) }
    }

    fn deliver(&self, message: DataMessage) {
        let counters = &self.link.counters;
        let len = message.encoded_len();
        match self.routes.get(message.route, message.epoch) {
            Ok(sink) => {
                counters.data_received.add(1);
                counters.data_bytes_received.add(message.payload.len() as u64);
                sink.data(self.current.key, message);
            }
            Err(error) => {
                let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
                self.link.refuse(&self.current, &mut unknown, (message.route, message.epoch), error);
            }
        }
        self.current.data.consumed.add(len);
    }
}
