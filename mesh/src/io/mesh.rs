//! The mesh endpoint of a node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_proto::ids::{NodeId, NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::PipeMessage;
use tokio::sync::mpsc;

use super::sink::FrameSink;
use crate::Frame;

/// What a mesh endpoint is made with.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// This life of this node.
    pub instance: NodeInstance,
    /// Where to listen (UDP).
    pub listen: SocketAddr,
    /// Where other nodes can dial this one; it names this node in gossip. Port 0 stands for the port that was bound.
    pub advertised: SocketAddr,
    /// Who this node is and whom it trusts.
    pub tls: MeshTls,
    /// Bounds.
    pub limits: MeshLimits,
}

/// The certificates of a node.
#[derive(Debug, Clone)]
pub struct MeshTls {
    /// Name of the cluster; its certificates are good for `mesh.<cluster>`.
    pub cluster: String,
    /// The cluster's CA certificate.
    pub ca_pem: String,
    /// This node's certificate chain.
    pub cert_pem: String,
    /// Its private key (PKCS#8).
    pub key_pem: String,
}

/// Bounds of a mesh endpoint.
#[derive(Debug, Clone)]
pub struct MeshLimits {
    /// Routes that can be allocated at one time.
    pub routes: u32,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self { routes: 16_384 }
    }
}

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// The node that must answer there.
    pub node: NodeId,
    /// Its advertised mesh address.
    pub addr: SocketAddr,
}

/// What happens on links.
#[derive(Debug)]
pub enum MeshEvent {
    /// A link carries messages and frames.
    LinkUp {
        /// Names the link in every call; the same for every connection with the same incarnation.
        key: u32,
        /// The other end.
        instance: NodeInstance,
        /// Messages said before may be lost: say every subscription again.
        reconnected: bool,
    },
    /// A link carries nothing any more; it may come up again.
    LinkDown {
        /// The link.
        key: u32,
        /// The other end.
        instance: NodeInstance,
        /// Why.
        reason: LinkDownReason,
    },
    /// The other end said something.
    Message {
        /// The link.
        key: u32,
        /// The other end.
        instance: NodeInstance,
        /// What it said.
        message: PipeMessage,
    },
}

/// Why a link went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkDownReason {
    /// Nothing was heard for too long.
    TimedOut,
    /// The other end closed it, or asked for it to be reset.
    ClosedByPeer(String),
    /// This end closed it.
    ClosedHere(String),
    /// The node was started again: this incarnation is no more and the link's key is void.
    NewIncarnation,
}

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Being dialled, or waiting to be dialled again.
    Dialling,
    /// Up.
    Up,
    /// Down, and nobody asked for it to be dialled.
    Down,
}

/// A link as `/v1/cluster` shows it.
#[derive(Debug, Clone)]
pub struct LinkStatus {
    /// The node at the other end; unknown while a bare address is dialled for gossip.
    pub node: Option<NodeId>,
    /// Its incarnation, once it said so.
    pub incarnation: Option<u64>,
    /// The link's key, once it was up.
    pub key: Option<u32>,
    /// Its mesh address.
    pub addr: SocketAddr,
    /// State.
    pub state: LinkState,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bits per second sent over the last second, frames only.
    pub send_bitrate: u64,
    /// Bits per second received over the last second, frames only.
    pub recv_bitrate: u64,
    /// QUIC packets sent.
    pub packets_sent: u64,
    /// QUIC packets lost on the way to the peer.
    pub packets_lost: u64,
    /// Frames dropped or shed here, by reason.
    pub drops: Vec<(&'static str, u64)>,
}

/// A gossip message that arrived.
#[derive(Debug)]
pub struct Gossip {
    /// Advertised address of the sender.
    pub from: SocketAddr,
    /// The message.
    pub payload: Bytes,
}

/// What comes out of a mesh endpoint.
#[derive(Debug)]
pub struct Inbox {
    /// Link events and pipe messages, reliable and in order of each link. While nobody reads, the peers' control streams wait.
    pub events: mpsc::Receiver<MeshEvent>,
    /// Gossip; what does not fit is dropped and counted.
    pub gossip: mpsc::Receiver<Gossip>,
}

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket.
    #[error("cannot listen on {0}: {1}")]
    Socket(SocketAddr, std::io::Error),
    /// The certificates.
    #[error("{0}")]
    Tls(String),
}

/// The mesh endpoint of a node. Cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    _shared: Arc<()>,
}

impl Mesh {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(_config: MeshConfig) -> Result<(Self, Inbox), BindError> {
        todo!()
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// The address that other nodes know this one by.
    pub fn advertised(&self) -> SocketAddr {
        todo!()
    }

    /// Keeps a link to a node: dials until it is up and again when it went down, until [`disconnect`](Self::disconnect).
    pub fn connect(&self, _peer: PeerAddress) {
        todo!()
    }

    /// Gives up a link: closes it and dials no more. The other end may still dial this one.
    pub fn disconnect(&self, _node: &NodeId) {
        todo!()
    }

    /// Every link there is or that is wanted.
    pub fn links(&self) -> Vec<LinkStatus> {
        todo!()
    }

    /// Allocates a route whose frames go to `sink`. `None` when the limit is reached.
    pub fn allocate_route(&self, _sink: Arc<dyn FrameSink>) -> Option<(RouteId, RouteEpoch)> {
        todo!()
    }

    /// Frees a route; frames still on their way are counted and dropped.
    pub fn release_route(&self, _route: RouteId) {
        todo!()
    }

    /// Sends frames. Never blocks; what the link cannot take is dropped and counted. `frames` is empty afterwards.
    pub fn send_frames(&self, _link: u32, _frames: &mut Vec<Frame>) {
        todo!()
    }

    /// Sends a message, reliably and in order while the link is up. When more are waiting than the link's bound the connection is reset,
    /// which shows as [`MeshEvent::LinkUp`] with `reconnected`. On a link that is down it is dropped.
    pub fn send_message(&self, _link: u32, _message: PipeMessage) {
        todo!()
    }

    /// Sends a gossip message to the node that advertises `to`; dials it if there is no link. Enqueues and returns.
    pub fn send_gossip(&self, _to: SocketAddr, _payload: Bytes) {
        todo!()
    }

    /// Closes every link, telling the peers, and stops listening.
    pub async fn shutdown(&self) {
        todo!()
    }

    /// Registers the metrics of this endpoint.
    pub fn register_metrics(&self, _registry: &mut prometheus_client::registry::Registry) {
        todo!()
    }
}
