//! A peer of a room on this node: its session, transports, and what it said of itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::RtpCapabilities;
use tracing::Span;

use super::api::{Notice, Outbox, PeerInfo};
use super::context::{Subject, count, random_text, uncount};
use super::room::{Room, SessionId};
use super::transports::Transport;
use crate::data_plane::messages::{Request, WorkerIndex};

pub(super) struct Peer {
    pub(super) session: SessionId,
    pub(super) outbox: Outbox,
    /// Where its transports are.
    pub(super) worker: WorkerIndex,
    /// Of its join, until that is answered.
    pub(super) span: Option<Span>,
    pub(super) joined: Option<Joined>,
    pub(super) transports: HashMap<TransportId, Transport>,
    pub(super) producers: HashSet<ProducerId>,
    pub(super) consumers: HashSet<ConsumerId>,
    /// Common to all its producers, so that receivers play them in sync; for clients that name none.
    pub(super) cname: String,
    next_mid: u32,
    next_ssrc: u32,
    next_transport: u64,
}

pub(super) struct Joined {
    pub(super) display_name: String,
    pub(super) device: Value,
    pub(super) rtp_capabilities: Option<Arc<RtpCapabilities>>,
    /// The newest join of a peer id wins, wherever it is.
    pub(super) at_ms: u64,
}

impl Peer {
    pub(super) fn new(session: SessionId, outbox: Outbox, worker: WorkerIndex, span: Span) -> Self {
        Self {
            session,
            outbox,
            worker,
            span: Some(span),
            joined: None,
            transports: HashMap::new(),
            producers: HashSet::new(),
            consumers: HashSet::new(),
            cname: random_text(8),
            next_mid: 0,
            next_ssrc: rand::random(),
            next_transport: 0,
        }
    }

    /// A number for a new transport.
    pub(super) fn number_transport(&mut self) -> u64 {
        self.next_transport += 1;
        self.next_transport
    }

    /// Names for a new consumer: its MID and an SSRC whose successor is free for RTX.
    pub(super) fn next_stream(&mut self) -> (String, u32) {
        let mid = self.next_mid.to_string();
        self.next_mid = self.next_mid.wrapping_add(1);
        // Zero and its predecessor are left out: no SSRC of ours is zero.
        self.next_ssrc = if self.next_ssrc >= u32::MAX - 3 { 1 } else { self.next_ssrc + 2 };
        (mid, self.next_ssrc)
    }
}

impl Room {
    /// Everything that a peer's end entails, whatever ended it.
    pub(super) fn close_peer(&mut self, id: &PeerId) {
        let Some(peer) = self.peers.remove(id) else { return };
        self.sessions.remove(&peer.session);
        self.context.loads[usize::from(peer.worker.0)].fetch_sub(1, Ordering::Relaxed);
        if peer.joined.is_some() {
            uncount(&self.context.counters.peers);
            self.tell_others(None, &Notice::PeerClosed { peer: id.clone() });
        }
        for consumer in &peer.consumers {
            self.forget_consumer(*consumer);
        }
        for producer in &peer.producers {
            self.remove_producer(*producer);
        }
        for transport in peer.transports.keys() {
            self.context.worker(peer.worker).send(Request::CloseTransport { transport: *transport });
            self.context.addresses.remove(Subject::Transport(*transport));
        }
        self.reconcile_worker(peer.worker);
        self.close_unused_routers();
        if peer.joined.is_some() {
            self.publish();
            self.refresh_elsewhere();
        }
    }

    /// Closes the routers of workers that no peer is on any more, except where producers of other nodes come in that other
    /// workers still need.
    pub(super) fn close_unused_routers(&mut self) {
        let unused = |worker: &WorkerIndex| !self.peers.values().any(|peer| peer.worker == *worker);
        let unused: Vec<WorkerIndex> = self.routers.keys().copied().filter(unused).collect();
        self.spare_routers = false;
        for worker in unused {
            if self.context.pipes.enter_at(&self.key, worker) {
                self.spare_routers = true;
            } else if let Some(router) = self.routers.remove(&worker) {
                self.context.worker(worker).send(Request::CloseRouter { router });
                self.context.addresses.remove(Subject::Router(router));
                self.speakers.forget(router);
            }
        }
    }

    /// Marks a peer as joined.
    pub(super) fn count_joined(&self) {
        count(&self.context.counters.peers);
    }

    /// What others are told of a peer of this node.
    pub(super) fn local_info(&self, id: &PeerId) -> Option<PeerInfo> {
        let joined = self.peers.get(id)?.joined.as_ref()?;
        Some(PeerInfo {
            id: id.clone(),
            display_name: joined.display_name.clone(),
            device: joined.device.clone(),
            node: self.context.node().clone(),
            region: Some(self.context.region.clone()),
        })
    }
}
