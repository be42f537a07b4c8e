//! The bit rates of a stream's temporal layers, measured as its packets come in: what it costs to send it on up to one of
//! them.

use std::time::{Duration, Instant};

/// Temporal layers that are told apart, as many as any encoder makes. What is above counts with the highest.
pub(crate) const MAX_TEMPORAL_LAYERS: usize = 4;

/// A reading is of so long. With a key frame in it, it is high for the next one as well.
const INTERVAL: Duration = Duration::from_millis(500);

/// A stream that sent nothing for longer has no rate.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Bytes of a packet on the path beside its payload: RTP's header with extensions, and what is around it.
const OVERHEAD: u32 = 28 + 16 + 8 + 20;

/// The rates.
#[derive(Debug, Default)]
pub(crate) struct LayerRates {
    begun: Option<Instant>,
    newest: Option<Instant>,
    bytes: [u32; MAX_TEMPORAL_LAYERS],
    /// Bits per second.
    rates: Option<[u32; MAX_TEMPORAL_LAYERS]>,
}

impl LayerRates {
    /// A packet came.
    #[inline]
    pub(crate) fn count(&mut self, now: Instant, temporal_layer: u8, payload_len: usize) {
        if self.newest != Some(now) {
            self.advance(now);
        }
        let layer = usize::from(temporal_layer).min(MAX_TEMPORAL_LAYERS - 1);
        self.bytes[layer] = self.bytes[layer].saturating_add(payload_len as u32 + OVERHEAD);
    }

    fn advance(&mut self, now: Instant) {
        let has_paused = self.newest.is_none_or(|newest| now.saturating_duration_since(newest) > MAX_PAUSE);
        self.newest = Some(now);
        if has_paused {
            (self.begun, self.rates, self.bytes) = (Some(now), None, Default::default());
            return;
        }
        let begun = *self.begun.get_or_insert(now);
        let elapsed = now.saturating_duration_since(begun);
        if elapsed < INTERVAL {
            return;
        }
        let elapsed = elapsed.as_micros() as u64;
        let rates = std::mem::take(&mut self.bytes).map(|bytes| (u64::from(bytes) * 8_000_000 / elapsed) as u32);
        self.rates = Some(match self.rates {
            Some(before) => std::array::from_fn(|layer| before[layer] / 2 + rates[layer] / 2),
            None => rates,
        });
        self.begun = Some(now);
    }

    /// Bits per second of the layers up to each, from the lowest on as far as there are any. `None` while the stream is
    /// not measured.
    pub(crate) fn sums(&self, now: Instant) -> Option<impl Iterator<Item = u64> + use<>> {
        let is_recent = self.newest.is_some_and(|newest| now.saturating_duration_since(newest) <= MAX_PAUSE);
        let rates = self.rates.filter(|_| is_recent)?;
        let layers = rates.iter().rposition(|rate| *rate > 0)? + 1;
        Some(rates.into_iter().take(layers).scan(0, |sum, rate| {
            *sum += u64::from(rate);
            Some(*sum)
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    #[test]
    fn layers_add_up_and_end_with_the_stream() {
        let start = Instant::now();
        let mut rates = LayerRates::default();
        for number in 0..200_u32 {
            let now = start + Duration::from_millis(10) * number;
            rates.count(now, [0, 2, 1, 2][number as usize % 4], 1_250 - OVERHEAD as usize);
        }
        let end = start + Duration::from_secs(2);
        let sums: Vec<u64> = rates.sums(end).unwrap().collect();
        assert!(sums.iter().zip([250_000, 500_000, 1_000_000]).all(|(sum, expected)| sum.abs_diff(expected) < 20_000));
        assert!(rates.sums(end + Duration::from_secs(3)).is_none());
        rates.count(end + Duration::from_secs(4), 0, 100);
        assert!(rates.sums(end + Duration::from_secs(4)).is_none());
    }
}
