//! A model of a real-time encoder: which frame is a key frame, which layer it is of, and how large it is.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::source::VideoSource;

/// Time in which rate control makes up for what a frame was too large.
const BUFFER: Duration = Duration::from_secs(1);
/// A frame is not made smaller than this share of the mean to make up for others.
const SMALLEST: f64 = 0.5;
/// Nor larger than this multiple.
const LARGEST: f64 = 1.5;
/// Sizes of a layer's frames in means. libwebrtc gives 60% to the lower of two layers, and of three 40% to the lowest
/// and 60% to the lower two (`SimulcastRateAllocator`).
const LAYER_SIZES: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [1.2, 0.8, 0.0], [1.6, 0.8, 0.8]];
/// Layers of four frames after a key frame.
const LAYER_PATTERNS: [[u8; 4]; 3] = [[0, 0, 0, 0], [0, 1, 0, 1], [0, 2, 1, 2]];

/// An encoder in motion.
#[derive(Debug)]
pub(super) struct Encoder {
    source: VideoSource,
    /// Share of the source's bitrate that may be used.
    share: f64,
    next: Instant,
    /// When the next key frame comes that nobody asked for.
    next_key_frame: Option<Instant>,
    key_frame_wanted: bool,
    /// Since the last key frame.
    frame: usize,
    /// Bytes that were used above the bitrate.
    debt: f64,
}

/// A frame of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncodedFrame {
    pub(super) key: bool,
    pub(super) temporal_layer: u8,
    /// Refers to the base layer only.
    pub(super) layer_sync: bool,
    /// No other frame refers to it.
    pub(super) is_disposable: bool,
    pub(super) bytes: usize,
}

impl Encoder {
    pub(super) fn new(now: Instant, source: VideoSource) -> Self {
        Self { source, share: 1.0, next: now, next_key_frame: None, key_frame_wanted: true, frame: 0, debt: 0.0 }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn skip_to(&mut self, now: Instant) {
        self.next = now;
    }

    pub(super) fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// Share (0 to 1) of the source's bitrate that may be used from now on.
    pub(super) fn set_share(&mut self, share: f64) {
        self.share = share;
    }

    /// The frame that is due at [`Self::next`].
    pub(super) fn frame(&mut self, rng: &mut ChaCha8Rng) -> EncodedFrame {
        let at = self.next;
        self.next = at + self.source.frame_interval;
        let key = std::mem::take(&mut self.key_frame_wanted) || self.next_key_frame.is_some_and(|due| at >= due);
        if key {
            self.frame = 0;
            self.next_key_frame = self.source.key_frame_interval.map(|interval| at + interval);
        }
        let layers = usize::from(self.source.scalability_mode.temporal_layers.clamp(1, 3)) - 1;
        let position = self.frame % 4;
        let temporal_layer = LAYER_PATTERNS[layers][position];
        self.frame += 1;

        let mean = self.source.frame_bytes as f64 * self.share;
        let size = if key {
            self.source.key_frame_bytes as f64 * self.share
        } else {
            let per_buffer = BUFFER.as_secs_f64() / self.source.frame_interval.as_secs_f64();
            let target = (mean - self.debt / per_buffer).clamp(mean * SMALLEST, mean * LARGEST);
            target * LAYER_SIZES[layers][usize::from(temporal_layer)] * self.variation(rng)
        };
        let largest_debt = mean * BUFFER.as_secs_f64() / self.source.frame_interval.as_secs_f64();
        self.debt = (self.debt + size - mean).clamp(-largest_debt, largest_debt);
        let layer_sync = temporal_layer > 0 && position <= 2;
        let is_disposable = temporal_layer > 0 && usize::from(temporal_layer) == layers;
        EncodedFrame { key, temporal_layer, layer_sync, is_disposable, bytes: size as usize }
    }

    /// A log-normal factor whose mean is 1.
    fn variation(&self, rng: &mut ChaCha8Rng) -> f64 {
        let sigma = self.source.size_variation;
        if sigma == 0.0 {
            return 1.0;
        }
        let normal: f64 = StandardNormal.sample(rng);
        (sigma * normal - sigma * sigma / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;
    use crate::scenario::ScalabilityMode;

    fn frames(source: VideoSource, share: f64, count: usize, seed: u64) -> Vec<EncodedFrame> {
        let mut encoder = Encoder::new(crate::clock::tests::instant(), source);
        encoder.set_share(share);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| encoder.frame(&mut rng)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_bitrate_is_kept(bitrate in 100_000..5_000_000_u32, layers in 1..=3_u8, share in 0.1..1.0_f64,
                interval in prop::option::of(2..20_u64), seed: u64) {
            let source = VideoSource {
                scalability_mode: ScalabilityMode::temporal(layers),
                key_frame_interval: interval.map(Duration::from_secs),
                ..VideoSource::at_bitrate(bitrate)
            };
            let frames = frames(source, share, 1800, seed);
            let bits = frames.iter().map(|frame| frame.bytes as f64 * 8.0).sum::<f64>() / 60.0;
            let wanted = f64::from(bitrate) * share;
            prop_assert!((bits / wanted - 1.0).abs() < 0.05, "{bits} of {wanted}");
            let key_frames = frames.iter().filter(|frame| frame.key).count();
            prop_assert_eq!(key_frames, interval.map_or(1, |seconds| 60_usize.div_ceil(seconds as usize)));
        }
    }

    #[test]
    fn layers_have_their_pattern_and_their_sizes() {
        let source =
            VideoSource { scalability_mode: ScalabilityMode::temporal(3), ..VideoSource::at_bitrate(1_000_000) };
        let frames = frames(source, 1.0, 4000, 1);
        assert_eq!(frames[..6].iter().map(|frame| frame.temporal_layer).collect::<Vec<_>>(), [0, 2, 1, 2, 0, 2]);
        assert_eq!(frames[..4].iter().map(|frame| frame.layer_sync).collect::<Vec<_>>(), [false, true, true, false]);
        let mean = |layer| {
            let sizes = frames[1..].iter().filter(|frame| frame.temporal_layer == layer).map(|frame| frame.bytes);
            sizes.clone().sum::<usize>() as f64 / sizes.count() as f64
        };
        assert!((mean(0) / mean(2) - 2.0).abs() < 0.1 && (mean(1) / mean(2) - 1.0).abs() < 0.1);
        // 300 ms of the bitrate.
        assert_eq!(frames[0].bytes, 37_500);
    }

    #[test]
    fn constant_frames_are_constant() {
        let frames = frames(VideoSource::bursts(), 1.0, 100, 1);
        assert!(frames.iter().all(|frame| frame.bytes == 12_000));
    }
}
