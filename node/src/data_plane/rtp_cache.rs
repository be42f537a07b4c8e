//! The last packets of a producer's stream, where consumers and pipes send from and answer NACKs from: a packet lives once, however
//! many want it. A ring by sequence number; slots keep their buffers, so it stops allocating once it went round.

use std::time::{Duration, Instant};

use super::rtp::{
    AudioLevel, Codec, MAX_CANONICAL_HEADER_LEN, PayloadInfo, RtpHeader, shift_picture_id, write_canonical_header,
};

/// Slots for video: two seconds of 500 packets each, 5 Mbit/s, and what a pipe can ask for again.
pub const VIDEO_SLOTS: usize = 1024;

/// Slots for audio: 2.5 seconds of 50 packets each.
pub const AUDIO_SLOTS: usize = 128;

/// Largest payload: what an MTU of 1,500 can carry, so that a slot has a known largest size.
pub const MAX_PAYLOAD_LEN: usize = 1_500;

/// A packet in the mesh's canonical form, with what was found out about it when it came in.
#[derive(Debug)]
pub struct CachedPacket {
    /// Its sequence number without the wrap.
    pub sequence: u64,
    /// The header as it is inside the mesh.
    pub header: RtpHeader,
    /// Volume, of audio.
    pub audio_level: Option<AudioLevel>,
    /// What the payload says about its frame.
    pub info: PayloadInfo,
    /// The packet belongs to a key frame.
    pub key_frame: bool,
    /// When it came in.
    pub received_at: Instant,
    bytes: Vec<u8>,
    header_len: usize,
}

impl CachedPacket {
    /// The payload; empty when the publisher sent only padding.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.header_len..).unwrap_or_default()
    }

    /// The whole packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Length of the header within [`bytes`](Self::bytes).
    pub fn header_len(&self) -> usize {
        self.header_len
    }
}

/// What a packet is put into the cache with.
#[derive(Debug, Clone, Copy)]
pub struct NewPacket<'a> {
    /// Its sequence number without the wrap.
    pub sequence: u64,
    /// The header as it is inside the mesh.
    pub header: RtpHeader,
    /// Volume, of audio.
    pub audio_level: Option<AudioLevel>,
    /// Pictures left out before it on purpose, by which its picture id is lessened.
    pub left_out_pictures: u16,
    /// The payload without padding, at most [`MAX_PAYLOAD_LEN`] bytes.
    pub payload: &'a [u8],
}

/// The ring.
#[derive(Debug)]
pub struct RtpCache {
    slots: Box<[Option<CachedPacket>]>,
    /// Timestamp of the last key frame that began: all of its packets belong to it.
    key_frame_timestamp: Option<u32>,
}

impl RtpCache {
    /// An empty ring of `slots`, a power of two of at most 2^15.
    pub fn new(slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two() && slots <= 1 << 15);
        Self { slots: (0..slots).map(|_| None).collect(), key_frame_timestamp: None }
    }

    fn index(&self, seq: u16) -> usize {
        usize::from(seq) & (self.slots.len() - 1)
    }

    /// The packet with this sequence number.
    pub fn get(&self, seq: u16) -> Option<&CachedPacket> {
        self.slots.get(self.index(seq))?.as_ref().filter(|packet| packet.header.sequence_number == seq)
    }

    /// The packet with this sequence number, unless it is older than that.
    pub fn get_recent(&self, seq: u16, now: Instant, max_age: Duration) -> Option<&CachedPacket> {
        self.get(seq).filter(|packet| now.saturating_duration_since(packet.received_at) <= max_age)
    }

    /// Puts a packet where its sequence number belongs. The slot's former packet goes.
    pub fn insert(&mut self, now: Instant, codec: Codec, packet: NewPacket<'_>) -> Option<&CachedPacket> {
        let info = codec.inspect(packet.payload);
        if info.key_frame_start {
            self.key_frame_timestamp = Some(packet.header.timestamp);
        }
        let index = self.index(packet.header.sequence_number);
        let slot = self.slots.get_mut(index)?;
        let mut bytes = slot.take().map_or_else(Vec::new, |former| former.bytes);
        bytes.clear();
        bytes.reserve(MAX_CANONICAL_HEADER_LEN + packet.payload.len());
        write_canonical_header(packet.header, packet.audio_level, &mut bytes);
        let header_len = bytes.len();
        bytes.extend_from_slice(packet.payload);
        if let (1.., Codec::Vp8, Some(payload)) = (packet.left_out_pictures, codec, bytes.get_mut(header_len..)) {
            shift_picture_id(payload, packet.left_out_pictures);
        }
        Some(slot.insert(CachedPacket {
            sequence: packet.sequence,
            header: packet.header,
            audio_level: packet.audio_level,
            info,
            key_frame: self.key_frame_timestamp == Some(packet.header.timestamp),
            received_at: now,
            bytes,
            header_len,
        }))
    }

    /// Forgets everything: the publisher began to count anew.
    pub fn clear(&mut self) {
        self.slots.fill_with(|| None);
        self.key_frame_timestamp = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    fn packet(sequence_number: u16, timestamp: u32, payload: &[u8]) -> NewPacket<'_> {
        let header = RtpHeader { marker: false, payload_type: 101, sequence_number, timestamp, ssrc: 1 };
        NewPacket { sequence: u64::from(sequence_number), header, audio_level: None, left_out_pictures: 0, payload }
    }

    #[test]
    fn a_slot_holds_its_newest_packet_only() {
        let now = Instant::now();
        let mut cache = RtpCache::new(128);
        cache.insert(now, Codec::Opaque, packet(65_535, 0, b"old"));
        cache.insert(now, Codec::Opaque, packet(127, 0, b"new"));
        assert!(cache.get(65_535).is_none());
        assert_eq!(cache.get(127).unwrap().payload(), b"new");
        let max_age = Duration::from_secs(2);
        assert!(cache.get_recent(127, now + max_age, max_age).is_some());
        assert!(cache.get_recent(127, now + max_age + Duration::from_millis(1), max_age).is_none());
    }

    #[test]
    fn all_packets_of_a_key_frame_are_known_as_such() {
        let now = Instant::now();
        let mut cache = RtpCache::new(128);
        cache.insert(now, Codec::Vp8, packet(1, 10, &[0x10, 0x50]));
        cache.insert(now, Codec::Vp8, packet(2, 10, &[0x00, 0x77]));
        cache.insert(now, Codec::Vp8, packet(3, 20, &[0x10, 0x51]));
        let flags = [1, 2, 3].map(|seq| cache.get(seq).map(|p| (p.key_frame, p.info.key_frame_start)).unwrap());
        assert_eq!(flags, [(true, true), (true, false), (false, false)]);
    }
}
