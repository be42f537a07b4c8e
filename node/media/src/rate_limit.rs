//! How often something may happen: a burst at once, then once an interval (the generic cell rate algorithm, ITU-T
//! I.371).

use std::time::{Duration, Instant};

/// A limit and what of it is used up.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    interval: Duration,
    burst: u32,
    /// When the whole burst is there again.
    full_at: Option<Instant>,
}

impl RateLimit {
    /// `burst` at once, and one more each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, burst, full_at: None }
    }

    /// `count` in each `period`, all at once if need be; `None` for 0, which is no limit.
    pub fn per(count: u32, period: Duration) -> Option<Self> {
        period.checked_div(count).map(|interval| Self::new(count, interval))
    }

    /// Whether it may happen now, which uses one up.
    pub fn allow(&mut self, now: Instant) -> bool {
        self.allow_many(1, now)
    }

    /// Whether so many may happen now, which uses them up; all or none.
    pub fn allow_many(&mut self, count: u32, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.interval * count;
        let allowed = full_at - now <= self.interval * self.burst;
        if allowed {
            self.full_at = Some(full_at);
        }
        allowed
    }

    /// When it may happen next.
    pub fn next_at(&self, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        // What was used up beyond the burst has to come back first.
        now + (full_at + self.interval).saturating_duration_since(now + self.interval * self.burst)
    }

    /// Whether nothing is used up: then it is as good as new.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut limit = RateLimit::new(3, ms(10));
        let passed = |limit: &mut RateLimit, at| (0..10).filter(|_| limit.allow(at)).count();
        assert_eq!(passed(&mut limit, now), 3);
        assert_eq!(passed(&mut limit, now + ms(9)), 0);
        assert_eq!(passed(&mut limit, now + ms(10)), 1);
        assert_eq!(passed(&mut limit, now + ms(30)), 2);
        assert_eq!(passed(&mut limit, now + ms(1000)), 3, "no more than the burst comes together");
        assert!(limit.allow_many(2, now + ms(1020)));
        assert!(!limit.allow_many(2, now + ms(1030)), "there is one, which stays");
        assert!(limit.allow(now + ms(1030)));
        let next = limit.next_at(now + ms(1030));
        assert!(next > now + ms(1030) && limit.allow(next));
        assert_eq!(limit.next_at(now + ms(2000)), now + ms(2000));
    }
}
