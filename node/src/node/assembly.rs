//! The parts of a node and how they are joined: workers, mesh, membership, placement, rooms, HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sluice_mesh::{BindError, Inbox, Mesh, MeshConfig, MeshLimits, MeshTls};
use sluice_placement::{
    Membership, MembershipConfig, NodeFacts, NodeLoad, Placement, PlacementConfig, PlacementTls, TraceHooks,
};
use sluice_proto::ids::NodeInstance;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::{StartError, identity};
use crate::config::{Announced, NodeConfig};
use crate::control_plane::admin::admin_router;
use crate::control_plane::facts::publish_facts;
use crate::control_plane::gossip::MeshTransport;
use crate::control_plane::http::{Health, Server, ServerConfig, users_router};
use crate::control_plane::limits::Limits;
use crate::control_plane::links::keep_links;
use crate::control_plane::metrics::{Metrics, Sources};
use crate::control_plane::ports::{MediaWorker, Ports};
use crate::control_plane::rooms::{Rooms, RoomsConfig};
use crate::control_plane::telemetry::{current_traceparent, set_parent};
use crate::control_plane::wiring::{MeshOut, MeshWiring, PlacementWiring, mesh_signals};
use crate::data_plane::dtls::DtlsCertificate;
use crate::data_plane::messages::{WorkerEvent, WorkerIndex};
use crate::data_plane::worker::{SpawnError, WorkerHandle, Workers, WorkersConfig, spawn_workers};

/// Connections of operators: a scraper, a console, a few shells.
const ADMIN_CONNECTIONS: usize = 64;

/// How long the parts may take each to end in order.
const PART_TIME: Duration = Duration::from_secs(3);

/// Kernel buffer of a media socket, each way: 40 ms of 800 Mbit/s, more than a worker is ever away from its socket.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Everything of a node that has to be ended.
pub(super) struct Parts {
    health: Health,
    users: Server,
    admin: Server,
    rooms: Rooms,
    placement: Placement,
    pub(super) membership: Arc<Membership>,
    tasks: Vec<AbortOnDropHandle<()>>,
    mesh: Mesh,
    workers: WorkerThreads,
}

impl Parts {
    /// Builds everything, binding ports first, so that one that is taken is told before anybody hears of this node. Runs on
    /// the control plane's runtime; the mesh's tasks go to `mesh_runtime`.
    pub(super) async fn assemble(
        mut config: NodeConfig,
        instance: NodeInstance,
        mesh_runtime: Handle,
    ) -> Result<(Self, NodeConfig), StartError> {
        let tls = identity::mesh_tls(&config)?;
        let users_tls = identity::users_tls(&config)?;
        let users = bind("users.listen", &mut config.users.listen)?;
        let admin = bind("admin.listen", &mut config.admin.listen)?;
        let (mesh, inbox) = bind_mesh(&mut config, &instance, &tls, &mesh_runtime)?;
        let (mut workers, certificate) = WorkerThreads::start(&mut config, &mesh)?;

        let transport = MeshTransport::new(mesh.clone(), inbox.gossip);
        let membership = start_membership(&config, &instance, &mesh, &transport).await?;
        let members = membership.members();
        let placement = start_placement(&mut config, &instance, tls, &membership).await?;
        let rooms_config = RoomsConfig {
            instance: instance.clone(),
            region: config.region.clone(),
            media_addresses: media_addresses(&config),
            fingerprints: certificate.fingerprints(),
            limits: Limits::from(&config.limits),
        };
        let (handles, worker_events) = workers.take_events();
        let rooms = Rooms::spawn(
            rooms_config,
            Ports {
                workers: handles.iter().map(|handle| Arc::new(handle.clone()) as Arc<dyn MediaWorker>).collect(),
                worker_events,
                mesh: Arc::new(MeshWiring::new(mesh.clone(), &handles)),
                mesh_signals: mesh_signals(inbox.events),
                placement: Arc::new(PlacementWiring::new(placement.clone(), members.clone())),
            },
        );

        let health = Health::default();
        let users = serve_users(&config, users, users_tls, users_router(rooms.clone(), health.clone()))?;
        let sources = Arc::new(Sources {
            instance: instance.clone(),
            workers: handles,
            rooms: rooms.clone(),
            mesh: mesh.clone(),
            members: members.clone(),
            users_http: users.counters.clone(),
        });
        let metrics = Metrics::new(sources.clone(), &membership, &placement);
        let admin = serve_admin(&config, admin, admin_router(sources.clone(), metrics, health.clone()))?;
        let (membership, facts) = (Arc::new(membership), facts(&config, &mesh));
        let publishing = publish_facts(membership.clone(), facts, sources, config.data_dir.clone());
        let tasks = [tokio::spawn(publishing), tokio::spawn(keep_links(mesh.clone(), members))];
        let tasks = tasks.map(AbortOnDropHandle::new).into();
        health.set_ready(true);
        tracing::info!(node = %instance, users = %config.users.listen, "ready");
        Ok((Self { health, users, admin, rooms, placement, membership, tasks, mesh, workers }, config))
    }

    /// Ends everything, in the order in which nobody misses what has ended already.
    pub(super) async fn shutdown(self) {
        self.health.set_ready(false);
        within("rooms", self.rooms.shutdown()).await;
        self.users.shutdown().await;
        within("placement", self.placement.shutdown()).await;
        for task in self.tasks {
            task.abort();
            // Cancelled, which is what was asked for.
            let _ = task.await;
        }
        if let Some(membership) = Arc::into_inner(self.membership) {
            within("membership", membership.shutdown()).await;
        }
        self.admin.shutdown().await;
        within("mesh", self.mesh.shutdown()).await;
        // Waits for threads.
        let _ = tokio::task::spawn_blocking(move || drop(self.workers)).await;
    }
}

