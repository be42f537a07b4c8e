//! From frames to payloads, for every codec.

use rand::Rng;

use super::codec::Codec;
use super::nal::Syntax;
use super::parts::Layer;
use super::source::Source;
use super::vp8;
use super::vp8::Vp8Packetizer;
use super::vp9::Vp9Packetizer;

/// Cuts frames of one stream.
#[derive(Debug)]
pub(super) enum Packetizer {
    /// A frame is a payload.
    Opus,
    Vp8(Vp8Packetizer),
    Vp9(Vp9Packetizer),
    Nal(&'static Syntax),
}

impl Packetizer {
    pub(super) fn new(source: &Source, rng: &mut impl Rng) -> Self {
        let codec = source.codec();
        match (codec, Syntax::of(codec), source.scalability_mode()) {
            (_, Some(syntax), _) => Self::Nal(syntax),
            (Codec::Vp9, None, Some(mode)) => Self::Vp9(Vp9Packetizer::new(mode, rng)),
            (Codec::Vp8, None, _) => Self::Vp8(Vp8Packetizer::new(rng)),
            (_, None, _) => Self::Opus,
        }
    }

    /// The payloads of a frame, which is one part or, of H.264 and H.265, one for each NAL unit, and of VP9 one for
    /// each spatial layer.
    pub(super) fn packetize<T: AsRef<[u8]>>(&mut self, frame: &[T], layer: Layer, packet_bytes: usize) -> Vec<Vec<u8>> {
        let parts: Vec<&[u8]> = frame.iter().map(AsRef::as_ref).collect();
        match self {
            Self::Opus => parts.into_iter().map(<[u8]>::to_vec).collect(),
            Self::Vp8(packetizer) => {
                parts.into_iter().flat_map(|part| packetizer.packetize(part, layer, packet_bytes)).collect()
            }
            Self::Vp9(packetizer) => packetizer.packetize(&parts, layer, packet_bytes),
            Self::Nal(syntax) => syntax.packetize(&parts, packet_bytes),
        }
    }

    /// A frame without a picture whose payloads take about `bytes`.
    pub(super) fn synthetic_frame(
        &self,
        key: bool,
        is_reference: bool,
        bytes: usize,
        packet_bytes: usize,
    ) -> Vec<Vec<u8>> {
        match self {
            Self::Nal(syntax) => syntax.synthetic_frame(key, is_reference, bytes),
            Self::Vp9(packetizer) => packetizer.synthetic_picture(key, bytes, packet_bytes),
            Self::Opus | Self::Vp8(_) => vec![vp8::synthetic_frame(key, bytes, packet_bytes)],
        }
    }

    /// Whether the end of a synthetic frame's payload may be overwritten; of parameter sets it may not.
    pub(super) fn has_room_for_stamp(&self, payload: &[u8]) -> bool {
        !matches!(self, Self::Nal(syntax) if syntax.is_aggregate(payload))
    }
}
