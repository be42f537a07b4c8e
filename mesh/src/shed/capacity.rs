//! How much a path carries, judged by what happens to what is sent.
//!
//! A pipe rarely has more to send than its path carries, so there is mostly nothing to measure: the estimate is `None`
//! until the path shows its limit, by a queue that stands before the bottleneck or at this end. While one stands the
//! bottleneck is busy, and what arrives is just what it carries. Loss is no such sign unless it stays: a path may lose
//! a tenth of what it carries, or all of it for a moment, and be wide.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::windowed::WindowedMin;

/// Delivery is measured over this time.
const DELIVERY_WINDOW: Duration = Duration::from_millis(500);

/// A queue this long is congestion; on long paths a quarter of the round trip, which jitter alone may reach; on narrow
/// ones what a few pictures take that happen to come at once.
const QUEUE_DELAY: Duration = Duration::from_millis(30);
const QUEUE_BYTES: u64 = 12_000;

/// A queue this long is full if this share of bytes is lost too, in percent. A path that loses on its own has none.
const FULL_QUEUE_DELAY: Duration = Duration::from_millis(10);
const FULL_QUEUE_LOSS_PERCENT: u64 = 5;
const FULL_QUEUE_PERSISTENCE: Duration = Duration::from_millis(500);

/// A delay that fell by more than this over the delivery window is that of a queue that drains.
const DRAINING: Duration = Duration::from_millis(2);

/// What may wait at this end before it is congestion.
const BACKLOG_DELAY: Duration = Duration::from_millis(40);

/// Share of bytes lost, in percent, that no longer is bad luck but a bottleneck without a queue, if never less is lost
/// for this long: bursts of losses end, and at 10% of random loss a few dozen packets of which so many are lost are no
/// rarity, but not for ever.
const LOSS_PERCENT: u64 = 15;
const LOSS_PERSISTENCE: Duration = Duration::from_secs(2);

/// Bytes in a delivery window that must have been sent before delays and losses mean anything: a dozen full packets.
const MIN_SENT: u64 = 15_000;

/// A queue must stand this long: one late acknowledgement is none.
const PERSISTENCE: Duration = Duration::from_millis(100);

/// After congestion a queue may take this long to go.
const DRAINING_TIME: Duration = Duration::from_secs(1);

/// What waits at this end must do so for this many round trips more: as many as the congestion window needs to open for
/// a burst.
const BACKLOG_ROUND_TRIPS: u32 = 2;

/// If the queue stands on although no more is sent than the path was found to carry, others want their share: then the
/// estimate is this share of what was delivered, in percent.
const BACK_OFF_PERCENT: u64 = 85;

/// The same if the queue is so short that it overflows before it stands: nobody sees there that others want theirs.
const OVERFLOW_BACK_OFF_PERCENT: u64 = 60;

/// For this long after it an empty queue says nothing: it is always empty.
const OVERFLOW_MEMORY: Duration = Duration::from_secs(20);

/// After congestion the estimate holds still for this long.
const HOLD: Duration = Duration::from_secs(2);

/// Then it is what the path is known to have carried, unless that led to congestion: what passes while an end stalls or
/// a path is away for a moment says nothing about its width. What is known fades over this time.
const CARRIED_MEMORY: Duration = Duration::from_secs(60);

/// Between looks at the path this end was away itself: what happened meanwhile is not the path's doing.
const AWAY: Duration = Duration::from_millis(500);

/// From there on it grows by this share a second, in percent: fast while the queue is empty most of the time and little
/// is lost, which says that there is room, and up to what was measured; otherwise slowly, as what does not fit costs
/// everybody a queue each time that it is tried.
const FAST_GROWTH_PERCENT: f64 = 8.0;
const SLOW_GROWTH_PERCENT: f64 = 1.0;

