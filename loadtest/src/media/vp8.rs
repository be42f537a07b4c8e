//! The VP8 payload descriptor (RFC 7741 section 4.2) and as much of the frame header as tells a key frame.

use rand::{Rng, RngExt};

use super::parts::{Layer, parts};
use super::stamp::STAMP_LEN;

/// What the descriptor of one packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// First packet of its frame.
    pub starts_frame: bool,
    /// Running index of the frame, 15 bits.
    pub picture_id: Option<u16>,
    /// Running index of base-layer frames.
    pub tl0_pic_idx: Option<u8>,
    /// Temporal layer.
    pub temporal_layer: Option<u8>,
    /// Not needed to decode higher layers that follow.
    pub layer_sync: bool,
    /// First packet of a key frame.
    pub key_frame: bool,
}

/// Bytes of the descriptor as [`Vp8Packetizer`] writes it.
const DESCRIPTOR_LEN: usize = 6;

/// Bytes that a frame begins with: frame tag, and of key frames start code and size.
const FRAME_HEADER_LEN: usize = 10;

/// Cuts frames into payloads, with picture ids and layers' indices that run on.
#[derive(Debug)]
pub(super) struct Vp8Packetizer {
    picture_id: u16,
    tl0_pic_idx: u8,
}

impl Vp8Packetizer {
    /// Picture ids and indices begin at random.
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        Self { picture_id: rng.random_range(0..0x8000), tl0_pic_idx: rng.random() }
    }

    /// The payloads of a frame, none longer than `packet_bytes` and as equal in size as whole bytes allow, as libwebrtc
    /// cuts them.
    pub(super) fn packetize(&mut self, frame: &[u8], layer: Layer, packet_bytes: usize) -> Vec<Vec<u8>> {
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        if layer.temporal == 0 {
            self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        }
        let packets = frame.len().div_ceil(packet_bytes.saturating_sub(DESCRIPTOR_LEN).max(1)).max(1);
        let payload = |(index, share): (usize, &[u8])| {
            let mut payload = Vec::with_capacity(DESCRIPTOR_LEN + share.len());
            payload.extend_from_slice(&self.descriptor(index == 0, layer));
            payload.extend_from_slice(share);
            payload
        };
        parts(frame, packets).enumerate().map(payload).collect()
    }

    fn descriptor(&self, starts_frame: bool, layer: Layer) -> [u8; DESCRIPTOR_LEN] {
        [
            // X; S when a partition starts. N (non-reference) is left unset.
            0x80 | if starts_frame { 0x10 } else { 0 },
            // I, L and T.
            0xe0,
            0x80 | (self.picture_id >> 8) as u8,
            self.picture_id as u8,
            self.tl0_pic_idx,
            // TID and Y, no KEYIDX.
            layer.temporal << 6 | if layer.sync { 0x20 } else { 0 },
        ]
    }
}

/// A frame without a picture whose payloads take `bytes` when cut to at most `packet_bytes` each: only its head is VP8
/// (RFC 6386 section 9.1), of 640 by 360 pixels.
pub(super) fn synthetic_frame(key: bool, bytes: usize, packet_bytes: usize) -> Vec<u8> {
    let descriptors = bytes.div_ceil(packet_bytes) * DESCRIPTOR_LEN;
    let mut frame = vec![0; bytes.saturating_sub(descriptors).max(FRAME_HEADER_LEN + STAMP_LEN)];
    frame[0] = if key { 0x10 } else { 0x11 };
    if key {
        frame[3..6].copy_from_slice(&[0x9d, 0x01, 0x2a]);
        frame[6..8].copy_from_slice(&640_u16.to_le_bytes());
        frame[8..10].copy_from_slice(&360_u16.to_le_bytes());
    }
    frame
}

/// Whether a frame can be decoded without any other (RFC 6386 section 9.1).
pub(super) fn is_key_frame(frame: &[u8]) -> bool {
    frame.first().is_some_and(|tag| tag & 1 == 0)
}

/// Reads the descriptor of a payload; `None` when it is cut short.
pub fn parse_descriptor(payload: &[u8]) -> Option<Vp8Descriptor> {
    let mut bytes = payload.iter().copied();
    let first = bytes.next()?;
    let mut descriptor = Vp8Descriptor {
        starts_frame: first & 0x10 != 0 && first & 0x07 == 0,
        picture_id: None,
        tl0_pic_idx: None,
        temporal_layer: None,
        layer_sync: false,
        key_frame: false,
    };
    if first & 0x80 != 0 {
        let flags = bytes.next()?;
        if flags & 0x80 != 0 {
            let high = bytes.next()?;
            let id = if high & 0x80 != 0 {
                (u16::from(high & 0x7f) << 8) | u16::from(bytes.next()?)
            } else {
                u16::from(high)
            };
            descriptor.picture_id = Some(id);
        }
        if flags & 0x40 != 0 {
            descriptor.tl0_pic_idx = Some(bytes.next()?);
        }
        if flags & 0x30 != 0 {
            let layers = bytes.next()?;
            if flags & 0x20 != 0 {
                descriptor.temporal_layer = Some(layers >> 6);
                descriptor.layer_sync = layers & 0x20 != 0;
            }
        }
    }
    let frame_tag = bytes.next()?;
    descriptor.key_frame = descriptor.starts_frame && frame_tag & 1 == 0;
    Some(descriptor)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rtc_rtp::codec::vp8::Vp8Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;

    proptest! {
        #[test]
        fn webrtc_rs_reads_what_is_written(bytes in 64..20_000_usize, packet_bytes in 100..1200_usize, key: bool,
                temporal in 0..3_u8, sync: bool, seed: u64) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut packetizer = Vp8Packetizer::new(&mut rng);
            let frame = synthetic_frame(key, bytes, packet_bytes);
            let layer = Layer { temporal, sync, key };
            let payloads = packetizer.packetize(&frame, layer, packet_bytes);
            prop_assert!(payloads.iter().all(|payload| payload.len() <= packet_bytes));
            // Without the descriptor of the last packet there may be one packet less.
            let written = payloads.iter().map(Vec::len).sum::<usize>();
            prop_assert!(bytes - written <= DESCRIPTOR_LEN, "{written} of {bytes}");
            let mut read = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                let mut oracle = Vp8Packet::default();
                read.extend_from_slice(&oracle.depacketize(&Bytes::copy_from_slice(payload)).unwrap());
                let descriptor = parse_descriptor(payload).unwrap();
                prop_assert_eq!(descriptor, Vp8Descriptor {
                    starts_frame: index == 0,
                    picture_id: Some(oracle.picture_id),
                    tl0_pic_idx: Some(oracle.tl0_pic_idx),
                    temporal_layer: Some(oracle.tid),
                    layer_sync: oracle.y == 1,
                    key_frame: index == 0 && key,
                });
                prop_assert_eq!((oracle.tid, oracle.y == 1), (temporal, sync));
            }
            prop_assert_eq!(read, frame);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            parse_descriptor(&bytes);
        }
    }
}
