//! The two transforms, on one packet whose index is known.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use aws_lc_rs::iv::FixedLength;

use super::{RTCP_HEADER_LEN, RTCP_INDEX_LEN, RtpHeader};

/// Length of GCM's tag, in bytes.
pub(super) const GCM_TAG_LEN: usize = 16;

/// Length of the truncated HMAC-SHA1, in bytes.
pub(super) const SHA1_TAG_LEN: usize = 10;

/// Marks an SRTCP packet as encrypted, RFC 3711 section 3.4.
const E_FLAG: u32 = 1 << 31;

/// The session key of one direction, for RTP or for RTCP.
pub(super) enum Cipher {
    Gcm(Gcm),
    /// Boxed for its two kilobytes of state, which the common case does without.
    AesCm(Box<AesCm>),
}

impl Cipher {
    pub(super) fn gcm(key: &[u8; 16], salt: [u8; 12]) -> Result<Self, Unspecified> {
        let salt = salt.iter().fold(0, |salt, byte| salt << 8 | u128::from(*byte));
        Ok(Self::Gcm(Gcm { key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key)?), salt }))
    }

    pub(super) fn aes_cm(key: &[u8; 16], auth: &[u8; 20], salt: [u8; 14]) -> Result<Self, Unspecified> {
        Ok(Self::AesCm(Box::new(AesCm {
            key: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key)?)?,
            auth: hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth),
            salt,
        })))
    }

    /// Encrypts an RTP packet that is followed by room for the tag.
    pub(super) fn seal_rtp(&self, header: RtpHeader, index: u64, packet: &mut [u8]) -> Result<(), Unspecified> {
        match self {
            Self::Gcm(gcm) => {
                let (header_bytes, rest) = packet.split_at_mut_checked(header.len).ok_or(Unspecified)?;
                let (payload, tag) = split_at_end(rest, GCM_TAG_LEN)?;
                gcm.seal(gcm.rtp_nonce(header.ssrc, index), header_bytes, payload, tag)
            }
            Self::AesCm(cm) => {
                let (plain, tag) = split_at_end(packet, SHA1_TAG_LEN)?;
                cm.crypt(header.ssrc, index, plain.get_mut(header.len..).ok_or(Unspecified)?)?;
                tag.copy_from_slice(&cm.tag(plain, &rollovers(index)));
                Ok(())
            }
        }
    }

    /// Decrypts an RTP packet and returns it without its tag.
    #[inline]
    pub(super) fn open_rtp<'d>(
        &self,
        header: RtpHeader,
        index: u64,
        packet: &'d mut [u8],
    ) -> Result<&'d mut [u8], Unspecified> {
        match self {
            Self::Gcm(gcm) => {
                let (plain, tag) = split_at_end(packet, GCM_TAG_LEN)?;
                let (header_bytes, payload) = plain.split_at_mut_checked(header.len).ok_or(Unspecified)?;
                gcm.open(gcm.rtp_nonce(header.ssrc, index), header_bytes, payload, tag)?;
                Ok(plain)
            }
            Self::AesCm(cm) => {
                let (plain, tag) = split_at_end(packet, SHA1_TAG_LEN)?;
                verify_slices_are_equal(&cm.tag(plain, &rollovers(index)), tag)?;
                cm.crypt(header.ssrc, index, plain.get_mut(header.len..).ok_or(Unspecified)?)?;
                Ok(plain)
            }
        }
    }

    /// Encrypts a compound RTCP packet that is followed by room for index and tag.
    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), Unspecified> {
        let index_word = (index | E_FLAG).to_be_bytes();
        match self {
            Self::Gcm(gcm) => {
                let (rest, word) = split_at_end(packet, RTCP_INDEX_LEN)?;
                let (header, rest) = rest.split_at_mut_checked(RTCP_HEADER_LEN).ok_or(Unspecified)?;
                let (payload, tag) = split_at_end(rest, GCM_TAG_LEN)?;
                word.copy_from_slice(&index_word);
                gcm.seal(gcm.rtcp_nonce(ssrc, index), &rtcp_aad(header, index_word)?, payload, tag)
            }
            Self::AesCm(cm) => {
                let (rest, tag) = split_at_end(packet, SHA1_TAG_LEN)?;
                let (plain, word) = split_at_end(rest, RTCP_INDEX_LEN)?;
                cm.crypt(ssrc, index.into(), plain.get_mut(RTCP_HEADER_LEN..).ok_or(Unspecified)?)?;
                word.copy_from_slice(&index_word);
                tag.copy_from_slice(&cm.tag(rest, &[]));
                Ok(())
            }
        }
    }

    /// Reads the index of an SRTCP packet, not authenticated yet. `None` if the packet is too short, or is not
    /// encrypted, which no WebRTC endpoint may send (RFC 8827 section 6.5).
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Option<u32> {
        let behind = match self {
            Self::Gcm(_) => 0,
            Self::AesCm(_) => SHA1_TAG_LEN,
        };
        let end = packet.len().checked_sub(behind)?;
        let word = u32::from_be_bytes(*packet.get(..end)?.last_chunk()?);
        (word & E_FLAG != 0).then_some(word & !E_FLAG)
    }

    /// Decrypts a compound RTCP packet and returns it without index and tag.
    pub(super) fn open_rtcp<'d>(
        &self,
        ssrc: u32,
        index: u32,
        packet: &'d mut [u8],
    ) -> Result<&'d mut [u8], Unspecified> {
        match self {
            Self::Gcm(gcm) => {
                let (rest, word) = split_at_end(packet, RTCP_INDEX_LEN)?;
                let (plain, tag) = split_at_end(rest, GCM_TAG_LEN)?;
                let (header, payload) = plain.split_at_mut_checked(RTCP_HEADER_LEN).ok_or(Unspecified)?;
                let index_word = *word.first_chunk().ok_or(Unspecified)?;
                gcm.open(gcm.rtcp_nonce(ssrc, index), &rtcp_aad(header, index_word)?, payload, tag)?;
                Ok(plain)
            }
            Self::AesCm(cm) => {
                let (rest, tag) = split_at_end(packet, SHA1_TAG_LEN)?;
                verify_slices_are_equal(&cm.tag(rest, &[]), tag)?;
                let (plain, _) = split_at_end(rest, RTCP_INDEX_LEN)?;
                cm.crypt(ssrc, index.into(), plain.get_mut(RTCP_HEADER_LEN..).ok_or(Unspecified)?)?;
                Ok(plain)
            }
        }
    }
}

