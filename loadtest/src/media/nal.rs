//! H.264 (RFC 6184, packetization mode 1) and H.265 (RFC 7798) in RTP, and as much of NAL units as tells a key frame
//! and a frame's begin.

use super::codec::Codec;
use super::parts::parts;
use super::stamp::STAMP_LEN;

/// How a codec writes its units and packs them.
#[derive(Debug)]
pub(super) struct Syntax {
    /// Bytes of a unit's header.
    header_len: usize,
    /// Where the type is in the header's first byte.
    type_mask: u8,
    type_shift: u32,
    /// Several units in one payload, sections 5.7.1 and 4.4.2.
    aggregate: u8,
    /// A part of a unit, sections 5.8 and 4.4.3.
    fragment: u8,
    class: fn(u8) -> Class,
    synthetic: Synthetic,
}

/// What a unit is to its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Begins a frame of any kind.
    Delimiter,
    /// The parameter set that a key frame begins with.
    FirstSet,
    /// Another parameter set.
    Set,
    /// A slice of a key frame.
    KeySlice,
    /// A slice of another frame.
    Slice,
    Other,
}

/// Frames without a picture, of 640 by 360.
#[derive(Debug)]
struct Synthetic {
    sets: &'static [&'static [u8]],
    /// Headers of slices: of key frames, of others, and of those that no frame refers to.
    headers: [&'static [u8]; 3],
}

const H264: Syntax = Syntax {
    header_len: 1,
    type_mask: 0x1f,
    type_shift: 0,
    aggregate: 24,
    fragment: 28,
    class: |kind| match kind {
        1 => Class::Slice,
        5 => Class::KeySlice,
        7 => Class::FirstSet,
        8 => Class::Set,
        9 => Class::Delimiter,
        _ => Class::Other,
    },
    // Constrained baseline, level 3.1.
    synthetic: Synthetic {
        sets: &[&[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40], &[0x68, 0xce, 0x38, 0x80]],
        headers: [&[0x65], &[0x61], &[0x01]],
    },
};

const H265: Syntax = Syntax {
    header_len: 2,
    type_mask: 0x3f,
    type_shift: 1,
    aggregate: 48,
    fragment: 49,
    class: |kind| match kind {
        0..=9 => Class::Slice,
        16..=21 => Class::KeySlice,
        32 => Class::FirstSet,
        33 | 34 => Class::Set,
        35 => Class::Delimiter,
        _ => Class::Other,
    },
    // Main, level 3.1, as x265 writes them; pictures are IDR_N_LP, TRAIL_R and TRAIL_N.
    synthetic: Synthetic {
        sets: &[
            &[
                0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00,
                0x00, 0x03, 0x00, 0x5d, 0x92, 0x80, 0x90,
            ],
            &[
                0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
                0x5d, 0xa0, 0x05, 0x02, 0x01, 0x69, 0x65, 0x92, 0xa4, 0x93, 0x2b, 0xc0, 0x5a, 0x02, 0x00, 0x00, 0x03,
                0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10,
            ],
            &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40],
        ],
        headers: [&[0x28, 0x01], &[0x02, 0x01], &[0x00, 0x01]],
    },
};

/// What one payload says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NalPayload {
    /// Certainly the first packet of its frame. Of slices of key frames this cannot be told, since parameter sets may
    /// precede them.
    pub starts_frame: bool,
    /// Belongs to a key frame.
    pub key_frame: bool,
    /// Has the parameter sets without which no decoder can begin, or the first of them.
    pub parameter_sets: bool,
}

/// Reads what a payload of H.264 or H.265 contains; `None` when it is empty or cut short, or of another codec.
pub fn parse_nal_payload(codec: Codec, payload: &[u8]) -> Option<NalPayload> {
    Syntax::of(codec)?.parse(payload)
}

