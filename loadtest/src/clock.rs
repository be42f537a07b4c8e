//! Wall-clock time as a function of the monotonic clock: read once, then only computed.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::media::Stamp;

/// Seconds between the NTP epoch (1900) and the Unix epoch (1970).
const NTP_OFFSET_S: u64 = 2_208_988_800;

/// A pair of readings of the two clocks. All users of one process share one, so that delays between them are exact.
/// Delays of what other processes sent are only told if somebody said how far their clocks are apart.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
    base_unix: Duration,
    origin: u32,
    /// Nanoseconds that this clock is ahead of those of other processes.
    ahead_ns: Option<i64>,
}

impl Clock {
    /// `base_unix` is the time since the Unix epoch at the instant `base`.
    pub fn new(base: Instant, base_unix: Duration) -> Self {
        Self { base, base_unix, origin: 0, ahead_ns: None }
    }

    /// Reads both clocks: for drivers, benchmarks and tests.
    #[allow(clippy::disallowed_methods, reason = "this is where a driver's time comes from")]
    pub fn system() -> Self {
        static ORIGIN: OnceLock<u32> = OnceLock::new();
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { origin: *ORIGIN.get_or_init(rand::random), ..Self::new(Instant::now(), unix) }
    }

    /// A clock that is `ahead_ns` nanoseconds ahead of those of other processes (behind them, if that is negative).
    #[must_use]
    pub fn ahead_of_others(self, ahead_ns: Option<i64>) -> Self {
        Self { ahead_ns, ..self }
    }

    /// A clock whose stamps say that they are `origin`'s: simulations tell their users apart by it.
    #[must_use]
    pub fn of_origin(self, origin: u32) -> Self {
        Self { origin, ..self }
    }

    /// What a packet is stamped with.
    pub fn stamp(&self, now: Instant) -> Stamp {
        Stamp { origin: self.origin, unix_ns: self.unix_ns(now) }
    }

    /// How long ago a packet was stamped; `None` where another process did it whose clock nobody has compared with this
    /// one.
    pub fn delay_since(&self, stamp: Stamp, now: Instant) -> Option<Duration> {
        let ahead = if stamp.origin == self.origin { 0 } else { self.ahead_ns? };
        let here = i128::from(self.unix_ns(now)) - i128::from(ahead);
        let delay = (here - i128::from(stamp.unix_ns)).max(0);
        Some(Duration::from_nanos(u64::try_from(delay).unwrap_or(u64::MAX)))
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
    fn delays_across_processes_need_the_clocks_distance() {
        let now = instant();
        let clock = Clock::new(now, Duration::from_secs(100));
        let later = now + Duration::from_millis(30);
        assert_eq!(clock.delay_since(clock.stamp(now), later), Some(Duration::from_millis(30)));
        let other = Stamp { origin: 7, ..clock.stamp(now) };
        assert_eq!(clock.delay_since(other, later), None);
        let told = |ahead_ms: i64| clock.ahead_of_others(Some(ahead_ms * 1_000_000)).delay_since(other, later);
        assert_eq!(told(10), Some(Duration::from_millis(20)));
        assert_eq!(told(-10), Some(Duration::from_millis(40)));
        assert_eq!(told(50), Some(Duration::ZERO), "a clock that is farther ahead than was said");
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
