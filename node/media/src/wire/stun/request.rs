//! Reading a binding request.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{
    BINDING_REQUEST, FINGERPRINT_XOR, HEADER_LEN, INTEGRITY_LEN, IntegrityKey, MAGIC_COOKIE, MAX_MESSAGE_LEN,
    TransactionId, attribute, fingerprint,
};

/// Unknown attributes that an answer names; a client that sends more learns of the others next time.
const MAX_UNKNOWN: usize = 4;

/// A well-formed binding request. Nothing in it is to be believed before [`BindingRequest::is_authentic`] said so.
#[derive(Debug, Clone)]
pub struct BindingRequest<'a> {
    message: &'a [u8],
    /// Ties the answer to the request.
    pub transaction: TransactionId,
    /// `USERNAME`: the receiver's ufrag, a colon, the sender's.
    pub username: Option<&'a str>,
    /// The client nominates the pair that this came by.
    pub use_candidate: bool,
    /// The client's nominations counted, if it counts them: the highest decides, in whatever order they arrive.
    pub nomination: Option<u32>,
    /// Priority of the client's candidate, RFC 8445 section 7.1.1; 0 if it names none.
    pub priority: u32,
    /// The client believes to be controlled, as an ICE-lite agent always is.
    pub controlled: bool,
    /// Attributes that must be understood and are not; zeros are none.
    pub unknown: [u16; MAX_UNKNOWN],
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, [u8; INTEGRITY_LEN])>,
}

impl<'a> BindingRequest<'a> {
    /// Reads a binding request. `None` if it is something else, cut short, or its FINGERPRINT is wrong.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = message.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if u16::from_be_bytes([header[0], header[1]]) != BINDING_REQUEST
            || u32::from_be_bytes([header[4], header[5], header[6], header[7]]) != MAGIC_COOKIE
            || len % 4 != 0
            || message.len() != HEADER_LEN + len
            || message.len() > MAX_MESSAGE_LEN
        {
            return None;
        }
        let mut request = Self {
            message,
            transaction: *header.last_chunk()?,
            username: None,
            use_candidate: false,
            nomination: None,
            priority: 0,
            controlled: false,
            unknown: [0; MAX_UNKNOWN],
            integrity: None,
        };
        let mut at = HEADER_LEN;
        while at < message.len() {
            let (kind, value) = read_attribute(message, at)?;
            request.take(at, kind, value)?;
            at += 4 + value.len().next_multiple_of(4);
        }
        Some(request)
    }

    fn take(&mut self, at: usize, kind: u16, value: &'a [u8]) -> Option<()> {
        if kind == attribute::FINGERPRINT {
            let expected = fingerprint(self.message.get(..at)?);
            // It is the last attribute (RFC 8489 section 14.7).
            let right = at + 8 == self.message.len() && value == expected.to_be_bytes();
            return right.then_some(());
        }
        // What follows MESSAGE-INTEGRITY is not protected by it and is ignored (RFC 8489 section 14.5).
        if self.integrity.is_some() {
            return Some(());
        }
        match kind {
            // Only the first counts (RFC 8489 section 14).
            attribute::USERNAME if self.username.is_some() => {}
            attribute::USERNAME => self.username = Some(std::str::from_utf8(value).ok()?),
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
            attribute::MESSAGE_INTEGRITY => self.integrity = Some((at, value.try_into().ok()?)),
            attribute::PRIORITY => self.priority = u32::from_be_bytes(value.try_into().ok()?),
            attribute::NOMINATION | attribute::GOOG_NOMINATION => {
                self.nomination = Some(u32::from_be_bytes(value.try_into().ok()?));
            }
            attribute::MESSAGE_INTEGRITY_SHA256 => {}
            unknown if unknown < 0x8000 => {
                if let Some(free) = self.unknown.iter_mut().find(|kind| **kind == 0) {
                    *free = unknown;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Whether the request carries what authentication needs.
    pub fn has_credentials(&self) -> bool {
        self.username.is_some() && self.integrity.is_some()
    }

    /// Whether the sender knows the password.
    pub fn is_authentic(&self, key: &IntegrityKey) -> bool {
        let Some((at, tag)) = self.integrity else { return false };
        let Some(protected) = self.message.get(..at) else { return false };
        verify_slices_are_equal(key.sign(protected).as_ref(), &tag).is_ok()
    }

    /// The receiver's half of USERNAME.
    pub fn local_ufrag(&self) -> Option<&'a str> {
        Some(self.username?.split_once(':')?.0)
    }
}

/// The receiver's ufrag of a binding request, for finding its transport before anything else is looked at.
pub fn local_ufrag(message: &[u8]) -> Option<&str> {
    let header: &[u8; HEADER_LEN] = message.first_chunk()?;
    if u16::from_be_bytes([header[0], header[1]]) != BINDING_REQUEST || message.len() > MAX_MESSAGE_LEN {
        return None;
    }
    let mut at = HEADER_LEN;
    while at < message.len() {
        let (kind, value) = read_attribute(message, at)?;
        if kind == attribute::USERNAME {
            return Some(std::str::from_utf8(value).ok()?.split_once(':')?.0);
        }
        at += 4 + value.len().next_multiple_of(4);
    }
    None
}

fn read_attribute(message: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let header: &[u8; 4] = message.get(at..)?.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let value = message.get(at + 4..at + 4 + len)?;
    Some((u16::from_be_bytes([header[0], header[1]]), value))
}

const _: () = assert!(FINGERPRINT_XOR == u32::from_be_bytes(*b"STUN"));
