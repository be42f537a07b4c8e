//! Key frames in H.264 payloads, RFC 6184: single NAL unit packets, STAP-A and FU-A.

use super::parameter_sets::{Beginning, Syntax, exp_golomb, nal_units};

/// Slice of an IDR picture.
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

pub(super) const SYNTAX: Syntax = Syntax {
    header_len: 1,
    kind: |header| header & 0x1f,
    aggregation: STAP_A,
    // Sequence parameter sets first: the others name them.
    sets: &[SPS, PPS],
    id: parameter_set_id,
    aggregation_header: |units| {
        let importance = units.filter_map(|unit| unit.first()).map(|header| header & 0x60).max();
        vec![importance.unwrap_or(0) | STAP_A]
    },
};

/// What of a key frame begins with this packet.
pub(super) fn beginning(payload: &[u8]) -> Option<Beginning> {
    let (&indicator, rest) = payload.split_first()?;
    match indicator & 0x1f {
        STAP_A => {
            let found = nal_units(rest).filter_map(of_unit);
            found.min_by_key(|found| *found != Beginning::ParameterSets)
        }
        FU_A => {
            let (&header, slice) = rest.split_first()?;
            (header & 0x80 != 0).then(|| of_type(header & 0x1f, slice))?
        }
        kind => of_type(kind, rest),
    }
}

fn of_unit(unit: &[u8]) -> Option<Beginning> {
    let (&header, rest) = unit.split_first()?;
    of_type(header & 0x1f, rest)
}

fn of_type(kind: u8, rest: &[u8]) -> Option<Beginning> {
    // A slice header begins with the number of the slice's first macroblock; the zero of the first slice is a single
    // bit.
    let is_first_slice = || rest.first().is_some_and(|bits| bits & 0x80 != 0);
    match kind {
        SPS => Some(Beginning::ParameterSets),
        IDR_SLICE if is_first_slice() => Some(Beginning::Picture),
        _ => None,
    }
}

fn parameter_set_id(unit: &[u8]) -> Option<u32> {
    match unit.first()? & 0x1f {
        // Behind profile, constraints and level.
        SPS => exp_golomb(unit.get(4..)?),
        _ => exp_golomb(unit.get(1..)?),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const SPS_0: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x01];
    pub(in super::super) const PPS_0: &[u8] = &[0x68, 0xce, 0x3c];

    pub(in super::super) fn stap_a(units: &[&[u8]]) -> Vec<u8> {
        let mut payload = vec![0x78];
        for unit in units {
            payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
            payload.extend_from_slice(unit);
        }
        payload
    }

    #[test]
    fn finds_parameter_sets_in_every_packetization() {
        let found = Some(Beginning::ParameterSets);
        assert_eq!(beginning(&[0x67, 0x42]), found);
        assert_eq!(beginning(&stap_a(&[&[0x09, 0x10], SPS_0, PPS_0])), found, "delimiter, SPS, PPS");
        assert_eq!(beginning(&stap_a(&[&[0x65, 0x88], SPS_0])), found);
        assert_eq!(beginning(&[0x7c, 0x87, 0x42]), found);
        assert_eq!(beginning(&[0x7c, 0x07, 0x42]), None, "not the first fragment");
        assert_eq!(beginning(&[0x41, 0x9a]), None);
        assert_eq!(beginning(&[0x78, 0, 200, 0x67]), None, "a unit longer than the packet");
        assert_eq!(beginning(&[]), None);
    }

    #[test]
    fn finds_the_first_slice_of_an_idr_picture_in_every_packetization() {
        let found = Some(Beginning::Picture);
        assert_eq!(beginning(&[0x65, 0x88]), found);
        assert_eq!(beginning(&[0x7c, 0x85, 0x88]), found);
        assert_eq!(beginning(&stap_a(&[&[0x06, 0x05], PPS_0, &[0x65, 0x88]])), found, "SEI, PPS, IDR");
        assert_eq!(beginning(&[0x65, 0x40]), None, "a later slice");
        assert_eq!(beginning(&[0x7c, 0x85, 0x40]), None, "a later slice");
        assert_eq!(beginning(&[0x7c, 0x05, 0x88]), None, "not the first fragment");
        assert_eq!(beginning(&[0x65]), None);
    }
}
