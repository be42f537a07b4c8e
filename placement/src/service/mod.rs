//! Placement with its gRPC services and clients: what the control plane holds.

mod accept;
mod config;
mod driver;
mod link;
mod room;
mod server;
mod tls;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use sluice_proto::ids::{NodeInstance, RoomKey};
use sluice_proto::placement::PeerEntry;
use sluice_proto::placement::directory_server::DirectoryServer;
use sluice_proto::placement::rosters_server::RostersServer;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

pub use config::{PlacementConfig, PlacementTls, SpawnError, TraceHooks};
pub(crate) use driver::Shared;
use driver::State;
pub use link::dial_source;
use link::{Dialling, Link};
pub use room::RoomHandle;
use server::{MAX_REQUEST_LEN, Services};
use tls::Tls;

use crate::core::Core;
use crate::members::Members;
use crate::metrics::{self, Metrics};
use crate::rosters::RosterEvent;

/// Rooms that a node may be in: as many as an owner keeps leases for it.
const MAX_ROOMS: usize = 20_000;

/// How long the others may take to hear that this node leaves; a round trip to the other end of the world is 0.3 s.
const GOODBYE: Duration = Duration::from_millis(600);

/// Unary calls of one node at a time: its renewals of all rooms, and one stream.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;

/// Why a room could not be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// The node is in the room already: there is one handle per room and node.
    #[error("this node is in the room already")]
    AlreadyEntered,
    /// The node is in as many rooms as it may be.
    #[error("this node is in {MAX_ROOMS} rooms, the most that it may be in")]
    TooManyRooms,
    /// Placement has ended.
    #[error("placement has ended")]
    ShutDown,
}

/// A room as this node knows it, for the console.
#[derive(Debug, Clone)]
pub struct KnownRoom {
    /// The room.
    pub room: RoomKey,
    /// The nodes that keep its directory entry, best first.
    pub owners: Vec<NodeInstance>,
    /// The peers of every node's part, this node's first.
    pub parts: Vec<(NodeInstance, Vec<Arc<PeerEntry>>)>,
}

/// Directory and rosters of one node. Clones are the same one. It runs until [`Self::shutdown`], or until the runtime
/// that it was spawned on ends.
#[derive(Debug, Clone)]
pub struct Placement {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    tls: watch::Sender<Tls>,
}

impl Placement {
    /// Listens for other nodes and begins to connect to the members.
    ///
    /// # Errors
    /// [`SpawnError`] when the port or the certificates are unusable.
    pub async fn spawn(config: PlacementConfig, members: watch::Receiver<Arc<Members>>) -> Result<Self, SpawnError> {
        let PlacementConfig { instance, grpc_listen, tls, lease, renew, trace } = config;
        let listen_error = |source| SpawnError::Listen { addr: grpc_listen, source };
        let (tls_tx, tls) = watch::channel(Tls::new(&tls)?);
        let listener = TcpListener::bind(grpc_listen).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        let dialling = Dialling { tls: tls.clone(), listen: local_addr.ip() };
        let metrics = Arc::new(Metrics::default());
        let core = Core::new(instance.clone(), lease, renew);
        let shared = Shared::new(instance, core, trace, Arc::clone(&metrics));

        let incoming = accept::accept_loop(listener, tls, metrics, shared.cancel.clone());
        let mut vital = JoinSet::new();
        vital.spawn(serve(Arc::clone(&shared), ReceiverStream::new(incoming)));
        vital.spawn(Arc::clone(&shared).keep_time());
        let present = members.borrow().clone();
        shared.step(|state, now| set_members(&shared, state, now, &present, &dialling));
        vital.spawn(watch_members(Arc::clone(&shared), members, dialling));
        let end = shared.ended.clone().drop_guard();
        tokio::spawn(async move {
            vital.join_next().await;
            drop(end);
            // The others may go on until they are told to end.
            while vital.join_next().await.is_some() {}
        });
        Ok(Self { shared, local_addr, tls: tls_tx })
    }

    /// Reads other certificates. To call what is returned is to use them from then on: connections that are up stay;
    /// the cluster's name stays too.
    ///
    /// # Errors
    /// [`SpawnError::Tls`] when they are unusable.
    pub fn read_tls(&self, tls: &PlacementTls) -> Result<impl FnOnce() + use<>, SpawnError> {
        let (read, used) = (Tls::new(tls)?, self.tls.clone());
        Ok(move || drop(used.send_replace(read)))
    }

