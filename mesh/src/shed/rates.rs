//! Offered rates: of a route by layer, and of audio.

use std::time::{Duration, Instant};

use crate::{FrameClass, MAX_SPATIAL, MAX_TEMPORAL};

/// Rates are measured over this time: long enough to hold a few frames of 5 a second, short enough to see a camera
/// start.
const WINDOW: Duration = Duration::from_millis(500);

/// Bits per second of one thing that is offered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RateMeter {
    bytes: u64,
    bits_per_second: u64,
    measured: bool,
}

impl RateMeter {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Ends a window that took `elapsed`.
    pub(super) fn roll(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let now = (self.bytes as f64 * 8.0 / seconds) as u64;
        // What begins counts at once. Otherwise a change counts by a quarter: neither a key frame nor the pause between
        // two frames is one.
        let begins = !self.measured || self.bits_per_second == 0;
        self.bits_per_second = if begins { now } else { (self.bits_per_second * 3 + now) / 4 };
        self.measured = true;
        self.bytes = 0;
    }

    pub(super) fn get(&self) -> u64 {
        self.bits_per_second
    }
}

/// Ticks the windows of all meters alike.
#[derive(Debug, Default)]
pub(super) struct Window {
    began: Option<Instant>,
}

impl Window {
    /// How long the window took that ends now, if one does.
    pub(super) fn end(&mut self, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(*self.began.get_or_insert(now));
        if elapsed < WINDOW {
            return None;
        }
        self.began = Some(now);
        Some(elapsed)
    }
}

const SPATIALS: usize = MAX_SPATIAL as usize + 1;
const TEMPORALS: usize = MAX_TEMPORAL as usize + 1;

/// What a video route offers, by layer.
#[derive(Debug, Default)]
pub(super) struct LayerRates([[RateMeter; TEMPORALS]; SPATIALS]);

impl LayerRates {
    pub(super) fn add(&mut self, class: FrameClass, bytes: usize) {
        let FrameClass::Video { temporal, spatial, .. } = class else { return };
        let meters = self.0.get_mut(usize::from(spatial.min(MAX_SPATIAL)));
        if let Some(meter) = meters.and_then(|meters| meters.get_mut(usize::from(temporal.min(MAX_TEMPORAL)))) {
            meter.add(bytes);
        }
    }

    pub(super) fn roll(&mut self, elapsed: Duration) {
        self.0.iter_mut().flatten().for_each(|meter| meter.roll(elapsed));
    }

    /// Bits per second of everything up to these layers.
    pub(super) fn up_to(&self, spatial: u8, temporal: u8) -> u64 {
        let meters = self.0.iter().take(usize::from(spatial) + 1);
        meters.flat_map(|meters| meters.iter().take(usize::from(temporal) + 1)).map(RateMeter::get).sum()
    }

    /// The highest spatial and temporal layer that are offered.
    pub(super) fn highest(&self) -> (u8, u8) {
        let mut highest = (0, 0);
        for (spatial, meters) in (0..).zip(&self.0) {
            for (temporal, meter) in (0..).zip(meters) {
                if meter.get() > 0 {
                    highest = (highest.0.max(spatial), highest.1.max(temporal));
                }
            }
        }
        highest
    }
}
