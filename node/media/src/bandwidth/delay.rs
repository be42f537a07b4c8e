//! Whether a queue grows on the way: the trend of the delay from one group of packets to the next, held against a
//! threshold that adapts to what the path does by itself (draft-ietf-rmcat-gcc-02 section 5, with the least-squares
//! trendline in place of its Kalman filter). It follows the *first* packet of each group: what is behind it in a burst
//! queues up by itself, the more of it the more, and says nothing of the path.

use std::collections::VecDeque;

/// Packets that are sent within so long are one group: a picture, also where it leaves at a pace, which is above what
/// passes and so makes a queue for a moment.
const GROUP_US: u64 = 20_000;

/// Groups that the trend is of: half a second or more.
const WINDOW: usize = 20;

/// How much of the smoothed delay is of the groups before.
const SMOOTHING: f64 = 0.9;

/// The trend is weighed by how many groups it is of, up to so many, and by this gain.
const MAX_WEIGHT: usize = 60;
const GAIN: f64 = 4.0;

/// The threshold: at the beginning, least and most, and how it follows the trend, up where that is above (slowly, so
/// that a queue is still found) and down where it is below, per millisecond. The draft's.
const THRESHOLD: f64 = 12.5;
const MIN_THRESHOLD: f64 = 6.0;
const MAX_THRESHOLD: f64 = 600.0;
const FOLLOW_UP: f64 = 0.0087;
const FOLLOW_DOWN: f64 = 0.039;
/// A trend so far above is no property of the path.
const MAX_FOLLOWED: f64 = 15.0;

/// How long the trend must be above before that is told, in milliseconds.
const OVERUSE_MS: f64 = 10.0;

/// A queue of so many milliseconds that has grown with each of the last groups, by the one share of the time at least,
/// and by the other over all of them, needs no trend to be seen: far more is sent than passes. Pictures vary, and what
/// a small one adds is less. A key frame makes it grow with one or two.
const RAPID_MS: f64 = 40.0;
const RAPID_STEP: f64 = 0.1;
const RAPID_GROWTH: f64 = 0.3;
const RAPID_GROUPS: usize = 4;

/// The least delay is looked for in the last one to two of such spans: clocks drift apart.
const BASE_US: u64 = 10_000_000;

/// What the delay does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// It stays.
    #[default]
    Normal,
    /// It grows: more is sent than passes.
    Over,
    /// It grows as it only does if far more is sent than passes.
    FarOver,
    /// It falls: a queue empties.
    Under,
}

impl Usage {
    /// Whether more is sent than passes.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Over | Self::FarOver)
    }
}

#[derive(Debug, Clone, Copy)]
struct Group {
    sent_us: u64,
    arrived_us: i64,
}

/// Follows the delay.
#[derive(Debug)]
pub(super) struct DelayDetector {
    group: Option<Group>,
    /// Arrival and smoothed delay of the last groups, in milliseconds.
    points: VecDeque<(f64, f64)>,
    /// Time of sending and delay of the last few, in milliseconds.
    recent: VecDeque<(f64, f64)>,
    /// What arrivals are counted from.
    origin_us: i64,
    groups: usize,
    delay_ms: f64,
    smoothed_ms: f64,
    threshold: f64,
    trend: f64,
    over_ms: f64,
    over_groups: u32,
    usage: Usage,
    base: BaseDelay,
}

impl Default for DelayDetector {
    fn default() -> Self {
        Self {
            group: None,
            points: VecDeque::new(),
            recent: VecDeque::new(),
            origin_us: 0,
            groups: 0,
            delay_ms: 0.0,
            smoothed_ms: 0.0,
            threshold: THRESHOLD,
            trend: 0.0,
            over_ms: 0.0,
            over_groups: 0,
            usage: Usage::Normal,
            base: BaseDelay::default(),
        }
    }
}