/// Up to this mean queue there is room; on long paths up to a sixteenth of the round trip. And up to this mean loss.
/// The means are over this time.
const ROOM_QUEUE: Duration = Duration::from_millis(6);
const ROOM_LOSS: f64 = 0.02;
const ROOM_WINDOW: Duration = Duration::from_secs(2);

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
    /// Means over the last moments: of the queue in seconds, of the share of bytes that were lost.
    mean_queue: f64,
    mean_loss: f64,
    queue_since: Option<Instant>,
    full_since: Option<Instant>,
    backlog_since: Option<Instant>,
    loss_since: Option<Instant>,
    /// Bits per second that were delivered when a queue last began to stand.
    measured: u64,
    last_congestion: Option<Instant>,
    last_overflow: Option<Instant>,
    /// When what was sent before the last congestion has passed.
    settled: Option<Instant>,
    /// The queue was gone since then.
    drained: bool,
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
            mean_queue: 0.0,
            mean_loss: 0.0,
            queue_since: None,
            full_since: None,
            backlog_since: None,
            loss_since: None,
            measured: 0,
            last_congestion: None,
            last_overflow: None,
            settled: None,
            drained: true,
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
            self.forget_signs();
        }
        self.base_rtt.note(now, sample.rtt);
        self.samples.push_back((now, sample));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= DELIVERY_WINDOW) {
            self.samples.pop_front();
        }
        let base = self.base_rtt.get().unwrap_or(sample.rtt);
        self.note_means(elapsed, sample.rtt.saturating_sub(base));
        let signs = self.signs(now, base);
        let lasts = |since: &mut Option<Instant>, is_so: bool, long: Duration| {
            let began = is_so.then(|| *since.get_or_insert(now));
            *since = began;
            began.is_some_and(|began| now.saturating_duration_since(began) >= long)
        };
        let persistence = if self.drained || signs.grows { PERSISTENCE } else { DRAINING_TIME };
        let queue = lasts(&mut self.queue_since, signs.queue, persistence);
        let round_trips = sample.rtt * BACKLOG_ROUND_TRIPS;
        let backlog = lasts(&mut self.backlog_since, signs.backlog, persistence + round_trips);
        let loss = lasts(&mut self.loss_since, signs.loss, LOSS_PERSISTENCE);
        let full = lasts(&mut self.full_since, signs.full, FULL_QUEUE_PERSISTENCE);
        if queue || full || backlog || loss {
            self.back_off(now, sample.rtt, (full || loss) && signs.is_short);
        } else if !signs.stands && !signs.backlog {
            self.drained |= !self.is_settling(now);
            let faded = self.carried * (1.0 - elapsed.div_duration_f64(CARRIED_MEMORY)).max(0.0);
            // What was delivered just after a queue has overflown was sent before.
            let is_of_now = self.last_overflow.is_none_or(|at| now >= at + sample.rtt + DELIVERY_WINDOW);
            self.carried = if is_of_now { faded.max(self.delivery_rate() as f64) } else { faded };
            self.grow(now, elapsed, base, sample.offered);
        }
        self.capacity
    }

    fn note_means(&mut self, elapsed: Duration, queue: Duration) {
        let weight = elapsed.div_duration_f64(ROOM_WINDOW).min(1.0);
        let (sent, lost) = self.sent_and_lost();
        let loss = if sent > MIN_SENT { lost as f64 / sent as f64 } else { self.mean_loss };
        self.mean_queue += (queue.as_secs_f64() - self.mean_queue) * weight;
        self.mean_loss += (loss - self.mean_loss) * weight;
    }

    /// Bytes of the last moments.
    fn sent_and_lost(&self) -> (u64, u64) {
        let (Some((_, first)), Some((_, last))) = (self.samples.front(), self.samples.back()) else { return (0, 0) };
        (last.sent_bytes.saturating_sub(first.sent_bytes), last.lost_bytes.saturating_sub(first.lost_bytes))
    }

    /// Bits per second that the other end got over the last moments.
    fn delivery_rate(&self) -> u64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else { return 0 };
        let bytes = last.delivered_bytes.saturating_sub(first.delivered_bytes);
        let time = to.saturating_duration_since(*from).as_secs_f64();
        if time > 0.0 { (bytes as f64 * 8.0 / time) as u64 } else { 0 }
    }

    /// What the last moments look like.
    fn signs(&self, now: Instant, base: Duration) -> Signs {
        let (Some((_, first)), Some((_, last))) = (self.samples.front(), self.samples.back()) else {
            return Signs::default();
        };
        let rate = self.delivery_rate();
        let waiting = |sample: &PathSample| Duration::from_millis(sample.backlog_bytes * 8 * 1000 / rate.max(1));
        // A queue that drains needs no more help; what waits at this end keeps it full meanwhile.
        let drains = last.rtt + waiting(last) + DRAINING < first.rtt + waiting(first);
        let queue = last.rtt.saturating_sub(base);
        let (sent, lost) = self.sent_and_lost();
        let lost_more_than = |percent: u64| sent > MIN_SENT && lost * 100 > sent * percent;
        let limit = QUEUE_DELAY.max(base / 4).max(Duration::from_millis(QUEUE_BYTES * 8 * 1000 / rate.max(1)));
        let stands = sent > MIN_SENT && queue > limit;
        if self.is_settling(now) {
            return Signs { stands, ..Signs::default() };
        }
        let longest = self.samples.iter().map(|(_, sample)| sample.rtt.saturating_sub(base)).max();
        Signs {
            stands,
            is_short: longest.is_none_or(|longest| longest <= limit),
            queue: stands && !drains,
            grows: last.rtt > first.rtt + DRAINING,
            full: queue > FULL_QUEUE_DELAY && lost_more_than(FULL_QUEUE_LOSS_PERCENT),
            backlog: rate > 0 && waiting(last) > BACKLOG_DELAY || last.dropped_bytes > first.dropped_bytes,
            loss: lost_more_than(LOSS_PERCENT),
        }
    }

    /// What was sent before a back-off is still on its way for a round trip; the old queue is not a new one.
    fn is_settling(&self, now: Instant) -> bool {
        self.settled.is_some_and(|at| now < at)
    }

    fn forget_signs(&mut self) {
        (self.queue_since, self.full_since, self.backlog_since, self.loss_since) = (None, None, None, None);
    }

    fn back_off(&mut self, now: Instant, rtt: Duration, overflows: bool) {
        let delivered = self.delivery_rate();
        if delivered == 0 {
            // The other end or the path is away, for which to send less is no cure.
            return;
        }
        let found = match (overflows, self.drained) {
            (true, _) => delivered / 100 * OVERFLOW_BACK_OFF_PERCENT,
            (false, false) => delivered / 100 * BACK_OFF_PERCENT,
            (false, true) => delivered,
        };
        if self.grown_since_congestion {
            self.carried = self.carried.min(found as f64);
        }
        let capacity = self.capacity.map_or(found, |capacity| capacity.min(found)).max(MIN_CAPACITY);
        tracing::debug!(capacity, ?rtt, base_rtt = ?self.base_rtt.get(), "the path is congested");
        self.capacity = Some(capacity);
        self.grown_since_congestion = false;
        self.measured = if self.drained && !overflows { delivered } else { self.measured.min(delivered) };
        self.drained = false;
        self.last_congestion = Some(now);
        self.settled = Some(now + rtt + PERSISTENCE);
        self.last_overflow = if overflows { Some(now) } else { self.last_overflow };
        self.forget_signs();
    }

    fn grow(&mut self, now: Instant, elapsed: Duration, base: Duration, offered: u64) {
        let Some(capacity) = self.capacity else { return };
        if self.last_congestion.is_some_and(|at| now.saturating_duration_since(at) < HOLD) {
            return;
        }
        let is_empty = self.mean_queue < ROOM_QUEUE.max(base / 16).as_secs_f64();
        let overflowed = self.last_overflow.is_some_and(|at| now < at + OVERFLOW_MEMORY);
        let has_room = is_empty && !overflowed && self.mean_loss < ROOM_LOSS;
        let percent = if has_room || capacity < self.measured { FAST_GROWTH_PERCENT } else { SLOW_GROWTH_PERCENT };
        let factor = 1.0 + percent / 100.0 * elapsed.as_secs_f64();
        let grown = (capacity as f64 * factor).max(self.carried) as u64;
        self.grown_since_congestion = true;
        // Twice what anybody wants is no limit.
        self.capacity = (grown < offered.saturating_mul(2)).then_some(grown);
    }
}

/// What speaks for congestion.
#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    /// A queue stands before the bottleneck,
    stands: bool,
    /// and does not drain.
    queue: bool,
    /// It becomes longer.
    grows: bool,
    /// None stood there of late.
    is_short: bool,
    /// A short one overflows.
    full: bool,
    /// Too much waits at this end, or had to be dropped.
    backlog: bool,
    /// So much is lost that it cannot be bad luck, if that goes on.
    loss: bool,
}
