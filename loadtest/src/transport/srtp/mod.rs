//! SRTP and SRTCP of one transport (RFC 3711, RFC 7714), by webrtc-rs, and RTP under AES-GCM opened in place by a
//! receiver of our own: a load generator receives a thousand packets for each that it sends. Deliberately not the
//! node's implementation, so that each is the other's oracle.

mod gcm;

use bytes::BytesMut;
use rtc_srtp::config::Config;
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

use self::gcm::GcmReceiver;
use super::TransportError;
use super::certificate::provider;

/// Packets behind the newest that are still told from replays: a second of 1,000 packets, since a retransmission or a
/// reordered packet is seldom later.
const REPLAY_WINDOW: usize = 1024;

/// SRTP protection profiles of WebRTC, RFC 5764 section 4.1.2 and RFC 7714 section 14.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AES128_CM_HMAC_SHA1_80 (0x0001).
    Aes128CmSha1_80,
    /// AEAD_AES_256_GCM (0x0008).
    AeadAes256Gcm,
    /// AEAD_AES_128_GCM (0x0007).
    AeadAes128Gcm,
}

impl SrtpProfile {
    /// What Chromium offers, in its order: 0x0001, 0x0008, 0x0007.
    pub const CHROMIUM: [Self; 3] = [Self::Aes128CmSha1_80, Self::AeadAes256Gcm, Self::AeadAes128Gcm];

    pub(super) fn keying_material_len(self) -> usize {
        let profile = ProtectionProfile::from(self);
        2 * (profile.key_len() + profile.salt_len())
    }
}

impl From<SrtpProfile> for ProtectionProfile {
    fn from(profile: SrtpProfile) -> Self {
        match profile {
            SrtpProfile::Aes128CmSha1_80 => Self::Aes128CmHmacSha1_80,
            SrtpProfile::AeadAes128Gcm => Self::AeadAes128Gcm,
            SrtpProfile::AeadAes256Gcm => Self::AeadAes256Gcm,
        }
    }
}

/// What DTLS exported for SRTP.
pub(super) struct KeyingMaterial {
    pub(super) profile: SrtpProfile,
    pub(super) bytes: Vec<u8>,
    pub(super) is_client: bool,
}

impl std::fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyingMaterial").field("profile", &self.profile).finish_non_exhaustive()
    }
}

pub(super) struct SrtpSession {
    pub(super) profile: SrtpProfile,
    outbound: Context,
    inbound: Context,
    /// Opens RTP in place of `inbound` where the profile is one of GCM's.
    gcm: Option<GcmReceiver>,
}

impl SrtpSession {
    pub(super) fn new(material: &KeyingMaterial) -> Result<Self, TransportError> {
        let crypto = |error: rtc_shared::error::Error| TransportError::Crypto(error.to_string());
        let profile = ProtectionProfile::from(material.profile);
        let mut config = Config { profile, ..Config::default() };
        config.set_session_keys_from_keying_material(&material.bytes, material.is_client).map_err(crypto)?;
        let provider = provider()?;
        let keys = &config.keys;
        let outbound =
            Context::new(&keys.local_master_key, &keys.local_master_salt, profile, None, None, provider.crypto())
                .map_err(crypto)?;
        let inbound = Context::new(
            &keys.remote_master_key,
            &keys.remote_master_salt,
            profile,
            Some(srtp_replay_protection(REPLAY_WINDOW)),
            Some(srtcp_replay_protection(REPLAY_WINDOW)),
            provider.crypto(),
        )
        .map_err(crypto)?;
        let gcm = match material.profile {
            SrtpProfile::Aes128CmSha1_80 => None,
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => {
                Some(GcmReceiver::new(&keys.remote_master_key, &keys.remote_master_salt)?)
            }
        };
        Ok(Self { profile: material.profile, outbound, inbound, gcm })
    }

    pub(super) fn seal_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.outbound.encrypt_rtp(packet).ok()
    }

    pub(super) fn seal_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.outbound.encrypt_rtcp(packet).ok()
    }

    /// The packet that was sealed, in place; `None` when it is forged, broken or came before.
    pub(super) fn open_rtp<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        if let Some(gcm) = &mut self.gcm {
            return gcm.open(packet);
        }
        let opened = self.inbound.decrypt_rtp(packet).ok()?;
        let room = packet.get_mut(..opened.len())?;
        room.copy_from_slice(&opened);
        Some(room)
    }

    /// The part of a sealed packet that is as long as the opened one.
    pub(super) fn without_tag<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let tag_len = match self.profile {
            SrtpProfile::Aes128CmSha1_80 => 10,
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => gcm::TAG_LEN,
        };
        packet.get(..packet.len().checked_sub(tag_len)?)
    }

    pub(super) fn open_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.inbound.decrypt_rtcp(packet).ok()
    }
}

#[cfg(test)]
mod tests;
