//! Protection of what leaves.

use rustc_hash::{FxHashMap, FxHashSet};

use super::keys::SessionKeys;
use super::window::Window;
use super::{InvalidKeyLength, ProfileLengths, RtpHeader, parse_rtcp_ssrc, parse_rtp_header, profile_lengths};
use crate::drop_reason::DropReason;
use crate::secure::srtp::SrtpProfile;

/// Streams that a transport may send at a time. A user sees some hundred consumers at most, each with its RTX stream;
/// at 100 bytes a stream the bound is 400 KiB.
const MAX_STREAMS: usize = 4096;

/// Streams that a transport may send in its life. Those that are over are remembered, as their nonces are used up: one
/// every second would last for 18 hours, and takes a few bytes. When no more can be remembered, nothing new is sent,
/// which is better than a nonce used twice; the client gets new keys by a transport of its own.
const MAX_SSRCS: usize = 65_536;

/// How many packets a retransmission may come late and still be known not to use a nonce twice: more than a producer's
/// cache holds.
type SentWindow = Window<16>;

/// The first bytes of a packet's authentication tag, by which it is known to be the one that was sealed before: another
/// one passes for it once in 16 million times, and only if somebody tries to send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TagPrefix([u8; 3]);

/// The sending direction of a transport.
pub struct SrtpSender {
    keys: SessionKeys,
    lengths: ProfileLengths,
    streams: FxHashMap<u32, SentWindow>,
    /// SSRCs of those that are over.
    released: FxHashSet<u32>,
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
            streams: FxHashMap::default(),
            released: FxHashSet::default(),
            rtcp_index: 0,
        })
    }

    /// What protection adds.
    pub fn lengths(&self) -> ProfileLengths {
        self.lengths
    }

    /// Encrypts an RTP packet in place. `packet` ends with [`ProfileLengths::rtp_overhead`] bytes of room. Returns by
    /// what [`seal_rtp_again`](Self::seal_rtp_again) will know it.
    ///
    /// A packet index is used once only: with GCM a second packet under the same nonce gives the authentication key
    /// away, with AES-CM the XOR of both payloads.
    ///
    /// # Errors
    /// [`DropReason::RtpMalformed`], [`DropReason::SrtpTooManyStreams`], or [`DropReason::SrtpNonceReused`] for a
    /// packet that was sent already, is older than the last 1,024, or has the SSRC of a stream that is over.
    pub fn seal_rtp(&mut self, packet: &mut [u8]) -> Result<TagPrefix, DropReason> {
        let header = self.header(packet)?;
        let index = if let Some(stream) = self.streams.get_mut(&header.ssrc) {
            let index = stream.estimate(header.sequence_number).filter(|index| !stream.has_seen(*index));
            let index = index.ok_or(DropReason::SrtpNonceReused)?;
            stream.mark(index);
            index
        } else {
            self.begin(header)?
        };
        self.seal(header, index, packet)
    }

    /// The first packet of a stream; its index.
    #[cold]
    fn begin(&mut self, header: RtpHeader) -> Result<u64, DropReason> {
        if self.released.contains(&header.ssrc) {
            return Err(DropReason::SrtpNonceReused);
        }
        if self.streams.len() >= MAX_STREAMS || self.streams.len() + self.released.len() >= MAX_SSRCS {
            return Err(DropReason::SrtpTooManyStreams);
        }
        let index = u64::from(header.sequence_number);
        self.streams.insert(header.ssrc, SentWindow::starting_at(index));
        Ok(index)
    }

    /// Encrypts a packet that was sent before once more, to the very bytes that went out then: those reveal nothing
    /// new.
    ///
    /// # Errors
    /// [`DropReason::RtpMalformed`], or [`DropReason::SrtpNonceReused`] for any packet but that one. Such a packet must
    /// not be sent.
    pub fn seal_rtp_again(&mut self, packet: &mut [u8], tag: TagPrefix) -> Result<(), DropReason> {
        let header = self.header(packet)?;
        let stream = self.streams.get(&header.ssrc);
        let index = stream.and_then(|stream| stream.estimate(header.sequence_number).filter(|i| stream.has_seen(*i)));
        let sealed = self.seal(header, index.ok_or(DropReason::SrtpNonceReused)?, packet)?;
        if sealed == tag { Ok(()) } else { Err(DropReason::SrtpNonceReused) }
    }

    fn header(&self, packet: &[u8]) -> Result<RtpHeader, DropReason> {
        let plain_len = packet.len().checked_sub(self.lengths.rtp_overhead);
        plain_len.and_then(|len| parse_rtp_header(packet.get(..len)?)).ok_or(DropReason::RtpMalformed)
    }

    fn seal(&self, header: RtpHeader, index: u64, packet: &mut [u8]) -> Result<TagPrefix, DropReason> {
        self.keys.rtp.seal_rtp(header, index, packet).map_err(|_| DropReason::RtpMalformed)?;
        let tag = packet.get(packet.len().saturating_sub(self.lengths.rtp_overhead)..).and_then(<[u8]>::first_chunk);
        tag.copied().map(TagPrefix).ok_or(DropReason::RtpMalformed)
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

    /// The stream is over. If anything was sent with its SSRC, nothing can be sent with it again under these keys: its
    /// indices would begin anew.
    pub fn release(&mut self, ssrc: u32) {
        if self.streams.remove(&ssrc).is_some() {
            self.released.insert(ssrc);
        }
    }

    /// Whether nothing can be sent with this SSRC, as a stream that is over had it.
    pub fn is_used_up(&self, ssrc: u32) -> bool {
        self.released.contains(&ssrc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(sender: &mut SrtpSender, ssrc: u32, sequence_number: u16) -> Result<TagPrefix, DropReason> {
        let mut packet = vec![0x80, 96];
        packet.extend(sequence_number.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.resize(packet.len() + sender.lengths().rtp_overhead, 0);
        sender.seal_rtp(&mut packet)
    }

    #[test]
    fn an_ssrc_that_was_sent_with_is_never_begun_again() {
        let mut sender = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &[1; 28]).unwrap();
        sender.release(1);
        assert!(!sender.is_used_up(1), "nothing was sent with it");
        assert!(seal(&mut sender, 1, 7).is_ok());
        sender.release(1);
        assert!(sender.is_used_up(1));
        for sequence_number in [0, 7, 8, 1_000] {
            assert_eq!(seal(&mut sender, 1, sequence_number), Err(DropReason::SrtpNonceReused));
        }
        assert!(seal(&mut sender, 2, 7).is_ok());
    }

    #[test]
    fn when_no_more_streams_can_be_remembered_nothing_new_is_sent() {
        let mut sender = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &[1; 28]).unwrap();
        for ssrc in 1..MAX_SSRCS as u32 {
            assert!(seal(&mut sender, ssrc, 0).is_ok());
            sender.release(ssrc);
        }
        assert!(seal(&mut sender, 0, 0).is_ok());
        assert_eq!(seal(&mut sender, u32::MAX, 0), Err(DropReason::SrtpTooManyStreams));
        assert!(seal(&mut sender, 0, 1).is_ok(), "what is sent goes on");
        sender.release(0);
        assert_eq!(seal(&mut sender, u32::MAX, 0), Err(DropReason::SrtpTooManyStreams));
        assert_eq!(seal(&mut sender, 0, 2), Err(DropReason::SrtpNonceReused));
    }
}
