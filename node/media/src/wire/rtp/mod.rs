//! RTP as it lies on the wire (RFC 3550): reading a packet's header and its header extensions, and
//! writing headers. Every reader is total: any bytes give an answer and none a panic.

mod carried_extensions;
mod dependency_descriptor;
#[cfg(test)]
pub(crate) mod differential_tests;
mod extensions;
mod packet;

pub use carried_extensions::CarriedExtensions;
pub(crate) use carried_extensions::{Elements, extensions_len, kinds_of, needs_two_bytes, write_extensions};
pub use dependency_descriptor::{
    DecodeTarget, DependencyDescriptor, FrameDependencies, Indication, MAX_LEN as MAX_DESCRIPTOR_LEN, MAX_REFERENCES,
    TemplateStructure, lessen_frame_number,
};
pub use extensions::{AudioLevel, ExtensionIds, Extensions, ReceivedExtensions};
pub use packet::{FIXED_HEADER_LEN, RtpHeader, RtpPacket, canonical_header_len, write_canonical_header};
