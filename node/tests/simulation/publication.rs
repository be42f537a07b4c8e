//! A simulated camera or microphone. Every packet's payload says which one it is, so that whoever receives it can be
//! held to it.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_media::wire::rtp::RtpHeader;
use sluice_proto::ids::ProducerId;
use sluice_proto::ortc::MediaKind;

use crate::parameters::{
    AUDIO_LEVEL_EXTENSION, CLIENT_OPUS, CLIENT_VP8, CLIENT_VP8_RTX, MID_EXTENSION, Ssrcs, TRANSPORT_WIDE_CC_EXTENSION,
};

/// A browser's encoder hears no key-frame request sooner after the one before it.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);

/// Bytes in front of the packet's number: a VP8 descriptor with a 15-bit picture id, and the first byte of the frame.
const PREFIX_LEN: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) header: RtpHeader,
    pub(crate) payload: Vec<u8>,
    pub(crate) key_frame_start: bool,
}

#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) id: ProducerId,
    pub(crate) client: usize,
    pub(crate) kind: MediaKind,
    pub(crate) mid: String,
    pub(crate) ssrcs: Ssrcs,
    /// By number, which the payload says.
    pub(crate) packets: Vec<Published>,
    /// Offset of the publisher's NTP clock from virtual time.
    pub(crate) ntp_offset: Duration,
    pub(crate) was_paused: bool,
    /// When key frames were asked for, and heard.
    pub(crate) key_frame_requests: Vec<Duration>,
    first_seq: u16,
    first_timestamp: u32,
    rtx_seq: u16,
    frames: u16,
    wants_key_frame: bool,
    last_request: Option<Duration>,
    by_seq: BTreeMap<u16, usize>,
}

impl Publication {
    pub(crate) fn new(id: ProducerId, client: usize, kind: MediaKind, mid: String, ssrcs: Ssrcs, random: u64) -> Self {
        Self {
            id,
            client,
            kind,
            mid,
            ssrcs,
            packets: Vec::new(),
            ntp_offset: Duration::from_millis(3_900_000_000_000 + (random >> 40)),
            was_paused: false,
            key_frame_requests: Vec::new(),
            // Close to the wrap in half of the cases.
            first_seq: if random & 1 == 0 { 65_500 } else { random as u16 },
            first_timestamp: if random & 2 == 0 { u32::MAX - 20_000 } else { (random >> 8) as u32 },
            rtx_seq: (random >> 16) as u16,
            frames: 0,
            wants_key_frame: true,
            last_request: None,
            by_seq: BTreeMap::new(),
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(if self.kind == MediaKind::Video { 33 } else { 20 })
    }

    fn clock_rate(&self) -> u64 {
        if self.kind == MediaKind::Video { 90_000 } else { 48_000 }
    }

    /// The timestamp of a moment of virtual time.
    pub(crate) fn timestamp(&self, at: Duration) -> u32 {
        self.first_timestamp.wrapping_add((at.as_micros() as u64 * self.clock_rate() / 1_000_000) as u32)
    }

    /// Makes the packets of the next frame, and says which numbers they have.
    pub(crate) fn next_frame(&mut self, at: Duration, packets: usize) -> std::ops::Range<usize> {
        let first = self.packets.len();
        let key = self.kind == MediaKind::Video && std::mem::take(&mut self.wants_key_frame);
        let count = match (self.kind, key) {
            (MediaKind::Audio, _) => 1,
            (MediaKind::Video, true) => packets + 3,
            (MediaKind::Video, false) => packets,
        };
        let timestamp = self.timestamp(at);
        for index in 0..count {
            let number = self.packets.len();
            let [p0, p1] = (self.frames | 0x8000).to_be_bytes();
            let start = if index == 0 { 0x90 } else { 0x80 };
            let mut payload = vec![start, 0x80, p0, p1, if key { 0x50 } else { 0x51 }];
            payload.extend_from_slice(&(number as u32).to_be_bytes());
            payload.extend((0..(number * 37) % 300).map(|byte| (byte * 7 + number) as u8));
            let header = RtpHeader {
                marker: index + 1 == count,
                payload_type: if self.kind == MediaKind::Video { CLIENT_VP8 } else { CLIENT_OPUS },
                sequence_number: self.first_seq.wrapping_add(number as u16),
                timestamp,
                ssrc: self.ssrcs.media,
            };
            self.by_seq.insert(header.sequence_number, number);
            self.packets.push(Published { header, payload, key_frame_start: key && index == 0 });
        }
        self.frames = (self.frames + 1) & 0x7fff;
        first..self.packets.len()
    }

    /// The number that a payload says.
    pub(crate) fn number_in(payload: &[u8]) -> Option<usize> {
        let bytes = payload.get(PREFIX_LEN..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes) as usize)
    }

    /// A packet as it goes on the wire.
    pub(crate) fn wire(&self, number: usize, transport_wide: u16) -> Vec<u8> {
        let published = &self.packets[number];
        self.write(published.header, &[], &published.payload, transport_wide)
    }

    /// The retransmission of a packet, RFC 4588.
    pub(crate) fn wire_rtx(&mut self, seq: u16, transport_wide: u16) -> Option<Vec<u8>> {
        let published = &self.packets[*self.by_seq.get(&seq)?];
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        let header = RtpHeader {
            payload_type: CLIENT_VP8_RTX,
            sequence_number: self.rtx_seq,
            ssrc: self.ssrcs.rtx,
            ..published.header
        };
        Some(self.write(header, &seq.to_be_bytes(), &published.payload, transport_wide))
    }

    fn write(&self, header: RtpHeader, prefix: &[u8], payload: &[u8], transport_wide: u16) -> Vec<u8> {
        let mut extensions = vec![MID_EXTENSION << 4 | (self.mid.len() - 1) as u8];
        extensions.extend_from_slice(self.mid.as_bytes());
        extensions.push(TRANSPORT_WIDE_CC_EXTENSION << 4 | 1);
        extensions.extend_from_slice(&transport_wide.to_be_bytes());
        if self.kind == MediaKind::Audio {
            extensions.extend_from_slice(&[AUDIO_LEVEL_EXTENSION << 4, 0x80 | 40]);
        }
        extensions.resize(extensions.len().next_multiple_of(4), 0);
        let mut packet = header.to_bytes(true).to_vec();
        packet.extend_from_slice(&[0xbe, 0xde, 0, (extensions.len() / 4) as u8]);
        packet.extend_from_slice(&extensions);
        packet.extend_from_slice(prefix);
        packet.extend_from_slice(payload);
        packet
    }

    pub(crate) fn request_key_frame(&mut self, at: Duration) {
        self.key_frame_requests.push(at);
        if self.last_request.is_none_or(|last| at >= last + KEY_FRAME_INTERVAL) {
            self.last_request = Some(at);
            self.wants_key_frame = true;
        }
    }
}
