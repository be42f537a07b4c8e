//! RTCP: any compound, and what this end writes of it.

use std::collections::BTreeSet;

use sluice_media::wire::rtcp::{
    ARRIVAL_PERIOD_US, Compound, MAX_REPORT_BLOCKS, Packet, TransportFeedbackBuilder, fir, nack, pli, receiver_report,
    remb, sender_report,
};

use crate::lies_within;
use crate::reader::Reader;

/// With its SRTCP trailer a feedback message stays below any path's MTU.
const MAX_FEEDBACK_LEN: usize = 1_100;

/// The bytes are a compound, or chunks of transport-wide feedback, or arrivals that such feedback is to tell of.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    match reader.below(3) {
        0 => compound(reader.rest()),
        1 => chunks(&mut reader),
        _ => arrivals(&mut reader),
    }
}

fn compound(data: &[u8]) {
    let mut packets = 0;
    let mut failed = false;
    for packet in Compound::new(data) {
        packets += 1;
        failed = packet.is_err();
        if let Ok(packet) = packet {
            write_again(&packet, data);
        }
    }
    assert!(packets <= data.len() / 4 + 1 && (!failed || packets > 0));
}

/// What was read can be written, and is read then.
fn write_again(packet: &Packet<'_>, data: &[u8]) {
    let mut out = Vec::new();
    match packet {
        Packet::SenderReport { info, reports } => {
            assert!(reports.clone().count() <= MAX_REPORT_BLOCKS);
            sender_report(&mut out, info);
            assert!(matches!(read(&out), Packet::SenderReport { info: again, .. } if again == *info));
        }
        Packet::ReceiverReport { reports } => {
            let blocks: Vec<_> = reports.clone().collect();
            receiver_report(&mut out, 1, &blocks);
            assert!(matches!(read(&out), Packet::ReceiverReport { reports } if reports.clone().eq(blocks)));
        }
        Packet::Bye { sources } => assert!(lies_within(sources, data) && sources.len() <= 31 * 4),
        Packet::Nack { media_ssrc, items } => {
            let numbers: BTreeSet<u16> = items.clone().sequence_numbers().collect();
            assert!(items.clone().sequence_numbers().count() <= data.len() / 4 * 17);
            nack(&mut out, 1, *media_ssrc, numbers.iter().copied());
            let Packet::Nack { media_ssrc: again, items } = read(&out) else { panic!("no NACK") };
            assert_eq!((again, items.sequence_numbers().collect()), (*media_ssrc, numbers));
        }
        Packet::Pli { media_ssrc } => {
            pli(&mut out, 1, *media_ssrc);
            assert!(matches!(read(&out), Packet::Pli { media_ssrc: again } if again == *media_ssrc));
        }
        Packet::Fir { entries } => {
            for (ssrc, number) in entries.clone() {
                out.clear();
                fir(&mut out, 1, ssrc, number);
                assert!(matches!(read(&out), Packet::Fir { entries } if entries.clone().eq([(ssrc, number)])));
            }
        }
        Packet::TransportFeedback(feedback) => {
            let (received, lost) = feedback.counts();
            assert!(u32::from(received) + u32::from(lost) <= u32::from(feedback.status_count));
            let statuses: Vec<_> = feedback.statuses().collect();
            assert!(statuses.len() <= usize::from(received) + usize::from(lost));
            assert!(
                statuses.iter().filter_map(|status| status.arrived_us).all(|at| (0..ARRIVAL_PERIOD_US).contains(&at))
            );
        }
        Packet::Remb { bitrate, streams } => {
            let named: Vec<u32> = streams.iter().map(|ssrc| u32::from_be_bytes(*ssrc)).collect();
            remb(&mut out, 1, *bitrate, &named);
            let Packet::Remb { bitrate: again, streams: named } = read(&out) else { panic!("another packet") };
            assert_eq!((again, named), (*bitrate, *streams));
        }
        Packet::Other => {}
    }
}

/// The one packet of a compound that was written here.
fn read(written: &[u8]) -> Packet<'_> {
    let mut compound = Compound::new(written);
    let packet = compound.next().expect("a packet").expect("a whole one");
    assert!(compound.next().is_none());
    packet
}

