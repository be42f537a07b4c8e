//! What the users of a mesh endpoint deal with.

use crate::LinkKey;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sluice_proto::ids::{NodeId, NodeInstance};
use sluice_proto::pipe::RouteControl;
use tokio::sync::mpsc;

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
#[derive(Clone, PartialEq, Eq)]
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

impl std::fmt::Debug for MeshTls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshTls").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Bounds of a mesh endpoint.
#[derive(Debug, Clone)]
pub struct MeshLimits {
    /// Routes that can be allocated at one time. Each costs 16 bytes even while it is not used.
    pub routes: u32,
    /// Nodes that are known at one time, linked or not. Each costs a task and some kilobytes.
    pub peers: usize,
    /// A node that is neither linked nor wanted for this long is forgotten, so that nodes which never come back take no
    /// places.
    pub forget_after: Duration,
    /// Incoming handshakes under way at one time. More are turned away, and from a quarter of it on a peer must first
    /// prove its address. One takes a round trip and some 10 KB.
    pub handshakes: usize,
    /// Nothing heard for this long ends a connection. More than the 5 s for which membership bears a node's silence, so
    /// that a node which stalls for less finds its pipes as it left them.
    pub idle_timeout: Duration,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self {
            routes: 16_384,
            peers: 1024,
            forget_after: Duration::from_secs(300),
            handshakes: 256,
            idle_timeout: Duration::from_secs(6),
        }
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

/// What happens on links. A link is one connection with a peer.
#[derive(Debug)]
pub enum MeshEvent {
    /// A link carries messages and frames. Nothing of what was said on links before is known to the other end.
    LinkUp {
        /// Names the link in every call. No other link ever has it.
        key: LinkKey,
        /// The other end.
        instance: NodeInstance,
    },
    /// A link is no more; its key is void. Said of every link that came up, before the next one with the same node
    /// does.
    LinkDown {
        /// The link.
        key: LinkKey,
        /// The other end.
        instance: NodeInstance,
        /// Why.
        reason: LinkDownReason,
    },
    /// The other end said something about a route.
    Control {
        /// The link.
        key: LinkKey,
        /// What it said.
        message: RouteControl,
    },
}

/// Why a link went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkDownReason {
    /// Nothing was heard for too long.
    TimedOut,
    /// The other end closed it; with its words.
    ClosedByPeer(String),
    /// This end closed it.
    ClosedHere,
    /// The connection failed otherwise.
    Failed(String),
    /// Of two connections with one incarnation the other one is kept.
    Replaced,
    /// The node was started again: this incarnation is no more.
    NewIncarnation,
}

/// A newer incarnation of this very node, of which another node has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newer {
    /// Which.
    pub incarnation: u64,
    /// Whether whoever said so has a connection with it: then two processes run under one id. Otherwise it is probably
    /// this node's own past, from before its clock was set back.
    pub is_alive: bool,
}

/// Whether others let this node in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A link is up, or nobody was met yet.
    Good,
    /// Those that were met refused it, or could not show who they are, and no link is up.
    Refused,
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
    /// The node at the other end.
    pub node: NodeId,
    /// Its incarnation, once it said so.
    pub incarnation: Option<u64>,
    /// The link's key, while it is up.
    pub key: Option<LinkKey>,
    /// Its mesh address.
    pub addr: SocketAddr,
    /// State.
    pub state: LinkState,
    /// Whether this end dialled the present connection.
    pub dialled_here: bool,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Largest datagram in bytes that the path carries in one piece.
    pub max_datagram_size: Option<usize>,
    /// Bits per second that the path carries, once it showed a limit.
    pub capacity: Option<u64>,
    /// Bits per second sent over the last second, frames only.
    pub send_bitrate: u64,
    /// Bits per second received over the last second, frames only.
    pub recv_bitrate: u64,
    /// QUIC packets sent on this connection.
    pub packets_sent: u64,
    /// QUIC packets of this connection lost on the way to the peer.
    pub packets_lost: u64,
    /// What was dropped or shed here, by reason.
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
    /// Link events and what is said about routes, reliable and in order of each link. While nobody reads, the peers'
    /// control streams wait.
    pub events: mpsc::Receiver<MeshEvent>,
    /// Gossip; what does not fit is dropped and counted.
    pub gossip: mpsc::Receiver<Gossip>,
}

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket.
    #[error("cannot listen on {0}: {1}")]
    Socket(SocketAddr, #[source] std::io::Error),
    /// The certificates.
    #[error("{0}")]
    Tls(String),
}
