//! A node of the mesh: the users' signalling and media, joined to the other nodes by placement and pipes.
//!
//! # Layout
//! - `data_plane`: media. Workers, one thread each; no lock, no async, no knowledge of rooms.
//! - `control_plane`: rooms, peers and signalling, as async tasks; reaches media only through a worker's handle.
//! - `rate_limit`: what both of them limit strangers by.
//! - [`config`]: what an operator can set.
//! - [`Node`]: the assembly of all; [`dev`]: several of them as a mesh in one process.
//! - [`cli`]: the `sluice` command; [`ca`]: its certificate files.

#[cfg(feature = "io")]
pub mod ca;
#[cfg(feature = "io")]
pub mod cli;
#[cfg(feature = "io")]
pub mod config;
#[cfg(feature = "io")]
pub mod control_plane;
#[doc(hidden)]
pub mod data_plane;
#[cfg(feature = "io")]
pub mod dev;
#[cfg(feature = "io")]
mod node;
mod rate_limit;

#[cfg(feature = "io")]
pub use node::{Node, StartError, install_logging};