impl DelayDetector {
    /// A packet arrived. They are told in the order in which they were sent; what is told late is not looked at.
    #[inline]
    pub(super) fn add(&mut self, sent_us: u64, arrived_us: i64) {
        if self.group.is_none_or(|group| sent_us >= group.sent_us.saturating_add(GROUP_US)) {
            self.begin_group(Group { sent_us, arrived_us });
        }
    }

    fn begin_group(&mut self, next: Group) {
        let Group { sent_us, arrived_us } = next;
        let Some(group) = &mut self.group else {
            self.group = Some(next);
            self.origin_us = arrived_us;
            return self.base.add(sent_us, arrived_us);
        };
        let apart_ms = (sent_us - group.sent_us) as f64 / 1_000.0;
        let arrivals_apart_ms = (arrived_us - group.arrived_us) as f64 / 1_000.0;
        *group = next;
        self.base.add(sent_us, arrived_us);
        self.add_group(apart_ms, arrivals_apart_ms, (arrived_us - self.origin_us) as f64 / 1_000.0);
    }

    fn add_group(&mut self, apart_ms: f64, arrivals_apart_ms: f64, arrived_ms: f64) {
        self.groups = (self.groups + 1).min(MAX_WEIGHT);
        self.delay_ms += arrivals_apart_ms - apart_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.delay_ms;
        if self.points.len() == WINDOW {
            self.points.pop_front();
        }
        self.points.push_back((arrived_ms, self.smoothed_ms));
        let sent_ms = self.recent.back().map_or(0.0, |(sent_ms, _)| sent_ms + apart_ms);
        if self.recent.len() == RAPID_GROUPS {
            self.recent.pop_front();
        }
        self.recent.push_back((sent_ms, self.delay_ms));
        let trend = slope(&self.points).map_or(self.trend, |slope| self.groups as f64 * slope * GAIN);
        self.judge(trend, apart_ms);
        self.follow(trend, apart_ms);
        self.trend = trend;
        self.usage = match self.usage {
            _ if self.grows_rapidly() => Usage::FarOver,
            Usage::FarOver => Usage::Over,
            usage => usage,
        };
    }

    fn grows_rapidly(&self) -> bool {
        let grows = |(sent_ms, delay_ms): &(f64, f64), (next_ms, next_delay_ms): &(f64, f64), share: f64| {
            next_delay_ms - delay_ms >= share * (next_ms - sent_ms)
        };
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else { return false };
        let mut steps = self.recent.iter().zip(self.recent.iter().skip(1));
        self.recent.len() == RAPID_GROUPS
            && self.queue_ms() > RAPID_MS
            && grows(first, last, RAPID_GROWTH)
            && steps.all(|(from, to)| grows(from, to, RAPID_STEP))
    }

    /// The trend lags behind: what a burst left may empty already.
    fn still_grows(&self) -> bool {
        self.recent.iter().rev().nth(2).is_none_or(|(_, before)| self.delay_ms > *before)
    }

    fn judge(&mut self, trend: f64, apart_ms: f64) {
        if trend > self.threshold {
            self.over_ms += if self.over_groups == 0 { apart_ms / 2.0 } else { apart_ms };
            self.over_groups += 1;
            if self.over_ms > OVERUSE_MS && self.over_groups > 1 && trend >= self.trend && self.still_grows() {
                self.over_ms = 0.0;
                self.over_groups = 0;
                self.usage = Usage::Over;
            }
            return;
        }
        self.over_ms = 0.0;
        self.over_groups = 0;
        self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
    }

    fn follow(&mut self, trend: f64, apart_ms: f64) {
        let excess = trend.abs() - self.threshold;
        if excess > MAX_FOLLOWED {
            return;
        }
        let rate = if excess < 0.0 { FOLLOW_DOWN } else { FOLLOW_UP };
        let threshold = self.threshold + rate * excess * apart_ms.min(100.0);
        self.threshold = threshold.clamp(MIN_THRESHOLD, MAX_THRESHOLD);
    }

    /// What the delay does.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// How much longer the last group was under way than the quickest of late, in milliseconds: what waits.
    pub(super) fn queue_ms(&self) -> f64 {
        self.base.above_ms()
    }
}

