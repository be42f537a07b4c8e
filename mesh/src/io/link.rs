//! The links to one incarnation of a peer. A link is one connection, with a key of its own: what was said on one is no
//! part of the next.
//!
//! There is one at a time. One task per incarnation sees them one after the other, so that their events are in order by
//! construction.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use quinn::{Connection, ConnectionError};
use rustc_hash::FxHashMap;
use sluice_proto::ids::{NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, FeedbackBody, RouteControl, RouteFeedback};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::clock;
use super::close::{CloseCode, down_reason, newer_known};
use super::counters::{DropReason, LinkCounters};
use super::data::Data;
use super::hello::Control;
use super::panics::{Panicked, caught};
use super::pipe::{Pipe, PipeContext};
use super::queue::FrameQueue;
use super::routes::NoRoute;
use super::sink::FrameSink;
use super::types::{LinkDownReason, MeshEvent};
use super::unknown::UnknownRoutes;
use crate::LinkKey;
use crate::frame::encode_nacks;
use crate::shed::Shedder;
use crate::{DataMessage, Frame};

/// Control messages that may wait for a peer's control stream: a few round trips' worth. Whoever says more keeps it
/// until there is room.
pub(super) const CONTROL_QUEUE: usize = 512;

/// Feedback that may wait for the stream: a second's account of a thousand routes. What does not fit is dropped and
/// counted; if it still matters it will be said again.
pub(super) const FEEDBACK_QUEUE: usize = 2048;

/// Gossip messages that may wait for a link: a few rounds of gossip; older ones say nothing new.
pub(super) const GOSSIP_QUEUE: usize = 32;

/// A connection that both ends want, with what it takes to use it.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) current: Arc<Current>,
    pub(super) stream: Control,
    pub(super) control: mpsc::Receiver<RouteControl>,
    pub(super) feedback: mpsc::Receiver<RouteFeedback>,
    pub(super) gossip: mpsc::Receiver<Bytes>,
}

/// The uses of route ids, as the peer allocated them, and who sends on them.
type RoutesOut = FxHashMap<RouteId, (RouteEpoch, Arc<dyn FrameSink>)>;

