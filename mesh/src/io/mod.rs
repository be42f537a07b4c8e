//! The driver: endpoint, links, connections, route table.
//!
//! - `mesh`: the endpoint as its users see it; `types`: what they deal with.
//! - `congestion`: how much a connection may have under way; `tls`, `hello`, `accept`, `dial`: how a connection comes
//!   to be; `registry`: which one is kept; `close`: why one ends.
//! - `link`: the links to one incarnation of a peer, one after the other; `pipe`: the present one, whose jobs are
//!   `control`, `sender`, `receiver`, `data`, `gossip`; `streams`: which stream is for whom.
//! - `routes`, `sink`: where arriving frames go, `unknown`: what is said of those that go nowhere; `queue`: where
//!   leaving ones wait.
//! - `panics`: what they end.
//! - `counters`, `metrics`: what is counted, and how Prometheus sees it.

mod accept;
mod close;
mod congestion;
mod control;
mod counters;
mod data;
mod dial;
mod gossip;
mod hello;
mod link;
mod mesh;
mod metrics;
mod panics;
mod pipe;
mod queue;
mod receiver;
mod registry;
mod routes;
mod sender;
mod sink;
mod streams;
mod tls;
mod types;
mod unknown;

pub use mesh::Mesh;
pub use sink::FrameSink;
pub use types::{
    BindError, Gossip, Inbox, LinkDownReason, LinkState, LinkStatus, MeshConfig, MeshEvent, MeshLimits, MeshTls, Newer,
    PeerAddress, Standing,
};

/// The driver is what reads the clock for the cores. It is tokio's, as quinn's is, so that a whole pipe can run on
/// paused time.
fn clock() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
