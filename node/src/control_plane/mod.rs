//! Signalling, rooms and the node's life as async tasks. Media is reached only through a worker's handle and its messages.
//!
//! # Layout
//! - [`rooms`]: who is in which room; one task per room, all of a room's decisions are made there.
//! - [`signalling`]: the dialects that clients speak, thin translations onto rooms.
//! - `pipes`: brings producers to the workers and nodes where they are wanted.
//! - [`ports`]: what rooms need of workers, mesh and placement.
//! - [`ortc`]: negotiation of RTP parameters; pure.
//! - [`limits`]: how much of everything there may be; `address_limits`: how much of it one address may take.
//! - `http`: the users' port: room page, WebSocket, health; `admin`: the operators' port; `metrics`: what it tells Prometheus.
//! - `wiring`: the real workers, mesh and placement behind [`ports`]; `gossip`: gossip over the mesh.
//! - [`clock`]: the clock by which sessions of one peer on several nodes are ordered.
//! - `facts`: what the node tells the others of itself; `links`: the pipes that it keeps up.
//! - [`vitals`]: the parts that a node cannot do without.
//! - `telemetry`: logs, traces and the trace context that travels between nodes.

pub(crate) mod address_limits;
pub(crate) mod admin;
pub mod clock;
pub(crate) mod facts;
pub(crate) mod gossip;
pub(crate) mod http;
pub mod limits;
pub(crate) mod links;
pub(crate) mod metrics;
pub mod ortc;
mod pipes;
pub mod ports;
pub mod rooms;
pub mod signalling;
pub(crate) mod telemetry;
#[cfg(test)]
mod tests;
pub mod vitals;
pub(crate) mod wiring;
