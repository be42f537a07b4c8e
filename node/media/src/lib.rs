//! The media of one worker, without I/O: what happens to a packet between the socket that it came in by and the sockets
//! that it leaves by. Time and randomness are arguments; the driver (`sluice-node`'s `worker`) owns sockets and clock.
//!
//! # Layout
//! A wing knows those above it in this list and none below.
//! - [`wire`]: formats. RTP, RTCP, STUN, SCTP, codecs' payloads.
//! - [`secure`]: ICE, DTLS, SRTP.
//! - `stream`: one RTP stream. What is kept of it, how it arrives, what is asked for again, how it is numbered on.
//! - `bandwidth`: how much passes to a user. What is sent and what is heard of that, and what becomes of it.
//! - `transport`: what a user's datagrams pass. Whose they are, whose streams are in them, what is said back.
//! - `core`: producers, consumers and routes, of media and of data, and [`Media`], which owns them all.
//!
//! # Doors
//! - [`messages`]: what the control plane asks and is told. Reliable; nothing about packets, but what [`trace`] tells
//!   to an operator who looks.
//! - [`Input`] and [`Output`]: these, datagrams, and what goes over routes: frames, messages of data channels, and
//!   feedback between a route's ends.

mod address;
mod bandwidth;
mod clock;
mod core;
pub mod drop_reason;
mod io;
mod keys;
pub mod messages;
pub mod rate_limit;
pub mod secure;
mod stream;
pub mod trace;
mod transport;
pub mod wire;

pub use self::address::TransportAddress;
pub use self::core::media::{AudioLimits, Media, MediaConfig};
pub use io::{Datagram, Input, Output, Transmit};
pub use transport::data_limits::DataLimits;
pub use transport::demux::{make_ufrag, worker_of_check};
