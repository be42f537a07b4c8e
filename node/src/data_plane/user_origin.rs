//! A user's side of a producer: what its packets mean, and how it is asked for what is missing.

use super::demux::TransportKey;
use super::drop_reason::DropReason;
use super::nack_generator::NackGenerator;
use super::rtp::Codec;

/// What a payload type of the client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadMapping {
    /// As the client sends it.
    pub payload_type: u8,
    /// What it carries.
    pub role: PayloadRole,
}

/// What a payload type carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadRole {
    /// Media.
    Media {
        /// The router's payload type.
        mapped: u8,
        /// What the payloads are.
        codec: Codec,
    },
    /// Retransmissions of another payload type.
    Rtx {
        /// That one, as the client sends it.
        of: u8,
    },
}

/// How a client is asked for a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFrameMessage {
    /// Picture loss indication.
    Pli,
    /// Full intra request, with the number of the last one.
    Fir {
        /// Modulo 256.
        number: u8,
    },
}

/// A user's side of a producer.
#[derive(Debug)]
pub struct UserOrigin {
    /// Where its packets come from.
    pub transport: TransportKey,
    /// What each payload type means.
    pub payloads: Vec<PayloadMapping>,
    /// SSRC inside the mesh.
    pub mapped_ssrc: u32,
    /// The client's SSRC, once known.
    pub ssrc: Option<u32>,
    /// If the client retransmits.
    pub nack: Option<NackGenerator>,
    /// If the client can be asked.
    pub key_frame_message: Option<KeyFrameMessage>,
}

impl UserOrigin {
    /// What a payload type of the client carries.
    ///
    /// # Errors
    /// [`DropReason::UnknownPayloadType`] if it was not negotiated.
    pub fn role_of(&self, payload_type: u8) -> Result<PayloadRole, DropReason> {
        let found = self.payloads.iter().find(|mapping| mapping.payload_type == payload_type);
        found.map(|mapping| mapping.role).ok_or(DropReason::UnknownPayloadType)
    }
}
