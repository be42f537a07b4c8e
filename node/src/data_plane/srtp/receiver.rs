//! Authentication and decryption of what arrives.

use rustc_hash::FxHashMap;

use super::keys::SessionKeys;
use super::window::Window;
use super::{InvalidKeyLength, parse_rtcp_ssrc, parse_rtp_header};
use crate::data_plane::drop_reason::DropReason;
use crate::data_plane::messages::SrtpProfile;

/// Streams that a client may send on one transport, over its life: forgetting one would let its old packets be replayed. A camera,
/// a microphone and a screen with RTX and simulcast are 16; 512 allow for thirty such changes of mind, in 80 KiB.
const MAX_STREAMS: usize = 512;

/// Reordering that is put up with: 1,024 packets, a second of the fastest screen share.
type RtpWindow = Window<16>;

/// RTCP comes a few times per second: 128 packets are many seconds.
type RtcpWindow = Window<2>;

/// The receiving direction of a transport.
pub struct SrtpReceiver {
    keys: SessionKeys,
    rtp_streams: FxHashMap<u32, RtpWindow>,
    rtcp_streams: FxHashMap<u32, RtcpWindow>,
}

impl SrtpReceiver {
    /// Derives the session keys from master key and salt, concatenated.
    ///
    /// # Errors
    /// [`InvalidKeyLength`] if they are not as long as the profile wants.
    pub fn new(profile: SrtpProfile, master: &[u8]) -> Result<Self, InvalidKeyLength> {
        let keys = SessionKeys::derive(profile, master)?;
        Ok(Self { keys, rtp_streams: FxHashMap::default(), rtcp_streams: FxHashMap::default() })
    }

    /// Authenticates and decrypts an SRTP packet in place and returns the RTP packet.
    ///
    /// # Errors
    /// [`DropReason::RtpMalformed`], [`DropReason::SrtpUnauthenticated`], [`DropReason::SrtpReplayed`], [`DropReason::SrtpTooManyStreams`].
    pub fn open_rtp<'d>(&mut self, packet: &'d mut [u8]) -> Result<&'d mut [u8], DropReason> {
        let header = parse_rtp_header(packet).ok_or(DropReason::RtpMalformed)?;
        if let Some(stream) = self.rtp_streams.get_mut(&header.ssrc) {
            let index = stream.estimate(header.sequence_number).ok_or(DropReason::SrtpReplayed)?;
            if stream.has_seen(index) {
                return Err(DropReason::SrtpReplayed);
            }
            let plain = self.keys.rtp.open_rtp(header, index, packet).map_err(|_| DropReason::SrtpUnauthenticated)?;
            stream.mark(index);
            return Ok(plain);
        }
        if self.rtp_streams.len() >= MAX_STREAMS {
            return Err(DropReason::SrtpTooManyStreams);
        }
        let index = u64::from(header.sequence_number);
        let plain = self.keys.rtp.open_rtp(header, index, packet).map_err(|_| DropReason::SrtpUnauthenticated)?;
        self.rtp_streams.insert(header.ssrc, RtpWindow::starting_at(index));
        Ok(plain)
    }

    /// Authenticates and decrypts an SRTCP packet in place and returns the compound RTCP packet.
    ///
    /// # Errors
    /// [`DropReason::RtcpMalformed`], [`DropReason::SrtpUnauthenticated`], [`DropReason::SrtpReplayed`], [`DropReason::SrtpTooManyStreams`].
    pub fn open_rtcp<'d>(&mut self, packet: &'d mut [u8]) -> Result<&'d mut [u8], DropReason> {
        let ssrc = parse_rtcp_ssrc(packet).ok_or(DropReason::RtcpMalformed)?;
        let index = self.keys.rtcp.rtcp_index(packet).ok_or(DropReason::RtcpMalformed)?;
        if let Some(stream) = self.rtcp_streams.get_mut(&ssrc) {
            if stream.has_seen(index.into()) {
                return Err(DropReason::SrtpReplayed);
            }
            let plain = self.keys.rtcp.open_rtcp(ssrc, index, packet).map_err(|_| DropReason::SrtpUnauthenticated)?;
            stream.mark(index.into());
            return Ok(plain);
        }
        if self.rtcp_streams.len() >= MAX_STREAMS {
            return Err(DropReason::SrtpTooManyStreams);
        }
        let plain = self.keys.rtcp.open_rtcp(ssrc, index, packet).map_err(|_| DropReason::SrtpUnauthenticated)?;
        self.rtcp_streams.insert(ssrc, RtcpWindow::starting_at(index.into()));
        Ok(plain)
    }

    /// Streams that have state: those of which a packet was authenticated.
    pub fn streams(&self) -> usize {
        self.rtp_streams.len() + self.rtcp_streams.len()
    }
}
