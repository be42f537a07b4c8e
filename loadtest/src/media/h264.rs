//! H.264 in RTP (RFC 6184, packetization mode 1), and as much of NAL units as tells a key frame and a frame's begin.

use super::stamp::STAMP_LEN;

const NAL_TYPE: u8 = 0x1f;
/// Coded slice of a picture that is no key frame.
const SLICE: u8 = 1;
/// Coded slice of an IDR picture.
const IDR: u8 = 5;
/// Sequence parameter set.
const SPS: u8 = 7;
/// Picture parameter set.
const PPS: u8 = 8;
/// Access unit delimiter.
const DELIMITER: u8 = 9;
/// Several NAL units in one payload, section 5.7.1.
const STAP_A: u8 = 24;
/// A part of a NAL unit, section 5.8.
const FU_A: u8 = 28;
/// Bytes in front of a part.
const FU_A_HEADER: usize = 2;

/// Constrained baseline, level 3.1, 640 by 360.
const SYNTHETIC_SPS: [u8; 10] = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40];
const SYNTHETIC_PPS: [u8; 4] = [0x68, 0xce, 0x38, 0x80];

/// What one payload says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct H264Payload {
    /// Certainly the first packet of its frame. Of slices of key frames this cannot be told, since parameter sets may
    /// precede them.
    pub starts_frame: bool,
    /// Belongs to a key frame.
    pub key_frame: bool,
}

/// Reads what a payload contains; `None` when it is empty or cut short.
pub fn parse_payload(payload: &[u8]) -> Option<H264Payload> {
    let &indicator = payload.first()?;
    match indicator & NAL_TYPE {
        STAP_A => {
            let mut types = stap_units(payload).filter_map(|unit| Some(unit.first()? & NAL_TYPE)).peekable();
            let starts_frame = matches!(types.peek()?, &(SPS | DELIMITER));
            Some(H264Payload { starts_frame, key_frame: types.any(|unit| matches!(unit, IDR | SPS)) })
        }
        FU_A => {
            let &header = payload.get(1)?;
            let first_part = header & 0x80 != 0;
            let first_slice_byte = payload.get(FU_A_HEADER).copied().filter(|_| first_part);
            Some(unit(header & NAL_TYPE, first_slice_byte))
        }
        kind => Some(unit(kind, payload.get(1).copied())),
    }
}

/// `first_byte` is the one after the header, of units whose begin is known.
fn unit(kind: u8, first_byte: Option<u8>) -> H264Payload {
    let starts_frame = match kind {
        SPS | DELIMITER => true,
        // first_mb_in_slice is 0, an Exp-Golomb code whose first bit says so: section 7.3.3 of H.264.
        SLICE => first_byte.is_some_and(|byte| byte & 0x80 != 0),
        _ => false,
    };
    H264Payload { starts_frame, key_frame: matches!(kind, IDR | SPS) }
}

fn stap_units(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&length, tail) = rest.split_first_chunk::<2>()?;
        let (unit, tail) = tail.split_at_checked(u16::from_be_bytes(length).into())?;
        rest = tail;
        Some(unit)
    })
}

/// The payloads of a frame's NAL units, none longer than `packet_bytes`: parameter sets that fit together in a STAP-A,
/// long units in parts as equal as whole bytes allow.
pub(super) fn packetize(units: &[&[u8]], packet_bytes: usize) -> Vec<Vec<u8>> {
    let is_set = |unit: &&&[u8]| unit.first().is_some_and(|header| matches!(header & NAL_TYPE, SPS | PPS));
    let sets: Vec<&[u8]> = units.iter().take_while(is_set).copied().collect();
    let together = 1 + sets.iter().map(|unit| 2 + unit.len()).sum::<usize>();
    let mut payloads = Vec::new();
    let aggregated = if sets.len() > 1 && together <= packet_bytes { sets.len() } else { 0 };
    if aggregated > 0 {
        payloads.push(stap_a(&sets));
    }
    for unit in units.iter().skip(aggregated) {
        if unit.len() <= packet_bytes {
            payloads.push(unit.to_vec());
        } else {
            fu_a(unit, packet_bytes, &mut payloads);
        }
    }
    payloads
}

