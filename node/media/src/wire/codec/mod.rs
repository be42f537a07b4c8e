//! All that differs by codec: what forwarding wants to know of a payload, and what it changes in one.

mod av1;
mod h264;
mod h265;
mod parameter_sets;
mod picture;
pub mod red;
mod vp8;
mod vp9;

use sluice_proto::ortc::{MimeType, MimeTypeVideo};

use self::parameter_sets::{Beginning, Syntax};
use crate::wire::rtp::{DependencyDescriptor, Indication, TemplateStructure};

pub use parameter_sets::ParameterSets;
pub use picture::{PictureFields, PictureId, PictureNumbers};
pub use vp8::Vp8Descriptor;
pub use vp9::Vp9Descriptor;

/// Codecs that are told apart; of all others the payload is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// <https://aomediacodec.github.io/av1-rtp-spec/>.
    Av1,
    /// RFC 2198, of another codec that has this payload type inside the mesh.
    Red(u8),
    /// Audio, and video that cannot be looked into: a receiver may begin with any packet.
    Opaque,
}

/// What a packet says about its frame. Of a stream with spatial layers a picture has a frame of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadInfo {
    /// A receiver can begin with this packet.
    pub key_frame_start: bool,
    /// The same, but for parameter sets that it must have been told: the first slice of a key frame of H.264 or H.265.
    pub key_picture_start: bool,
    /// First packet of a frame, where the codec tells.
    pub frame_start: bool,
    /// Last packet of a frame, where the codec tells.
    pub frame_end: bool,
    /// No frame of a higher spatial layer needs this one.
    pub unused_above: bool,
    /// Spatial layer.
    pub spatial_layer: u8,
    /// Temporal layer.
    pub temporal_layer: u8,
    /// Temporal layers that may be taken up from here on, a bit each, by whoever gets this frame or takes up its own.
    pub switches_up: u8,
}

impl Codec {
    /// The codec that RTP parameters name, but for [`Codec::Red`], which is of another one.
    pub fn new(mime: MimeType) -> Self {
        match mime {
            MimeType::Video(MimeTypeVideo::Vp8) => Self::Vp8,
            MimeType::Video(MimeTypeVideo::Vp9) => Self::Vp9,
            MimeType::Video(MimeTypeVideo::H264) => Self::H264,
            MimeType::Video(MimeTypeVideo::H265) => Self::H265,
            MimeType::Video(MimeTypeVideo::AV1) => Self::Av1,
            _ => Self::Opaque,
        }
    }

    /// Whether a receiver has to begin with a key frame, and can be told when there is one.
    pub fn has_key_frames(self) -> bool {
        !matches!(self, Self::Opaque | Self::Red(_))
    }

    /// What a packet of a stream of this codec is that has this payload type inside the mesh: one of redundant audio
    /// may come without redundancy.
    pub(crate) fn of_payload_type(self, payload_type: u8) -> Self {
        if self == Self::Red(payload_type) { Self::Opaque } else { self }
    }

    /// Brings a payload of a publisher's into the form that it has inside the mesh.
    pub(crate) fn make_canonical(self, payload: &mut [u8]) {
        if let Self::Red(payload_type) = self {
            red::set_payload_type(payload, payload_type);
        }
    }

    /// Whether a receiver must be told parameters in the stream that its publisher may tell only once.
    pub fn has_parameter_sets(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }

    /// Whether one stream may have several spatial layers.
    pub fn has_spatial_layers(self) -> bool {
        matches!(self, Self::Vp9 | Self::Av1)
    }

    /// Whether a decoder waits for pictures whose numbers it misses, so that none may be missing where pictures are
    /// left out. Of VP9 it may: there a picture names those that it refers to by how far back their numbers are, or by
    /// its place in a group of them, both of which other numbers would make wrong (RFC 9628 section 4.2).
    pub fn counts_pictures(self) -> bool {
        self == Self::Vp8
    }

