//! Pipes over rough paths, on virtual time: whole endpoints with QUIC between them, over a network in memory. Loss is
//! no congestion, narrow paths are used, what was given up comes back, and nobody beside them starves.
//!
//! `SLUICE_SEED=<number>` runs one seed, which is how a failing one is replayed; `SLUICE_SEEDS=<number>` sets how many
//! seeds each test runs.
#![cfg(feature = "io")]

mod common;

use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::network::{Network, Path, clock, path, reno};
use common::worker::{Received, Source, Worker};
use common::{Cluster, Collect, Node, data};
use sluice_mesh::wan::ImpairmentConfig;

const DEFAULT_SEEDS: u64 = 2;

const CAMERA: Source = Source::Camera { bits_per_second: 800_000, temporal_layers: 2 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn for_each_seed<F: Future<Output = ()>>(scenario: impl Fn(u64) -> F) {
    let seeds = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        println!("seed {seed}");
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| runtime.block_on(scenario(seed)))) {
            eprintln!("seed {seed} failed; replay it with SLUICE_SEED={seed}");
            resume_unwind(failure);
        }
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config(spec: &str) -> ImpairmentConfig {
    spec.parse().unwrap()
}

/// Two nodes and the paths between them.
struct Pair {
    a: Node,
    b: Node,
    at_a: Worker,
    at_b: Worker,
    there: Path,
}

impl Pair {
    async fn new(number: u8, seed: u64, there: Path, back: Path) -> Self {
        let cluster = Cluster::new();
        let network = Arc::new(Network::default());
        let addr = |host: u8| SocketAddr::from(([10, 0, number, host], 4440));
        network.set_path(addr(1), addr(2), there.clone());
        network.set_path(addr(2), addr(1), back);
        let node = |name: &str, addr: SocketAddr| {
            let mut config = cluster.config(name);
            (config.listen, config.advertised) = (addr, addr);
            Node::start_on(config, network.socket(addr))
        };
        let (mut a, mut b) = (node("a", addr(1)), node("b", addr(2)));
        a.mesh.connect(b.address());
        let (key_of_b, ..) = a.link_up().await;
        let (key_of_a, ..) = b.link_up().await;
        let (at_a, at_b) = (Worker::new(&a.mesh, key_of_b, seed), Worker::new(&b.mesh, key_of_a, seed + 1));
        Self { a, b, at_a, at_b, there }
    }

    /// Over a path that is the same both ways.
    async fn over(spec: &str, seed: u64) -> Self {
        Self::new(0, seed, path(config(spec), seed), path(config(spec), seed + 1000)).await
    }

    /// Both ends have so many cameras and as many microphones.
    fn meet(&mut self, cameras: usize) {
        for _ in 0..cameras {
            self.at_a.send_to(&mut self.at_b, CAMERA);
            self.at_a.send_to(&mut self.at_b, Source::Microphone);
            self.at_b.send_to(&mut self.at_a, CAMERA);
            self.at_b.send_to(&mut self.at_a, Source::Microphone);
        }
    }

    async fn run(&mut self, time: Duration) {
        tokio::join!(self.at_a.run(time), self.at_b.run(time));
    }

    /// Of both directions.
    fn received(&self) -> (Vec<Received>, Vec<Received>) {
        let ((mut video, mut audio), (more_video, more_audio)) = (self.at_b.received(), self.at_a.received());
        video.extend(more_video);
        audio.extend(more_audio);
        (video, audio)
    }
}

/// Sums over streams.
#[derive(Debug)]
struct Account {
    /// Shares of what was sent.
    shed: f64,
    lost: f64,
    /// Of an hour of one stream.
    freezes_per_hour: f64,
    bits_per_second: f64,
    /// In milliseconds.
    delay_p99: f64,
}

fn account(streams: &[Received], time: Duration) -> Account {
    let sum = |read: fn(&Received) -> u64| streams.iter().map(read).sum::<u64>() as f64;
    let all = sum(|of| of.packets + of.shed + of.lost).max(1.0);
    let mut delays: Vec<u64> = streams.iter().flat_map(|of| of.delays.iter().copied()).collect();
    delays.sort_unstable();
    Account {
        shed: sum(|of| of.shed) / all,
        lost: sum(|of| of.lost) / all,
        freezes_per_hour: sum(|of| of.freezes) * 3600.0 / time.as_secs_f64() / streams.len().max(1) as f64,
        bits_per_second: sum(|of| of.bytes) * 8.0 / time.as_secs_f64(),
        delay_p99: delays.get(delays.len() * 99 / 100).map_or(0.0, |at| *at as f64 / 1000.0),
    }
}

