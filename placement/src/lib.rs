//! Placement: which nodes are there, which of them are in a room, and who is in each node's part of it. No central
//! store, no leader, available in every partition.
//!
//! # Layout
//! - `members`: what a node knows of the others, as plain values. `membership` (feature `io`) fills them in by gossip.
//! - `owners`: which nodes keep a room's directory entry, by rendezvous hashing.
//! - `directory`: the leases of rooms, at their owners (`table`) and at their holders (`keeper`).
//! - `rosters`: each node's part of a room, told to the nodes that share it: `own` and `part` are the value, `chunks`
//!   how long ones travel, `follower` and `followed` the two ends of a stream, `room` what is known of the others.
//! - `core`: directory and rosters of one node put together, sans-IO. `simulation` (tests) runs many of them from a
//!   seed.
//! - `service` (feature `io`): the core behind a lock (`driver`), gRPC over mutual TLS (`accept`, `server`, `tls`,
//!   `link`), and what the control plane holds ([`Placement`], [`RoomHandle`]).
//!
//! `ALGORITHM.md` beside this crate says what is exchanged, when, and what survives which failure.
#![cfg_attr(not(feature = "io"), allow(dead_code, reason = "the core is driven by the parts that do I/O"))]

mod core;
mod directory;
mod members;
#[cfg(feature = "io")]
mod membership;
#[cfg(feature = "io")]
mod metrics;
mod owners;
mod rosters;
#[cfg(feature = "io")]
mod service;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
mod wire;

pub use members::{Member, MemberState, Members, NodeFacts, NodeLoad};
#[cfg(feature = "io")]
pub use membership::{GossipTransport, Membership, MembershipConfig, MembershipError, Witness};
pub use rosters::{PartDelta, RosterEvent};
#[cfg(feature = "io")]
pub use service::{
    EnterError, KnownRoom, Placement, PlacementConfig, PlacementTls, RoomHandle, SpawnError, TraceHooks, dial_source,
};
