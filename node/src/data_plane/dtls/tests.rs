//! The parser of the first ClientHello; the handshake itself is tested through the transport.

use proptest::prelude::*;

use super::client_hello::{HelloCollector, is_well_framed};
use super::*;
use crate::data_plane::messages::SrtpProfile;

/// A ClientHello that offers the profiles, cut into handshake fragments of `fragment_len`, one a datagram.
fn client_hello(profiles: &[u16], message: u16, fragment_len: usize) -> Vec<Vec<u8>> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    body.extend([0, 0]);
    body.extend([0, 2, 0xc0, 0x2b]);
    body.extend([1, 0]);
    let offer: Vec<u8> = profiles.iter().flat_map(|profile| profile.to_be_bytes()).collect();
    let mut extensions = vec![0, 23, 0, 0];
    extensions.extend([0, 14]);
    extensions.extend((offer.len() as u16 + 3).to_be_bytes());
    extensions.extend((offer.len() as u16).to_be_bytes());
    extensions.extend(offer);
    extensions.push(0);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let fragments = body.chunks(fragment_len).enumerate();
    fragments.map(|(index, fragment)| record(&handshake(body.len(), message, index * fragment_len, fragment))).collect()
}

fn handshake(total: usize, message: u16, offset: usize, fragment: &[u8]) -> Vec<u8> {
    let u24 = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
    let head = [vec![1], u24(total), message.to_be_bytes().to_vec(), u24(offset), u24(fragment.len())];
    [head.concat(), fragment.to_vec()].concat()
}

fn record(body: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn collect(datagrams: &[Vec<u8>]) -> Option<ClientHello> {
    let mut collector = HelloCollector::default();
    datagrams.iter().for_each(|datagram| assert!(collector.push(datagram)));
    collector.hello()
}

#[test]
fn gcm_is_chosen_wherever_it_stands() {
    let profile = |profiles: &[u16]| collect(&client_hello(profiles, 0, 2000)).unwrap().profile;
    assert_eq!(profile(&[1, 8, 7]), Some(SrtpProfile::AeadAes128Gcm));
    assert_eq!(profile(&[7]), Some(SrtpProfile::AeadAes128Gcm));
    assert_eq!(profile(&[2, 1]), Some(SrtpProfile::Aes128CmSha1_80));
    assert_eq!(profile(&[8, 2]), None);
    assert_eq!(profile(&[]), None);
}

#[test]
fn fragments_are_joined_in_any_order() {
    let mut datagrams = client_hello(&[1, 8, 7], 0, 30);
    assert_eq!(datagrams.len(), 3);
    let expected = Some(ClientHello { profile: Some(SrtpProfile::AeadAes128Gcm) });
    assert_eq!(collect(&datagrams), expected);
    datagrams.rotate_left(1);
    assert_eq!(collect(&datagrams), expected);
    assert_eq!(collect(&datagrams[..2]), None);
}

#[test]
fn the_newest_hello_takes_the_place_of_the_last() {
    let mut collector = HelloCollector::default();
    for round in 0..50 {
        for datagram in client_hello(if round == 49 { &[7] } else { &[1] }, round, 40) {
            assert!(collector.push(&datagram));
        }
    }
    assert_eq!(collector.hello(), Some(ClientHello { profile: Some(SrtpProfile::AeadAes128Gcm) }));
    assert_eq!(collector.take(), client_hello(&[7], 49, 40));
    assert!(collector.is_empty());
}

#[test]
fn other_records_are_not_kept() {
    let mut collector = HelloCollector::default();
    let mut alert = record(&[2, 40]);
    alert[0] = 21;
    assert!(!collector.push(&alert));
    let mut encrypted = record(&handshake(10, 0, 0, &[0; 10]));
    encrypted[4] = 1;
    assert!(!collector.push(&encrypted));
    assert!(collector.is_empty());
}

#[test]
fn framing_is_checked_to_the_last_byte() {
    let whole = record(&[1, 2, 3]);
    assert!(is_well_framed(&whole));
    assert!(is_well_framed(&[whole.clone(), whole.clone()].concat()));
    assert!(!is_well_framed(&[]));
    assert!(!is_well_framed(&whole[..whole.len() - 1]));
    assert!(!is_well_framed(&record(&[])));
    assert!(!is_well_framed(&[whole, vec![22]].concat()));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10)) {
        let mut collector = HelloCollector::default();
        for datagram in datagrams {
            let _ = is_well_framed(&datagram);
            let _ = collector.push(&datagram);
            let _ = collector.hello();
        }
    }

    #[test]
    fn a_spoiled_hello_is_survived(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut hello = client_hello(&[1, 8, 7], 0, 2000).remove(0);
        let at = at.index(hello.len());
        hello[at] = byte;
        hello.truncate(cut.index(hello.len() + 1));
        let mut collector = HelloCollector::default();
        collector.push(&hello);
        let _ = collector.hello();
    }
}
