//! The fixed header of every media datagram.

use sluice_proto::ids::{RouteEpoch, RouteId};

use super::{FrameClass, FrameFlags, MAX_SPATIAL, MAX_TEMPORAL};

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 8;

const RETRANSMISSION: u8 = 0b0010_0000;
const CLASS: u8 = 0b0001_1111;
/// In place of a temporal layer: a packet of a key frame, which is always on temporal layer 0.
const KEY: u8 = 6;
/// In place of a temporal layer: audio. The spatial bits are zero then; with the lowest of them set it is no frame but
/// a question, see `nack`.
const AUDIO: u8 = 7;

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One packet.
    Whole,
    /// Several packets with consecutive sequence numbers, each after its length.
    Packed,
    /// The cut and the packet up to it.
    FirstHalf,
    /// The cut and the packet from it on.
    SecondHalf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) route: RouteId,
    pub(crate) epoch: RouteEpoch,
    pub(crate) seq: u16,
    pub(crate) form: Form,
    pub(crate) flags: FrameFlags,
    pub(crate) class: FrameClass,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let [r0, r1, r2, r3] = self.route.0.to_le_bytes();
        let [s0, s1] = self.seq.to_le_bytes();
        let retransmission = if self.flags.retransmission { RETRANSMISSION } else { 0 };
        let flags = (encode_form(self.form) << 6) | retransmission | encode_class(self.class);
        [r0, r1, r2, r3, self.epoch.0, s0, s1, flags]
    }

    /// `None` when the class bits say nothing.
    pub(crate) fn decode(bytes: [u8; HEADER_LEN]) -> Option<Self> {
        let [r0, r1, r2, r3, epoch, s0, s1, flags] = bytes;
        Some(Self {
            route: RouteId(u32::from_le_bytes([r0, r1, r2, r3])),
            epoch: RouteEpoch(epoch),
            seq: u16::from_le_bytes([s0, s1]),
            form: decode_form(flags >> 6),
            flags: FrameFlags { retransmission: flags & RETRANSMISSION != 0 },
            class: decode_class(flags & CLASS)?,
        })
    }
}

fn encode_form(form: Form) -> u8 {
    match form {
        Form::Whole => 0,
        Form::Packed => 1,
        Form::FirstHalf => 2,
        Form::SecondHalf => 3,
    }
}

fn decode_form(bits: u8) -> Form {
    match bits {
        0 => Form::Whole,
        1 => Form::Packed,
        2 => Form::FirstHalf,
        _ => Form::SecondHalf,
    }
}

fn encode_class(class: FrameClass) -> u8 {
    match class {
        FrameClass::Audio => AUDIO,
        FrameClass::Video { spatial, key: true, .. } => (spatial.min(MAX_SPATIAL) << 3) | KEY,
        FrameClass::Video { spatial, temporal, key: false } => {
            (spatial.min(MAX_SPATIAL) << 3) | temporal.min(MAX_TEMPORAL)
        }
    }
}

fn decode_class(bits: u8) -> Option<FrameClass> {
    let spatial = bits >> 3;
    match bits & 0b111 {
        AUDIO if spatial == 0 => Some(FrameClass::Audio),
        AUDIO => None,
        KEY => Some(FrameClass::Video { temporal: 0, spatial, key: true }),
        temporal => Some(FrameClass::Video { temporal, spatial, key: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flags_byte_decodes_to_itself_or_to_nothing() {
        let mut refused = 0;
        for flags in 0..=u8::MAX {
            let bytes = [1, 2, 3, 4, 5, 6, 7, flags];
            match Header::decode(bytes) {
                Some(header) => assert_eq!(header.encode(), bytes),
                None => refused += 1,
            }
        }
        // Audio with a spatial layer: 3 of 32 classes.
        assert_eq!(refused, 3 * 8);
    }

    #[test]
    fn layers_beyond_the_header_are_clamped() {
        assert_eq!(
            decode_class(encode_class(FrameClass::Video { temporal: 7, spatial: 9, key: false })),
            Some(FrameClass::Video { temporal: MAX_TEMPORAL, spatial: MAX_SPATIAL, key: false })
        );
    }
}
