//! protoo: requests, responses and notifications as JSON text over a WebSocket.
//!
//! # Layout
//! - `message`: one message, parsed and written; total over any text.
//! - `session`: one WebSocket, from open to close.

mod message;
pub(crate) mod session;

use self::message::{Malformed, Message};
use super::demo;

/// What a text is answered with if it is no message, or a request that no room could understand.
pub(crate) fn refusal(text: &str) -> Option<String> {
    let (id, refusal) = match message::parse(text) {
        Ok(Message::Request { id, method, data }) => (Some(id), demo::request(&method, data).err()?),
        // Nobody is told what is wrong with it, so that it need only be read.
        Ok(Message::Notification { method, data }) => {
            let _ = demo::notification(&method, data);
            return None;
        }
        Ok(Message::Response { .. }) => return None,
        Err(Malformed { id, refusal }) => (id, refusal),
    };
    Some(message::response(id, Err(refusal)))
}