/// A meeting over a path that is wide.
async fn meeting(spec: &str, seed: u64, time: Duration) -> (Account, Account) {
    let mut pair = Pair::over(spec, seed).await;
    pair.meet(3);
    pair.run(time).await;
    let (video, audio) = pair.received();
    let (video, audio) = (account(&video, time), account(&audio, time));
    println!("{spec}\n  video {video:?}\n  audio {audio:?}\n  {:?}", pair.a.status("b").unwrap().drops);
    (video, audio)
}

#[test]
fn random_loss_on_a_long_path_is_repaired_in_time() {
    for_each_seed(|seed| async move {
        let (video, audio) = meeting("80ms,5%", seed, seconds(200)).await;
        assert!(video.shed == 0.0 && video.lost < 0.0005 && audio.lost < 0.0005);
        assert!(video.freezes_per_hour <= 12.0);
        // A repair would come after 240 ms at the earliest.
        assert!(audio.delay_p99 < 150.0);
    });
}

#[test]
fn much_loss_is_no_congestion() {
    for_each_seed(|seed| async move {
        for spec in ["40ms,10%", "80ms,10%"] {
            let (video, audio) = meeting(spec, seed, seconds(120)).await;
            assert!(video.shed == 0.0 && video.lost < 0.001 && audio.lost < 0.001);
        }
    });
}

#[test]
fn loss_in_bursts_is_no_congestion() {
    for_each_seed(|seed| async move {
        let (video, audio) = meeting("40ms,burst=3%/8", seed, seconds(120)).await;
        assert!(video.shed == 0.0 && video.lost < 0.001 && audio.lost < 0.001);
    });
}

/// Two videos of 0.8 Mbit/s and their audio where 1.5 pass one way.
async fn narrow(seed: u64, spec: &str) -> Pair {
    let mut pair = Pair::new(0, seed, path(config(spec), seed), path(config("40ms"), seed + 1000)).await;
    pair.meet(2);
    pair
}

#[test]
fn a_narrow_path_is_used() {
    for_each_seed(|seed| async move {
        for spec in ["40ms,rate=1.5Mbps", "40ms,rate=1.5Mbps,queue=300ms"] {
            let mut pair = narrow(seed, spec).await;
            pair.run(seconds(10)).await;
            let before = pair.at_b.received();
            pair.run(seconds(120)).await;
            let after = pair.at_b.received();
            let since = |after: &[Received], before: &[Received]| -> Vec<Received> {
                let difference = |(after, before): (&Received, &Received)| Received {
                    bytes: after.bytes - before.bytes,
                    packets: after.packets - before.packets,
                    shed: after.shed - before.shed,
                    lost: after.lost - before.lost,
                    freezes: after.freezes - before.freezes,
                    delays: after.delays[before.delays.len()..].to_vec(),
                    ..after.clone()
                };
                after.iter().zip(before).map(difference).collect()
            };
            let video = account(&since(&after.0, &before.0), seconds(120));
            let audio = account(&since(&after.1, &before.1), seconds(120));
            println!("{spec}\n  video {video:?}\n  audio {audio:?}\n  {:?}", pair.a.status("b").unwrap());
            println!("  {:?}", pair.there.lock().unwrap().stats());
            let used = (video.bits_per_second + audio.bits_per_second) / 1_500_000.0;
            // 0.88 in the mean of seeds; less where both cameras take their pictures at the same moments.
            assert!(used >= 0.75, "{used}");
            assert!(audio.lost < 0.001 && audio.shed == 0.0);
            assert!(video.freezes_per_hour <= 120.0 && video.lost < 0.005);
        }
    });
}

#[test]
fn what_was_given_up_comes_back_when_the_path_widens() {
    for_each_seed(|seed| async move {
        let mut pair = narrow(seed, "40ms,rate=1.5Mbps").await;
        pair.run(seconds(30 + seed % 10)).await;
        pair.there.lock().unwrap().set_config(config("40ms,rate=10Mbps"));
        let widened = clock();
        pair.run(seconds(30)).await;
        let (video, _) = pair.at_b.received();
        assert!(video.iter().any(|video| video.shed > 0));
        let last = video.iter().filter_map(|video| video.last_shed).max().unwrap();
        println!("all is back after {:?}", last.saturating_duration_since(widened));
        assert!(last < widened + seconds(10));
    });
}

