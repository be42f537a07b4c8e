//! Who is in which room.
//!
//! # Layout
//! - [`Rooms`]: the rooms of a node, made when the first peer comes and ended when the last one goes.
//! - `room`: one room, the task that decides everything in it; `join`, `peer`, `resume`, `rights`, `requests`,
//!   `transports`, `media`, `subscriptions`, `roster`, `events`, `speakers` are its parts by subject.
//! - `admission`: when newcomers are asked to come later.
//! - `elsewhere`: the peers of other nodes; pure.
//! - `api`: what peers can ask for and are told, `seat`: a place in a room; the interface of signalling dialects.
//! - `encodings_wanted`: which encodings their clients need not send.
//! - `view`: what everybody in a room is told of it; `stage`: of whom; `pace`: how often.
//! - `context`: what all rooms share; `waiting`: workers' events for rooms that are busy; `timing`: how busy they are.
//! - `overview`: what rooms look like from outside; `operations`: what can be done to them from there,
//!   `imposed`: and what of it outlives those to whom it is done; `traces`: what happens to a peer's packets.

mod admission;
pub(crate) mod api;
pub(crate) mod context;
mod elsewhere;
mod encodings_wanted;
mod events;
mod imposed;
mod join;
mod media;
pub(crate) mod operations;
pub(crate) mod overview;
mod pace;
mod peer;
mod requests;
mod resume;
mod rights;
pub(crate) mod room;
mod roster;
pub(crate) mod seat;
pub(crate) mod server_data;
mod speakers;
mod stage;
mod streams;
mod subscriptions;
mod timing;
pub(crate) mod traces;
mod transports;
mod view;
mod waiting;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use sluice_media::messages::WorkerIndex;
use sluice_media::{DataLimits, TransportAddress};
use sluice_proto::ids::{NodeInstance, PeerId, Region, RoomKey};
use sluice_proto::ortc::DtlsFingerprint;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::{Lateness, come_back};
use self::context::{Context, Counters, Listeners, RoomSender, WorkerLoad};
use self::room::{Opened, Retirement, Room, RoomMessage, SessionId};
use self::seat::{Desk, Seat};
use self::timing::Timing;
use self::view::View;
use crate::access::{Place, Quota, Rights};
use crate::address_limits::{AddressLimits, Held};
use crate::cluster::clock::ClusterClock;
use crate::events::audit::{Entry, Who};
use crate::events::{Events, Session};
use crate::limits::Limits;
use crate::pipes::Pipes;
use crate::ports::{EnteredRoom, Ports};
use crate::support::lock;
use crate::turn::Turn;

pub(crate) use join::PeerSecret;
pub(crate) use overview::RoomsSnapshot;

/// How far apart sessions are sent away at least when the node stops.
const SHUTDOWN_PACE: Duration = Duration::from_millis(1);

/// How long sessions and rooms may take to end when the node stops, after the last was sent away.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(3);

/// What rooms have to know of their node.
#[derive(Debug, Clone)]
pub(crate) struct RoomsConfig {
    /// This life of the node.
    pub instance: NodeInstance,
    /// Where the node is.
    pub region: Region,
    /// Where users reach its media, best first; at least one of UDP, and those before any of TCP.
    pub media_addresses: Vec<TransportAddress>,
    /// Of the certificate that every DTLS association of the node shows.
    pub fingerprints: Vec<DtlsFingerprint>,
    /// How much of everything there may be.
    pub limits: Limits,
    /// MIME types of the codecs that its routers have, in the order in which clients prefer them.
    pub codecs: Vec<String>,
    /// Orders the sessions of one peer on several nodes.
    pub clock: ClusterClock,
    /// How much of it one address may take.
    pub(crate) address_limits: Arc<AddressLimits>,
    /// For users whose network lets no UDP out.
    pub(crate) turn: Option<Turn>,
    /// What their data channels keep to, if there are any.
    pub(crate) data: Option<DataLimits>,
}

/// The rooms of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    rooms: Mutex<HashMap<RoomKey, OpenRoom>>,
    next_session: AtomicU64,
    stopping: AtomicBool,
    /// How late the control plane is.
    lateness: Arc<Lateness>,
    tasks: TaskTracker,
    /// Ends the tasks that follow workers and mesh.
    stop: CancellationToken,
}

/// Somebody who may take a seat in a room.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) key: RoomKey,
    pub(crate) peer: PeerId,
    /// What the answer to a former join said.
    pub(crate) secret: Option<PeerSecret>,
    /// A connection of this peer broke, and it goes on with what it has, if that is still there.
    pub(crate) resumes: bool,
    /// Where the connection comes from.
    pub(crate) remote: SocketAddr,
    /// Where its client is told to find TURN.
    pub(crate) turn_urls: Arc<[String]>,
    pub(crate) rights: Rights,
    /// Among the peers of its namespace; one that was here may have it already.
    pub(crate) place: Option<Place>,
}

