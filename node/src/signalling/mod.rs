//! The dialects that clients speak.
//!
//! # Layout
//! - `protoo`: framing and sessions.
//! - `demo`: the methods of mediasoup-demo, in two dialects.

pub(crate) mod demo;
pub(crate) mod protoo;

use std::net::SocketAddr;

use sluice_proto::ids::{NamespaceId, PeerId, RoomId};

use self::demo::Dialect;

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
    /// What the query lets expect.
    pub dialect: Dialect,
    /// Where the connection comes from.
    pub remote: SocketAddr,
}
