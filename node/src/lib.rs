//! A node of the mesh: the users' signalling and media, joined to the other nodes by placement and pipes.
//!
//! # Layout
//! Media, which is threads and no lock:
//! - `media/`: a crate of its own, [`sluice_media`]. What a worker does; no I/O, no knowledge of rooms.
//! - `worker`: its driver. One thread each, with the sockets.
//!
//! Control, which is async tasks and reaches media only by a worker's handle and its messages:
//! - `rooms`: who is in which room; one task per room, all of a room's decisions are made there.
//! - `signalling`: the dialects that clients speak, thin translations onto rooms.
//! - [`ortc`]: negotiation of RTP parameters; pure.
//! - `pipes`: brings producers to the workers and nodes where they are wanted.
//! - `events`: what happens in rooms, told to webhooks, added up by namespace and written to the audit log.
//! - `ports`: what rooms and pipes need of workers, mesh and placement; `cluster`: the real ones, and this node among
//!   the others.
//! - `http`: the users' port: room page, WebSocket, health; `admin`: the operators' port.
//! - `turn`: who reaches the media port through the users' port.
//! - `limits`: how much of everything there may be; `address_limits`: how much of it one address may take.
//! - `vitals`: the parts that a node cannot do without; `metrics`: what it tells Prometheus; `telemetry`: logs and
//!   traces.
//!
//! The program:
//! - [`config`]: what an operator can set.
//! - [`Node`]: the assembly of all; [`dev`]: several of them as a mesh in one process.
//! - [`cli`]: the `sluice` command; [`ca`]: its certificate files.

pub(crate) mod access;
pub(crate) mod address_limits;
pub(crate) mod admin;
pub mod ca;
pub mod cli;
mod cluster;
pub mod config;
pub mod dev;
pub(crate) mod entrance;
pub(crate) mod events;
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod http;
pub(crate) mod limits;
mod listener;
pub(crate) mod metrics;
mod node;
pub mod ortc;
mod pipes;
pub(crate) mod ports;
mod rewound;
pub(crate) mod rooms;
pub(crate) mod signalling;
mod support;
pub(crate) mod telemetry;
#[cfg(test)]
mod tests;
pub(crate) mod turn;
pub(crate) mod vitals;
mod worker;

pub use node::{Node, StartError, install_logging};
