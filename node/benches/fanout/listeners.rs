//! Thousands who listen to one: what each of them costs the node.

use std::time::{Duration, Instant};

use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{AudioSource, Source, VideoSource};
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};
use tokio::task::JoinSet;

use crate::busy::Busy;
use crate::server::{Server, free_udp};
use crate::usage::{process_time, resident_bytes};

const USERS: usize = 2_000;

/// Joins that are under way at a time.
const AT_ONCE: usize = 16;

/// How long the processor time of running media is measured.
const WATCHED: Duration = Duration::from_secs(5);

/// Until everybody has a consumer.
const CONSUME_WITHIN: Duration = Duration::from_secs(120);

/// Of the packets a listener opens every hundredth: its own processor time is not what is measured.
const OPEN_EVERY: u32 = 100;

/// Between two frames of a packet each: 20,000 packets/s out, which one worker sends beside its receivers' work.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

const FRAME_BYTES: usize = 1_000;

pub(crate) async fn run() {
    measure("one Opus speaker", Source::Audio(AudioSource::default())).await;
    let video = VideoSource::constant(FRAME_INTERVAL, FRAME_BYTES, FRAME_BYTES);
    measure("one VP8 publisher", Source::Video(video)).await;
}

async fn measure(what: &str, source: Source) {
    println!("listeners: {USERS} users and {what}");
    let server = Server::start("bench", free_udp(), &[]).await;
    let memory = || resident_bytes(server.pid());
    let a_user = |bytes: u64| bytes as f64 / USERS as f64 / 1e3;
    let config = DriverConfig { coalesce: Duration::from_millis(1), ..DriverConfig::default() };
    let driver = Driver::new(config);
    let mut transport = TransportConfig::new(Certificate::generate().expect("a certificate"));
    transport.open_every = OPEN_EVERY;
    let before = memory();
    let users = join(&driver, &server, &transport).await;
    let joined = memory();
    let mut publisher = UserConfig::new(&server.url(), "room", "publisher", transport, USERS as u64);
    publisher.consume = false;
    let publisher = User::join(&driver, publisher).await.expect("joining");
    let (busy, cpu, start) = (Busy::read(&server).await, process_time(server.pid()), Instant::now());
    publisher.produce(source).await.expect("producing");
    for user in &users {
        let asked = user.wait(CONSUME_WITHIN, "a consumer", |room| room.consumers.len() == 1).await;
        asked.expect("everybody is asked to consume");
    }
    let asked = start.elapsed();
    println!(
        "  the last was told of the producer after {:.2} s; {:.1} s of the node's processor",
        asked.as_secs_f64(),
        (process_time(server.pid()) - cpu).as_secs_f64(),
    );
    Busy::read(&server).await.print_since(&busy);
    let cpu = process_time(server.pid());
    tokio::time::sleep(WATCHED).await;
    println!(
        "  {:.1} KB a user, {:.1} KB before there was something to receive; {:.0}% of a core then",
        a_user(memory().saturating_sub(before)),
        a_user(joined.saturating_sub(before)),
        (process_time(server.pid()) - cpu).as_secs_f64() / WATCHED.as_secs_f64() * 100.0,
    );
    let busy = Busy::read(&server).await;
    publisher.leave().await;
    for user in &users {
        user.wait(CONSUME_WITHIN, "its end", |room| room.consumers.is_empty()).await.expect("everybody is told");
    }
    println!("  and when the publisher left");
    Busy::read(&server).await.print_since(&busy);
}

async fn join(driver: &Driver, server: &Server, transport: &TransportConfig) -> Vec<User> {
    let configs = (0..USERS).map(|number| UserConfig {
        produce: false,
        ..UserConfig::new(&server.url(), "room", &format!("user-{number}"), transport.clone(), number as u64)
    });
    join_all(driver, configs).await
}

/// Lets users join, some at a time, until the transports of all are connected.
pub(crate) async fn join_all(driver: &Driver, configs: impl IntoIterator<Item = UserConfig>) -> Vec<User> {
    let (mut joining, mut users) = (JoinSet::new(), Vec::new());
    for config in configs {
        if joining.len() == AT_ONCE {
            users.extend(joining.join_next().await.map(|joined| joined.expect("joining does not panic")));
        }
        let driver = driver.clone();
        joining.spawn(async move {
            let user = User::join(&driver, config).await.expect("joining");
            user.connected().await.expect("a connected transport");
            user
        });
    }
    users.extend(joining.join_all().await);
    users
}
