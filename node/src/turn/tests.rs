use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rtc_dtls::crypto_provider::RTCCryptoProvider as _;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_stun::integrity::MessageIntegrity;
use sluice_media::wire::stun::{IntegrityKey, Message, MessageWriter, attribute};

use super::connection::ANSWER_BYTES;
use super::counters::DropReason;
use super::protocol::{ErrorCode, Family, Framing, Host, Protocol, REALM, Step};
use super::{Turn, url};
use crate::address_limits::AddressLimits;
use crate::config::NodeConfig;

const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const SEND: u16 = 0x16;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;
const SUCCESS: u16 = 0x100;

const NONCE: &str = "a nonce";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A node with two announced addresses; Alice and Bob have their names for passwords.
#[derive(Default)]
struct Node {
    allocations: usize,
}

impl Host for Node {
    fn key(&self, username: &str) -> Option<IntegrityKey> {
        ["alice", "bob"].contains(&username).then(|| key(username))
    }

    fn allocate(&mut self, _: &str, family: Family) -> Result<(SocketAddr, Vec<SocketAddr>), ErrorCode> {
        let peers = match family {
            Family::V4 => vec![address("203.0.113.7:4444"), address("10.0.0.7:4444")],
            Family::V6 => return Err(ErrorCode::AddressFamilyNotSupported),
        };
        self.allocations += 1;
        Ok((address("203.0.113.7:50001"), peers))
    }
}

/// Of a user whose password is its name, as webrtc-rs makes it.
fn key(name: &str) -> IntegrityKey {
    let provider = AwsLcRsProvider::new();
    let [name, realm, password] = [name, REALM, name].map(str::to_owned);
    let key = MessageIntegrity::long_term_integrity_key(name, realm, password, provider.crypto());
    IntegrityKey::of_digest(&key.unwrap())
}

/// A client that speaks to a protocol of its own.
struct Client {
    node: Node,
    protocol: Protocol,
    now: Instant,
}

