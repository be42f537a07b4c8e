//! The driver: quinn endpoint, link tasks, route table.

mod mesh;
mod sink;

pub use mesh::{
    BindError, Gossip, Inbox, LinkDownReason, LinkState, LinkStatus, Mesh, MeshConfig, MeshEvent, MeshLimits, MeshTls,
    PeerAddress,
};
pub use sink::FrameSink;
