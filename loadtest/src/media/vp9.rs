//! The VP9 payload descriptor (RFC 9628 section 4.2), with spatial and temporal layers in non-flexible mode.

use rand::{Rng, RngExt};

use super::parts::{Layer, parts};
use super::stamp::STAMP_LEN;
use crate::scenario::{InterLayer, ScalabilityMode};

/// What the descriptor of one packet says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// First packet of its layer frame.
    pub starts_frame: bool,
    /// Last packet of its layer frame.
    pub ends_frame: bool,
    /// The layer frame refers to pictures before its own.
    pub refers_back: bool,
    /// The layer frame refers to the spatial layer below.
    pub refers_down: bool,
    /// Running index of the picture, 15 bits.
    pub picture_id: Option<u16>,
    /// Running index of base-layer pictures.
    pub tl0_pic_idx: Option<u8>,
    /// Temporal layer.
    pub temporal_layer: u8,
    /// Spatial layer.
    pub spatial_layer: u8,
}

impl Vp9Descriptor {
    /// First packet of what can be decoded without anything else of the picture.
    pub fn starts_picture(&self) -> bool {
        self.starts_frame && !self.refers_down
    }

    /// First packet of a key picture.
    pub fn starts_key_picture(&self) -> bool {
        self.starts_picture() && !self.refers_back
    }
}

/// Bytes of the descriptor as [`Vp9Packetizer`] writes it.
const DESCRIPTOR_LEN: usize = 5;

/// Sizes of the layers, each half as wide and high as the next.
const DIMENSIONS: [(u16, u16); 3] = [(160, 90), (320, 180), (640, 360)];

/// Shares of a picture's bytes that spatial layers have, an assumption: four times the pixels take twice to three
/// times the bytes.
const SPATIAL_SHARES: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.1, 0.3, 0.6]];

/// Bytes of the frame's own that a layer frame begins with: frame marker, and whether it is a key frame.
const FRAME_HEADER_LEN: usize = 1;

/// Cuts pictures into payloads, with picture ids and layers' indices that run on.
#[derive(Debug)]
pub(super) struct Vp9Packetizer {
    mode: ScalabilityMode,
    picture_id: u16,
    tl0_pic_idx: u8,
}

impl Vp9Packetizer {
    /// Picture ids and indices begin at random.
    pub(super) fn new(mode: ScalabilityMode, rng: &mut impl Rng) -> Self {
        Self { mode, picture_id: rng.random_range(0..0x8000), tl0_pic_idx: rng.random() }
    }

    /// The payloads of a picture, of which there is a frame for each spatial layer; none is longer than `packet_bytes`.
    pub(super) fn packetize(&mut self, frames: &[&[u8]], layer: Layer, packet_bytes: usize) -> Vec<Vec<u8>> {
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        if layer.temporal == 0 {
            self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        }
        let mut payloads = Vec::new();
        for (spatial, frame) in (0..).zip(frames) {
            let structure = if layer.key && spatial == 0 { self.structure() } else { Vec::new() };
            let room = packet_bytes.saturating_sub(DESCRIPTOR_LEN + structure.len()).max(1);
            let packets = frame.len().div_ceil(room).max(1);
            for (index, part) in parts(frame, packets).enumerate() {
                let (starts, ends) = (index == 0, index + 1 == packets);
                let mut payload = self.descriptor(spatial, layer, starts, ends).to_vec();
                if starts && !structure.is_empty() {
                    // V
                    payload[0] |= 0x02;
                    payload.extend_from_slice(&structure);
                }
                payload.extend_from_slice(part);
                payloads.push(payload);
            }
        }
        payloads
    }

    fn descriptor(&self, spatial: u8, layer: Layer, starts: bool, ends: bool) -> [u8; DESCRIPTOR_LEN] {
        let uses_below = match self.mode.inter_layer {
            InterLayer::Always => true,
            InterLayer::KeyPictures => layer.key,
            InterLayer::Never => false,
        };
        let refers_down = uses_below && spatial > 0;
        let is_unused_above = !uses_below || spatial + 1 == self.mode.spatial_layers;
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        [
            // I and L; P, B, E and Z.
            0xa0 | bit(!layer.key, 0x40) | bit(starts, 0x08) | bit(ends, 0x04) | bit(is_unused_above, 0x01),
            0x80 | (self.picture_id >> 8) as u8,
            self.picture_id as u8,
            // TID, U, SID and D. In no pattern here a picture refers to one of a higher layer that is older than the
            // newest of its own.
            layer.temporal << 5 | 0x10 | spatial << 1 | u8::from(refers_down),
            self.tl0_pic_idx,
        ]
    }

    /// The scalability structure, section 4.2.1: the layers' sizes, no group of pictures.
    fn structure(&self) -> Vec<u8> {
        let layers = self.mode.spatial_layers;
        let sizes = DIMENSIONS.iter().skip(DIMENSIONS.len().saturating_sub(layers.into()));
        let sizes = sizes.flat_map(|(width, height)| [width.to_be_bytes(), height.to_be_bytes()].concat());
        std::iter::once((layers - 1) << 5 | 0x10).chain(sizes).collect()
    }

