//! How much a path carries, judged by what happens to what is sent.
//!
//! A pipe rarely has more to send than its path carries, so there is mostly nothing to measure: the estimate is `None`
//! until the path shows its limit, by a queue that grows before the bottleneck or at this end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::windowed::WindowedMin;

/// Delivery is measured over this time.
const DELIVERY_WINDOW: Duration = Duration::from_millis(300);

/// A queue this long is congestion; on long paths a quarter of the round trip, which jitter alone may reach.
const QUEUE_DELAY: Duration = Duration::from_millis(30);

/// A round-trip time that fell by more than this over the delivery window is that of a queue that drains.
const DRAINING: Duration = Duration::from_millis(2);

/// What may wait at this end before it is congestion.
const BACKLOG_DELAY: Duration = Duration::from_millis(40);

/// Share of packets lost, in percent, that no longer is bad luck but a bottleneck without a queue.
const LOSS_PERCENT: u64 = 15;

/// Bytes in a delivery window that must have been sent before delays and losses mean anything: a dozen full packets.
const MIN_SENT: u64 = 15_000;

/// Congestion must last this long: one late acknowledgement is none.
const PERSISTENCE: Duration = Duration::from_millis(100);

/// After congestion the estimate is this share of what was delivered, in percent, so that the queue drains.
const BACK_OFF_PERCENT: u64 = 85;

/// After congestion the estimate holds still for this long.
const HOLD: Duration = Duration::from_secs(2);

/// Then it is what the path is known to have carried, unless that led to congestion: what passes while an end stalls or
/// a path is away for a moment says nothing about its width. What is known fades over this time.
const CARRIED_MEMORY: Duration = Duration::from_secs(30);

/// Between looks at the path this end was away itself: what happened meanwhile is not the path's doing.
const AWAY: Duration = Duration::from_millis(500);

/// From there on it grows by this share a second, in percent.
const GROWTH_PERCENT: f64 = 5.0;

/// Growth slows down by half each time that it led to congestion, at most this often.
const MAX_SLOWDOWN: u32 = 4;

/// After this time without congestion growth has its full speed again.
const FORGIVE_AFTER: Duration = Duration::from_secs(60);

/// The lowest round-trip time of this time is that of the path with empty queues.
const BASE_RTT_WINDOW: Duration = Duration::from_secs(15);

/// Audio of a few people passes even so; what does not pass that is not a path.
const MIN_CAPACITY: u64 = 100_000;

/// What a link sees of its path at one moment. Byte counts are since the connection's start.
#[derive(Debug, Clone, Copy, Default)]
pub struct PathSample {
    /// Round-trip time, the lowest of the last moments: a queue that stands is in all of them.
    pub rtt: Duration,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes that the other end acknowledged.
    pub delivered_bytes: u64,
    /// Bytes known to be lost.
    pub lost_bytes: u64,
    /// Bytes that wait at this end.
    pub backlog_bytes: u64,
    /// Bytes dropped at this end because too many waited.
    pub dropped_bytes: u64,
    /// Bits per second that are offered, shed or not.
    pub offered: u64,
}

/// Estimates what a path carries.
#[derive(Debug)]
pub struct CapacityEstimator {
    samples: VecDeque<(Instant, PathSample)>,
    base_rtt: WindowedMin,
    capacity: Option<u64>,
    /// Bits per second that got through without congestion, fading.
    carried: f64,
    congested_since: Option<Instant>,
    last_congestion: Option<Instant>,
    slowdown: u32,
    grown_since_congestion: bool,
    last_sample: Option<Instant>,
}

impl Default for CapacityEstimator {
    fn default() -> Self {
        Self::new()
    }
}

impl CapacityEstimator {
    /// Of a path that nothing is known of.
    pub fn new() -> Self {
        Self {
            samples: VecDeque::new(),
            base_rtt: WindowedMin::new(BASE_RTT_WINDOW),
            capacity: None,
            carried: 0.0,
            congested_since: None,
            last_congestion: None,
            slowdown: 0,
            grown_since_congestion: false,
            last_sample: None,
        }
    }

