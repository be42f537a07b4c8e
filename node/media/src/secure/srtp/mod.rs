//! SRTP and SRTCP in place: AEAD_AES_128_GCM (RFC 7714) and AES_CM_128_HMAC_SHA1_80 (RFC 3711) over aws-lc-rs.
//!
//! One [`SrtpSender`] and one [`SrtpReceiver`] a transport. Neither allocates for a packet of a known stream, and a
//! stream becomes known only by a packet that authenticates: forged SSRCs cost nothing.

mod cipher;
mod keys;
mod receiver;
mod sender;
pub(super) mod window;

#[cfg(test)]
mod differential_tests;

pub use receiver::SrtpReceiver;
pub use sender::{SrtpSender, TagPrefix};

/// SRTP protection profile, RFC 5764 section 4.1.2 and RFC 7714 section 14.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM (0x0007).
    AeadAes128Gcm,
    /// AES128_CM_HMAC_SHA1_80 (0x0001).
    Aes128CmSha1_80,
}

/// Keying material has not the length that the profile wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("SRTP keying material has {actual} bytes, {expected} are wanted")]
pub struct InvalidKeyLength {
    /// What the profile wants.
    pub expected: usize,
    /// What was given.
    pub actual: usize,
}

/// The lengths of a profile, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct ProfileLengths {
    /// Master salt; the master key has [`MASTER_KEY_LEN`].
    pub salt: usize,
    /// What protection adds to an RTP packet.
    pub rtp_overhead: usize,
    /// What protection adds to a compound RTCP packet, its index included.
    pub rtcp_overhead: usize,
}

/// Length of the master key of both profiles, in bytes.
pub const MASTER_KEY_LEN: usize = 16;

/// The E flag and SRTCP index that every SRTCP packet carries, RFC 3711 section 3.4.
const RTCP_INDEX_LEN: usize = 4;

/// Length of the RTCP header that stays in the clear: the first header word and the sender's SSRC.
const RTCP_HEADER_LEN: usize = 8;

/// The lengths of `profile`.
pub const fn profile_lengths(profile: SrtpProfile) -> ProfileLengths {
    match profile {
        SrtpProfile::AeadAes128Gcm => ProfileLengths {
            salt: 12,
            rtp_overhead: cipher::GCM_TAG_LEN,
            rtcp_overhead: cipher::GCM_TAG_LEN + RTCP_INDEX_LEN,
        },
        SrtpProfile::Aes128CmSha1_80 => ProfileLengths {
            salt: 14,
            rtp_overhead: cipher::SHA1_TAG_LEN,
            rtcp_overhead: cipher::SHA1_TAG_LEN + RTCP_INDEX_LEN,
        },
    }
}

/// The fields of an RTP header that protection needs.
#[derive(Debug, Clone, Copy)]
struct RtpHeader {
    ssrc: u32,
    sequence_number: u16,
    /// Fixed header, CSRCs and extension, in bytes.
    len: usize,
}

/// Reads an RTP header, RFC 3550 section 5.1. `None` if it is not one or is cut short.
fn parse_rtp_header(packet: &[u8]) -> Option<RtpHeader> {
    let fixed: &[u8; 12] = packet.first_chunk()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut len = 12 + 4 * usize::from(fixed[0] & 0x0f);
    if fixed[0] & 0x10 != 0 {
        let words: [u8; 2] = *packet.get(len + 2..)?.first_chunk()?;
        len += 4 + 4 * usize::from(u16::from_be_bytes(words));
    }
    if packet.len() < len {
        return None;
    }
    Some(RtpHeader {
        ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
        len,
    })
}

/// Reads the SSRC of an RTCP packet's sender.
fn parse_rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let header: &[u8; RTCP_HEADER_LEN] = packet.first_chunk()?;
    (header[0] >> 6 == 2).then(|| u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}
