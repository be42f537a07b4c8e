//! Bits per second over the last second.

use std::time::{Duration, Instant};

const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_millis(100);

/// Counts bytes in ten buckets of 100 ms.
#[derive(Debug, Clone)]
pub(super) struct RollingRate {
    start: Instant,
    /// When the newest bucket ends: most of what is added is of the same one.
    ends: Instant,
    newest: u64,
    bytes: [u64; BUCKETS],
}

impl RollingRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, ends: now + BUCKET, newest: 0, bytes: [0; BUCKETS] }
    }

    #[inline]
    pub(super) fn add(&mut self, now: Instant, bytes: usize) {
        if now >= self.ends {
            self.advance(now);
        }
        self.bytes[self.newest as usize % BUCKETS] += bytes as u64;
    }

    #[cold]
    fn advance(&mut self, now: Instant) {
        let bucket = self.bucket(now);
        for stale in (self.newest + 1..=bucket).take(BUCKETS) {
            self.bytes[stale as usize % BUCKETS] = 0;
        }
        self.newest = bucket;
        self.ends = self.start + Duration::from_millis((bucket + 1) * BUCKET.as_millis() as u64);
    }

    pub(super) fn bits_per_second(&self, now: Instant) -> u64 {
        let oldest = (self.bucket(now) + 1).saturating_sub(BUCKETS as u64);
        let alive = (oldest..=self.newest).rev().take(BUCKETS);
        8 * alive.map(|bucket| self.bytes[bucket as usize % BUCKETS]).sum::<u64>()
    }

    fn bucket(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64 / BUCKET.as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn counts_the_last_second_only() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = RollingRate::new(start);
        for ms in (0..3000).step_by(10) {
            meter.add(at(ms), 1250);
        }
        assert_eq!(meter.bits_per_second(at(2999)), 1_000_000);
        assert_eq!(meter.bits_per_second(at(3499)), 500_000);
        assert_eq!(meter.bits_per_second(at(4000)), 0);
        meter.add(at(60_000), 125);
        assert_eq!(meter.bits_per_second(at(60_050)), 1000);
    }
}
