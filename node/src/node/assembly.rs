//! The parts of a node and how they are joined: workers, mesh, membership, placement, rooms, HTTP.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sluice_media::messages::{WorkerEvent, WorkerIndex};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::{AudioLimits, TransportAddress};
use sluice_mesh::{BindError, Gossip, Inbox, Mesh, MeshConfig, MeshEvent, MeshLimits, MeshTls, Standing};
use sluice_placement::{
    Members, Membership, MembershipConfig, NodeFacts, NodeLoad, Placement, PlacementConfig, TraceHooks,
};
use sluice_proto::ids::NodeInstance;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::announced::{Addresses, follow_names};
use super::identity::{self, UsersCertificate};
use super::renewal::Renewals;
use super::standing::superseded;
use super::{NodeEnd, StartError, doors, memory, open_files};
use crate::access::Namespaces;
use crate::address_limits::AddressLimits;
use crate::cluster::clock::ClusterClock;
use crate::cluster::facts::publish_facts;
use crate::cluster::gossip::{MeshTransport, MeshWitness};
use crate::cluster::links::keep_links;
use crate::cluster::tenants::watch_tenants;
use crate::cluster::wiring::{MeshOut, MeshWiring, PlacementWiring, mesh_signals};
use crate::config::NodeConfig;
use crate::entrance::Entrance;
use crate::events::Events;
use crate::events::usage::WRITE_EVERY;
use crate::http::{Health, Server};
use crate::limits::Limits;
use crate::metrics::{Metrics, Sources};
use crate::ports::{MediaWorker, Ports};
use crate::rooms::{Rooms, RoomsConfig};
use crate::telemetry::{current_traceparent, set_parent};
use crate::turn::Turn;
use crate::vitals::Vitals;
use crate::worker::{Acceptor, Intake, SpawnError, WorkerHandle, Workers, WorkersConfig, spawn_workers};

/// How often it is looked how much traffic a tenant with a limit has.
const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// How long the parts may take each to end in order.
const PART_TIME: Duration = Duration::from_secs(3);

/// Kernel buffer of a media socket, each way: 40 ms of 800 Mbit/s, more than a worker is ever away from its socket.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// What runs for as long as the node, with its name.
type Tasks = [(&'static str, BoxFuture<'static, ()>); 8];

/// Everything of a node that has to be ended.
pub(super) struct Parts {
    health: Health,
    users: Server,
    /// Unless media go by UDP only, or come to the users' port.
    media: Option<Acceptor>,
    admin: Server,
    rooms: Rooms,
    pub(super) placement: Placement,
    pub(super) membership: Arc<Membership>,
    renewals: Arc<Renewals>,
    instance: NodeInstance,
    sources: Arc<Sources>,
    vitals: Vitals,
    /// Ends what nobody waits for.
    stop: CancellationToken,
    pub(super) mesh: Mesh,
    pub(super) workers: WorkerThreads,
}

