//! Which temporal layer arrives, and when that changes.

use std::time::{Duration, Instant};

/// A layer of which nothing came for so long does not arrive.
const WINDOW: Duration = Duration::from_secs(1);
/// Indices that a payload descriptor has room for.
const LAYERS: usize = 4;

/// The layers of one stream.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// When the first frame came: which layers there are is known a window later.
    since: Option<Instant>,
    last_frames: [Option<Instant>; LAYERS],
    highest: Option<usize>,
    switches: u64,
}

impl Layers {
    /// Changes of the highest layer that arrives.
    pub(super) fn switches(&self) -> u64 {
        self.switches
    }

    /// A packet of a layer came.
    pub(super) fn on_packet(&mut self, now: Instant, layer: u8) {
        if let Some(last) = self.last_frames.get_mut(usize::from(layer)) {
            *last = Some(now);
        }
        let settled = now.saturating_duration_since(*self.since.get_or_insert(now)) >= WINDOW;
        let arrives = |last: &Option<Instant>| last.is_some_and(|at| now.saturating_duration_since(at) <= WINDOW);
        let highest = self.last_frames.iter().rposition(arrives);
        if settled && self.highest != highest {
            self.switches += u64::from(self.highest.is_some());
            self.highest = highest;
        }
    }

    /// The stream was interrupted: which layers come next is no switch.
    pub(super) fn interrupt(&mut self) {
        *self = Self { switches: self.switches, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_counted_down_and_up() {
        let start = crate::clock::tests::instant();
        let mut layers = Layers::default();
        // Three layers for 5 s, one for 5 s, two for 5 s, at 30 frames/s.
        for frame in 0..450_u32 {
            let layer = [[0, 2, 1, 2], [0, 0, 0, 0], [0, 1, 0, 1]][frame as usize / 150][frame as usize % 4];
            layers.on_packet(start + Duration::from_secs(1) * frame / 30, layer);
        }
        // Layers 2 and 1 do not vanish in the same instant.
        assert!((2..=3).contains(&layers.switches()), "{}", layers.switches());
        layers.interrupt();
        layers.on_packet(start + Duration::from_secs(60), 2);
        layers.on_packet(start + Duration::from_secs(61), 2);
        assert!(layers.switches() <= 3);
    }
}
