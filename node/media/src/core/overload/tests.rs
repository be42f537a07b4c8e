//! A model of a worker on virtual time: one queue, and work that costs by consumer.
#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]

use std::collections::VecDeque;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use slotmap::SlotMap;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Consumers of each kind.
const CONSUMERS: usize = 60;
const AUDIO_PACKETS_PER_SECOND: u32 = 1_000;
const VIDEO_PACKETS_PER_SECOND: u32 = 3_000;
const PUBLISHERS: u32 = 20;
/// Of the packets.
const AUDIO_SHARE: f64 = 0.25;

/// A turn takes up no more than this, as the driver sees to it.
const TURN: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio,
    Video,
}

/// What was seen in a stretch of time.
#[derive(Debug, Default)]
struct Seen {
    delay: Duration,
    raised: u32,
    /// Pieces of video that were sent, and those that were to be sent.
    sent: u64,
    offered: u64,
}

struct Model {
    overload: Overload,
    consumers: Vec<ConsumerKey>,
    kept: usize,
    start: Instant,
    now: Instant,
    idle: Duration,
    queue: VecDeque<(Instant, Kind)>,
    rng: ChaCha8Rng,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (mut keys, start) = (SlotMap::with_key(), Instant::now());
        let consumers = (0..CONSUMERS).map(|_| keys.insert(())).collect();
        Self {
            overload: Overload::default(),
            consumers,
            kept: CONSUMERS,
            start,
            now: start,
            idle: Duration::ZERO,
            queue: VecDeque::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Packets of a time, as bursts of publishers that have begun at any time.
    fn arrivals(&mut self, time: Duration) -> VecDeque<(Instant, Kind)> {
        let mut arrivals = Vec::new();
        let steady = |arrivals: &mut Vec<_>, from: Instant, every: Duration, burst: u32, kind| {
            let bursts = (0..).map(|index| from + every * index).take_while(|at| *at < self.now + time);
            arrivals.extend(bursts.flat_map(|at| (0..burst).map(move |_| (at, kind))));
        };
        for _ in 0..PUBLISHERS {
            let from = self.now + self.rng.random_range(0..40) * MS;
            let burst = VIDEO_PACKETS_PER_SECOND / PUBLISHERS / 25;
            steady(&mut arrivals, from, 40 * MS, burst, Kind::Video);
            let audio = self.now + self.rng.random_range(0..20) * MS;
            steady(&mut arrivals, audio, SECOND / (AUDIO_PACKETS_PER_SECOND / PUBLISHERS), 1, Kind::Audio);
            // Key frames.
            let key = self.now + self.rng.random_range(0..2_000) * MS;
            steady(&mut arrivals, key, 2 * SECOND, 5 * burst, Kind::Video);
        }
        arrivals.sort_by_key(|(at, _)| *at);
        arrivals.into()
    }

    /// Runs for a time in which everything that is offered would take `load` times as long as there is.
    fn run(&mut self, time: Duration, load: f64) -> Seen {
        let mut seen = Seen::default();
        let mut arrivals = self.arrivals(time);
        let end = self.now + time;
        let packets = arrivals.len() as f64;
        let piece = time.mul_f64(load / packets / CONSUMERS as f64);
        while self.now < end {
            while arrivals.front().is_some_and(|(at, _)| *at <= self.now) {
                self.queue.extend(arrivals.pop_front());
            }
            if self.overload.poll_timeout().is_some_and(|at| at <= self.now) && self.overload.release(self.now, || true)
            {
                self.count_kept();
            }
            if self.queue.is_empty() {
                let next = [arrivals.front().map(|(at, _)| *at), self.overload.poll_timeout(), Some(end)];
                let next = next.into_iter().flatten().min().unwrap().max(self.now);
                self.idle += next - self.now;
                self.now = next;
                continue;
            }
            let waited = self.now - self.queue[0].0;
            if self.overload.hear(self.now, waited, std::mem::take(&mut self.idle), || true) {
                seen.raised += 1;
                self.count_kept();
            }
            let turn_ends = self.now + TURN;
            while self.now < turn_ends
                && let Some((at, kind)) = self.queue.pop_front()
            {
                let consumers = if kind == Kind::Video { self.kept } else { CONSUMERS };
                if kind == Kind::Video {
                    seen.sent += self.kept as u64;
                    seen.offered += CONSUMERS as u64;
                }
                // Now and then somebody else has the processor.
                let noise = if self.rng.random_bool(0.000_3) { 3 * MS } else { Duration::ZERO };
                self.now += piece * consumers as u32 + noise;
                seen.delay = seen.delay.max(self.now - at);
            }
        }
        seen
    }

    fn count_kept(&mut self) {
        self.kept = self.consumers.iter().filter(|consumer| !self.overload.sheds(**consumer)).count();
    }

    fn at(&self) -> Duration {
        self.now - self.start
    }
}

#[test]
fn at_twice_the_knee_and_beyond_nothing_is_late_and_much_is_sent() {
    for load in [1.2, 1.5, 2.0, 3.0] {
        let mut shares = 0.0;
        for seed in 0..40 {
            let mut model = Model::new(seed);
            let before = model.run(5 * SECOND, 0.7);
            assert_eq!((before.raised, before.sent), (0, before.offered), "seed {seed}: there is no overload");
            let onset = model.run(2 * SECOND, load);
            let steady = model.run(60 * SECOND, load);
            let worst = onset.delay.max(steady.delay);
            assert!(worst < 150 * MS, "seed {seed}, load {load}: {worst:?}");
            assert!(steady.raised <= 20, "seed {seed}, load {load}: {} times", steady.raised);
            shares += steady.sent as f64 / steady.offered as f64;
        }
        // What audio leaves of the worker's time.
        let room = (f64::from(MAX_BUSY) - load * AUDIO_SHARE) / (load * (1.0 - AUDIO_SHARE));
        println!("load {load}: a share of {} of the video is sent, of {room}", shares / 40.0);
        assert!(load > 2.0 || shares / 40.0 > room / 2.0);
    }
}

#[test]
fn everything_comes_back_soon_and_stays() {
    for seed in 0..40 {
        let mut model = Model::new(seed);
        model.run(60 * SECOND, 2.0);
        assert!(model.overload.is_shedding(), "seed {seed}");
        model.run(45 * SECOND, 0.6);
        assert!(!model.overload.is_shedding(), "seed {seed}: {:?} at {:?}", model.overload, model.at());
        let after = model.run(60 * SECOND, 0.6);
        assert_eq!((after.raised, after.sent), (0, after.offered), "seed {seed}");
    }
}

#[test]
fn a_stall_that_is_made_up_for_sheds_nothing() {
    for seed in 0..40 {
        let mut model = Model::new(seed);
        model.run(SECOND, 0.5);
        model.now += 100 * MS;
        let seen = model.run(SECOND, 0.5);
        assert_eq!(seen.raised, 0, "seed {seed}");
    }
}

#[test]
fn what_is_silent_comes_back_by_time_alone() {
    let mut overload = Overload::default();
    let mut now = Instant::now();
    for _ in 0..10 {
        overload.hear(now, 100 * MS, Duration::ZERO, || true);
        now += 10 * MS;
    }
    assert!(overload.is_shedding());
    assert_eq!(overload.lag(now), 100 * MS);
    let start = now;
    while let Some(at) = overload.poll_timeout() {
        now = at;
        overload.release(now, || true);
    }
    assert!(!overload.is_shedding());
    assert!(now - start <= MIN_HOLD + RELEASE_INTERVAL * 8, "{:?}", now - start);
    assert_eq!(overload.lag(now), Duration::ZERO);
}

#[test]
fn consumers_are_shed_evenly_and_before_pipes() {
    let (mut consumers, mut pipes) = (SlotMap::<ConsumerKey, ()>::with_key(), SlotMap::with_key());
    let consumers: Vec<_> = (0..1_000).map(|_| consumers.insert(())).collect();
    let pipes: Vec<PipeConsumerKey> = (0..100).map(|_| pipes.insert(())).collect();
    let mut overload = Overload::default();
    for step in 0..=8 {
        overload.shed = step as f32 * STEP;
        let shed = consumers.iter().filter(|consumer| overload.sheds(**consumer)).count() as f32 / 1_000.0;
        let shed_pipes = pipes.iter().filter(|pipe| overload.sheds_pipe(**pipe)).count() as f32 / 100.0;
        let (share, pipes_share) =
            ((overload.shed / CONSUMERS_SHARE).min(1.0), ((overload.shed - CONSUMERS_SHARE) / 0.25).max(0.0));
        assert!((shed - share).abs() < 0.02, "{share}: {shed}");
        assert!((shed_pipes - pipes_share).abs() < 0.05, "{pipes_share}: {shed_pipes}");
    }
}

#[test]
fn who_is_idle_in_between_is_late_by_somebody_elses_doing() {
    let mut overload = Overload::default();
    let mut now = Instant::now();
    for _ in 0..100 {
        assert!(!overload.hear(now, 200 * MS, MS, || true));
        now += 10 * MS;
    }
    assert!(!overload.is_shedding());
    assert_eq!(overload.lag(now), 200 * MS);
}

#[test]
fn a_worker_without_video_is_overloaded_when_it_is_late_for_long_and_not_long_after() {
    let mut overload = Overload::default();
    let mut now = Instant::now();
    let start = now;
    while !overload.hear(now, 100 * MS, Duration::ZERO, || false) {
        now += 5 * MS;
    }
    assert!(now - start >= PERSISTENT_AUDIO, "{:?}", now - start);
    assert!(overload.is_shedding());
    let ended = now;
    while overload.is_shedding() {
        now += 10 * MS;
        overload.hear(now, Duration::ZERO, 9 * MS, || false);
        overload.release(now, || false);
    }
    assert!(now - ended <= MIN_HOLD + 10 * MS, "{:?}", now - ended);
}
