//! STUN binding requests and their answers (RFC 8489), as far as an ICE-lite agent needs them (RFC 8445 section 7.3).
//!
//! [`BindingRequest`] reads in place and allocates nothing; answers are written once, a few per second and client.

mod request;
mod response;

pub use request::{BindingRequest, local_ufrag};
pub use response::{ErrorCode, write_error, write_success};

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};

const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// The longest message that is looked at: the smallest MTU of IPv6, RFC 8489 section 6.1. Checks have about a hundred
/// bytes.
const MAX_MESSAGE_LEN: usize = 1_280;

/// Attribute types, RFC 8489 section 18.3 and RFC 8445 section 16.1.
mod attribute {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    /// As draft-thatcher-ice-renomination has it registered.
    pub(super) const NOMINATION: u16 = 0x0030;
    pub(super) const FINGERPRINT: u16 = 0x8028;
    pub(super) const ICE_CONTROLLED: u16 = 0x8029;
    /// As libwebrtc sends it.
    pub(super) const GOOG_NOMINATION: u16 = 0xc001;
}

/// Whether a datagram on a port of several protocols is STUN, by its first byte (RFC 7983 section 7).
pub fn is_message(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
}

/// What ties an answer to its request.
pub type TransactionId = [u8; 12];

/// The key of short-term credentials: the password itself (RFC 8489 section 9.1.1), made ready for HMAC-SHA1.
#[derive(Debug, Clone)]
pub struct IntegrityKey(hmac::Key);

impl IntegrityKey {
    /// The key of `password`.
    pub fn new(password: &str) -> Self {
        Self(hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()))
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
