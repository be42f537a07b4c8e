//! Nodes and users for the end-to-end tests: real sockets on loopback, free ports, seeds that are printed.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::disallowed_methods, reason = "what is waited for is waited for in real time")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{AudioSource, Source, StreamStats, VideoSource};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};
use sluice_node::Node;
use sluice_node::config::NodeConfig;
use sluice_node::dev::{DevError, DevMesh, DevOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing that is waited for takes this long, on any machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The stream that most tests send: small enough for a debug build on a busy machine.
pub(crate) const VIDEO: Source = Source::Video(VideoSource::constant(Duration::from_micros(33_333), 2500, 10_000));

/// Sound that an audio-level observer notices.
pub(crate) const AUDIO: Source = Source::Audio(AudioSource::continuous(80, 20));

/// A node without others, on free ports, with one media worker.
pub(crate) async fn lone_node() -> Node {
    lone_node_with(1).await
}

/// The same with more workers.
pub(crate) async fn lone_node_with(workers: u16) -> Node {
    lone_node_so(|config| config.workers = workers).await
}

/// The same with other settings.
pub(crate) async fn lone_node_so(change: impl FnOnce(&mut NodeConfig)) -> Node {
    let local = ([127, 0, 0, 1], 0).into();
    let mut config = NodeConfig { workers: 1, ..NodeConfig::default() };
    change(&mut config);
    config.users.listen = local;
    config.media.listen = local;
    config.mesh.listen = local;
    config.grpc.listen = local;
    config.admin.listen = local;
    Node::start(config).await.expect("a node on free ports starts")
}

/// Nodes that form a mesh, on a free range of ports, with one media worker each.
pub(crate) async fn mesh(nodes: u16) -> DevMesh {
    mesh_over(nodes, &[]).await
}

/// A mesh whose nodes are apart: paths as `sluice dev --wan` takes them.
pub(crate) async fn mesh_over(nodes: u16, paths: &[&str]) -> DevMesh {
    let wan = paths.iter().map(|path| path.parse().expect("a path")).collect();
    mesh_with(DevOptions { nodes, workers: 1, wan, ..DevOptions::default() }).await
}

/// A mesh of another shape, on a free range of ports.
pub(crate) async fn mesh_with(options: DevOptions) -> DevMesh {
    // Tests of several binaries run at a time: each begins its search elsewhere.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..100 {
        let draw = (u64::from(std::process::id()) * 131 + NEXT.fetch_add(1, Ordering::Relaxed) * 17) % 1500;
        let base_port = 15_000 + draw as u16 * 10;
        match DevMesh::start(&DevOptions { base_port, ..options.clone() }).await {
            Ok(mesh) => return mesh,
            Err(DevError::PortTaken { .. } | DevError::Start { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no free range of ports");
}

/// Where users of a node connect.
pub(crate) fn url(node: &Node) -> String {
    format!("ws://{}", node.config().users.listen)
}

/// A driver as a browser would be: it wakes for each packet.
pub(crate) fn driver() -> Driver {
    Driver::new(DriverConfig::default())
}

/// A browser's transport.
pub(crate) fn transport() -> TransportConfig {
    TransportConfig::new(Certificate::generate().expect("a certificate"))
}

/// A user with a fresh certificate.
pub(crate) async fn join(driver: &Driver, node: &Node, room: &str, peer: &str) -> User {
    join_with(driver, node, room, peer, transport()).await
}

/// A user whose transports are special.
pub(crate) async fn join_with(driver: &Driver, node: &Node, room: &str, peer: &str, with: TransportConfig) -> User {
    let seed = peer.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    println!("{peer} joins {room} with seed {seed}");
    let config = UserConfig::new(&url(node), room, peer, with, seed);
    User::join(driver, config).await.unwrap_or_else(|error| panic!("{peer} joins: {error}"))
}

/// Waits until `user` consumes what `peer` produces, and returns the consumer's id.
pub(crate) async fn consumes(user: &User, peer: &str, kind: Kind) -> String {
    let what = format!("{kind:?} of {peer}");
    let room = user.wait(SOON, &what, |room| room.consumer(peer, kind).is_some()).await;
    let room = room.unwrap_or_else(|error| panic!("{error}"));
    room.consumer(peer, kind).expect("was waited for").id.clone()
}

/// Waits until the statistics of a consumer are as wanted.
pub(crate) async fn receives(
    user: &User,
    consumer: &str,
    what: &str,
    is: impl Fn(&StreamStats) -> bool,
) -> StreamStats {
    let start = Instant::now();
    loop {
        let stats = user.consumer_stats(consumer).await.expect("the driver runs").expect("the consumer exists");
        if is(&stats) {
            return stats;
        }
        assert!(start.elapsed() < SOON, "waited {SOON:?} for {what}: {stats:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The body of an answer of a node's admin port.
pub(crate) async fn admin(node: &Node, path: &str) -> String {
    let mut stream = TcpStream::connect(node.config().admin.listen).await.expect("the admin port answers");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}
