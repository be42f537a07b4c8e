//! RTP and RTCP of choices.

use sluice_media::wire::rtcp::{
    ReportBlock, SenderInfo, TransportFeedbackBuilder, bye, fir, nack, pli, receiver_report, remb, sender_report,
};
use sluice_media::wire::rtp::RtpHeader;

use super::cast::{self, CONSUMERS, PRODUCERS, SSRCS};
use super::world::World;
use crate::reader::Reader;

/// A payload of a codec, or of none.
pub(super) fn payload(reader: &mut Reader<'_>) -> Vec<u8> {
    let filled = |reader: &mut Reader<'_>, head: &[u8]| {
        let mut payload = head.to_vec();
        payload.resize(head.len() + usize::from(reader.u8()), 0xab);
        payload
    };
    match reader.below(12) {
        0 => filled(reader, &[0x10, 0x51]),
        1 => filled(reader, &[0x10, 0x50]),
        2 => {
            let (picture, layer) = (reader.u8(), reader.u8());
            vec![0x90, 0xa0, 0x80, picture, layer & 0xe0, 0x50 | layer & 1, 0xab]
        }
        3 => filled(reader, &[0x00]),
        4 => vec![0x78, 0, 5, 0x67, 0x42, 0xe0, 0x1f, 0x8c, 0, 2, 0x68, 0xce, 0, 3, 0x65, 0x88, reader.u8()],
        5 => filled(reader, &[0x65, 0x88]),
        6 => filled(reader, &[0x41, 0x9a]),
        7 => filled(reader, &[0x7c, 0x85, 0x88]),
        8 => filled(reader, &[0x67, 0x42, 0xe0, 0x1f, reader.clone().u8()]),
        9 => reader.short().to_vec(),
        10 => Vec::new(),
        _ => vec![0xab; usize::from(reader.u16() % 1_700)],
    }
}

/// The next packet of a user under an SSRC, unsealed.
pub(super) fn rtp(reader: &mut Reader<'_>, world: &mut World, user: usize, ssrc: usize) -> Vec<u8> {
    let flags = reader.u8();
    let sent = &mut world.users[user].sent;
    let previous = sent[ssrc & !1].sequence_number;
    let stream = &mut sent[ssrc];
    let sequence_number = match reader.u8().cast_signed() {
        i8::MIN => reader.u16(),
        delta => stream.sequence_number.wrapping_add_signed(i16::from(delta) + 1),
    };
    if sequence_number.wrapping_sub(stream.sequence_number) < 0x8000 {
        stream.sequence_number = sequence_number;
    }
    match flags & 3 {
        0 => {}
        1 | 2 => stream.timestamp = stream.timestamp.wrapping_add(3_000),
        _ => stream.timestamp = reader.u32(),
    }
    let payload_type = if flags & 4 == 0 { stream.payload_type } else { reader.u8() & 0x7f };
    let timestamp = stream.timestamp;
    let header = RtpHeader { marker: flags & 8 != 0, payload_type, sequence_number, timestamp, ssrc: cast::ssrc(ssrc) };
    let has_extensions = flags & 0x30 != 0;
    let mut packet = header.to_bytes(has_extensions).to_vec();
    if has_extensions {
        let elements = elements(reader, world, user, flags & 0x10 == 0);
        packet.extend(elements);
    }
    if ssrc % 2 == 1 {
        // RFC 4588: the number that the packet had at first.
        packet.extend(previous.wrapping_sub(u16::from(reader.u8())).to_be_bytes());
    }
    packet.extend(payload(reader));
    if flags & 0x40 != 0 {
        packet[0] |= 0x20;
        packet.push(reader.u8());
    }
    packet
}

/// An extension block: what clients send, or anything.
fn elements(reader: &mut Reader<'_>, world: &mut World, user: usize, is_any: bool) -> Vec<u8> {
    let mut elements = Vec::new();
    let profile = if is_any {
        elements.extend(reader.short());
        [[0xbe, 0xde], [0x10, 0x00]][reader.below(2)]
    } else {
        let choice = reader.u8();
        if choice & 1 != 0 {
            elements.extend([0x10, b'0' + (choice >> 4) % PRODUCERS as u8]);
        }
        if choice & 2 != 0 {
            let seq = &mut world.users[user].transport_wide_seq;
            *seq = seq.wrapping_add(if choice & 8 == 0 { 1 } else { reader.u16() });
            elements.push(0x51);
            elements.extend(seq.to_be_bytes());
        }
        if choice & 4 != 0 {
            elements.extend([0xa0, reader.u8()]);
        }
        [0xbe, 0xde]
    };
    let words = elements.len().div_ceil(4);
    elements.resize(4 * words, 0);
    [&profile[..], &[0, words as u8], &elements].concat()
}

/// A compound of a user.
pub(super) fn compound(reader: &mut Reader<'_>, world: &World) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=reader.below(4) {
        add_packet(reader, world, &mut out);
    }
    if out.is_empty() { vec![0x80, 201, 0, 1, 0, 0, 0, 1] } else { out }
}

fn add_packet(reader: &mut Reader<'_>, world: &World, out: &mut Vec<u8>) {
    let kind = reader.below(10);
    let ssrc = world.consumers[reader.below(CONSUMERS)];
    let newest = world.witness.newest(ssrc);
    match kind {
        0 | 1 => {
            // Some, or all that can be found.
            let (back, count) = (u16::from(reader.u8()), reader.u16() % 2_000);
            let count = if kind == 0 { count % 16 } else { count };
            nack(
                out,
                1,
                ssrc,
                (0..count).map(|number| newest.wrapping_sub(back).wrapping_sub(count).wrapping_add(number + 1)),
            );
        }
        2 => pli(out, 1, ssrc),
        3 => fir(out, 1, ssrc, reader.u8()),
        4 => {
            let (lost, delay) = (reader.u8(), reader.u32());
            let highest_sequence = u32::from(newest);
            let cumulative_lost = i32::from(lost);
            let block = ReportBlock {
                ssrc,
                fraction_lost: lost,
                cumulative_lost,
                highest_sequence,
                delay_since_last_sr: delay,
                last_sr: reader.u32(),
                jitter: 3,
            };
            receiver_report(out, 1, &vec![block; 1 + reader.below(3)]);
        }
        5 => {
            let ssrc = cast::ssrc(reader.below(SSRCS));
            let (ntp, rtp_timestamp) = (reader.u64(), reader.u32());
            sender_report(out, &SenderInfo { ssrc, ntp, rtp_timestamp, packets: 1, octets: 1 });
        }
        6 => {
            let mut builder = TransportFeedbackBuilder::default();
            let (first, count) = (reader.u16(), reader.u8());
            if count == 0 {
                return remb(out, 1, u64::from(first) << (first % 32), &[ssrc][..usize::from(first % 2)]);
            }
            builder.begin(first);
            for number in 0..i64::from(count) {
                if number % 5 == 3 {
                    builder.add_missing()
                } else {
                    builder.add_received(number * 1_000);
                }
            }
            builder.write(out, 1, ssrc, 1);
        }
        7 => bye(out, cast::ssrc(reader.below(SSRCS))),
        8 => {
            let (first, kind) = (reader.u8(), 192 + reader.u8() % 32);
            let body = reader.short();
            out.extend([0x80 | first & 0x3f, kind, 0, body.len().div_ceil(4) as u8]);
            out.extend(body);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        _ => out.extend([0x80 | reader.u8() & 0x3f, 192 + reader.u8() % 32, 0, reader.u8()]),
    }
}
