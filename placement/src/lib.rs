//! Placement: which nodes are there, which of them are in a room, and who is in each node's part of it.

mod members;
#[cfg(feature = "io")]
mod membership;
mod rosters;
#[cfg(feature = "io")]
mod service;

pub use members::{Member, MemberState, Members, NodeFacts, NodeLoad};
#[cfg(feature = "io")]
pub use membership::{Membership, MembershipConfig, MembershipError};
pub use rosters::RosterEvent;
#[cfg(feature = "io")]
pub use service::{
    EnterError, Placement, PlacementConfig, PlacementTls, RoomHandle, RoomOverview, SpawnError, TraceHooks,
};