    /// Takes a look at the path, every few dozen milliseconds. Gives the bits per second that it carries, `None` while
    /// it showed no limit.
    pub fn sample(&mut self, now: Instant, sample: PathSample) -> Option<u64> {
        let elapsed = self.last_sample.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if elapsed > AWAY {
            self.samples.clear();
            self.congested_since = None;
        }
        self.base_rtt.note(now, sample.rtt);
        self.samples.push_back((now, sample));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= DELIVERY_WINDOW) {
            self.samples.pop_front();
        }
        if self.is_congested(now) {
            let since = *self.congested_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= PERSISTENCE {
                self.back_off(now, sample.rtt);
            }
        } else {
            self.congested_since = None;
            let faded = self.carried * (1.0 - elapsed.div_duration_f64(CARRIED_MEMORY)).max(0.0);
            self.carried = faded.max(self.delivery_rate() as f64);
            self.grow(now, elapsed, sample.offered);
        }
        self.capacity
    }

    /// Bits per second that the other end got over the last moments.
    fn delivery_rate(&self) -> u64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else { return 0 };
        let bytes = last.delivered_bytes.saturating_sub(first.delivered_bytes);
        let time = to.saturating_duration_since(*from).as_secs_f64();
        if time > 0.0 { (bytes as f64 * 8.0 / time) as u64 } else { 0 }
    }

    fn is_congested(&self, now: Instant) -> bool {
        let (Some((_, first)), Some((_, last))) = (self.samples.front(), self.samples.back()) else { return false };
        let base = self.base_rtt.get().unwrap_or(last.rtt);
        // A queue that drains needs no more help.
        let queue = if last.rtt + DRAINING < first.rtt { Duration::ZERO } else { last.rtt.saturating_sub(base) };
        let limit = QUEUE_DELAY.max(base / 4);
        let rate = self.delivery_rate();
        let backlog = rate > 0 && last.backlog_bytes * 8 * 1000 / rate > BACKLOG_DELAY.as_millis() as u64;
        let sent = last.sent_bytes.saturating_sub(first.sent_bytes);
        let lost = last.lost_bytes.saturating_sub(first.lost_bytes);
        let telling = sent > MIN_SENT;
        let lossy = lost * 100 > sent * LOSS_PERCENT;
        let dropped = last.dropped_bytes > first.dropped_bytes;
        // What was sent before a back-off is still on its way for a round trip; the old queue is not a new one.
        let settling = self.last_congestion.is_some_and(|at| now < at + last.rtt + PERSISTENCE);
        !settling && (telling && (queue > limit || lossy) || backlog || dropped)
    }

    fn back_off(&mut self, now: Instant, rtt: Duration) {
        let delivered = self.delivery_rate() / 100 * BACK_OFF_PERCENT;
        if delivered == 0 {
            // The other end or the path is away, for which to send less is no cure.
            return;
        }
        if self.grown_since_congestion {
            self.slowdown = (self.slowdown + 1).min(MAX_SLOWDOWN);
            self.carried = self.carried.min(delivered as f64);
        }
        let capacity = self.capacity.map_or(delivered, |capacity| capacity.min(delivered)).max(MIN_CAPACITY);
        tracing::debug!(capacity, ?rtt, base_rtt = ?self.base_rtt.get(), "the path is congested");
        self.capacity = Some(capacity);
        self.grown_since_congestion = false;
        self.congested_since = None;
        self.last_congestion = Some(now);
    }

    fn grow(&mut self, now: Instant, elapsed: Duration, offered: u64) {
        let Some(capacity) = self.capacity else { return };
        let quiet = self.last_congestion.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        if quiet < HOLD {
            return;
        }
        if quiet > FORGIVE_AFTER {
            self.slowdown = 0;
        }
        let percent = GROWTH_PERCENT / f64::from(1_u32 << self.slowdown) * elapsed.as_secs_f64();
        let grown = (capacity as f64 * (1.0 + percent / 100.0)).max(self.carried) as u64;
        self.grown_since_congestion = true;
        // Twice what anybody wants is no limit.
        self.capacity = (grown < offered.saturating_mul(2)).then_some(grown);
    }
}
