//! The media core of one worker: it owns the transports, routers, producers and consumers, and hands inputs to them. No I/O:
//! inputs and time go in by [`Media::handle_input`], outputs are drained by [`Media::poll_output`] after each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_mesh::Frame;

use super::dtls::DtlsCertificate;
use super::io::{Input, Output};
use super::messages::WorkerIndex;

/// What a media core is told once.
#[derive(Clone)]
pub struct MediaConfig {
    /// Which worker it is.
    pub worker: WorkerIndex,
    /// The node's certificate.
    pub certificate: Arc<DtlsCertificate>,
    /// One instant on both clocks: the monotonic one that inputs come with, and the time since the Unix epoch then.
    pub epoch: (Instant, Duration),
    /// Where all randomness of the core comes from.
    pub seed: u64,
}

/// The media core of one worker.
pub struct Media {}

#[allow(unused_variables)]
impl Media {
    /// A core without anything in it.
    pub fn new(config: MediaConfig) -> Self {
        todo!()
    }

    /// Does what the input asks for. Outputs are to be drained before the next one.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        todo!()
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// When [`Input::Timeout`] is to be given next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Takes a buffer of a [`Transmit`](super::io::Transmit) or [`Output::Forward`] back, so that the next one needs no allocation.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        todo!()
    }

    /// Takes the vector of an [`Output::Frames`] back.
    pub fn recycle_frames(&mut self, frames: Vec<Frame>) {
        todo!()
    }
}
