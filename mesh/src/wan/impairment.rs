//! The impairment core: a path in one direction.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::{ImpairmentConfig, Loss, Rate, Timeline};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It arrives.
    Deliver {
        /// When.
        at: Instant,
        /// When it arrives a second time, if it does.
        again: Option<Instant>,
    },
    /// It does not.
    Drop(DropCause),
}

/// Why a packet does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropCause {
    /// Lost on the way.
    Loss,
    /// The bottleneck's queue was full.
    QueueFull,
    /// The path is down.
    Blackout,
}

/// When a piece of a stream passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    /// When the bottleneck has sent it: until then the next piece of the stream had better wait.
    pub sent: Instant,
    /// When it arrives.
    pub arrives: Instant,
}

/// What happened on a path so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImpairmentStats {
    /// Packets that arrive, counted once.
    pub delivered: u64,
    /// Packets that arrive twice.
    pub duplicated: u64,
    /// Packets lost on the way.
    pub lost: u64,
    /// Packets that the bottleneck's queue had no room for.
    pub queue_full: u64,
    /// Packets during a blackout.
    pub blackout: u64,
    /// Longest wait in the bottleneck's queue.
    pub max_queue_delay: Duration,
}

/// One direction of a path.
#[derive(Debug)]
pub struct Impairment {
    start: Option<Instant>,
    timeline: Timeline,
    rng: ChaCha8Rng,
    /// Of the Gilbert-Elliott channel.
    bad: bool,
    /// When the bottleneck has sent all that waits.
    busy_until: Option<Instant>,
    /// Arrival of the latest packet that is in order.
    last_arrival: Option<Instant>,
    stats: ImpairmentStats,
}

impl Impairment {
    /// A path that does not change by itself.
    pub fn new(config: ImpairmentConfig, seed: u64) -> Self {
        Self::with_timeline(Timeline::new(config), seed)
    }

    /// A path that changes; its time starts with the first packet.
    pub fn with_timeline(timeline: Timeline, seed: u64) -> Self {
        Self {
            start: None,
            timeline,
            rng: ChaCha8Rng::seed_from_u64(seed),
            bad: false,
            busy_until: None,
            last_arrival: None,
            stats: ImpairmentStats::default(),
        }
    }

    /// From now on the path is this, whatever its timeline said. Packets under way are not touched.
    pub fn set_config(&mut self, config: ImpairmentConfig) {
        self.timeline = Timeline::new(config);
    }

    /// A packet of `len` bytes enters the path.
    pub fn submit(&mut self, now: Instant, len: usize) -> Decision {
        let config = self.config(now);
        match self.decide(now, len, &config) {
            Ok(at) => {
                self.stats.delivered += 1;
                let again = self.chance(config.duplicate).then(|| at + self.jitter(&config));
                self.stats.duplicated += u64::from(again.is_some());
                Decision::Deliver { at, again }
            }
            Err(cause) => {
                *match cause {
                    DropCause::Loss => &mut self.stats.lost,
                    DropCause::QueueFull => &mut self.stats.queue_full,
                    DropCause::Blackout => &mut self.stats.blackout,
                } += 1;
                Decision::Drop(cause)
            }
        }
    }

    /// A piece of `len` bytes of a reliable stream enters the path: neither lost nor overtaken, it waits for the
    /// bottleneck however long that takes. `None` while nothing passes.
    pub fn submit_reliable(&mut self, now: Instant, len: usize) -> Option<Passage> {
        let config = self.config(now);
        if config.blackout || config.rate.is_some_and(|rate| rate.bits_per_second == 0) {
            return None;
        }
        let sent = match config.rate {
            Some(rate) => self.send(now + self.wait(now), len, rate),
            None => now,
        };
        let arrival = sent + config.delay + self.jitter(&config);
        self.stats.delivered += 1;
        Some(Passage { sent, arrives: self.in_order(arrival) })
    }

    /// What happened so far.
    pub fn stats(&self) -> ImpairmentStats {
        self.stats
    }

    fn config(&mut self, now: Instant) -> ImpairmentConfig {
        let start = *self.start.get_or_insert(now);
        self.timeline.at(now.saturating_duration_since(start)).copied().unwrap_or_default()
    }

    fn decide(&mut self, now: Instant, len: usize, config: &ImpairmentConfig) -> Result<Instant, DropCause> {
        if config.blackout {
            return Err(DropCause::Blackout);
        }
        if self.is_lost(config.loss) {
            return Err(DropCause::Loss);
        }
        let sent = self.queue(now, len, config)?;
        let arrival = sent + config.delay + self.jitter(config);
        if self.chance(config.reorder) {
            return Ok(arrival + config.reorder_by);
        }
        Ok(self.in_order(arrival))
    }

    /// An arrival, unless it must wait for the one before.
    fn in_order(&mut self, arrival: Instant) -> Instant {
        let in_order = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(in_order);
        in_order
    }

