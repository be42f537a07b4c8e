//! Key frames in H.264 payloads, RFC 6184: single NAL unit packets, STAP-A and FU-A; and the parameter sets without
//! which no decoder can begin. Most encoders send them with each key frame, some only once.

use std::sync::Arc;

/// Slice of an IDR picture.
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Of the aggregation packet that tells all sets that are known. Those of a stream have some 50 bytes; this leaves room
/// for a header in any path's MTU.
const MAX_PARAMETER_SETS_LEN: usize = 1_000;

/// Parameter sets that are read of one packet. Encoders tell a sequence's and one or two of pictures in one.
const MAX_READ: usize = 8;

/// Parameter sets that are kept: of several sequences or layers, with some of pictures each.
const MAX_KEPT: usize = 16;

/// What a decoder could begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A sequence parameter set: that of a key frame which comes with all that it needs.
    ParameterSets,
    /// The first slice of an IDR picture. A decoder can begin here if it has the parameter sets.
    Picture,
}

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

/// The units of an aggregation packet, RFC 6184 section 5.7.1.
fn nal_units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        rest = after;
        Some(unit)
    })
}

/// The parameter sets that a publisher told last, as one payload.
#[derive(Debug, Default)]
pub struct ParameterSets {
    /// Each the only one of its type and id, in the order in which they came first.
    units: Vec<Box<[u8]>>,
    payload: Option<Arc<[u8]>>,
}

impl ParameterSets {
    /// Keeps what the payload has of them, up to `MAX_READ`. Those that are known already cost nothing.
    pub fn remember(&mut self, payload: &[u8]) {
        let Some((&indicator, rest)) = payload.split_first() else { return };
        let is_news = match indicator & 0x1f {
            SPS | PPS => self.remember_unit(payload),
            STAP_A => {
                let sets = nal_units(rest).filter(|unit| name(unit).is_some()).take(MAX_READ);
                sets.filter(|unit| self.remember_unit(unit)).count() > 0
            }
            _ => false,
        };
        if is_news {
            self.payload = self.aggregate();
        }
    }

    /// Whether it was not known.
    fn remember_unit(&mut self, unit: &[u8]) -> bool {
        let Some(name) = name(unit) else { return false };
        match self.units.iter_mut().find(|known| self::name(known) == Some(name)) {
            Some(known) if **known == *unit => return false,
            Some(known) => *known = unit.into(),
            None => self.units.push(unit.into()),
        }
        while self.units.len() > MAX_KEPT || self.payload_len() > MAX_PARAMETER_SETS_LEN {
            self.units.remove(0);
        }
        true
    }

    fn payload_len(&self) -> usize {
        1 + self.units.iter().map(|unit| 2 + unit.len()).sum::<usize>()
    }

    /// `None` unless there is one of each type.
    fn aggregate(&self) -> Option<Arc<[u8]>> {
        let has = |kind| self.units.iter().any(|unit| unit.first().is_some_and(|header| header & 0x1f == kind));
        if !has(SPS) || !has(PPS) {
            return None;
        }
        let importance = self.units.iter().filter_map(|unit| unit.first()).map(|header| header & 0x60).max();
        let mut payload = vec![importance.unwrap_or(0) | STAP_A];
        // Sequence parameter sets first: the others name them.
        for kind in [SPS, PPS] {
            for unit in self.units.iter().filter(|unit| unit.first().is_some_and(|header| header & 0x1f == kind)) {
                payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
                payload.extend_from_slice(unit);
            }
        }
        Some(payload.into())
    }

    /// A STAP-A of them all, if a decoder can begin with what is known.
    pub fn payload(&self) -> Option<&Arc<[u8]>> {
        self.payload.as_ref()
    }
}

/// Type and id of a parameter set; `None` for any other unit.
fn name(unit: &[u8]) -> Option<(u8, u32)> {
    let kind = unit.first()? & 0x1f;
    match kind {
        // Behind profile, constraints and level.
        SPS => Some((kind, exp_golomb(unit.get(4..)?)?)),
        PPS => Some((kind, exp_golomb(unit.get(1..)?)?)),
        _ => None,
    }
}

