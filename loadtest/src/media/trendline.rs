//! Whether a queue grows on the path: libwebrtc's trendline filter and its detector of overuse (`TrendlineEstimator`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc_interceptor::{InterGroupDelay, Usage};

/// Groups of packets in the window.
const WINDOW: usize = 20;
/// Weight of what was before.
const SMOOTHING: f64 = 0.9;
/// Makes the slope comparable with the threshold.
const GAIN: f64 = 4.0;
/// Until there were so many groups the slope counts less.
const MAX_GROUPS: u32 = 60;
/// How long a queue grows before that is overuse.
const OVERUSE_TIME: Duration = Duration::from_millis(10);
/// Where the threshold begins and may be, in milliseconds.
const THRESHOLD: f64 = 12.5;
const THRESHOLDS: (f64, f64) = (6.0, 600.0);
/// How fast, in a millisecond, the threshold follows a trend above it and one below it.
const FOLLOW_UP: f64 = 0.0087;
const FOLLOW_DOWN: f64 = 0.039;
/// A trend so far above the threshold does not move it.
const MAX_STEP: f64 = 15.0;

/// The trend of one path's delay.
#[derive(Debug)]
pub(super) struct Trendline {
    first: Option<Instant>,
    last: Option<Instant>,
    accumulated_ms: f64,
    smoothed_ms: f64,
    /// Time and smoothed delay of the latest groups, in milliseconds.
    window: VecDeque<(f64, f64)>,
    groups: u32,
    slope: f64,
    threshold: f64,
    /// How long, and in how many groups, the trend was above the threshold.
    over: (Duration, u32),
    usage: Usage,
}

impl Trendline {
    pub(super) fn new() -> Self {
        Self {
            first: None,
            last: None,
            accumulated_ms: 0.0,
            smoothed_ms: 0.0,
            window: VecDeque::with_capacity(WINDOW),
            groups: 0,
            slope: 0.0,
            threshold: THRESHOLD,
            over: (Duration::ZERO, 0),
            usage: Usage::Normal,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// A group of packets came so much later than the one before it than it was sent later.
    pub(super) fn on_group(&mut self, group: &InterGroupDelay) {
        let first = *self.first.get_or_insert(group.at);
        let elapsed =
            self.last.replace(group.at).map_or(Duration::ZERO, |last| group.at.saturating_duration_since(last));
        self.groups = (self.groups + 1).min(MAX_GROUPS);
        self.accumulated_ms += group.delta_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.accumulated_ms;
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((group.at.saturating_duration_since(first).as_secs_f64() * 1000.0, self.smoothed_ms));
        let before = self.slope;
        if self.window.len() == WINDOW {
            self.slope = slope(&self.window).unwrap_or(before);
        }
        let trend = self.slope * f64::from(self.groups) * GAIN;
        self.detect(trend, self.slope >= before, elapsed);
        self.follow(trend.abs(), elapsed);
    }

    fn detect(&mut self, trend: f64, grows: bool, elapsed: Duration) {
        if trend.abs() <= self.threshold || trend < 0.0 {
            self.over = (Duration::ZERO, 0);
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
            return;
        }
        let (time, groups) = self.over;
        self.over = (time + if groups == 0 { elapsed / 2 } else { elapsed }, groups + 1);
        if self.over.0 > OVERUSE_TIME && self.over.1 > 1 && grows {
            self.over = (Duration::ZERO, 0);
            self.usage = Usage::Over;
        }
    }

    fn follow(&mut self, trend: f64, elapsed: Duration) {
        if trend > self.threshold + MAX_STEP {
            return;
        }
        let rate = if trend < self.threshold { FOLLOW_DOWN } else { FOLLOW_UP };
        let elapsed_ms = elapsed.as_secs_f64().min(0.1) * 1000.0;
        self.threshold += rate * (trend - self.threshold) * elapsed_ms;
        self.threshold = self.threshold.clamp(THRESHOLDS.0, THRESHOLDS.1);
    }
}

/// Slope of the line that fits best.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (numerator, denominator) = points.iter().fold((0.0, 0.0), |(numerator, denominator), point| {
        (numerator + (point.0 - x) * (point.1 - y), denominator + (point.0 - x) * (point.0 - x))
    });
    (denominator > 0.0).then(|| numerator / denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of groups each 33 ms of which each is so much later than the one before.
    fn usages(deltas_ms: impl IntoIterator<Item = f64>) -> Vec<Usage> {
        let start = crate::clock::tests::instant();
        let mut trendline = Trendline::new();
        let groups = deltas_ms.into_iter().enumerate();
        groups
            .map(|(index, delta_ms)| {
                trendline.on_group(&InterGroupDelay {
                    delta_ms,
                    at: start + Duration::from_millis(33) * index as u32,
                    size: 1000,
                });
                trendline.usage()
            })
            .collect()
    }

    #[test]
    fn a_queue_that_grows_is_noticed_and_one_that_shrinks_too() {
        let quiet = std::iter::repeat_n(0.0, 60);
        let grows = std::iter::repeat_n(5.0, 40);
        let shrinks = std::iter::repeat_n(-5.0, 60);
        let usages = usages(quiet.chain(grows).chain(shrinks));
        assert!(usages[..60].iter().all(|usage| *usage == Usage::Normal));
        let noticed = usages.iter().position(|usage| *usage == Usage::Over).unwrap();
        assert!(noticed < 80, "{noticed}");
        assert_eq!(usages.last(), Some(&Usage::Under));
    }

    #[test]
    fn jitter_is_no_queue() {
        let usages = usages((0..300).map(|index| if index % 2 == 0 { 5.0 } else { -5.0 }));
        assert!(usages.iter().all(|usage| *usage == Usage::Normal));
    }
}