impl Parts {
    /// Builds everything, binding ports first, so that one that is taken is told before anybody hears of this node.
    /// Runs on the control plane's runtime; the mesh's tasks go to `mesh_runtime`.
    pub(super) async fn assemble(
        mut config: NodeConfig,
        instance: NodeInstance,
        mesh_runtime: Handle,
    ) -> Result<(Self, NodeConfig), StartError> {
        let (tls, users_tls) = (identity::mesh_tls(&config)?, users_certificate(&config)?);
        let namespaces = Namespaces::new(&config.namespaces, config.region.clone()).map(Arc::new);
        let namespaces = namespaces.map_err(|error| StartError::system("namespaces", error))?;
        let addresses = Addresses::resolve(&config).await?;
        let users = doors::bind("users.listen", &mut config.users.listen)?;
        let admin = doors::bind("admin.listen", &mut config.admin.listen)?;
        let (mesh, inbox) = bind_mesh(&mut config, &addresses, &instance, &tls, &mesh_runtime)?;
        let (mut workers, certificate) = WorkerThreads::start(&mut config, &mesh)?;

        let said = facts(&config, &addresses, &mesh, &namespaces);
        let membership = start_membership(&config, said, &instance, &mesh, inbox.gossip, &mesh_runtime).await?;
        let placement = start_placement(&mut config, &instance, tls.clone(), &membership).await?;
        let (members, vitals, stop) = (membership.members(), Vitals::default(), CancellationToken::new());
        let events =
            Events::start(&config, &instance, &vitals).map_err(|(what, error)| StartError::system(what, error))?;
        let (address_limits, clock) = (AddressLimits::new(&config), ClusterClock::default());
        let turn = turn(&config, &addresses, &address_limits);
        let rooms_config = rooms_config(&config, &instance, &addresses, &certificate, (&address_limits, &clock, &turn));
        let (handles, worker_events) = workers.take_events();
        let placement_port = Arc::new(PlacementWiring::new(placement.clone(), members.clone()));
        let ports = ports(&mesh, inbox.events, (&handles, worker_events), placement_port, &events, &vitals);
        let rooms = Rooms::spawn(rooms_config, ports);
        let health = Health::new(vitals.clone(), hindrance(&mesh, &rooms));
        let entrance = Entrance::new(rooms.clone(), namespaces.clone());
        let connections = open_files::connections(&config);
        let port = (users, connections.users, users_tls.as_ref().map(|(_, certificate)| certificate));
        let intake = config.media.tcp.then(|| Intake::new(connections.media, address_limits.clone(), handles.clone()));
        let shared = intake.clone().filter(|_| config.shares_media_port());
        let users = doors::serve_users(&config, port, entrance.clone(), &health, (turn.clone(), shared))?;
        let (media, announcing) = (workers.accept(intake.as_ref())?, turn.clone());
        let sources = sources(&instance, handles, &rooms, (&mesh, &members), (&users, intake, turn), &namespaces);
        let metrics = Metrics::new(sources.clone(), &membership, &placement);
        let admin = doors::serve_admin(&config, admin, sources.clone(), metrics, entrance, &health)?;
        let (membership, facts) = (Arc::new(membership), facts(&config, &addresses, &mesh, &namespaces));
        let following = follow_names(config.clone(), addresses, announce(&config, rooms.clone(), announcing));
        let (tenants, data_dir) = ((namespaces.clone(), rooms.clone()), config.data_dir.clone());
        let renewals = Arc::new(Renewals::new(&config, users_tls, (tls, mesh.clone(), placement.clone()), tenants));
        let publishing =
            publish_facts(membership.clone(), facts, sources.clone(), data_dir, clock.clone(), vitals.clone());
        let tasks: Tasks = [
            ("the publication of facts", publishing.boxed()),
            ("the return of memory", memory::give_back(rooms.clone()).boxed()),
            ("the account of usage", keep_usage(sources.clone(), namespaces).boxed()),
            ("the cluster's clock", clock.follow(members.clone()).boxed()),
            ("the keeping of links", keep_links(mesh.clone(), members.clone()).boxed()),
            ("the names of the media port", following.boxed()),
            ("the comparison of tenants", watch_tenants(members).boxed()),
            ("the watch over files", renewals.clone().watch().boxed()),
        ];
        let parts = Self {
            health,
            users,
            media,
            admin,
            rooms,
            placement,
            membership,
            renewals,
            instance,
            sources,
            vitals,
            stop,
            mesh,
            workers,
        };
        parts.watch_over(tasks);
        parts.health.set_serving(true);
        tracing::info!(node = %parts.instance, users = %config.users.listen, "ready");
        Ok((parts, config))
    }

    /// Runs the tasks. Whatever of them or of the parts ends by itself ends the node.
    fn watch_over(&self, tasks: Tasks) {
        let mut worker_ended = self.workers.ended();
        let worker_ended = async move { drop(worker_ended.wait_for(Option::is_some).await) };
        let media = self.media.as_ref().map(|media| ("the media port over TCP", media.ended().boxed()));
        let parts: [(&'static str, BoxFuture<'static, ()>); 6] = [
            ("the users' port", self.users.ended().boxed()),
            ("the admin port", self.admin.ended().boxed()),
            ("a media worker", worker_ended.boxed()),
            ("gossip", self.membership.ended().boxed()),
            ("placement", self.placement.ended().boxed()),
            ("the mesh", self.mesh.ended().boxed()),
        ];
        for (part, ended) in tasks.into_iter().chain(parts).chain(media) {
            self.vitals.spawn(part, self.stop.clone().run_until_cancelled_owned(ended).map(drop));
        }
    }

    /// Why the node has to end, when it has to.
    pub(super) fn ending(&self) -> impl Future<Output = NodeEnd> + Send + use<> {
        let (vitals, superseded) = (self.vitals.clone(), superseded(self.instance.clone(), self.mesh.newer()));
        async move {
            tokio::select! {
                part = vitals.end() => NodeEnd::Lost(part),
                incarnation = superseded => NodeEnd::Superseded { incarnation },
            }
        }
    }

