//! The dialects that clients speak.
//!
//! # Layout
//! - `protoo`: framing and sessions.
//! - `demo_v3`: the methods of mediasoup-demo's version 3.

mod demo_v3;
pub(crate) mod protoo;

/// The WebSocket subprotocol; without it an upgrade is refused with 403.
pub(crate) const SUBPROTOCOL: &str = "protoo";
