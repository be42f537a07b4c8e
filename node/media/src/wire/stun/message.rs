//! Reading any message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{HEADER_LEN, INTEGRITY_LEN, IntegrityKey, MAGIC_COOKIE, TransactionId, attribute, fingerprint};

/// A well-formed message. Nothing in it is to be believed before [`Message::is_authentic`] said so.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Method and class, RFC 8489 section 5.
    pub kind: u16,
    /// Ties an answer to its request.
    pub transaction: TransactionId,
    /// Where what MESSAGE-INTEGRITY protects ends: what follows is ignored (RFC 8489 section 14.5).
    end: usize,
    integrity: Option<[u8; INTEGRITY_LEN]>,
}

impl<'a> Message<'a> {
    /// Reads a message, of the whole of `bytes`. `None` if it is something else, cut short, or its FINGERPRINT is
    /// wrong.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] & 0xc0 != 0
            || u32::from_be_bytes([header[4], header[5], header[6], header[7]]) != MAGIC_COOKIE
            || len % 4 != 0
            || bytes.len() != HEADER_LEN + len
        {
            return None;
        }
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let mut message = Self { bytes, kind, transaction: *header.last_chunk()?, end: bytes.len(), integrity: None };
        let mut at = HEADER_LEN;
        while at < bytes.len() {
            let (kind, value) = read_attribute(bytes, at)?;
            message.take(at, kind, value)?;
            at += 4 + value.len().next_multiple_of(4);
        }
        Some(message)
    }

    fn take(&mut self, at: usize, kind: u16, value: &[u8]) -> Option<()> {
        match kind {
            attribute::FINGERPRINT => {
                let expected = fingerprint(self.bytes.get(..at)?);
                // It is the last attribute (RFC 8489 section 14.7).
                let right = at + 8 == self.bytes.len() && value == expected.to_be_bytes();
                self.end = self.end.min(at);
                right.then_some(())
            }
            attribute::MESSAGE_INTEGRITY if self.integrity.is_none() => {
                self.integrity = Some(value.try_into().ok()?);
                self.end = at;
                Some(())
            }
            _ => Some(()),
        }
    }

    /// Its attributes, with their types, up to MESSAGE-INTEGRITY or FINGERPRINT.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let (bytes, end, mut at) = (self.bytes, self.end, HEADER_LEN);
        std::iter::from_fn(move || {
            let (kind, value) = (at < end).then(|| read_attribute(bytes, at)).flatten()?;
            at += 4 + value.len().next_multiple_of(4);
            Some((kind, value))
        })
    }

    /// The first attribute of this type: only that counts (RFC 8489 section 14).
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// Whether it has a MESSAGE-INTEGRITY.
    pub fn is_signed(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether the sender knows the password.
    pub fn is_authentic(&self, key: &IntegrityKey) -> bool {
        let Some(tag) = self.integrity else { return false };
        let Some(protected) = self.bytes.get(..self.end) else { return false };
        verify_slices_are_equal(key.sign(protected).as_ref(), &tag).is_ok()
    }

    /// The address in such an attribute as XOR-MAPPED-ADDRESS, RFC 8489 section 14.2.
    pub fn xor_address(&self, value: &[u8]) -> Option<SocketAddr> {
        let [_, family, port @ ..] = *value.first_chunk::<4>()?;
        let port = u16::from_be_bytes(port) ^ (MAGIC_COOKIE >> 16) as u16;
        let mask = u128::from(MAGIC_COOKIE) << 96
            | self.transaction.iter().fold(0, |mask, byte| mask << 8 | u128::from(*byte));
        let ip: IpAddr = match (family, value.get(4..)?) {
            (1, ip) => Ipv4Addr::from_bits(u32::from_be_bytes(ip.try_into().ok()?) ^ MAGIC_COOKIE).into(),
            (2, ip) => Ipv6Addr::from_bits(u128::from_be_bytes(ip.try_into().ok()?) ^ mask).into(),
            _ => return None,
        };
        Some((ip, port).into())
    }
}

/// The type and the value of the attribute that begins there.
pub(super) fn read_attribute(message: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let header: &[u8; 4] = message.get(at..)?.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let value = message.get(at + 4..at + 4 + len)?;
    Some((u16::from_be_bytes([header[0], header[1]]), value))
}