fn stap_a(units: &[&[u8]]) -> Vec<u8> {
    let importance = units.iter().filter_map(|unit| unit.first()).map(|header| header & 0x60).max().unwrap_or(0);
    let mut payload = vec![importance | STAP_A];
    for unit in units {
        payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    payload
}

fn fu_a(unit: &[u8], packet_bytes: usize, payloads: &mut Vec<Vec<u8>>) {
    let Some((&header, rest)) = unit.split_first() else { return };
    let parts = rest.len().div_ceil(packet_bytes.saturating_sub(FU_A_HEADER).max(1));
    let cut = |index| rest.len() * index / parts;
    for index in 0..parts {
        let start = if index == 0 { 0x80 } else { 0 };
        let end = if index + 1 == parts { 0x40 } else { 0 };
        let part = rest.get(cut(index)..cut(index + 1)).unwrap_or_default();
        let mut payload = Vec::with_capacity(FU_A_HEADER + part.len());
        payload.extend_from_slice(&[header & !NAL_TYPE | FU_A, start | end | header & NAL_TYPE]);
        payload.extend_from_slice(part);
        payloads.push(payload);
    }
}

/// NAL units of a frame without a picture, of `bytes` in all.
pub(super) fn synthetic_frame(key: bool, is_reference: bool, bytes: usize) -> Vec<Vec<u8>> {
    let sets = if key { SYNTHETIC_SPS.len() + SYNTHETIC_PPS.len() } else { 0 };
    // Header and the first byte of the slice's, which says that the picture begins.
    let mut slice = vec![0; bytes.saturating_sub(sets).max(2 + STAMP_LEN)];
    let importance = if is_reference { 0x60 } else { 0 };
    slice[0] = importance | if key { IDR } else { SLICE };
    slice[1] = 0x88;
    if key { vec![SYNTHETIC_SPS.to_vec(), SYNTHETIC_PPS.to_vec(), slice] } else { vec![slice] }
}

/// Whether a payload holds several NAL units: parameter sets, as [`packetize`] makes it.
pub(super) fn is_aggregate(payload: &[u8]) -> bool {
    payload.first().is_some_and(|indicator| indicator & NAL_TYPE == STAP_A)
}

/// Whether NAL units of one frame can be decoded without any other frame.
pub(super) fn is_key_frame<'a>(mut units: impl Iterator<Item = &'a [u8]>) -> bool {
    units.any(|unit| unit.first().is_some_and(|header| header & NAL_TYPE == IDR))
}

/// Whether NAL units bring their own parameter sets.
pub(super) fn has_parameter_sets<'a>(mut units: impl Iterator<Item = &'a [u8]>) -> bool {
    units.any(|unit| unit.first().is_some_and(|header| header & NAL_TYPE == SPS))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_rtp::codec::h264::H264Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;

    proptest! {
        #[test]
        fn webrtc_rs_reads_what_is_written(key: bool, is_reference: bool, bytes in 64..20_000_usize, packet_bytes in 100..1200_usize) {
            let units = synthetic_frame(key, is_reference, bytes);
            prop_assert_eq!(units.iter().map(Vec::len).sum::<usize>(), bytes);
            let slices: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
            let payloads = packetize(&slices, packet_bytes);
            let mut oracle = H264Packet::default();
            let mut read = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                prop_assert!(payload.len() <= packet_bytes);
                let parsed = parse_payload(payload).unwrap();
                prop_assert_eq!(parsed, H264Payload { starts_frame: index == 0, key_frame: key });
                read.extend_from_slice(&oracle.depacketize(&Bytes::copy_from_slice(payload)).unwrap());
            }
            let expected: Vec<u8> = slices.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            parse_payload(&bytes);
        }
    }

    #[test]
    fn a_slice_that_is_not_the_first_starts_no_frame() {
        assert_eq!(parse_payload(&[0x41, 0x40]), Some(H264Payload::default()));
        assert_eq!(parse_payload(&[0x65, 0x88]), Some(H264Payload { starts_frame: false, key_frame: true }));
        assert_eq!(parse_payload(&[]), None);
        assert_eq!(parse_payload(&[0x78]), None);
    }
}
