//! A histogram of durations with a bounded relative error and a bounded size.

use std::time::Duration;

/// Sub-buckets for each power of two: a value is off by at most 1/32 of itself.
const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Powers of two of microseconds above the linear part: up to 2^32 us, more than an hour.
const POWERS: usize = 28;

/// Counts of durations, in microseconds, in buckets that grow with the value. Empty, it takes next to no memory.
#[derive(Clone, Default)]
pub struct Histogram {
    /// Up to the one of the largest value.
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quantiles = [0.5, 0.99].map(|quantile| self.quantile(quantile).unwrap_or_default());
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("p50", &quantiles[0])
            .field("p99", &quantiles[1])
            .field("max", &self.max())
            .finish()
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(us);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The value that the share `quantile` (0 to 1) of all values does not exceed; `None` when there is none.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = ((self.count as f64) * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0;
        let index = self.buckets.iter().position(|&count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper_bound(index).min(self.max_us)))
    }
}

fn bucket(us: u64) -> usize {
    if us < SUB as u64 {
        return us as usize;
    }
    let power = 63 - us.leading_zeros() - SUB_BITS;
    let sub = (us >> power) as usize - SUB;
    ((power as usize + 1) * SUB + sub).min(SUB * POWERS - 1)
}

fn upper_bound(index: usize) -> u64 {
    if index < SUB {
        return index as u64;
    }
    let power = index / SUB - 1;
    (((index % SUB + SUB + 1) as u64) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for ms in 1..=1000 {
            histogram.record(Duration::from_millis(ms));
        }
        for (quantile, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(quantile).unwrap().as_secs_f64() * 1000.0;
            assert!((found - ms).abs() <= ms / 32.0, "{quantile}: {found}");
        }
        assert_eq!(histogram.max(), Duration::from_secs(1));

        let mut sum = Histogram::default();
        sum.record(Duration::from_secs(2));
        sum.merge(&histogram);
        sum.merge(&Histogram::default());
        assert_eq!((sum.count(), sum.max()), (1001, Duration::from_secs(2)));
        assert_eq!(sum.quantile(0.9), histogram.quantile(0.901));
    }

    #[test]
    fn any_value_has_a_bucket() {
        let mut histogram = Histogram::default();
        for value in [Duration::ZERO, Duration::from_micros(31), Duration::from_micros(32), Duration::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.count(), 4);
    }
}