impl Syntax {
    /// `None` of codecs that have no NAL units.
    pub(super) fn of(codec: Codec) -> Option<&'static Self> {
        match codec {
            Codec::H264 => Some(&H264),
            Codec::H265 => Some(&H265),
            Codec::Opus | Codec::Vp8 | Codec::Vp9 => None,
        }
    }

    fn kind(&self, first: u8) -> u8 {
        first >> self.type_shift & self.type_mask
    }

    fn class(&self, unit: &[u8]) -> Option<Class> {
        Some((self.class)(self.kind(*unit.first()?)))
    }

    fn parse(&self, payload: &[u8]) -> Option<NalPayload> {
        let kind = self.kind(*payload.first()?);
        let rest = payload.get(self.header_len..)?;
        if kind == self.aggregate {
            let mut told = units(rest).filter_map(|unit| Some(of_class(self.class(unit)?, None)));
            let first = told.next()?;
            return Some(told.fold(first, |all, unit| NalPayload {
                key_frame: all.key_frame || unit.key_frame,
                parameter_sets: all.parameter_sets || unit.parameter_sets,
                ..all
            }));
        }
        if kind == self.fragment {
            let (&header, part) = rest.split_first()?;
            let first_byte = part.first().copied().filter(|_| header & 0x80 != 0);
            return Some(of_class((self.class)(header & self.type_mask), first_byte));
        }
        Some(of_class((self.class)(kind), rest.first().copied()))
    }

    /// The payloads of a frame's units, none longer than `packet_bytes`: parameter sets that fit together in one, long
    /// units in parts as equal as whole bytes allow.
    pub(super) fn packetize(&self, units: &[&[u8]], packet_bytes: usize) -> Vec<Vec<u8>> {
        let is_set = |unit: &&&[u8]| matches!(self.class(unit), Some(Class::FirstSet | Class::Set));
        let sets: Vec<&[u8]> = units.iter().take_while(is_set).copied().collect();
        let together = self.header_len + sets.iter().map(|unit| 2 + unit.len()).sum::<usize>();
        let mut payloads = Vec::new();
        let aggregated = if sets.len() > 1 && together <= packet_bytes { sets.len() } else { 0 };
        if aggregated > 0 {
            payloads.push(self.aggregate(&sets));
        }
        for unit in units.iter().skip(aggregated) {
            if unit.len() <= packet_bytes {
                payloads.push(unit.to_vec());
            } else {
                self.fragment(unit, packet_bytes, &mut payloads);
            }
        }
        payloads
    }

    /// A unit's header with another type.
    fn header(&self, unit: &[u8], kind: u8) -> Vec<u8> {
        let mut header = unit.get(..self.header_len).unwrap_or_default().to_vec();
        if let Some(first) = header.first_mut() {
            *first = *first & !(self.type_mask << self.type_shift) | kind << self.type_shift;
        }
        header
    }

    fn aggregate(&self, units: &[&[u8]]) -> Vec<u8> {
        // As important as the most important of them.
        let importance = |unit: &&&[u8]| unit.first().map(|first| first & !(self.type_mask << self.type_shift));
        let first = units.iter().max_by_key(importance).copied().unwrap_or_default();
        let mut payload = self.header(first, self.aggregate);
        for unit in units {
            payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
            payload.extend_from_slice(unit);
        }
        payload
    }

    fn fragment(&self, unit: &[u8], packet_bytes: usize, payloads: &mut Vec<Vec<u8>>) {
        let Some((&[first, ..], rest)) = unit.split_at_checked(self.header_len) else { return };
        let header = self.header(unit, self.fragment);
        let count = rest.len().div_ceil(packet_bytes.saturating_sub(header.len() + 1).max(1));
        for (index, part) in parts(rest, count).enumerate() {
            let start = if index == 0 { 0x80 } else { 0 };
            let end = if index + 1 == count { 0x40 } else { 0 };
            payloads.push([&header, &[start | end | self.kind(first)][..], part].concat());
        }
    }

    /// Units of a frame without a picture, of `bytes` in all.
    pub(super) fn synthetic_frame(&self, key: bool, is_reference: bool, bytes: usize) -> Vec<Vec<u8>> {
        let Synthetic { sets, headers: [of_key, of_reference, of_disposable] } = self.synthetic;
        let sets = if key { sets } else { &[] };
        let header = match (key, is_reference) {
            (true, _) => of_key,
            (false, true) => of_reference,
            (false, false) => of_disposable,
        };
        // The slice's first byte says that the picture begins.
        let mut slice = [header, &[0x88]].concat();
        let before = sets.iter().map(|set| set.len()).sum::<usize>();
        slice.resize(bytes.saturating_sub(before).max(slice.len() + STAMP_LEN), 0);
        sets.iter().map(|set| set.to_vec()).chain([slice]).collect()
    }

    /// Whether a payload holds several units: parameter sets, as [`Self::packetize`] makes it.
    pub(super) fn is_aggregate(&self, payload: &[u8]) -> bool {
        payload.first().is_some_and(|first| self.kind(*first) == self.aggregate)
    }

    /// Whether units of one frame can be decoded without any other frame.
    pub(super) fn is_key_frame<'a>(&self, mut units: impl Iterator<Item = &'a [u8]>) -> bool {
        units.any(|unit| self.class(unit) == Some(Class::KeySlice))
    }

    /// Whether units bring their own parameter sets.
    pub(super) fn has_parameter_sets<'a>(&self, mut units: impl Iterator<Item = &'a [u8]>) -> bool {
        units.any(|unit| self.class(unit) == Some(Class::FirstSet))
    }
}

