//! Signalling, rooms and the node's life as async tasks. Media is reached only through a worker's handle and its messages.
//!
//! # Layout
//! - [`rooms`]: who is in which room; one task per room, all of a room's decisions are made there.
//! - [`signalling`]: the dialects that clients speak, thin translations onto rooms.
//! - [`ports`]: what rooms need of workers, mesh and placement.
//! - [`limits`]: how much of everything there may be.
//! - `telemetry`: logs, traces and the trace context that travels between nodes.

pub mod limits;
pub mod ports;
pub mod rooms;
pub mod signalling;
pub(crate) mod telemetry;
