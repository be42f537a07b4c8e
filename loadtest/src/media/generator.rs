//! A source in motion: which payloads are due when.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::encoder::Encoder;
use super::file::Player;
use super::packetizer::Packetizer;
use super::parts::Layer;
use super::source::Source;
use super::speech::Speech;

/// A source that was not asked for longer than this skips what it missed instead of bursting it.
const MAX_BACKLOG: Duration = Duration::from_millis(500);
/// Largest payload of a packet of a file.
const FILE_PACKET_BYTES: usize = 1150;
/// Loudness that is claimed of a file's audio, which nobody decodes: voice at -30 dBov.
const FILE_LEVEL: u8 = 0x80 | 30;

/// A payload that is to be sent.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// Value of the audio-level extension.
    pub(super) level: Option<u8>,
    /// The send time may be written into its end.
    pub(super) stampable: bool,
    pub(super) bytes: Vec<u8>,
}

/// A source in motion.
#[derive(Debug)]
pub(super) struct Generator {
    kind: Kind,
    packetizer: Packetizer,
    clock_rate: u32,
    start: Instant,
    first_timestamp: u32,
    pub(super) frames: u64,
    pub(super) key_frames: u64,
}

#[derive(Debug)]
enum Kind {
    Speech(Speech),
    Encoder(Encoder, usize),
    Player(Player),
}

impl Generator {
    pub(super) fn new(now: Instant, source: &Source, rng: &mut ChaCha8Rng) -> Self {
        let codec = source.codec();
        let first_timestamp = rng.random();
        let packetizer = Packetizer::new(source, rng);
        let kind = match source {
            Source::Audio(audio) => Kind::Speech(Speech::new(now, *audio, rng)),
            Source::Video(video) => Kind::Encoder(Encoder::new(now, *video), video.packet_bytes),
            Source::File(file) => Kind::Player(Player::new(now, file.clone())),
        };
        let clock_rate = codec.clock_rate();
        Self { kind, packetizer, clock_rate, start: now, first_timestamp, frames: 0, key_frames: 0 }
    }

    pub(super) fn next(&self) -> Instant {
        match &self.kind {
            Kind::Speech(speech) => speech.next(),
            Kind::Encoder(encoder, _) => encoder.next(),
            Kind::Player(player) => player.next(),
        }
    }

    pub(super) fn want_key_frame(&mut self) {
        match &mut self.kind {
            Kind::Speech(_) => {}
            Kind::Encoder(encoder, _) => encoder.want_key_frame(),
            Kind::Player(player) => player.want_key_frame(),
        }
    }

    /// Share (0 to 1) of the source's bitrate that may be used. Returns whether it is heeded: a file cannot.
    pub(super) fn set_share(&mut self, share: f64) -> bool {
        let Kind::Encoder(encoder, _) = &mut self.kind else { return false };
        encoder.set_share(share);
        true
    }

    /// The RTP timestamp of an instant.
    pub(super) fn timestamp(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.start);
        // Rounded: frames' intervals seldom are whole ticks.
        let ticks = (since.as_nanos() * u128::from(self.clock_rate) + 500_000_000) / 1_000_000_000;
        self.first_timestamp.wrapping_add(ticks as u32)
    }

    /// Everything that is due.
    pub(super) fn poll(&mut self, now: Instant, rng: &mut ChaCha8Rng, mut out: impl FnMut(Payload)) {
        if now.saturating_duration_since(self.next()) > MAX_BACKLOG {
            match &mut self.kind {
                Kind::Speech(speech) => speech.skip_to(now),
                Kind::Encoder(encoder, _) => encoder.skip_to(now),
                Kind::Player(player) => player.skip_to(now),
            }
        }
        while now >= self.next() {
            let timestamp = self.timestamp(self.next());
            self.frames += 1;
            self.frame(timestamp, rng, &mut out);
        }
    }

    fn frame(&mut self, timestamp: u32, rng: &mut ChaCha8Rng, out: &mut impl FnMut(Payload)) {
        let (payloads, synthetic) = match &mut self.kind {
            Kind::Speech(speech) => {
                let packet = speech.packet(rng);
                let level = Some(packet.level);
                out(Payload { timestamp, marker: packet.marker, level, stampable: true, bytes: packet.bytes });
                return;
            }
            Kind::Encoder(encoder, packet_bytes) => {
                let frame = encoder.frame(rng);
                self.key_frames += u64::from(frame.key);
                let layer = Layer { temporal: frame.temporal_layer, sync: frame.layer_sync, key: frame.key };
                let is_reference = !frame.is_disposable;
                let parts = self.packetizer.synthetic_frame(frame.key, is_reference, frame.bytes, *packet_bytes);
                (self.packetizer.packetize(&parts, layer, *packet_bytes), true)
            }
            Kind::Player(player) => {
                let (key, parts) = player.take();
                if matches!(self.packetizer, Packetizer::Opus) {
                    for part in parts {
                        let bytes = part.to_vec();
                        out(Payload { timestamp, marker: false, level: Some(FILE_LEVEL), stampable: false, bytes });
                    }
                    return;
                }
                self.key_frames += u64::from(key);
                (self.packetizer.packetize(parts, Layer::default(), FILE_PACKET_BYTES), false)
            }
        };
        let last = payloads.len().saturating_sub(1);
        for (index, bytes) in payloads.into_iter().enumerate() {
            let stampable = synthetic && self.packetizer.has_room_for_stamp(&bytes);
            out(Payload { timestamp, marker: index == last, level: None, stampable, bytes });
        }
    }
}
