//! protoo: requests, responses and notifications as JSON text over a WebSocket.
//!
//! # Layout
//! - `message`: one message, parsed and written; total over any text.
//! - `session`: one WebSocket, from open to close.

mod message;
pub(crate) mod session;
