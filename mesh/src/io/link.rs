//! A link: one incarnation of a peer, over as many connections as it takes.
//!
//! One task per link sees its connections one after the other, so that the events of a link are in order by construction.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use quinn::Connection;
use sluice_proto::ids::NodeInstance;
use sluice_proto::pipe::PipeMessage;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::close::{CloseCode, down_reason, newer_known};
use super::counters::{DropReason, LinkCounters};
use super::hello::Control;
use super::pipe::{Pipe, PipeContext};
use super::queue::FrameQueue;
use super::types::{LinkDownReason, MeshEvent};
use crate::Frame;
use crate::shed::Shedder;

/// Messages that may wait for a peer's control stream: a room of a thousand producers subscribed at once. A peer that lets more wait has
/// lost its way, and starts over.
pub(super) const MESSAGE_QUEUE: usize = 4096;

/// Gossip messages that may wait for a link: a few rounds of gossip; older ones say nothing new.
pub(super) const GOSSIP_QUEUE: usize = 32;

/// A peer that closes a connection for another one has that other one already: it is here within a round trip.
const REPLACEMENT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that both ends want, with what it takes to use it.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) connection: Connection,
    pub(super) control: Control,
    pub(super) messages: mpsc::Receiver<PipeMessage>,
    pub(super) gossip: mpsc::Receiver<Bytes>,
}

/// How the present connection is reached from outside the link's task.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) connection: Connection,
    pub(super) dialled_here: bool,
    messages: mpsc::Sender<PipeMessage>,
    gossip: mpsc::Sender<Bytes>,
}

impl Current {
    pub(super) fn message_room(&self) -> usize {
        self.messages.capacity()
    }

    pub(super) fn gossip_room(&self) -> usize {
        self.gossip.capacity()
    }
}

/// The shared half of a link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: u32,
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
    pub(super) fn new(key: u32, instance: NodeInstance, advertised: SocketAddr, stop: &CancellationToken) -> Self {
        Self {
            key,
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
    pub(super) fn install(&self, connection: Connection, dialled_here: bool, control: Control) -> Established {
        let (messages, messages_out) = mpsc::channel(MESSAGE_QUEUE);
        let (gossip, gossip_out) = mpsc::channel(GOSSIP_QUEUE);
        let current = Current { connection: connection.clone(), dialled_here, messages, gossip };
        if let Some(former) = self.current.swap(Some(Arc::new(current))) {
            CloseCode::Duplicate.close(&former.connection);
        }
        self.counters.connections.add(1);
        Established { connection, control, messages: messages_out, gossip: gossip_out }
    }

    /// The present connection, if it is alive.
    pub(super) fn live(&self) -> Option<Arc<Current>> {
        self.current.load_full().filter(|current| current.connection.close_reason().is_none())
    }

    pub(super) fn send_frames(&self, frames: &mut Vec<Frame>) {
        if self.current.load().is_none() {
            self.counters.drop(DropReason::LinkDown, frames.len() as u64);
            frames.clear();
            return;
        }
        let refused = self.queue.push(frames);
        if refused > 0 {
            self.counters.drop(DropReason::QueueFull, refused as u64);
        }
    }

    pub(super) fn send_message(&self, message: PipeMessage) {
        let current = self.current.load();
        let Some(current) = current.as_ref() else {
            self.counters.drop(DropReason::LinkDown, 1);
            return;
        };
        match current.messages.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                info!(peer = %self.instance, "too many messages wait for the peer, the link starts over");
                self.counters.resets.add(1);
                CloseCode::Overflow.close(&current.connection);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => self.counters.drop(DropReason::LinkDown, 1),
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

/// How a connection ended.
struct Ended {
    is_duplicate: bool,
    reason: LinkDownReason,
}

/// The link's task.
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
        let mut reconnected = false;
        let voided = self.link.voided.clone();
        let mut next = self.next(&voided).await;
        while let Some(established) = next.take() {
            let ended = self.run_pipe(established, &mut shedder, &mut reconnected, &voided).await;
            // A connection that took the place of this one: the link was never down.
            next = self.replacement(&ended, &voided).await;
            if next.is_none() && !voided.is_cancelled() {
                self.emit_down(ended.reason).await;
                next = self.next(&voided).await;
            }
        }
        self.link.close(match self.link.successor.get() {
            Some(&known) => CloseCode::StaleIncarnation { known, is_alive: true },
            None => CloseCode::Shutdown,
        });
        self.link.current.store(None);
        if !self.context.stop.is_cancelled() {
            self.emit_down(LinkDownReason::NewIncarnation).await;
        }
    }

    async fn next(&mut self, voided: &CancellationToken) -> Option<Established> {
        voided.run_until_cancelled(self.connections.recv()).await.flatten()
    }

    /// The connection that is here already, or that the peer announced by closing the former one.
    async fn replacement(&mut self, ended: &Ended, voided: &CancellationToken) -> Option<Established> {
        match self.connections.try_recv() {
            Ok(established) => Some(established),
            Err(_) if ended.is_duplicate => {
                let wait = tokio::time::timeout(REPLACEMENT_TIMEOUT, self.connections.recv());
                voided.run_until_cancelled(wait).await?.ok().flatten()
            }
            Err(_) => None,
        }
    }

    async fn run_pipe(
        &self,
        established: Established,
        shedder: &mut Shedder,
        reconnected: &mut bool,
        voided: &CancellationToken,
    ) -> Ended {
        let connection = established.connection.clone();
        info!(peer = %self.link.instance, addr = %connection.remote_address(), reconnected, "link up");
        self.emit(MeshEvent::LinkUp {
            key: self.link.key,
            instance: self.link.instance.clone(),
            reconnected: *reconnected,
        })
        .await;
        *reconnected = true;
        let pipe = Pipe { link: self.link.clone(), context: self.context.clone() };
        let ended = voided.run_until_cancelled(pipe.run(established, shedder)).await;
        self.forget(&connection);
        if let Some(newer) = ended.as_ref().and_then(newer_known) {
            self.context.newer.send_replace(Some(newer));
        }
        Ended {
            is_duplicate: ended.as_ref().is_some_and(|error| CloseCode::Duplicate.is(error)),
            reason: ended.as_ref().map_or(LinkDownReason::ClosedHere, down_reason),
        }
    }

    /// Frames and messages for a connection that ended are refused at once, unless there is a newer one already.
    fn forget(&self, connection: &Connection) {
        self.link.current.rcu(|current| {
            current.as_ref().filter(|current| current.connection.stable_id() != connection.stable_id()).cloned()
        });
    }

    async fn emit_down(&self, reason: LinkDownReason) {
        info!(peer = %self.link.instance, ?reason, "link down");
        self.emit(MeshEvent::LinkDown { key: self.link.key, instance: self.link.instance.clone(), reason }).await;
    }

    async fn emit(&self, event: MeshEvent) {
        if self.context.events.send(event).await.is_err() {
            debug!("nobody listens to link events");
        }
    }
}
