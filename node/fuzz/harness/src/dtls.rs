//! A handshake on a path that loses, repeats and reorders, with others who send with the client's address and some who
//! change what is under way. What is only lost is made up for; whatever is said, no two ends believe to have keys that
//! are not the same.

use std::time::Duration;

use crate::dtls_ends::{Ends, fragment, handshake, record};
use crate::reader::Reader;

/// Within this time a handshake is not given up.
const PATIENCE: Duration = Duration::from_secs(4);

/// The bytes are what happens to a handshake, step by step.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut ends = Ends::new(reader.flag());
    let began = ends.now;
    let mut is_honest = true;
    while !reader.is_empty() {
        is_honest &= step(&mut reader, &mut ends);
        ends.check_keys();
    }
    let in_time = ends.now.saturating_duration_since(began) < PATIENCE;
    if is_honest && in_time {
        ends.finish();
        ends.assert_connected();
    }
}

/// Returns whether it was the network's doing and nobody's.
fn step(reader: &mut Reader<'_>, ends: &mut Ends) -> bool {
    let choice = reader.u8();
    let to_node = choice & 0x10 == 0;
    let now = ends.now;
    let (from, to) = if to_node { (&mut ends.client, &mut ends.node) } else { (&mut ends.node, &mut ends.client) };
    match choice & 0x0f {
        // Most of what is sent arrives.
        0..=4 => {
            if let Some(datagram) = from.sent.pop_front() {
                to.receive(now, &datagram);
            }
        }
        5 => drop(from.sent.pop_front()),
        6 => from.sent.extend(from.sent.front().cloned()),
        7 => from.sent.rotate_left(usize::from(from.sent.len() > 1)),
        8 | 9 => ends.pass(Duration::from_millis(u64::from(reader.u8()) * 4)),
        10 => {
            let (kind, message) = (reader.u8() % 24, u16::from(reader.u8() % 8));
            let body = reader.long();
            for datagram in handshake(reader, kind, message, body) {
                to.receive(now, &datagram);
            }
            return false;
        }
        11 => {
            let (kind, message) = (reader.u8() % 24, u16::from(reader.u8() % 8));
            let (total, offset) = (reader.u16(), reader.u16());
            to.receive(now, &fragment(kind, message, total.into(), offset.into(), reader.short()));
            return false;
        }
        12 => {
            to.receive(now, &record(20 + reader.u8() % 4, reader.short()));
            return false;
        }
        13 => {
            to.receive(now, reader.long());
            return false;
        }
        14 => {
            let (at, bits) = (usize::from(reader.u16()), reader.u8());
            if let Some(byte) = from.sent.front_mut().and_then(|datagram| datagram.get_mut(at)) {
                *byte ^= bits;
            }
            return false;
        }
        _ => {
            let len = usize::from(reader.u16());
            if let Some(datagram) = from.sent.front_mut() {
                datagram.truncate(len);
            }
            return false;
        }
    }
    true
}

/// Handshakes with and without losses, and with what others say meanwhile.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = [0x00, 0x10].repeat(12);
    let mut seeds = vec![vec![0], vec![1], [&[0], &whole[..]].concat(), [&[1], &whole[..]].concat()];
    seeds.push([&[0, 0, 0x10, 0, 5, 0x10, 8, 255, 0, 0x15, 0x18, 255][..], &whole].concat());
    seeds.push([&[0, 0, 0x10, 0, 0x10, 10, 11, 2, 0, 3, 0, 0, 0, 0, 12, 1, 2, 2, 40][..], &whole].concat());
    seeds.push(
        [&[1, 0, 0x10, 0x1b, 14, 5, 1, 0, 0, 0, 1, 9, 13, 0, 3, 22, 0xfe, 0xfd, 14, 0, 30, 1][..], &whole].concat(),
    );
    // Only as far as the end of a flight.
    seeds.extend((1..10).map(|steps| [&[0], &whole[..steps]].concat()));
    seeds
}
