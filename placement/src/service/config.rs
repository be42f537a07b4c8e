//! How a node takes part in directory and rosters.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_proto::ids::NodeInstance;

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
