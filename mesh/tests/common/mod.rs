//! A cluster for tests: certificates, endpoints on loopback, and what waits for events.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod network;
pub(crate) mod raw;
pub(crate) mod stream;
pub(crate) mod worker;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sluice_mesh::ca::{ClusterCa, NodeCertificate};
use sluice_mesh::wan::{ImpairmentConfig, PathPair, RelayConfig, UdpRelay};
use sluice_mesh::{
    DataMessage, Frame, FrameClass, FrameFlags, FrameSink, Inbox, LinkDownReason, LinkKey, LinkStatus, Mesh,
    MeshConfig, MeshEvent, MeshLimits, MeshTls, PeerAddress,
};
use sluice_proto::ids::{NodeId, NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, FeedbackBody, RouteControl, RouteFeedback};
use tokio::sync::mpsc;

use self::network::Socket;

/// Longer than anything here takes on the slowest machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CLUSTER: &str = "test";
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn any_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Waits for a future, not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// Waits until a condition holds that nothing announces.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) struct Cluster {
    pub(crate) ca: ClusterCa,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { ca: ClusterCa::create(CLUSTER, DAY).unwrap() }
    }

    pub(crate) fn certificate(&self, node: &str) -> NodeCertificate {
        self.ca.issue(&node_id(node), &[], DAY).unwrap()
    }

    pub(crate) fn tls(&self, node: &str) -> MeshTls {
        let NodeCertificate { cert_pem, key_pem } = self.certificate(node);
        MeshTls { cluster: CLUSTER.to_owned(), ca_pem: self.ca.cert_pem().to_owned(), cert_pem, key_pem }
    }

    pub(crate) fn config(&self, node: &str) -> MeshConfig {
        MeshConfig {
            instance: NodeInstance { node: node_id(node), incarnation: 1 },
            listen: any_addr(),
            advertised: any_addr(),
            tls: self.tls(node),
            limits: MeshLimits::default(),
        }
    }

    pub(crate) fn node(&self, node: &str) -> Node {
        Node::start(self.config(node))
    }
}

pub(crate) struct Node {
    pub(crate) instance: NodeInstance,
    pub(crate) mesh: Mesh,
    pub(crate) inbox: Inbox,
}

impl Node {
    pub(crate) fn start(config: MeshConfig) -> Self {
        let instance = config.instance.clone();
        let (mesh, inbox) = Mesh::bind(config).unwrap();
        Self { instance, mesh, inbox }
    }

    /// On a socket in memory.
    pub(crate) fn start_on(config: MeshConfig, socket: Arc<Socket>) -> Self {
        let instance = config.instance.clone();
        let (mesh, inbox) = Mesh::bind_to(config, socket).unwrap();
        Self { instance, mesh, inbox }
    }

    pub(crate) fn address(&self) -> PeerAddress {
        PeerAddress { node: self.instance.node.clone(), addr: self.mesh.advertised() }
    }

    pub(crate) async fn event(&mut self) -> MeshEvent {
        within("an event", self.inbox.events.recv()).await.expect("events end only with the mesh")
    }

    /// Skips everything before the next `LinkUp`; gives its key and instance.
    pub(crate) async fn link_up(&mut self) -> (LinkKey, NodeInstance) {
        loop {
            if let MeshEvent::LinkUp { key, instance } = self.event().await {
                return (key, instance);
            }
        }
    }

    /// The next event, which must be a link's end; gives its key and why.
    pub(crate) async fn link_down(&mut self) -> (LinkKey, LinkDownReason) {
        match self.event().await {
            MeshEvent::LinkDown { key, reason, .. } => (key, reason),
            other => panic!("{other:?} instead of the link's end"),
        }
    }

    pub(crate) fn status(&self, peer: &str) -> Option<LinkStatus> {
        self.mesh.links().into_iter().find(|link| link.node.as_str() == peer)
    }

    /// How often something was dropped for a reason on any link.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        let drops = self.mesh.links().into_iter().flat_map(|link| link.drops);
        drops.filter(|(label, _)| *label == reason).map(|(_, count)| count).sum()
    }

    /// A metric as Prometheus would read it, summed over labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.mesh.register_metrics(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// Two nodes, linked; with the keys that each has for the other.
