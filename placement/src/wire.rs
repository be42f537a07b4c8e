//! Between identifiers and their protobuf form. What comes from the network is checked here.

use sluice_proto::ids::{self, InvalidName, NamespaceId, NodeId, RoomId};
use sluice_proto::placement as pb;

/// Why a protobuf message is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A required field is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A name is not a name.
    #[error("{0} {1}")]
    Name(&'static str, InvalidName),
}

pub(crate) fn instance(wire: Option<&pb::NodeInstance>) -> Result<ids::NodeInstance, WireError> {
    let wire = wire.ok_or(WireError::Missing("node instance"))?;
    let node = NodeId::new(&wire.node).map_err(|error| WireError::Name("node id", error))?;
    Ok(ids::NodeInstance { node, incarnation: wire.incarnation })
}

pub(crate) fn room(wire: &pb::RoomKey) -> Result<ids::RoomKey, WireError> {
    let namespace = NamespaceId::new(&wire.namespace).map_err(|error| WireError::Name("namespace", error))?;
    let room = RoomId::new(&wire.room).map_err(|error| WireError::Name("room", error))?;
    Ok(ids::RoomKey { namespace, room })
}

pub(crate) fn rooms(wire: &[pb::RoomKey]) -> Result<Vec<ids::RoomKey>, WireError> {
    wire.iter().map(room).collect()
}

pub(crate) fn to_instance(instance: &ids::NodeInstance) -> pb::NodeInstance {
    pb::NodeInstance { node: instance.node.to_string(), incarnation: instance.incarnation }
}

pub(crate) fn to_room(room: &ids::RoomKey) -> pb::RoomKey {
    pb::RoomKey { namespace: room.namespace.to_string(), room: room.room.to_string() }
}

pub(crate) fn to_rooms(rooms: &[ids::RoomKey]) -> Vec<pb::RoomKey> {
    rooms.iter().map(to_room).collect()
}
