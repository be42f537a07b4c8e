//! The mesh endpoint of a node.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime};
use rustc_hash::{FxHashMap, FxHashSet};
use sluice_proto::ids::{NodeId, NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::{Hello, RouteControl, RouteFeedback};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::accept::Acceptor;
use super::clock;
use super::close::CloseCode;
use super::counters::EndpointCounters;
use super::dial::{Dialler, GOSSIP_WAITING};
use super::gossip;
use super::link::{Current, Link};
use super::metrics::MeshCollector;
use super::panics::vital;
use super::pipe::PipeContext;
use super::registry::Registry;
use super::routes::RouteTable;
use super::sink::FrameSink;
use super::tls::Tls;
use super::types::{
    BindError, Inbox, LinkState, LinkStatus, MeshConfig, MeshLimits, MeshTls, Newer, PeerAddress, Standing,
};
use crate::{DataMessage, Frame, LinkKey, ca};

/// Link events that may wait for the control plane: a burst of messages of a few peers. While it is full their control
/// streams wait, which QUIC tells them.
const EVENT_QUEUE: usize = 4096;

/// Addresses that are dialled for gossip at one time: the seeds, and the members of a region that were just met.
const MAX_GOSSIP_DIALS: usize = 256;

/// What the kernel may hold of arrived datagrams while the endpoint's task does something else: 20 ms at 1 Gbit/s.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// How long peers are given to hear that this node stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The mesh endpoint of a node. Cheap to clone. It runs until [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

struct Shared {
    limits: MeshLimits,
    local_addr: SocketAddr,
    advertised: SocketAddr,
    registry: Arc<Registry>,
    routes: Arc<RouteTable>,
    counters: Arc<EndpointCounters>,
    /// Taken by `shutdown`, so that the socket is closed.
    dialler: Mutex<Option<Dialler>>,
    wanted: Mutex<FxHashMap<NodeId, Wanted>>,
    gossip_dials: Mutex<FxHashMap<SocketAddr, mpsc::Sender<Bytes>>>,
    stop: CancellationToken,
    /// Nobody is let in any more, or a task has panicked.
    ended: CancellationToken,
}

struct Wanted {
    addr: SocketAddr,
    given_up: CancellationToken,
}

impl Mesh {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] when the address is taken or the certificates cannot be used.
    pub fn bind(config: MeshConfig) -> Result<(Self, Inbox), BindError> {
        let refuse = |error| BindError::Socket(config.listen, error);
        let socket = bind_socket(config.listen).and_then(|socket| TokioRuntime.wrap_udp_socket(socket));
        let socket = socket.map_err(refuse)?;
        Self::bind_to(config, socket)
    }

    /// Listens on a socket of the caller's, which may be one in memory. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] when the socket has no address or the certificates cannot be used.
    pub fn bind_to(config: MeshConfig, socket: Arc<dyn AsyncUdpSocket>) -> Result<(Self, Inbox), BindError> {
        let MeshConfig { instance, listen, mut advertised, tls, limits } = config;
        let Tls { server, client } = Tls::new(&instance.node, &tls, &limits)?;
        let refuse = |error| BindError::Socket(listen, error);
        let local_addr = socket.local_addr().map_err(refuse)?;
        if advertised.port() == 0 {
            advertised.set_port(local_addr.port());
        }
        let (endpoint_config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
        let endpoint = Endpoint::new_with_abstract_socket(endpoint_config, Some(server), socket, runtime);
        let endpoint = endpoint.map_err(refuse)?;

        let (events, events_out) = mpsc::channel(EVENT_QUEUE);
        let (gossip, gossip_out) = mpsc::channel(gossip::INBOX);
        let stop = CancellationToken::new();
        let routes = Arc::new(RouteTable::new(limits.routes));
        let counters = Arc::new(EndpointCounters::default());
        let ended = CancellationToken::new();
        let context = PipeContext {
            events,
            gossip,
            routes: routes.clone(),
            stop: stop.clone(),
            ended: ended.clone(),
            newer: watch::Sender::new(None),
        };
        let registry = Arc::new(Registry::new(instance.clone(), limits.peers, context));
        let hello = Arc::new(Hello {
            node: instance.node.as_str().to_owned(),
            incarnation: instance.incarnation,
            advertised: advertised.to_string(),
        });
        let dialler = Dialler {
            endpoint: endpoint.clone(),
            client: Arc::new(ArcSwap::from_pointee(client)),
            server_name: ca::server_name(&tls.cluster).into(),
            hello: hello.clone(),
            registry: registry.clone(),
            counters: counters.clone(),
        };
        let acceptor = Acceptor {
            endpoint,
            hello,
            registry: registry.clone(),
            counters: counters.clone(),
            handshakes: limits.handshakes,
        };
        let end = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _end = end;
            acceptor.run().await;
        });
        info!(%instance, %local_addr, %advertised, "the mesh endpoint listens");
        let shared = Shared {
            limits,
            local_addr,
            advertised,
            registry,
            routes,
            counters,
            dialler: Mutex::new(Some(dialler)),
            wanted: Mutex::default(),
            gossip_dials: Mutex::default(),
            stop,
            ended,
        };
        let shared = Arc::new(shared);
        tokio::spawn(vital(shared.ended.clone(), forget_silent(Arc::downgrade(&shared))));
        Ok((Self { shared }, Inbox { events: events_out, gossip: gossip_out }))
    }

    /// Uses other certificates from now on. Connections that are up stay; the cluster's name stays too.
    ///
    /// # Errors
    /// [`BindError::Tls`] when they cannot be used; the former ones stay in use then.
    pub fn set_tls(&self, tls: &MeshTls) -> Result<(), BindError> {
        let Tls { server, client } = Tls::new(&self.shared.registry.own().node, tls, &self.shared.limits)?;
        if let Some(dialler) = self.dialler() {
            dialler.endpoint.set_server_config(Some(server));
            dialler.client.store(Arc::new(client));
        }
        Ok(())
    }

    /// What others say of a newer incarnation of this very node; said again each time that they turn this one away for
    /// it.
    pub fn newer(&self) -> watch::Receiver<Option<Newer>> {
        self.shared.registry.newer()
    }

    /// Whether the others let this node in.
    pub fn standing(&self) -> Standing {
        self.shared.registry.standing()
    }

    /// Waits until the endpoint has ended: without [`Self::shutdown`], something broke.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.ended.clone().cancelled_owned()
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// The address that other nodes know this one by.
    pub fn advertised(&self) -> SocketAddr {
        self.shared.advertised
    }

    /// Keeps a link to a node: dials until it is up and again when it went down, until
    /// [`disconnect`](Self::disconnect).
    pub fn connect(&self, peer: PeerAddress) {
        let Some(dialler) = self.dialler() else { return };
        let given_up = self.shared.stop.child_token();
        let wanted = Wanted { addr: peer.addr, given_up: given_up.clone() };
        let mut all = lock(&self.shared.wanted);
        if all.get(&peer.node).is_some_and(|before| before.addr == peer.addr) {
            return;
        }
        if let Some(before) = all.insert(peer.node.clone(), wanted) {
            before.given_up.cancel();
        }
        let keeping = async move { given_up.run_until_cancelled(dialler.keep(peer)).await };
        tokio::spawn(vital(self.shared.ended.clone(), keeping));
    }

    /// Gives up a link: closes it and dials no more. The other end may still dial this one.
    pub fn disconnect(&self, node: &NodeId) {
        if let Some(wanted) = lock(&self.shared.wanted).remove(node) {
            wanted.given_up.cancel();
        }
        if let Some(link) = self.shared.registry.link(node) {
            link.close(CloseCode::Disconnected);
        }
    }

    /// Every link there is or that is wanted, by node.
    pub fn links(&self) -> Vec<LinkStatus> {
        let wanted: FxHashMap<NodeId, SocketAddr> =
            lock(&self.shared.wanted).iter().map(|(node, wanted)| (node.clone(), wanted.addr)).collect();
        let known = self.shared.registry.all();
        let unmet = wanted.iter().filter(|(node, _)| known.iter().all(|link| link.instance.node != **node));
        let mut links: Vec<LinkStatus> = unmet.map(|(node, addr)| unmet_status(node, *addr)).collect();
        links.extend(known.iter().map(|link| status(link, wanted.contains_key(&link.instance.node))));
        links.sort_by(|a, b| a.node.cmp(&b.node));
        links
    }

    /// How many frames of QUIC arrived from a node on the present connection with it: while this number grows, the node
    /// lives. `None` when there is no connection with this very incarnation.
    pub fn arrived(&self, instance: &NodeInstance) -> Option<u64> {
        let link = self.shared.registry.link(&instance.node).filter(|link| link.instance == *instance)?;
        let received = link.live()?.connection.stats().frame_rx;
        // An idle connection has only these; the others come with them.
        Some(received.acks + received.ping + received.datagram + received.stream)
    }

    /// Allocates a route whose frames go to `sink`. `None` when the limit is reached.
    pub fn allocate_route(&self, sink: Arc<dyn FrameSink>) -> Option<(RouteId, RouteEpoch)> {
        let route = self.shared.routes.allocate(sink);
        if route.is_none() {
            warn!("no route is free");
        }
        route
    }

    /// Frees a route; frames still on their way are counted and dropped.
    pub fn release_route(&self, route: RouteId) {
        self.shared.routes.release(route);
    }

    /// Lets feedback about a route that begins at this end reach `sink`, until the route is closed or the link goes
    /// down.
    pub fn open_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch, sink: Arc<dyn FrameSink>) {
        if let Some(current) = self.connection(link) {
            current.open_route_out(route, epoch, sink);
        }
    }

    /// Closes a route that begins at this end: from now on feedback about it is answered with its end. Messages of data
    /// that wait for it are dropped and counted.
    pub fn close_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        if let Some(peer) = self.shared.registry.by_key().get(&link) {
            peer.close_route_out(link, route, epoch);
        }
    }

    /// Sends frames. Never blocks; what the link cannot take is dropped and counted. `frames` is empty afterwards.
    pub fn send_frames(&self, link: LinkKey, frames: &mut Vec<Frame>) {
        match self.shared.registry.by_key().get(&link) {
            Some(peer) => peer.send_frames(link, frames),
            None => {
                self.shared.counters.unknown_link.add(frames.len() as u64);
                frames.clear();
            }
        }
    }

    /// Says something about a route's packets to its other end. Never blocks; what the link cannot take is dropped and
    /// counted.
    pub fn send_feedback(&self, link: LinkKey, feedback: RouteFeedback) {
        match self.shared.registry.by_key().get(&link) {
            Some(peer) => peer.send_feedback(link, feedback),
            None => self.shared.counters.unknown_link.add(1),
        }
    }

    /// Sends a message of data on a route that the peer allocated. Never blocks; what the route's queue cannot take is
    /// dropped and counted. What was sent comes in order while the link lives; what was under way when it goes down is
    /// lost.
    pub fn send_data(&self, link: LinkKey, message: DataMessage) {
        match self.shared.registry.by_key().get(&link) {
            Some(peer) => peer.send_data(link, message),
            None => self.shared.counters.unknown_link.add(1),
        }
    }

    /// Says something about a route, reliably and in order while the link is up. False when there is no room for it
    /// now, and nothing was said. On a link that is down there is always room, and nobody hears.
    #[must_use]
    pub fn send_control(&self, link: LinkKey, message: RouteControl) -> bool {
        self.connection(link).is_none_or(|current| current.send_control(message))
    }

    /// Sends a gossip message of at most 65,507 bytes to the node that advertises `to`; dials it if there is no link.
    /// Enqueues and returns.
    pub fn send_gossip(&self, to: SocketAddr, payload: Bytes) {
        let registry = &self.shared.registry;
        if payload.len() > gossip::MAX_MESSAGE_LEN {
            warn!(%to, len = payload.len(), "gossip is too long");
            self.shared.counters.gossip_undeliverable.add(1);
            return;
        }
        match registry.node_at(to) {
            // An address of this node itself, perhaps found among the seeds.
            Some(node) if node == registry.own().node => {}
            Some(node) if registry.link(&node).is_some_and(|link| link.send_gossip(payload.clone())) => {}
            _ if to == self.shared.advertised => {}
            _ => self.dial_for_gossip(to, payload),
        }
    }

    /// Closes every link, telling the peers, and stops listening. Nothing comes out of the [`Inbox`] any more.
    pub async fn shutdown(&self) {
        let Some(dialler) = lock(&self.shared.dialler).take() else { return };
        CloseCode::Shutdown.close_endpoint(&dialler.endpoint);
        self.shared.stop.cancel();
        lock(&self.shared.wanted).clear();
        lock(&self.shared.gossip_dials).clear();
        self.shared.registry.shutdown().await;
        if tokio::time::timeout(FAREWELL, dialler.endpoint.wait_idle()).await.is_err() {
            info!("some peers did not hear that this node stops");
        }
    }

    /// Registers the metrics of this endpoint.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        let shared = &self.shared;
        let collector = MeshCollector::new(shared.registry.clone(), shared.routes.clone(), shared.counters.clone());
        registry.register_collector(Box::new(collector));
    }

    fn dial_for_gossip(&self, to: SocketAddr, payload: Bytes) {
        let Some(dialler) = self.dialler() else { return };
        let mut dials = lock(&self.shared.gossip_dials);
        dials.retain(|_, waiting| !waiting.is_closed());
        if let Some(waiting) = dials.get(&to) {
            if waiting.try_send(payload).is_err() {
                self.shared.counters.gossip_undeliverable.add(1);
            }
            return;
        }
        if dials.len() >= MAX_GOSSIP_DIALS {
            self.shared.counters.gossip_undeliverable.add(1);
            return;
        }
        let (waiting, messages) = mpsc::channel(GOSSIP_WAITING);
        // Has room: it is new.
        let _ = waiting.try_send(payload);
        dials.insert(to, waiting);
        let stop = self.shared.stop.clone();
        let delivering = async move { stop.run_until_cancelled(dialler.deliver(to, messages)).await };
        tokio::spawn(vital(self.shared.ended.clone(), delivering));
    }

    fn connection(&self, link: LinkKey) -> Option<Arc<Current>> {
        self.shared.registry.by_key().get(&link)?.connection(link)
    }

    fn dialler(&self) -> Option<Dialler> {
        lock(&self.shared.dialler).clone()
    }
}

