//! The end of a route: where a producer that lives elsewhere enters this worker. What it adds to a producer is the account of
//! the route's frames and the way back to the other end.

use std::time::{Duration, Instant};

use sluice_mesh::{Accept, Frame, RouteReceiver};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{PipeBody, PipeMessage};

use super::drop_reason::DropReason;
use super::messages::PipeEnd;

/// Round-trip time of a pipe to assume until a repair was seen.
const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// Time between two messages of statistics.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// The end of a route.
#[derive(Debug)]
pub struct PipeProducer {
    /// Where the producer lives.
    pub from: PipeEnd,
    /// The route.
    pub route: RouteId,
    /// Which use of it.
    pub epoch: RouteEpoch,
    /// SSRC inside the mesh.
    pub ssrc: u32,
    /// The other end said that the route is over. The control plane closes the producer in its own time.
    pub closed: bool,
    /// The other end said that the pipe has no room for this route. It asks for a key frame itself when it has again.
    pub starved: bool,
    receiver: RouteReceiver,
    stats_at: Option<Instant>,
}

/// What a frame is to its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It came by itself.
    Regular,
    /// It had to be asked for.
    Repaired,
}

impl PipeProducer {
    /// The end of a route on which nothing came yet.
    pub fn new(now: Instant, from: PipeEnd, route: RouteId, epoch: RouteEpoch, ssrc: u32) -> Self {
        let receiver = RouteReceiver::new(now);
        Self { from, route, epoch, ssrc, closed: false, starved: false, receiver, stats_at: None }
    }

    /// A frame of the route came.
    ///
    /// # Errors
    /// Why it is not to be used.
    pub fn receive(&mut self, now: Instant, frame: &Frame) -> Result<Arrival, DropReason> {
        let accept = self.receiver.receive(now, frame.seq, frame.flags.retransmission);
        self.stats_at.get_or_insert(now + STATS_INTERVAL);
        let arrival = match accept {
            Accept::New => Arrival::Regular,
            Accept::Repaired => Arrival::Repaired,
            Accept::Duplicate => return Err(DropReason::PipeDuplicate),
            Accept::TooOld => return Err(DropReason::PipeTooOld),
        };
        if frame.is_shed() { Err(DropReason::PipeShed) } else { Ok(arrival) }
    }

    /// Frames given up since the last call.
    pub fn take_lost(&mut self) -> u64 {
        self.receiver.take_lost()
    }

    /// What is to be said to the other end now.
    pub fn poll_message(&mut self, now: Instant) -> Option<PipeMessage> {
        if self.closed {
            return None;
        }
        if let Some(missing) = self.receiver.poll_nack(now, ASSUMED_RTT) {
            return Some(self.message(PipeBody::Nack(missing)));
        }
        if self.stats_at.is_some_and(|at| at <= now) {
            self.stats_at = Some(now + STATS_INTERVAL);
            return Some(self.message(PipeBody::Stats(self.receiver.stats())));
        }
        None
    }

    /// When [`poll_message`](Self::poll_message) has something to say next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        [self.receiver.poll_timeout(), self.stats_at].into_iter().flatten().min()
    }

    /// A message to the other end.
    pub fn message(&self, body: PipeBody) -> PipeMessage {
        PipeMessage { route: self.route.0, epoch: self.epoch.0, body }
    }
}