impl Client {
    #[allow(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    fn new() -> Self {
        let now = Instant::now();
        let protocol = Protocol::new(address("[::ffff:198.51.100.3]:9"), NONCE.to_owned(), 10 * SECOND, now);
        Self { node: Node::default(), protocol, now }
    }

    fn allocated() -> Self {
        let mut client = Self::new();
        client
            .request("alice", ALLOCATE, |request| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]))
            .unwrap();
        client
    }

    fn step(&mut self, message: &[u8]) -> Step {
        self.protocol.hear_client(message, self.now, &mut self.node)
    }

    /// What a signed request of a user is refused with.
    fn request(
        &mut self,
        user: &str,
        kind: u16,
        with: impl FnOnce(MessageWriter) -> MessageWriter,
    ) -> Result<Vec<u8>, ErrorCode> {
        let request = with(signed(user, kind)).finish(Some(&key(user)));
        match self.step(&request) {
            Step::Answer(answer) => {
                let message = Message::parse(&answer).unwrap();
                assert_eq!((message.kind, message.transaction), (kind | SUCCESS, [7; 12]));
                assert!(message.is_authentic(&key(user)));
                Ok(answer)
            }
            Step::Refuse(code, answer) => {
                let message = Message::parse(&answer).unwrap();
                let (number, _) = code.number_and_reason();
                let written = message.attribute(attribute::ERROR_CODE).unwrap();
                assert_eq!(u16::from(written[2]) * 100 + u16::from(written[3]), number);
                Err(code)
            }
            other => panic!("{other:?}"),
        }
    }

    fn permit(&mut self, peer: &str) -> Result<Vec<u8>, ErrorCode> {
        self.request("alice", CREATE_PERMISSION, |request| {
            request.xor_address(attribute::XOR_PEER_ADDRESS, address(peer))
        })
    }

    fn bind(&mut self, number: u16, peer: &str) -> Result<Vec<u8>, ErrorCode> {
        self.request("alice", CHANNEL_BIND, |request| {
            let request = request.attribute(attribute::CHANNEL_NUMBER, &[&number.to_be_bytes()[..], &[0, 0]].concat());
            request.xor_address(attribute::XOR_PEER_ADDRESS, address(peer))
        })
    }

    /// What becomes of data that the client sends there: the peer that gets it.
    fn send(&mut self, peer: &str) -> Result<usize, DropReason> {
        let message = MessageWriter::new(SEND, [7; 12]).xor_address(attribute::XOR_PEER_ADDRESS, address(peer));
        self.relayed(&message.attribute(attribute::DATA, b"twelve bytes").finish(None))
    }

    fn send_by(&mut self, channel: u16) -> Result<usize, DropReason> {
        self.relayed(&[&channel.to_be_bytes()[..], &[0, 12], b"twelve bytes"].concat())
    }

    fn relayed(&mut self, message: &[u8]) -> Result<usize, DropReason> {
        match self.step(message) {
            Step::Relay(peer, part) => {
                assert_eq!(&message[part], b"twelve bytes");
                Ok(peer)
            }
            Step::Drop(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    fn hears(&mut self, peer: usize) -> Option<Vec<u8>> {
        let mut message = bytes::BytesMut::new();
        self.protocol.hear_peer(peer, b"datum", self.now, &mut message).then(|| message.to_vec())
    }
}

fn signed(user: &str, kind: u16) -> MessageWriter {
    MessageWriter::new(kind, [7; 12])
        .attribute(attribute::USERNAME, user.as_bytes())
        .attribute(attribute::REALM, REALM.as_bytes())
        .attribute(attribute::NONCE, NONCE.as_bytes())
}

#[test]
fn an_allocation_is_made_refreshed_and_given_back() {
    let mut client = Client::allocated();
    assert!(client.protocol.is_allocated());
    let again =
        client.request("alice", ALLOCATE, |request| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
    assert_eq!(again, Err(ErrorCode::AllocationMismatch));
    for (wanted, granted) in [(1, 600), (1_000, 1_000), (u32::MAX, 3_600)] {
        let answer =
            client.request("alice", REFRESH, |request| request.attribute(attribute::LIFETIME, &wanted.to_be_bytes()));
        let answer = answer.unwrap();
        assert_eq!(
            Message::parse(&answer).unwrap().attribute(attribute::LIFETIME),
            Some(&u32::to_be_bytes(granted)[..])
        );
    }
    client.request("alice", REFRESH, |request| request.attribute(attribute::LIFETIME, &[0; 4])).unwrap();
    assert!(!client.protocol.is_allocated() && !client.protocol.is_over(client.now));
    assert_eq!(client.request("alice", REFRESH, |request| request), Err(ErrorCode::AllocationMismatch));
    client.now += 10 * SECOND;
    assert!(client.protocol.is_over(client.now), "it might have allocated again");
}

#[test]
fn an_answer_tells_what_the_client_needs() {
    let mut client = Client::new();
    let answer =
        client.request("alice", ALLOCATE, |request| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
    let answer = answer.unwrap();
    let message = Message::parse(&answer).unwrap();
    let told = |kind| message.xor_address(message.attribute(kind).unwrap()).unwrap();
    assert_eq!(told(attribute::XOR_RELAYED_ADDRESS), address("203.0.113.7:50001"));
    assert_eq!(told(attribute::XOR_MAPPED_ADDRESS), address("198.51.100.3:9"));
    let binding = client.step(&MessageWriter::new(1, [7; 12]).finish(None));
    let Step::Answer(answer) = binding else { panic!("{binding:?}") };
    let message = Message::parse(&answer).unwrap();
    let mapped = message.xor_address(message.attribute(attribute::XOR_MAPPED_ADDRESS).unwrap());
    assert_eq!((message.kind, mapped), (1 | SUCCESS, Some(address("198.51.100.3:9"))));
}

#[test]
fn a_port_that_is_to_be_even_is() {
    let mut client = Client::new();
    let answer = client.request("alice", ALLOCATE, |request| {
        let request = request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        request.attribute(attribute::EVEN_PORT, &[0])
    });
    let answer = answer.unwrap();
    let message = Message::parse(&answer).unwrap();
    let relayed = message.xor_address(message.attribute(attribute::XOR_RELAYED_ADDRESS).unwrap());
    assert_eq!(relayed, Some(address("203.0.113.7:50000")));
}

#[test]
fn nobody_allocates_without_credentials_and_nonce() {
    let mut client = Client::new();
    let unsigned = client.step(&MessageWriter::new(ALLOCATE, [7; 12]).finish(None));
    let Step::Answer(answer) = unsigned else { panic!("{unsigned:?}") };
    let message = Message::parse(&answer).unwrap();
    assert_eq!(message.attribute(attribute::NONCE), Some(NONCE.as_bytes()));
    assert_eq!(message.attribute(attribute::REALM), Some(REALM.as_bytes()));
    assert_eq!(&message.attribute(attribute::ERROR_CODE).unwrap()[2..4], [4, 1]);

    let transport = |request: MessageWriter| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let refused = |client: &mut Client, message: &[u8]| match client.step(message) {
        Step::Refuse(code, _) => code,
        other => panic!("{other:?}"),
    };
    let forged = transport(signed("alice", ALLOCATE)).finish(Some(&key("bob")));
    assert_eq!(refused(&mut client, &forged), ErrorCode::Unauthenticated);
    assert_eq!(client.request("mallory", ALLOCATE, transport), Err(ErrorCode::Unauthenticated));
    let bare = transport(MessageWriter::new(ALLOCATE, [7; 12])).finish(Some(&key("alice")));
    assert_eq!(refused(&mut client, &bare), ErrorCode::BadRequest);
    let stale = MessageWriter::new(ALLOCATE, [7; 12]).attribute(attribute::USERNAME, b"alice");
    let stale = stale.attribute(attribute::REALM, REALM.as_bytes()).attribute(attribute::NONCE, b"another");
    assert_eq!(refused(&mut client, &transport(stale).finish(Some(&key("alice")))), ErrorCode::StaleNonce);
    assert_eq!(client.node.allocations, 0);

    let mut client = Client::allocated();
    assert_eq!(client.request("bob", REFRESH, |request| request), Err(ErrorCode::WrongCredentials));
}

#[test]
fn what_cannot_be_allocated_is_refused() {
    let refused =
        |with: fn(MessageWriter) -> MessageWriter| Client::new().request("alice", ALLOCATE, with).unwrap_err();
    assert_eq!(refused(|request| request), ErrorCode::BadRequest);
    let tcp = refused(|request| request.attribute(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]));
    assert_eq!(tcp, ErrorCode::UnsupportedTransport);
    let ipv6 = refused(|request| {
        let request = request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        request.attribute(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])
    });
    assert_eq!(ipv6, ErrorCode::AddressFamilyNotSupported);
    let two_ports = refused(|request| {
        let request = request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        request.attribute(attribute::EVEN_PORT, &[0x80])
    });
    assert_eq!(two_ports, ErrorCode::InsufficientCapacity);
    let reserved = refused(|request| request.attribute(0x22, &[0; 8]));
    assert_eq!(reserved, ErrorCode::UnknownAttribute);
    // RFC 6062: TCP to peers, which is no part of this.
    assert_eq!(Client::allocated().request("alice", 0x0a, |request| request), Err(ErrorCode::BadRequest));
}

#[test]
fn data_goes_to_permitted_peers_and_comes_back_as_from_where_it_went() {
    let mut client = Client::allocated();
    assert_eq!(client.send("203.0.113.7:4444"), Err(DropReason::NoPermission));
    assert_eq!(client.hears(0), None);
    client.permit("203.0.113.7:1").unwrap();
    assert_eq!(client.send("203.0.113.7:4444"), Ok(0));
    assert_eq!(client.send("10.0.0.7:4444"), Err(DropReason::NoPermission));
    assert_eq!(client.hears(1), None);
    let indication = client.hears(0).unwrap();
    let message = Message::parse(&indication).unwrap();
    assert_eq!((message.kind, message.attribute(attribute::DATA)), (0x17, Some(&b"datum"[..])));
    let from = message.xor_address(message.attribute(attribute::XOR_PEER_ADDRESS).unwrap());
    assert_eq!(from, Some(address("203.0.113.7:4444")));

    assert_eq!(client.send_by(0x4000), Err(DropReason::NoPermission));
    client.bind(0x4000, "10.0.0.7:4444").unwrap();
    assert_eq!(client.send_by(0x4000), Ok(1));
    assert_eq!(client.hears(1).unwrap(), b"\x40\x00\x00\x05datum\0\0\0");
    // A channel is of one peer, and a peer of one channel.
    assert_eq!(client.bind(0x4000, "203.0.113.7:4444"), Err(ErrorCode::BadRequest));
    assert_eq!(client.bind(0x4001, "10.0.0.7:4444"), Err(ErrorCode::BadRequest));
    assert_eq!(client.bind(0x8000, "203.0.113.7:4444"), Err(ErrorCode::BadRequest));
    client.bind(0x4000, "10.0.0.7:4444").unwrap();
}

#[test]
fn what_is_no_datagram_or_one_too_many_is_not_relayed() {
    let mut client = Client::allocated();
    client.bind(0x4000, "203.0.113.7:4444").unwrap();
    let short = [&0x4000_u16.to_be_bytes()[..], &[0, 11], b"eleven byte\0"].concat();
    assert_eq!(client.step(&short), Step::Drop(DropReason::Malformed));
    let relayed = (0..2_000).filter(|_| client.send_by(0x4000).is_ok()).count();
    assert_eq!((relayed, client.send_by(0x4000)), (1_000, Err(DropReason::TooMany)));
    client.now += SECOND;
    assert_eq!(client.send_by(0x4000), Ok(0));
}

#[test]
fn permissions_and_channels_run_out() {
    let mut client = Client::allocated();
    client
        .request("alice", REFRESH, |request| request.attribute(attribute::LIFETIME, &3_600_u32.to_be_bytes()))
        .unwrap();
    client.bind(0x4000, "203.0.113.7:4444").unwrap();
    client.now += 5 * MINUTE - SECOND;
    assert_eq!(client.send_by(0x4000), Ok(0));
    client.now += SECOND;
    assert_eq!(client.send_by(0x4000), Err(DropReason::NoPermission));
    assert_eq!(client.hears(0), None);
    client.permit("203.0.113.7:4444").unwrap();
    assert_eq!(client.send_by(0x4000), Ok(0));
    client.now += 5 * MINUTE - SECOND;
    client.permit("203.0.113.7:4444").unwrap();
    client.now += SECOND;
    assert_eq!(client.send_by(0x4000), Err(DropReason::NoPermission), "the channel has run out");
    assert_eq!(client.hears(0).unwrap()[..2], [0, 0x17], "the permission has not");
    client.bind(0x4000, "10.0.0.7:4444").unwrap();
}

#[test]
fn an_allocation_that_nobody_uses_is_over() {
    let mut client = Client::allocated();
    client.permit("203.0.113.7:4444").unwrap();
    client.now += 29 * SECOND;
    client.permit("203.0.113.7:4444").unwrap();
    assert!(!client.protocol.is_over(client.now));
    assert_eq!(client.send("203.0.113.7:4444"), Ok(0));
    client.now += 29 * SECOND;
    client.hears(0).unwrap();
    client.now += 29 * SECOND;
    assert!(!client.protocol.is_over(client.now));
    client.now += SECOND;
    assert!(client.protocol.is_over(client.now), "permissions alone are no use");

    let mut client = Client::allocated();
    client.permit("203.0.113.7:4444").unwrap();
    (0..601).for_each(|_| {
        let _ = client.send("203.0.113.7:4444");
        client.now += SECOND;
    });
    assert!(client.protocol.is_over(client.now), "its lifetime is over");
}

#[test]
fn nothing_goes_anywhere_but_to_the_announced_addresses() {
    let mut client = Client::allocated();
    for peer in [
        "203.0.113.8:4444",
        "198.51.100.1:4444",
        "127.0.0.1:4444",
        "127.0.0.1:80",
        "0.0.0.0:4444",
        "169.254.169.254:80",
        "10.0.0.1:4444",
        "224.0.0.1:4444",
        "255.255.255.255:4444",
    ] {
        assert_eq!(client.permit(peer), Err(ErrorCode::Forbidden), "{peer}");
        assert_eq!(client.bind(0x4000, peer), Err(ErrorCode::Forbidden), "{peer}");
        assert_eq!(client.send(peer), Err(DropReason::ForeignPeer), "{peer}");
    }
    for peer in ["[::1]:4444", "[::ffff:203.0.113.7]:4444", "[::ffff:127.0.0.1]:4444", "[fe80::1]:4444", "[::]:4444"] {
        assert_eq!(client.permit(peer), Err(ErrorCode::PeerAddressFamilyMismatch), "{peer}");
        assert_eq!(client.bind(0x4000, peer), Err(ErrorCode::PeerAddressFamilyMismatch), "{peer}");
        assert_eq!(client.send(peer), Err(DropReason::ForeignPeer), "{peer}");
    }
    // Of an announced address only the media port is a peer.
    client.permit("203.0.113.7:22").unwrap();
    assert_eq!(client.bind(0x4000, "203.0.113.7:22"), Err(ErrorCode::Forbidden));
    assert_eq!(client.send("203.0.113.7:22"), Err(DropReason::ForeignPeer));
    // One that is foreign spoils the request for all.
    let both = client.request("alice", CREATE_PERMISSION, |request| {
        let request = request.xor_address(attribute::XOR_PEER_ADDRESS, address("10.0.0.7:4444"));
        request.xor_address(attribute::XOR_PEER_ADDRESS, address("10.0.0.8:4444"))
    });
    assert_eq!(both, Err(ErrorCode::Forbidden));
    assert_eq!(client.send("10.0.0.7:4444"), Err(DropReason::NoPermission));
    assert_eq!(client.request("alice", CREATE_PERMISSION, |request| request), Err(ErrorCode::BadRequest));
}

#[test]
fn messages_are_told_apart_in_a_stream() {
    let allocate = signed("alice", ALLOCATE).finish(Some(&key("alice")));
    assert!((0..4).all(|len| Framing::of(&allocate[..len]) == Framing::Incomplete));
    assert!((4..allocate.len()).all(|len| Framing::of(&allocate[..len]) == Framing::Message(allocate.len())));
    assert_eq!(Framing::of(&[0x40, 0, 0, 5]), Framing::Message(12));
    assert_eq!(Framing::of(&[0x40, 0, 0, 0]), Framing::Message(4));
    for garbage in [
        &[0x40, 0, 0xff, 0xff][..],
        &[0, 1, 0xff, 0xfc],
        &[0, 1, 0, 1],
        &[0, 1, 0, 4, 0, 0, 0, 0],
        &[0x80, 0, 0, 0],
        &[0xff; 8],
    ] {
        assert_eq!(Framing::of(garbage), Framing::Garbage, "{garbage:?}");
    }
}

proptest! {
    #[test]
    fn any_message_is_survived(
        first in prop_oneof![Just(vec![]), Just(vec![0_u8, 3, 0, 0, 0x21, 0x12, 0xa4, 0x42]), Just(vec![0x40, 0])],
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let message = [first, rest].concat();
        let mut client = Client::allocated();
        client.bind(0x4000, "203.0.113.7:4444").unwrap();
        if let Framing::Message(len) = Framing::of(&message) && let Some(whole) = message.get(..len)
            && let Step::Relay(_, part) = client.step(whole) {
                prop_assert!(whole.get(part).is_some());
        }
    }
}

/// Attributes that requests have, with values that they may have.
fn attributes() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let of = |kind: u16, value: &[u8]| Just((kind, value.to_vec())).boxed();
    let peer = |text: &str| {
        let message = MessageWriter::new(SEND, [7; 12]).xor_address(attribute::XOR_PEER_ADDRESS, address(text));
        let bytes = message.finish(None);
        let value = Message::parse(&bytes).unwrap().attribute(attribute::XOR_PEER_ADDRESS).unwrap().to_vec();
        Just((attribute::XOR_PEER_ADDRESS, value)).boxed()
    };
    let any = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..12)).boxed();
    prop::strategy::Union::new([
        peer("203.0.113.7:4444"),
        peer("10.0.0.7:4444"),
        peer("203.0.113.7:22"),
        peer("10.0.0.8:4444"),
        peer("[::ffff:10.0.0.7]:4444"),
        of(attribute::CHANNEL_NUMBER, &[0x40, 0, 0, 0]),
        of(attribute::CHANNEL_NUMBER, &[0x40, 1, 0, 0]),
        of(attribute::LIFETIME, &[0; 4]),
        of(attribute::LIFETIME, &[0, 0, 2, 0x58]),
        of(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
        of(attribute::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]),
        of(attribute::DATA, b"data"),
        any,
    ])
}

