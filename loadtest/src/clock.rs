//! Wall-clock time as a function of the monotonic clock: read once, then only computed.

use std::time::{Duration, Instant};

/// Seconds between the NTP epoch (1900) and the Unix epoch (1970).
const NTP_OFFSET_S: u64 = 2_208_988_800;

/// A pair of readings of the two clocks. All users of one process share one, so that delays between them are exact;
/// between processes of one machine it is as good as its clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
    base_unix: Duration,
}

impl Clock {
    /// `base_unix` is the time since the Unix epoch at the instant `base`.
    pub fn new(base: Instant, base_unix: Duration) -> Self {
        Self { base, base_unix }
    }

    /// Reads both clocks: for drivers, benchmarks and tests.
    #[allow(clippy::disallowed_methods, reason = "this is where a driver's time comes from")]
    pub fn system() -> Self {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::new(Instant::now(), unix)
    }

    /// Time since the Unix epoch.
    pub fn unix(&self, now: Instant) -> Duration {
        match now.checked_duration_since(self.base) {
            Some(since) => self.base_unix + since,
            None => self.base_unix.saturating_sub(self.base.duration_since(now)),
        }
    }

    /// Nanoseconds since the Unix epoch.
    pub fn unix_ns(&self, now: Instant) -> u64 {
        u64::try_from(self.unix(now).as_nanos()).unwrap_or(u64::MAX)
    }

    /// NTP time, 32.32 fixed point (RFC 3550 section 4).
    pub fn ntp(&self, now: Instant) -> u64 {
        let unix = self.unix(now);
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        ((unix.as_secs() + NTP_OFFSET_S) << 32) | fraction
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An instant to count from, where the test's time is virtual.
    #[allow(clippy::disallowed_methods, reason = "there is no other way to make one")]
    pub(crate) fn instant() -> Instant {
        Instant::now()
    }

    #[test]
    fn ntp_and_unix_time_agree() {
        let base = instant();
        let clock = Clock::new(base, Duration::from_millis(1500));
        assert_eq!(clock.unix_ns(base + Duration::from_millis(250)), 1_750_000_000);
        assert_eq!(clock.unix_ns(base - Duration::from_millis(250)), 1_250_000_000);
        assert_eq!(clock.ntp(base), ((NTP_OFFSET_S + 1) << 32) | (1 << 31));
    }
}
