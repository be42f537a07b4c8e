//! Brings a producer to the worker where a consumer needs it, from another node or another worker of this one, and serves
//! the other nodes' subscriptions.
//!
//! A producer of another node enters this node once, at its *entry* worker; further workers get it from there by an
//! in-process branch. Everything is decided under one lock and sent without waiting, so that a room may ask a worker for a consumer right after
//! [`Pipes::want`]: the commands arrive in that order.
//!
//! # Layout
//! - `inlets`: producers that come in, from nodes and from workers.
//! - `outlets`: producers that go out to other nodes.

mod inlets;
mod outlets;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_proto::ids::{NodeInstance, ProducerId, RoomKey};
use sluice_proto::pipe::{PipeBody, PipeMessage};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::inlets::Inlets;
use self::outlets::Outlets;
use super::ports::{MediaWorker, MeshPort, MeshSignal};
use super::rooms::context::{RoomSender, lock};
use crate::data_plane::messages::{LinkKey, PipeEnd, WorkerIndex};

pub(crate) use self::inlets::{Origin, Source};

/// A node that is silent for this long will not take up its routes again. Membership notices a dead node within seconds; this only
/// catches what it cannot tell.
const LINK_FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// How often links are looked at for that.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The pipes of a node's producers. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Pipes {
    inner: Arc<Inner>,
}

struct Inner {
    ends: Ends,
    tables: Mutex<Tables>,
    /// Subscriptions that another node refused for good.
    refused: AtomicU64,
}

/// Where commands and messages go.
struct Ends {
    workers: Vec<Arc<dyn MediaWorker>>,
    mesh: Arc<dyn MeshPort>,
}

impl Ends {
    fn worker(&self, index: WorkerIndex) -> &Arc<dyn MediaWorker> {
        &self.workers[usize::from(index.0)]
    }
}

#[derive(Default)]
struct Tables {
    links: HashMap<LinkKey, Link>,
    inlets: Inlets,
    outlets: Outlets,
}

struct Link {
    instance: NodeInstance,
    /// `None` while it is up.
    down_since: Option<Instant>,
}

impl Tables {
    fn link_to(&self, instance: &NodeInstance) -> Option<LinkKey> {
        let up = self.links.iter().find(|(_, link)| link.instance == *instance && link.down_since.is_none());
        up.map(|(key, _)| *key)
    }
}

impl Pipes {
    pub(crate) fn new(workers: Vec<Arc<dyn MediaWorker>>, mesh: Arc<dyn MeshPort>, routes_out: usize) -> Self {
        let tables = Tables { outlets: Outlets::new(routes_out), ..Tables::default() };
        Self {
            inner: Arc::new(Inner {
                ends: Ends { workers, mesh },
                tables: Mutex::new(tables),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// Follows the mesh until its signals end.
    pub(crate) async fn run(self, mut signals: mpsc::Receiver<MeshSignal>) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(signal) => self.on_signal(signal),
                    None => return,
                },
                now = sweep.tick() => self.sweep(now),
            }
        }
    }

    /// Sees to it that `source` gets to `worker`, into `router`. True when a consumer may be made of it at once; else
    /// [`super::rooms::room::RoomMessage::ProducerReady`] follows when it may, or `ProducerLost`.
    pub(crate) fn want(
        &self,
        source: &Source,
        worker: WorkerIndex,
        router: sluice_proto::ids::RouterId,
        room: &RoomSender,
    ) -> bool {
        let tables = &mut *lock(&self.inner.tables);
        let link = match &source.origin {
            Origin::Node(instance) => tables.link_to(instance),
            Origin::Worker(_) => None,
        };
        tables.inlets.want(&self.inner.ends, source, worker, router, room, link)
    }

    /// Nobody at `worker` needs the producer any more.
    pub(crate) fn release(&self, producer: ProducerId, worker: WorkerIndex) {
        lock(&self.inner.tables).inlets.release(&self.inner.ends, producer, worker);
    }

    /// The producer is no more: takes it away from every worker that it was brought to.
    pub(crate) fn gone(&self, producer: ProducerId) {
        lock(&self.inner.tables).inlets.remove(&self.inner.ends, producer);
    }

    /// Whether a producer of the room comes into the node at `worker`.
    pub(crate) fn enter_at(&self, room: &RoomKey, worker: WorkerIndex) -> bool {
        lock(&self.inner.tables).inlets.enter_at(room, worker)
    }

    /// The producer's owner paused or resumed it.
    pub(crate) fn set_paused(&self, producer: ProducerId, paused: bool) {
        lock(&self.inner.tables).inlets.set_paused(&self.inner.ends, producer, paused);
    }

