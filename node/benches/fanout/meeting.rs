//! The users of the benchmark, and the two measurements with them.

use std::time::{Duration, Instant};

use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{Histogram, Source, VideoSource};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{Certificate, SrtpProfile, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};

use crate::Options;
use crate::load::Load;
use crate::report::Rates;
use crate::server::{Server, free_udp};
use crate::usage::process_time;

const WARM_UP: Duration = Duration::from_secs(3);
/// Of the packets of the measurement a subscriber opens every tenth; it looks at the header of each.
const OPEN_EVERY: u32 = 10;
/// So much of what is sent comes for so long, after this time at most.
const SETTLED_SHARE: f64 = 0.98;
const SETTLED: Duration = Duration::from_secs(2);
const SETTLED_WITHIN: Duration = Duration::from_secs(40);
const JOIN_WITHIN: Duration = Duration::from_secs(20);

/// Packets out per second of the node's processor time.
pub(crate) async fn fanout(options: Options, rates: &mut Rates) {
    println!("fanout of {}", options.load);
    let server = Server::start("bench", free_udp(), &[]).await;
    let config =
        DriverConfig { receive_offload: options.gro, coalesce: Duration::from_millis(1), ..DriverConfig::default() };
    let meeting = Meeting::join(&Driver::new(config), &server, options.load, |user| user).await;
    tokio::time::sleep(WARM_UP).await;
    meeting.delays().await;
    for _ in 0..options.runs {
        rates.add("sluice node, 1 worker", meeting.rate(&server, options.window).await);
    }
}

pub(crate) struct Meeting {
    /// They publish until they are dropped.
    _publishers: Vec<User>,
    subscribers: Vec<User>,
}

#[derive(Debug, Default)]
struct Received {
    packets: u64,
    lost: u64,
}

impl Meeting {
    /// Everybody joins as `with` says.
    pub(crate) async fn join(
        driver: &Driver,
        server: &Server,
        load: Load,
        with: impl Fn(UserConfig) -> UserConfig,
    ) -> Self {
        let mut transport = TransportConfig::new(Certificate::generate().expect("a certificate"));
        transport.open_every = OPEN_EVERY;
        let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
        for room in 0..load.rooms {
            let name = format!("room-{room}");
            for index in 0..load.subscribers {
                let seed = (room * 1000 + index) as u64;
                let mut config =
                    UserConfig::new(&server.url(), &name, &format!("subscriber-{index}"), transport.clone(), seed);
                config.produce = false;
                subscribers.push(User::join(driver, with(config)).await.expect("joining"));
            }
            for index in 0..load.publishers {
                let seed = (room * 1000 + load.subscribers + index) as u64;
                let config =
                    UserConfig::new(&server.url(), &name, &format!("publisher-{index}"), transport.clone(), seed);
                let publisher = User::join(driver, with(config)).await.expect("joining");
                // What publishers send shall not coincide.
                tokio::time::sleep(load.interval() / load.all_publishers() as u32).await;
                publisher.produce(load.source()).await.expect("producing");
                publishers.push(publisher);
            }
        }
        for subscriber in &subscribers {
            let room = subscriber.wait(JOIN_WITHIN, "a consumer", |room| room.consumers.len() == load.publishers).await;
            room.expect("everybody receives");
            let profile = subscriber.lane(false).await.expect("a transport").connected(JOIN_WITHIN).await;
            assert_eq!(profile.expect("a connected transport"), SrtpProfile::AeadAes128Gcm);
        }
        Self { _publishers: publishers, subscribers }
    }

    /// Waits until everybody has got all that is sent for a while: a node that was busy with joins may have shed some.
    pub(crate) async fn settled(&self, load: Load) {
        let start = Instant::now();
        let all = load.packets_per_second() * SETTLED.as_secs_f64();
        loop {
            let before = self.received().await.packets;
            tokio::time::sleep(SETTLED).await;
            if (self.received().await.packets - before) as f64 > all * SETTLED_SHARE {
                break;
            }
            assert!(start.elapsed() < SETTLED_WITHIN, "not everything comes");
        }
        self.delays().await;
    }

    /// Lets a window pass: packets out per second of the node's processor time.
    pub(crate) async fn rate(&self, server: &Server, window: Duration) -> f64 {
        let (before, cpu, start) = (self.received().await, process_time(server.pid()), Instant::now());
        tokio::time::sleep(window).await;
        let (after, cpu, time) = (self.received().await, process_time(server.pid()) - cpu, start.elapsed());
        let packets = after.packets - before.packets;
        let delays = self.delays().await;
        println!(
            "  {:.0} packets/s out, {:.1}% of a core, {} lost, delay p50 {:.1} ms, p99 {:.1} ms",
            packets as f64 / time.as_secs_f64(),
            cpu.as_secs_f64() / time.as_secs_f64() * 100.0,
            after.lost.saturating_sub(before.lost),
            us(&delays, 0.5) / 1e3,
            us(&delays, 0.99) / 1e3,
        );
        packets as f64 / cpu.as_secs_f64()
    }