    /// The frames of a picture that shows nothing, one for each spatial layer, whose payloads take about `bytes` when
    /// cut to at most `packet_bytes` each.
    pub(super) fn synthetic_picture(&self, key: bool, bytes: usize, packet_bytes: usize) -> Vec<Vec<u8>> {
        let layers = usize::from(self.mode.spatial_layers);
        let shares = layers.checked_sub(1).and_then(|row| SPATIAL_SHARES.get(row)).unwrap_or(&SPATIAL_SHARES[0]);
        let frame = |share: &f64| {
            let bytes = (bytes as f64 * share) as usize;
            let descriptors = bytes.div_ceil(packet_bytes.max(1)) * DESCRIPTOR_LEN;
            let mut frame = vec![0; bytes.saturating_sub(descriptors).max(FRAME_HEADER_LEN + STAMP_LEN)];
            frame[0] = if key { 0x82 } else { 0x86 };
            frame
        };
        shares.iter().take(layers).map(frame).collect()
    }
}

/// Reads the descriptor of a payload, as far as it says what is of interest here; `None` when it is cut short.
pub fn parse_vp9_descriptor(payload: &[u8]) -> Option<Vp9Descriptor> {
    let mut bytes = payload.iter().copied();
    let flags = bytes.next()?;
    let has = |bit: u8| flags & bit != 0;
    let mut descriptor = Vp9Descriptor {
        starts_frame: has(0x08),
        ends_frame: has(0x04),
        refers_back: has(0x40),
        ..Vp9Descriptor::default()
    };
    if has(0x80) {
        let high = bytes.next()?;
        let id =
            if high & 0x80 != 0 { u16::from(high & 0x7f) << 8 | u16::from(bytes.next()?) } else { u16::from(high) };
        descriptor.picture_id = Some(id);
    }
    if has(0x20) {
        let layers = bytes.next()?;
        descriptor.temporal_layer = layers >> 5;
        descriptor.spatial_layer = layers >> 1 & 0x07;
        descriptor.refers_down = layers & 1 != 0;
        // In flexible mode references follow instead.
        if !has(0x10) {
            descriptor.tl0_pic_idx = Some(bytes.next()?);
        }
    }
    Some(descriptor)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rtc_rtp::codec::vp9::Vp9Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;

    fn modes() -> impl Strategy<Value = ScalabilityMode> {
        let names = ["L1T1", "L1T3", "L2T1", "L3T3", "L2T2_KEY", "L3T3_KEY", "S2T3", "S3T3"];
        proptest::sample::select(names.to_vec()).prop_map(|name| name.parse().unwrap())
    }

    proptest! {
        #[test]
        fn webrtc_rs_reads_what_is_written(
            mode in modes(), bytes in 128..20_000_usize, packet_bytes in 100..1200_usize, key: bool,
            temporal in 0..3_u8, seed: u64,
        ) {
            let mut packetizer = Vp9Packetizer::new(mode, &mut ChaCha8Rng::seed_from_u64(seed));
            let picture = packetizer.synthetic_picture(key, bytes, packet_bytes);
            let frames: Vec<&[u8]> = picture.iter().map(Vec::as_slice).collect();
            let layer = Layer { temporal, key, sync: false };
            let payloads = packetizer.packetize(&frames, layer, packet_bytes);
            let mut read = vec![Vec::new(); frames.len()];
            for (index, payload) in payloads.iter().enumerate() {
                prop_assert!(payload.len() <= packet_bytes);
                let mut oracle = Vp9Packet::default();
                let part = oracle.depacketize(&Bytes::copy_from_slice(payload)).unwrap();
                let spatial = usize::from(oracle.sid);
                prop_assert_eq!(oracle.b, read[spatial].is_empty());
                read[spatial].extend_from_slice(&part);
                let descriptor = parse_vp9_descriptor(payload).unwrap();
                prop_assert_eq!(descriptor, Vp9Descriptor {
                    starts_frame: oracle.b,
                    ends_frame: oracle.e,
                    refers_back: oracle.p,
                    refers_down: oracle.d,
                    picture_id: Some(oracle.picture_id),
                    tl0_pic_idx: Some(oracle.tl0picidx),
                    temporal_layer: temporal,
                    spatial_layer: oracle.sid,
                });
                prop_assert_eq!((oracle.tid, oracle.p, oracle.v), (temporal, !key, key && index == 0));
                prop_assert_eq!(oracle.e, read[spatial].len() == frames[spatial].len());
                prop_assert!(!oracle.v || oracle.ns + 1 == mode.spatial_layers);
            }
            prop_assert_eq!(read, picture);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            parse_vp9_descriptor(&bytes);
        }
    }
}
