//! A node that stands still for a while, as a process does whose machine has something else to do: the others may take
//! it for dead, and everything flows again when it is back.

use std::time::{Duration, Instant};

use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{AudioSource, Source};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};

use crate::processes::Cluster;
use crate::support::{PATIENCE, get};

const NODES: u16 = 3;

const AUDIO: Source = Source::Audio(AudioSource::continuous(80, 20));

/// Somebody on a node, who speaks and hears all others.
async fn join(cluster: &Cluster, driver: &Driver, node: u16) -> User {
    let transport = TransportConfig::new(Certificate::generate().unwrap());
    let url = format!("ws://127.0.0.1:{}", cluster.users(node));
    let config = UserConfig::new(&url, "room", &name(node), transport, node.into());
    let user = User::join(driver, config).await.unwrap();
    user.produce(AUDIO).await.unwrap();
    user
}

fn name(node: u16) -> String {
    format!("user-{node}")
}

/// Waits until something is so that nothing announces.
#[allow(clippy::disallowed_methods, reason = "other processes live by the clock")]
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Packets that a user got of somebody's voice, by whatever consumer that comes now.
async fn heard(user: &User, of: &str) -> Option<(String, u64)> {
    let consumer = user.room().borrow().consumer(of, Kind::Audio)?.id.clone();
    let stats = user.consumer_stats(&consumer).await.ok()??;
    Some((consumer, stats.packets))
}

/// A second of everybody's voice comes to everybody else, without a break.
async fn all_hear_all(users: &[User], when: &str) {
    for (index, user) in (0..).zip(users) {
        for other in (0..NODES).filter(|other| *other != index) {
            let mut first = None;
            until(&format!("user-{index} to hear user-{other} {when}"), async || {
                let (consumer, packets) = heard(user, &name(other)).await?;
                match &first {
                    Some((same, before)) if *same == consumer => (packets >= before + 50).then_some(()),
                    _ => {
                        first = Some((consumer, packets));
                        None
                    }
                }
            })
            .await;
        }
    }
}

/// The sum of a metric's lines that contain `label`.
fn metric(cluster: &Cluster, node: u16, name: &str, label: &str) -> f64 {
    let text = get(cluster.admin(node), "/metrics").text();
    let of_it = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
    of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_flows_again_after_a_node_stood_still_and_nothing_twice() {
    let cluster = Cluster::new(NODES);
    let nodes: Vec<_> = (0..NODES).map(|index| cluster.start(index)).collect();
    (0..NODES).for_each(|index| cluster.sees_alive(index, NODES.into()));
    let driver = Driver::new(DriverConfig::default());
    let mut users = Vec::new();
    for node in 0..NODES {
        users.push(join(&cluster, &driver, node).await);
    }
    all_hear_all(&users, "at first").await;
    // Shorter than it takes to be missed, about as long, and longer than connections live; twice, since what is left
    // over adds up.
    for stall in [1_200, 1_900, 2_600, 4_000, 1_900, 4_000].map(Duration::from_millis) {
        nodes[1].signal("STOP");
        tokio::time::sleep(stall).await;
        nodes[1].signal("CONT");
        all_hear_all(&users, &format!("after {stall:?}")).await;
        // One voice to two nodes, from each.
        for node in 0..NODES {
            until("two routes out, two routes in", async || {
                let routes = ["sluice_routes_out", "sluice_routes_in"].map(|name| metric(&cluster, node, name, ""));
                (routes == [2.0, 2.0]).then_some(())
            })
            .await;
        }
        let unwanted = || -> f64 {
            let of = |node| metric(&cluster, node, "sluice_mesh_link_dropped_total", "unknown_route");
            (0..NODES).map(of).sum()
        };
        // A second in which no frame comes that nobody wants: one stream would bring 50.
        until("no frames of unknown routes", async || {
            let before = unwanted();
            all_hear_all(&users, "meanwhile").await;
            (unwanted() == before).then_some(())
        })
        .await;
    }
}
