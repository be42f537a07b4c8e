//! protoo: requests, responses and notifications as JSON text over a WebSocket.
//!
//! # Layout
//! - `message`: one message, parsed and written; total over any text.
//! - `session`: one WebSocket, from open to close.

mod message;
pub(crate) mod session;

use self::message::{Malformed, Message};
use super::demo_v3;

/// What a text is answered with if it is no message, or a request that no room could understand.
pub(crate) fn refusal(text: &str) -> Option<String> {
    let (id, refusal) = match message::parse(text) {
        Ok(Message::Request { id, method, data }) => (Some(id), demo_v3::request(&method, data).err()?),
        Ok(Message::Response { .. } | Message::Notification { .. }) => return None,
        Err(Malformed { id, refusal }) => (id, refusal),
    };
    Some(message::response(id, Err(refusal)))
}