proptest! {
    /// Whatever a client says in whatever order, with its credentials or without them.
    #[test]
    fn any_conversation_is_answered_in_bounds(
        messages in prop::collection::vec(
            (prop::sample::select(vec![1, ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND, SEND, 0x4000, 0x4001]),
                prop::collection::vec(attributes(), 0..4), any::<bool>(), 0_u64..400),
            1..40,
        ),
    ) {
        let mut client = Client::allocated();
        for (kind, attributes, sign, pause) in messages {
            let request = if sign { signed("alice", kind) } else { MessageWriter::new(kind, [7; 12]) };
            let request = attributes.iter().fold(request, |request, (kind, value)| request.attribute(*kind, value));
            let message = match kind {
                0x4000.. => [&kind.to_be_bytes()[..], &[0, 4], b"data"].concat(),
                _ => request.finish(sign.then(|| key("alice")).as_ref()),
            };
            prop_assert_eq!(Framing::of(&message), Framing::Message(message.len()));
            match client.step(&message) {
                Step::Answer(answer) | Step::Refuse(_, answer) => {
                    prop_assert!(answer.len() <= ANSWER_BYTES && Message::parse(&answer).is_some());
                }
                Step::Relay(peer, part) => prop_assert!(peer < 2 && message.get(part).is_some()),
                Step::Drop(_) => {}
            }
            for peer in 0..3 {
                let heard = client.hears(peer);
                prop_assert!(peer < 2 || heard.is_none());
                prop_assert!(heard.is_none_or(|message| Framing::of(&message) == Framing::Message(message.len())));
            }
            client.now += Duration::from_secs(pause);
        }
    }
}

