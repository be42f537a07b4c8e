//! What all rooms of a node share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use sluice_proto::ids::{ConsumerId, NodeId, NodeInstance, ProducerId, Region, RouterId, TransportId};
use sluice_proto::ortc::DtlsFingerprint;
use tokio::sync::mpsc;

use super::room::RoomMessage;
use crate::control_plane::limits::Limits;
use crate::control_plane::pipes::Pipes;
use crate::control_plane::ports::{MediaWorker, PlacementPort};
use crate::data_plane::messages::WorkerIndex;

/// How many more peers a worker may have than the least loaded one before a room spreads to another worker: a second worker
/// costs one copy of every producer, about as much as one more consumer each.
const SPREAD_AT: usize = 32;

/// The way into a room.
pub(crate) type RoomSender = mpsc::Sender<RoomMessage>;

/// What all rooms of a node share.
pub(crate) struct Context {
    pub(crate) instance: NodeInstance,
    pub(crate) region: Region,
    pub(crate) media_addresses: Arc<[SocketAddr]>,
    pub(crate) fingerprints: Arc<[DtlsFingerprint]>,
    pub(crate) limits: Limits,
    pub(crate) workers: Vec<Arc<dyn MediaWorker>>,
    pub(crate) placement: Arc<dyn PlacementPort>,
    pub(crate) pipes: Pipes,
    pub(crate) counters: Counters,
    /// Which room hears of what a worker tells.
    pub(crate) addresses: Addresses,
    /// Peers by worker.
    pub(crate) loads: Vec<AtomicUsize>,
}

impl Context {
    pub(crate) fn worker(&self, index: WorkerIndex) -> &Arc<dyn MediaWorker> {
        &self.workers[usize::from(index.0)]
    }

    /// The worker for a new peer: one that the room is on already unless another has much less to do.
    pub(crate) fn place(&self, room_is_on: impl Fn(WorkerIndex) -> bool) -> WorkerIndex {
        let load = |worker: &&Arc<dyn MediaWorker>| {
            let index = worker.index();
            let peers = self.loads[usize::from(index.0)].load(Ordering::Relaxed);
            peers + if room_is_on(index) { 0 } else { SPREAD_AT }
        };
        self.workers.iter().min_by_key(load).map_or(WorkerIndex(0), |worker| worker.index())
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
pub(crate) struct Addresses {
    rooms: Mutex<HashMap<Subject, RoomSender>>,
}

impl Addresses {
    pub(crate) fn insert(&self, subject: Subject, room: RoomSender) {
        lock(&self.rooms).insert(subject, room);
    }

    pub(crate) fn remove(&self, subject: Subject) {
        lock(&self.rooms).remove(&subject);
    }

    pub(crate) fn get(&self, subject: Subject) -> Option<RoomSender> {
        lock(&self.rooms).get(&subject).cloned()
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

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn uncount(gauge: &AtomicU64) {
    gauge.fetch_sub(1, Ordering::Relaxed);
}

/// Locks; a panic elsewhere while the lock was held left whole entries, since every change under these locks is one call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "rooms live in real time; joins of the same peer on two nodes are ordered by it"
)]
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Lower-case letters and digits, as ICE credentials and CNAMEs are made of.
pub(crate) fn random_text(len: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz0123456";
    (0..len).map(|_| char::from(ALPHABET[usize::from(rand::random::<u8>() % 32)])).collect()
}