    /// Waits until one of its tasks has ended: without [`Self::shutdown`], or the end of membership, something broke.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.ended.clone().cancelled_owned()
    }

    /// Where it listens for other nodes.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Enters a room: takes the lease and follows the part of every other node that is in it. Returns at once; the
    /// parts of others come as events. Leaving is dropping the handle. Call it within the span of the join: its trace
    /// context travels along.
    ///
    /// The queue of events is short, because what does not fit stays behind as one difference per node: a slow reader
    /// misses intermediate states of a part, never the last one. It ends when the handle is dropped.
    ///
    /// # Errors
    /// [`EnterError`] when the node is in the room already or may not enter another.
    pub fn enter(&self, room: RoomKey) -> Result<(RoomHandle, mpsc::Receiver<RosterEvent>), EnterError> {
        let trace = (self.shared.trace.inject)();
        let reader = Arc::new(Notify::new());
        self.shared.step(|state, now| {
            if state.closing {
                return Err(EnterError::ShutDown);
            }
            if state.readers.len() >= MAX_ROOMS {
                return Err(EnterError::TooManyRooms);
            }
            if !state.core.enter(now, &room, trace) {
                return Err(EnterError::AlreadyEntered);
            }
            state.readers.insert(room.clone(), Arc::clone(&reader));
            Ok(())
        })?;
        let events = room::spawn_reader(&self.shared, room.clone(), reader);
        Ok((RoomHandle::new(Arc::clone(&self.shared), room), events))
    }

    /// The nodes that keep a room's directory entry, best first.
    pub fn owners(&self, room: &RoomKey) -> Vec<NodeInstance> {
        self.shared.look(|core| core.owners(room))
    }

    /// The rooms that this node is in, in order.
    pub fn rooms(&self) -> Vec<KnownRoom> {
        self.shared.look(|core| {
            let mut rooms: Vec<RoomKey> = core.rosters.rooms().cloned().collect();
            rooms.sort();
            rooms
                .into_iter()
                .map(|room| KnownRoom { owners: core.owners(&room), parts: core.rosters.parts(&room), room })
                .collect()
        })
    }

    /// Registers the metrics of directory and rosters.
    pub fn register_metrics(&self, registry: &mut Registry) {
        metrics::register_placement(registry, &self.shared);
    }

    /// Leaves every room, tells the others, and stops listening. Takes about a second at most.
    pub async fn shutdown(&self) {
        self.shared.step(|state, now| {
            state.closing = true;
            let rooms: Vec<RoomKey> = state.core.rosters.rooms().cloned().collect();
            for room in rooms {
                state.core.leave(now, &room);
            }
            state.readers.drain().for_each(|(_, reader)| reader.notify_one());
            // Each tells what there is to tell, then ends.
            state.followers.values().for_each(|follower| follower.notify_one());
        });
        self.shared.calls.close();
        // Whoever has not heard by then learns it from membership.
        let _ = timeout(GOODBYE, self.shared.calls.wait()).await;
        self.shared.step(|state, _| state.links.clear());
        self.shared.streams.close();
        let _ = timeout(GOODBYE, self.shared.streams.wait()).await;
        self.shared.cancel.cancel();
    }
}

async fn serve(
    shared: Arc<Shared>,
    incoming: ReceiverStream<std::io::Result<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>>,
) {
    let services = Services(Arc::clone(&shared));
    let directory = DirectoryServer::new(services.clone()).max_decoding_message_size(MAX_REQUEST_LEN);
    let rosters = RostersServer::new(services).max_decoding_message_size(MAX_REQUEST_LEN);
    let served = Server::builder()
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(directory)
        .add_service(rosters)
        .serve_with_incoming_shutdown(incoming, shared.cancel.clone().cancelled_owned());
    // Connections that do not end by themselves end with the node.
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                tracing::error!(%error, "the gRPC server has ended: other nodes cannot reach this one any more");
            }
        }
        () = async { shared.cancel.cancelled().await; tokio::time::sleep(GOODBYE).await } => {}
    }
}

async fn watch_members(shared: Arc<Shared>, mut members: watch::Receiver<Arc<Members>>, dialling: Dialling) {
    loop {
        let present = members.borrow_and_update().clone();
        shared.step(|state, now| set_members(&shared, state, now, &present, &dialling));
        tokio::select! {
            () = shared.cancel.cancelled() => return,
            changed = members.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn set_members(shared: &Arc<Shared>, state: &mut State, now: Instant, members: &Members, dialling: &Dialling) {
    if state.closing {
        return;
    }
    state.links.retain(|node, link| {
        members.is_present(&link.instance)
            && members.get(node).is_some_and(|member| member.facts.grpc_addr == link.addr)
    });
    let others = || members.present().filter(|member| member.instance.node != shared.me.node);
    // Before the links: their first step asks the core who is there.
    let present: BTreeSet<NodeInstance> = others().map(|member| member.instance.clone()).collect();
    state.core.set_present(now, present);
    for member in others() {
        let node = &member.instance.node;
        if state.links.contains_key(node) {
            continue;
        }
        match Link::spawn(shared, member.instance.clone(), member.facts.grpc_addr, dialling) {
            Ok(link) => drop(state.links.insert(node.clone(), link)),
            Err(error) => tracing::error!(node = %member.instance, %error, "cannot connect to the node"),
        }
    }
}
