//! Records, messages and hellos by themselves.

use super::*;
use crate::secure::dtls::client_hello::{ClientHello, is_server_hello};
use crate::secure::dtls::inbound::{Brought, Inbound};
use crate::secure::dtls::message::{Added, MAX_MESSAGE_LEN, Message};
use crate::secure::dtls::record::{Fragment, fragments};
use crate::secure::srtp::SrtpProfile;

/// The body of a ClientHello that offers the profiles, and has more extensions besides.
pub(super) fn client_hello(profiles: &[u16], more: usize) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    body.extend([0, 0]);
    body.extend([0, 2, 0xc0, 0x2b]);
    body.extend([1, 0]);
    let offer: Vec<u8> = profiles.iter().flat_map(|profile| profile.to_be_bytes()).collect();
    let mut extensions = [0, 23, 0, 0].repeat(more);
    extensions.extend([0, 14]);
    extensions.extend((offer.len() as u16 + 3).to_be_bytes());
    extensions.extend((offer.len() as u16).to_be_bytes());
    extensions.extend(offer);
    extensions.push(0);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    body
}

fn part(total: usize, offset: usize, body: &[u8]) -> Fragment<'_> {
    Fragment { kind: 11, message: 2, total, offset, body }
}

#[test]
fn gcm_is_chosen_wherever_it_stands() {
    let profile = |profiles: &[u16]| ClientHello::parse(&client_hello(profiles, 1)).unwrap().profile;
    assert_eq!(profile(&[1, 8, 7]), Some(SrtpProfile::AeadAes128Gcm));
    assert_eq!(profile(&[7]), Some(SrtpProfile::AeadAes128Gcm));
    assert_eq!(profile(&[2, 1]), Some(SrtpProfile::Aes128CmSha1_80));
    assert_eq!(profile(&[8, 2]), None);
    assert_eq!(profile(&[]), None);
}

#[test]
fn hellos_have_a_bounded_number_of_extensions() {
    assert!(ClientHello::parse(&client_hello(&[7], 63)).is_some());
    assert_eq!(ClientHello::parse(&client_hello(&[7], 64)), None);
    let server_hello = |extensions: usize| {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0xc0, 0x2b, 0]);
        body.extend((4 * extensions as u16).to_be_bytes());
        body.extend([0, 23, 0, 0].repeat(extensions));
        body
    };
    assert!(is_server_hello(&server_hello(64)) && !is_server_hello(&server_hello(65)));
    assert!(is_server_hello(&server_hello(0)[..38]), "none at all");
}

#[test]
fn a_message_is_put_together_from_any_pieces() {
    let body: Vec<u8> = (0..200).collect();
    let mut message = Message::begin(&part(200, 150, &body[150..])).unwrap();
    assert_eq!(message.add(&part(200, 0, &body[..10])), Added::New);
    assert_eq!(message.add(&part(200, 5, &body[5..10])), Added::Known);
    assert_eq!(message.add(&part(200, 50, &body[50..160])), Added::New);
    assert_eq!(message.whole(), None);
    assert_eq!(message.add(&part(200, 0, &body[..199])), Added::New);
    assert_eq!(message.whole(), Some(&body[..]));
    assert_eq!(message.add(&part(200, 0, &body)), Added::Known);
}

#[test]
fn what_contradicts_a_message_begins_it_anew() {
    let body = [1; 200];
    let mut message = Message::begin(&part(200, 0, &body[..100])).unwrap();
    for contradiction in [
        part(201, 100, &body[..100]),
        part(200, 150, &body[..51]),
        part(200, 50, &[2; 100]),
        part(200, 199, &[1; 9000]),
    ] {
        assert_eq!(message.add(&contradiction), Added::Contradicts);
        assert_eq!(message.whole(), None);
    }
    assert_eq!(message.add_or_begin_anew(&part(150, 0, &[3; 150])), Added::Contradicts);
    assert_eq!(message.whole(), Some(&[3; 150][..]));
    assert_eq!(message.add_or_begin_anew(&part(9000, 0, &[3; 150])), Added::Contradicts);
    assert_eq!(message.whole(), Some(&[3; 150][..]), "what is no message at all leaves it as it is");
}

#[test]
fn what_cannot_be_a_message_is_not_begun() {
    assert!(Message::begin(&part(MAX_MESSAGE_LEN, 0, &[1])).is_some());
    assert!(Message::begin(&part(MAX_MESSAGE_LEN + 1, 0, &[1])).is_none());
    assert!(Message::begin(&part(10, 0, &[])).is_none());
    assert!(Message::begin(&part(10, 9, &[1, 2])).is_none());
    assert!(Message::begin(&part(0, 0, &[])).is_some_and(|message| message.whole() == Some(&[])));
}

