//! What goes into the media core and what comes out of it. The core does no I/O: a driver owns the sockets and the
//! clock, and drains the outputs after each input.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_mesh::{DataMessage, Frame};
use sluice_proto::pipe::RouteFeedback;

use crate::address::TransportAddress;
use crate::messages::{PipeEnd, WorkerCommand, WorkerEvent, WorkerIndex};

/// A datagram as it came in. The data are decrypted in place.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Where it came from.
    pub source: TransportAddress,
    /// Its payload.
    pub data: &'a mut [u8],
}

/// Into the media core of a worker.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an input is handed over by value and never kept")]
pub enum Input<'a> {
    /// From the control plane.
    Command(WorkerCommand),
    /// A batch from users, by this worker's socket or passed on by another worker.
    Datagrams(&'a mut [Datagram<'a>]),
    /// A batch of a pipe or of another worker. The core takes what it wants; the rest is cleared.
    Frames {
        /// Whose they are.
        from: PipeEnd,
        /// The frames.
        frames: &'a mut Vec<Frame>,
    },
    /// What the other end of a route says. About an unknown route it is old news, which is counted.
    Feedback {
        /// Who said it.
        from: PipeEnd,
        /// What was said.
        feedback: RouteFeedback,
    },
    /// A message of a route of data.
    Data {
        /// Whose it is.
        from: PipeEnd,
        /// The message.
        message: DataMessage,
    },
    /// Another worker has authenticated an address of UDP, which it says again while it is in use, or has no use for it
    /// any more.
    AddressOwned {
        /// The client's address.
        address: SocketAddr,
        /// The other worker.
        worker: WorkerIndex,
        /// Whether it is that worker's from now on.
        owned: bool,
    },
    /// The connection with this other end is over: nobody is there any more.
    ConnectionEnded(SocketAddr),
    /// How late the worker is: every few milliseconds while there is something to do, before what has waited in its
    /// socket.
    Lag {
        /// How long it has waited there or, if that is more, what came by other ways since this was told last.
        waited: Duration,
        /// How long the worker had nothing to do since this was told last.
        idle: Duration,
    },
    /// The time that `poll_timeout` named has come.
    Timeout,
}

/// Out of the media core of a worker.
#[derive(Debug)]
pub enum Output {
    /// To a user.
    Transmit(Transmit),
    /// To a pipe or another worker.
    Frames {
        /// The route's other end.
        to: PipeEnd,
        /// The frames.
        frames: Vec<Frame>,
    },
    /// To the other end of a route.
    Feedback {
        /// Whom to tell.
        to: PipeEnd,
        /// What to say.
        feedback: RouteFeedback,
    },
    /// A message of a route of data, to its other end. It may get lost only with the connection, or where a queue is
    /// full.
    Data {
        /// The route's other end.
        to: PipeEnd,
        /// The message.
        message: DataMessage,
    },
    /// To the control plane.
    Event(WorkerEvent),
    /// A datagram of a transport that lives on another worker. What came by a connection is never passed on.
    Forward {
        /// That worker.
        to: WorkerIndex,
        /// Where the datagram came from.
        source: SocketAddr,
        /// Whether that worker is known to own the address. Else it is a check, and nothing vouches for it yet.
        known: bool,
        /// Its payload.
        data: Vec<u8>,
    },
    /// This worker authenticated an address, which is said again every few seconds while it is in use, or has no use
    /// for it any more. One of UDP is for other workers, and needs to reach only who passes its datagrams on. A
    /// connection that the worker has no use for is to be closed.
    AddressOwned {
        /// The client's address.
        address: TransportAddress,
        /// Whether it is this worker's from now on.
        owned: bool,
    },
}

/// Datagrams to one destination: one system call with segmentation offload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: TransportAddress,
    /// Whether nothing but video is in it: what is given up first where not all can be sent.
    pub is_video: bool,
    /// Length of each datagram in `contents` if there are several; only the last may be shorter.
    pub segment_size: Option<usize>,
    /// The payloads, one after the other.
    pub contents: Vec<u8>,
}