/// The slope of the line that fits best; `None` for points of one time.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    if points.len() < 2 {
        return None;
    }
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(sum_x, sum_y), (x, y)| (sum_x + x, sum_y + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
        (above + (x - mean_x) * (y - mean_y), below + (x - mean_x) * (x - mean_x))
    });
    (below > 0.0).then(|| above / below)
}

/// The least delay of the last ten to twenty seconds, clocks' difference included.
#[derive(Debug, Default)]
struct BaseDelay {
    begun_us: u64,
    before_us: Option<i64>,
    least_us: Option<i64>,
    last_us: i64,
}

impl BaseDelay {
    fn add(&mut self, sent_us: u64, arrived_us: i64) {
        let delay = arrived_us.saturating_sub(sent_us.cast_signed());
        if self.least_us.is_none() || sent_us.saturating_sub(self.begun_us) >= BASE_US {
            self.before_us = self.least_us;
            self.least_us = None;
            self.begun_us = sent_us;
        }
        self.least_us = Some(self.least_us.map_or(delay, |least| least.min(delay)));
        self.last_us = delay;
    }

    fn above_ms(&self) -> f64 {
        let least = [self.before_us, self.least_us].into_iter().flatten().min();
        least.map_or(0.0, |least| self.last_us.saturating_sub(least) as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures 33 ms apart of so many packets; each packet takes `per_packet_us` of a bottleneck.
    fn run(
        detector: &mut DelayDetector,
        pictures: u64,
        packets: impl Fn(u64) -> u64,
        per_packet_us: u64,
    ) -> Vec<Usage> {
        let (mut busy_until, mut seen) = (0, Vec::new());
        for picture in 0..pictures {
            let sent_us = 1_000_000 + picture * 33_000;
            for _ in 0..packets(picture) {
                busy_until = sent_us.max(busy_until) + per_packet_us;
                detector.add(sent_us, busy_until as i64 - 77_000_000);
            }
            seen.push(detector.usage());
        }
        seen
    }

    #[test]
    fn a_queue_that_grows_fast_is_found_at_once_and_a_slow_one_by_its_trend() {
        let mut detector = DelayDetector::default();
        // Twice of what passes.
        let seen = run(&mut detector, 20, |_| 10, 6_600);
        let first = seen.iter().position(|usage| usage.is_over()).unwrap();
        assert!(first <= 6 && seen.contains(&Usage::FarOver), "{seen:?}");
        assert!(detector.queue_ms() > 300.0, "{}", detector.queue_ms());
        // A tenth more than passes.
        let mut detector = DelayDetector::default();
        let seen = run(&mut detector, 60, |_| 10, 3_630);
        let first = seen.iter().position(|usage| usage.is_over()).unwrap();
        assert!(first <= 30 && !seen.contains(&Usage::FarOver), "{seen:?}");
    }

    #[test]
    fn bursts_that_pass_are_no_queue() {
        let mut detector = DelayDetector::default();
        // A key frame of five times the size each second fills the time to the next picture, and no more.
        let seen = run(&mut detector, 300, |picture| if picture % 30 == 0 { 20 } else { 4 }, 1_600);
        assert!(seen.iter().all(|usage| *usage == Usage::Normal));
        assert!(detector.queue_ms() < 1.0);
    }

    #[test]
    fn an_emptying_queue_is_told_of() {
        let mut detector = DelayDetector::default();
        let seen = run(&mut detector, 60, |picture| if picture < 10 { 10 } else { 1 }, 6_600);
        assert!(seen.contains(&Usage::Under));
        assert_eq!(seen.last(), Some(&Usage::Normal));
    }

    #[test]
    fn times_that_make_no_sense_do_no_harm() {
        let mut detector = DelayDetector::default();
        for number in 0..1_000_u64 {
            detector.add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, (number as i64).wrapping_mul(-977_777_777));
        }
        assert!(detector.queue_ms().is_finite() && detector.threshold.is_finite());
    }
}
