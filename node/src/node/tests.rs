//! One join across two nodes is one trace. What a node cannot do without ends it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{Source, VideoSource};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig, UserEnd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Node, NodeEnd};
use crate::dev::{DevOptions, configs};
use crate::telemetry::NodeTelemetry;

const SOON: Duration = Duration::from_secs(20);

/// The spans of all nodes, with the node that made each.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<(String, SpanData)>>>);

impl Spans {
    fn of_node(&self, node: &str) -> SdkTracerProvider {
        SdkTracerProvider::builder()
            .with_simple_exporter(Exporter { node: node.to_owned(), spans: self.clone() })
            .build()
    }

    /// The trace of a peer's join.
    fn trace_of(&self, peer: &str) -> TraceId {
        let spans = self.0.lock().unwrap();
        let joined = |span: &SpanData| {
            span.name == "join"
                && span.attributes.iter().any(|kv| kv.key.as_str() == "peer" && kv.value.as_str() == peer)
        };
        let (_, join) = spans.iter().find(|(_, span)| joined(span)).expect("the join was traced");
        join.span_context.trace_id()
    }

    /// What happened in a trace, and where.
    fn story(&self, trace: TraceId) -> BTreeSet<(String, String)> {
        let spans = self.0.lock().unwrap();
        let of_trace = spans.iter().filter(|(_, span)| span.span_context.trace_id() == trace);
        of_trace.map(|(node, span)| (node.clone(), span.name.to_string())).collect()
    }
}

#[derive(Debug)]
struct Exporter {
    node: String,
    spans: Spans,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans.0.lock().unwrap().extend(batch.into_iter().map(|span| (self.node.clone(), span)));
        Ok(())
    }
}

async fn join(driver: &Driver, node: &Node, peer: &str) -> User {
    let transport = TransportConfig::new(Certificate::generate().unwrap());
    let url = format!("ws://{}", node.config().users.listen);
    User::join(driver, UserConfig::new(&url, "r", peer, transport, 1)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_across_two_nodes_is_one_trace() {
    let spans = Spans::default();
    let mut nodes = Vec::new();
    // The port of a seed is known beforehand; everything else takes what is free.
    let base_port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() - 2;
    for mut config in configs(&DevOptions { nodes: 2, workers: 1, base_port, ..DevOptions::default() }).unwrap() {
        config.users.listen.set_port(0);
        config.admin.listen.set_port(0);
        config.media.listen.set_port(0);
        config.grpc.listen.set_port(0);
        if !nodes.is_empty() {
            config.mesh.listen.set_port(0);
        }
        let telemetry = NodeTelemetry::with_provider(&config.telemetry, spans.of_node(config.id.as_str()));
        nodes.push(Node::start_with(config, Some(telemetry)).await.unwrap());
    }
    for node in &nodes {
        let mut members = node.parts.as_ref().unwrap().membership.members();
        tokio::time::timeout(SOON, members.wait_for(|members| members.present().count() == 2)).await.unwrap().unwrap();
    }
    let driver = Driver::new(DriverConfig::default());
    let first = join(&driver, &nodes[0], "a").await;
    let video = VideoSource::constant(Duration::from_millis(100), 500, 500);
    first.produce(Source::Video(video)).await.unwrap();
    let second = join(&driver, &nodes[1], "b").await;
    second.wait(SOON, "a's video", |room| room.consumer("a", Kind::Video).is_some()).await.unwrap();
    second.leave().await;
    first.leave().await;
    for node in nodes {
        node.shutdown().await;
    }

    let story = spans.story(spans.trace_of("b"));
    for (node, span) in [
        ("us-1", "join"),
        ("us-1", "directory.call"),
        ("eu-1", "directory.renew"),
        ("eu-1", "rosters.follow"),
        ("us-1", "consume"),
        ("eu-1", "subscribe"),
    ] {
        assert!(story.contains(&(node.to_owned(), span.to_owned())), "{span} on {node} is missing in {story:#?}");
    }
    assert_ne!(spans.trace_of("a"), spans.trace_of("b"));
}

/// A node that nobody else knows, on whatever ports are free.
async fn lone_node(shutdown_pause_ms: u64) -> Node {
    let mut config = configs(&DevOptions { nodes: 1, workers: 2, ..DevOptions::default() }).unwrap().remove(0);
    for listen in [
        &mut config.users.listen,
        &mut config.admin.listen,
        &mut config.media.listen,
        &mut config.mesh.listen,
        &mut config.grpc.listen,
    ] {
        listen.set_port(0);
    }
    config.limits.shutdown_pause_ms = shutdown_pause_ms;
    Node::start_with(config, None).await.unwrap()
}

/// An answer, whole.
async fn get(port: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(port).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What `/readyz` says.
async fn readiness(node: &Node) -> String {
    let answer = get(node.config().users.listen, "/readyz").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{} {}", head.split(' ').nth(1).unwrap(), body.trim())
}

/// Takes a vital part from a node, which then says so, tells its users to come back, and ends.
async fn ends_without(part: &'static str, take: impl AsyncFnOnce(&Node)) {
    // The pause is for users who can wait, not for those whose media are gone.
    let node = lone_node(600_000).await;
    assert_eq!(readiness(&node).await, "200 ready");
    let driver = Driver::new(DriverConfig::default());
    let user = join(&driver, &node, "a").await;
    take(&node).await;
    let end = tokio::time::timeout(SOON, node.ending()).await.unwrap();
    assert_eq!(end, NodeEnd::Lost(part));
    assert_eq!(readiness(&node).await, format!("503 {part} has ended"));
    tokio::time::timeout(SOON, node.shutdown()).await.unwrap();
    let closed = tokio::time::timeout(SOON, user.ended()).await.unwrap();
    assert!(matches!(closed, UserEnd::Closed(Some(1012))), "{closed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_media_worker_panics_sends_its_users_away_and_ends() {
    ends_without("a media worker", async |node| {
        let handles = node.parts.as_ref().unwrap().workers.handles();
        handles.last().unwrap().run(|| panic!("asked for by a test"));
    })
    .await;
}

/// Waits until `/readyz` says this.
async fn until_ready_is(node: &Node, wanted: &str) {
    let waiting = async {
        while readiness(node).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("never {wanted}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_media_worker_hangs_is_not_ready_until_it_goes_on() {
    let node = lone_node(0).await;
    until_ready_is(&node, "200 ready").await;
    let goes_on = Arc::new(std::sync::Barrier::new(2));
    let waits = goes_on.clone();
    node.parts.as_ref().unwrap().workers.handles()[0].run(move || {
        waits.wait();
    });
    until_ready_is(&node, "503 a media worker does not answer").await;
    let metrics = get(node.config().admin.listen, "/metrics").await;
    assert!(metrics.contains("worker=\"1\"") && !metrics.contains("worker=\"0\""), "{metrics}");
    tokio::task::spawn_blocking(move || goes_on.wait()).await.unwrap();
    until_ready_is(&node, "200 ready").await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_placement_ends_ends() {
    ends_without("placement", async |node| node.parts.as_ref().unwrap().placement.shutdown().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_mesh_endpoint_ends_ends() {
    ends_without("the mesh", async |node| node.parts.as_ref().unwrap().mesh.shutdown().await).await;
}
