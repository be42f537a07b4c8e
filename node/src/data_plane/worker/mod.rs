//! The driver of the media core: one thread a worker, its socket, its clock, its queues.

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_mesh::{Frame, FrameSink};
use sluice_proto::pipe::PipeMessage;

use super::dtls::DtlsCertificate;
use super::messages::{LinkKey, PipeEnd, Request, RequestError, Response, WorkerEvent, WorkerIndex};

/// The way of frames to other nodes. Never blocks; what has no room is dropped and counted there.
pub trait FrameOut: Send + Sync {
    /// Takes all frames.
    fn send_frames(&self, to: LinkKey, frames: &mut Vec<Frame>);
}

/// How the workers of a node are set up.
#[derive(Clone)]
pub struct WorkersConfig {
    /// The media port, shared by all workers.
    pub media_addr: SocketAddr,
    /// Number of workers, at least 1.
    pub count: u16,
    /// The node's certificate.
    pub certificate: Arc<DtlsCertificate>,
    /// Kernel buffer of a media socket in bytes, each way. The system may grant less.
    pub socket_buffer_bytes: usize,
    /// The way of frames to other nodes.
    pub frame_out: Arc<dyn FrameOut>,
}

/// Why workers did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The media port cannot be had.
    #[error("cannot bind media port {addr}: {source}")]
    Bind {
        /// The port.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A thread or its event queue cannot be had.
    #[error("cannot start media worker: {0}")]
    Thread(std::io::Error),
}

/// Starts the workers of a node.
///
/// # Errors
/// [`SpawnError`] if the port is taken or the system refuses a thread.
pub fn spawn_workers(_config: WorkersConfig) -> Result<Workers, SpawnError> {
    todo!()
}

/// The running workers.
pub struct Workers {
    /// A handle each, by index.
    pub handles: Vec<WorkerHandle>,
    /// What the workers report; answers to requests are taken out.
    pub events: tokio::sync::mpsc::Receiver<(WorkerIndex, WorkerEvent)>,
    /// Where the media port was bound.
    pub local_addr: SocketAddr,
}

impl Workers {
    /// Ends the threads and waits for them. Blocks for a few milliseconds.
    pub fn shutdown(self) {
        todo!()
    }
}

/// A way into a worker.
#[derive(Clone)]
pub struct WorkerHandle {}

#[allow(unused_variables)]
impl WorkerHandle {
    /// Which worker.
    pub fn index(&self) -> WorkerIndex {
        todo!()
    }

    /// Asks. The request is queued at once, in order with everything else that is said; the future waits for the answer.
    ///
    /// # Errors
    /// The worker's, or [`RequestError::Unavailable`] if it is gone or its queue is full.
    pub fn request(&self, request: Request) -> impl Future<Output = Result<Response, RequestError>> + Send + use<> {
        async { todo!() }
    }

    /// Asks in order with other requests; an error is only logged.
    pub fn send(&self, request: Request) {
        todo!()
    }

    /// Hands over a message of a route's other end.
    pub fn pipe(&self, from: PipeEnd, message: PipeMessage) {
        todo!()
    }

    /// Where the mesh puts frames of routes that end at this worker. Never blocks; drops are counted.
    pub fn frame_sink(&self) -> Arc<dyn FrameSink> {
        todo!()
    }
}
