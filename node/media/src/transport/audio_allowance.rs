//! How much audio a client may send. Audio is held back nowhere, neither on pipes nor on the way to a client: so
//! whoever sends much of it, or calls so what is none, would take the place of everybody's video.

use std::time::{Duration, Instant};

use crate::bandwidth::OVERHEAD;

/// What may come at once: as much as is allowed in so long. More than a client saves up while its network is away.
const BURST: Duration = Duration::from_secs(1);

/// In a bit.
const UNITS: u64 = 1_000_000;

/// A token bucket, in millionths of a bit, so that each microsecond counts.
#[derive(Debug, Default)]
pub(crate) struct AudioAllowance {
    left: u64,
    filled_at: Option<Instant>,
}

impl AudioAllowance {
    /// Whether a packet of `len` bytes may come, of so many bits per second that may. If so it is counted.
    pub(crate) fn take(&mut self, now: Instant, len: usize, bits_per_second: u32) -> bool {
        let earned = |time: Duration| u64::from(bits_per_second) * time.min(BURST).as_micros() as u64;
        let since = self.filled_at.replace(now).map_or(BURST, |at| now.saturating_duration_since(at));
        self.left = (self.left + earned(since)).min(earned(BURST));
        let costs = (len + OVERHEAD) as u64 * 8 * UNITS;
        let left = self.left.checked_sub(costs);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    /// Of ten seconds with a packet of so many bytes each so often, how many bits per second came through.
    fn passed(len: usize, interval: Duration) -> u64 {
        let (mut allowance, start) = (AudioAllowance::default(), Instant::now());
        // What is saved up at first is gone.
        while allowance.take(start, 1_000, 600_000) {}
        let packets = (10_000_000 / interval.as_micros()) as u32;
        let passed = (1..=packets).filter(|packet| allowance.take(start + interval * *packet, len, 600_000)).count();
        (passed * (len + OVERHEAD) * 8) as u64 / 10
    }

    #[test]
    fn voices_pass_and_what_is_called_so_does_up_to_the_limit() {
        let ms = Duration::from_millis;
        assert_eq!(passed(110, ms(20)), 61_600, "all of it");
        for (len, interval) in [(1_100, ms(1)), (1, Duration::from_micros(300))] {
            let passed = passed(len, interval);
            assert!((590_000..=601_000).contains(&passed), "{passed}");
        }
    }
}
