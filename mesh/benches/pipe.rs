//! What a pipe costs: the codec alone, a whole hop of datagrams and of messages of data between two endpoints on
//! loopback, and the shedder's decision.
//!
//! `cargo bench -p sluice-mesh`. A hop is measured as time from `send_frames` of a burst until the other end's sink had
//! all of it, both ends and the kernel included, divided by the packets of the burst. Messages of data are held against
//! a bare stream of quinn's with the same bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quinn::{ClientConfig, Connection, Endpoint, SendStream, ServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sluice_mesh::ca::{ClusterCa, server_name};
use sluice_mesh::{
    DataMessage, Frame, FrameClass, FrameEncoder, FrameFlags, FrameSink, Inbox, LinkKey, Mesh, MeshConfig, MeshEvent,
    MeshLimits, MeshTls, PeerAddress, RouteReceiver, RouteSender, Shedder, decode_datagram,
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

impl Counting {
    fn count(&self, count: u64) {
        let arrived = self.arrived.fetch_add(count, Ordering::AcqRel) + count;
        if arrived >= self.expected.load(Ordering::Acquire) {
            self.complete.notify_one();
        }
    }
}

impl FrameSink for Counting {
    fn deliver(&self, _link: LinkKey, frames: &mut Vec<Frame>) {
        self.count(frames.len() as u64);
        frames.clear();
    }

    fn feedback(&self, _link: LinkKey, _feedback: RouteFeedback) {}

    fn data(&self, _link: LinkKey, _message: DataMessage) {
        self.count(1);
    }
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

/// Of messages of data.
const MESSAGE: usize = 1024;

fn data_hop(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let hop = runtime.block_on(hop());
    let (mut bare, _ends) = runtime.block_on(bare_stream(hop.sink.clone()));
    let payload = Bytes::from(vec![7; MESSAGE]);
    let mut group = c.benchmark_group("data_hop");
    for burst in [1_u64, 32, 512] {
        group.throughput(Throughput::Elements(burst));
        let expect = || {
            let expected = hop.sink.arrived.load(Ordering::Acquire) + burst;
            hop.sink.expected.store(expected, Ordering::Release);
        };
        group.bench_function(format!("burst_{burst}"), |b| {
            b.iter(|| {
                expect();
                for number in 0..burst {
                    let (route, epoch) = hop.route;
                    let message = DataMessage { route, epoch, number, ppid: 53, payload: payload.clone() };
                    hop.sender.send_data(hop.link, message);
                }
                runtime.block_on(hop.sink.complete.notified());
            });
        });
        group.bench_function(format!("bare_stream_{burst}"), |b| {
            b.iter(|| {
                expect();
                runtime.block_on(async {
                    for _ in 0..burst {
                        bare.write_all(&payload).await.expect("the stream is open");
                    }
                    hop.sink.complete.notified().await;
                });
            });
        });
    }
}

/// A stream of quinn's own, whose bytes count as messages at the other end.
async fn bare_stream(sink: Arc<Counting>) -> (SendStream, (Endpoint, Endpoint, Connection)) {
    let day = Duration::from_secs(86_400);
    let ca = ClusterCa::create("bench", day).expect("a CA");
    let issued = ca.issue(&NodeId::new("b").expect("a node id"), &[], day).expect("a certificate");
    let chain = vec![CertificateDer::from_pem_slice(issued.cert_pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.cert_pem().as_bytes()).expect("a certificate")).expect("a root");
    let any = ([127, 0, 0, 1], 0).into();
    let server = Endpoint::server(ServerConfig::with_single_cert(chain, key).expect("a configuration"), any);
    let (server, client) = (server.expect("an endpoint"), Endpoint::client(any).expect("an endpoint"));
    let config = ClientConfig::with_root_certificates(Arc::new(roots)).expect("a configuration");
    let addr = server.local_addr().expect("it is bound");
    let connecting = client.connect_with(config, addr, &server_name("bench")).expect("a configuration");
    let accepting = async { server.accept().await.expect("the client").await.expect("a handshake") };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    let connection = connected.expect("a handshake");
    let stream = connection.open_uni().await.expect("a stream");
    tokio::spawn(async move {
        let mut stream = accepted.accept_uni().await.expect("a stream");
        let mut rest = 0;
        while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
            rest += chunk.bytes.len();
            sink.count((rest / MESSAGE) as u64);
            rest %= MESSAGE;
        }
    });
    (stream, (server, client, connection))
}

criterion_group!(benches, codec, cores, datagram_hop, data_hop);
criterion_main!(benches);
