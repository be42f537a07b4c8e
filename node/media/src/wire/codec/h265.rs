//! Key frames and temporal layers in H.265 payloads, RFC 7798: single NAL unit packets, aggregation packets and
//! fragmentation units, without decoding order numbers.

use super::parameter_sets::{Beginning, Syntax, exp_golomb, nal_units};

/// Temporal sub-layer access: this layer and all above may be taken up. ITU-T H.265 table 7-1.
const TSA: std::ops::RangeInclusive<u8> = 2..=3;
/// Step-wise temporal sub-layer access: this layer may be taken up.
const STSA: std::ops::RangeInclusive<u8> = 4..=5;
/// Pictures that a decoder can begin with (IRAP), those reserved for more of them left out.
const IRAP: std::ops::RangeInclusive<u8> = 16..=21;
/// Units of pictures.
const MAX_VIDEO: u8 = 31;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

const HEADER_LEN: usize = 2;

/// Bytes of a sequence parameter set before its profile.
const BEFORE_PROFILE: usize = HEADER_LEN + 1;

/// Bytes of a profile and level, ITU-T H.265 section 7.3.3; then two bytes that say what of each sub-layer follows.
const PROFILE_LEN: usize = 12;
const SUB_LAYER_PROFILE_LEN: usize = 11;
const SUB_LAYER_LEVEL_LEN: usize = 1;

/// Bytes of a sequence parameter set up to its id, with all that may come before.
const MAX_ID_OFFSET: usize = 128;

pub(super) const SYNTAX: Syntax = Syntax {
    header_len: HEADER_LEN,
    kind: |header| header >> 1 & 0x3f,
    aggregation: AGGREGATION,
    sets: &[VPS, SPS, PPS],
    id: parameter_set_id,
    // Parameter sets are of the base layers.
    aggregation_header: |_| vec![AGGREGATION << 1, 1],
};

/// What a payload says of its picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct H265Info {
    /// What of a key frame begins with the packet.
    pub beginning: Option<Beginning>,
    /// First packet of its picture.
    pub frame_start: bool,
    /// Temporal layer.
    pub temporal_layer: u8,
    /// The temporal layers that may be taken up from here on, a bit each.
    pub switches_up: u8,
}

/// Looks into a payload.
pub(super) fn inspect(payload: &[u8]) -> H265Info {
    let Some((&[first, second], rest)) = payload.split_first_chunk::<HEADER_LEN>() else { return H265Info::default() };
    let temporal_layer = (second & 0x07).saturating_sub(1);
    let info = H265Info { temporal_layer, ..H265Info::default() };
    match (SYNTAX.kind)(first) {
        AGGREGATION => {
            let units = nal_units(rest).filter_map(|unit| {
                let (header, rest) = unit.split_first_chunk::<HEADER_LEN>()?;
                Some(of_unit(info, (SYNTAX.kind)(header[0]), rest))
            });
            units.fold(info, |all, unit| H265Info {
                beginning: [all.beginning, unit.beginning].into_iter().flatten().min_by_key(|of| *of as u8),
                frame_start: all.frame_start || unit.frame_start,
                temporal_layer,
                switches_up: all.switches_up | unit.switches_up,
            })
        }
        FRAGMENT => match rest.split_first() {
            Some((header, slice)) if header & 0x80 != 0 => of_unit(info, header & 0x3f, slice),
            _ => info,
        },
        kind => of_unit(info, kind, rest),
    }
}

/// `rest` is what follows the unit's header.
fn of_unit(info: H265Info, kind: u8, rest: &[u8]) -> H265Info {
    // A slice header begins with a bit that says whether the slice is the picture's first.
    let frame_start = kind <= MAX_VIDEO && rest.first().is_some_and(|bits| bits & 0x80 != 0);
    let beginning = match kind {
        SPS => Some(Beginning::ParameterSets),
        _ if frame_start && IRAP.contains(&kind) => Some(Beginning::Picture),
        _ => None,
    };
    let layer = 1_u8 << info.temporal_layer;
    let switches_up = match kind {
        _ if !frame_start => 0,
        _ if TSA.contains(&kind) => layer.wrapping_neg(),
        _ if STSA.contains(&kind) => layer,
        _ => 0,
    };
    H265Info { beginning, frame_start, switches_up, ..info }
}

