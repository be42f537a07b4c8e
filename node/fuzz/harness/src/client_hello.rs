//! ClientHellos of whoever sends with a client's address. None is answered with more than it brought, and none keeps
//! the client itself from its handshake, unless it could return the cookie that only the client is told.

use std::time::Duration;

use crate::dtls_ends::{Ends, handshake};
use crate::reader::Reader;

const CLIENT_HELLO: u8 = 1;
/// Of the node's request to verify a hello: record, message and version stand before the cookie and its length.
const COOKIE_AT: usize = 13 + 12 + 2;

/// The bytes are hellos, by their parts or as they are.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let finishes = reader.flag();
    let mut ends = Ends::new(false);
    let mut cookie = Vec::new();
    let mut knows = false;
    while !reader.is_empty() {
        let choice = reader.u8();
        let body = if choice & 1 == 0 { hello(&mut reader, &cookie) } else { reader.long().to_vec() };
        let message = u16::from(choice >> 1 & 1);
        let mut answered = 0;
        let mut asked = 0;
        for datagram in handshake(&mut reader, CLIENT_HELLO, message, &body) {
            asked += datagram.len();
            answered += ends.node.receive(ends.now, &datagram);
        }
        knows |= !cookie.is_empty() && body.windows(cookie.len()).any(|part| part == cookie);
        assert!(knows || answered <= asked, "{answered} bytes for {asked}");
        for answer in ends.node.sent.drain(..) {
            if let Some((len, rest)) = answer.get(COOKIE_AT..).and_then(<[u8]>::split_first)
                && let Some(told) = rest.get(..usize::from(*len))
            {
                assert!(knows || cookie.is_empty() || cookie == told, "all are asked for the same");
                cookie = told.to_vec();
            }
        }
        ends.pass(Duration::from_millis(u64::from(choice >> 4) * 10));
    }
    if finishes && !knows {
        ends.finish();
        ends.assert_connected();
    }
}

/// A hello of parts that are mostly in order.
fn hello(reader: &mut Reader<'_>, cookie: &[u8]) -> Vec<u8> {
    let parts = reader.u8();
    let mut body = if parts & 1 == 0 { vec![0xfe, 0xfd] } else { reader.u16().to_be_bytes().to_vec() };
    body.extend([parts; 32]);
    let session = if parts & 2 == 0 { &[][..] } else { reader.short() };
    body.push(session.len() as u8);
    body.extend(session);
    let cookie = if parts & 4 == 0 { cookie } else { reader.short() };
    body.push(cookie.len() as u8);
    body.extend(cookie);
    let suites = if parts & 8 == 0 { &[0xc0, 0x2b][..] } else { reader.short() };
    body.extend((suites.len() as u16).to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    let mut extensions = Vec::new();
    for _ in 0..parts >> 4 {
        extension(reader, &mut extensions);
    }
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    body
}

/// One that every client sends, or any.
fn extension(reader: &mut Reader<'_>, out: &mut Vec<u8>) {
    // SRTP profiles, groups, point formats, signature algorithms, extended master secret.
    const USUAL: [(u16, &[u8]); 5] = [
        (14, &[0, 4, 0, 7, 0, 1, 0]),
        (10, &[0, 4, 0, 29, 0, 23]),
        (11, &[1, 0]),
        (13, &[0, 4, 4, 3, 8, 4]),
        (23, &[]),
    ];
    let choice = reader.u8();
    let (kind, value) = match USUAL.get(usize::from(choice & 7)) {
        Some(usual) => *usual,
        None => (reader.u16(), reader.short()),
    };
    // Some are repeated, some say that they are longer than they are.
    for _ in 0..=(choice >> 3 & 3) * 8 {
        out.extend(kind.to_be_bytes());
        out.extend((value.len() as u16 + u16::from(choice >> 7)).to_be_bytes());
        out.extend(value);
    }
}

/// A hello of a client, with and without the cookie, and one that is cut in two.
pub fn seeds() -> Vec<Vec<u8>> {
    let first = [0, 0x50, 0, 1, 2, 3, 4, 0];
    let second = [2, 0x50, 0, 1, 2, 3, 4, 0];
    vec![
        [&[1], &first[..]].concat(),
        [&[0], &first[..], &second].concat(),
        [&[0], &first[..], &[2, 0x10, 0, 9]].concat(),
        [&[1], &[0, 0x5e, 1, 9, 2, 7, 7, 4, 0xc0, 0x2b, 0, 0x2f, 0, 1, 2, 3, 7, 0, 16, 3, 1, 2, 3, 20][..]].concat(),
    ]
}