    pub(self) fn syntax(self) -> Option<&'static Syntax> {
        match self {
            Self::H264 => Some(&h264::SYNTAX),
            Self::H265 => Some(&h265::SYNTAX),
            Self::Vp8 | Self::Vp9 | Self::Av1 | Self::Red(_) | Self::Opaque => None,
        }
    }

    fn picture_fields(self, payload: &[u8]) -> Option<PictureFields> {
        match self {
            Self::Vp8 => Some(Vp8Descriptor::parse(payload)?.pictures),
            Self::Vp9 => Some(Vp9Descriptor::parse(payload)?.pictures),
            Self::H264 | Self::H265 | Self::Av1 | Self::Red(_) | Self::Opaque => None,
        }
    }

    /// The numbers of a payload's frame, if the codec has any.
    pub fn picture_numbers(self, payload: &[u8]) -> Option<PictureNumbers> {
        self.picture_fields(payload)?.numbers()
    }

    /// Takes `by` off the numbers of a payload's frame, if the codec has any: so many pictures were left out before it
    /// on purpose.
    pub fn lessen_picture_numbers(self, payload: &mut [u8], by: PictureNumbers) {
        if let Some(fields) = self.picture_fields(payload) {
            fields.lessen(payload, by);
        }
    }

    /// Looks into a payload. What cannot be read is forwarded as an ordinary packet of the base layer.
    pub fn inspect(self, payload: &[u8]) -> PayloadInfo {
        match self {
            Self::Vp8 => Vp8Descriptor::parse(payload).map(PayloadInfo::from).unwrap_or_default(),
            Self::Vp9 => Vp9Descriptor::parse(payload).map(PayloadInfo::from).unwrap_or_default(),
            Self::H264 => PayloadInfo::beginning_with(h264::beginning(payload)),
            Self::H265 => {
                let info = h265::inspect(payload);
                let h265::H265Info { frame_start, temporal_layer, switches_up, .. } = info;
                let beginning = PayloadInfo::beginning_with(info.beginning);
                PayloadInfo { frame_start, temporal_layer, switches_up, ..beginning }
            }
            Self::Av1 => PayloadInfo { key_frame_start: av1::begins_sequence(payload), ..PayloadInfo::default() },
            Self::Red(_) | Self::Opaque => PayloadInfo::default(),
        }
    }
}

impl PayloadInfo {
    fn beginning_with(beginning: Option<Beginning>) -> Self {
        Self {
            key_frame_start: beginning == Some(Beginning::ParameterSets),
            key_picture_start: beginning == Some(Beginning::Picture),
            ..Self::default()
        }
    }

    /// What a dependency descriptor says, which alone counts where there is one: the payload may be encrypted.
    pub fn from_descriptor(descriptor: &DependencyDescriptor, in_force: &TemplateStructure) -> Self {
        let frame = &descriptor.frame;
        let (mut switches_up, mut unused_above) = (0, true);
        for (index, target) in in_force.targets.iter().enumerate() {
            let indication = frame.indication(index);
            if target.spatial_layer == frame.spatial_layer && indication == Indication::Switch {
                switches_up |= layer_bit(target.temporal_layer);
            }
            let is_above = target.spatial_layer > frame.spatial_layer;
            unused_above &= !is_above || indication == Indication::NotPresent;
        }
        Self {
            // A structure comes with each key frame and with no other.
            key_frame_start: descriptor.structure.is_some(),
            key_picture_start: false,
            frame_start: descriptor.frame_start,
            frame_end: descriptor.frame_end,
            unused_above,
            spatial_layer: frame.spatial_layer,
            temporal_layer: frame.temporal_layer,
            switches_up,
        }
    }
}

impl From<Vp8Descriptor> for PayloadInfo {
    fn from(descriptor: Vp8Descriptor) -> Self {
        Self {
            key_frame_start: descriptor.key_frame_start,
            frame_start: descriptor.frame_start,
            temporal_layer: descriptor.temporal_layer,
            switches_up: u8::from(descriptor.layer_sync) << descriptor.temporal_layer,
            ..Self::default()
        }
    }
}

impl From<Vp9Descriptor> for PayloadInfo {
    fn from(descriptor: Vp9Descriptor) -> Self {
        let higher = layer_bit(descriptor.temporal_layer + 1).wrapping_neg();
        Self {
            key_frame_start: descriptor.key_frame_start(),
            key_picture_start: false,
            frame_start: descriptor.frame_start,
            frame_end: descriptor.frame_end,
            unused_above: descriptor.unused_above && descriptor.refers_back,
            spatial_layer: descriptor.spatial_layer,
            temporal_layer: descriptor.temporal_layer,
            switches_up: if descriptor.switching_up { higher } else { 0 },
        }
    }
}

/// The bit of a temporal layer; no codec has more than eight.
fn layer_bit(layer: u8) -> u8 {
    1_u8.checked_shl(layer.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporal_layers_are_taken_up_where_each_codec_allows_it() {
        let told = |codec: Codec, payload: &[u8]| {
            let info = codec.inspect(payload);
            (info.temporal_layer, info.switches_up)
        };
        assert_eq!(told(Codec::Vp8, &[0x90, 0x20, 0x60, 0x51]), (1, 0b10), "Y: its own");
        assert_eq!(told(Codec::Vp9, &[0x68, 0x30, 0, 1]), (1, 0b1111_1100), "U: those above");
        assert_eq!(told(Codec::Vp9, &[0x68, 0xf0, 0, 1]), (7, 0), "there is none above");
    }

    #[test]
    fn of_a_key_picture_all_layers_are_used_above() {
        assert!(!Codec::Vp9.inspect(&[0x29, 0, 0, 1]).unused_above, "Z, but nothing behind");
        assert!(Codec::Vp9.inspect(&[0x69, 0, 0, 1]).unused_above);
    }
}