/// Counting by chunk comes to what counting by packet does.
fn chunks(reader: &mut Reader<'_>) {
    let (base, status_count) = (reader.u16(), reader.u16());
    let mut body = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    body.extend(base.to_be_bytes());
    body.extend(status_count.to_be_bytes());
    body.extend([0, 0, 0, 7]);
    body.extend(reader.rest().iter().take(8_000));
    body.resize(body.len().next_multiple_of(4), 0);
    let words = (body.len() / 4 - 1) as u16;
    body[2..4].copy_from_slice(&words.to_be_bytes());
    let Packet::TransportFeedback(feedback) = read(&body) else { panic!("no feedback") };
    assert_eq!((feedback.base_sequence, feedback.status_count, feedback.feedback_count), (base, status_count, 7));
    let mut told = Vec::new();
    for chunk in body[20..].as_chunks().0 {
        let left = usize::from(status_count) - told.len();
        add_arrivals(u16::from_be_bytes(*chunk), left, &mut told);
    }
    let received = told.iter().filter(|arrived| **arrived).count();
    assert_eq!(feedback.counts(), (received as u16, (told.len() - received) as u16));
}

/// The packets that a chunk tells of, draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1.
fn add_arrivals(chunk: u16, left: usize, out: &mut Vec<bool>) {
    match (chunk >> 15, chunk >> 14 & 1) {
        (0, _) => out.extend([chunk >> 13 & 3 != 0].repeat(left.min((chunk & 0x1fff).into()))),
        (_, 0) => out.extend((0..14).rev().map(|bit| chunk >> bit & 1 != 0).take(left)),
        _ => out.extend((0..7).rev().map(|symbol| chunk >> (2 * symbol) & 3 != 0).take(left)),
    }
}

/// What is built is no longer than it may be, and is read as it was meant.
fn arrivals(reader: &mut Reader<'_>) {
    let mut builder = TransportFeedbackBuilder::default();
    let base = reader.u16();
    builder.begin(base);
    let mut now = i64::from(reader.u32());
    let mut added = Vec::new();
    while !reader.is_empty() {
        let gap = match reader.u8() {
            255 => {
                builder.add_missing();
                added.push(false);
                continue;
            }
            254 => i64::from(reader.u32().cast_signed()),
            gap => i64::from(gap) * 100,
        };
        if !builder.add_received(now + gap) {
            break;
        }
        now += gap;
        added.push(true);
    }
    while added.last() == Some(&false) {
        added.pop();
    }
    assert_eq!(usize::from(builder.status_count()), added.len());
    let mut out = Vec::new();
    builder.write(&mut out, 1, 2, 3);
    assert!(out.len() <= MAX_FEEDBACK_LEN && out.is_empty() == added.is_empty());
    if !added.is_empty() {
        let Packet::TransportFeedback(feedback) = read(&out) else { panic!("no feedback") };
        let received = added.iter().filter(|arrived| **arrived).count() as u16;
        assert_eq!((feedback.base_sequence, usize::from(feedback.status_count)), (base, added.len()));
        assert_eq!(feedback.counts(), (received, added.len() as u16 - received));
    }
}

/// Compounds of both ends, and feedback of all kinds of chunks.
pub fn seeds() -> Vec<Vec<u8>> {
    use sluice_media::wire::rtcp::{ReportBlock, SenderInfo, bye, sdes_cname};
    let info = SenderInfo { ssrc: 10, ntp: 0xe900_0000_8000_0000, rtp_timestamp: 90_000, packets: 100, octets: 9_000 };
    let block = ReportBlock {
        ssrc: 1_002,
        fraction_lost: 3,
        cumulative_lost: -4,
        highest_sequence: 5,
        ..ReportBlock::default()
    };
    let mut publisher = vec![0];
    sender_report(&mut publisher, &info);
    sdes_cname(&mut publisher, 10, "name");
    bye(&mut publisher, 10);
    let mut subscriber = vec![0];
    receiver_report(&mut subscriber, 1, &[block, block]);
    nack(&mut subscriber, 1, 1_002, [1, 2, 17, 18, 500].into_iter());
    pli(&mut subscriber, 1, 1_002);
    fir(&mut subscriber, 1, 1_002, 7);
    let mut feedback = vec![0];
    let mut builder = TransportFeedbackBuilder::default();
    builder.begin(65_530);
    for number in 0..40 {
        if number % 7 == 3 {
            builder.add_missing()
        } else {
            builder.add_received(number * 20_000);
        }
    }
    builder.write(&mut feedback, 1, 2, 3);
    vec![
        publisher,
        subscriber,
        feedback,
        vec![1, 0, 9, 0, 40, 0x20, 12, 0xb5, 0x5a, 0xd5, 0x5a, 0, 9, 1, 2, 3],
        vec![2, 0xff, 0xf0, 0, 1, 0, 0, 10, 255, 200, 255, 255, 254, 0, 1, 0, 0, 3, 254, 0xff, 0xff, 0xf0, 0, 9],
    ]
}
