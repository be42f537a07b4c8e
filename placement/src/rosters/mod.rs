//! Rosters: who is in a room, told by each node about its own part to the nodes that share the room.

use std::sync::Arc;

use sluice_proto::ids::NodeInstance;
use sluice_proto::placement::RosterPart;

/// What a node learns about the other nodes of a room.
#[derive(Debug, Clone, PartialEq)]
pub enum RosterEvent {
    /// A node's part is new or changed; `part` is the whole of it.
    PartChanged {
        /// The node that owns the part.
        instance: NodeInstance,
        /// Its peers and producers.
        part: Arc<RosterPart>,
    },
    /// A node left the room, died, or came back as a newer incarnation: nothing of its part is left.
    PartGone {
        /// The node that owned the part.
        instance: NodeInstance,
    },
}