/// How the present connection is reached from outside the link's task.
pub(super) struct Current {
    pub(super) key: LinkKey,
    pub(super) connection: Connection,
    pub(super) dialled_here: bool,
    pub(super) data: Data,
    control: mpsc::Sender<RouteControl>,
    feedback: mpsc::Sender<RouteFeedback>,
    gossip: mpsc::Sender<Bytes>,
    /// Who takes feedback about the routes that begin at this end; looked up once a message.
    routes_out: Mutex<RoutesOut>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("key", &self.key).field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Current {
    /// Messages that wait for the control stream.
    pub(super) fn waiting_messages(&self) -> usize {
        let feedback = FEEDBACK_QUEUE - self.feedback.capacity();
        CONTROL_QUEUE - self.control.capacity() + feedback
    }

    /// Gossip that waits.
    pub(super) fn waiting_gossip(&self) -> usize {
        GOSSIP_QUEUE - self.gossip.capacity()
    }

    /// False if there is no room now. On a connection that has ended there always is.
    #[must_use]
    pub(super) fn send_control(&self, message: RouteControl) -> bool {
        !matches!(self.control.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Gives feedback about a route that begins here to whom it is for; false if there is no such route.
    pub(super) fn hear_of_route_out(&self, feedback: RouteFeedback) -> bool {
        let (route, epoch) = (RouteId(feedback.route), RouteEpoch(feedback.epoch));
        let sink = self.routes_out().get(&route).filter(|(of, _)| *of == epoch).map(|(_, sink)| sink.clone());
        sink.map(|sink| sink.feedback(self.key, feedback)).is_some()
    }

    pub(super) fn open_route_out(&self, route: RouteId, epoch: RouteEpoch, sink: Arc<dyn FrameSink>) {
        self.routes_out().insert(route, (epoch, sink));
    }

    fn close_route_out(&self, route: RouteId, epoch: RouteEpoch) {
        let mut routes = self.routes_out();
        if routes.get(&route).is_some_and(|(of, _)| *of == epoch) {
            routes.remove(&route);
        }
    }

    fn routes_out(&self) -> MutexGuard<'_, RoutesOut> {
        self.routes_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the links to one incarnation of a peer have in common, and the present one.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) instance: NodeInstance,
    pub(super) advertised: SocketAddr,
    pub(super) queue: FrameQueue,
    pub(super) counters: LinkCounters,
    pub(super) current: ArcSwapOption<Current>,
    /// The incarnation is no more.
    voided: CancellationToken,
    /// Because of this one.
    successor: OnceLock<u64>,
}

impl Link {
    pub(super) fn new(instance: NodeInstance, advertised: SocketAddr, stop: &CancellationToken) -> Self {
        Self {
            instance,
            advertised,
            queue: FrameQueue::default(),
            counters: LinkCounters::default(),
            current: ArcSwapOption::empty(),
            voided: stop.child_token(),
            successor: OnceLock::new(),
        }
    }

    /// Makes a connection the present one and closes the one before. What is returned goes to the link's task.
    pub(super) fn install(
        &self,
        key: LinkKey,
        connection: Connection,
        dialled_here: bool,
        stream: Control,
    ) -> Established {
        let (control, control_out) = mpsc::channel(CONTROL_QUEUE);
        let (feedback, feedback_out) = mpsc::channel(FEEDBACK_QUEUE);
        let (gossip, gossip_out) = mpsc::channel(GOSSIP_QUEUE);
        let routes_out = Mutex::default();
        let data = Data::default();
        let current = Arc::new(Current { key, connection, dialled_here, data, control, feedback, gossip, routes_out });
        if let Some(former) = self.current.swap(Some(current.clone())) {
            CloseCode::Duplicate.close(&former.connection);
        }
        self.counters.connections.add(1);
        Established { current, stream, control: control_out, feedback: feedback_out, gossip: gossip_out }
    }

    /// The present connection, if it is alive.
    pub(super) fn live(&self) -> Option<Arc<Current>> {
        self.current.load_full().filter(|current| current.connection.close_reason().is_none())
    }

    /// The present connection, if it is the one with this key.
    pub(super) fn connection(&self, key: LinkKey) -> Option<Arc<Current>> {
        self.current.load_full().filter(|current| current.key == key)
    }

    pub(super) fn send_frames(&self, key: LinkKey, frames: &mut Vec<Frame>) {
        if self.current.load().as_ref().is_none_or(|current| current.key != key) {
            self.counters.drop(DropReason::LinkDown, frames.len() as u64);
            frames.clear();
            return;
        }
        let refused = self.queue.push(frames);
        if refused > 0 {
            self.counters.drop(DropReason::QueueFull, refused as u64);
        }
    }

    pub(super) fn send_feedback(&self, key: LinkKey, feedback: RouteFeedback) {
        let current = self.current.load();
        let Some(current) = current.as_ref().filter(|current| current.key == key) else {
            return self.counters.drop(DropReason::LinkDown, 1);
        };
        if let FeedbackBody::Nack(missing) = &feedback.body {
            return self.send_nack(&current.connection, &feedback, missing);
        }
        match current.feedback.try_send(feedback) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.counters.drop(DropReason::FeedbackFull, 1),
            Err(mpsc::error::TrySendError::Closed(_)) => self.counters.drop(DropReason::LinkDown, 1),
        }
    }

    pub(super) fn send_data(&self, key: LinkKey, message: DataMessage) {
        let current = self.current.load();
        let current = current.as_ref().filter(|current| current.key == key).ok_or(DropReason::LinkDown);
        if let Err(reason) = current.and_then(|current| current.data.queues.push(message)) {
            self.counters.drop(reason, 1);
        }
    }

    /// Closes a route that begins at this end. What waits of it is dropped.
    pub(super) fn close_route_out(&self, key: LinkKey, route: RouteId, epoch: RouteEpoch) {
        let Some(current) = self.connection(key) else { return };
        current.close_route_out(route, epoch);
        self.counters.drop(DropReason::RouteClosed, current.data.queues.clear(route, epoch) as u64);
    }

    /// As datagrams, which wait for nothing that was lost before.
    fn send_nack(&self, connection: &Connection, feedback: &RouteFeedback, missing: &[u16]) {
        let Some(max_size) = connection.max_datagram_size() else {
            return self.counters.drop(DropReason::FeedbackFull, 1);
        };
        for datagram in encode_nacks(RouteId(feedback.route), RouteEpoch(feedback.epoch), missing, max_size) {
            // QUIC would throw away a frame to make room.
            if connection.datagram_send_buffer_space() < datagram.len() {
                self.counters.drop(DropReason::FeedbackFull, 1);
            } else if connection.send_datagram(datagram).is_err() {
                self.counters.drop(DropReason::LinkDown, 1);
            }
        }
    }

    /// Whether the message will be sent unless the link goes down.
    pub(super) fn send_gossip(&self, payload: Bytes) -> bool {
        let Some(current) = self.live() else { return false };
        if current.gossip.try_send(payload).is_err() {
            self.counters.drop(DropReason::GossipFull, 1);
        }
        true
    }

    /// Tells the peer that a route which it speaks of is none. If there is no room for that, its next word will be
    /// answered.
    pub(super) fn answer_unknown(&self, current: &Current, route: RouteId, epoch: RouteEpoch, body: ControlBody) {
        if current.send_control(RouteControl { route: route.0, epoch: epoch.0, body }) {
            self.counters.unknown_routes_answered.add(1);
        }
    }

    /// Counts what arrived for a route that is none. Whoever sends on one is told to stop.
    pub(super) fn refuse(
        &self,
        current: &Current,
        unknown: &mut UnknownRoutes,
        (route, epoch): (RouteId, RouteEpoch),
        error: NoRoute,
    ) {
        let reason = match error {
            NoRoute::Unknown => DropReason::UnknownRoute,
            NoRoute::Epoch => DropReason::StaleEpoch,
        };
        self.counters.drop(reason, 1);
        if unknown.is_to_be_answered(clock(), route, epoch) {
            self.answer_unknown(current, route, epoch, ControlBody::Unsubscribe);
        }
    }

    /// A newer incarnation is here: ends the link's task.
    pub(super) fn void(&self, successor: u64) {
        let _ = self.successor.set(successor);
        self.voided.cancel();
    }

    pub(super) fn close(&self, code: CloseCode) {
        if let Some(current) = self.current.load().as_ref() {
            code.close(&current.connection);
        }
    }
}

/// Sees the links to one incarnation of a peer.
pub(super) struct LinkTask {
    pub(super) link: Arc<Link>,
    pub(super) connections: mpsc::Receiver<Established>,
    pub(super) context: PipeContext,
    /// The task of the incarnation before.
    pub(super) predecessor: Option<JoinHandle<()>>,
}

impl LinkTask {
    pub(super) async fn run(mut self) {
        if let Some(predecessor) = self.predecessor.take() {
            // It says that its link is down before this one says that it is up.
            let _ = predecessor.await;
        }
        let mut shedder = Shedder::new();
        let voided = self.link.voided.clone();
        let mut next = self.next(&voided).await;
        while let Some(established) = next.take() {
            let key = established.current.key;
            let ended = self.run_pipe(established, &mut shedder, &voided).await;
            if self.context.stop.is_cancelled() {
                break;
            }
            let reason = match ended {
                None => LinkDownReason::NewIncarnation,
                Some(_) if !self.connections.is_empty() => LinkDownReason::Replaced,
                Some(error) if CloseCode::Duplicate.is(&error) => LinkDownReason::Replaced,
                Some(error) => down_reason(&error),
            };
            self.emit_down(key, reason).await;
            next = self.next(&voided).await;
        }
        self.link.close(self.farewell());
        self.link.current.store(None);
    }

