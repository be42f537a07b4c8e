//! Messages of data over links: one unidirectional stream for each route that has something to say, so that none waits
//! for another.
//!
//! - `queues`: where messages wait, a queue a route; `writer`: the streams that take them to the peer.
//! - `reader`: what comes by the peer's streams.
//! - `window`: how much may be under way on a link, and how fast it leaves.
//!
//! A route that is silent costs nothing: its stream ends, and so does its place in the table. Messages are lost with
//! the link or where a queue is full; the ends of the route see to that by their numbers.

mod queues;
mod reader;
mod window;
mod writer;

pub(super) use queues::DataQueues;
pub(super) use reader::Reader;
pub(super) use window::{Consumed, SendWindow, WINDOW};
pub(super) use writer::{MAX_STREAMS, write};

/// What a connection knows of data.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// What waits here.
    pub(super) queues: DataQueues,
    /// How much may leave.
    pub(super) window: SendWindow,
    /// What came.
    pub(super) consumed: Consumed,
}