pub(crate) async fn linked_pair(cluster: &Cluster) -> (Node, LinkKey, Node, LinkKey) {
    let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
    a.mesh.connect(b.address());
    let (key_of_b, ..) = a.link_up().await;
    let (key_of_a, ..) = b.link_up().await;
    (a, key_of_b, b, key_of_a)
}

/// Hands over what arrives.
pub(crate) struct Collect {
    frames: mpsc::UnboundedSender<(LinkKey, Frame)>,
    pub(crate) count: AtomicU64,
    pub(crate) heard: Mutex<Vec<(LinkKey, RouteFeedback)>>,
    pub(crate) data: Mutex<Vec<(LinkKey, DataMessage)>>,
}

impl Collect {
    pub(crate) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<(LinkKey, Frame)>) {
        let (frames, out) = mpsc::unbounded_channel();
        (Arc::new(Self { frames, count: AtomicU64::new(0), heard: Mutex::default(), data: Mutex::default() }), out)
    }
}

impl FrameSink for Collect {
    fn deliver(&self, link: LinkKey, frames: &mut Vec<Frame>) {
        self.count.fetch_add(frames.len() as u64, Ordering::Relaxed);
        for frame in frames.drain(..) {
            // The test may have seen enough.
            let _ = self.frames.send((link, frame));
        }
    }

    fn feedback(&self, link: LinkKey, feedback: RouteFeedback) {
        self.heard.lock().unwrap().push((link, feedback));
    }

    fn data(&self, link: LinkKey, message: DataMessage) {
        self.data.lock().unwrap().push((link, message));
    }
}

pub(crate) fn control(route: (RouteId, RouteEpoch), body: ControlBody) -> RouteControl {
    RouteControl { route: route.0.0, epoch: route.1.0, body }
}

pub(crate) fn feedback(route: (RouteId, RouteEpoch), body: FeedbackBody) -> RouteFeedback {
    RouteFeedback { route: route.0.0, epoch: route.1.0, body }
}

pub(crate) fn audio(route: (RouteId, RouteEpoch), seq: u16, packet: impl Into<Bytes>) -> Frame {
    Frame {
        route: route.0,
        epoch: route.1,
        seq,
        flags: FrameFlags::default(),
        class: FrameClass::Audio,
        packet: packet.into(),
    }
}

pub(crate) fn data(route: (RouteId, RouteEpoch), number: u64, payload: impl Into<Bytes>) -> DataMessage {
    DataMessage { route: route.0, epoch: route.1, number, ppid: 53, payload: payload.into() }
}

/// Two nodes, linked through a relay that stands for the address of the second one.
pub(crate) struct Linked {
    pub(crate) a: Node,
    pub(crate) key_of_b: LinkKey,
    pub(crate) b: Node,
    pub(crate) key_of_a: LinkKey,
    pub(crate) path: PathPair,
    /// Ends when dropped.
    pub(crate) _relay: UdpRelay,
}

pub(crate) async fn linked_over(cluster: &Cluster, path: ImpairmentConfig, seed: u64) -> Linked {
    println!("seed {seed}");
    link(cluster.node("a"), cluster.node("b"), path, seed).await
}

/// Two nodes that take a link for dead which was silent for a second.
pub(crate) async fn linked_impatiently(cluster: &Cluster) -> Linked {
    let node = |name| {
        let mut config = cluster.config(name);
        config.limits.idle_timeout = Duration::from_secs(1);
        Node::start(config)
    };
    link(node("a"), node("b"), ImpairmentConfig::default(), 1).await
}

async fn link(mut a: Node, mut b: Node, path: ImpairmentConfig, seed: u64) -> Linked {
    let (relay, path) = relay_to(&b, path, seed);
    a.mesh.connect(PeerAddress { node: b.instance.node.clone(), addr: relay.local_addr() });
    let (key_of_b, ..) = a.link_up().await;
    let (key_of_a, ..) = b.link_up().await;
    Linked { a, key_of_b, b, key_of_a, path, _relay: relay }
}

/// Stands for a node's address, the path being the same both ways.
pub(crate) fn relay_to(node: &Node, path: ImpairmentConfig, seed: u64) -> (UdpRelay, PathPair) {
    let path = PathPair::new(path, seed);
    let config = RelayConfig::new(any_addr(), node.mesh.local_addr(), path.clone());
    (UdpRelay::spawn(config).unwrap(), path)
}
