//! How many users one process carries: 2,000 who receive one Opus stream each, and 400 who receive 1 Mbit/s of video
//! each.
//!
//! Real sockets on loopback, ICE, DTLS and SRTP (AES-128-GCM), every packet opened, receiver reports sent,
//! transport-wide feedback for the video. The other end is no SFU but a thread of this process that seals and sends in
//! an SFU's rhythm: to all users one after the other, audio each 20 ms (80 bytes), video as two packets of 1,200 bytes
//! each 20 ms. The driver has one thread. For each second are shown: packets, the driver's own drops, the lag of its
//! timers, one-way delay, and the processor time of the driver's thread alone; at the end, whether every packet
//! arrived.
//!
//! `cargo bench -p sluice-loadtest --bench crowd`
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{HEADER, Server, TRANSPORT_CC, VIDEO, connect, received, thread_time};
use sluice_loadtest::clock::Clock;
use sluice_loadtest::driver::{Driver, DriverConfig, Lane, LaneConfig};
use sluice_loadtest::media::Histogram;
use sluice_loadtest::transport::{Certificate, TransportConfig};

const SECONDS: u32 = 10;
const INTERVAL: Duration = Duration::from_millis(20);

/// Users of one kind, and what each gets in an interval.
struct Crowd {
    name: &'static str,
    users: usize,
    packets: usize,
    len: usize,
    feedback: bool,
}

const CROWDS: [Crowd; 2] = [
    Crowd { name: "audience, Opus", users: 2000, packets: 1, len: HEADER + 80, feedback: false },
    Crowd { name: "video, 1 Mbit/s", users: 400, packets: 2, len: VIDEO, feedback: true },
];

fn main() {
    // `cargo test --benches` must not measure.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for crowd in CROWDS {
        runtime.block_on(run(crowd));
    }
}

async fn run(crowd: Crowd) {
    println!("{}: {} users, {} packets/s", crowd.name, crowd.users, crowd.users * crowd.packets * 50);
    let driver = Driver::new(DriverConfig::default());
    let certificate = Certificate::generate().expect("a certificate");
    let server = Server::new(crowd.users, &certificate);
    let transport = TransportConfig::new(certificate);
    let (server, lanes) = connect(&driver, server, &transport, |_| LaneConfig::default()).await;
    if crowd.feedback {
        for lane in &lanes {
            lane.with(|session, _| session.set_transport_cc(Some(TRANSPORT_CC))).await.expect("a running driver");
        }
    }
    driver.collect().await;
    let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sending = thread::spawn({
        let (sent, stop, clock) = (sent.clone(), stop.clone(), driver.clock());
        move || send(server, &crowd, &clock, &sent, &stop)
    });
    println!("{:>9} {:>9} {:>9} {:>9} {:>9} {:>9}", "packets", "dropped", "unsent", "lag p99", "lag max", "cpu");
    let mut cpu = cpu(&lanes[0]).await;
    let mut start = Instant::now();
    let mut delay = Histogram::default();
    for _ in 0..SECONDS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let collected = driver.collect().await;
        collected.tallies.values().for_each(|tally| delay.merge(&tally.video.delay));
        let cpu_before = std::mem::replace(&mut cpu, self::cpu(&lanes[0]).await);
        let elapsed = std::mem::replace(&mut start, Instant::now()).elapsed();
        println!(
            "{:>9} {:>9} {:>9} {:>6.1} ms {:>6.1} ms {:>7.1} %",
            collected.received.datagrams,
            collected.receive_drops,
            collected.send_drops,
            ms(collected.lag.quantile(0.99).unwrap_or_default()),
            ms(collected.lag.max()),
            (cpu - cpu_before).as_secs_f64() / elapsed.as_secs_f64() * 100.0,
        );
    }
    stop.store(true, Ordering::Relaxed);
    sending.join().expect("the sender ends");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut arrived = 0;
    for lane in &lanes {
        arrived += received(lane).await;
    }
    let [p50, p99] = [0.5, 0.99].map(|quantile| ms(delay.quantile(quantile).unwrap_or_default()));
    println!(
        "{arrived} of {} packets arrived; one-way delay p50 {p50:.2} ms, p99 {p99:.2} ms\n",
        sent.load(Ordering::Relaxed)
    );
}

/// Sends in an SFU's rhythm until told to stop.
fn send(mut server: Server, crowd: &Crowd, clock: &Clock, sent: &AtomicU64, stop: &AtomicBool) {
    let start = Instant::now();
    for turn in 0.. {
        thread::sleep((start + INTERVAL * turn).saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        server.answer();
        (0..crowd.users).for_each(|user| server.send(user, clock, crowd.packets, crowd.len));
        sent.fetch_add((crowd.users * crowd.packets) as u64, Ordering::Relaxed);
    }
}

/// Processor time of the thread that the users live on.
async fn cpu(lane: &Lane) -> Duration {
    lane.with(|_, _| thread_time()).await.expect("a running driver")
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