/// A room that is open, and the way into it.
#[derive(Clone)]
struct OpenRoom {
    room: RoomSender,
    view: Arc<View>,
    /// How long newcomers wait for the room.
    wait: Arc<Lateness>,
}

impl Rooms {
    /// Starts the tasks that bring workers, mesh and placement together. Must be called on a tokio runtime.
    pub(crate) fn spawn(config: RoomsConfig, ports: Ports) -> Self {
        let Ports { workers, worker_events, mesh, mesh_signals, placement, events, vitals } = ports;
        let pipes = Pipes::new(workers.clone(), mesh, config.limits.outlets, vitals.clone());
        let context = Arc::new(Context {
            instance: config.instance,
            region: config.region,
            media_addresses: ArcSwap::from_pointee(config.media_addresses.into()),
            fingerprints: config.fingerprints.into(),
            limits: config.limits,
            data: config.data,
            codecs: config.codecs,
            clock: config.clock,
            address_limits: config.address_limits,
            turn: config.turn,
            loads: workers.iter().map(|_| WorkerLoad::default()).collect(),
            workers,
            placement,
            pipes: pipes.clone(),
            events,
            counters: Counters::default(),
            listeners: Listeners::default(),
            timing: Timing::default(),
        });
        let inner = Inner {
            context: Arc::clone(&context),
            rooms: Mutex::default(),
            next_session: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            lateness: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let stop = inner.stop.clone();
        vitals.spawn("the pipes' control", stop.clone().run_until_cancelled_owned(pipes.run(mesh_signals)).map(drop));
        let (lateness, noted) = (inner.lateness.clone(), Arc::clone(&context));
        let watch = async move { lateness.watch(&noted.timing).await };
        vitals.spawn("the watch over lateness", stop.clone().run_until_cancelled_owned(watch).map(drop));
        let dispatch = events::dispatch(context, worker_events);
        vitals.spawn("the dispatch of media events", stop.run_until_cancelled_owned(dispatch).map(drop));
        Self { inner: Arc::new(inner) }
    }

    /// How much of everything there may be.
    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.context.limits
    }

