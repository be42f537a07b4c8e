//! How fast video leaves: what the estimate allows in some tens of milliseconds at once, and then at a rate a little
//! above it. Ordinary pictures leave as they come; of a key frame that is larger, the rest waits.

/// How much faster than the estimate video may leave: a key frame should not take long, nor fill the bottleneck.
/// libwebrtc's.
const FACTOR: f64 = 2.5;

/// What leaves at once: as much as takes so long at the estimate. Then most pictures of a stream that fits need no
/// timer, and what waits in the network for them is little.
const BURST_US: f64 = 40_000.0;

/// And at least this, three packets.
const MIN_BURST_BYTES: f64 = 3_600.0;

/// A token bucket in bytes.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    tokens: f64,
    filled_us: u64,
}

impl Pacer {
    /// Whether something may leave now. The estimate is asked for only if time has passed.
    #[inline]
    pub(super) fn has_room(&mut self, now_us: u64, estimate: impl FnOnce() -> Option<u64>) -> bool {
        if now_us != self.filled_us {
            let Some(estimate) = estimate() else { return true };
            self.fill(now_us, estimate);
        }
        self.tokens > 0.0
    }

    fn fill(&mut self, now_us: u64, estimate: u64) {
        let bytes_per_us = estimate as f64 / 8e6;
        let burst = (BURST_US * bytes_per_us).max(MIN_BURST_BYTES);
        let earned = now_us.saturating_sub(self.filled_us) as f64 * bytes_per_us * FACTOR;
        // Debts are limited as well: whoever has not asked for a while owes nothing.
        self.tokens = (self.tokens.max(-burst) + earned).min(burst);
        self.filled_us = now_us;
    }

    /// So many bytes leave.
    #[inline]
    pub(super) fn spend(&mut self, bytes: u16) {
        self.tokens -= f64::from(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_its_rate() {
        let mut pacer = Pacer::default();
        let mut left = |from_us: u64, us: u64| {
            let mut bytes = 0_u64;
            for now_us in (from_us..from_us + us).step_by(5_000) {
                while pacer.has_room(now_us, || Some(1_000_000)) {
                    pacer.spend(1_000);
                    bytes += 1_000;
                }
            }
            bytes
        };
        assert_eq!(left(1_000_000, 1), 5_000);
        let paced = left(1_000_001, 1_000_000);
        assert!((310_000..=318_000).contains(&paced), "{paced}");
    }
}
