//! What all rooms of a node share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use sluice_media::messages::WorkerIndex;
use sluice_media::{DataLimits, TransportAddress};
use sluice_proto::ids::{ConsumerId, NodeId, NodeInstance, ProducerId, Region, RouterId, TransportId};
use sluice_proto::ortc::DtlsFingerprint;
use tokio::sync::mpsc;

use super::room::RoomMessage;
use super::timing::Timing;
use crate::address_limits::AddressLimits;
use crate::cluster::clock::ClusterClock;
use crate::events::Events;
use crate::limits::Limits;
use crate::pipes::Pipes;
use crate::ports::{MediaWorker, PlacementPort};
use crate::support::lock;
use crate::turn::Turn;

/// How many more peers a worker may have than the least loaded one before a room spreads to another worker: a second
/// worker costs one copy of every producer, about as much as one more consumer each.
const SPREAD_AT: usize = 32;

/// The way into a room.
pub(crate) type RoomSender = mpsc::Sender<RoomMessage>;

/// What all rooms of a node share.
pub(crate) struct Context {
    pub(crate) instance: NodeInstance,
    pub(crate) region: Region,
    /// Change when names have other addresses.
    pub(crate) media_addresses: ArcSwap<Arc<[TransportAddress]>>,
    pub(crate) fingerprints: Arc<[DtlsFingerprint]>,
    pub(crate) limits: Limits,
    /// What data channels keep to, if there are any.
    pub(crate) data: Option<DataLimits>,
    /// MIME types of the codecs that its routers have.
    pub(crate) codecs: Vec<String>,
    pub(crate) clock: ClusterClock,
    pub(crate) address_limits: Arc<AddressLimits>,
    pub(crate) turn: Option<Turn>,
    pub(crate) workers: Vec<Arc<dyn MediaWorker>>,
    pub(crate) placement: Arc<dyn PlacementPort>,
    pub(crate) pipes: Pipes,
    pub(crate) events: Events,
    pub(crate) counters: Counters,
    /// Which room hears of what a worker tells.
    pub(crate) listeners: Listeners,
    pub(super) timing: Timing,
    /// By worker.
    pub(crate) loads: Vec<WorkerLoad>,
}

/// What a worker has to do.
#[derive(Default)]
pub(crate) struct WorkerLoad {
    peers: AtomicUsize,
    /// It has more to do than it can, and sheds video.
    overloaded: AtomicBool,
    /// It answers nothing.
    stuck: AtomicBool,
}

impl Context {
    /// Where users reach media now.
    pub(crate) fn media_addresses(&self) -> Arc<[TransportAddress]> {
        Arc::clone(&self.media_addresses.load())
    }

    pub(crate) fn worker(&self, index: WorkerIndex) -> &Arc<dyn MediaWorker> {
        &self.workers[usize::from(index.0)]
    }

    /// The worker for a new peer: one that the room is on already unless another has much less to do, and none that has
    /// too much to do if there is another. `None` if there are no workers, or none that answers.
    pub(crate) fn place(self: &Arc<Self>, room_is_on: impl Fn(WorkerIndex) -> bool) -> Option<Load> {
        let load = |worker: &&Arc<dyn MediaWorker>| {
            let index = worker.index();
            let load = &self.loads[usize::from(index.0)];
            let peers = load.peers.load(Ordering::Relaxed);
            let spread = if room_is_on(index) { 0 } else { SPREAD_AT };
            (load.overloaded.load(Ordering::Relaxed), peers + spread)
        };
        // Nobody stays on a stuck one: without this it would soon be the least loaded.
        let answers =
            |worker: &&Arc<dyn MediaWorker>| !self.loads[usize::from(worker.index().0)].stuck.load(Ordering::Relaxed);
        let worker = self.workers.iter().filter(answers).min_by_key(load)?.index();
        self.loads[usize::from(worker.0)].peers.fetch_add(1, Ordering::Relaxed);
        Some(Load { context: Arc::clone(self), worker })
    }

    /// A worker has more to do than it can, or no longer.
    pub(crate) fn set_overloaded(&self, worker: WorkerIndex, overloaded: bool) {
        match overloaded {
            true => tracing::warn!(worker = worker.0, "a media worker has too much to do: it sheds video"),
            false => tracing::info!(worker = worker.0, "a media worker keeps up again"),
        }
        if let Some(load) = self.loads.get(usize::from(worker.0)) {
            load.overloaded.store(overloaded, Ordering::Relaxed);
        }
    }

