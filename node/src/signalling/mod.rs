//! The dialects that clients speak.
//!
//! # Layout
//! - `protoo`: framing and sessions.
//! - `demo`: the methods of mediasoup-demo, in two dialects.

pub(crate) mod demo;
pub(crate) mod protoo;

/// The WebSocket subprotocol; without it an upgrade is refused with 403.
pub(crate) const SUBPROTOCOL: &str = "protoo";
