//! One join across two nodes is one trace.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{Source, VideoSource};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};

use super::Node;
use crate::control_plane::telemetry::NodeTelemetry;
use crate::dev::{DevOptions, configs};

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