    /// A worker answers nothing, or again.
    pub(crate) fn set_stuck(&self, worker: WorkerIndex, stuck: bool) {
        let Some(load) = self.loads.get(usize::from(worker.0)) else { return };
        if load.stuck.swap(stuck, Ordering::Relaxed) != stuck {
            match stuck {
                true => tracing::warn!(worker = worker.0, "a media worker does not answer: nobody new is placed there"),
                false => tracing::info!(worker = worker.0, "a media worker answers again"),
            }
        }
    }

    pub(crate) fn any_stuck(&self) -> bool {
        self.loads.iter().any(|load| load.stuck.load(Ordering::Relaxed))
    }

    /// Why nobody new is let in, if every worker has more to do than it can, or is stuck. Whoever is inside keeps their
    /// place.
    pub(crate) fn overload(&self) -> Option<String> {
        let takes_nobody =
            |load: &WorkerLoad| load.overloaded.load(Ordering::Relaxed) || load.stuck.load(Ordering::Relaxed);
        let all = !self.loads.is_empty() && self.loads.iter().all(takes_nobody);
        all.then(|| "the server is too busy to take anybody new".to_owned())
    }

    /// Lets a room hear of something, for as long as the answer lives.
    pub(crate) fn listen(self: &Arc<Self>, subject: Subject, room: &RoomSender) -> Listener {
        lock(&self.listeners.rooms).insert(subject, room.clone());
        Listener { context: Arc::clone(self), subject }
    }

    /// Counts a joined peer, for as long as the answer lives.
    pub(crate) fn count_peer(self: &Arc<Self>) -> Gauge {
        Gauge::new(self, |counters| &counters.peers)
    }

    /// Counts an open session, for as long as the answer lives.
    pub(crate) fn count_session(self: &Arc<Self>) -> Gauge {
        Gauge::new(self, |counters| &counters.sessions)
    }

    /// The region of a node, for users who like to know.
    pub(crate) fn region_of(&self, instance: &NodeInstance) -> Option<Region> {
        if *instance == self.instance { Some(self.region.clone()) } else { self.placement.region(instance) }
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.instance.node
    }
}

/// What a worker's event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Router(RouterId),
    Transport(TransportId),
    Producer(ProducerId),
    Consumer(ConsumerId),
}

/// Which room a worker's event is for.
#[derive(Default)]
pub(crate) struct Listeners {
    rooms: Mutex<HashMap<Subject, RoomSender>>,
}

impl Listeners {
    pub(crate) fn get(&self, subject: Subject) -> Option<RoomSender> {
        lock(&self.rooms).get(&subject).cloned()
    }
}

/// A room's entry in [`Listeners`]; dropping it takes it out.
pub(crate) struct Listener {
    context: Arc<Context>,
    subject: Subject,
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.context.listeners.rooms).remove(&self.subject);
    }
}

/// A peer's share of its worker's load; dropping it gives it back.
pub(crate) struct Load {
    context: Arc<Context>,
    worker: WorkerIndex,
}

impl Load {
    pub(crate) fn worker(&self) -> WorkerIndex {
        self.worker
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.context.loads[usize::from(self.worker.0)].peers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of those that a gauge counts; dropping it takes it off.
pub(crate) struct Gauge {
    context: Arc<Context>,
    gauge: fn(&Counters) -> &AtomicU64,
}

impl Gauge {
    fn new(context: &Arc<Context>, gauge: fn(&Counters) -> &AtomicU64) -> Self {
        gauge(&context.counters).fetch_add(1, Ordering::Relaxed);
        Self { context: Arc::clone(context), gauge }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.gauge)(&self.context.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counters since the start and gauges, see [`super::RoomsSnapshot`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sessions: AtomicU64,
    pub(crate) peers: AtomicU64,
    pub(crate) requests_ok: AtomicU64,
    pub(crate) requests_failed: AtomicU64,
    pub(crate) malformed_messages: AtomicU64,
    pub(crate) sessions_dropped: AtomicU64,
}
