//! Virtual senders and receivers of messages on data channels, sans-IO.
//!
//! A [`DataSender`] sends messages of one size at a steady pace. Each says whose it is, which of them it is, and when
//! it was sent; from that a [`DataReceiver`] tells what was lost, what came twice and what came late.

mod channels;
mod message;
mod receiver;
mod sender;

pub(crate) use channels::Channels;
pub use message::{DataMessage, MIN_MESSAGE_BYTES};
pub use receiver::DataReceiver;
pub use sender::DataSender;

#[cfg(test)]
mod tests;