#[test]
fn messages_come_out_in_their_turn_and_once() {
    let mut inbound = Inbound::new(false);
    let hello = client_hello(&[7], 1);
    let all = |_: u8, _: &[u8]| true;
    let certificate = handshake_record(0, CERTIFICATE, 2, &[1; 300]);
    assert_eq!(inbound.push(&certificate), Some(Brought::default()), "nothing but a hello is taken before one");
    inbound.push(&handshake_record(0, CLIENT_HELLO, 0, &hello)).unwrap();
    assert_eq!(inbound.take_hello(), Some(hello.clone()));
    inbound.open();
    inbound.push(&handshake_record(0, CLIENT_HELLO, 0, &hello)).unwrap();
    assert!(inbound.push(&certificate).unwrap().news);
    assert_eq!(inbound.next(all), None, "the second hello is missing");
    inbound.push(&handshake_record(77, CLIENT_HELLO, 1, &hello)).unwrap();
    assert_eq!(inbound.next(all), Some(handshake_record(1, CLIENT_HELLO, 1, &hello)), "it is numbered here");
    assert_eq!(inbound.take_hello(), None);
    assert_eq!(inbound.next(|_, _| false), None);
    assert_eq!(inbound.next(all), None, "it was not acceptable and is gone");
    inbound.push(&certificate).unwrap();
    assert_eq!(inbound.next(all), Some(handshake_record(2, CERTIFICATE, 2, &[1; 300])));
    assert_eq!(inbound.push(&certificate), Some(Brought { news: false, repetition: true }));
    assert_eq!(inbound.next(all), None);
}

#[test]
fn encrypted_records_wait_for_the_keys_and_are_counted() {
    let mut inbound = Inbound::new(true);
    let finished = |sequence| record(HANDSHAKE, 1, sequence, &[5; 48]);
    for sequence in 0..10 {
        assert!(inbound.push(&finished(sequence)).unwrap().news);
    }
    for (message, kind) in [2, 11, 12, 13, 14].into_iter().enumerate() {
        inbound.push(&handshake_record(0, kind, message as u16, &[1])).unwrap();
    }
    let next = std::iter::from_fn(|| inbound.next(|_, _| true)).collect::<Vec<_>>();
    assert_eq!(next.len(), 5 + 1 + 4);
    assert_eq!(next[5][0], 20, "the cipher changes once");
    assert_eq!(next[6..], [finished(6), finished(7), finished(8), finished(9)], "the newest");
    let seen = (0..1000).filter(|sequence| {
        inbound.push(&finished(*sequence)).unwrap();
        inbound.next(|_, _| true).is_some()
    });
    assert_eq!(seen.count(), 252);
}

#[test]
fn no_more_than_a_flight_is_kept() {
    let mut inbound = Inbound::new(true);
    for message in 0..100 {
        let taken = inbound.push(&plain(&fragment(CERTIFICATE, MAX_MESSAGE_LEN, message, 0, &[1]))).unwrap().news;
        assert_eq!(taken, message < 2, "{message}");
    }
    for message in 2..5 {
        assert!(!inbound.push(&plain(&fragment(CERTIFICATE, 100, message, 0, &[1]))).unwrap().news);
    }
    // What is due has room, whatever came before.
    let mut inbound = Inbound::new(true);
    for message in [4, 3, 2, 1, 0] {
        assert!(inbound.push(&plain(&fragment(2, MAX_MESSAGE_LEN, message, 0, &[1]))).unwrap().news);
    }
    for offset in (0..MAX_MESSAGE_LEN).step_by(2048) {
        assert!(inbound.push(&plain(&fragment(2, MAX_MESSAGE_LEN, 0, offset, &[1; 2048]))).unwrap().news);
    }
    assert!(inbound.next(|_, _| true).is_some());
}

#[test]
fn framing_is_checked_to_the_last_byte() {
    let is_well_framed = |datagram: &[u8]| records(datagram).is_some();
    let whole = plain(&[1, 2, 3]);
    assert!(is_well_framed(&whole));
    assert!(is_well_framed(&[whole.clone(), whole.clone()].concat()));
    assert!(!is_well_framed(&[]));
    assert!(!is_well_framed(&whole[..whole.len() - 1]));
    assert!(!is_well_framed(&plain(&[])));
    assert!(!is_well_framed(&[whole, vec![22]].concat()));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10)) {
        let (mut server, mut client) = (Inbound::new(false), Inbound::new(true));
        for datagram in datagrams {
            let _ = server.push(&datagram);
            let _ = client.push(&datagram);
            let _ = fragments(&datagram).count();
            let _ = ClientHello::parse(&datagram);
            let _ = is_server_hello(&datagram);
        }
    }

    #[test]
    fn a_spoiled_hello_is_survived(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut hello = client_hello(&[1, 8, 7], 3);
        let at = at.index(hello.len());
        hello[at] = byte;
        let _ = ClientHello::parse(&hello[..cut.index(hello.len() + 1)]);
    }

    /// A message is what its sender cut, however it was cut and shuffled, once all of it came.
    #[test]
    fn pieces_in_any_order_make_the_message(
        body in prop::collection::vec(any::<u8>(), 1..600),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..200), 0..30),
    ) {
        let mut message = None::<Message>;
        let cuts = cuts.iter().map(|(at, len)| (at.index(body.len()), *len));
        for (at, len) in cuts.chain([(0, body.len())]) {
            let piece = part(body.len(), at, &body[at..(at + len).min(body.len())]);
            match &mut message {
                Some(message) => prop_assert!(message.add_or_begin_anew(&piece) != Added::Contradicts),
                None => message = Message::begin(&piece),
            }
        }
        prop_assert_eq!(message.as_ref().and_then(Message::whole), Some(&body[..]));
    }
}
