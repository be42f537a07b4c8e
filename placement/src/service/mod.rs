//! Placement with its gRPC services and clients: what the control plane holds.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_proto::ids::{NodeInstance, RoomKey};
use sluice_proto::placement::RosterPart;
use tokio::sync::{mpsc, watch};

use crate::members::Members;
use crate::rosters::RosterEvent;

/// How a node takes part in directory and rosters.
#[derive(Debug, Clone)]
pub struct PlacementConfig {
    /// Which life of which node this is.
    pub instance: NodeInstance,
    /// Where to listen for other nodes (TCP).
    pub grpc_listen: SocketAddr,
    /// Certificates.
    pub tls: PlacementTls,
    /// How long a directory entry lives without being renewed.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// How trace contexts get in and out.
    pub trace: TraceHooks,
}

impl PlacementConfig {
    /// The settings of production.
    pub fn new(instance: NodeInstance, grpc_listen: SocketAddr, tls: PlacementTls) -> Self {
        Self {
            instance,
            grpc_listen,
            tls,
            lease: Duration::from_secs(6),
            renew: Duration::from_secs(2),
            trace: TraceHooks::default(),
        }
    }
}

/// The node's certificate and the CA that every node of the cluster has its own from.
#[derive(Clone)]
pub struct PlacementTls {
    /// The cluster's CA certificate, PEM.
    pub ca_pem: String,
    /// The node's certificate, PEM: `DNS:mesh.<cluster>` and `URI:sluice:node/<id>`.
    pub cert_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
    /// The cluster's name.
    pub cluster: String,
}

impl std::fmt::Debug for PlacementTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlacementTls").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// How W3C trace contexts get out of and into tracing spans; the node fills them in, so that this crate need not know
/// OpenTelemetry.
#[derive(Debug, Clone, Copy)]
pub struct TraceHooks {
    /// The `traceparent` of the current span, if it is traced.
    pub inject: fn() -> Option<String>,
    /// Makes the span a child of the `traceparent`, which comes from the network and may be garbage.
    pub set_parent: fn(&tracing::Span, &str),
}

impl Default for TraceHooks {
    /// Nothing is traced across nodes.
    fn default() -> Self {
        Self { inject: || None, set_parent: |_, _| {} }
    }
}

/// Why placement could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The gRPC port cannot be listened on.
    #[error("cannot listen for other nodes on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates are unusable.
    #[error("the node's certificate or the CA's is unusable: {0}")]
    Tls(String),
}

/// Why a room could not be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// The node is in the room already: there is one handle per room and node.
    #[error("this node is in the room already")]
    AlreadyEntered,
    /// The node is in as many rooms as it may be.
    #[error("this node is in as many rooms as it may be")]
    TooManyRooms,
    /// Placement has ended.
    #[error("placement has ended")]
    ShutDown,
}

/// Directory and rosters of one node. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Placement {}

/// A room as this node knows it, for the console.
#[derive(Debug, Clone)]
pub struct RoomOverview {
    /// The room.
    pub room: RoomKey,
    /// The nodes that keep its directory entry, best first.
    pub owners: Vec<NodeInstance>,
    /// Every node's part, this node's first.
    pub parts: Vec<(NodeInstance, Arc<RosterPart>)>,
}

impl Placement {
    /// Listens for other nodes and begins to connect to the members.
    ///
    /// # Errors
    /// [`SpawnError`] when the port or the certificates are unusable.
    pub async fn spawn(_config: PlacementConfig, _members: watch::Receiver<Arc<Members>>) -> Result<Self, SpawnError> {
        todo!()
    }

    /// Where it listens for other nodes.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Enters a room: takes the lease and follows the part of every other node that is in it. Returns at once; the parts
    /// of others come as events. Leaving is dropping the handle. Call it within the span of the join: its trace context
    /// travels along.
    ///
    /// The queue of events is short, because what does not fit stays behind as one difference per node: a slow reader
    /// misses intermediate states of a part, never the last one.
    ///
    /// # Errors
    /// [`EnterError`] when the node is in the room already or may not enter another.
    pub fn enter(&self, _room: RoomKey) -> Result<(RoomHandle, mpsc::Receiver<RosterEvent>), EnterError> {
        todo!()
    }

    /// The nodes that keep a room's directory entry, best first.
    pub fn owners(&self, _room: &RoomKey) -> Vec<NodeInstance> {
        todo!()
    }

    /// The rooms that this node is in.
    pub fn rooms(&self) -> Vec<RoomOverview> {
        todo!()
    }

    /// Leaves every room, tells the others, and stops listening.
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// This node's presence in a room; dropping it leaves the room and tells the others at once.
#[derive(Debug)]
pub struct RoomHandle {}

impl RoomHandle {
    /// The room.
    pub fn room(&self) -> &RoomKey {
        todo!()
    }

    /// Replaces this node's part. The others are told the difference; nothing is said if there is none.
    pub fn publish(&self, _part: RosterPart) {
        todo!()
    }
}
