//! Who is in which room.

mod overview;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ws::Message;
use futures_util::{Sink, Stream};
use sluice_proto::ids::{NodeInstance, Region};
use sluice_proto::ortc::DtlsFingerprint;

use super::limits::Limits;
use super::ports::Ports;
use super::signalling::Opening;

pub use overview::{PeerOverview, ProducerOverview, RoomOverview, RoomsOverview, RoomsSnapshot};

/// What rooms have to know of their node.
#[derive(Debug, Clone)]
pub struct RoomsConfig {
    /// This life of the node.
    pub instance: NodeInstance,
    /// Where the node is.
    pub region: Region,
    /// Where users reach its media, best first; at least one.
    pub media_addresses: Vec<SocketAddr>,
    /// Of the certificate that every DTLS association of the node shows.
    pub fingerprints: Vec<DtlsFingerprint>,
    /// How much of everything there may be.
    pub limits: Limits,
}

/// The rooms of a node. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    config: RoomsConfig,
}

impl Rooms {
    /// Starts the tasks that bring workers, mesh and placement together. Must be called on a tokio runtime.
    pub fn spawn(config: RoomsConfig, ports: Ports) -> Self {
        drop(ports);
        Self { inner: Arc::new(Inner { config }) }
    }

    /// Serves one protoo WebSocket until it closes. The subprotocol has been checked, and the socket's own message limit is
    /// [`super::signalling::WEBSOCKET_MAX_LEN`].
    pub async fn signalling<S, E>(&self, socket: S, opening: Opening)
    where
        S: Stream<Item = Result<Message, E>> + Sink<Message> + Send + 'static,
        E: std::fmt::Display + Send,
    {
        drop((socket, opening));
    }

    /// Every room with its peers and producers, here and elsewhere.
    pub async fn overview(&self) -> RoomsOverview {
        RoomsOverview {
            node: self.inner.config.instance.node.clone(),
            region: self.inner.config.region.clone(),
            rooms: Vec::new(),
        }
    }

    /// Counters and gauges for the metrics endpoint.
    pub fn snapshot(&self) -> RoomsSnapshot {
        RoomsSnapshot::default()
    }

    /// Closes every session (clients retry elsewhere or later) and waits until the rooms are left.
    pub async fn shutdown(&self) {}
}