    /// Opens anew what may have been moved away.
    pub(super) fn reopen(&self) -> impl Future<Output = ()> + Send + use<> {
        let audit = self.sources.events.audit().clone();
        async move { audit.reopen().await }
    }

    /// Reads again what can be renewed.
    pub(super) fn reload(&self) -> impl FnOnce() + Send + use<> {
        let renewals = self.renewals.clone();
        move || renewals.reload()
    }

    /// Ends everything, in the order in which nobody misses what has ended already.
    pub(super) async fn shutdown(self) {
        self.health.set_serving(false);
        // Who has lost its media is not kept waiting for load balancers, and nobody new is to come.
        if self.vitals.lost().is_none() {
            tokio::time::sleep(self.rooms.limits().shutdown_pause).await;
        }
        self.stop.cancel();
        // Which takes its time, and no more.
        self.rooms.shutdown().await;
        self.users.shutdown().await;
        drop(self.media);
        within("usage", self.sources.write_usage()).await;
        within("events", self.sources.events.shutdown()).await;
        within("placement", self.placement.shutdown()).await;
        if let Some(membership) = Arc::into_inner(self.membership) {
            within("membership", membership.shutdown()).await;
        }
        self.admin.shutdown().await;
        within("mesh", self.mesh.shutdown()).await;
        // Waits for threads.
        within("workers", tokio::task::spawn_blocking(move || drop(self.workers)).map(drop)).await;
    }
}

/// Writes down what was used, and measures what tenants use where that is limited, for ever.
async fn keep_usage(sources: Arc<Sources>, namespaces: Arc<Namespaces>) {
    let [mut writes, mut measurements] = [WRITE_EVERY, MEASURE_EVERY].map(interval);
    writes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    measurements.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = writes.tick() => sources.write_usage().await,
            _ = measurements.tick() => if namespaces.limit_traffic() {
                namespaces.note_traffic(&sources.usage().await);
            }
        }
    }
}

/// Waits for a part to end, but not for ever: a node that is told to stop stops.
async fn within(part: &'static str, ending: impl Future<Output = ()>) {
    if tokio::time::timeout(PART_TIME, ending).await.is_err() {
        tracing::warn!(part, "did not end in time");
    }
}

/// The media workers; dropping it ends their threads and waits for them.
pub(super) struct WorkerThreads(Option<Workers>);

impl WorkerThreads {
    fn start(config: &mut NodeConfig, mesh: &Mesh) -> Result<(Self, Arc<DtlsCertificate>), StartError> {
        let certificate =
            DtlsCertificate::generate().map_err(|error| StartError::system("the node's DTLS certificate", error))?;
        let workers = spawn_workers(WorkersConfig {
            media_addr: config.media.listen,
            tcp: config.media.tcp && !config.shares_media_port(),
            count: worker_count(config.workers),
            certificate: certificate.clone(),
            socket_buffer_bytes: SOCKET_BUFFER_BYTES,
            frame_out: Arc::new(MeshOut(mesh.clone())),
            audio: AudioLimits {
                last_n: u8::try_from(config.media.last_n).ok().and_then(NonZeroU8::new),
                bitrate: config.media.audio_bitrate,
            },
            data: config.data.limits(),
        })
        .map_err(|error| match error {
            SpawnError::Bind { addr, source } => StartError::Listen { setting: "media.listen", addr, source },
            SpawnError::Thread(source) => StartError::system("the media workers' threads", source),
        })?;
        config.media.listen = workers.local_addr;
        Ok((Self(Some(workers)), certificate))
    }

    #[cfg(test)]
    pub(super) fn handles(&self) -> &[WorkerHandle] {
        self.0.as_ref().map_or(&[], |workers| &workers.handles)
    }

    /// Takes connections to the media port, if it is listened on over TCP.
    fn accept(&mut self, intake: Option<&Intake>) -> Result<Option<Acceptor>, StartError> {
        let listener = self.0.as_mut().and_then(|workers| workers.listener.take());
        let acceptor = listener.zip(intake.cloned()).map(|(listener, intake)| Acceptor::spawn(listener, intake));
        acceptor.transpose().map_err(|error| StartError::system("the media port over TCP", error))
    }