    /// The delays of what subscribers received since the last call.
    pub(crate) async fn delays(&self) -> Histogram {
        let mut all = Histogram::default();
        for subscriber in &self.subscribers {
            all.merge(&delays(subscriber).await);
        }
        all
    }

    async fn received(&self) -> Received {
        let mut received = Received::default();
        for subscriber in &self.subscribers {
            let lane = subscriber.lane(false).await.expect("a transport");
            let streams = lane.with(|session, _| session.stream_stats()).await.expect("a driver");
            for (_, stats) in streams {
                received.packets += stats.packets;
                received.lost += stats.lost();
            }
        }
        received
    }
}

async fn join(
    driver: &Driver,
    server: &Server,
    room: &str,
    peer: &str,
    transport: &TransportConfig,
    seed: u64,
) -> User {
    let config = UserConfig::new(&server.url(), room, peer, transport.clone(), seed);
    User::join(driver, config).await.expect("joining")
}

/// What a pipe adds to the one-way delay.
pub(crate) async fn delay(options: Options) {
    println!("delay: one VP8 publisher of 1.2 Mbit/s, received on its own node and through a pipe");
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (free_udp(), free_udp());
    let near = mesh_arguments(&directory, "near", second);
    let far = mesh_arguments(&directory, "far", first);
    let (near, far) = tokio::join!(Server::start("near", first, &near), Server::start("far", second, &far));
    let driver = Driver::new(DriverConfig { receive_offload: options.gro, ..DriverConfig::default() });
    let transport = TransportConfig::new(Certificate::generate().expect("a certificate"));
    let publisher = join(&driver, &near, "room", "publisher", &transport, 1).await;
    publisher.produce(Source::Video(VideoSource::at_bitrate(1_200_000))).await.expect("producing");
    let own = join(&driver, &near, "room", "own", &transport, 2).await;
    let piped = join(&driver, &far, "room", "piped", &transport, 3).await;
    for user in [&own, &piped] {
        let consumes = user.wait(JOIN_WITHIN, "video", |room| room.consumer("publisher", Kind::Video).is_some()).await;
        consumes.expect("both receive");
    }
    tokio::time::sleep(WARM_UP).await;
    println!(
        "{:<8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "run", "own p50", "own p99", "piped p50", "piped p99", "p50 adds", "p99 adds"
    );
    // What came while it warmed up is left out.
    let _ = (delays(&own).await, delays(&piped).await);
    for run in 0..options.runs {
        tokio::time::sleep(options.window).await;
        let (own, piped) = (delays(&own).await, delays(&piped).await);
        let [own50, own99] = [0.5, 0.99].map(|quantile| us(&own, quantile));
        let [piped50, piped99] = [0.5, 0.99].map(|quantile| us(&piped, quantile));
        let (adds50, adds99) = (piped50 - own50, piped99 - own99);
        println!(
            "{run:<8} {own50:>7.0} us {own99:>7.0} us {piped50:>7.0} us {piped99:>7.0} us {adds50:>7.0} us {adds99:>7.0} us"
        );
    }
}

/// The delays of what a user received since the last call.
async fn delays(user: &User) -> Histogram {
    let lane = user.lane(false).await.expect("a transport");
    let tally = lane.with(|session, now| session.tally(now)).await.expect("a driver");
    let mut delays = tally.video.delay;
    delays.merge(&tally.audio.delay);
    delays
}

/// A quantile in microseconds.
fn us(histogram: &Histogram, quantile: f64) -> f64 {
    histogram.quantile(quantile).map_or(f64::NAN, |value| value.as_secs_f64() * 1e6)
}

/// The settings that join two nodes: certificates of one CA, and each other's address.
pub(crate) fn mesh_arguments(directory: &tempfile::TempDir, id: &str, seed: std::net::SocketAddr) -> Vec<String> {
    let path = directory.path();
    let node = id.parse().expect("a name");
    if !path.join("ca.pem").exists() {
        sluice_node::ca::init(path, "sluice", 1).expect("a CA");
    }
    sluice_node::ca::issue(path, &node, &[], 1).expect("a certificate");
    let file = |name: &str| path.join(name).display().to_string();
    [
        ("--cluster-seeds", seed.to_string()),
        ("--mesh-ca", file("ca.pem")),
        ("--mesh-cert", file(&format!("{id}.pem"))),
        ("--mesh-key", file(&format!("{id}.key"))),
        ("--region", id.to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

/// A runtime of one thread: all users of the benchmark live in it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}
