//! Everybody comes at once into one room: what that costs those who enter others.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{Histogram, Source, StreamStats, VideoSource};
use sluice_loadtest::signalling::ProtooClient;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};
use tokio::task::JoinSet;

use crate::busy::Busy;
use crate::joins::{join, milliseconds};
use crate::meeting::{block_on, mesh_arguments};
use crate::server::{Server, free_udp};
use crate::usage::{lower_priority, process_time};

/// Who comes at once.
const USERS: usize = 2_000;

/// How often somebody enters another room meanwhile.
const OTHERS_INTERVAL: Duration = Duration::from_millis(20);

/// What is measured of the others at least, the storm included.
const OTHERS: usize = 200;

/// When somebody who was asked to come later does: as long as a node asks for, at most.
const COME_BACK: Duration = Duration::from_secs(4);

/// What is published on the other node meanwhile.
const VIDEO_BITRATE: u32 = 1_000_000;

/// Until the one who receives it does.
const CONSUME_WITHIN: Duration = Duration::from_secs(20);

/// Until what is missing has been repaired, or never is.
const REPAIR: Duration = Duration::from_secs(1);

pub(crate) async fn run() {
    println!("storm: {USERS} users into one room at once, and one into a room of its own each {OTHERS_INTERVAL:?}");
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (free_udp(), free_udp());
    let near = mesh_arguments(&directory, "near", second);
    let far = mesh_arguments(&directory, "far", first);
    let (near, far) = tokio::join!(Server::start("near", first, &near), Server::start("far", second, &far));
    let (_publisher, receiver) = media(&near, &far).await;
    let url = near.url();
    let calm = others(&url, "calm", || false).await;
    println!("  before: others' join p50 {:.1} ms, p99 {:.1} ms", milliseconds(&calm, 0.5), milliseconds(&calm, 0.99));
    let (busy, before) = (Busy::read(&near).await, process_time(near.pid()));
    let calm = received(&receiver).await;
    let storm = std::thread::spawn(move || {
        lower_priority();
        block_on(storm(url))
    });
    let meanwhile = others(&near.url(), "meanwhile", || !storm.is_finished()).await;
    let (took, refused) = storm.join().expect("joining does not panic");
    let cpu = process_time(near.pid()) - before;
    println!(
        "  all in after {:.1} s, {refused} times asked to come later; {:.1} s of the node's processor",
        took.as_secs_f64(),
        cpu.as_secs_f64(),
    );
    println!(
        "  meanwhile: others' join p50 {:.1} ms, p99 {:.1} ms, of {}",
        milliseconds(&meanwhile, 0.5),
        milliseconds(&meanwhile, 0.99),
        meanwhile.count(),
    );
    Busy::read(&near).await.print_since(&busy);
    tokio::time::sleep(REPAIR).await;
    let now = received(&receiver).await;
    println!(
        "  media of the other node: {} packets received, {} missing at first, {} for good",
        now.packets - calm.packets,
        now.missing - calm.missing,
        now.lost().saturating_sub(calm.lost()),
    );
}

/// One who publishes on the node far away, and one who receives it near.
async fn media(near: &Server, far: &Server) -> (User, User) {
    let driver = Driver::new(DriverConfig::default());
    let transport = TransportConfig::new(Certificate::generate().expect("a certificate"));
    let join = async |server: &Server, peer, seed| {
        let config = UserConfig::new(&server.url(), "media", peer, transport.clone(), seed);
        User::join(&driver, config).await.expect("joining")
    };
    let (publisher, receiver) = (join(far, "publisher", 1).await, join(near, "receiver", 2).await);
    publisher.produce(Source::Video(VideoSource::at_bitrate(VIDEO_BITRATE))).await.expect("producing");
    let consumes = receiver.wait(CONSUME_WITHIN, "video", |room| room.consumers.len() == 1).await;
    consumes.expect("the receiver is asked to consume");
    (publisher, receiver)
}

async fn received(receiver: &User) -> StreamStats {
    let lane = receiver.lane(false).await.expect("a transport");
    let streams = lane.with(|session, _| session.stream_stats()).await.expect("a driver");
    streams.into_iter().map(|(_, stats)| stats).next().expect("a stream")
}

/// How long it took until all were in, and how often somebody was asked to come later.
async fn storm(url: String) -> (Duration, usize) {
    let (mut storm, start) = (JoinSet::new(), Instant::now());
    for number in 0..USERS {
        storm.spawn(come(format!("{url}/?roomId=storm&peerId=peer-{number}")));
    }
    let came = storm.join_all().await;
    (start.elapsed(), came.iter().map(|(_, refused)| refused).sum())
}

/// Enters as often as it takes, and how often it was refused.
async fn come(url: String) -> (ProtooClient, usize) {
    let mut refused = 0;
    loop {
        if let Ok((user, mut incoming)) = ProtooClient::connect(&url, None, None).await {
            tokio::spawn(async move { while incoming.recv().await.is_some() {} });
            let joined = user.request("join", json!({"displayName": "A name", "device": {"flag": "bench"}})).await;
            if joined.is_ok() {
                return (user, refused);
            }
        }
        refused += 1;
        tokio::time::sleep(COME_BACK.mul_f64(rand::random())).await;
    }
}

/// How long it takes to enter rooms that nobody is in, one after the other, as long as something goes on.
async fn others(url: &str, name: &str, goes_on: impl Fn() -> bool) -> Histogram {
    let mut delays = Histogram::default();
    let mut number = 0;
    while number < OTHERS || goes_on() {
        let (user, delay) = join(format!("{url}/?roomId={name}-{number}&peerId=other")).await;
        delays.record(delay);
        drop(user);
        number += 1;
        tokio::time::sleep(OTHERS_INTERVAL).await;
    }
    delays
}
