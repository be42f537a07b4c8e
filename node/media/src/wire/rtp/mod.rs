//! RTP as it lies on the wire (RFC 3550): reading a packet's header and its header extensions, and
//! writing headers. Every reader is total: any bytes give an answer and none a panic.

#[cfg(test)]
pub(crate) mod differential_tests;
mod extensions;
mod packet;

pub use extensions::{AudioLevel, ExtensionIds, Extensions, ReceivedExtensions};
pub use packet::{
    CANONICAL_AUDIO_LEVEL_ID, FIXED_HEADER_LEN, MAX_CANONICAL_HEADER_LEN, RtpHeader, RtpPacket, write_canonical_header,
};