    /// The worker whose thread has ended, once one has.
    fn ended(&self) -> watch::Receiver<Option<WorkerIndex>> {
        self.0.as_ref().map_or_else(|| watch::channel(None).1, |workers| workers.ended.clone())
    }

    /// The ways into the workers and what they tell. The second time nothing is told any more.
    fn take_events(&mut self) -> (Vec<WorkerHandle>, mpsc::Receiver<(WorkerIndex, WorkerEvent)>) {
        let closed = mpsc::channel(1).1;
        match &mut self.0 {
            Some(workers) => (workers.handles.clone(), std::mem::replace(&mut workers.events, closed)),
            None => (Vec::new(), closed),
        }
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        if let Some(workers) = self.0.take() {
            workers.shutdown();
        }
    }
}

fn worker_count(configured: u16) -> u16 {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().try_into().unwrap_or(u16::MAX)),
        count => count,
    }
}

/// The ways of rooms to the other parts.
fn ports(
    mesh: &Mesh,
    mesh_events: mpsc::Receiver<MeshEvent>,
    (workers, worker_events): (&[WorkerHandle], mpsc::Receiver<(WorkerIndex, WorkerEvent)>),
    placement: Arc<PlacementWiring>,
    events: &Events,
    vitals: &Vitals,
) -> Ports {
    Ports {
        workers: workers.iter().map(|handle| Arc::new(handle.clone()) as Arc<dyn MediaWorker>).collect(),
        worker_events,
        mesh: Arc::new(MeshWiring::new(mesh.clone(), workers)),
        mesh_signals: mesh_signals(mesh_events, vitals),
        placement,
        events: events.clone(),
        vitals: vitals.clone(),
    }
}

fn bind_mesh(
    config: &mut NodeConfig,
    addresses: &Addresses,
    instance: &NodeInstance,
    tls: &MeshTls,
    runtime: &Handle,
) -> Result<(Mesh, Inbox), StartError> {
    let _on_its_runtime = runtime.enter();
    let listen = config.mesh.listen;
    let (mesh, inbox) = Mesh::bind(MeshConfig {
        instance: instance.clone(),
        listen,
        advertised: addresses.mesh(listen),
        tls: tls.clone(),
        limits: MeshLimits { routes: config.mesh.routes, peers: config.mesh.peers as usize, ..MeshLimits::default() },
    })
    .map_err(|error| match error {
        BindError::Socket(addr, source) => StartError::Listen { setting: "mesh.listen", addr, source },
        BindError::Tls(reason) => identity::mesh_unusable(config, reason),
    })?;
    config.mesh.listen = mesh.local_addr();
    Ok((mesh, inbox))
}

/// On the mesh's threads, which rooms do not keep busy: a node that cannot tell the time takes the others for dead.
async fn start_membership(
    config: &NodeConfig,
    facts: NodeFacts,
    instance: &NodeInstance,
    mesh: &Mesh,
    gossip: mpsc::Receiver<Gossip>,
    runtime: &Handle,
) -> Result<Membership, StartError> {
    let cluster = config.cluster.name.to_string();
    let mut membership = MembershipConfig::new(instance.clone(), mesh.advertised(), cluster);
    membership.seeds = config.cluster.seeds.iter().map(ToString::to_string).collect();
    let transport = MeshTransport::new(mesh.clone(), gossip);
    let witness = MeshWitness::new(mesh.clone(), config.grpc.listen.ip());
    let spawning = runtime.spawn(Membership::spawn(membership, facts, transport, witness));
    let spawned = spawning.await.map_err(|error| StartError::system("membership", error))?;
    spawned.map_err(|error| StartError::system("membership", error))
}

async fn start_placement(
    config: &mut NodeConfig,
    instance: &NodeInstance,
    tls: MeshTls,
    membership: &Membership,
) -> Result<Placement, StartError> {
    let mut placement = PlacementConfig::new(instance.clone(), config.grpc.listen, identity::placement_tls(tls));
    placement.trace = TraceHooks { inject: current_traceparent, set_parent };
    let placement = Placement::spawn(placement, membership.members()).await.map_err(|error| match error {
        sluice_placement::SpawnError::Listen { addr, source } => {
            StartError::Listen { setting: "grpc.listen", addr, source }
        }
        other => StartError::system("placement", other),
    })?;
    config.grpc.listen = placement.local_addr();
    Ok(placement)
}

