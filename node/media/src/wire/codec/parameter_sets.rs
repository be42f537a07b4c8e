//! The parameter sets without which no decoder of H.264 or H.265 can begin. Most encoders send them with each key
//! frame, some only once, so those that came last are kept.

use std::sync::Arc;

use super::Codec;

/// Of the aggregation packet that tells all sets that are known. Those of a stream have some 50 bytes; this leaves room
/// for a header in any path's MTU.
const MAX_PARAMETER_SETS_LEN: usize = 1_000;

/// Parameter sets that are read of one packet. Encoders tell a sequence's and one or two of pictures in one.
const MAX_READ: usize = 8;

/// Parameter sets that are kept: of several sequences or layers, with some of pictures each.
const MAX_KEPT: usize = 16;

/// How a codec packs its units.
#[derive(Debug)]
pub(super) struct Syntax {
    /// Bytes of a unit's header, and of an aggregation packet's.
    pub header_len: usize,
    /// The type of a unit, by the first byte of its header.
    pub kind: fn(u8) -> u8,
    /// The type of aggregation packets.
    pub aggregation: u8,
    /// Types of parameter sets, each before those that name it.
    pub sets: &'static [u8],
    /// The id of a parameter set.
    pub id: fn(&[u8]) -> Option<u32>,
    /// The header of an aggregation packet of units with these headers.
    pub aggregation_header: fn(&mut dyn Iterator<Item = &[u8]>) -> Vec<u8>,
}

impl Syntax {
    /// The type of a unit or packet.
    pub(super) fn kind_of(&self, unit: &[u8]) -> Option<u8> {
        Some((self.kind)(*unit.first()?))
    }

    /// Type and id of a parameter set; `None` for any other unit.
    fn name(&self, unit: &[u8]) -> Option<(u8, u32)> {
        let kind = self.kind_of(unit).filter(|kind| self.sets.contains(kind))?;
        Some((kind, (self.id)(unit)?))
    }
}

/// What a decoder could begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A sequence parameter set: that of a key frame which comes with all that it needs.
    ParameterSets,
    /// The first slice of a picture that refers to none before. A decoder can begin here if it has the parameter sets.
    Picture,
}

/// The units of an aggregation packet behind its header, RFC 6184 section 5.7.1 and RFC 7798 section 4.4.2.
pub(super) fn nal_units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        rest = after;
        Some(unit)
    })
}