#[test]
fn urls_are_made_of_the_host_that_was_asked_for() {
    for (host, tls, expected) in [
        ("eu.example", true, "turns:eu.example:443?transport=tcp"),
        ("eu.example", false, "turn:eu.example:80?transport=tcp"),
        ("eu.example:8443", true, "turns:eu.example:8443?transport=tcp"),
        ("[2001:db8::1]:4443", false, "turn:[2001:db8::1]:4443?transport=tcp"),
    ] {
        assert_eq!(url(host, tls).as_deref(), Some(expected));
    }
    for nonsense in ["", "a b", "user@host", "host/path", "host:port"] {
        assert_eq!(url(nonsense, true), None, "{nonsense}");
    }
}

#[tokio::test]
async fn sessions_and_nodes_have_so_many_allocations() {
    let media = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut node = NodeConfig::default();
    (node.limits.allocations_per_address, node.users.proxies) = (9, Vec::new());
    let turn = Turn::new(&[address("203.0.113.7:4444")], media, 10, AddressLimits::new(&node));
    let (alice, bob) = (turn.issue(), turn.issue());
    let [of_alice, of_bob] = [&alice, &bob].map(|issued| turn.user(&issued.username).unwrap());
    let [here, there] = ["198.51.100.3", "198.51.100.4"].map(|ip| ip.parse().unwrap());
    let open_from = |user, client| turn.open_relay((user, client), Family::V4).map(|(relay, ..)| relay);
    let open = |user| open_from(user, here);
    let mut relays: Vec<_> = (0..8).map(|_| open(&of_alice).unwrap()).collect();
    assert_eq!(open(&of_alice).unwrap_err(), ErrorCode::AllocationQuotaReached);
    relays.push(open(&of_bob).unwrap());
    assert_eq!(open(&of_bob).unwrap_err(), ErrorCode::AllocationQuotaReached, "of the address");
    relays.push(open_from(&of_bob, there).unwrap());
    assert_eq!(open_from(&of_bob, there).unwrap_err(), ErrorCode::InsufficientCapacity);
    relays.clear();
    relays.push(open(&of_alice).unwrap());
    assert_eq!(turn.open_relay((&of_bob, here), Family::V6).map(drop), Err(ErrorCode::AddressFamilyNotSupported));
    drop(alice);
    assert!(of_alice.ended.is_cancelled() && !of_bob.ended.is_cancelled());
    assert_eq!(turn.inner.credentials.user(&bob.username).map(|_| ()), Some(()));
}
