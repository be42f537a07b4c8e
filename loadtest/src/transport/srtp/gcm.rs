//! Opening SRTP under AES-GCM where it lies (RFC 7714): nothing is copied, and nothing allocated but for a stream's
//! first packet.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use rustc_hash::FxHashMap;

use super::REPLAY_WINDOW;
use crate::media::{RtpHeader, Unwrapper};
use crate::transport::TransportError;

/// Bytes of the tag, RFC 7714 section 13.1.
pub(super) const TAG_LEN: usize = 16;

/// Labels of the session keys for RTP, RFC 3711 section 4.3.2.
const LABEL_ENCRYPTION: u8 = 0;
const LABEL_SALT: u8 = 2;

/// A packet index has 48 bits: rollover counter and sequence number, RFC 3711 section 3.3.1.
const MAX_INDEX: u64 = (1 << 48) - 1;

/// Streams that a server may send on one transport: audio, video and their retransmissions of 4,000 others.
const MAX_STREAMS: usize = 16_384;

/// The receiving direction of RTP on one transport.
pub(super) struct GcmReceiver {
    cipher: Cipher,
    streams: FxHashMap<u32, Stream>,
}

impl GcmReceiver {
    /// The length of the master key says which AES it is for.
    pub(super) fn new(master_key: &[u8], master_salt: &[u8]) -> Result<Self, TransportError> {
        let cipher = Cipher::derive(master_key, master_salt)
            .map_err(|Unspecified| TransportError::Crypto("no SRTP keys come out of DTLS's".to_owned()))?;
        Ok(Self { cipher, streams: FxHashMap::default() })
    }

    /// The packet that was sealed; `None` when it is forged, broken or came before. Only authentic packets leave a
    /// trace.
    pub(super) fn open<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let header = RtpHeader::parse(packet)?;
        if let Some(stream) = self.streams.get_mut(&header.ssrc) {
            return stream.open(&self.cipher, &header, packet);
        }
        if self.streams.len() == MAX_STREAMS {
            return None;
        }
        let mut stream = Stream::default();
        let opened = stream.open(&self.cipher, &header, packet)?;
        self.streams.insert(header.ssrc, stream);
        Some(opened)
    }
}

#[cfg(test)]
impl GcmReceiver {
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }
}

/// What is known of one SSRC.
#[derive(Default)]
struct Stream {
    indices: Unwrapper,
    replay: ReplayWindow,
}

impl Stream {
    fn open<'a>(&mut self, cipher: &Cipher, header: &RtpHeader, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut indices = self.indices;
        let index = u64::try_from(indices.unwrap(header.sequence_number)).ok()?;
        if index > MAX_INDEX || !self.replay.is_new(index) {
            return None;
        }
        let opened = cipher.open(header, index, packet)?;
        self.indices = indices;
        self.replay.insert(index);
        Some(opened)
    }
}

/// Which of the newest [`REPLAY_WINDOW`] indices came (RFC 3711 section 3.3.2): a bit each, in a ring.
#[derive(Default)]
struct ReplayWindow {
    newest: Option<u64>,
    came: [u64; REPLAY_WINDOW / 64],
}

impl ReplayWindow {
    fn is_new(&self, index: u64) -> bool {
        let Some(newest) = self.newest else { return true };
        index > newest || (newest - index < REPLAY_WINDOW as u64 && self.came[word(index)] & bit(index) == 0)
    }

    fn insert(&mut self, index: u64) {
        let newest = self.newest.unwrap_or(index);
        // What the ring said of indices a round ago does not hold for those that take their place.
        for skipped in (newest + 1..index).rev().take(REPLAY_WINDOW) {
            self.came[word(skipped)] &= !bit(skipped);
        }
        self.came[word(index)] |= bit(index);
        self.newest = Some(newest.max(index));
    }
}

fn word(index: u64) -> usize {
    (index / 64) as usize % (REPLAY_WINDOW / 64)
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

/// Session key and salt.
struct Cipher {
    key: LessSafeKey,
    salt: [u8; NONCE_LEN],
}

impl Cipher {
    fn derive(master_key: &[u8], master_salt: &[u8]) -> Result<Self, Unspecified> {
        let (aes, gcm) = match master_key.len() {
            16 => (&AES_128, &AES_128_GCM),
            _ => (&AES_256, &AES_256_GCM),
        };
        let prf = EncryptingKey::ctr(UnboundCipherKey::new(aes, master_key)?)?;
        let mut key = vec![0; master_key.len()];
        derive(&prf, master_salt, LABEL_ENCRYPTION, &mut key)?;
        let mut salt = [0; NONCE_LEN];
        derive(&prf, master_salt, LABEL_SALT, &mut salt)?;
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(gcm, &key)?), salt })
    }

    fn open<'a>(&self, header: &RtpHeader, index: u64, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let (sealed, tag) = packet.split_at_mut_checked(packet.len().checked_sub(TAG_LEN)?)?;
        let (head, payload) = sealed.split_at_mut_checked(header.payload_offset())?;
        self.key.open_in_place_separate_tag(self.nonce(header.ssrc, index), Aad::from(head), tag, payload).ok()?;
        Some(sealed)
    }

    /// RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter and sequence number; XOR the salt.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = self.salt;
        let value = u128::from(ssrc) << 48 | u128::from(index);
        nonce.iter_mut().zip(&value.to_be_bytes()[4..]).for_each(|(byte, value)| *byte ^= value);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Fills `out` by AES in counter mode, RFC 3711 section 4.3: the label is XORed into the master salt in the place of
/// the key id, and the block counter follows.
fn derive(prf: &EncryptingKey, master_salt: &[u8], label: u8, out: &mut [u8]) -> Result<(), Unspecified> {
    let mut block = [0; 16];
    block.get_mut(..master_salt.len()).ok_or(Unspecified)?.copy_from_slice(master_salt);
    block[7] ^= label;
    prf.less_safe_encrypt(out, EncryptionContext::Iv128(FixedLength::from(block)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(first in 0..5000_u64, steps in prop::collection::vec(-2500..2500_i64, 1..200)) {
            let mut window = ReplayWindow::default();
            let mut came = BTreeSet::new();
            let mut index = first;
            for step in steps {
                let newest = came.last().copied().unwrap_or(index);
                let expected = !came.contains(&index) && index + REPLAY_WINDOW as u64 > newest;
                prop_assert_eq!(window.is_new(index), expected);
                if expected {
                    window.insert(index);
                    came.insert(index);
                }
                index = index.saturating_add_signed(step);
            }
        }
    }
}
