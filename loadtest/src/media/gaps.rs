//! Freezes: too long a time between frames.

use std::time::{Duration, Instant};

/// What anybody notices.
const SHORT: Duration = Duration::from_millis(200);
/// What anybody minds.
const LONG: Duration = Duration::from_millis(500);

/// Freezes of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Freezes {
    /// Gaps of more than 200 ms.
    pub(super) short: u64,
    /// Gaps of more than 500 ms.
    pub(super) long: u64,
    /// Time in either.
    pub(super) time: Duration,
}

/// Watches the time between frames. A gap counts as soon as it is too long, and grows until it ends.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    last: Option<Instant>,
    /// How long the gap is that is counted already.
    counted: Duration,
    freezes: Freezes,
}

impl Gaps {
    pub(super) fn freezes(&self) -> Freezes {
        self.freezes
    }

    /// There is a new frame; `explained` of the time since the last one was meant to be without.
    pub(super) fn on_frame(&mut self, now: Instant, explained: Duration) {
        self.look(now, explained);
        self.last = Some(now);
        self.counted = Duration::ZERO;
    }

    /// There is none yet.
    pub(super) fn look(&mut self, now: Instant, explained: Duration) {
        let Some(last) = self.last else { return };
        let gap = now.saturating_duration_since(last).saturating_sub(explained);
        if gap <= SHORT || gap <= self.counted {
            return;
        }
        self.freezes.short += u64::from(self.counted <= SHORT);
        self.freezes.long += u64::from(self.counted <= LONG && gap > LONG);
        self.freezes.time += gap - self.counted;
        self.counted = gap;
    }

    /// Whatever comes next follows no gap.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
        self.counted = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_once_however_often_it_is_looked_at() {
        let start = crate::clock::tests::instant();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gaps = Gaps::default();
        gaps.look(at(0), Duration::ZERO);
        gaps.on_frame(at(1000), Duration::ZERO);
        gaps.on_frame(at(1200), Duration::ZERO);
        assert_eq!(gaps.freezes(), Freezes::default());
        for ms in [1300, 1450, 1600, 1750, 1900] {
            gaps.look(at(ms), Duration::ZERO);
        }
        gaps.on_frame(at(2000), Duration::ZERO);
        let once = Freezes { short: 1, long: 1, time: Duration::from_millis(800) };
        assert_eq!(gaps.freezes(), once);
        // Of these 600 ms, 400 were meant.
        gaps.on_frame(at(2600), Duration::from_millis(400));
        gaps.interrupt();
        gaps.on_frame(at(9000), Duration::ZERO);
        assert_eq!(gaps.freezes(), once);
        gaps.on_frame(at(9201), Duration::ZERO);
        assert_eq!(gaps.freezes(), Freezes { short: 2, time: Duration::from_millis(1001), ..once });
    }
}