/// The users' certificate, and the text that it was made of.
fn users_certificate(config: &NodeConfig) -> Result<Option<([String; 2], UsersCertificate)>, StartError> {
    let Some(pem) = identity::users_pem(config)? else { return Ok(None) };
    let certificate = UsersCertificate::new(config, &pem)?;
    Ok(Some((pem, certificate)))
}

/// Where metrics, facts and the admin port look.
fn sources(
    instance: &NodeInstance,
    workers: Vec<WorkerHandle>,
    rooms: &Rooms,
    (mesh, members): (&Mesh, &watch::Receiver<Arc<Members>>),
    (users, media, turn): (&Server, Option<Intake>, Option<Turn>),
    namespaces: &Arc<Namespaces>,
) -> Arc<Sources> {
    Arc::new(Sources {
        instance: instance.clone(),
        workers,
        rooms: rooms.clone(),
        mesh: mesh.clone(),
        members: members.clone(),
        users_port: users.counters.clone(),
        media_port: media.map(|media| media.counters().clone()),
        turn: turn.map(|turn| turn.counters().clone()),
        events: rooms.events().clone(),
        namespaces: namespaces.clone(),
    })
}

/// What keeps a node that runs from being ready.
fn hindrance(mesh: &Mesh, rooms: &Rooms) -> impl Fn() -> Option<&'static str> + Send + Sync + use<> {
    let (mesh, newer, rooms) = (mesh.clone(), mesh.newer(), rooms.clone());
    move || {
        if newer.borrow().is_some() {
            return Some("the mesh knows a newer incarnation of this node");
        }
        if mesh.standing() == Standing::Refused {
            return Some("no node of the mesh lets this one in");
        }
        rooms.any_stuck().then_some("a media worker does not answer")
    }
}

fn rooms_config(
    config: &NodeConfig,
    instance: &NodeInstance,
    addresses: &Addresses,
    certificate: &DtlsCertificate,
    (address_limits, clock, turn): (&Arc<AddressLimits>, &ClusterClock, &Option<Turn>),
) -> RoomsConfig {
    RoomsConfig {
        instance: instance.clone(),
        region: config.region.clone(),
        media_addresses: media_addresses(&addresses.media(config.media.listen), config.media.tcp),
        fingerprints: certificate.fingerprints(),
        limits: Limits::from(&config.limits),
        codecs: config.media.codecs.iter().map(ToString::to_string).collect(),
        address_limits: address_limits.clone(),
        clock: clock.clone(),
        turn: turn.clone(),
        data: config.data.enabled.then(|| config.data.limits()),
    }
}

/// Tells everybody who is to be told that the media port has other addresses.
fn announce(config: &NodeConfig, rooms: Rooms, turn: Option<Turn>) -> impl Fn(&[SocketAddr]) + Send + use<> {
    let media = config.media.clone();
    move |announced| {
        rooms.set_media_addresses(media_addresses(announced, media.tcp));
        turn.iter().for_each(|turn| turn.announce(announced, media.listen));
    }
}

/// Where users reach media: first by UDP, which loses what is late instead of waiting for it.
fn media_addresses(addresses: &[SocketAddr], tcp: bool) -> Vec<TransportAddress> {
    let by_tcp = addresses.iter().filter(|_| tcp).copied().map(TransportAddress::Tcp);
    addresses.iter().copied().map(TransportAddress::Udp).chain(by_tcp).collect()
}

/// TURN, if it is served.
fn turn(config: &NodeConfig, addresses: &Addresses, limits: &Arc<AddressLimits>) -> Option<Turn> {
    let announced = addresses.media(config.media.listen);
    let allocations = open_files::allocations(config.turn.allocations, announced.len());
    config.turn.enabled.then(|| Turn::new(&announced, config.media.listen, allocations, limits.clone()))
}

/// What the node says of itself at first; its load and its time follow.
fn facts(config: &NodeConfig, addresses: &Addresses, mesh: &Mesh, namespaces: &Namespaces) -> NodeFacts {
    NodeFacts {
        region: config.region.clone(),
        zone: config.zone.to_string(),
        carrier: config.carrier.to_string(),
        priority: config.priority.try_into().unwrap_or(i32::MAX),
        users_url: config.users_url(),
        mesh_addr: mesh.advertised(),
        grpc_addr: addresses.grpc(config.grpc.listen),
        load: NodeLoad::default(),
        clock_ms: 0,
        tenants: namespaces.digest(),
        draining: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
