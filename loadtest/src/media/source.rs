//! What synthetic media look like: which payloads are due when.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::stamp::{STAMP_LEN, write_stamp};
use super::vp8::{DESCRIPTOR_LEN, FRAME_HEADER_LEN, write_descriptor, write_frame_header};

/// RTP ticks in a second of video.
const VIDEO_CLOCK: u64 = 90_000;
/// RTP ticks in a second of Opus (RFC 7587 section 4.1).
const AUDIO_CLOCK: u64 = 48_000;
/// A source that was not asked for longer than this skips what it missed instead of bursting it.
const MAX_BACKLOG: Duration = Duration::from_millis(500);

/// Opus-like audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSource {
    /// Bytes of a packet; Opus speech at 32 kbit/s and 20 ms has 80.
    pub packet_bytes: usize,
    /// Loudness, 0 (loudest) to 127 (silent), as RFC 6464 counts it: -dBov.
    pub level: u8,
}

impl Default for AudioSource {
    fn default() -> Self {
        Self { packet_bytes: 80, level: 30 }
    }
}

/// VP8-like video: frames of a fixed size, key frames larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoSource {
    /// From frame to frame.
    pub frame_interval: Duration,
    /// Payload bytes of a delta frame.
    pub frame_bytes: usize,
    /// Payload bytes of a key frame.
    pub key_frame_bytes: usize,
    /// Largest payload of a packet.
    pub packet_bytes: usize,
    /// Temporal layers, 1 to 3, in the pattern 0, 0-1, 0-2-1-2.
    pub temporal_layers: u8,
}

impl VideoSource {
    /// 30 frames a second at about `bits_per_second`, with key frames five times as large as the others.
    pub fn at_bitrate(bits_per_second: usize) -> Self {
        let frame_bytes = (bits_per_second / 8 / 30).max(64);
        Self {
            frame_interval: Duration::from_micros(33_333),
            frame_bytes,
            key_frame_bytes: frame_bytes * 5,
            packet_bytes: 1150,
            temporal_layers: 1,
        }
    }

    /// The benchmark's stream: each 20 ms a burst of 10 packets with 1,200 bytes of payload, 500 packets a second.
    pub const fn bursts() -> Self {
        Self {
            frame_interval: Duration::from_millis(20),
            frame_bytes: 12_000,
            key_frame_bytes: 12_000,
            packet_bytes: 1200,
            temporal_layers: 1,
        }
    }
}

/// Synthetic audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Audio.
    Audio(AudioSource),
    /// Video.
    Video(VideoSource),
}

/// A payload that is to be sent now.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) bytes: Vec<u8>,
}

/// A source in motion.
#[derive(Debug)]
pub(super) struct Generator {
    source: Source,
    next: Instant,
    start: Instant,
    first_timestamp: u32,
    picture_id: u16,
    tl0_pic_idx: u8,
    frame: u64,
    key_frame_wanted: bool,
    pub(super) frames: u64,
    pub(super) key_frames: u64,
}

impl Generator {
    pub(super) fn new(now: Instant, source: Source, rng: &mut ChaCha8Rng) -> Self {
        Self {
            source,
            next: now,
            start: now,
            first_timestamp: rng.random(),
            picture_id: rng.random_range(0..0x8000),
            tl0_pic_idx: rng.random(),
            frame: 0,
            key_frame_wanted: true,
            frames: 0,
            key_frames: 0,
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// The RTP timestamp of an instant.
    pub(super) fn timestamp(&self, now: Instant) -> u32 {
        let clock = match self.source {
            Source::Audio(_) => AUDIO_CLOCK,
            Source::Video(_) => VIDEO_CLOCK,
        };
        let ticks = now.saturating_duration_since(self.start).as_micros() * u128::from(clock) / 1_000_000;
        self.first_timestamp.wrapping_add(ticks as u32)
    }

    /// Everything that is due.
    pub(super) fn poll(&mut self, now: Instant, sent_unix_ns: u64, rng: &mut ChaCha8Rng, out: &mut Vec<Payload>) {
        if now.saturating_duration_since(self.next) > MAX_BACKLOG {
            self.next = now;
        }
        while now >= self.next {
            let timestamp = self.timestamp(self.next);
            match self.source {
                Source::Audio(audio) => {
                    out.push(audio_payload(audio, timestamp, sent_unix_ns, rng));
                    self.next += Duration::from_millis(20);
                }
                Source::Video(video) => {
                    self.video_frame(video, timestamp, sent_unix_ns, rng, out);
                    self.next += video.frame_interval;
                }
            }
            self.frames += 1;
        }
    }

    fn video_frame(
        &mut self,
        video: VideoSource,
        timestamp: u32,
        sent_unix_ns: u64,
        rng: &mut ChaCha8Rng,
        out: &mut Vec<Payload>,
    ) {
        let key = std::mem::take(&mut self.key_frame_wanted);
        if key {
            self.key_frames += 1;
            self.frame = 0;
        }
        let temporal = match (video.temporal_layers, self.frame % 4) {
            (0 | 1, _) | (_, 0) => 0,
            (2, index) => (index % 2) as u8,
            (_, 2) => 1,
            _ => 2,
        };
        if temporal == 0 {
            self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        }
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.frame += 1;

        let total = if key { video.key_frame_bytes } else { video.frame_bytes };
        let packets = total.div_ceil(video.packet_bytes).max(1);
        let least = DESCRIPTOR_LEN + FRAME_HEADER_LEN + STAMP_LEN;
        for index in 0..packets {
            // Shares as equal as whole bytes allow, like libwebrtc's packetizer.
            let share = total * (index + 1) / packets - total * index / packets;
            let mut bytes = vec![0; share.max(least)];
            rng.fill(&mut bytes[DESCRIPTOR_LEN..]);
            if let Some(descriptor) = bytes.first_chunk_mut() {
                write_descriptor(descriptor, index == 0, self.picture_id, self.tl0_pic_idx, temporal);
            }
            if index == 0
                && let Some(header) = bytes[DESCRIPTOR_LEN..].first_chunk_mut()
            {
                write_frame_header(header, key);
            }
            write_stamp(&mut bytes, sent_unix_ns);
            out.push(Payload { timestamp, marker: index + 1 == packets, bytes });
        }
    }
}

fn audio_payload(audio: AudioSource, timestamp: u32, sent_unix_ns: u64, rng: &mut ChaCha8Rng) -> Payload {
    let mut bytes = vec![0; audio.packet_bytes.max(1 + STAMP_LEN)];
    rng.fill(&mut bytes[..]);
    // RFC 6716 section 3.1: CELT fullband, 20 ms, stereo, one frame.
    bytes[0] = 0xfc;
    write_stamp(&mut bytes, sent_unix_ns);
    Payload { timestamp, marker: false, bytes }
}
