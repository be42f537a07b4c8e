//! How much of what a client sends by data channels is read. What is not read fills its window, so that it has to wait:
//! nothing is lost, and nobody else pays.

use std::time::{Duration, Instant};

use crate::transport::data_limits::DataLimits;

/// What may be read at once: as much as is allowed in so long.
const BURST: Duration = Duration::from_secs(1);

/// Two token buckets. A message is read before its length is known, so that of bytes more may be taken than there are:
/// then nothing is read until they have come back.
#[derive(Debug, Default)]
pub(crate) struct DataAllowance {
    bytes: Debt,
    messages: Debt,
}

/// What of a bucket is used up, as the time that it takes to come back.
#[derive(Debug, Default)]
struct Debt {
    paid_at: Option<Instant>,
}

impl Debt {
    fn take(&mut self, now: Instant, time: Duration) {
        self.paid_at = Some(self.paid_at.map_or(now, |at| at.max(now)) + time);
    }

    /// When so much of the burst is free again.
    fn free_at(&self, needed: Duration) -> Option<Instant> {
        self.paid_at?.checked_sub(BURST.saturating_sub(needed))
    }
}

impl DataAllowance {
    /// Until when nothing more is read, if it is so.
    pub(crate) fn waits_until(&self, now: Instant, limits: &DataLimits) -> Option<Instant> {
        let message = BURST / limits.messages_per_second.max(1);
        let times = [self.bytes.free_at(Duration::ZERO), self.messages.free_at(message)];
        times.into_iter().flatten().max().filter(|at| *at > now)
    }

    /// A message of so many bytes was read.
    pub(crate) fn take(&mut self, now: Instant, len: usize, limits: &DataLimits) {
        let nanos = len as u64 * 8 * 1_000_000_000 / u64::from(limits.bitrate.max(1));
        self.bytes.take(now, Duration::from_nanos(nanos));
        self.messages.take(now, BURST / limits.messages_per_second.max(1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    /// Bytes and messages of so many bytes that are read in so long.
    fn read(len: usize, time: Duration) -> (usize, usize) {
        let (mut allowance, limits) = (DataAllowance::default(), DataLimits::default());
        let began = Instant::now();
        let (mut now, mut messages) = (began, 0);
        loop {
            match allowance.waits_until(now, &limits) {
                Some(at) if at > began + time => return (messages * len, messages),
                Some(at) => now = at,
                None => {
                    allowance.take(now, len, &limits);
                    messages += 1;
                }
            }
        }
    }

    #[test]
    fn a_seconds_worth_is_read_at_once_and_then_as_much_a_second() {
        for len in [1, 100, 1_000] {
            let (_, at_once) = read(len, Duration::ZERO);
            let (_, in_ten) = read(len, Duration::from_secs(10));
            assert!((999..=1_001).contains(&at_once) && (10_990..=11_010).contains(&in_ten), "{at_once} {in_ten}");
        }
        for len in [10_000, 262_144] {
            let (at_once, _) = read(len, Duration::ZERO);
            let (in_ten, _) = read(len, Duration::from_secs(10));
            assert!((1_000_000..=1_000_000 + len).contains(&at_once), "{at_once}");
            assert!((11_000_000..=11_000_000 + len).contains(&in_ten), "{in_ten}");
        }
    }
}
