//! STUN messages (RFC 8489); binding requests and their answers, as far as an ICE-lite agent needs them (RFC 8445
//! section 7.3).
//!
//! [`Message`] and [`BindingRequest`] read in place and allocate nothing; answers are written once, a few per second
//! and client.

mod message;
mod request;
mod response;

pub use message::Message;
pub use request::{BindingRequest, local_ufrag};
pub use response::{ErrorCode, MessageWriter, write_error, write_success};

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};

/// What every message has behind its length.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;
/// Bytes before the attributes.
pub const HEADER_LEN: usize = 20;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// The longest message that is looked at: the smallest MTU of IPv6, RFC 8489 section 6.1. Checks have about a hundred
/// bytes.
const MAX_MESSAGE_LEN: usize = 1_280;

/// Attribute types, RFC 8489 section 18.3, RFC 8445 section 16.1 and RFC 8656 section 18.
pub mod attribute {
    #![allow(missing_docs, reason = "they are named as there")]

    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const DONT_FRAGMENT: u16 = 0x001a;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    /// As draft-thatcher-ice-renomination has it registered.
    pub const NOMINATION: u16 = 0x0030;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    /// As libwebrtc sends it.
    pub const GOOG_NOMINATION: u16 = 0xc001;
}

/// Whether a datagram on a port of several protocols is STUN, by its first byte (RFC 7983 section 7).
pub fn is_message(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
}

/// What ties an answer to its request.
pub type TransactionId = [u8; 12];

/// A key, made ready for HMAC-SHA1.
#[derive(Debug, Clone)]
pub struct IntegrityKey(hmac::Key);

impl IntegrityKey {
    /// That of short-term credentials: the password itself (RFC 8489 section 9.1.1).
    pub fn new(password: &str) -> Self {
        Self::of_digest(password.as_bytes())
    }

    /// That of long-term credentials: a digest (RFC 8489 section 9.2.2).
    pub fn of_digest(digest: &[u8]) -> Self {
        Self(hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, digest))
    }

    /// HMAC-SHA1 over a message up to its MESSAGE-INTEGRITY, whose length field counts that attribute and nothing
    /// behind it.
    fn sign(&self, before_integrity: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        let len = (before_integrity.len() - HEADER_LEN + 4 + INTEGRITY_LEN) as u16;
        let (kind, rest) = before_integrity.split_at(2);
        context.update(kind);
        context.update(&len.to_be_bytes());
        context.update(rest.get(2..).unwrap_or_default());
        context.sign()
    }
}

/// CRC-32 of ITU-T V.42 over a message up to its FINGERPRINT, whose length field counts that attribute, RFC 8489
/// section 14.7.
fn fingerprint(before_fingerprint: &[u8]) -> u32 {
    let len = ((before_fingerprint.len() - HEADER_LEN + 8) as u16).to_be_bytes();
    let (kind, rest) = before_fingerprint.split_at(2);
    let bytes = kind.iter().chain(&len).chain(rest.get(2..).unwrap_or_default());
    let crc = bytes.fold(u32::MAX, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8));
    !crc ^ FINGERPRINT_XOR
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
pub(crate) mod tests;