    /// What happened since the start.
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.context.counters
    }

    /// How much of the node one address may take.
    pub(crate) fn address_limits(&self) -> &Arc<AddressLimits> {
        &self.inner.context.address_limits
    }

    /// Where rooms tell what happens in them.
    pub(crate) fn events(&self) -> &Events {
        &self.inner.context.events
    }

    /// The tasks that are waited for when the node stops.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Whoever makes a transport from now on is told these, best first; as [`RoomsConfig::media_addresses`].
    pub(crate) fn set_media_addresses(&self, addresses: Vec<TransportAddress>) {
        self.inner.context.media_addresses.store(Arc::new(addresses.into()));
    }

    /// A worker answers nothing, or again: nobody new is placed where nothing is answered.
    pub(crate) fn set_stuck(&self, worker: WorkerIndex, stuck: bool) {
        self.inner.context.set_stuck(worker, stuck);
    }

    /// Whether a worker answers nothing.
    pub(crate) fn any_stuck(&self) -> bool {
        self.inner.context.any_stuck()
    }

    /// Counters and gauges for the metrics endpoint.
    pub(crate) fn snapshot(&self) -> RoomsSnapshot {
        let context = &self.inner.context;
        let counters = &context.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let pipes = context.pipes.snapshot();
        RoomsSnapshot {
            rooms: lock(&self.inner.rooms).len() as u64,
            sessions: read(&counters.sessions),
            peers: read(&counters.peers),
            routes_in: pipes.routes_in,
            routes_out: pipes.routes_out,
            subscriptions_waiting: pipes.waiting,
            pipe_commands_waiting: pipes.commands_waiting,
            requests_ok: read(&counters.requests_ok),
            requests_failed: read(&counters.requests_failed),
            malformed_messages: read(&counters.malformed_messages),
            sessions_dropped: read(&counters.sessions_dropped),
            subscriptions_refused: pipes.refused,
            subscriptions_retried: pipes.retried,
        }
    }

    /// Registers what tells how busy the rooms are.
    pub(crate) fn register_metrics(&self, registry: &mut Registry) {
        self.inner.context.timing.register_metrics(registry);
    }

    /// Closes every session (clients retry elsewhere or later), over the time that they are given, and waits until the
    /// rooms are left.
    pub(crate) async fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        let context = &self.inner.context;
        let sessions = u32::try_from(context.counters.sessions.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let spread = context.limits.shutdown_spread.min(SHUTDOWN_PACE * sessions);
        let rooms: Vec<RoomSender> = lock(&self.inner.rooms).values().map(|open| open.room.clone()).collect();
        let ended = async {
            // All at the same time: one that is busy holds up nobody. One that has ended meanwhile needs no telling.
            let _ = join_all(rooms.iter().map(|room| room.send(RoomMessage::Shutdown(spread)))).await;
            self.inner.tasks.close();
            self.inner.tasks.wait().await;
        };
        if timeout(spread + SHUTDOWN_WITHIN, ended).await.is_err() {
            tracing::warn!(left = self.inner.tasks.len(), "sessions or rooms did not end in time");
        }
        self.inner.stop.cancel();
    }

    /// The tenants' settings are others now: who may no longer be in a room is sent away.
    pub(crate) async fn reauthorise(&self) {
        let rooms: Vec<RoomSender> = lock(&self.inner.rooms).values().map(|open| open.room.clone()).collect();
        // One that has ended meanwhile has nobody to send away.
        let _ = join_all(rooms.iter().map(|room| room.send(RoomMessage::Reauthorise))).await;
    }

    /// Takes a seat in a room, which is made if need be.
    ///
    /// # Errors
    /// When there is none, in words.
    pub(crate) fn enter(&self, guest: Guest) -> Result<Seat, String> {
        let number = self.inner.next_session.fetch_add(1, Ordering::Relaxed);
        let (session, who) = (Session { number, remote: guest.remote }, Who::new(&guest.key, &guest.peer));
        let seat = self.take_seat(SessionId(number), guest);
        if seat.is_ok() {
            self.inner.context.events.audit().record(&Entry::SessionOpened { session: session.into(), who });
        }
        seat
    }

    fn take_seat(&self, session: SessionId, mut guest: Guest) -> Result<Seat, String> {
        let (key, peer, remote) = (guest.key.clone(), guest.peer.clone(), guest.remote);
        let span = tracing::info_span!("join", namespace = %key.namespace, room = %key.room, %peer, %remote);
        let _entered = span.clone().entered();
        let context = &self.inner.context;
        let limits = &context.limits;
        let desk = Arc::new(Desk::new(session));
        let mut rooms = lock(&self.inner.rooms);
        // Who goes on is inside.
        if !guest.resumes && self.inner.lateness.get() > limits.admission_wait {
            return Err(come_back("the node"));
        }
        // Looked at under the lock under which `shutdown` reads the rooms.
        if self.inner.stopping.load(Ordering::SeqCst) {
            return Err("the node stops".to_owned());
        }
        let open = match rooms.get(&key) {
            Some(open) => open.clone(),
            None if rooms.len() >= limits.rooms => return Err(format!("the node has {} rooms already", limits.rooms)),
            None => {
                if let Some(reason) = context.overload() {
                    return Err(reason);
                }
                let Some(held) = context.address_limits.room(remote.ip()) else {
                    return Err("the address has too many rooms".to_owned());
                };
                let namespace = guest.rights.namespace();
                if guest.place.is_none() {
                    guest.place = Some(namespace.admit()?);
                }
                let place = namespace.take(Quota::Room)?;
                let open = self.open_room(key.clone(), (held, place))?;
                rooms.insert(key.clone(), open.clone());
                open
            }
        };
        let OpenRoom { room, view, wait } = open;
        // One whom nobody has to wait behind is let in, and its wait is the new measure.
        let waits = room.capacity() < room.max_capacity();
        if waits && !guest.resumes && wait.get() > limits.admission_wait {
            return Err(come_back("the room"));
        }
        let opened = Opened { session, came: Instant::now(), wait, guest, desk: Arc::clone(&desk), span };
        // Sent under the lock: a room ends only under it, and not while something waits in its mailbox.
        room.try_send(RoomMessage::Open(Box::new(opened))).map_err(|_| "the room is too busy".to_owned())?;
        Ok(Seat::new((key, peer), (room, view), desk, context.count_session()))
    }

    /// The way into an open room of the default namespace.
    #[cfg(test)]
    pub(crate) fn way_into(&self, name: &str) -> RoomSender {
        let rooms = lock(&self.inner.rooms);
        rooms.iter().find(|(key, _)| key.room.as_str() == name).unwrap().1.room.clone()
    }

    /// `held` are the places that the room takes, as long as it exists.
    fn open_room(&self, key: RoomKey, held: (Held, Place)) -> Result<OpenRoom, String> {
        let context = Arc::clone(&self.inner.context);
        let EnteredRoom { publisher, events } = context.placement.enter(key.clone())?;
        let (sender, mailbox) = mpsc::channel(context.limits.room_queue);
        let view = Arc::new(View::default());
        let room = Room::new(key.clone(), context, (sender.clone(), Arc::clone(&view)), publisher);
        let inner = Arc::clone(&self.inner);
        let retire = move |why: Retirement<'_>, room: &mut Room| {
            let mut rooms = lock(&inner.rooms);
            // Nobody can enter the room anew before everything is left.
            match why {
                Retirement::Empty(mailbox) if !mailbox.is_empty() => return false,
                Retirement::Empty(_) => room.leave(),
                Retirement::Failed => room.abandon(),
            }
            rooms.remove(&key);
            true
        };
        self.inner.tasks.spawn(async move {
            room.run(mailbox, events, retire).await;
            drop(held);
        });
        Ok(OpenRoom { room: sender, view, wait: Arc::default() })
    }
}
