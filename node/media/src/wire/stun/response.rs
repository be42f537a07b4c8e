//! Writing messages: any, and answers to a binding request.

use std::net::{IpAddr, SocketAddr};

use super::{
    BINDING_ERROR, BINDING_SUCCESS, HEADER_LEN, IntegrityKey, MAGIC_COOKIE, TransactionId, attribute, fingerprint,
};

/// Room for the longest answer, with an IPv6 address or a reason phrase.
const MAX_RESPONSE_LEN: usize = 128;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// No USERNAME or no MESSAGE-INTEGRITY, RFC 8489 section 9.1.3.
    BadRequest,
    /// The credentials are not this agent's.
    Unauthenticated,
    /// An attribute that must be understood is not.
    UnknownAttribute,
    /// Both ends believe to be controlled; the lite end must be, RFC 8445 section 7.3.1.1.
    RoleConflict,
}

impl ErrorCode {
    const fn number_and_reason(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::Unauthenticated => (401, "Unauthenticated"),
            Self::UnknownAttribute => (420, "Unknown Attribute"),
            Self::RoleConflict => (487, "Role Conflict"),
        }
    }
}

/// The answer to a request that was authenticated with `key` and came from `source`.
pub fn write_success(transaction: TransactionId, source: SocketAddr, key: &IntegrityKey) -> Vec<u8> {
    // An IPv4 client of a dual-stack socket knows nothing of mapped addresses.
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let message = MessageWriter::new(BINDING_SUCCESS, transaction);
    message.xor_address(attribute::XOR_MAPPED_ADDRESS, source).finish(Some(key))
}

/// A refusal; with the `key` that the request was authenticated with, if it was.
pub fn write_error(
    transaction: TransactionId,
    code: ErrorCode,
    unknown: &[u16],
    key: Option<&IntegrityKey>,
) -> Vec<u8> {
    let (number, reason) = code.number_and_reason();
    let mut message = MessageWriter::new(BINDING_ERROR, transaction).error(number, reason);
    if code == ErrorCode::UnknownAttribute {
        message = message.unknown_attributes(unknown);
    }
    message.finish(key)
}

/// A message that is written attribute by attribute.
#[derive(Debug)]
pub struct MessageWriter {
    message: Vec<u8>,
}

impl MessageWriter {
    /// One of this method and class.
    pub fn new(kind: u16, transaction: TransactionId) -> Self {
        let mut message = Vec::with_capacity(MAX_RESPONSE_LEN);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 0]);
        message.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        message.extend_from_slice(&transaction);
        Self { message }
    }

    /// With an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.message.extend_from_slice(&kind.to_be_bytes());
        self.message.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.message.extend_from_slice(value);
        self.message.resize(self.message.len().next_multiple_of(4), 0);
        self
    }

    /// With an attribute such as XOR-MAPPED-ADDRESS, RFC 8489 section 14.2.
    #[must_use]
    pub fn xor_address(self, kind: u16, address: SocketAddr) -> Self {
        let (family, octets) = match address.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let mut value = vec![0, family];
        value.extend_from_slice(&port.to_be_bytes());
        // Cookie and transaction.
        let mask = self.message.iter().skip(4).take(16);
        value.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
        self.attribute(kind, &value)
    }

    /// With an ERROR-CODE, RFC 8489 section 14.8.
    #[must_use]
    pub fn error(self, number: u16, reason: &str) -> Self {
        let [class, number] = [number / 100, number % 100].map(|digits| digits as u8);
        self.attribute(attribute::ERROR_CODE, &[&[0, 0, class, number], reason.as_bytes()].concat())
    }

    /// With an UNKNOWN-ATTRIBUTES of those that are not zero, RFC 8489 section 14.13.
    #[must_use]
    pub fn unknown_attributes(self, unknown: &[u16]) -> Self {
        let kinds: Vec<u8> = unknown.iter().filter(|kind| **kind != 0).flat_map(|kind| kind.to_be_bytes()).collect();
        self.attribute(attribute::UNKNOWN_ATTRIBUTES, &kinds)
    }

    /// The whole, with a MESSAGE-INTEGRITY if there is a key, and a FINGERPRINT.
    pub fn finish(mut self, key: Option<&IntegrityKey>) -> Vec<u8> {
        if let Some(key) = key {
            let tag = key.sign(&self.message);
            self = self.attribute(attribute::MESSAGE_INTEGRITY, tag.as_ref());
        }
        let crc = fingerprint(&self.message);
        let Self { mut message } = self.attribute(attribute::FINGERPRINT, &crc.to_be_bytes());
        let len = (message.len() - HEADER_LEN) as u16;
        message[2..4].copy_from_slice(&len.to_be_bytes());
        message
    }
}