/// Looks now and then for nodes to forget, while the endpoint exists.
async fn forget_silent(shared: Weak<Shared>) {
    let Some(after) = shared.upgrade().map(|shared| shared.limits.forget_after) else { return };
    let mut looks = tokio::time::interval((after / 4).max(Duration::from_millis(1)));
    loop {
        looks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let wanted: FxHashSet<NodeId> = lock(&shared.wanted).keys().cloned().collect();
        shared.registry.forget_silent(clock(), after, |node| wanted.contains(node));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind_socket(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel may grant less; it is no reason not to start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

fn unmet_status(node: &NodeId, addr: SocketAddr) -> LinkStatus {
    LinkStatus {
        node: node.clone(),
        incarnation: None,
        key: None,
        addr,
        state: LinkState::Dialling,
        dialled_here: false,
        rtt: None,
        congestion_window: 0,
        max_datagram_size: None,
        capacity: None,
        send_bitrate: 0,
        recv_bitrate: 0,
        packets_sent: 0,
        packets_lost: 0,
        drops: Vec::new(),
    }
}

fn status(link: &Link, wanted: bool) -> LinkStatus {
    let base = LinkStatus {
        incarnation: Some(link.instance.incarnation),
        key: link.current.load().as_ref().map(|current| current.key),
        state: if wanted { LinkState::Dialling } else { LinkState::Down },
        drops: link.counters.drops(),
        ..unmet_status(&link.instance.node, link.advertised)
    };
    let Some(current) = link.live() else { return base };
    let stats = current.connection.stats();
    LinkStatus {
        state: LinkState::Up,
        dialled_here: current.dialled_here,
        rtt: Some(stats.path.rtt),
        congestion_window: stats.path.cwnd,
        max_datagram_size: current.connection.max_datagram_size(),
        capacity: Some(link.counters.capacity.get()).filter(|&capacity| capacity > 0),
        send_bitrate: link.counters.send_bitrate.get(),
        recv_bitrate: link.counters.recv_bitrate.get(),
        packets_sent: stats.path.sent_packets,
        packets_lost: stats.path.lost_packets,
        ..base
    }
}
