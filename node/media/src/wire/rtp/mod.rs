//! RTP as it lies on the wire (RFC 3550): reading a packet's header, its header extensions and as much of its payload as
//! forwarding needs, and writing headers. Every reader is total: any bytes give an answer and none a panic.

mod codec;
#[cfg(test)]
mod differential_tests;
mod extensions;
mod h264;
mod packet;
mod vp8;

pub use codec::{Codec, PayloadInfo};
pub use extensions::{AudioLevel, ExtensionIds, Extensions, ReceivedExtensions};
pub use h264::ParameterSets;
pub use packet::{
    CANONICAL_AUDIO_LEVEL_ID, FIXED_HEADER_LEN, MAX_CANONICAL_HEADER_LEN, RtpHeader, RtpPacket, write_canonical_header,
};
pub use vp8::{Vp8Descriptor, shift_picture_id};