/// Waits for a part to end, but not for ever: a node that is told to stop stops.
async fn within(part: &'static str, ending: impl Future<Output = ()>) {
    if tokio::time::timeout(PART_TIME, ending).await.is_err() {
        tracing::warn!(part, "did not end in time");
    }
}

/// The media workers; dropping it ends their threads and waits for them.
struct WorkerThreads(Option<Workers>);

impl WorkerThreads {
    fn start(config: &mut NodeConfig, mesh: &Mesh) -> Result<(Self, Arc<DtlsCertificate>), StartError> {
        let certificate =
            DtlsCertificate::generate().map_err(|error| StartError::system("the node's DTLS certificate", error))?;
        let workers = spawn_workers(WorkersConfig {
            media_addr: config.media.listen,
            count: worker_count(config.workers),
            certificate: certificate.clone(),
            socket_buffer_bytes: SOCKET_BUFFER_BYTES,
            frame_out: Arc::new(MeshOut(mesh.clone())),
        })
        .map_err(|error| match error {
            SpawnError::Bind { addr, source } => StartError::Listen { setting: "media.listen", addr, source },
            SpawnError::Thread(source) => StartError::system("the media workers' threads", source),
        })?;
        config.media.listen = workers.local_addr;
        Ok((Self(Some(workers)), certificate))
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

/// Binds a TCP port; port 0 becomes the one that was bound.
fn bind(setting: &'static str, addr: &mut SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let listener = TcpListener::bind(*addr)?;
        Ok((listener.local_addr()?, listener))
    };
    let (bound, listener) = listen().map_err(|source| StartError::Listen { setting, addr: *addr, source })?;
    *addr = bound;
    Ok(listener)
}

fn bind_mesh(
    config: &mut NodeConfig,
    instance: &NodeInstance,
    tls: &MeshTls,
    runtime: &Handle,
) -> Result<(Mesh, Inbox), StartError> {
    let _on_its_runtime = runtime.enter();
    let listen = config.mesh.listen;
    let (mesh, inbox) = Mesh::bind(MeshConfig {
        instance: instance.clone(),
        listen,
        advertised: advertised(listen, config.mesh.announced),
        tls: tls.clone(),
        limits: MeshLimits::default(),
    })
    .map_err(|error| match error {
        BindError::Socket(addr, source) => StartError::Listen { setting: "mesh.listen", addr, source },
        BindError::Tls(reason) => {
            let value = config.mesh.cert.as_ref().map(ToString::to_string).unwrap_or_default();
            StartError::Certificate { setting: "mesh.cert", value, reason }
        }
    })?;
    config.mesh.listen = mesh.local_addr();
    Ok((mesh, inbox))
}

async fn start_membership(
    config: &NodeConfig,
    instance: &NodeInstance,
    mesh: &Mesh,
    transport: &MeshTransport,
) -> Result<Membership, StartError> {
    let cluster = config.cluster.name.to_string();
    let mut membership = MembershipConfig::new(instance.clone(), mesh.advertised(), cluster);
    membership.seeds = config.cluster.seeds.iter().map(ToString::to_string).collect();
    Membership::spawn(membership, facts(config, mesh), transport)
        .await
        .map_err(|error| StartError::system("membership", error))
}

async fn start_placement(
    config: &mut NodeConfig,
    instance: &NodeInstance,
    tls: MeshTls,
    membership: &Membership,
) -> Result<Placement, StartError> {
    let tls = PlacementTls { ca_pem: tls.ca_pem, cert_pem: tls.cert_pem, key_pem: tls.key_pem, cluster: tls.cluster };
    let mut placement = PlacementConfig::new(instance.clone(), config.grpc.listen, tls);
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

fn serve_users(
    config: &NodeConfig,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
) -> Result<Server, StartError> {
    let server = ServerConfig {
        name: "users",
        max_connections: config.users.max_connections as usize,
        header_timeout: Duration::from_millis(config.users.header_timeout_ms),
        tls,
    };
    Server::spawn(listener, server, router).map_err(|error| StartError::system("the users' port", error))
}

fn serve_admin(config: &NodeConfig, listener: TcpListener, router: Router) -> Result<Server, StartError> {
    let server = ServerConfig {
        name: "admin",
        max_connections: ADMIN_CONNECTIONS,
        header_timeout: Duration::from_millis(config.users.header_timeout_ms),
        tls: None,
    };
    Server::spawn(listener, server, router).map_err(|error| StartError::system("the admin port", error))
}

/// What the node says of itself at first; its load follows.
fn facts(config: &NodeConfig, mesh: &Mesh) -> NodeFacts {
    NodeFacts {
        region: config.region.clone(),
        zone: config.zone.to_string(),
        carrier: config.carrier.to_string(),
        priority: config.priority.try_into().unwrap_or(i32::MAX),
        users_url: config.users_url(),
        mesh_addr: mesh.advertised(),
        grpc_addr: advertised(config.grpc.listen, config.grpc.announced),
        load: NodeLoad::default(),
        draining: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn advertised(listen: SocketAddr, announced: Option<Announced>) -> SocketAddr {
    announced.map_or(listen, |announced| announced.resolve(listen.port()))
}

fn media_addresses(config: &NodeConfig) -> Vec<SocketAddr> {
    let listen = config.media.listen;
    match config.media.announced.as_slice() {
        [] => vec![listen],
        announced => announced.iter().map(|announced| announced.resolve(listen.port())).collect(),
    }
}
