//! The dialects that clients speak.
//!
//! # Layout
//! - `protoo`: framing and sessions.
//! - `demo_v3`: the methods of mediasoup-demo's version 3.

mod demo_v3;
pub(crate) mod protoo;

use std::net::SocketAddr;

use sluice_proto::ids::{NamespaceId, PeerId, RoomId};

/// The WebSocket subprotocol; without it an upgrade is refused with 403.
pub(crate) const SUBPROTOCOL: &str = "protoo";

/// Who opened a WebSocket, out of its URL, checked.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// The tenant.
    pub namespace: NamespaceId,
    /// `roomId` of the query.
    pub room: RoomId,
    /// `peerId` of the query.
    pub peer: PeerId,
    /// `peerSecret` of the query: what the answer to a former join said.
    pub secret: Option<String>,
    /// Where the connection comes from.
    pub remote: SocketAddr,
}
