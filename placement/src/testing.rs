//! Names and times for this crate's tests.

use std::time::Instant;

use sluice_proto::ids::{NamespaceId, NodeId, NodeInstance, RoomId, RoomKey};

pub(crate) fn room(name: &str) -> RoomKey {
    RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new(name).unwrap() }
}

pub(crate) fn instance(node: &str, incarnation: u64) -> NodeInstance {
    NodeInstance { node: NodeId::new(node).unwrap(), incarnation }
}

#[allow(clippy::disallowed_methods, reason = "the start of a virtual clock; any instant serves")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
