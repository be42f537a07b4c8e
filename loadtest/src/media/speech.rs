//! Talk spurts and the silence between them.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1};

use super::source::AudioSource;
use super::stamp::STAMP_LEN;

/// Time in a packet.
const PACKET_TIME: Duration = Duration::from_millis(20);
/// libopus interrupts discontinuous transmission as often, for the listener's comfort noise.
const COMFORT_NOISE_INTERVAL: Duration = Duration::from_millis(400);
/// Mean of a turn: a sentence or two.
const MEAN_TURN: Duration = Duration::from_secs(4);
/// How far the loudness of speech strays both ways, in dB.
const LEVEL_VARIATION: i16 = 10;
/// Silence, RFC 6464 section 3.
const SILENT: u8 = 127;
/// RFC 6716 section 3.1: CELT fullband, 20 ms, stereo, one frame.
const TOC: u8 = 0xfc;

/// Somebody who speaks and falls silent, for exponentially distributed times.
#[derive(Debug)]
pub(super) struct Speech {
    source: AudioSource,
    speaking: bool,
    /// When that changes, if ever.
    turn_ends: Option<Instant>,
    next: Instant,
    /// Nothing but comfort noise was sent last.
    paused: bool,
}

/// A packet of it.
pub(super) struct SpeechPacket {
    pub(super) bytes: Vec<u8>,
    /// Begins a spurt (RFC 3551 section 4.1).
    pub(super) marker: bool,
    /// Value of the audio-level extension: voice activity and level.
    pub(super) level: u8,
}

impl Speech {
    pub(super) fn new(now: Instant, source: AudioSource, rng: &mut ChaCha8Rng) -> Self {
        let mut speech = Self { source, speaking: false, turn_ends: None, next: now, paused: true };
        speech.speaking = rng.random::<f64>() < source.talk;
        speech.turn_ends = speech.turn(rng).map(|turn| now + turn);
        speech
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn skip_to(&mut self, now: Instant) {
        self.next = now;
    }

    /// The packet that is due at [`Self::next`].
    pub(super) fn packet(&mut self, rng: &mut ChaCha8Rng) -> SpeechPacket {
        let at = self.next;
        while let Some(end) = self.turn_ends.filter(|&end| end <= at) {
            self.speaking = !self.speaking;
            self.turn_ends = self.turn(rng).map(|turn| end + turn);
        }
        let pauses = self.source.dtx && !self.speaking;
        let paused = std::mem::replace(&mut self.paused, pauses);
        let marker = self.source.dtx && self.speaking && paused;
        self.next = at + if pauses { self.pause(at) } else { PACKET_TIME };
        let least = 1 + STAMP_LEN;
        let mut bytes = vec![0; if pauses { least } else { self.source.packet_bytes.max(least) }];
        bytes[0] = TOC;
        SpeechPacket { bytes, marker, level: self.level(rng) }
    }

    /// From a packet of comfort noise to the next packet, in whole packets' times.
    fn pause(&self, at: Instant) -> Duration {
        let Some(end) = self.turn_ends else { return COMFORT_NOISE_INTERVAL };
        let left = end.saturating_duration_since(at).as_nanos().div_ceil(PACKET_TIME.as_nanos());
        (PACKET_TIME * u32::try_from(left).unwrap_or(u32::MAX).clamp(1, 1000)).min(COMFORT_NOISE_INTERVAL)
    }

    /// How long this turn lasts; `None`: for ever.
    fn turn(&self, rng: &mut ChaCha8Rng) -> Option<Duration> {
        let talk = self.source.talk;
        if talk <= 0.0 || talk >= 1.0 {
            return None;
        }
        let mean = if self.speaking { MEAN_TURN } else { MEAN_TURN.mul_f64((1.0 - talk) / talk) };
        let factor: f64 = Exp1.sample(rng);
        Some(mean.mul_f64(factor))
    }

    fn level(&self, rng: &mut ChaCha8Rng) -> u8 {
        if !self.speaking {
            return SILENT;
        }
        let level = i16::from(self.source.level) + rng.random_range(-LEVEL_VARIATION..=LEVEL_VARIATION);
        0x80 | level.clamp(0, i16::from(SILENT) - 1) as u8
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Everything that is said in an hour, with when it is.
    fn hour(source: AudioSource, seed: u64) -> Vec<(Duration, SpeechPacket)> {
        println!("seed {seed}");
        let start = crate::clock::tests::instant();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut speech = Speech::new(start, source, &mut rng);
        let mut packets = Vec::new();
        while speech.next() < start + HOUR {
            let at = speech.next() - start;
            packets.push((at, speech.packet(&mut rng)));
        }
        packets
    }

    #[test]
    fn the_share_of_speech_is_as_asked() {
        for (talk, seed) in [(0.1, 1), (0.5, 2), (0.9, 3)] {
            let packets = hour(AudioSource { talk, ..AudioSource::default() }, seed);
            assert_eq!(packets.len(), 180_000);
            let spoken = packets.iter().filter(|(_, packet)| packet.level & 0x80 != 0).count();
            let share = spoken as f64 / packets.len() as f64;
            assert!((share - talk).abs() < 0.05, "{share} of {talk}");
        }
    }

    #[test]
    fn silence_is_not_sent_but_for_comfort_noise() {
        let packets = hour(AudioSource { talk: 0.3, dtx: true, ..AudioSource::default() }, 4);
        let mut spurts = 0;
        for pair in packets.windows(2) {
            let ((before, silence), (after, next)) = (&pair[0], &pair[1]);
            let gap = *after - *before;
            assert!(gap <= COMFORT_NOISE_INTERVAL && gap.as_nanos() % PACKET_TIME.as_nanos() == 0);
            let (was_silent, is_silent) = (silence.level == SILENT, next.level == SILENT);
            assert_eq!(next.marker, was_silent && !is_silent, "{before:?}");
            assert!(was_silent || gap == PACKET_TIME);
            assert_eq!(next.bytes.len(), if is_silent { 17 } else { 80 });
            spurts += u32::from(next.marker);
        }
        // A spurt and its silence last 13 s in the mean.
        assert!((200..350).contains(&spurts), "{spurts}");
    }

    #[test]
    fn some_never_speak_and_some_never_stop() {
        let silent = hour(AudioSource { talk: 0.0, dtx: true, ..AudioSource::default() }, 5);
        assert!(silent.len() == 9000 && silent.iter().all(|(_, packet)| packet.level == SILENT && !packet.marker));
        let loud = hour(AudioSource { talk: 1.0, dtx: true, ..AudioSource::default() }, 6);
        assert!(
            loud.len() == 180_000 && loud.iter().all(|(_, packet)| (0x80 + 20..=0x80 + 40).contains(&packet.level))
        );
    }
}
