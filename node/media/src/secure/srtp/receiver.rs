//! Authentication and decryption of what arrives.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::cipher::Cipher;
use super::keys::SessionKeys;
use super::window::Window;
use super::{InvalidKeyLength, RtpHeader, parse_rtcp_ssrc, parse_rtp_header};
use crate::drop_reason::DropReason;
use crate::secure::srtp::SrtpProfile;

/// Streams whose reordering is put up with at the same time: 128 cameras with RTX, in 40 KiB. Of one more the stream
/// that was heard longest ago keeps only the index that it reached.
const MAX_WINDOWS: usize = 256;

/// Streams that a client may send on one transport, over its life: forgetting one altogether would let its old packets
/// be replayed. A camera with RTX that is closed and opened every minute of a day has 2,880; what is kept of 4,096 is
/// below 100 KiB, and as much again of those who sent reports.
const MAX_STREAMS: usize = 4_096;

/// Longest packet of which a second trial is made: whatever a path without jumbo frames carries.
const MAX_SECOND_TRIAL_LEN: usize = 1_500;

/// Reordering that is put up with: 1,024 packets, a second of the fastest screen share.
type RtpWindow = Window<16>;

/// RTCP comes a few times per second: 128 packets are many seconds.
type RtcpWindow = Window<2>;

/// A stream that was heard lately.
struct RtpStream {
    window: RtpWindow,
    /// The receiver's count of packets when its newest one came.
    heard: u64,
}

/// The receiving direction of a transport.
pub struct SrtpReceiver {
    keys: SessionKeys,
    rtp_streams: FxHashMap<u32, RtpStream>,
    /// The highest index of every stream that has no window any more. Not hashed: the client chooses the keys.
    rtp_reached: BTreeMap<u32, u64>,
    rtcp_streams: BTreeMap<u32, RtcpWindow>,
    packets: u64,
}

impl SrtpReceiver {
    /// Derives the session keys from master key and salt, concatenated.
    ///
    /// # Errors
    /// [`InvalidKeyLength`] if they are not as long as the profile wants.
    pub fn new(profile: SrtpProfile, master: &[u8]) -> Result<Self, InvalidKeyLength> {
        Ok(Self {
            keys: SessionKeys::derive(profile, master)?,
            rtp_streams: FxHashMap::default(),
            rtp_reached: BTreeMap::new(),
            rtcp_streams: BTreeMap::new(),
            packets: 0,
        })
    }

    /// Authenticates and decrypts an SRTP packet in place and returns the RTP packet.
    ///
    /// # Errors
    /// [`DropReason::RtpMalformed`], [`DropReason::SrtpUnauthenticated`], [`DropReason::SrtpReplayed`],
    /// [`DropReason::SrtpTooManyStreams`].
    pub fn open_rtp<'d>(&mut self, packet: &'d mut [u8]) -> Result<&'d mut [u8], DropReason> {
        let header = parse_rtp_header(packet).ok_or(DropReason::RtpMalformed)?;
        let Some(stream) = self.rtp_streams.get_mut(&header.ssrc) else { return self.open_other_rtp(header, packet) };
        let plain = open_next(&self.keys.rtp, &mut stream.window, header, packet)?;
        self.packets += 1;
        stream.heard = self.packets;
        Ok(plain)
    }

    /// Opens a packet of a stream without a window, which gets one if the packet is authentic.
    fn open_other_rtp<'d>(&mut self, header: RtpHeader, packet: &'d mut [u8]) -> Result<&'d mut [u8], DropReason> {
        if let Some(reached) = self.rtp_reached.get(&header.ssrc) {
            let mut window = RtpWindow::closed_at(*reached);
            let plain = open_next(&self.keys.rtp, &mut window, header, packet)?;
            self.rtp_reached.remove(&header.ssrc);
            self.give_window(header.ssrc, window);
            return Ok(plain);
        }
        if self.rtp_streams.len() + self.rtp_reached.len() >= MAX_STREAMS {
            return Err(DropReason::SrtpTooManyStreams);
        }
        let (index, plain) = open_first(&self.keys.rtp, header, packet)?;
        self.give_window(header.ssrc, RtpWindow::starting_at(index));
        Ok(plain)
    }

    fn give_window(&mut self, ssrc: u32, window: RtpWindow) {
        if self.rtp_streams.len() >= MAX_WINDOWS
            && let Some(oldest) = self.rtp_streams.iter().min_by_key(|(_, stream)| stream.heard).map(|(ssrc, _)| *ssrc)
            && let Some(stream) = self.rtp_streams.remove(&oldest)
        {
            self.rtp_reached.insert(oldest, stream.window.highest());
        }
        self.packets += 1;
        self.rtp_streams.insert(ssrc, RtpStream { window, heard: self.packets });
    }

    /// Authenticates and decrypts an SRTCP packet in place and returns the compound RTCP packet.
    ///
    /// # Errors
    /// [`DropReason::RtcpMalformed`], [`DropReason::SrtpUnauthenticated`], [`DropReason::SrtpReplayed`],
    /// [`DropReason::SrtpTooManyStreams`].
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
        self.rtp_streams.len() + self.rtp_reached.len() + self.rtcp_streams.len()
    }
}

/// Opens a packet of a stream of which others came before.
#[inline]
fn open_next<'d>(
    cipher: &Cipher,
    window: &mut RtpWindow,
    header: RtpHeader,
    packet: &'d mut [u8],
) -> Result<&'d mut [u8], DropReason> {
    let index = window.estimate(header.sequence_number).ok_or(DropReason::SrtpReplayed)?;
    if window.has_seen(index) {
        return Err(DropReason::SrtpReplayed);
    }
    let plain = cipher.open_rtp(header, index, packet).map_err(|_| DropReason::SrtpUnauthenticated)?;
    window.mark(index);
    Ok(plain)
}

/// Opens the first packet of a stream, and says which index it has. The rollover counter begins at 0 (RFC 3711 section
/// 3.3.1), but if the packets before the wrap were lost it is 1 already: that is tried too, once, if the sequence
/// number is of the first half.
fn open_first<'d>(cipher: &Cipher, header: RtpHeader, packet: &'d mut [u8]) -> Result<(u64, &'d mut [u8]), DropReason> {
    let failed = DropReason::SrtpUnauthenticated;
    let open = |index, packet: &mut [u8]| cipher.open_rtp(header, index, packet).map(|plain| plain.len());
    // What does not authenticate is destroyed by the trial.
    let mut room = [0; MAX_SECOND_TRIAL_LEN];
    let mut saved = room.get_mut(..packet.len()).filter(|_| header.sequence_number < 0x8000);
    if let Some(saved) = &mut saved {
        saved.copy_from_slice(packet);
    }
    let index = u64::from(header.sequence_number);
    let (index, len) = match (open(index, packet), saved) {
        (Ok(len), _) => (index, len),
        (Err(_), Some(saved)) => {
            packet.copy_from_slice(saved);
            let index = index + (1 << 16);
            (index, open(index, packet).map_err(|_| failed)?)
        }
        (Err(_), None) => return Err(failed),
    };
    Ok((index, packet.get_mut(..len).ok_or(failed)?))
}
