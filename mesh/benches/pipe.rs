//! What a pipe costs: the codec alone, a whole hop of datagrams between two endpoints on loopback, and the shedder's
//! decision.
//!
//! `cargo bench -p sluice-mesh`. A hop is measured as time from `send_frames` of a burst until the other end's sink had
//! all of it, both ends and the kernel included, divided by the packets of the burst.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice_mesh::ca::ClusterCa;
use sluice_mesh::{
    Frame, FrameClass, FrameEncoder, FrameFlags, FrameSink, Inbox, LinkKey, Mesh, MeshConfig, MeshEvent, MeshLimits,
    MeshTls, PeerAddress, RouteReceiver, RouteSender, Shedder, decode_datagram,
};
use sluice_proto::ids::{NodeId, NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::RouteFeedback;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

const MAX_SIZE: usize = 1300;

/// A burst that is not complete after this time will never be.
const LOST: Duration = Duration::from_millis(200);

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn clock() -> Instant {
    Instant::now()
}

fn frames(route: (RouteId, RouteEpoch), count: u16, size: usize, class: FrameClass) -> Vec<Frame> {
    let packet = Bytes::from(vec![7; size]);
    let frame = |seq| Frame {
        route: route.0,
        epoch: route.1,
        seq,
        flags: FrameFlags::default(),
        class,
        packet: packet.clone(),
    };
    (0..count).map(frame).collect()
}

const VIDEO: FrameClass = FrameClass::Video { temporal: 0, spatial: 0, key: false };

fn codec(c: &mut Criterion) {
    let route = (RouteId(1), RouteEpoch(0));
    for (name, count, size, class) in [("video_1200", 32, 1200, VIDEO), ("audio_120", 32, 120, FrameClass::Audio)] {
        let frames = frames(route, count, size, class);
        let mut encoder = FrameEncoder::new();
        let mut group = c.benchmark_group("codec");
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(format!("encode_{name}"), |b| {
            b.iter(|| {
                let mut rest = frames.as_slice();
                while let Some(encoded) = encoder.encode_next(rest, MAX_SIZE) {
                    rest = rest.split_at(encoded.frames).1;
                    black_box(encoded.datagrams);
                }
            });
        });
        let mut datagrams = Vec::new();
        let mut rest = frames.as_slice();
        while let Some(encoded) = encoder.encode_next(rest, MAX_SIZE) {
            rest = rest.split_at(encoded.frames).1;
            datagrams.extend(encoded.datagrams.map(|(datagram, _)| datagram));
        }
        let mut decoded = Vec::new();
        group.bench_function(format!("decode_{name}"), |b| {
            b.iter(|| {
                for datagram in &datagrams {
                    let half = decode_datagram(datagram.clone(), &mut decoded);
                    debug_assert!(half.is_ok());
                }
                black_box(&decoded);
                decoded.clear();
            });
        });
    }
}

fn cores(c: &mut Criterion) {
    let route = (RouteId(1), RouteEpoch(0));
    let start = clock();
    let mut group = c.benchmark_group("cores");
    group.throughput(Throughput::Elements(1));
    let (mut sender, mut receiver) = (RouteSender::new(route.0, route.1), RouteReceiver::new(start));
    group.bench_function("route_packet", |b| {
        b.iter(|| {
            let seq = sender.next(1);
            black_box(receiver.receive(start, seq, false));
            black_box(receiver.poll_timeout());
        });
    });
    let frame = frames(route, 1, 1200, VIDEO);
    let mut shedder = Shedder::new();
    group.bench_function("shedder_offer", |b| {
        b.iter(|| frame.iter().for_each(|frame| _ = shedder.offer(start, black_box(frame))))
    });
}

/// Wakes the benchmark when a burst is complete.
struct Counting {
    arrived: AtomicU64,
    expected: AtomicU64,
    complete: Notify,
}

impl FrameSink for Counting {
    fn deliver(&self, _link: LinkKey, frames: &mut Vec<Frame>) {
        let arrived = self.arrived.fetch_add(frames.len() as u64, Ordering::AcqRel) + frames.len() as u64;
        frames.clear();
        if arrived >= self.expected.load(Ordering::Acquire) {
            self.complete.notify_one();
        }
    }

    fn feedback(&self, _link: LinkKey, _feedback: RouteFeedback) {}
}

struct Hop {
    sender: Mesh,
    link: LinkKey,
    sink: Arc<Counting>,
    route: (RouteId, RouteEpoch),
    _receiver: (Mesh, Inbox),
    _events: Inbox,
}

async fn hop() -> Hop {
    let day = Duration::from_secs(86_400);
    let ca = ClusterCa::create("bench", day).expect("a CA");
    let node = |name: &str| {
        let node = NodeId::new(name).expect("a node id");
        let issued = ca.issue(&node, &[], day).expect("a certificate");
        let tls = MeshTls {
            cluster: "bench".to_owned(),
            ca_pem: ca.cert_pem().to_owned(),
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
        };
        let any = ([127, 0, 0, 1], 0).into();
        let instance = NodeInstance { node: node.clone(), incarnation: 1 };
        let config = MeshConfig { instance, listen: any, advertised: any, tls, limits: MeshLimits::default() };
        let (mesh, inbox) = Mesh::bind(config).expect("an endpoint");
        (node, mesh, inbox)
    };
    let (_, sender, mut events) = node("a");
    let (id, receiver, inbox) = node("b");
    sender.connect(PeerAddress { node: id, addr: receiver.advertised() });
    let link = loop {
        if let Some(MeshEvent::LinkUp { key, .. }) = events.events.recv().await {
            break key;
        }
    };
    let sink =
        Arc::new(Counting { arrived: AtomicU64::new(0), expected: AtomicU64::new(u64::MAX), complete: Notify::new() });
    let route = receiver.allocate_route(sink.clone()).expect("a route");
    Hop { sender, link, sink, route, _receiver: (receiver, inbox), _events: events }
}

fn datagram_hop(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let hop = runtime.block_on(hop());
    let mut group = c.benchmark_group("hop");
    for burst in [1_u16, 10, 32] {
        // As audio: what a busy machine delays is not to be shed here.
        let frames = frames(hop.route, burst, 1200, FrameClass::Audio);
        group.throughput(Throughput::Elements(u64::from(burst)));
        group.bench_function(format!("burst_{burst}"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let expected = hop.sink.arrived.load(Ordering::Acquire) + u64::from(burst);
                    hop.sink.expected.store(expected, Ordering::Release);
                    hop.sender.send_frames(hop.link, &mut frames.clone());
                    // Datagrams may get lost on a busy machine; such a burst shows as an outlier.
                    _ = tokio::time::timeout(LOST, hop.sink.complete.notified()).await;
                });
            });
        });
    }
}

criterion_group!(benches, codec, cores, datagram_hop);
criterion_main!(benches);
