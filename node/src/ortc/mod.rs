//! ORTC negotiation as mediasoup does it: what a client may send, how its streams are named inside the mesh, and what a
//! consumer is told.
//!
//! Pure functions over mediasoup's parameter types; everything that comes from a client is checked here, and whatever
//! these functions accept, the data plane can work with.
//!
//! # Layout
//! - `capabilities`: the router's, the same on every node of the mesh.
//! - `parse`: JSON of clients into the types, leniently where clients differ.
//! - `codec`: when two codecs are the same.
//! - `producer`, `consumer`: the two directions.
//! - `sctp`: data channels.

mod capabilities;
mod codec;
mod consumer;
mod parse;
mod producer;
mod sctp;
#[cfg(test)]
mod tests;

use serde::Serialize;
use sluice_proto::ortc::MediaKind;

pub use capabilities::{MIME_TYPES, allowed_capabilities, check_codecs, router_rtp_capabilities};
pub use consumer::{Layering, can_consume, consumer_rtp_parameters, layering, spatial_layers};
pub use parse::{
    parse_consumable_rtp_parameters, parse_dtls_parameters, parse_mid, parse_rtp_capabilities, parse_rtp_parameters,
};
pub use producer::{Negotiated, consumable_rtp_parameters, negotiate_producer};
pub use sctp::{DataChannel, parse_sctp_capabilities, sctp_parameters};

/// What a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProducerKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// The messages of a data channel.
    Data,
}

impl From<MediaKind> for ProducerKind {
    fn from(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Audio => Self::Audio,
            MediaKind::Video => Self::Video,
        }
    }
}

/// Why parameters were refused; the text is for the client's developer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrtcError {
    /// The JSON is not what it should be.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// The parameter.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Well-formed, but nothing that this router does.
    #[error("{0}")]
    Unsupported(String),
}

impl OrtcError {
    fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { what, reason: reason.into() }
    }
}
