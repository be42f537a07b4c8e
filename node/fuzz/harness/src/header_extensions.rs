//! Header extensions in both forms, with whatever ids a client gave them.

use sluice_media::wire::rtp::{AudioLevel, CarriedExtensions, ExtensionIds, Extensions, RtpHeader, RtpPacket};

use crate::lies_within;
use crate::reader::Reader;

const ONE_BYTE: u16 = 0xbede;
const TWO_BYTE: u16 = 0x1000;

/// The bytes are a profile, the ids and the elements.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let profile = match reader.below(3) {
        0 => ONE_BYTE,
        1 => TWO_BYTE | u16::from(reader.u8() & 0x0f),
        _ => reader.u16(),
    };
    let ids = ExtensionIds {
        mid: reader.u8(),
        rid: reader.u8(),
        repaired_rid: reader.u8(),
        abs_send_time: reader.u8(),
        transport_wide_cc: reader.u8(),
        audio_level: reader.u8(),
        video_orientation: reader.u8(),
        capture_time: reader.u8(),
        playout_delay: reader.u8(),
        layers_allocation: reader.u8(),
        dependency_descriptor: reader.u8(),
    };
    let bytes = packet(profile, reader.rest());
    let packet = RtpPacket::parse(&bytes).expect("the elements fit");
    let elements: Vec<_> = packet.extensions.iter().collect();
    check_elements(profile, &elements, &bytes);
    check_ids(ids, &elements, packet.extensions);
}

/// A packet that has nothing but these elements.
fn packet(profile: u16, elements: &[u8]) -> Vec<u8> {
    let header = RtpHeader { marker: false, payload_type: 96, sequence_number: 1, timestamp: 2, ssrc: 3 };
    let words = elements.len().div_ceil(4).min(u16::MAX.into());
    let mut packet = header.to_bytes(true).to_vec();
    packet.extend(profile.to_be_bytes());
    packet.extend((words as u16).to_be_bytes());
    packet.extend(elements.iter().take(4 * words));
    packet.resize(16 + 4 * words, 0);
    packet
}

/// What was read can be written again in its own form.
fn check_elements(profile: u16, elements: &[(u8, &[u8])], bytes: &[u8]) {
    let mut again = Vec::new();
    for (id, value) in elements {
        assert!(lies_within(value, bytes));
        if profile == ONE_BYTE {
            assert!((1..15).contains(id) && (1..=16).contains(&value.len()));
            again.push(id << 4 | (value.len() - 1) as u8);
        } else {
            assert!(profile & 0xfff0 == TWO_BYTE && *id != 0);
            again.extend([*id, value.len() as u8]);
        }
        again.extend_from_slice(value);
    }
    assert!(again.len() + 16 <= bytes.len());
    let again = packet(profile, &again);
    let again = RtpPacket::parse(&again).expect("it was written here").extensions;
    assert!(again.iter().eq(elements.iter().copied()));
}

/// The one pass over all elements finds what a look for each would.
fn check_ids(ids: ExtensionIds, elements: &[(u8, &[u8])], extensions: Extensions<'_>) {
    let carried =
        [ids.video_orientation, ids.capture_time, ids.playout_delay, ids.layers_allocation, ids.dependency_descriptor];
    let all = [&[ids.mid, ids.rid, ids.repaired_rid, ids.transport_wide_cc, ids.audio_level][..], &carried].concat();
    let is_taken_twice = all.iter().enumerate().any(|(at, id)| *id != 0 && all[..at].contains(id));
    let received = ids.read(extensions);
    if is_taken_twice {
        return;
    }
    let value = |id: u8| elements.iter().rev().find(|(other, _)| id != 0 && *other == id).map(|(_, value)| *value);
    assert_eq!((received.mid, received.rid), (value(ids.mid), value(ids.rid)));
    assert_eq!(received.repaired_rid, value(ids.repaired_rid));
    let seq = value(ids.transport_wide_cc).and_then(|value| value.first_chunk()).map(|seq| u16::from_be_bytes(*seq));
    assert_eq!(received.transport_wide_cc, seq);
    let level = value(ids.audio_level).and_then(|value| value.first()).map(|level| AudioLevel::from_byte(*level));
    assert_eq!(received.audio_level, level);
    assert!(level.is_none_or(|level| AudioLevel::from_byte(level.to_byte()) == level));
    let CarriedExtensions { video_orientation, capture_time, playout_delay, layers_allocation, dependency_descriptor } =
        received.carried;
    let found = [video_orientation, capture_time, playout_delay, layers_allocation, dependency_descriptor];
    assert_eq!(found, carried.map(value));
}

/// As browsers send them, and as others may.
pub fn seeds() -> Vec<Vec<u8>> {
    let ids = [1, 2, 3, 4, 5, 10, 11, 13, 14, 9, 8];
    vec![
        [&[0], &ids[..], &[0x10, b'0', 0x42, 1, 2, 3, 0x51, 0, 7, 0xa0, 0x85, 0]].concat(),
        [&[0], &ids[..], &[0x21, b'h', b'i', 0, 0, 0x30, b'q', 0xf0, 1]].concat(),
        [&[1, 0], &ids[..], &[1, 1, b'0', 2, 2, b'h', b'i', 0, 5, 2, 0, 9, 10, 1, 0x7f, 3, 0]].concat(),
        [&[1, 3, 200, 0, 0, 0, 16, 255, 0, 0, 0, 0, 0], &[200, 3, b'm', b'i', b'd', 16, 2, 1, 2, 255, 1, 0x80][..]]
            .concat(),
    ]
}