    /// Lets other nodes subscribe to a producer of this one.
    pub(crate) fn publish(&self, producer: ProducerId, room: RoomKey, worker: WorkerIndex) {
        lock(&self.inner.tables).outlets.publish(producer, room, worker);
    }

    /// The producer is no more; its worker tells whoever subscribed.
    pub(crate) fn unpublish(&self, producer: ProducerId) {
        lock(&self.inner.tables).outlets.unpublish(producer);
    }

    /// The node has left the room or is dead: what it subscribed to in this room is not wanted any more.
    pub(crate) fn forget(&self, room: &RoomKey, instance: &NodeInstance) {
        let tables = &mut *lock(&self.inner.tables);
        for (key, _) in tables.links.iter().filter(|(_, link)| link.instance == *instance) {
            tables.outlets.forget(&self.inner.ends, room, *key);
        }
    }

    /// The room is no more, whatever it has left here. Its workers tell whoever subscribed.
    pub(crate) fn close_room(&self, room: &RoomKey) {
        let tables = &mut *lock(&self.inner.tables);
        tables.inlets.close_room(&self.inner.ends, room);
        tables.outlets.close_room(room);
    }

    /// A worker has something to say to the other end of a route.
    pub(crate) fn on_worker_message(&self, from: WorkerIndex, to: PipeEnd, message: PipeMessage) {
        match to {
            PipeEnd::Node(link) => self.inner.ends.mesh.send_message(link, message),
            PipeEnd::Worker(worker) => self.inner.ends.worker(worker).pipe(PipeEnd::Worker(from), message),
        }
    }

    /// Routes in and routes out, for metrics.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let tables = lock(&self.inner.tables);
        (tables.inlets.routes(), tables.outlets.routes(), self.inner.refused.load(Ordering::Relaxed))
    }

    fn on_signal(&self, signal: MeshSignal) {
        match signal {
            MeshSignal::LinkUp { link, instance } => {
                let tables = &mut *lock(&self.inner.tables);
                tables.links.insert(link, Link { instance: instance.clone(), down_since: None });
                tables.inlets.link_up(&self.inner.ends, link, &instance);
            }
            MeshSignal::LinkDown { link, forever } => self.on_link_down(link, forever),
            MeshSignal::Message { link, message } => self.on_message(link, message),
        }
    }

    fn on_link_down(&self, link: LinkKey, forever: bool) {
        let tables = &mut *lock(&self.inner.tables);
        if forever {
            tables.links.remove(&link);
            tables.inlets.link_void(&self.inner.ends, link);
            tables.outlets.link_void(&self.inner.ends, link);
        } else if let Some(link) = tables.links.get_mut(&link) {
            link.down_since.get_or_insert_with(Instant::now);
        }
    }

    fn on_message(&self, link: LinkKey, message: PipeMessage) {
        let tables = &mut *lock(&self.inner.tables);
        match message.body {
            PipeBody::Subscribe { .. } => {
                if let Some(creation) = tables.outlets.subscribe(&self.inner.ends, link, message) {
                    let pipes = self.clone();
                    tokio::spawn(async move { creation.finish(&pipes).await });
                }
            }
            PipeBody::Unsubscribe => tables.outlets.unsubscribe(&self.inner.ends, link, &message),
            PipeBody::LayersWanted(_) | PipeBody::KeyFrameRequest | PipeBody::Nack(_) | PipeBody::Stats(_) => {
                tables.outlets.forward(&self.inner.ends, link, message);
            }
            PipeBody::LayersCarried(_) | PipeBody::SenderReport { .. } => {
                tables.inlets.forward(&self.inner.ends, link, message);
            }
            PipeBody::RouteClosed(reason) => {
                let retry = tables.inlets.refused(&self.inner.ends, link, &message, reason);
                match retry {
                    Some(after) => self.subscribe_again(after, link, message),
                    None => drop(self.inner.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
    }

    fn subscribe_again(&self, after: Duration, link: LinkKey, refused: PipeMessage) {
        let pipes = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            lock(&pipes.inner.tables).inlets.subscribe_again(&pipes.inner.ends, link, &refused);
        });
    }

    fn sweep(&self, now: Instant) {
        let tables = &mut *lock(&self.inner.tables);
        let silent =
            |link: &Link| link.down_since.is_some_and(|since| now.duration_since(since) >= LINK_FORGOTTEN_AFTER);
        for (key, _) in tables.links.iter().filter(|(_, link)| silent(link)) {
            tables.outlets.link_void(&self.inner.ends, *key);
        }
    }
}
