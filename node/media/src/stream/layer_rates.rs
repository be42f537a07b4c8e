//! The bit rates of a stream's layers, measured as its packets come in: what it costs to send it on up to one of them.

use std::time::{Duration, Instant};

use sluice_proto::pipe::MAX_STREAMS;

use crate::messages::LayerBitrate;
use crate::wire::codec::PayloadInfo;

/// Temporal layers that are told apart, as many as any encoder makes. What is above counts with the highest.
const MAX_TEMPORAL_LAYERS: usize = 4;

/// By spatial layer, and by temporal layer in it.
type OfLayers = [[u32; MAX_TEMPORAL_LAYERS]; MAX_STREAMS];

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
    bytes: OfLayers,
    /// Bits per second.
    rates: Option<OfLayers>,
    /// Whoever gets a spatial layer does not need those below, but for key pictures.
    unused_above: bool,
}

impl LayerRates {
    /// A packet came.
    #[inline]
    pub(crate) fn count(&mut self, now: Instant, info: &PayloadInfo, payload_len: usize) {
        if self.newest != Some(now) {
            self.advance(now);
        }
        if info.spatial_layer == 0 {
            self.unused_above = info.unused_above;
        }
        let spatial = usize::from(info.spatial_layer).min(MAX_STREAMS - 1);
        let temporal = usize::from(info.temporal_layer).min(MAX_TEMPORAL_LAYERS - 1);
        let bytes = &mut self.bytes[spatial][temporal];
        *bytes = bytes.saturating_add(payload_len as u32 + OVERHEAD);
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
        let rate = |bytes: u32| (u64::from(bytes) * 8_000_000 / elapsed) as u32;
        let rates = std::mem::take(&mut self.bytes).map(|layers| layers.map(rate));
        self.rates = Some(match self.rates {
            Some(before) => std::array::from_fn(|spatial| {
                std::array::from_fn(|temporal| before[spatial][temporal] / 2 + rates[spatial][temporal] / 2)
            }),
            None => rates,
        });
        self.begun = Some(now);
    }

    /// Bits per second that it takes to send on spatial layers up to one, or all of them, with the temporal layers up
    /// to each, from the lowest on as far as there are any. `None` while the stream is not measured.
    pub(crate) fn sums(&self, now: Instant, spatial: Option<u8>) -> Option<impl Iterator<Item = u64> + use<>> {
        let is_recent = self.newest.is_some_and(|newest| now.saturating_duration_since(newest) <= MAX_PAUSE);
        let rates = self.rates.filter(|_| is_recent)?;
        let needed = match spatial.map(usize::from) {
            Some(spatial) if self.unused_above => spatial..=spatial,
            Some(spatial) => 0..=spatial,
            None => 0..=MAX_STREAMS - 1,
        };
        let rate = |temporal: usize| -> u64 {
            let layers = rates.get(needed.clone()).unwrap_or_default();
            layers.iter().map(|layer| u64::from(layer[temporal])).sum()
        };
        let rates: [u64; MAX_TEMPORAL_LAYERS] = std::array::from_fn(rate);
        let layers = rates.iter().rposition(|rate| *rate > 0)? + 1;
        Some(rates.into_iter().take(layers).scan(0, |sum, rate| {
            *sum += rate;
            Some(*sum)
        }))
    }

    /// The same of every layer that comes in, if there are several.
    pub(crate) fn by_layer(&self, now: Instant) -> Vec<LayerBitrate> {
        let comes = |spatial: &u8| {
            let layers = self.rates.and_then(|rates| rates.get(usize::from(*spatial)).copied());
            layers.is_some_and(|layers| layers.iter().any(|rate| *rate > 0))
        };
        let of_spatial = |spatial: u8| {
            let sums = self.sums(now, Some(spatial)).into_iter().flatten();
            (0..).zip(sums).map(move |(temporal, bitrate)| LayerBitrate { spatial, temporal, bitrate })
        };
        let layers: Vec<_> = (0..MAX_STREAMS as u8).filter(comes).flat_map(of_spatial).collect();
        if layers.len() > 1 { layers } else { Vec::new() }
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
            let info = PayloadInfo { temporal_layer: [0, 2, 1, 2][number as usize % 4], ..PayloadInfo::default() };
            rates.count(now, &info, 1_250 - OVERHEAD as usize);
        }
        let end = start + Duration::from_secs(2);
        let sums: Vec<u64> = rates.sums(end, None).unwrap().collect();
        assert!(sums.iter().zip([250_000, 500_000, 1_000_000]).all(|(sum, expected)| sum.abs_diff(expected) < 20_000));
        let by_layer = rates.by_layer(end).into_iter().map(|of| ((of.spatial, of.temporal), of.bitrate));
        assert!(by_layer.eq((0..).map(|temporal| (0, temporal)).zip(sums)));
        assert!(rates.sums(end + Duration::from_secs(3), None).is_none());
        rates.count(end + Duration::from_secs(4), &PayloadInfo::default(), 100);
        assert!(rates.sums(end + Duration::from_secs(4), None).is_none());
    }
    /// Three spatial layers of 100, 200 and 400 kbit/s.
    #[test]
    fn what_is_below_a_spatial_layer_counts_if_it_is_needed() {
        for (unused_above, expected) in [(false, [100_000, 300_000, 700_000]), (true, [100_000, 200_000, 400_000])] {
            let start = Instant::now();
            let mut rates = LayerRates::default();
            for number in 0..200_u32 {
                let now = start + Duration::from_millis(10) * number;
                for (spatial_layer, len) in (0..).zip([125, 250, 500]) {
                    let info = PayloadInfo { spatial_layer, unused_above, ..PayloadInfo::default() };
                    rates.count(now, &info, len - OVERHEAD as usize);
                }
            }
            let end = start + Duration::from_secs(2);
            for (spatial, expected) in (0..).zip(expected) {
                let sum = rates.sums(end, Some(spatial)).unwrap().last().unwrap();
                assert!(sum.abs_diff(expected) < expected / 20, "{sum} of {expected}");
            }
            let layers = rates.by_layer(end).into_iter().map(|of| (of.spatial, of.temporal));
            assert!(layers.eq([(0, 0), (1, 0), (2, 0)]));
        }
    }
}
