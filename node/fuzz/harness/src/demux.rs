//! Datagrams of anybody to a worker that has clients: one with keys, one that was checked, one that is waited for.

use std::time::Duration;

use sluice_media::TransportAddress;

use crate::media_core::World;
use crate::reader::Reader;
use crate::stun::Check;

/// The bytes are datagrams, each after whose it is and its length.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut world = World::new();
    world.create_router(0);
    (0..3).for_each(|user| world.create_transport(0, user));
    world.connect(0, true);
    world.check(1);
    while !reader.is_empty() {
        let choice = reader.u8();
        let (number, port) = (choice & 7, 1_000);
        let address = ([10, 0, 0, number], port).into();
        let source =
            if number.is_multiple_of(2) { TransportAddress::Udp(address) } else { TransportAddress::Tcp(address) };
        world.datagram(source, reader.long().to_vec());
        world.pass(Duration::from_millis(u64::from(choice >> 5) * 10));
    }
}

/// Something of each protocol, from clients and from others.
pub fn seeds() -> Vec<Vec<u8>> {
    let datagram = |from: u8, bytes: &[u8]| [&[from], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let check = Check::new("000020000001:client").sign("a guess");
    let foreign = Check::new("000120000001:client").sign("a guess");
    let hello = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 13, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9];
    let rtp = [&[0x80, 100, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8][..], &[7; 40]].concat();
    let rtcp = [&[0x80, 201, 0, 1, 0, 0, 3, 0xe8][..], &[7; 40]].concat();
    let any = [&check[..], &foreign, &hello, &rtp, &rtcp, &[70, 1, 2]]
        .map(|bytes| [0, 1, 5].map(|from| datagram(from, bytes)).concat());
    any.into_iter().chain([[datagram(0x25, &foreign), datagram(5, &rtp), datagram(1, &rtp)].concat()]).collect()
}