    fn is_lost(&mut self, loss: Loss) -> bool {
        match loss {
            Loss::None => false,
            Loss::Random(probability) => self.chance(probability),
            Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad } => {
                let change = if self.bad { to_good } else { to_bad };
                if self.chance(change) {
                    self.bad = !self.bad;
                }
                let probability = if self.bad { loss_bad } else { loss_good };
                self.chance(probability)
            }
        }
    }

    /// When the packet has left the bottleneck.
    fn queue(&mut self, now: Instant, len: usize, config: &ImpairmentConfig) -> Result<Instant, DropCause> {
        let Some(rate) = config.rate else {
            self.busy_until = None;
            return Ok(now);
        };
        if rate.bits_per_second == 0 {
            return Err(DropCause::QueueFull);
        }
        let wait = self.wait(now);
        let waiting_bytes = wait.as_secs_f64() * rate.bits_per_second as f64 / 8.0;
        // The packet that is being sent does not wait: an empty queue takes any packet.
        if wait > Duration::ZERO && waiting_bytes + len as f64 > rate.queue_bytes as f64 {
            return Err(DropCause::QueueFull);
        }
        self.stats.max_queue_delay = self.stats.max_queue_delay.max(wait);
        Ok(self.send(now + wait, len, rate))
    }

    /// How long the bottleneck needs for what waits already.
    fn wait(&self, now: Instant) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// The bottleneck begins to send at `start`; when it is done.
    fn send(&mut self, start: Instant, len: usize, rate: Rate) -> Instant {
        let sent = start + Duration::from_secs_f64(len as f64 * 8.0 / rate.bits_per_second as f64);
        self.busy_until = Some(sent);
        sent
    }

    fn jitter(&mut self, config: &ImpairmentConfig) -> Duration {
        if config.jitter.is_zero() { Duration::ZERO } else { config.jitter.mul_f64(self.rng.random::<f64>()) }
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random::<f64>() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: u32 = 20_000;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn run(config: ImpairmentConfig, seed: u64) -> (Vec<Decision>, ImpairmentStats) {
        let start = origin();
        run_from(start, config, seed)
    }

    fn run_from(start: Instant, config: ImpairmentConfig, seed: u64) -> (Vec<Decision>, ImpairmentStats) {
        let mut path = Impairment::new(config, seed);
        let decisions = (0..PACKETS).map(|n| path.submit(start + Duration::from_millis(1) * n, 1000)).collect();
        (decisions, path.stats())
    }

    fn share(count: u64) -> f64 {
        count as f64 / f64::from(PACKETS)
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let start = origin();
        let config = ImpairmentConfig {
            jitter: Duration::from_millis(9),
            loss: Loss::Random(0.1),
            reorder: 0.1,
            reorder_by: Duration::from_millis(5),
            duplicate: 0.1,
            ..Default::default()
        };
        assert_eq!(run_from(start, config, 7), run_from(start, config, 7));
        assert_ne!(run_from(start, config, 7), run_from(start, config, 8));
    }

    #[test]
    fn shares_are_as_asked() {
        let config = ImpairmentConfig { loss: Loss::Random(0.05), duplicate: 0.02, ..Default::default() };
        let (_, stats) = run(config, 1);
        assert!((share(stats.lost) - 0.05).abs() < 0.01, "{stats:?}");
        assert!((share(stats.duplicated) - 0.02).abs() < 0.005, "{stats:?}");
    }

    #[test]
    fn bursts_have_the_asked_length() {
        let loss = Loss::GilbertElliott { to_bad: 0.01, to_good: 0.2, loss_good: 0.0, loss_bad: 1.0 };
        let (decisions, stats) = run(ImpairmentConfig { loss, ..Default::default() }, 1);
        let lost: Vec<bool> = decisions.iter().map(|decision| matches!(decision, Decision::Drop(_))).collect();
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let mean = stats.lost as f64 / bursts as f64;
        assert!((mean - 5.0).abs() < 1.0, "mean burst {mean}");
    }

    #[test]
    fn the_bottleneck_holds_its_rate_and_its_queue() {
        // 8 Mbit/s come, 4 pass: 100 ms of queue.
        let rate = Rate { bits_per_second: 4_000_000, queue_bytes: 50_000 };
        let (_, stats) = run(ImpairmentConfig { rate: Some(rate), ..Default::default() }, 1);
        assert!((share(stats.delivered) - 0.5).abs() < 0.01, "{stats:?}");
        assert!(stats.max_queue_delay <= Duration::from_millis(100), "{stats:?}");
        assert!(stats.max_queue_delay >= Duration::from_millis(95), "{stats:?}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let arrivals = |config| -> Vec<Instant> {
            let (decisions, _) = run(config, 1);
            decisions
                .iter()
                .filter_map(|d| if let Decision::Deliver { at, .. } = d { Some(*at) } else { None })
                .collect()
        };
        let jitter = ImpairmentConfig { jitter: Duration::from_millis(20), ..Default::default() };
        assert!(arrivals(jitter).is_sorted());
        let reorder = ImpairmentConfig { reorder: 0.1, reorder_by: Duration::from_millis(5), ..jitter };
        assert!(!arrivals(reorder).is_sorted());
    }

    #[test]
    fn a_stream_waits_where_packets_are_lost() {
        let start = origin();
        let rate = Some(Rate::new(8_000_000, Duration::from_millis(1)));
        let delay = Duration::from_millis(40);
        let config = ImpairmentConfig { delay, loss: Loss::Random(1.0), rate, ..Default::default() };
        let mut path = Impairment::new(config, 1);
        // A millisecond each, all at once.
        for n in 1..=100 {
            let sent = start + Duration::from_millis(1) * n;
            assert_eq!(path.submit_reliable(start, 1000), Some(Passage { sent, arrives: sent + delay }));
        }
        path.set_config(ImpairmentConfig { blackout: true, ..config });
        assert_eq!(path.submit_reliable(start, 1000), None);
    }

    #[test]
    fn a_timeline_goes_dark_and_heals() {
        let start = origin();
        let good = ImpairmentConfig::default();
        let dark = ImpairmentConfig { blackout: true, ..good };
        let timeline = Timeline::new(good).then(Duration::from_secs(2), good).then(Duration::from_secs(1), dark);
        let mut path = Impairment::with_timeline(timeline, 1);
        let mut passes = |at| matches!(path.submit(start + Duration::from_millis(at), 100), Decision::Deliver { .. });
        assert_eq!([0, 999, 1000, 1999, 2000].map(&mut passes), [true, true, false, false, true]);
    }
}
