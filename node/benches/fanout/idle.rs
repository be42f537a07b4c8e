//! What is there and does nothing: what it takes of memory, and of the processor.

use std::time::Duration;

use serde_json::json;
use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{AudioSource, Source, VideoSource};
use sluice_loadtest::session::Session;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::UserConfig;

use crate::listeners::join_all;
use crate::server::{Server, free_udp};
use crate::usage::{process_time, resident_bytes};

/// Each sends audio and video, and pauses both.
const PUBLISHERS: usize = 20;

/// With two consumers of each publisher: 1,000 in all.
const RECEIVERS: usize = 25;

const VIDEO_BITRATE: u32 = 500_000;

/// Until everybody has its consumers.
const CONSUME_WITHIN: Duration = Duration::from_secs(60);

/// What was sent before it was paused is kept for so long at most.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// With two transports each.
const USERS: usize = 5_000;

/// Who share a room.
const USERS_A_ROOM: usize = 5;

/// How long the processor time is measured.
const WATCHED: Duration = Duration::from_secs(30);

pub(crate) async fn run() {
    consumers().await;
    transports().await;
}

async fn consumers() {
    println!("idle: {} consumers of paused producers", PUBLISHERS * 2 * RECEIVERS);
    let (server, driver, transport) = begin().await;
    let users = |name: &'static str, count: usize, publishes: bool| {
        let (url, transport) = (server.url(), transport.clone());
        let configs = (0..count).map(move |number| UserConfig {
            produce: publishes,
            consume: !publishes,
            ..UserConfig::new(&url, "room", &format!("{name}-{number}"), transport.clone(), number as u64)
        });
        join_all(&driver, configs.collect::<Vec<_>>())
    };
    let (publishers, receivers) =
        (users("publisher", PUBLISHERS, true).await, users("receiver", RECEIVERS, false).await);
    let before = resident_bytes(server.pid());
    for publisher in &publishers {
        for source in [Source::Audio(AudioSource::default()), Source::Video(VideoSource::at_bitrate(VIDEO_BITRATE))] {
            let production = publisher.produce(source).await.expect("producing");
            let pause = json!({"producerId": production.id});
            publisher.protoo().request("pauseProducer", pause).await.expect("a producer can be paused");
            let lane = publisher.lane(true).await.expect("a transport");
            let stop = move |session: &mut Session, now| session.unpublish(now, production.ssrc);
            lane.with(stop).await.expect("a driver");
        }
    }
    for receiver in &receivers {
        let asked = receiver.wait(CONSUME_WITHIN, "its consumers", |room| room.consumers.len() == 2 * PUBLISHERS).await;
        asked.expect("everybody is asked to consume");
    }
    tokio::time::sleep(FORGOTTEN_AFTER).await;
    let cpu = process_time(server.pid());
    tokio::time::sleep(WATCHED).await;
    println!(
        "  {:.1} MiB more than without them; {:.1}% of a core",
        resident_bytes(server.pid()).saturating_sub(before) as f64 / f64::from(1 << 20),
        share(&server, cpu),
    );
}

async fn transports() {
    println!("idle: {} transports of {USERS} users in rooms of {USERS_A_ROOM}", 2 * USERS);
    let (server, driver, transport) = begin().await;
    let before = resident_bytes(server.pid());
    let configs = (0..USERS).map(|number| {
        let room = format!("room-{}", number / USERS_A_ROOM);
        UserConfig::new(&server.url(), &room, &format!("user-{number}"), transport.clone(), number as u64)
    });
    let _users = join_all(&driver, configs).await;
    let cpu = process_time(server.pid());
    tokio::time::sleep(WATCHED).await;
    println!(
        "  {:.1} KB a user; {:.1}% of a core, with the consent checks of all of them",
        resident_bytes(server.pid()).saturating_sub(before) as f64 / USERS as f64 / 1e3,
        share(&server, cpu),
    );
}

async fn begin() -> (Server, Driver, TransportConfig) {
    let server = Server::start("bench", free_udp(), &[]).await;
    let driver = Driver::new(DriverConfig { coalesce: Duration::from_millis(1), ..DriverConfig::default() });
    (server, driver, TransportConfig::new(Certificate::generate().expect("a certificate")))
}

/// Of a core, in percent, since the process had used so much.
fn share(server: &Server, before: Duration) -> f64 {
    (process_time(server.pid()) - before).as_secs_f64() / WATCHED.as_secs_f64() * 100.0
}