/// `first_byte` is the one after the header, of units whose begin is known.
fn of_class(class: Class, first_byte: Option<u8>) -> NalPayload {
    let starts_frame = match class {
        Class::FirstSet | Class::Delimiter => true,
        // Of H.264 first_mb_in_slice is 0, an Exp-Golomb code whose first bit says so; of H.265 it is a flag.
        Class::Slice => first_byte.is_some_and(|byte| byte & 0x80 != 0),
        Class::Set | Class::KeySlice | Class::Other => false,
    };
    let parameter_sets = class == Class::FirstSet;
    NalPayload { starts_frame, key_frame: parameter_sets || class == Class::KeySlice, parameter_sets }
}

/// The units of an aggregate behind its header.
fn units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, tail) = rest.split_first_chunk::<2>()?;
        let (unit, tail) = tail.split_at_checked(u16::from_be_bytes(length).into())?;
        rest = tail;
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_rtp::codec::h264::H264Packet;
    use rtc_rtp::codec::h265::{H265Packet, H265Payload};
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;

    /// What webrtc-rs reads of a payload: units, and parts of them.
    fn units_of_h265(payload: &[u8], read: &mut Vec<Vec<u8>>) {
        let mut packet = H265Packet::default();
        packet.depacketize(&Bytes::copy_from_slice(payload)).unwrap();
        match packet.payload() {
            H265Payload::H265SingleNALUnitPacket(_) => read.push(payload.to_vec()),
            H265Payload::H265AggregationPacket(packet) => {
                let first = packet.first_unit().unwrap().nal_unit();
                let others = packet.other_units().iter().map(|unit| unit.nal_unit());
                read.extend(std::iter::once(first).chain(others).map(|unit| unit.to_vec()));
            }
            H265Payload::H265FragmentationUnitPacket(packet) => {
                if packet.fu_header().s() {
                    read.push(vec![payload[0] & 0x81 | packet.fu_header().fu_type() << 1, payload[1]]);
                }
                read.last_mut().unwrap().extend_from_slice(&packet.payload());
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn webrtc_rs_reads_what_is_written(
            is_h265: bool, key: bool, is_reference: bool, bytes in 128..20_000_usize, packet_bytes in 100..1200_usize,
        ) {
            let codec = if is_h265 { Codec::H265 } else { Codec::H264 };
            let syntax = Syntax::of(codec).unwrap();
            let units = syntax.synthetic_frame(key, is_reference, bytes);
            prop_assert_eq!(units.iter().map(Vec::len).sum::<usize>(), bytes);
            let slices: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
            let payloads = syntax.packetize(&slices, packet_bytes);
            let mut oracle = H264Packet::default();
            let (mut read, mut read_units) = (Vec::new(), Vec::new());
            for (index, payload) in payloads.iter().enumerate() {
                prop_assert!(payload.len() <= packet_bytes);
                let parsed = parse_nal_payload(codec, payload).unwrap();
                let (starts_frame, parameter_sets) = (index == 0, key && index == 0);
                prop_assert_eq!(parsed, NalPayload { starts_frame, key_frame: key, parameter_sets });
                if is_h265 {
                    units_of_h265(payload, &mut read_units);
                } else {
                    read.extend_from_slice(&oracle.depacketize(&Bytes::copy_from_slice(payload)).unwrap());
                }
            }
            if is_h265 {
                prop_assert_eq!(read_units, units);
            } else {
                let expected: Vec<u8> = slices.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect();
                prop_assert_eq!(read, expected);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            parse_nal_payload(Codec::H264, &bytes);
            parse_nal_payload(Codec::H265, &bytes);
        }
    }

    #[test]
    fn a_slice_that_is_not_the_first_starts_no_frame() {
        let h264 = |payload: &[u8]| parse_nal_payload(Codec::H264, payload);
        let h265 = |payload: &[u8]| parse_nal_payload(Codec::H265, payload);
        let of_key = Some(NalPayload { key_frame: true, ..NalPayload::default() });
        assert_eq!(h264(&[0x41, 0x40]), Some(NalPayload::default()));
        assert_eq!(h265(&[0x02, 0x01, 0x40]), Some(NalPayload::default()));
        assert_eq!((h264(&[0x65, 0x88]), h265(&[0x26, 0x01, 0xaf])), (of_key, of_key));
        for cut_short in [&[][..], &[0x78], &[0x7c]] {
            assert_eq!(h264(cut_short), None, "{cut_short:?}");
        }
        for cut_short in [&[][..], &[0x26], &[0x60, 0x01], &[0x62, 0x01]] {
            assert_eq!(h265(cut_short), None, "{cut_short:?}");
        }
    }
}
