//! Protection of what leaves.

use rustc_hash::FxHashMap;

use super::keys::SessionKeys;
use super::window::Window;
use super::{InvalidKeyLength, ProfileLengths, parse_rtcp_ssrc, parse_rtp_header, profile_lengths};
use crate::data_plane::drop_reason::DropReason;
use crate::data_plane::messages::SrtpProfile;

/// Streams that a transport may send at a time. A user sees some hundred consumers at most, each with its RTX stream; at 100 bytes
/// a stream the bound is 400 KiB.
const MAX_STREAMS: usize = 4096;

/// How many packets a retransmission may come late and still be known not to use a nonce twice: more than a producer's cache holds.
type SentWindow = Window<16>;

/// The sending direction of a transport.
pub struct SrtpSender {
    keys: SessionKeys,
    lengths: ProfileLengths,
    /// Whether a packet index may be used once only. With GCM a second packet under the same nonce gives the authentication
    /// key away; with AES-CM sending a packet again reveals nothing.
    unique_nonces: bool,
    streams: FxHashMap<u32, SentWindow>,
    /// One count for all SSRCs: each of them sees a strictly rising index.
    rtcp_index: u32,
}

impl SrtpSender {
    /// Derives the session keys from master key and salt, concatenated.
    ///
    /// # Errors
    /// [`InvalidKeyLength`] if they are not as long as the profile wants.
    pub fn new(profile: SrtpProfile, master: &[u8]) -> Result<Self, InvalidKeyLength> {
        Ok(Self {
            keys: SessionKeys::derive(profile, master)?,
            lengths: profile_lengths(profile),
            unique_nonces: profile == SrtpProfile::AeadAes128Gcm,
            streams: FxHashMap::default(),
            rtcp_index: 0,
        })
    }

    /// What protection adds.
    pub fn lengths(&self) -> ProfileLengths {
        self.lengths
    }

    /// Encrypts an RTP packet in place. `packet` ends with [`ProfileLengths::rtp_overhead`] bytes of room.
    ///
    /// # Errors
    /// [`DropReason::RtpMalformed`], [`DropReason::SrtpTooManyStreams`], or [`DropReason::SrtpNonceReused`] for a GCM packet that was sent
    /// already or is older than the last 1,024.
    pub fn seal_rtp(&mut self, packet: &mut [u8]) -> Result<(), DropReason> {
        let plain_len = packet.len().checked_sub(self.lengths.rtp_overhead).ok_or(DropReason::RtpMalformed)?;
        let header = packet.get(..plain_len).and_then(parse_rtp_header).ok_or(DropReason::RtpMalformed)?;
        if let Some(stream) = self.streams.get_mut(&header.ssrc) {
            let index = stream.estimate(header.sequence_number).ok_or(DropReason::SrtpNonceReused)?;
            if self.unique_nonces && stream.has_seen(index) {
                return Err(DropReason::SrtpNonceReused);
            }
            stream.mark(index);
            return self.keys.rtp.seal_rtp(header, index, packet).map_err(|_| DropReason::RtpMalformed);
        }
        if self.streams.len() >= MAX_STREAMS {
            return Err(DropReason::SrtpTooManyStreams);
        }
        let index = u64::from(header.sequence_number);
        self.streams.insert(header.ssrc, SentWindow::starting_at(index));
        self.keys.rtp.seal_rtp(header, index, packet).map_err(|_| DropReason::RtpMalformed)
    }

    /// Encrypts a compound RTCP packet in place. `packet` ends with [`ProfileLengths::rtcp_overhead`] bytes of room.
    ///
    /// # Errors
    /// [`DropReason::RtcpMalformed`], or [`DropReason::SrtpNonceReused`] after 2^31 packets, when the key is used up.
    pub fn seal_rtcp(&mut self, packet: &mut [u8]) -> Result<(), DropReason> {
        let plain_len = packet.len().checked_sub(self.lengths.rtcp_overhead).ok_or(DropReason::RtcpMalformed)?;
        let ssrc = packet.get(..plain_len).and_then(parse_rtcp_ssrc).ok_or(DropReason::RtcpMalformed)?;
        if self.rtcp_index >> 31 != 0 {
            return Err(DropReason::SrtpNonceReused);
        }
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        self.keys.rtcp.seal_rtcp(ssrc, index, packet).map_err(|_| DropReason::RtcpMalformed)
    }

    /// The stream is over. Its SSRC must not be sent with again under these keys.
    pub fn release(&mut self, ssrc: u32) {
        self.streams.remove(&ssrc);
    }
}