/// AEAD_AES_128_GCM, RFC 7714.
pub(super) struct Gcm {
    key: LessSafeKey,
    /// As a number, whose lower 96 bits it is.
    salt: u128,
}

impl Gcm {
    /// RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter, sequence number; XOR the salt.
    fn rtp_nonce(&self, ssrc: u32, index: u64) -> Nonce {
        // The 48 bits of the index are rollover counter and sequence number.
        self.nonce(u128::from(ssrc) << 48 | u128::from(index))
    }

    /// RFC 7714 section 9.1: two zero bytes, SSRC, two zero bytes, SRTCP index; XOR the salt.
    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> Nonce {
        self.nonce(u128::from(ssrc) << 48 | u128::from(index))
    }

    fn nonce(&self, value: u128) -> Nonce {
        let [_, _, _, _, nonce @ ..] = (self.salt ^ value).to_be_bytes();
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&self, nonce: Nonce, aad: &[u8], payload: &mut [u8], tag: &mut [u8]) -> Result<(), Unspecified> {
        self.key.seal_in_place_scatter(nonce, Aad::from(aad), payload, &[], tag)
    }

    fn open(&self, nonce: Nonce, aad: &[u8], payload: &mut [u8], tag: &[u8]) -> Result<(), Unspecified> {
        self.key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, payload)?;
        Ok(())
    }
}

/// AES_CM_128_HMAC_SHA1_80, RFC 3711 section 4.
pub(super) struct AesCm {
    key: EncryptingKey,
    auth: hmac::Key,
    salt: [u8; 14],
}

impl AesCm {
    /// XORs the key stream of a packet, RFC 3711 section 4.1.1.
    fn crypt(&self, ssrc: u32, index: u64, payload: &mut [u8]) -> Result<(), Unspecified> {
        let mut iv = (u128::from(ssrc) << 64 | u128::from(index) << 16).to_be_bytes();
        iv.iter_mut().zip(self.salt).for_each(|(i, s)| *i ^= s);
        self.key.less_safe_encrypt(payload, EncryptionContext::Iv128(FixedLength::from(iv)))?;
        Ok(())
    }

    fn tag(&self, packet: &[u8], rollovers: &[u8]) -> [u8; SHA1_TAG_LEN] {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(packet);
        context.update(rollovers);
        let tag = context.sign();
        *tag.as_ref().first_chunk().unwrap_or(&[0; SHA1_TAG_LEN])
    }
}

fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 7714 section 9.2: the header in the clear and the index word.
fn rtcp_aad(
    header: &[u8],
    index_word: [u8; RTCP_INDEX_LEN],
) -> Result<[u8; RTCP_HEADER_LEN + RTCP_INDEX_LEN], Unspecified> {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_INDEX_LEN];
    let (head, tail) = aad.split_at_mut(RTCP_HEADER_LEN);
    head.copy_from_slice(header.get(..RTCP_HEADER_LEN).ok_or(Unspecified)?);
    tail.copy_from_slice(&index_word);
    Ok(aad)
}

fn split_at_end(bytes: &mut [u8], len: usize) -> Result<(&mut [u8], &mut [u8]), Unspecified> {
    let at = bytes.len().checked_sub(len).ok_or(Unspecified)?;
    bytes.split_at_mut_checked(at).ok_or(Unspecified)
}
