//! What is a producer's own when a user sends it: whose it is, what the client's payload types mean and how the client
//! is asked for a key frame.

use crate::drop_reason::DropReason;
use crate::transport::demux::TransportKey;
use crate::transport::rtp_listener::StreamKind;
use crate::wire::codec::Codec;
use crate::wire::rtp::RtpPacket;

/// What a payload type of the client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayloadMapping {
    /// As the client sends it.
    pub payload_type: u8,
    /// What it carries.
    pub role: PayloadRole,
}

/// What a payload type carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadRole {
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

/// What a packet of the client carries, retransmissions unwrapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    /// The router's.
    pub payload_type: u8,
    /// What the payload is.
    pub codec: Codec,
    /// Of the packet, or of the one that it repairs.
    pub sequence_number: u16,
    /// Without padding.
    pub payload: &'a [u8],
}

/// How a client is asked for a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFrameMessage {
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
pub(crate) struct UserOrigin {
    transport: TransportKey,
    payloads: Vec<PayloadMapping>,
    /// If the client can be asked.
    key_frame_message: Option<KeyFrameMessage>,
}

impl UserOrigin {
    /// Of a producer whose packets come over this transport.
    pub(crate) fn new(
        transport: TransportKey,
        payloads: Vec<PayloadMapping>,
        key_frame_message: Option<KeyFrameMessage>,
    ) -> Self {
        Self { transport, payloads, key_frame_message }
    }

    /// Where its packets come from.
    pub(crate) fn transport(&self) -> TransportKey {
        self.transport
    }

    /// How the client is asked for a key frame, if it can be.
    pub(crate) fn key_frame_message(&self) -> Option<KeyFrameMessage> {
        self.key_frame_message
    }

    /// How the client is to be asked for a key frame now, if it can be.
    pub(crate) fn next_key_frame_message(&mut self) -> Option<KeyFrameMessage> {
        if let Some(KeyFrameMessage::Fir { number }) = &mut self.key_frame_message {
            *number = number.wrapping_add(1);
        }
        self.key_frame_message
    }

    /// The payload type inside the mesh of whatever carries media.
    pub(crate) fn mapped_payload_type(&self) -> Option<u8> {
        self.payloads.iter().find_map(|mapping| match mapping.role {
            PayloadRole::Media { mapped, .. } => Some(mapped),
            PayloadRole::Rtx { .. } => None,
        })
    }

    /// What a packet carries.
    ///
    /// # Errors
    /// [`DropReason::RtpMalformed`], [`DropReason::RtxPadding`], and [`DropReason::UnknownPayloadType`] for one that
    /// was not negotiated for this kind of stream.
    #[inline]
    pub(crate) fn content_of<'a>(&self, kind: StreamKind, packet: &RtpPacket<'a>) -> Result<Content<'a>, DropReason> {
        if packet.malformed {
            return Err(DropReason::RtpMalformed);
        }
        let (mut sequence_number, mut payload) = (packet.header.sequence_number, packet.payload);
        let role = match (kind, self.role_of(packet.header.payload_type)?) {
            (StreamKind::Rtx, PayloadRole::Rtx { of }) => {
                let (&original, rest) = payload.split_first_chunk().ok_or(DropReason::RtxPadding)?;
                (sequence_number, payload) = (u16::from_be_bytes(original), rest);
                self.role_of(of)?
            }
            (StreamKind::Media, role) => role,
            (StreamKind::Rtx, PayloadRole::Media { .. }) => return Err(DropReason::UnknownPayloadType),
        };
        match role {
            PayloadRole::Media { mapped: payload_type, codec } => {
                Ok(Content { payload_type, codec, sequence_number, payload })
            }
            PayloadRole::Rtx { .. } => Err(DropReason::UnknownPayloadType),
        }
    }

    fn role_of(&self, payload_type: u8) -> Result<PayloadRole, DropReason> {
        let found = self.payloads.iter().find(|mapping| mapping.payload_type == payload_type);
        found.map(|mapping| mapping.role).ok_or(DropReason::UnknownPayloadType)
    }
}
