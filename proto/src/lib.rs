//! The contracts of the mesh: identifiers, ORTC parameters, pipe messages and the gRPC services between nodes.
//!
//! # Layout
//! - [`ids`]: newtypes for everything that is named across a border.
//! - [`ortc`]: the RTP parameter types of mediasoup, as they appear in signalling and in rosters.
//! - [`pipe`]: the rkyv messages of a pipe's control stream.
//! - [`placement`]: the protobuf messages and gRPC services of directory and rosters.
//!
//! No behaviour lives here: whoever needs to know what two parts of Sluice say to each other reads this crate alone.

pub mod ids;
pub mod ortc;
pub mod pipe;
pub mod placement;