fn parameter_set_id(unit: &[u8]) -> Option<u32> {
    match SYNTAX.kind_of(unit)? {
        VPS => Some((unit.get(HEADER_LEN)? >> 4).into()),
        SPS => sequence_id(unit),
        _ => exp_golomb(unit.get(HEADER_LEN..)?),
    }
}

/// It stands behind profiles and levels, whose zeros encoders break up.
fn sequence_id(unit: &[u8]) -> Option<u32> {
    let mut bytes = [0; MAX_ID_OFFSET];
    let (mut len, mut zeros) = (0, 0);
    for &byte in unit {
        // ITU-T H.265 section 7.4.2: a 3 behind two zeros is none of the set's own.
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        let Some(place) = bytes.get_mut(len) else { break };
        *place = byte;
        len += 1;
    }
    let bytes = bytes.get(..len)?;
    let sub_layers = usize::from(bytes.get(HEADER_LEN)? >> 1 & 0x07);
    let mut at = BEFORE_PROFILE + PROFILE_LEN;
    if sub_layers > 0 {
        let &[high, low] = bytes.get(at..)?.first_chunk()?;
        let flags = u16::from_be_bytes([high, low]);
        at += 2;
        for sub_layer in 0..sub_layers.min(7) {
            let has = |bit: usize| flags >> (15 - bit) & 1 != 0;
            at += if has(2 * sub_layer) { SUB_LAYER_PROFILE_LEN } else { 0 };
            at += if has(2 * sub_layer + 1) { SUB_LAYER_LEVEL_LEN } else { 0 };
        }
    }
    exp_golomb(bytes.get(at..)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_key_frames_in_every_packetization() {
        let beginning = |payload: &[u8]| inspect(payload).beginning;
        assert_eq!(beginning(&[0x26, 0x01, 0xaf]), Some(Beginning::Picture), "IDR_W_RADL");
        assert_eq!(beginning(&[0x2a, 0x01, 0xaf]), Some(Beginning::Picture), "CRA");
        assert_eq!(beginning(&[0x26, 0x01, 0x2f]), None, "a later slice");
        assert_eq!(beginning(&[0x62, 0x01, 0x93, 0xaf]), Some(Beginning::Picture), "first fragment of an IDR picture");
        assert_eq!(beginning(&[0x62, 0x01, 0x13, 0xaf]), None, "a later fragment");
        assert_eq!(beginning(&[0x42, 0x01, 0x01]), Some(Beginning::ParameterSets));
        let aggregated = [0x60, 0x01, 0, 3, 0x40, 0x01, 0x0c, 0, 3, 0x42, 0x01, 0x01, 0, 3, 0x26, 0x01, 0xaf];
        assert_eq!(beginning(&aggregated), Some(Beginning::ParameterSets), "VPS, SPS, IDR");
        assert_eq!(beginning(&[0x02, 0x01, 0xd0]), None, "TRAIL_R");
        assert_eq!((beginning(&[0x26]), beginning(&[])), (None, None));
    }

    #[test]
    fn tells_temporal_layers_and_where_they_may_be_taken_up() {
        let told = |payload: &[u8]| {
            let info = inspect(payload);
            (info.temporal_layer, info.switches_up, info.frame_start)
        };
        assert_eq!(told(&[0x02, 0x01, 0xd0]), (0, 0, true), "TRAIL_R");
        assert_eq!(told(&[0x04, 0x02, 0xd0]), (1, 0b1111_1110, true), "TSA_N of TID 2");
        assert_eq!(told(&[0x0a, 0x03, 0xd0]), (2, 0b100, true), "STSA_R of TID 3");
        assert_eq!(told(&[0x62, 0x03, 0x85, 0xd0]), (2, 0b100, true), "the same in fragments");
        assert_eq!(told(&[0x62, 0x03, 0x05, 0xd0]), (2, 0, false));
    }

    #[test]
    fn ids_of_sequences_are_found_behind_sub_layers() {
        // Two sub-layers, of the first a level and of the second a profile; id 1.
        let mut sps = vec![0x42, 0x01, 0x05];
        sps.extend([1; PROFILE_LEN]);
        sps.extend([0b0110_0000, 0]);
        sps.extend([1; SUB_LAYER_LEVEL_LEN + SUB_LAYER_PROFILE_LEN]);
        sps.push(0b0100_0000);
        assert_eq!(parameter_set_id(&sps), Some(1));
        assert_eq!(parameter_set_id(&sps[..sps.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            inspect(&payload);
            parameter_set_id(&payload);
        }
    }
}