    async fn next(&mut self, voided: &CancellationToken) -> Option<Established> {
        voided.run_until_cancelled(self.connections.recv()).await.flatten()
    }

    /// Why the connection ended; `None`: the link did.
    async fn run_pipe(
        &self,
        established: Established,
        shedder: &mut Shedder,
        voided: &CancellationToken,
    ) -> Option<ConnectionError> {
        let current = established.current.clone();
        info!(peer = %self.link.instance, addr = %current.connection.remote_address(), "link up");
        self.emit(MeshEvent::LinkUp { key: current.key, instance: self.link.instance.clone() }).await;
        let pipe = Pipe { link: self.link.clone(), context: self.context.clone() };
        let ended = match voided.run_until_cancelled(caught(pipe.run(established, shedder))).await {
            Some(Ok(ended)) => Some(ended),
            Some(Err(Panicked)) => {
                CloseCode::Broken.close(&current.connection);
                *shedder = Shedder::new();
                Some(ConnectionError::LocallyClosed)
            }
            None => {
                self.farewell().close(&current.connection);
                None
            }
        };
        self.forget(current.key);
        self.link.counters.drop(DropReason::LinkDown, current.data.queues.close() as u64);
        if let Some(newer) = ended.as_ref().and_then(newer_known) {
            self.context.newer.send_replace(Some(newer));
        }
        ended
    }

    /// Why this end gives the link up.
    fn farewell(&self) -> CloseCode {
        match self.link.successor.get() {
            Some(&known) => CloseCode::StaleIncarnation { known, is_alive: true },
            None => CloseCode::Shutdown,
        }
    }

    /// Frames and messages for a connection that ended are refused at once, unless there is a newer one already.
    fn forget(&self, key: LinkKey) {
        self.link.current.rcu(|current| current.as_ref().filter(|current| current.key != key).cloned());
    }

    async fn emit_down(&self, key: LinkKey, reason: LinkDownReason) {
        info!(peer = %self.link.instance, ?reason, "link down");
        self.emit(MeshEvent::LinkDown { key, instance: self.link.instance.clone(), reason }).await;
    }

    async fn emit(&self, event: MeshEvent) {
        if self.context.events.send(event).await.is_err() {
            debug!("nobody listens to link events");
        }
    }
}
