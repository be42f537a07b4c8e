use std::net::SocketAddr;

use proptest::prelude::*;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
};
use rtc_stun::error_code::ErrorCodeAttribute;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Getter, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use rtc_stun::xoraddr::XorMappedAddress;

use super::*;

pub(crate) const PASSWORD: &str = "a password of thirty-two letters";

fn integrity<'a>(provider: &'a AwsLcRsProvider, password: &str) -> MessageIntegrity<'a> {
    MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto())
}

pub(crate) fn check_integrity(message: &mut Message) {
    let provider = AwsLcRsProvider::new();
    MessageIntegrity::check(message, PASSWORD.as_bytes(), provider.crypto()).unwrap();
}

/// A request as webrtc-rs writes it.
pub(crate) fn request(username: &str, password: &str, extra: &[(rtc_stun::attributes::AttrType, Vec<u8>)]) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let mut setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([7; 12])),
        Box::new(TextAttribute::new(ATTR_USERNAME, username.to_owned())),
    ];
    for (typ, value) in extra {
        setters.push(Box::new(RawAttribute { typ: *typ, length: value.len() as u16, value: value.clone() }));
    }
    setters.push(Box::new(integrity(&provider, password)));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

pub(crate) fn decode(bytes: &[u8]) -> Message {
    let mut message = Message::new();
    message.raw = bytes.to_vec();
    message.decode().unwrap();
    message
}

#[test]
fn reads_what_webrtc_rs_writes() {
    let extra = [(ATTR_PRIORITY, vec![1, 2, 3, 4]), (ATTR_USE_CANDIDATE, vec![]), (ATTR_ICE_CONTROLLING, vec![9; 8])];
    let bytes = request("local:remote", PASSWORD, &extra);
    let parsed = BindingRequest::parse(&bytes).unwrap();
    assert_eq!((parsed.username, parsed.local_ufrag()), (Some("local:remote"), Some("local")));
    assert_eq!(local_ufrag(&bytes), Some("local"));
    assert_eq!(parsed.transaction, [7; 12]);
    assert!(parsed.use_candidate && !parsed.controlled && parsed.has_credentials());
    assert_eq!(parsed.unknown, [0; 4]);
    assert!(parsed.is_authentic(&IntegrityKey::new(PASSWORD)));
    assert!(!parsed.is_authentic(&IntegrityKey::new("another")));

    let bytes = request(
        "a:b",
        PASSWORD,
        &[(ATTR_ICE_CONTROLLED, vec![0; 8]), (rtc_stun::attributes::AttrType(0x7777), vec![1])],
    );
    let parsed = BindingRequest::parse(&bytes).unwrap();
    assert!(parsed.controlled && !parsed.use_candidate);
    assert_eq!(parsed.unknown, [0x7777, 0, 0, 0]);
}

#[test]
fn webrtc_rs_reads_the_answers() {
    for source in ["192.0.2.7:40000", "[2001:db8::1]:3478", "[::ffff:192.0.2.7]:40000"] {
        let source: SocketAddr = source.parse().unwrap();
        let mut message = decode(&write_success([7; 12], source, &IntegrityKey::new(PASSWORD)));
        check_integrity(&mut message);
        FINGERPRINT.check(&message).unwrap();
        let mut address = XorMappedAddress::default();
        address.get_from(&message).unwrap();
        assert_eq!(
            SocketAddr::new(address.ip, address.port),
            SocketAddr::new(source.ip().to_canonical(), source.port())
        );
    }
}

#[test]
fn webrtc_rs_reads_the_refusals() {
    let codes = [
        (ErrorCode::BadRequest, 400),
        (ErrorCode::Unauthenticated, 401),
        (ErrorCode::UnknownAttribute, 420),
        (ErrorCode::RoleConflict, 487),
    ];
    for (code, number) in codes {
        let key = IntegrityKey::new(PASSWORD);
        let mut message = decode(&write_error([7; 12], code, &[0x7777, 0], Some(&key)));
        check_integrity(&mut message);
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&message).unwrap();
        assert_eq!(error.code.0, number);
        let message = decode(&write_error([7; 12], code, &[0x7777, 0], None));
        FINGERPRINT.check(&message).unwrap();
    }
}

#[test]
fn any_message_is_read_as_it_was_written() {
    let key = IntegrityKey::new(PASSWORD);
    for address in ["192.0.2.7:40000", "[2001:db8::1]:3478", "[::ffff:192.0.2.7]:40000"] {
        let address: SocketAddr = address.parse().unwrap();
        let message = MessageWriter::new(0x0003, [7; 12]).xor_address(attribute::XOR_PEER_ADDRESS, address);
        let bytes =
            message.attribute(attribute::DATA, b"datum").attribute(attribute::DATA, b"another").finish(Some(&key));
        let message = super::Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.transaction), (0x0003, [7; 12]));
        assert!(message.is_authentic(&key) && !message.is_authentic(&IntegrityKey::new("another")));
        let peer = message.attribute(attribute::XOR_PEER_ADDRESS).unwrap();
        assert_eq!(message.xor_address(peer), Some(address));
        assert!((0..peer.len()).all(|len| message.xor_address(&peer[..len]).is_none()));
        assert_eq!(message.attribute(attribute::DATA), Some(&b"datum"[..]));
        let kinds = [attribute::XOR_PEER_ADDRESS, attribute::DATA, attribute::DATA];
        assert!(message.attributes().map(|(kind, _)| kind).eq(kinds), "none behind the integrity");
        assert!((0..bytes.len()).all(|len| super::Message::parse(&bytes[..len]).is_none()));
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let bytes = request("local:remote", PASSWORD, &[(ATTR_USE_CANDIDATE, vec![])]);
    let key = IntegrityKey::new(PASSWORD);
    // The type of the FINGERPRINT attribute is all that nothing protects: changed, it makes a fingerprint that is not
    // there.
    let fingerprint_type = bytes.len() - 8..bytes.len() - 6;
    for at in (0..bytes.len()).filter(|at| !fingerprint_type.contains(at)) {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        assert!(!BindingRequest::parse(&forged).is_some_and(|request| request.is_authentic(&key)), "byte {at}");
    }
}

#[test]
fn what_follows_the_integrity_is_not_believed() {
    let mut bytes = request("local:remote", PASSWORD, &[]);
    bytes.truncate(bytes.len() - 8);
    bytes.extend_from_slice(&[0x00, 0x25, 0, 0]);
    let len = (bytes.len() - HEADER_LEN) as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    let parsed = BindingRequest::parse(&bytes).unwrap();
    assert!(parsed.is_authentic(&IntegrityKey::new(PASSWORD)));
    assert!(!parsed.use_candidate);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = local_ufrag(&bytes);
        prop_assert!(!BindingRequest::parse(&bytes).is_some_and(|request| request.is_authentic(&IntegrityKey::new(PASSWORD))));
    }

    #[test]
    fn any_attributes_are_survived(body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0)], 0..200), cut in 0_usize..8) {
        let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([5; 12]);
        bytes.extend(&body[..body.len() / 4 * 4]);
        let len = (bytes.len() - HEADER_LEN) as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        if let Some(request) = BindingRequest::parse(&bytes) {
            prop_assert!(!request.is_authentic(&IntegrityKey::new(PASSWORD)));
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        let _ = local_ufrag(&bytes);
        let _ = BindingRequest::parse(&bytes);
    }
}
