//! How fast data leave, so that media do not notice: by the delay, as LEDBAT (RFC 6817) does it.
//!
//! The congestion window of a pipe is made for media, which are held down by shedding. Data have no rate of their own:
//! they would fill the window and every queue, and videos would be shed to make room for them. So they get a rate,
//! which goes down before a queue is long enough for that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::shed::PathSample;
use crate::windowed::WindowedMin;

/// Before anything is known, in bits per second: little beside a video, and enough for what is said meanwhile.
pub(crate) const INITIAL_RATE: u64 = 1_000_000;

/// However full the path is: data that nobody waits for would be asked for again.
const MIN_RATE: f64 = 100_000.0;

/// Nothing is faster.
const MAX_RATE: f64 = 10_000_000_000.0;

/// A queue longer than this is one too long. Half of the one that counts as congestion of media.
const TARGET: Duration = Duration::from_millis(15);

/// So is this share of bytes lost, in percent: what a bottleneck does that has no queue. Less than that a path may lose
/// by itself.
const LOSS_PERCENT: u64 = 15;

/// Too few bytes to say anything about the share that was lost.
const MIN_SENT: u64 = 20_000;

/// Delivery and loss are measured over this time.
const WINDOW: Duration = Duration::from_millis(500);

/// The lowest round-trip time of this time is that of the path with empty queues.
const BASE_RTT_WINDOW: Duration = Duration::from_secs(15);

/// What remains after a queue or loss; the next look at them comes a round trip and this later.
const BACK_OFF: f64 = 0.8;
const SETTLING: Duration = Duration::from_millis(100);

/// Growth a second, as an exponent: before the path showed a limit, up to where it did, and beyond.
const FIRST_GROWTH: f64 = 2.0;
const GROWTH: f64 = 0.7;
const SLOW_GROWTH: f64 = 0.15;

/// Of what the path is known to carry media and data take this much together, in percent.
const USABLE_PERCENT: u64 = 90;

/// A rate that is not needed becomes the initial one within some times this: nobody knows whether it is still true.
const FORGET: Duration = Duration::from_secs(10);

/// The rate of a link's data.
#[derive(Debug)]
pub struct DataPace {
    rate: f64,
    /// What it was when the path last showed a limit.
    limit: Option<f64>,
    base_rtt: WindowedMin,
    samples: VecDeque<(Instant, PathSample)>,
    settled: Option<Instant>,
}

impl Default for DataPace {
    fn default() -> Self {
        Self::new()
    }
}

impl DataPace {
    /// Of a path that nothing is known of.
    pub fn new() -> Self {
        Self {
            rate: INITIAL_RATE as f64,
            limit: None,
            base_rtt: WindowedMin::new(BASE_RTT_WINDOW),
            samples: VecDeque::new(),
            settled: None,
        }
    }

    /// Takes a look at the path, every few dozen milliseconds: what it carries if that is known, and whether data had
    /// to wait for their rate. Gives the rate in bits per second.
    pub fn sample(&mut self, now: Instant, sample: PathSample, capacity: Option<u64>, has_waited: bool) -> u64 {
        let elapsed = self.samples.back().map_or(Duration::ZERO, |(last, _)| now.saturating_duration_since(*last));
        self.base_rtt.note(now, sample.rtt);
        self.samples.push_back((now, sample));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let queue = sample.rtt.saturating_sub(self.base_rtt.get().unwrap_or(sample.rtt));
        if queue > TARGET || self.loses() {
            if self.settled.is_none_or(|at| now >= at) {
                self.back_off(sample.offered);
                self.settled = Some(now + sample.rtt + SETTLING);
            }
        } else if has_waited {
            let growth = match self.limit {
                None => FIRST_GROWTH,
                Some(limit) if self.rate < limit * BACK_OFF => GROWTH,
                Some(_) => SLOW_GROWTH,
            };
            self.rate *= (growth * elapsed.min(WINDOW).as_secs_f64()).exp();
        } else {
            let unneeded = (self.rate - INITIAL_RATE as f64).max(0.0);
            self.rate -= unneeded * elapsed.div_duration_f64(FORGET).min(1.0);
        }
        if let Some(capacity) = capacity {
            self.rate = self.rate.min((capacity / 100 * USABLE_PERCENT).saturating_sub(sample.offered) as f64);
        }
        self.rate = self.rate.clamp(MIN_RATE, MAX_RATE);
        self.rate as u64
    }

    fn back_off(&mut self, offered: u64) {
        self.limit = Some(self.rate);
        // More than what passed beside media has only made the queue.
        let passed = (self.delivery_rate() - offered as f64).max(0.0);
        self.rate = self.rate.min(passed) * BACK_OFF;
    }

