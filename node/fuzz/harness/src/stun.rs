//! Connectivity checks: any bytes, and checks that a client could have signed.

use aws_lc_rs::hmac;
use sluice_media::wire::stun::{BindingRequest, ErrorCode, IntegrityKey, local_ufrag, write_error, write_success};

use crate::lies_within;
use crate::reader::Reader;

const PASSWORD: &str = "a password of a client";
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const FINGERPRINT: u16 = 0x8028;
/// No answer is longer: room for an IPv6 address or a reason phrase.
const MAX_ANSWER_LEN: usize = 128;

/// The bytes are a message, or attributes of one that is signed.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    if reader.flag() {
        signed(&mut reader);
    } else {
        check_any(reader.rest());
    }
}

fn check_any(message: &[u8]) {
    if let Some(ufrag) = local_ufrag(message) {
        assert!(lies_within(ufrag.as_bytes(), message));
    }
    let Some(request) = BindingRequest::parse(message) else { return };
    if let Some(username) = request.username {
        assert!(lies_within(username.as_bytes(), message));
    }
    if let Some(ufrag) = request.local_ufrag() {
        assert_eq!(local_ufrag(message), Some(ufrag), "the way to a transport and its trust go by the same name");
    }
    assert!(!request.is_authentic(&IntegrityKey::new("another password")));
    answers(&request);
}

/// What was written for a client is no request, and as long as it says.
fn answers(request: &BindingRequest<'_>) {
    let key = IntegrityKey::new(PASSWORD);
    let success = write_success(request.transaction, ([192, 0, 2, 1], 4444).into(), &key);
    let refusals =
        [ErrorCode::BadRequest, ErrorCode::Unauthenticated, ErrorCode::UnknownAttribute, ErrorCode::RoleConflict]
            .map(|code| write_error(request.transaction, code, &request.unknown, Some(&key)));
    for answer in refusals.iter().chain([&success]) {
        assert!(answer.len() <= MAX_ANSWER_LEN);
        assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len() - 20);
        assert_eq!(answer[8..20], request.transaction);
        assert!(BindingRequest::parse(answer).is_none());
    }
}

/// Attributes that a client chose, signed with its password.
fn signed(reader: &mut Reader<'_>) {
    let flipped = reader.u16();
    let username = String::from_utf8_lossy(reader.short()).into_owned();
    let mut check = Check::new(&username);
    while !reader.is_empty() {
        let kind = attribute(reader);
        if kind != USERNAME && kind != MESSAGE_INTEGRITY && kind != FINGERPRINT {
            check = check.with(kind, reader.short());
        }
    }
    let mut message = check.sign(PASSWORD);
    check_any(&message);
    if let Some(request) = BindingRequest::parse(&message) {
        assert_eq!(request.username, Some(username.as_str()));
        assert!(request.is_authentic(&IntegrityKey::new(PASSWORD)));
    }
    // Whatever bit is not as it was signed; the fingerprint behind the signature anybody may make.
    let bit = usize::from(flipped) % ((message.len() - 8) * 8);
    message[bit / 8] ^= 1 << (bit % 8);
    let is_believed = BindingRequest::parse(&message).is_some_and(|r| r.is_authentic(&IntegrityKey::new(PASSWORD)));
    assert!(!is_believed, "bit {bit} is not protected");
}

/// One that is known, or any.
fn attribute(reader: &mut Reader<'_>) -> u16 {
    const KNOWN: [u16; 7] = [0x0024, 0x0025, 0x0030, 0x8029, 0xc001, 0x001c, 0x8022];
    let choice = reader.below(KNOWN.len() + 1);
    KNOWN.get(choice).copied().unwrap_or_else(|| reader.u16())
}

/// A connectivity check in the making.
#[derive(Debug, Clone)]
pub(crate) struct Check(Vec<u8>);

impl Check {
    /// One that names the receiver.
    pub(crate) fn new(username: &str) -> Self {
        let mut header = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        header.extend(b"transaction!");
        Self(header).with(USERNAME, username.as_bytes())
    }

    /// With an attribute more.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(kind.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let len = (self.0.len() - 20) as u16;
        self.0[2..4].copy_from_slice(&len.to_be_bytes());
        self
    }

    /// The message, with MESSAGE-INTEGRITY and FINGERPRINT.
    pub(crate) fn sign(self, password: &str) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        // Each is made over a message whose length counts it already.
        let counted = |check: &Self, kind, len| check.clone().with(kind, &vec![0; len]).0;
        let before = counted(&self, MESSAGE_INTEGRITY, 20);
        let tag = hmac::sign(&key, &before[..self.0.len()]);
        let check = self.with(MESSAGE_INTEGRITY, tag.as_ref());
        let before = counted(&check, FINGERPRINT, 4);
        let crc = crc32(&before[..check.0.len()]) ^ 0x5354_554e;
        check.with(FINGERPRINT, &crc.to_be_bytes()).0
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Checks as browsers make them.
pub fn seeds() -> Vec<Vec<u8>> {
    let check = Check::new("0000abcd:efgh")
        .with(0xc057, &[0, 1, 0, 10])
        .with(0x802a, &[1, 2, 3, 4, 5, 6, 7, 8])
        .with(0x0025, &[])
        .with(0x0024, &[0x6e, 0, 0x1e, 0xff]);
    let plain = [&[0], &check.clone().sign(PASSWORD)[..]].concat();
    let unsigned = [&[0], &check.clone().0[..]].concat();
    let unknown = [&[0], &check.with(0x0099, b"x").with(0x8029, &[0; 8]).sign(PASSWORD)[..]].concat();
    let name = b"0000abcd:efgh";
    let options =
        [&[1, 0, 40, name.len() as u8], &name[..], &[0, 4, 0, 0, 0, 1, 1, 0, 4, 4, 0, 0, 0, 2, 3, 8]].concat();
    vec![plain, unsigned, unknown, options]
}
