//! Nodes over loopback with real certificates, each on its own runtime, so that one can be killed without a word.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use sluice_placement::{
    Member, MemberState, Members, NodeFacts, NodeLoad, PartDelta, Placement, PlacementConfig, PlacementTls, RosterEvent,
};
use sluice_proto::ids::{NamespaceId, NodeId, NodeInstance, Region, RoomId, RoomKey};
use sluice_proto::placement::PeerEntry;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// A certificate authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate with these URIs besides the cluster's name.
    pub(crate) fn issue(&self, uris: &[&str]) -> PlacementTls {
        let mut params = CertificateParams::new(vec!["mesh.test".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        PlacementTls {
            ca_pem: self.pem.clone(),
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cluster: "test".into(),
        }
    }

    pub(crate) fn issue_node(&self, node: &str) -> PlacementTls {
        self.issue(&[&format!("sluice:node/{node}")])
    }
}

pub(crate) fn instance(node: &str, incarnation: u64) -> NodeInstance {
    NodeInstance { node: NodeId::new(node).unwrap(), incarnation }
}

pub(crate) fn room(name: &str) -> RoomKey {
    RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new(name).unwrap() }
}

/// These peers are in a part now.
pub(crate) fn part(peers: &[&str]) -> PartDelta {
    let peer = |id: &&str| Arc::new(PeerEntry { id: (*id).into(), ..PeerEntry::default() });
    PartDelta { upserted: peers.iter().map(peer).collect(), removed: Vec::new() }
}

pub(crate) struct TestNode {
    pub(crate) placement: Placement,
    pub(crate) instance: NodeInstance,
    members: watch::Sender<Arc<Members>>,
    runtime: Option<Runtime>,
}

impl TestNode {
    pub(crate) async fn start(config: PlacementConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let instance = config.instance.clone();
        let (members, view) = watch::channel(Arc::new(Members::new(instance.clone(), [])));
        let placement = runtime.spawn(Placement::spawn(config, view)).await.unwrap().unwrap();
        Self { placement, instance, members, runtime: Some(runtime) }
    }

    fn addr(&self) -> SocketAddr {
        self.placement.local_addr()
    }

    /// All metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let mut registry = Registry::default();
        self.placement.register_metrics(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        // Its sockets are closed when this returns, as after a kill. A runtime may not be waited for within another
        // one.
        let runtime = self.runtime.take().unwrap();
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5))).join();
        assert!(ended.is_ok());
    }
}

/// Nodes that know of each other what the test says.
pub(crate) struct Cluster {
    pub(crate) ca: Ca,
    pub(crate) nodes: BTreeMap<String, TestNode>,
}

impl Cluster {
    pub(crate) async fn start(nodes: &[&str]) -> Self {
        Self::start_with(nodes, |_| ()).await
    }

    /// With other settings than those of production.
    pub(crate) async fn start_with(nodes: &[&str], set: impl Fn(&mut PlacementConfig)) -> Self {
        let mut cluster = Self { ca: Ca::new(), nodes: BTreeMap::new() };
        for node in nodes {
            let mut config = cluster.config(node, 1);
            set(&mut config);
            cluster.add(config).await;
        }
        cluster.tell();
        cluster
    }

    pub(crate) fn config(&self, node: &str, incarnation: u64) -> PlacementConfig {
        PlacementConfig::new(instance(node, incarnation), ([127, 0, 0, 1], 0).into(), self.ca.issue_node(node))
    }

    pub(crate) async fn add(&mut self, config: PlacementConfig) {
        let name = config.instance.node.to_string();
        self.nodes.insert(name, TestNode::start(config).await);
    }

    /// A node is gone without a word; the others do not know yet. Returns its port.
    pub(crate) fn kill(&mut self, node: &str) -> SocketAddr {
        let node = self.nodes.remove(node).unwrap();
        node.addr()
    }

    /// A node that learns of others, whoever they are.
    pub(crate) async fn add_knowing(&mut self, config: PlacementConfig, others: impl IntoIterator<Item = Member>) {
        let instance = config.instance.clone();
        self.add(config).await;
        self.node(instance.node.as_str()).members.send_replace(Arc::new(Members::new(instance, others)));
    }

    /// Every node learns who is there.
    pub(crate) fn tell(&self) {
        let everybody = || self.nodes.values().map(|node| member(&node.instance, node.addr()));
        for node in self.nodes.values() {
            node.members.send_replace(Arc::new(Members::new(node.instance.clone(), everybody())));
        }
    }

    pub(crate) fn node(&self, node: &str) -> &TestNode {
        &self.nodes[node]
    }

    pub(crate) fn placement(&self, node: &str) -> &Placement {
        &self.node(node).placement
    }
}

pub(crate) fn member(instance: &NodeInstance, addr: SocketAddr) -> Member {
    let facts = NodeFacts {
        region: Region::new("eu").unwrap(),
        zone: String::new(),
        carrier: String::new(),
        priority: 0,
        users_url: String::new(),
        mesh_addr: addr,
        grpc_addr: addr,
        load: NodeLoad::default(),
        clock_ms: 0,
        tenants: String::new(),
        draining: false,
        version: String::new(),
    };
    #[allow(clippy::disallowed_methods, reason = "the tests run in real time")]
    let since = std::time::Instant::now();
    Member { instance: instance.clone(), facts, state: MemberState::Live, since }
}

/// The next event about a part.
pub(crate) async fn next(events: &mut mpsc::Receiver<RosterEvent>) -> RosterEvent {
    loop {
        let event = timeout(Duration::from_secs(10), events.recv()).await;
        match event.expect("an event in time").expect("the room goes on") {
            RosterEvent::Complete => {}
            event => return event,
        }
    }
}

/// Events until this one comes.
pub(crate) async fn until(events: &mut mpsc::Receiver<RosterEvent>, expected: &RosterEvent) {
    while next(events).await != *expected {}
}

/// These peers are new in a node's part, which may be new itself.
pub(crate) fn changed(instance: &NodeInstance, peers: &[&str]) -> RosterEvent {
    RosterEvent::PartChanged { instance: instance.clone(), delta: part(peers), unlisted: 0 }
}

pub(crate) fn gone(instance: &NodeInstance) -> RosterEvent {
    RosterEvent::PartGone { instance: instance.clone() }
}
