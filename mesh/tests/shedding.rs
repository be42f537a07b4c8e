//! Shedding on virtual time: what goes, in which order, and how it comes back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_mesh::{CapacityEstimator, Frame, FrameClass, FrameFlags, PathSample, ShedEvent, Shedder, Verdict};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::Layers;

const TICK: Duration = Duration::from_millis(50);

#[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
fn origin() -> Instant {
    Instant::now()
}

/// Video routes of three temporal layers, 30 pictures a second, and one of audio, through a shedder.
struct Bench {
    now: Instant,
    shedder: Shedder,
    pictures: u32,
    key_every: Option<u32>,
    /// What the far ends were told last.
    carried: HashMap<u32, Option<Layers>>,
    key_frames_asked: u32,
    video_bytes: u64,
    audio_shed: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            now: origin(),
            shedder: Shedder::new(),
            pictures: 0,
            key_every: None,
            carried: HashMap::new(),
            key_frames_asked: 0,
            video_bytes: 0,
            audio_shed: 0,
        }
    }

    /// `rates`: bits per second of each video route. Gives what was carried, in bits per second.
    fn run(&mut self, time: Duration, rates: &[u64], temporal_layers: u32, capacity: Option<u64>) -> u64 {
        let before = self.video_bytes;
        let end = self.now + time;
        let mut next_tick = self.now;
        while self.now < end {
            self.pictures += 1;
            let key = self.key_every.is_some_and(|every| self.pictures.is_multiple_of(every));
            let temporal =
                if key { 0 } else { [0, 2, 1, 2][self.pictures as usize % 4].min(temporal_layers as u8 - 1) };
            for (route, rate) in (0..).zip(rates) {
                for _ in 0..rate / 30 / 8 / 1000 {
                    self.offer(route, FrameClass::Video { temporal, spatial: 0, key });
                }
            }
            self.offer(99, FrameClass::Audio);
            self.now += Duration::from_millis(33);
            if self.now >= next_tick {
                next_tick += TICK;
                self.shedder.rebalance(self.now, capacity);
            }
            self.drain();
        }
        ((self.video_bytes - before) as f64 * 8.0 / time.as_secs_f64()) as u64
    }

    fn offer(&mut self, route: u32, class: FrameClass) {
        let mut packet = vec![0; 1000];
        packet[4..8].copy_from_slice(&self.pictures.to_be_bytes());
        let frame = Frame {
            route: RouteId(route),
            epoch: RouteEpoch(0),
            seq: 0,
            flags: FrameFlags::default(),
            class,
            packet: Bytes::from(packet),
        };
        match (self.shedder.offer(self.now, &frame), class) {
            (Verdict::Shed, FrameClass::Audio) => self.audio_shed += 1,
            (Verdict::Carry, FrameClass::Video { .. }) => self.video_bytes += 1000,
            _ => {}
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.shedder.poll_event() {
            match event {
                ShedEvent::LayersCarried { route, carried, .. } => {
                    self.carried.insert(route.0, carried);
                }
                ShedEvent::KeyFrameNeeded { .. } => self.key_frames_asked += 1,
            }
        }
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn what_fits_is_left_alone() {
    let mut bench = Bench::new();
    let carried = bench.run(seconds(10), &[2_400_000, 2_400_000], 3, Some(10_000_000));
    assert!(carried > 4_500_000, "{carried}");
    assert!(bench.carried.is_empty() && bench.key_frames_asked == 0);
}

#[test]
fn temporal_layers_go_first_and_from_all() {
    let mut bench = Bench::new();
    bench.run(seconds(2), &[2_400_000, 2_400_000], 3, None);
    // Half of the pictures are of layer 2: without those half the rate is left.
    let carried = bench.run(seconds(3), &[2_400_000, 2_400_000], 3, Some(3_600_000));
    assert!((2_200_000..2_800_000).contains(&carried), "{carried}");
    let told = Some(Layers { spatial: 0, temporal: 1 });
    assert_eq!(bench.carried, HashMap::from([(0, told), (1, told)]));
    assert_eq!(bench.key_frames_asked, 0, "a temporal layer comes and goes without a key frame");
}

#[test]
fn a_route_goes_whole_only_at_last_and_audio_never() {
    let mut bench = Bench::new();
    bench.run(seconds(2), &[2_400_000, 1_200_000], 1, None);
    bench.run(seconds(3), &[2_400_000, 1_200_000], 1, Some(2_000_000));
    assert_eq!(bench.carried, HashMap::from([(0, None)]), "the one that takes most");
    bench.run(seconds(3), &[2_400_000, 1_200_000], 1, Some(100_000));
    assert_eq!(bench.carried, HashMap::from([(0, None), (1, None)]));
    assert_eq!(bench.audio_shed, 0);
}

#[test]
fn layers_come_back_one_by_one_with_a_key_frame() {
    let mut bench = Bench::new();
    bench.run(seconds(2), &[2_400_000], 1, None);
    bench.run(seconds(2), &[2_400_000], 1, Some(1_000_000));
    assert_eq!(bench.carried[&0], None);
    let waiting = bench.run(seconds(4), &[2_400_000], 1, None);
    assert_eq!(waiting, 0, "no picture can be shown before a key frame");
    assert!(bench.key_frames_asked >= 2, "it is asked for until it comes");
    bench.key_every = Some(30);
    let carried = bench.run(seconds(3), &[2_400_000], 1, None);
    assert!(carried > 1_200_000, "{carried}");
    assert_eq!(bench.carried[&0], Some(Layers::ALL));
}

#[test]
fn a_route_that_is_forgotten_is_told_to_be_carried_again() {
    let mut bench = Bench::new();
    bench.run(seconds(2), &[2_400_000], 1, None);
    bench.run(seconds(2), &[2_400_000], 1, Some(1_000_000));
    assert_eq!(bench.carried[&0], None);
    // The publisher pauses for longer than a route is remembered, and the path recovers meanwhile.
    bench.run(seconds(15), &[], 1, None);
    assert_eq!(bench.carried[&0], Some(Layers::ALL));
    let carried = bench.run(seconds(2), &[2_400_000], 1, None);
    assert!(carried > 2_000_000, "{carried}");
}

#[test]
fn a_capacity_at_the_edge_does_not_make_it_flap() {
    let mut bench = Bench::new();
    bench.key_every = Some(60);
    bench.run(seconds(2), &[2_400_000, 2_400_000], 3, None);
    let mut changes = 0;
    let mut last = bench.carried.clone();
    for n in 0..120 {
        // The estimate moves about by 4 percent.
        let capacity = 5_300_000 + (n % 3) * 200_000;
        bench.run(seconds(1) / 2, &[2_400_000, 2_400_000], 3, Some(capacity));
        changes += usize::from(bench.carried != last);
        last = bench.carried.clone();
    }
    assert!(changes <= 8, "{changes} changes in a minute");
}

/// A bottleneck with a queue, and a sender that obeys the estimate.
struct Path {
    now: Instant,
    rate: u64,
    queue_bytes: f64,
    queue_limit: f64,
    sent: u64,
    lost: u64,
    /// Share of what comes out of the bottleneck that is lost behind it, in turn.
    own_loss: &'static [f64],
    ticks: usize,
    delivered: f64,
    estimator: CapacityEstimator,
}

impl Path {
    fn new(rate: u64, queue_limit: f64) -> Self {
        let estimator = CapacityEstimator::new();
        Self {
            now: origin(),
            rate,
            queue_bytes: 0.0,
            queue_limit,
            sent: 0,
            lost: 0,
            own_loss: &[0.0],
            ticks: 0,
            delivered: 0.0,
            estimator,
        }
    }

    /// Gives the worst queueing delay after the first two seconds.
    fn run(&mut self, time: Duration, offered: u64, base_rtt: Duration) -> (Option<u64>, Duration) {
        let (start, mut capacity, mut worst) = (self.now, None, Duration::ZERO);
        while self.now < start + time {
            self.now += TICK;
            let send = capacity.map_or(offered, |capacity: u64| offered.min(capacity));
            let bytes = send as f64 / 8.0 * TICK.as_secs_f64();
            self.sent += bytes as u64;
            let passed = (self.queue_bytes + bytes).min(self.rate as f64 / 8.0 * TICK.as_secs_f64());
            self.ticks += 1;
            let own_loss = passed * self.own_loss[self.ticks % self.own_loss.len()];
            self.delivered += passed - own_loss;
            self.queue_bytes += bytes - passed;
            self.lost += own_loss as u64;
            self.lost += (self.queue_bytes - self.queue_limit).max(0.0) as u64;
            self.queue_bytes = self.queue_bytes.clamp(0.0, self.queue_limit);
            let queue = Duration::from_secs_f64(self.queue_bytes * 8.0 / self.rate as f64);
            if self.now > start + seconds(2) {
                worst = worst.max(queue);
            }
            let sample = PathSample {
                rtt: base_rtt + queue,
                sent_bytes: self.sent,
                lost_bytes: self.lost,
                delivered_bytes: self.delivered as u64,
                offered,
                ..PathSample::default()
            };
            capacity = self.estimator.sample(self.now, sample);
        }
        (capacity, worst)
    }

    /// The other end is away: what is sent is held, up to a window's worth, and the rest waits here and is dropped.
    fn stall(&mut self, time: Duration, offered: u64, base_rtt: Duration) {
        const WINDOW: f64 = 240_000.0;
        const WAITING: f64 = 80_000.0;
        let (start, mut waiting, mut dropped) = (self.now, 0.0, 0.0);
        while self.now < start + time {
            self.now += TICK;
            waiting += offered as f64 / 8.0 * TICK.as_secs_f64();
            let sent = waiting.min((WINDOW - self.queue_bytes).max(0.0));
            self.sent += sent as u64;
            self.queue_bytes += sent;
            waiting -= sent;
            dropped += (waiting - WAITING).max(0.0);
            waiting = waiting.min(WAITING);
            let sample = PathSample {
                rtt: base_rtt,
                sent_bytes: self.sent,
                lost_bytes: self.lost,
                delivered_bytes: self.delivered as u64,
                backlog_bytes: waiting as u64,
                dropped_bytes: dropped as u64,
                offered,
            };
            self.estimator.sample(self.now, sample);
        }
    }
}

#[test]
fn a_node_that_was_away_is_not_taken_for_a_narrow_path() {
    for away in [500, 1_000, 2_000, 5_000].map(Duration::from_millis) {
        let mut path = Path::new(1_000_000_000, 1e6);
        let base_rtt = Duration::from_millis(1);
        path.run(seconds(10), 7_000_000, base_rtt);
        for _ in 0..5 {
            path.stall(away, 7_000_000, base_rtt);
            path.run(Duration::from_millis(700), 7_000_000, base_rtt);
        }
        let (capacity, _) = path.run(seconds(3), 7_000_000, base_rtt);
        assert!(capacity.is_none_or(|capacity| capacity >= 7_000_000), "{away:?}: {capacity:?}");
    }
}

#[test]
fn an_end_that_was_away_itself_concludes_nothing() {
    let mut path = Path::new(1_000_000_000, 1e6);
    let base_rtt = Duration::from_millis(1);
    path.run(seconds(10), 7_000_000, base_rtt);
    path.now += seconds(2);
    path.queue_bytes = 1_000_000.0;
    assert_eq!(path.run(seconds(3), 7_000_000, base_rtt).0, None);
}

#[test]
fn a_path_that_became_narrow_is_tried_at_its_former_width_once() {
    let mut path = Path::new(20_000_000, 1e6);
    let base_rtt = Duration::from_millis(40);
    path.run(seconds(10), 10_000_000, base_rtt);
    path.rate = 4_000_000;
    path.run(seconds(10), 10_000_000, base_rtt);
    let (capacity, worst) = path.run(seconds(20), 10_000_000, base_rtt);
    assert!((2_500_000..5_000_000).contains(&capacity.unwrap()), "{capacity:?}");
    assert!(worst < Duration::from_millis(150), "{worst:?}");
}

#[test]
fn a_path_without_a_queue_shows_no_limit() {
    let mut path = Path::new(100_000_000, 1e6);
    assert_eq!(path.run(seconds(20), 10_000_000, Duration::from_millis(80)), (None, Duration::ZERO));
}

#[test]
fn a_path_that_loses_shows_no_limit() {
    // A tenth, more or less; and nothing for a second, then most of what is sent within 100 ms.
    const BURST: [f64; 20] = {
        let mut shares = [0.0; 20];
        (shares[0], shares[1]) = (0.9, 0.9);
        shares
    };
    for own_loss in [&[0.1, 0.05, 0.2, 0.15, 0.0][..], &BURST] {
        let mut path = Path::new(100_000_000, 1e6);
        path.own_loss = own_loss;
        assert_eq!(path.run(seconds(60), 10_000_000, Duration::from_millis(80)), (None, Duration::ZERO));
    }
}

#[test]
fn a_bottleneck_without_a_queue_is_found() {
    let mut path = Path::new(5_000_000, 2_000.0);
    path.run(seconds(10), 10_000_000, Duration::from_millis(80));
    let lost = path.lost;
    let (capacity, _) = path.run(seconds(60), 10_000_000, Duration::from_millis(80));
    assert!((2_500_000..6_500_000).contains(&capacity.unwrap()), "{capacity:?}");
    let lost = (path.lost - lost) as f64 * 8.0 / 60.0 / 5_000_000.0;
    assert!(lost < 0.1, "{lost}");
}

#[test]
fn a_bottleneck_is_found_and_its_queue_stays_short() {
    for queue_limit in [60_000.0, 1e6] {
        let mut path = Path::new(5_000_000, queue_limit);
        let (capacity, worst) = path.run(seconds(30), 10_000_000, Duration::from_millis(80));
        let capacity = capacity.unwrap();
        assert!((3_000_000..6_000_000).contains(&capacity), "{capacity}");
        assert!(worst < Duration::from_millis(150), "{worst:?}");
    }
}

#[test]
fn a_wider_path_is_found_again() {
    let mut path = Path::new(5_000_000, 1e6);
    path.run(seconds(10), 10_000_000, Duration::from_millis(80));
    path.rate = 50_000_000;
    let (capacity, _) = path.run(seconds(60), 10_000_000, Duration::from_millis(80));
    assert!(capacity.is_none_or(|capacity| capacity > 12_000_000), "{capacity:?}");
}
