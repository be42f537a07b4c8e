//! The driver over real sockets: paths that are not perfect, several threads, and what it says of itself.
#![allow(clippy::disallowed_methods, reason = "what is waited for is waited for in real time")]

mod common;

use std::thread;
use std::time::Duration;

use common::{BURST, Server, all_received, connect, received};
use sluice_loadtest::driver::{Direction, Driver, DriverConfig, Lane, LaneConfig, PathConfig, PathHandle};
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_mesh::wan::ImpairmentConfig;

const DELAY: Duration = Duration::from_millis(80);

async fn meeting(driver: &Driver, users: usize, lane: impl Fn(usize) -> LaneConfig) -> (Server, Vec<Lane>) {
    let certificate = Certificate::generate().unwrap();
    let server = Server::new(users, &certificate);
    connect(driver, server, &TransportConfig::new(certificate), lane).await
}

#[tokio::test]
async fn a_path_delays_goes_dark_and_heals() {
    let driver = Driver::new(DriverConfig::default());
    let slow = ImpairmentConfig { delay: DELAY, ..ImpairmentConfig::default() };
    let path = PathHandle::new(PathConfig { inbound: slow, outbound: slow });
    // The second user has a perfect path.
    let lane = |user| LaneConfig { path: (user == 0).then(|| path.clone()), ..LaneConfig::default() };
    let (mut server, lanes) = meeting(&driver, 2, lane).await;
    let mut send = |bursts| (0..bursts).for_each(|_| (0..2).for_each(|user| server.send_burst(user, &driver.clock())));

    send(3);
    all_received(&lanes, 3 * BURST as u64).await;
    let tally = lanes[0].with(|session, now| session.tally(now)).await.unwrap();
    let shortest = tally.video.delay.quantile(0.0);
    assert!(shortest.unwrap() >= DELAY, "{shortest:?}");

    path.set_direction(Direction::In, ImpairmentConfig { blackout: true, ..slow });
    send(2);
    all_received(&lanes[1..], 5 * BURST as u64).await;
    path.set_direction(Direction::In, slow);
    send(1);
    all_received(&lanes[1..], 6 * BURST as u64).await;
    all_received(&lanes[..1], 4 * BURST as u64).await;
    assert_eq!(received(&lanes[0]).await, 4 * BURST as u64, "what was sent in the dark is lost");
    assert_eq!(driver.collect().await.path_drops, 0);
}

#[tokio::test]
async fn users_are_spread_over_threads() {
    let driver = Driver::new(DriverConfig { threads: 2, ..DriverConfig::default() });
    let (mut server, lanes) = meeting(&driver, 4, |_| LaneConfig::default()).await;
    let mut threads = Vec::new();
    for lane in &lanes {
        threads.push(lane.with(|_, _| thread::current().id()).await.unwrap());
    }
    assert_eq!((threads[0], threads[1]), (threads[2], threads[3]));
    assert_ne!(threads[0], threads[1]);
    (0..4).for_each(|user| server.send_burst(user, &driver.clock()));
    all_received(&lanes, BURST as u64).await;
}

#[tokio::test]
async fn what_happened_is_collected_once_by_group() {
    let driver = Driver::new(DriverConfig { threads: 2, ..DriverConfig::default() });
    let group = |user| LaneConfig { group: user % 3, ..LaneConfig::default() };
    let (mut server, mut lanes) = meeting(&driver, 6, group).await;
    driver.collect().await;
    (0..6).for_each(|user| server.send_burst(user, &driver.clock()));
    all_received(&lanes, BURST as u64).await;
    // Those of group 2 leave: what they received is not forgotten.
    lanes.remove(5);
    lanes.remove(2);
    let collected = driver.collect().await;
    assert_eq!(collected.tallies.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(collected.received.datagrams >= 60, "{:?}", collected.received);
    assert!(collected.sent.datagrams >= 2, "two said goodbye");
    assert_eq!((collected.receive_drops, collected.send_drops, collected.path_drops), (0, 0, 0));

    let collected = driver.collect().await;
    assert_eq!(collected.tallies.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert!(collected.received.datagrams < 60);
}

#[tokio::test]
async fn a_driver_that_cannot_keep_up_says_so() {
    const STALL: Duration = Duration::from_millis(1500);
    let driver = Driver::new(DriverConfig::default());
    let (mut server, lanes) = meeting(&driver, 1, |_| LaneConfig::default()).await;
    server.send_burst(0, &driver.clock());
    all_received(&lanes, BURST as u64).await;
    driver.collect().await;
    let stalled = lanes[0].with(|_, _| thread::sleep(STALL));
    let flood = async {
        let clock = driver.clock();
        tokio::task::spawn_blocking(move || (0..5000).for_each(|_| server.send_burst(0, &clock))).await.unwrap();
    };
    let (stalled, ()) = tokio::join!(stalled, flood);
    stalled.unwrap();
    let collected = driver.collect().await;
    assert!(collected.receive_drops > 0);
    // A receiver reports each second: one report was due meanwhile.
    assert!(collected.lag.max() >= STALL - Duration::from_secs(1), "{:?}", collected.lag);
    assert_eq!(driver.collect().await.receive_drops, 0);
}
