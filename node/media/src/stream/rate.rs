//! Bit rates out of byte counters.

use std::time::{Duration, Instant};

/// The rate between the last two samples of a growing byte counter. Costs nothing per packet: whoever owns the counter
/// takes a sample a second.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    last: Option<(Instant, u64)>,
    bits_per_second: u64,
}

impl RateMeter {
    /// The counter stands at `bytes`.
    pub(crate) fn sample(&mut self, now: Instant, bytes: u64) {
        if let Some((at, before)) = self.last {
            let elapsed = now.saturating_duration_since(at);
            // Too short an interval tells little; the next sample covers it.
            if elapsed < Duration::from_millis(200) {
                return;
            }
            let bits = u128::from(bytes.saturating_sub(before)) * 8;
            self.bits_per_second = (bits * 1_000_000 / elapsed.as_micros()) as u64;
        }
        self.last = Some((now, bytes));
    }

    /// The rate at the last sample.
    pub(crate) fn bits_per_second(&self) -> u64 {
        self.bits_per_second
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    #[test]
    fn is_the_difference_over_time() {
        let start = Instant::now();
        let mut rate = RateMeter::default();
        rate.sample(start, 1_000);
        rate.sample(start + Duration::from_millis(100), 500_000);
        rate.sample(start + Duration::from_millis(500), 126_000);
        assert_eq!(rate.bits_per_second(), 2_000_000);
    }
}