#[test]
fn two_pipes_share_a_bottleneck() {
    for_each_seed(|seed| async move {
        let bottleneck = path(config("40ms,rate=3Mbps"), seed);
        let mut pairs = Vec::new();
        for number in 0..2 {
            let back = path(config("40ms"), seed + 1000);
            let mut pair = Pair::new(number, seed + u64::from(number), bottleneck.clone(), back).await;
            pair.meet(3);
            pairs.push(pair);
        }
        let [first, second] = &mut pairs[..] else { unreachable!() };
        tokio::join!(first.run(seconds(90)), second.run(seconds(90)));
        let shares = [first, second].map(|pair| {
            let (video, audio) = pair.at_b.received();
            let (video, audio) = (account(&video, seconds(90)), account(&audio, seconds(90)));
            println!("  video {video:?}\n  audio {audio:?}");
            assert!(audio.lost < 0.003 && audio.shed == 0.0);
            video.bits_per_second + audio.bits_per_second
        });
        println!("shares {shares:?}, {:?}", bottleneck.lock().unwrap().stats());
        assert!(shares.iter().all(|share| *share > 3_000_000.0 * 0.25), "{shares:?}");
        assert!(shares.iter().sum::<f64>() > 3_000_000.0 * 0.7, "{shares:?}");
    });
}

#[test]
fn a_transfer_beside_a_pipe_does_not_starve() {
    for_each_seed(|seed| async move {
        for (spec, least) in [("40ms,rate=5Mbps", 0.4), ("40ms,rate=5Mbps,queue=20ms", 0.1)] {
            let bottleneck = path(config(spec), seed);
            let mut pair = Pair::new(0, seed, bottleneck.clone(), path(config("40ms"), seed + 1000)).await;
            pair.meet(8);
            let transfer = reno(bottleneck, Duration::from_millis(40), seconds(120));
            let (bytes, ()) = tokio::join!(transfer, pair.run(seconds(120)));
            let (video, audio) = pair.at_b.received();
            let (video, audio) = (account(&video, seconds(120)), account(&audio, seconds(120)));
            let share = bytes as f64 * 8.0 / 120.0;
            println!("{spec}: transfer {share}\n  video {video:?}\n  audio {audio:?}");
            println!("  {:?}", pair.a.status("b").unwrap());
            assert!(share > 5_000_000.0 * least, "{share}");
            assert!(audio.lost < 0.01 && audio.shed == 0.0);
        }
    });
}

/// Keeps the queues of some routes of data full for a time; gives the bytes that arrived.
async fn bulk(a: &Node, b: &Node, routes: usize, time: Duration) -> u64 {
    let (sink, _frames) = Collect::new();
    let key = a.status("b").unwrap().key.unwrap();
    let routes: Vec<_> = (0..routes).map(|_| b.mesh.allocate_route(sink.clone()).unwrap()).collect();
    let (end, payload) = (clock() + time, Bytes::from(vec![7; 16_000]));
    while clock() < end {
        for route in &routes {
            let before = a.dropped("data_full");
            while a.dropped("data_full") == before {
                a.mesh.send_data(key, data(*route, 0, payload.clone()));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sink.data.lock().unwrap().len() as u64 * payload.len() as u64
}

#[test]
fn data_takes_what_media_leave() {
    for_each_seed(|seed| async move {
        // Media take 1.9 Mbit/s, headers included.
        let paths = [
            ("40ms,rate=5Mbps", 1_500_000.0),
            ("40ms,rate=5Mbps,queue=20ms", 1_000_000.0),
            ("80ms,1%,rate=3Mbps", 80_000.0),
        ];
        for (spec, least) in paths {
            let mut pair = Pair::new(0, seed, path(config(spec), seed), path(config("40ms"), seed + 1000)).await;
            pair.meet(2);
            let Pair { a, b, at_a, at_b, .. } = &mut pair;
            let (bytes, ..) = tokio::join!(bulk(a, b, 4, seconds(40)), at_a.run(seconds(40)), at_b.run(seconds(40)));
            let (video, audio) = pair.at_b.received();
            let (video, audio) = (account(&video, seconds(40)), account(&audio, seconds(40)));
            let bits_per_second = bytes as f64 * 8.0 / 40.0;
            println!("{spec}: data {bits_per_second}\n  video {video:?}\n  audio {audio:?}");
            println!("  {:?}", pair.a.status("b").unwrap());
            assert!(video.shed < 0.02 && video.lost < 0.001 && audio.shed == 0.0 && audio.lost < 0.001);
            assert!(bits_per_second > least, "{bits_per_second}");
        }
    });
}