/// The number that the bits begin with, ITU-T H.264 section 9.1. Ids have at most 8 bits.
fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let bits = bytes.iter().take(4).fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
    let bits = bits.checked_shl(32 - 8 * bytes.len().min(4) as u32)?;
    let zeros = bits.leading_zeros();
    if zeros > 8 {
        return None;
    }
    Some((bits << zeros >> (31 - zeros)) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPS_0: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x01];
    const PPS_0: &[u8] = &[0x68, 0xce, 0x3c];

    fn stap_a(units: &[&[u8]]) -> Vec<u8> {
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

    #[test]
    fn sets_are_kept_by_their_ids_however_they_come() {
        let mut sets = ParameterSets::default();
        sets.remember(SPS_0);
        assert_eq!(sets.payload(), None, "a decoder needs both");
        sets.remember(&stap_a(&[PPS_0, &[0x65, 0x88]]));
        assert_eq!(sets.payload().unwrap()[..], stap_a(&[SPS_0, PPS_0]));
        let before = Arc::clone(sets.payload().unwrap());
        sets.remember(&stap_a(&[SPS_0, PPS_0]));
        assert!(Arc::ptr_eq(&before, sets.payload().unwrap()), "nothing new");
        let (sps_0, pps_1) = ([0x67, 0x42, 0xe0, 0x28, 0x8c, 0x02], [0x68, 0x4e, 0x3c]);
        sets.remember(&pps_1);
        sets.remember(&sps_0);
        assert_eq!(sets.payload().unwrap()[..], stap_a(&[&sps_0, PPS_0, &pps_1]));
    }

    #[test]
    fn of_many_sets_a_few_are_read_and_the_newest_kept() {
        // The ids 63 to 126 have 13 bits.
        let sps = |id: u16| [&[0x67, 0x42, 0xe0, 0x1f], &((id + 1) << 3).to_be_bytes()[..]].concat();
        let mut sets = ParameterSets::default();
        let many: Vec<_> = (63..127).map(sps).collect();
        sets.remember(&stap_a(&many.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        assert_eq!(sets.units, many[..MAX_READ].iter().map(|unit| unit[..].into()).collect::<Vec<Box<[u8]>>>());
        for unit in &many {
            sets.remember(unit);
            sets.remember(PPS_0);
        }
        assert_eq!(sets.units.len(), MAX_KEPT);
        let newest: Vec<_> = many[64 - (MAX_KEPT - 1)..].iter().map(Vec::as_slice).chain([PPS_0]).collect();
        assert_eq!(sets.payload().unwrap()[..], stap_a(&newest));
    }

    #[test]
    fn ids_are_read_as_the_standard_writes_them() {
        for (bits, id) in [(0b1000_0000, 0), (0b0100_0000, 1), (0b0110_0000, 2), (0b0010_0000, 3), (0b0011_1000, 6)] {
            assert_eq!(exp_golomb(&[bits]), Some(id));
        }
        assert_eq!(exp_golomb(&[0, 0b1000_0000, 0]), Some(255));
        assert_eq!((exp_golomb(&[]), exp_golomb(&[0, 0, 0, 0])), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_and_no_more_is_kept_than_fits_a_packet(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..60), kinds: Vec<bool>,
        ) {
            let mut sets = ParameterSets::default();
            for (mut payload, is_sps) in payloads.into_iter().zip(kinds) {
                beginning(&payload);
                sets.remember(&payload);
                if let Some(header) = payload.first_mut() {
                    *header = if is_sps { 0x67 } else { 0x68 };
                }
                sets.remember(&payload);
                prop_assert!(sets.payload_len() <= MAX_PARAMETER_SETS_LEN);
                prop_assert!(sets.payload().is_none_or(|payload| payload.len() == sets.payload_len()));
            }
        }
    }
}
