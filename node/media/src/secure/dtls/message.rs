//! One handshake message of which fragments arrive: in any order, more than once, and not all from whom they claim to
//! be from.

use super::record::Fragment;

/// Largest handshake message that is put together, in bytes. A ClientHello with post-quantum key shares has under 2
/// KiB, a certificate with an RSA key of 4,096 bits as much; what is over 8 KiB is no client's.
pub(super) const MAX_MESSAGE_LEN: usize = 8192;

/// A message that is being put together.
#[derive(Debug)]
pub(super) struct Message {
    kind: u8,
    body: Vec<u8>,
    /// A bit for each byte of the body that is there.
    present: Vec<u64>,
    missing: usize,
}

/// What a fragment brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// Something new.
    New,
    /// Nothing: all of it was there.
    Known,
    /// It contradicts the message.
    Contradicts,
}

impl Message {
    /// A message that begins with this fragment; `None` if it cannot be part of a message that is taken.
    pub(super) fn begin(fragment: &Fragment<'_>) -> Option<Self> {
        if fragment.total > MAX_MESSAGE_LEN {
            return None;
        }
        let mut message = Self {
            kind: fragment.kind,
            body: vec![0; fragment.total],
            present: vec![0; fragment.total.div_ceil(64)],
            missing: fragment.total,
        };
        (message.add(fragment) == Added::New || fragment.total == 0).then_some(message)
    }

    /// Adds a fragment. The time that it takes is proportional to the fragment's length, whatever came before.
    pub(super) fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        if fragment.kind != self.kind || fragment.total != self.body.len() {
            return Added::Contradicts;
        }
        let Some(place) = self.body.get_mut(fragment.offset..).and_then(|rest| rest.get_mut(..fragment.body.len()))
        else {
            return Added::Contradicts;
        };
        let mut added = Added::Known;
        for (index, (byte, new)) in place.iter_mut().zip(fragment.body).enumerate() {
            let at = fragment.offset + index;
            let Some(bits) = self.present.get_mut(at / 64) else { return Added::Contradicts };
            let bit = 1 << (at % 64);
            if *bits & bit == 0 {
                *bits |= bit;
                *byte = *new;
                self.missing -= 1;
                added = Added::New;
            } else if byte != new {
                return Added::Contradicts;
            }
        }
        added
    }

    /// Adds a fragment; if it contradicts what is there, the message begins anew with it. So nobody keeps a message
    /// from becoming whole by a fragment of their own: the rightful sender repeats its flight until it is answered.
    pub(super) fn add_or_begin_anew(&mut self, fragment: &Fragment<'_>) -> Added {
        let added = self.add(fragment);
        if added == Added::Contradicts
            && let Some(anew) = Self::begin(fragment)
        {
            *self = anew;
        }
        added
    }

    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    /// Its bytes, once all are there.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.missing == 0).then_some(&self.body)
    }

    /// Bytes that it takes when it is whole.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }
}
