//! The pipes between nodes: frames of media as QUIC datagrams, messages on a control stream, gossip.
//!
//! It knows peers, routes and frames; it knows no room and no placement. `ALGORITHM.md` beside this crate has the drawings.
//!
//! # Layout
//! Pure, always built; time and randomness are arguments:
//! - `frame`: what a pipe carries.
//! - `route`: the two ends of a route: sequence numbers and repair.
//!
//! With the feature `io`:
//! - `io`: the endpoint over quinn, links, route table.
//! - [`ca`]: the cluster's CA and the certificates of its nodes.

#[cfg(feature = "io")]
pub mod ca;
mod frame;
#[cfg(feature = "io")]
mod io;
mod route;

pub use frame::{Frame, FrameClass, FrameFlags, MAX_SPATIAL, MAX_TEMPORAL};
#[cfg(feature = "io")]
pub use io::{
    BindError, FrameSink, Gossip, Inbox, LinkDownReason, LinkState, LinkStatus, Mesh, MeshConfig, MeshEvent,
    MeshLimits, MeshTls, PeerAddress,
};
pub use route::{Accept, REPAIR_WINDOW, RouteReceiver, RouteSender};
