//! RTP packets: what is read of one can be written again.

use sluice_media::wire::codec::Codec;
use sluice_media::wire::rtp::{
    AudioLevel, CarriedExtensions, ExtensionIds, FIXED_HEADER_LEN, RtpHeader, RtpPacket, canonical_header_len,
    write_canonical_header,
};

use crate::lies_within;

/// The bytes are a packet.
pub fn run(data: &[u8]) {
    let Some(packet) = RtpPacket::parse(data) else { return };
    assert!(lies_within(packet.payload, data) && packet.payload.len() + FIXED_HEADER_LEN <= data.len());
    assert!(!packet.malformed || packet.payload.is_empty());
    for (_, value) in packet.extensions.iter() {
        assert!(lies_within(value, data));
    }
    let received = ExtensionIds::CANONICAL.read(packet.extensions);
    canonical(packet.header, received.audio_level, received.carried.checked(), packet.payload);
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1, Codec::Opaque] {
        codec.inspect(packet.payload);
    }
}

/// Into the form that packets have inside the mesh, and out of it.
fn canonical(
    header: RtpHeader,
    audio_level: Option<AudioLevel>,
    carried: Option<CarriedExtensions<'_>>,
    payload: &[u8],
) {
    let mut bytes = Vec::new();
    write_canonical_header(header, audio_level, carried.as_ref(), &mut bytes);
    assert_eq!(bytes.len(), canonical_header_len(audio_level, carried.as_ref()));
    assert!(bytes.len() <= usize::from(u8::MAX));
    bytes.extend_from_slice(payload);
    let packet = RtpPacket::parse(&bytes).expect("it was written here");
    assert_eq!((packet.header, packet.payload, packet.malformed), (header, payload, false));
    let received = ExtensionIds::CANONICAL.read(packet.extensions);
    assert_eq!((received.audio_level, received.carried), (audio_level, carried.unwrap_or_default()));
}

/// With one-byte and two-byte extensions, a CSRC, padding, and nothing of it.
pub fn seeds() -> Vec<Vec<u8>> {
    let header = |first: u8, second: u8| [first, second, 0x12, 0x34, 0, 0, 0x0b, 0xb8, 0, 0, 0, 10];
    let one_byte = [0xbe, 0xde, 0, 3, 0x10, b'0', 0x42, 1, 2, 3, 0x51, 0, 7, 0xa0, 0x85, 0];
    let two_byte = [0x10, 0, 0, 2, 1, 1, b'0', 0, 10, 1, 0x85, 0];
    vec![
        [&header(0x80, 0xe5)[..], &[0x90, 0x80, 0x11, 0x50, 1, 2]].concat(),
        [&header(0x90, 0x64)[..], &one_byte, &[1; 20]].concat(),
        [&header(0xb1, 0x65)[..], &[0, 0, 0, 9], &two_byte, &[0x10, 0x51, 3, 0, 0, 3]].concat(),
        [&header(0xa0, 0x66)[..], &[0, 0, 0, 4]].concat(),
    ]
}
