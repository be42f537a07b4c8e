//! The datagrams of a pipe: any bytes, and frames of this node on a path that loses and reorders.

use bytes::Bytes;
use sluice_mesh::{
    Encoded, Frame, FrameClass, FrameEncoder, FrameFlags, MAX_SPATIAL, MAX_TEMPORAL, Reassembler, decode_datagram,
    decode_nack,
};
use sluice_proto::ids::{RouteEpoch, RouteId};

use crate::lies_within;
use crate::reader::Reader;

/// Halves that may wait for their other one.
const MAX_WAITING: usize = 128;
/// What QUIC carries on a usual path.
const MAX_SIZE: usize = 1_200;
/// Header and cut of a datagram with half a packet.
const OVERHEAD: usize = 10;

/// The bytes are datagrams, or frames to be sent in some.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    if reader.flag() {
        travel(&mut reader);
    } else {
        arrive(&mut reader);
    }
}

/// What any datagrams give is sound, and can be sent on.
fn arrive(reader: &mut Reader<'_>) {
    let mut reassembler = Reassembler::new();
    let mut frames = Vec::new();
    while !reader.is_empty() {
        let datagram = Bytes::copy_from_slice(reader.long());
        let before = frames.len();
        let is_question = decode_nack(&datagram).is_some();
        match decode_datagram(datagram.clone(), &mut frames) {
            Err(_) => assert_eq!(frames.len(), before),
            Ok(half) => {
                assert!(!is_question);
                assert!(frames[before..].iter().all(|frame| lies_within(&frame.packet, &datagram)));
                let packets: usize = frames[before..].iter().map(|frame| frame.packet.len()).sum();
                assert!(packets <= datagram.len() && frames.len() - before <= datagram.len());
                frames.extend(half.and_then(|half| reassembler.insert(half)));
            }
        }
    }
    let again = decode(encode(&frames, MAX_SIZE));
    frames.retain(|frame| fits(frame, MAX_SIZE));
    assert_eq!(again, frames);
}

/// Whether two datagrams can carry it.
fn fits(frame: &Frame, max_size: usize) -> bool {
    frame.packet.len() <= 2 * (max_size - OVERHEAD)
}

fn encode(frames: &[Frame], max_size: usize) -> Vec<Bytes> {
    let mut encoder = FrameEncoder::new();
    let mut sent = Vec::new();
    let mut rest = frames;
    while let Some(Encoded { frames: taken, datagrams }) = encoder.encode_next(rest, max_size) {
        assert!((1..=rest.len()).contains(&taken));
        rest = &rest[taken..];
        sent.extend(datagrams.into_iter().flat_map(|(first, second)| std::iter::once(first).chain(second)));
    }
    assert!(rest.is_empty() && sent.iter().all(|datagram| datagram.len() <= max_size));
    sent
}

fn decode(datagrams: Vec<Bytes>) -> Vec<Frame> {
    let mut reassembler = Reassembler::new();
    let mut frames = Vec::new();
    for datagram in datagrams {
        let half = decode_datagram(datagram, &mut frames).expect("it was written here");
        frames.extend(half.and_then(|half| reassembler.insert(half)));
    }
    frames
}

/// Frames of which some datagrams are lost and the others come in another order.
fn travel(reader: &mut Reader<'_>) {
    let max_size = 64 + usize::from(reader.u16() % 1_400);
    let count = reader.below(64);
    let mut seq = reader.u16();
    let frames: Vec<_> = (0..count).map(|_| frame(reader, &mut seq)).collect();
    let mut sent = encode(&frames, max_size);
    let loses = reader.flag();
    let mut arrived = Vec::new();
    while !sent.is_empty() {
        let datagram = sent.remove(reader.below(sent.len().min(256)));
        if !loses || reader.u8() < 224 {
            arrived.push(datagram);
        }
    }
    let is_complete = !loses && arrived.len() <= MAX_WAITING;
    let again = decode(arrived);
    assert!(again.len() <= frames.len() && again.iter().all(|frame| frames.contains(frame)));
    if is_complete {
        assert_eq!(again.len(), frames.iter().filter(|frame| fits(frame, max_size)).count());
    }
}

/// One of a few routes; each number comes once.
fn frame(reader: &mut Reader<'_>, seq: &mut u16) -> Frame {
    let choice = reader.u8();
    *seq = seq.wrapping_add(1 + u16::from(choice >> 6));
    let class = match choice & 3 {
        0 => FrameClass::Audio,
        1 => FrameClass::Video { temporal: 0, spatial: reader.u8() % (MAX_SPATIAL + 1), key: true },
        _ => {
            let layers = reader.u8();
            FrameClass::Video {
                temporal: layers % (MAX_TEMPORAL + 1),
                spatial: (layers >> 4) % (MAX_SPATIAL + 1),
                key: false,
            }
        }
    };
    let len = if choice & 4 == 0 { u16::from(reader.u8()) } else { reader.u16() % 3_000 };
    let mut frame = Frame {
        route: RouteId(u32::from(choice >> 3 & 1)),
        epoch: RouteEpoch(choice >> 4 & 1),
        seq: *seq,
        flags: FrameFlags { retransmission: choice & 0x20 != 0 },
        class,
        packet: vec![*seq as u8; len.into()].into(),
    };
    if reader.u8() == 255 {
        frame.shed();
    }
    frame
}

/// Whole, packed and cut packets as they lie in datagrams, and frames to be sent.
pub fn seeds() -> Vec<Vec<u8>> {
    let datagram = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let header = |seq: u8, flags: u8| [7, 0, 0, 0, 1, seq, 0, flags];
    let whole = [&header(1, 0x07)[..], &[0x80, 100, 0, 1, 0, 0, 0, 0, 0, 0, 0, 77, 1, 2]].concat();
    let packed = [&header(2, 0x46)[..], &[3, 0, 1, 2, 3, 0, 0, 2, 0, 4, 5]].concat();
    let halves = [header(5, 0x88), header(5, 0xc8)].map(|header| [&header[..], &[3, 0, 1, 2, 3]].concat());
    let frames =
        [&[1, 0, 100, 9, 0xff, 0xfe][..], &[0, 20, 0, 2, 1, 30, 0, 5, 0, 2, 0, 0, 0x16, 0x23, 200, 255].repeat(3)];
    vec![
        [&[0][..], &datagram(&whole), &datagram(&packed), &datagram(&halves[0]), &datagram(&halves[1])].concat(),
        [&[0][..], &datagram(&halves[1]), &datagram(&packed[..14]), &datagram(&halves[0])].concat(),
        frames.concat(),
        [&[1, 4, 0, 40, 0, 0][..], &[4, 9, 200, 0, 2, 0x12, 9, 0].repeat(20)].concat(),
    ]
}