    /// Bits per second that the other end got over the last moments.
    fn delivery_rate(&self) -> f64 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else { return 0.0 };
        let bytes = last.delivered_bytes.saturating_sub(first.delivered_bytes);
        bytes as f64 * 8.0 / to.saturating_duration_since(*from).as_secs_f64().max(0.001)
    }

    fn loses(&self) -> bool {
        let (Some((_, first)), Some((_, last))) = (self.samples.front(), self.samples.back()) else { return false };
        let sent = last.sent_bytes.saturating_sub(first.sent_bytes);
        sent > MIN_SENT && last.lost_bytes.saturating_sub(first.lost_bytes) * 100 > sent * LOSS_PERCENT
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    const TICK: Duration = Duration::from_millis(50);
    const RTT: Duration = Duration::from_millis(40);

    /// A bottleneck that media and data share, media first.
    struct Path {
        pace: DataPace,
        now: Instant,
        sample: PathSample,
        bits_per_second: f64,
        queued_bits: f64,
        longest: Duration,
    }

    impl Path {
        fn new(bits_per_second: f64) -> Self {
            let (pace, now, sample) = (DataPace::new(), Instant::now(), PathSample::default());
            Self { pace, now, sample, bits_per_second, queued_bits: 0.0, longest: Duration::ZERO }
        }

        /// Gives the data's bits per second.
        fn run(&mut self, time: Duration, media: f64, has_waited: bool) -> f64 {
            let ticks = time.div_duration_f64(TICK) as u32;
            let mut data = 0.0;
            for _ in 0..ticks {
                self.now += TICK;
                let queue = Duration::from_secs_f64(self.queued_bits / self.bits_per_second);
                self.longest = self.longest.max(queue);
                self.sample = PathSample { rtt: RTT + queue, offered: media as u64, ..self.sample };
                let rate = self.pace.sample(self.now, self.sample, None, has_waited) as f64;
                let sent = (media + if has_waited { rate } else { 0.0 }) * TICK.as_secs_f64();
                let passed = (self.queued_bits + sent).min(self.bits_per_second * TICK.as_secs_f64());
                // Sums of floats end a little below nothing.
                self.queued_bits = (self.queued_bits + sent - passed).max(0.0);
                self.sample.sent_bytes += (sent / 8.0) as u64;
                self.sample.delivered_bytes += (passed / 8.0) as u64;
                data += rate * TICK.as_secs_f64();
            }
            data / time.as_secs_f64()
        }
    }

    #[test]
    fn takes_what_media_leave() {
        let mut path = Path::new(10_000_000.0);
        path.run(Duration::from_secs(10), 4_000_000.0, true);
        path.longest = Duration::ZERO;
        let data = path.run(Duration::from_secs(60), 4_000_000.0, true);
        assert!(data > 0.75 * 6_000_000.0, "{data}");
        assert!(path.longest < TARGET * 2, "{:?}", path.longest);
        // More media come, and go.
        path.run(Duration::from_secs(3), 9_500_000.0, true);
        let data = path.run(Duration::from_secs(20), 9_500_000.0, true);
        assert!(data < 600_000.0, "{data}");
        path.run(Duration::from_secs(10), 1_000_000.0, true);
        let data = path.run(Duration::from_secs(20), 1_000_000.0, true);
        assert!(data > 0.7 * 9_000_000.0, "{data}");
    }

    #[test]
    fn finds_a_wide_path_soon_and_forgets_it() {
        let mut path = Path::new(1_000_000_000.0);
        path.run(Duration::from_secs(4), 0.0, true);
        let data = path.run(Duration::from_secs(5), 0.0, true);
        assert!(data > 500_000_000.0, "{data}");
        path.run(Duration::from_secs(100), 0.0, false);
        assert!(path.pace.rate < INITIAL_RATE as f64 * 1.5, "{}", path.pace.rate);
    }

    #[test]
    fn a_full_path_and_a_known_limit_leave_the_least() {
        let mut path = Path::new(1_000_000.0);
        let data = path.run(Duration::from_secs(60), 1_000_000.0, true);
        assert!(data < 300_000.0, "{data}");
        let mut pace = DataPace::new();
        let offered = PathSample { offered: 5_000_000, rtt: RTT, ..PathSample::default() };
        assert_eq!(pace.sample(path.now, offered, Some(6_000_000), true), 400_000);
        assert_eq!(pace.sample(path.now, offered, Some(5_000_000), true), MIN_RATE as u64);
    }

    #[test]
    fn loss_counts_where_there_is_no_queue() {
        let mut pace = DataPace::new();
        let mut now = Instant::now();
        let mut rate = |lost: u64| {
            let mut sample = PathSample { rtt: RTT, ..PathSample::default() };
            let mut rate = 0;
            for _ in 0..20 {
                now += TICK;
                sample.sent_bytes += 50_000;
                sample.lost_bytes += lost;
                sample.delivered_bytes += 50_000 - lost;
                rate = pace.sample(now, sample, None, true);
            }
            pace = DataPace::new();
            rate
        };
        assert!(rate(5_000) > INITIAL_RATE * 5);
        assert!(rate(10_000) < INITIAL_RATE);
    }
}