/// The number that the bits begin with, ITU-T H.264 section 9.1. Ids have at most 8 bits.
pub(super) fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let bits = bytes.iter().take(4).fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
    let bits = bits.checked_shl(32 - 8 * bytes.len().min(4) as u32)?;
    let zeros = bits.leading_zeros();
    if zeros > 8 {
        return None;
    }
    Some((bits << zeros >> (31 - zeros)) - 1)
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
    pub fn remember(&mut self, codec: Codec, payload: &[u8]) {
        let Some((syntax, kind)) = codec.syntax().and_then(|syntax| Some((syntax, syntax.kind_of(payload)?))) else {
            return;
        };
        let is_news = if syntax.sets.contains(&kind) {
            self.remember_unit(syntax, payload)
        } else if kind == syntax.aggregation {
            let units = nal_units(payload.get(syntax.header_len..).unwrap_or_default());
            let sets = units.filter(|unit| syntax.name(unit).is_some()).take(MAX_READ);
            sets.filter(|unit| self.remember_unit(syntax, unit)).count() > 0
        } else {
            false
        };
        if is_news {
            self.payload = self.aggregate(syntax);
        }
    }

    /// Whether it was not known.
    fn remember_unit(&mut self, syntax: &Syntax, unit: &[u8]) -> bool {
        let Some(name) = syntax.name(unit) else { return false };
        match self.units.iter_mut().find(|known| syntax.name(known) == Some(name)) {
            Some(known) if **known == *unit => return false,
            Some(known) => *known = unit.into(),
            None => self.units.push(unit.into()),
        }
        while self.units.len() > MAX_KEPT || self.payload_len(syntax) > MAX_PARAMETER_SETS_LEN {
            self.units.remove(0);
        }
        true
    }

    fn payload_len(&self, syntax: &Syntax) -> usize {
        syntax.header_len + self.units.iter().map(|unit| 2 + unit.len()).sum::<usize>()
    }

    /// `None` unless there is one of each type.
    fn aggregate(&self, syntax: &Syntax) -> Option<Arc<[u8]>> {
        let of_kind = |kind: u8| self.units.iter().filter(move |unit| syntax.kind_of(unit) == Some(kind));
        if syntax.sets.iter().any(|kind| of_kind(*kind).next().is_none()) {
            return None;
        }
        let mut payload = (syntax.aggregation_header)(&mut self.units.iter().map(|unit| &**unit));
        for unit in syntax.sets.iter().flat_map(|kind| of_kind(*kind)) {
            payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
            payload.extend_from_slice(unit);
        }
        Some(payload.into())
    }

    /// An aggregation packet of them all, if a decoder can begin with what is known.
    pub fn payload(&self) -> Option<&Arc<[u8]>> {
        self.payload.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::codec::h264::tests::{PPS_0, SPS_0, stap_a};

    #[test]
    fn sets_are_kept_by_their_ids_however_they_come() {
        let mut sets = ParameterSets::default();
        let mut remember = |payload: &[u8]| {
            sets.remember(Codec::H264, payload);
            sets.payload().cloned()
        };
        assert_eq!(remember(SPS_0), None, "a decoder needs both");
        let before = remember(&stap_a(&[PPS_0, &[0x65, 0x88]])).unwrap();
        assert_eq!(before[..], stap_a(&[SPS_0, PPS_0]));
        assert!(Arc::ptr_eq(&before, &remember(&stap_a(&[SPS_0, PPS_0])).unwrap()), "nothing new");
        let (sps_0, pps_1) = ([0x67, 0x42, 0xe0, 0x28, 0x8c, 0x02], [0x68, 0x4e, 0x3c]);
        remember(&pps_1);
        assert_eq!(remember(&sps_0).unwrap()[..], stap_a(&[&sps_0, PPS_0, &pps_1]));
    }

    #[test]
    fn those_of_h265_are_three() {
        // As x265 writes them; the sequence's has emulation prevention before its id, which is 0.
        let vps = [0x40, 0x01, 0x0c, 0x01, 0xff, 0xff];
        let sps = [0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x5d, 0xa0, 0x02];
        let pps = [0x44, 0x01, 0xc1, 0x72];
        let mut sets = ParameterSets::default();
        for (set, is_enough) in [(&pps[..], false), (&sps, false), (&vps, true)] {
            sets.remember(Codec::H265, set);
            assert_eq!(sets.payload().is_some(), is_enough);
        }
        let len = |len: usize| [0, len as u8];
        let expected =
            [&[0x60, 0x01][..], &len(vps.len()), &vps, &len(sps.len()), &sps, &len(pps.len()), &pps].concat();
        assert_eq!(sets.payload().unwrap()[..], expected);
        sets.remember(Codec::H265, &[&[0x60, 0x01][..], &len(pps.len()), &pps].concat());
        assert_eq!(sets.payload().unwrap()[..], expected);
    }

    #[test]
    fn of_many_sets_a_few_are_read_and_the_newest_kept() {
        // The ids 63 to 126 have 13 bits.
        let sps = |id: u16| [&[0x67, 0x42, 0xe0, 0x1f], &((id + 1) << 3).to_be_bytes()[..]].concat();
        let mut sets = ParameterSets::default();
        let many: Vec<_> = (63..127).map(sps).collect();
        sets.remember(Codec::H264, &stap_a(&many.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        assert_eq!(sets.units, many[..MAX_READ].iter().map(|unit| unit[..].into()).collect::<Vec<Box<[u8]>>>());
        for unit in &many {
            sets.remember(Codec::H264, unit);
            sets.remember(Codec::H264, PPS_0);
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
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..60), kinds: Vec<u8>,
        ) {
            for codec in [Codec::H264, Codec::H265] {
                let syntax = codec.syntax().unwrap();
                let mut sets = ParameterSets::default();
                for (payload, kind) in payloads.iter().zip(&kinds) {
                    codec.inspect(payload);
                    sets.remember(codec, payload);
                    let mut payload = payload.clone();
                    if let Some(header) = payload.first_mut() {
                        let kind = syntax.sets[usize::from(*kind) % syntax.sets.len()];
                        *header = if codec == Codec::H264 { 0x60 | kind } else { kind << 1 };
                    }
                    sets.remember(codec, &payload);
                    prop_assert!(sets.payload_len(syntax) <= MAX_PARAMETER_SETS_LEN);
                    prop_assert!(sets.payload().is_none_or(|payload| payload.len() == sets.payload_len(syntax)));
                }
            }
        }
    }
}
