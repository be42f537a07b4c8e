//! Spreads what a frame is made of over time, as libwebrtc's pacer does.

use std::time::{Duration, Instant};

/// Packets leave at this multiple of the bitrate, libwebrtc's `kDefaultPaceMultiplier`.
const PACE: f64 = 2.5;
/// What leaves at once, in time of the pace: an ordinary frame at 25 frames a second. What is left to spread are key
/// frames.
const BURST: Duration = Duration::from_millis(40);
/// What waits is gone within this time, whatever the pace: libwebrtc's `kMaxExpectedQueueLength`.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// A leaky bucket.
#[derive(Debug)]
pub(super) struct Pacer {
    bits_per_second: f64,
    /// When everything that left would have left, had it left evenly.
    even: Instant,
}

impl Pacer {
    pub(super) fn new(now: Instant, bits_per_second: f64) -> Self {
        Self { bits_per_second, even: now }
    }

    /// The bitrate of what is paced.
    pub(super) fn set_bits_per_second(&mut self, bits_per_second: f64) {
        self.bits_per_second = bits_per_second;
    }

    /// When the next packet may leave.
    pub(super) fn next(&self) -> Instant {
        self.even.checked_sub(BURST).unwrap_or(self.even)
    }

    /// A packet leaves, and so many bytes wait behind it.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: usize, waiting_bytes: usize) {
        let pace = (self.bits_per_second * PACE).max(waiting_bytes as f64 * 8.0 / MAX_WAIT.as_secs_f64());
        if pace > 0.0 {
            self.even = self.even.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / pace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `packets` packets of 1000 bytes leaves.
    fn leaves(bits_per_second: f64, packets: usize) -> Vec<Duration> {
        let start = crate::clock::tests::instant();
        let mut now = start;
        let mut pacer = Pacer::new(now, bits_per_second);
        let departure = |index: usize| {
            now = now.max(pacer.next());
            pacer.on_sent(now, 1000, (packets - 1 - index) * 1000);
            now - start
        };
        (0..packets).map(departure).collect()
    }

    #[test]
    fn a_frame_leaves_at_once_and_a_key_frame_is_spread() {
        // 2 Mbit/s: 25,000 bytes in 40 ms at 2.5 times the bitrate.
        let departures = leaves(2_000_000.0, 100);
        assert_eq!(departures.iter().filter(|at| at.is_zero()).count(), 26);
        let last = departures.last().unwrap().as_secs_f64();
        assert!((last - (99.0 * 8.0 / 5000.0 - 0.04)).abs() < 1e-6, "{last}");
    }

    #[test]
    fn nothing_waits_for_ever() {
        let departures = leaves(1000.0, 100);
        assert!(*departures.last().unwrap() < Duration::from_secs(20), "{departures:?}");
        assert!(departures[50] < MAX_WAIT * 2);
    }
}
