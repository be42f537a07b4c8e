//! Reading a binding request.

use super::message::read_attribute;
use super::{
    BINDING_REQUEST, FINGERPRINT_XOR, HEADER_LEN, IntegrityKey, MAX_MESSAGE_LEN, Message, TransactionId, attribute,
};

/// Unknown attributes that an answer names; a client that sends more learns of the others next time.
const MAX_UNKNOWN: usize = 4;

/// A well-formed binding request. Nothing in it is to be believed before [`BindingRequest::is_authentic`] said so.
#[derive(Debug, Clone)]
pub struct BindingRequest<'a> {
    message: Message<'a>,
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
}

impl<'a> BindingRequest<'a> {
    /// Reads a binding request. `None` if it is something else, cut short, or its FINGERPRINT is wrong.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        if message.len() > MAX_MESSAGE_LEN {
            return None;
        }
        let message = Message::parse(message).filter(|message| message.kind == BINDING_REQUEST)?;
        let (transaction, attributes) = (message.transaction, message.attributes());
        let mut request = Self {
            message,
            transaction,
            username: None,
            use_candidate: false,
            nomination: None,
            priority: 0,
            controlled: false,
            unknown: [0; MAX_UNKNOWN],
        };
        for (kind, value) in attributes {
            request.take(kind, value)?;
        }
        Some(request)
    }

    fn take(&mut self, kind: u16, value: &'a [u8]) -> Option<()> {
        match kind {
            // Only the first counts (RFC 8489 section 14).
            attribute::USERNAME if self.username.is_some() => {}
            attribute::USERNAME => self.username = Some(std::str::from_utf8(value).ok()?),
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
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
        self.username.is_some() && self.message.is_signed()
    }

    /// Whether the sender knows the password.
    pub fn is_authentic(&self, key: &IntegrityKey) -> bool {
        self.message.is_authentic(key)
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

const _: () = assert!(FINGERPRINT_XOR == u32::from_be_bytes(*b"STUN"));
