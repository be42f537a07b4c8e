//! Writing answers to a binding request.

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
    const fn class_number_reason(self) -> (u8, u8, &'static [u8]) {
        match self {
            Self::BadRequest => (4, 0, b"Bad Request"),
            Self::Unauthenticated => (4, 1, b"Unauthenticated"),
            Self::UnknownAttribute => (4, 20, b"Unknown Attribute"),
            Self::RoleConflict => (4, 87, b"Role Conflict"),
        }
    }
}

/// The answer to a request that was authenticated with `key` and came from `source`.
pub fn write_success(transaction: TransactionId, source: SocketAddr, key: &IntegrityKey) -> Vec<u8> {
    let mut message = begin(BINDING_SUCCESS, transaction);
    // An IPv4 client of a dual-stack socket knows nothing of mapped addresses.
    let (family, octets) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = source.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let mut value = vec![0, family];
    value.extend_from_slice(&port.to_be_bytes());
    let mask = MAGIC_COOKIE.to_be_bytes().into_iter().chain(transaction);
    value.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    push(&mut message, attribute::XOR_MAPPED_ADDRESS, &value);
    finish(message, Some(key))
}

/// A refusal; with the `key` that the request was authenticated with, if it was.
pub fn write_error(
    transaction: TransactionId,
    code: ErrorCode,
    unknown: &[u16],
    key: Option<&IntegrityKey>,
) -> Vec<u8> {
    let mut message = begin(BINDING_ERROR, transaction);
    let (class, number, reason) = code.class_number_reason();
    push(&mut message, attribute::ERROR_CODE, &[&[0, 0, class, number], reason].concat());
    if code == ErrorCode::UnknownAttribute {
        let kinds: Vec<u8> = unknown.iter().filter(|kind| **kind != 0).flat_map(|kind| kind.to_be_bytes()).collect();
        push(&mut message, attribute::UNKNOWN_ATTRIBUTES, &kinds);
    }
    finish(message, key)
}

fn begin(kind: u16, transaction: TransactionId) -> Vec<u8> {
    let mut message = Vec::with_capacity(MAX_RESPONSE_LEN);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    message.extend_from_slice(&transaction);
    message
}

fn push(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn finish(mut message: Vec<u8>, key: Option<&IntegrityKey>) -> Vec<u8> {
    if let Some(key) = key {
        let tag = key.sign(&message);
        push(&mut message, attribute::MESSAGE_INTEGRITY, tag.as_ref());
    }
    let crc = fingerprint(&message);
    push(&mut message, attribute::FINGERPRINT, &crc.to_be_bytes());
    let len = (message.len() - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    message
}
