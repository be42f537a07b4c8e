//! An encoder of pictures with spatial and temporal layers, as far as a forwarder can tell it from a real one.

use sluice_media::wire::rtp::RtpHeader;

/// Which frames of a picture refer to the spatial layer below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InterLayer {
    /// L3T3.
    Always,
    /// L3T3_KEY.
    KeyPictures,
    /// S3T3.
    Never,
}

/// Where layers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// In VP9's payload descriptors, in flexible mode.
    Vp9,
    /// In dependency descriptors; payloads are nobody's business.
    Descriptor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    pub(crate) told: Told,
    pub(crate) inter_layer: InterLayer,
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
}

/// A packet and what is in its header beside.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) header: RtpHeader,
    pub(crate) descriptor: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
}

/// Pictures in a group, which begins with one of the lowest temporal layer.
const GROUP: u32 = 4;

/// Packets of a frame.
const PACKETS: usize = 2;

pub(crate) struct Encoder {
    mode: Mode,
    /// The header of its packets, but for what counts.
    header: RtpHeader,
    pub(crate) picture: u32,
    last_key_picture: u32,
    /// Where numbers begin.
    first_number: u16,
}

impl Encoder {
    /// Numbers its pictures and frames from `first_number` on.
    pub(crate) fn new(mode: Mode, header: RtpHeader, first_number: u16) -> Self {
        Self { mode, header, picture: 0, last_key_picture: 0, first_number }
    }

    /// The next picture.
    pub(crate) fn encode(&mut self, is_key: bool) -> Vec<Packet> {
        if is_key {
            self.last_key_picture = self.picture;
        }
        let in_group = (self.picture - self.last_key_picture) % GROUP;
        let (temporal, back) = match (self.mode.temporal, in_group) {
            (1, _) => (0, 1),
            (2, 0 | 2) => (0, 2),
            (2, _) => (1, 1),
            (_, 0) => (0, 4),
            (_, 2) => (1, 2),
            _ => (2, 1),
        };
        let mut packets = Vec::new();
        for spatial in 0..self.mode.spatial {
            for index in 0..PACKETS {
                let frame = Frame { spatial, temporal, back: if is_key { 0 } else { back }, is_key };
                packets.push(self.packet(frame, index));
                self.header.sequence_number = self.header.sequence_number.wrapping_add(1);
            }
        }
        packets.last_mut().expect("a picture has packets").header.marker = true;
        self.picture += 1;
        self.header.timestamp = self.header.timestamp.wrapping_add(2_970);
        packets
    }

    fn packet(&self, frame: Frame, index: usize) -> Packet {
        let (starts, ends) = (index == 0, index == PACKETS - 1);
        let (descriptor, mut payload) = match self.mode.told {
            Told::Vp9 => (None, self.vp9(frame, starts, ends)),
            Told::Descriptor => (Some(self.descriptor(frame, starts, ends)), Vec::new()),
        };
        // Whatever it is, it says nothing of layers or key frames.
        payload.extend([0x55; 40]);
        Packet { header: RtpHeader { marker: false, ..self.header }, descriptor, payload }
    }

    fn refers_down(&self, frame: Frame) -> bool {
        frame.spatial > 0 && self.inter_layer_at(frame)
    }

    fn inter_layer_at(&self, frame: Frame) -> bool {
        match self.mode.inter_layer {
            InterLayer::Always => true,
            InterLayer::KeyPictures => frame.is_key,
            InterLayer::Never => false,
        }
    }

    fn vp9(&self, frame: Frame, starts: bool, ends: bool) -> Vec<u8> {
        let is_unused_above = frame.spatial + 1 == self.mode.spatial || !self.inter_layer_at(frame);
        let flags = [0x80, if frame.is_key { 0 } else { 0x40 }, 0x20, 0x10]
            .into_iter()
            .chain([(starts, 0x08), (ends, 0x04), (is_unused_above, 0x01)].map(|(is, bit)| if is { bit } else { 0 }))
            .fold(0, |flags, bit| flags | bit);
        let [high, low] = ((self.picture as u16).wrapping_add(self.first_number) | 0x8000).to_be_bytes();
        let layers = frame.temporal << 5 | 0x10 | frame.spatial << 1 | u8::from(self.refers_down(frame));
        let mut payload = vec![flags, high, low, layers];
        if !frame.is_key {
            payload.push(frame.back << 1);
        }
        payload
    }

    fn descriptor(&self, frame: Frame, starts: bool, ends: bool) -> Vec<u8> {
        let Mode { spatial, temporal, .. } = self.mode;
        let mut bits = Bits::default();
        let template = frame.spatial * temporal + frame.temporal;
        let number = (self.picture as u16).wrapping_mul(spatial.into()).wrapping_add(frame.spatial.into());
        bits.write(starts.into(), 1).write(ends.into(), 1).write(template.into(), 6);
        bits.write(number.wrapping_add(self.first_number).into(), 16);
        let has_structure = frame.is_key && starts && frame.spatial == 0;
        bits.write(has_structure.into(), 1).write(0b0110, 4);
        if has_structure {
            self.structure(&mut bits);
        }
        self.indications(&mut bits, frame);
        if frame.back > 0 {
            bits.write(2, 2).write(u32::from(frame.back) * u32::from(spatial) - 1, 8);
        }
        if self.refers_down(frame) {
            bits.write(1, 2).write(0, 4);
        }
        bits.write(0, 2);
        bits.bytes()
    }

    /// A template for each pair of layers, without references, which every frame tells itself.
    fn structure(&self, bits: &mut Bits) {
        let Mode { spatial, temporal, .. } = self.mode;
        let targets = u32::from(spatial * temporal);
        bits.write(0, 6).write(targets - 1, 5);
        let layers = || (0..spatial).flat_map(|spatial| (0..temporal).map(move |temporal| (spatial, temporal)));
        for (of_spatial, of_temporal) in layers() {
            let next = match (of_spatial + 1 == spatial, of_temporal + 1 == temporal) {
                (true, true) => 3,
                (false, true) => 2,
                _ => 1,
            };
            bits.write(next, 2);
        }
        for (spatial, temporal) in layers() {
            self.indications(bits, Frame { spatial, temporal, back: 0, is_key: false });
        }
        bits.write(0, targets);
        // No chains: a number below targets + 1.
        bits.write(0, u32::BITS - (targets + 1).leading_zeros() - 1);
        bits.write(0, 1);
    }

    fn indications(&self, bits: &mut Bits, frame: Frame) {
        for spatial in 0..self.mode.spatial {
            for temporal in 0..self.mode.temporal {
                let is_above = frame.spatial > spatial || frame.temporal > temporal;
                let is_unused = frame.spatial < spatial && !self.inter_layer_at(frame);
                let is_discardable = frame.temporal > 0 && frame.temporal == temporal;
                bits.write(
                    if is_above || is_unused {
                        0
                    } else if is_discardable {
                        1
                    } else {
                        2
                    },
                    2,
                );
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    spatial: u8,
    temporal: u8,
    /// Pictures back to the one that it refers to; 0 is none.
    back: u8,
    is_key: bool,
}

#[derive(Debug, Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn write(&mut self, value: u32, width: u32) -> &mut Self {
        self.0.extend((0..width).rev().map(|bit| value >> bit & 1 != 0));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| (0..8).fold(0, |byte, at| byte << 1 | u8::from(bits.get(at) == Some(&true)));
        self.0.chunks(8).map(byte).collect()
    }
}
