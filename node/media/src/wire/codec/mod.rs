//! All that differs by codec: what forwarding wants to know of a payload, and what it changes in one.

mod h264;
mod vp8;

use sluice_proto::ortc::{MimeType, MimeTypeVideo};

use self::h264::Beginning;

pub use h264::ParameterSets;
pub use vp8::{PictureId, Vp8Descriptor, shift_picture_id};

/// Codecs that are told apart; of all others the payload is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 7741.
    Vp8,
    /// RFC 6184.
    H264,
    /// Audio, and video that cannot be looked into: a receiver may begin with any packet.
    Opaque,
}

/// What a payload says about its frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadInfo {
    /// A receiver can begin with this packet.
    pub key_frame_start: bool,
    /// The same, but for parameter sets that it must have been told: the first slice of a key frame of H.264.
    pub key_picture_start: bool,
    /// First packet of a frame, where the codec tells.
    pub frame_start: bool,
    /// Temporal layer.
    pub temporal_layer: u8,
    /// A receiver of the layers below may take this layer up from here on.
    pub layer_sync: bool,
}

/// By which a decoder counts the frames of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureNumbers {
    /// Of the frame; of 7 or 15 bits.
    pub picture: u16,
    /// Of the frame of the base layer that this one is or builds on, where that is counted.
    pub base_layer: u8,
}

impl PictureNumbers {
    /// Those of the next frame, if that is of the base layer.
    pub fn next(self) -> Self {
        Self { picture: self.picture.wrapping_add(1), base_layer: self.base_layer.wrapping_add(1) }
    }

    /// How far these are ahead.
    pub fn since(self, other: Self) -> Self {
        let Self { picture, base_layer } = self;
        Self { picture: picture.wrapping_sub(other.picture), base_layer: base_layer.wrapping_sub(other.base_layer) }
    }
}

impl Codec {
    /// The codec that RTP parameters name.
    pub fn new(mime: MimeType) -> Self {
        match mime {
            MimeType::Video(MimeTypeVideo::Vp8) => Self::Vp8,
            MimeType::Video(MimeTypeVideo::H264) => Self::H264,
            _ => Self::Opaque,
        }
    }

    /// Whether a receiver has to begin with a key frame, and can be told when there is one.
    pub fn has_key_frames(self) -> bool {
        self != Self::Opaque
    }

    /// Whether a receiver must be told parameters in the stream that its publisher may tell only once.
    pub fn has_parameter_sets(self) -> bool {
        self == Self::H264
    }

    /// The numbers of a payload's frame, if the codec has any.
    pub fn picture_numbers(self, payload: &[u8]) -> Option<PictureNumbers> {
        match self {
            Self::Vp8 => {
                let descriptor = Vp8Descriptor::parse(payload)?;
                let base_layer = descriptor.base_layer.map_or(0, |(number, _)| number);
                Some(PictureNumbers { picture: descriptor.picture_id?.value, base_layer })
            }
            Self::H264 | Self::Opaque => None,
        }
    }

    /// Takes `by` off the numbers of a payload's frame, if the codec has any: so many pictures were left out before it
    /// on purpose.
    pub fn lessen_picture_numbers(self, payload: &mut [u8], by: PictureNumbers) {
        match self {
            Self::Vp8 => shift_picture_id(payload, by.picture, by.base_layer),
            Self::H264 | Self::Opaque => {}
        }
    }

    /// Looks into a payload. What cannot be read is forwarded as an ordinary packet of the base layer.
    pub fn inspect(self, payload: &[u8]) -> PayloadInfo {
        match self {
            Self::Vp8 => Vp8Descriptor::parse(payload).map_or_else(PayloadInfo::default, |descriptor| PayloadInfo {
                key_frame_start: descriptor.key_frame_start,
                frame_start: descriptor.frame_start,
                temporal_layer: descriptor.temporal_layer,
                layer_sync: descriptor.layer_sync,
                ..PayloadInfo::default()
            }),
            Self::H264 => {
                let beginning = h264::beginning(payload);
                PayloadInfo {
                    key_frame_start: beginning == Some(Beginning::ParameterSets),
                    key_picture_start: beginning == Some(Beginning::Picture),
                    ..PayloadInfo::default()
                }
            }
            Self::Opaque => PayloadInfo::default(),
        }
    }
}
