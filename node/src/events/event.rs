//! The events that receivers of webhooks are told of. Their JSON is an interface: `docs/webhooks.md` describes it.

use serde::Serialize;
use sluice_proto::ids::{NamespaceId, NodeId, PeerId, ProducerId, RoomId, RoomKey};

use crate::ortc::ProducerKind;
use crate::rooms::api::CloseReason;

/// Something that happened in this node's part of a room.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    /// Unique, and the same however often it is delivered.
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) happening: Happening,
    /// Milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
    pub(super) namespace: NamespaceId,
    pub(super) room: RoomId,
    /// Whose part of the room it is.
    pub(super) node: NodeId,
    /// This life of the node.
    pub(super) incarnation: u64,
    /// This life of the part.
    pub(super) part: String,
    /// Counts the part's events from 1.
    pub(super) sequence: u64,
}

impl Event {
    pub(super) fn room_key(&self) -> RoomKey {
        RoomKey { namespace: self.namespace.clone(), room: self.room.clone() }
    }
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub(super) enum Happening {
    /// Somebody is about to be the first peer that the node has in the room.
    #[serde(rename = "room.started")]
    RoomStarted,
    #[serde(rename = "peer.joined")]
    PeerJoined { peer: PeerId, display_name: String },
    #[serde(rename = "peer.left")]
    PeerLeft { peer: PeerId, reason: LeaveReason, duration_ms: u64 },
    #[serde(rename = "producer.published")]
    ProducerPublished { peer: PeerId, producer: ProducerId, kind: ProducerKind },
    #[serde(rename = "producer.unpublished")]
    ProducerUnpublished { peer: PeerId, producer: ProducerId, kind: ProducerKind, duration_ms: u64 },
    /// The last peer that the node had in the room has left.
    #[serde(rename = "room.ended")]
    RoomEnded { duration_ms: u64 },
}

/// Why a session ended, as a peer or before it was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LeaveReason {
    /// Its client left, or its connection broke before it had joined.
    Left,
    /// Nothing was heard of it any more, or its connection broke and it did not come back.
    Silent,
    /// The same peer joined again, here or elsewhere.
    Replaced,
    /// Its token had ended, or was revoked.
    Unauthorised,
    /// An operator or the tenant's server sent it away.
    Removed,
    /// It did not join in time.
    NotJoined,
    /// A media worker had too much to do.
    Overloaded,
    /// The room had no place for it.
    Full,
    /// The node stopped.
    Shutdown,
    /// The room failed.
    Failed,
}

impl From<CloseReason> for LeaveReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Replaced => Self::Replaced,
            CloseReason::Unauthorised => Self::Unauthorised,
            CloseReason::Removed => Self::Removed,
            CloseReason::NotJoined => Self::NotJoined,
            CloseReason::Overloaded => Self::Overloaded,
            CloseReason::Shutdown => Self::Shutdown,
            CloseReason::Full => Self::Full,
        }
    }
}
