//! The dialects that clients speak.
//!
//! # Layout
//! - `protoo`: framing and sessions.
//! - `d1`: the methods of mediasoup-demo's version 3.

mod d1;
pub(crate) mod protoo;

use std::net::SocketAddr;

use sluice_proto::ids::{NamespaceId, PeerId, RoomId};

/// Largest message of the protoo protocol, in bytes: what its reference implementation allows.
pub const MAX_MESSAGE_LEN: usize = 960_000;

/// What the WebSocket itself should be limited to: above [`MAX_MESSAGE_LEN`], so that a message that is somewhat too large is
/// answered with a close frame that says so.
pub const WEBSOCKET_MAX_LEN: usize = 1 << 20;

/// The WebSocket subprotocol; without it an upgrade is refused with 403.
pub const SUBPROTOCOL: &str = "protoo";

/// Who opened a WebSocket, out of its URL, checked.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The tenant.
    pub namespace: NamespaceId,
    /// `roomId` of the query.
    pub room: RoomId,
    /// `peerId` of the query.
    pub peer: PeerId,
    /// Where the connection comes from.
    pub remote: SocketAddr,
}
