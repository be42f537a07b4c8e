//! H.264 and H.265 payloads: where a decoder can begin, and the parameter sets that are kept of a stream.

use sluice_media::wire::codec::{Codec, ParameterSets};

use crate::reader::Reader;

/// What is kept of a stream, in bytes.
const MAX_LEN: usize = 1_000;
/// Sets that are read of one packet.
const MAX_READ: usize = 8;
const STAP_A: u8 = 24;
/// The same of H.265.
const AGGREGATION: u8 = 48;
/// Of a set that came by itself: what an aggregation packet adds.
const SINGLE_OVERHEAD: usize = 4;

/// The bytes are payloads of one stream, each after its length.
pub fn run(data: &[u8]) {
    run_as(Codec::H264, data);
}

/// The same of either codec.
pub(crate) fn run_as(codec: Codec, data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut sets = ParameterSets::default();
    while !reader.is_empty() {
        let payload = reader.short();
        let info = codec.inspect(payload);
        assert!(!(info.key_frame_start && info.key_picture_start));
        let before = sets.payload().cloned();
        sets.remember(codec, payload);
        if let Some(kept) = sets.payload() {
            check_kept(codec, kept, &mut ParameterSets::default());
        }
        let changed = before.as_deref() != sets.payload().map(|kept| &**kept);
        assert!(!changed || payload.first().is_some_and(|header| may_have_sets(codec, *header)));
        if payload.len() + SINGLE_OVERHEAD <= MAX_LEN {
            check_known(codec, payload);
        }
    }
}

fn may_have_sets(codec: Codec, header: u8) -> bool {
    match codec {
        Codec::H264 => matches!(header & 0x1f, 7 | 8 | STAP_A),
        _ => matches!(header >> 1 & 0x3f, 32..=34 | AGGREGATION),
    }
}

/// What is known is no news, where nothing has to give way for it.
fn check_known(codec: Codec, payload: &[u8]) {
    let mut sets = ParameterSets::default();
    sets.remember(codec, payload);
    let known = sets.payload().cloned();
    sets.remember(codec, payload);
    assert_eq!(known.as_deref(), sets.payload().map(|kept| &**kept));
}

/// It is a packet with which a decoder can begin, and tells a node that knows nothing all that is known.
fn check_kept(codec: Codec, kept: &[u8], other: &mut ParameterSets) {
    assert!(kept.len() <= MAX_LEN);
    assert!(codec.inspect(kept).key_frame_start);
    let mut units = 0;
    let mut rest = &kept[if codec == Codec::H264 { 1 } else { 2 }..];
    while let Some((len, after)) = rest.split_first_chunk() {
        rest = &after[usize::from(u16::from_be_bytes(*len))..];
        units += 1;
    }
    assert!(rest.is_empty());
    other.remember(codec, kept);
    if units <= MAX_READ {
        assert_eq!(other.payload().map(|payload| &**payload), Some(kept));
    }
}

/// What encoders send: sets and slices by themselves, aggregated and cut.
pub fn seeds() -> Vec<Vec<u8>> {
    let (sps, pps) = ([0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40], [0x68, 0xce, 0x3c, 0x80]);
    let both = [&[0x78, 0, 7], &sps[..], &[0, 4], &pps].concat();
    let key = [&both[..], &[0, 3, 0x65, 0x88, 0x84]].concat();
    let payloads = |payloads: &[&[u8]]| {
        payloads.iter().flat_map(|payload| [&[payload.len() as u8], *payload].concat()).collect::<Vec<u8>>()
    };
    vec![
        payloads(&[&sps, &pps, &[0x65, 0x88, 0x84], &[0x41, 0x9a, 0x21]]),
        payloads(&[&both, &[0x7c, 0x85, 0x88], &[0x7c, 0x05, 1], &[0x7c, 0x45, 1]]),
        payloads(&[&key, &[0x67, 0x64, 0, 0x28, 0x5a], &[0x68, 0x5e], &both]),
    ]
}
