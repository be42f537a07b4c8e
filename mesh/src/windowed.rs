//! The lowest round-trip time of the last moments.

use std::time::{Duration, Instant};

/// The minimum over a sliding window, kept in two halves: it looks back between one and two of them.
#[derive(Debug, Clone)]
pub(crate) struct WindowedMin {
    half: Duration,
    current: Option<(Instant, Duration)>,
    previous: Option<Duration>,
}

impl WindowedMin {
    pub(crate) fn new(half: Duration) -> Self {
        Self { half, current: None, previous: None }
    }

    pub(crate) fn note(&mut self, now: Instant, value: Duration) {
        match &mut self.current {
            Some((began, lowest)) if now.saturating_duration_since(*began) < self.half => *lowest = value.min(*lowest),
            current => {
                self.previous = current.map(|(_, lowest)| lowest);
                *current = Some((now, value));
            }
        }
    }

    /// `None` before the first value.
    pub(crate) fn get(&self) -> Option<Duration> {
        let (_, current) = self.current?;
        Some(self.previous.map_or(current, |previous| previous.min(current)))
    }
}
