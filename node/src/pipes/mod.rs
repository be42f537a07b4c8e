//! Brings a producer to the worker where a consumer needs it, from another node or another worker of this one, and
//! serves the other nodes' subscriptions.
//!
//! A producer of another node enters this node once, at its *entry* worker; further workers get it from there by an
//! in-process branch. It is there for consumers from the moment that it is wanted; what feeds it comes as soon as there
//! is a way, and comes again whenever a way was lost. Everything is decided under one lock and sent without waiting, so
//! that a room may ask for a consumer right after [`Pipes::want`]: with [`Pipes::consume`] the worker never hears of
//! the consumer before it has the producer.
//!
//! A subscription belongs to the link that it was made on, and ends with it at both ends. So whenever a link comes up
//! both ends begin from nothing: there is never anything that one of them believes and the other does not.
//!
//! # Layout
//! - `inlets`: producers that come in, from nodes and from workers.
//! - `outlets`: producers that go out to other nodes.
//! - `links`: what is still to be said to other nodes; `workers`: what is still to be said to workers.

mod inlets;
mod links;
mod outlets;
mod workers;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_media::messages::{Request, WorkerIndex};
use sluice_mesh::LinkKey;
use sluice_proto::ids::{NodeInstance, ProducerId, RoomKey, RouteEpoch, RouteId, RouterId};
use sluice_proto::pipe::{ControlBody, RouteControl};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use self::inlets::{Ended, Inlets, Subscribed};
use self::links::Links;
use self::outlets::{Closed, Outlets};
use self::workers::Workers;
use crate::ports::{Answer, MediaWorker, MeshPort, MeshSignal};
use crate::support::{count, lock};
use crate::vitals::Vitals;

pub(crate) use self::inlets::{Content, Home, Source};
pub(crate) use self::outlets::OutletLimits;

/// How soon room is looked for again where there was none, on a link or in a worker's queue: often enough to fill the
/// path.
const PACE: Duration = Duration::from_millis(20);

/// The pipes of a node's producers. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Pipes {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Something waits for time or room.
    waits: Notify,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    refused: AtomicU64,
    retried: AtomicU64,
}

/// What there is of pipes, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PipesSnapshot {
    /// Routes into this node.
    pub(crate) routes_in: u64,
    /// Routes out of it.
    pub(crate) routes_out: u64,
    /// Producers of other nodes that are wanted and do not come.
    pub(crate) waiting: u64,
    /// Subscriptions that other nodes refused or ended, since the start.
    pub(crate) refused: u64,
    /// Subscriptions that were tried again, since the start.
    pub(crate) retried: u64,
    /// Commands for which workers have no room.
    pub(crate) commands_waiting: u64,
}

/// Where commands and messages go.
struct Ends {
    workers: Workers,
    mesh: Arc<dyn MeshPort>,
}

struct State {
    ends: Ends,
    links: Links,
    inlets: Inlets,
    outlets: Outlets,
}

impl Pipes {
    /// The loss of a worker is told to `vitals`.
    pub(crate) fn new(
        workers: Vec<Arc<dyn MediaWorker>>,
        mesh: Arc<dyn MeshPort>,
        limits: OutletLimits,
        vitals: Vitals,
    ) -> Self {
        let state = State {
            ends: Ends { workers: Workers::new(workers, vitals), mesh },
            links: Links::default(),
            inlets: Inlets::default(),
            outlets: Outlets::new(limits),
        };
        let inner = Inner { state: Mutex::new(state), waits: Notify::new(), counters: Counters::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Follows the mesh until its signals end.
    pub(crate) async fn run(self, mut signals: mpsc::Receiver<MeshSignal>) {
        let mut last_look = Instant::now();
        loop {
            let due = lock(&self.inner.state).next_due(last_look);
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(signal) => self.on_signal(signal),
                    None => return,
                },
                () = self.inner.waits.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or(last_look)), if due.is_some() => {
                    last_look = Instant::now();
                    let retried = lock(&self.inner.state).on_time(last_look);
                    self.inner.counters.retried.fetch_add(retried, Ordering::Relaxed);
                }
            }
        }
    }

    /// Sees to it that `source` gets to `worker`, into `router`. Consumers may be made of it at once.
    pub(crate) fn want(&self, source: &Source, worker: WorkerIndex, router: RouterId) {
        self.change(|state| {
            let node = state.inlets.want(&mut state.ends, source, worker, router);
            if let Some((key, link)) = node.as_ref().and_then(|node| state.links.to(node)) {
                link.subscribe.insert(source.producer);
                state.say(key);
            }
        });
    }

    /// Asks a worker for a consumer. While it has not been told of all producers that it is to have, it is answered
    /// that there is no room.
    pub(crate) fn consume(&self, worker: WorkerIndex, request: Request) -> Answer {
        lock(&self.inner.state).ends.workers.request(worker, request)
    }

    /// Nobody at `worker` needs the producer any more.
    pub(crate) fn release(&self, producer: ProducerId, worker: WorkerIndex) {
        self.change(|state| {
            let ended = state.inlets.release(&mut state.ends, producer, worker);
            state.unsubscribe(producer, ended);
        });
    }

    /// The producer is no more: takes it away from every worker that it was brought to.
    pub(crate) fn gone(&self, producer: ProducerId) {
        self.change(|state| {
            let ended = state.inlets.remove(&mut state.ends, producer);
            state.unsubscribe(producer, ended);
        });
    }

    /// Whether a producer of the room comes into the node at `worker`.
    pub(crate) fn enter_at(&self, room: &RoomKey, worker: WorkerIndex) -> bool {
        lock(&self.inner.state).inlets.enter_at(room, worker)
    }

    /// The producer's owner paused or resumed it.
    pub(crate) fn set_paused(&self, producer: ProducerId, paused: bool) {
        self.change(|state| state.inlets.set_paused(&mut state.ends, producer, paused));
    }

    /// Lets other nodes subscribe to a producer of this one.
    pub(crate) fn publish(&self, producer: ProducerId, room: RoomKey, worker: WorkerIndex) {
        lock(&self.inner.state).outlets.publish(producer, room, worker);
    }

    /// The producer is no more, as its worker has been told.
    pub(crate) fn unpublish(&self, producer: ProducerId) {
        self.change(|state| {
            let closed = state.outlets.unpublish(&state.ends, producer);
            closed.into_iter().for_each(|closed| state.tell_closed(closed));
        });
    }

    /// What there is, for metrics.
    pub(crate) fn snapshot(&self) -> PipesSnapshot {
        let state = lock(&self.inner.state);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PipesSnapshot {
            routes_in: state.inlets.routes(),
            routes_out: state.outlets.routes(),
            waiting: state.inlets.waiting(),
            refused: read(&self.inner.counters.refused),
            retried: read(&self.inner.counters.retried),
            commands_waiting: state.ends.workers.waiting() as u64,
        }
    }

    /// The room is no more, whatever it has left here.
    pub(crate) fn close_room(&self, room: &RoomKey) {
        self.change(|state| {
            for producer in state.inlets.of_room(room) {
                let ended = state.inlets.remove(&mut state.ends, producer);
                state.unsubscribe(producer, ended);
            }
            for producer in state.outlets.of_room(room) {
                let closed = state.outlets.unpublish(&state.ends, producer);
                closed.into_iter().for_each(|closed| state.tell_closed(closed));
            }
        });
    }

    fn on_signal(&self, signal: MeshSignal) {
        match signal {
            MeshSignal::LinkUp { link, instance } => self.change(|state| state.link_up(link, instance)),
            MeshSignal::LinkDown { link } => self.change(|state| state.link_down(link)),
            MeshSignal::Control { link, message } => self.on_control(link, message),
        }
    }

    fn on_control(&self, link: LinkKey, message: RouteControl) {
        let (route, epoch) = (RouteId(message.route), RouteEpoch(message.epoch));
        match message.body {
            ControlBody::Subscribe { .. } => {
                let served = self.change(|state| state.subscribed(link, message));
                if let Some(creation) = served {
                    let pipes = self.clone();
                    tokio::spawn(async move { creation.finish(&pipes).await });
                }
            }
            ControlBody::Unsubscribe => {
                self.change(|state| state.outlets.unsubscribe(&mut state.ends, link, route, epoch));
            }
            ControlBody::RouteClosed(reason) => {
                if self.change(|state| state.inlets.refused(&mut state.ends, link, (route, epoch), reason)) {
                    count(&self.inner.counters.refused);
                }
            }
        }
    }

    fn on_failed_creation(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        self.change(|state| {
            if let Some(closed) = state.outlets.failed(&state.ends, link, route, epoch) {
                state.tell_closed(closed);
            }
        });
    }

    /// Changes the state, and sees to what then waits for time or room.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let state = &mut *lock(&self.inner.state);
        let result = change(state);
        if state.waits() {
            self.inner.waits.notify_one();
        }
        result
    }
}

impl State {
    fn waits(&self) -> bool {
        self.links.any_stuck() || self.ends.workers.waiting() > 0 || self.inlets.next_retry().is_some()
    }

    fn next_due(&self, last_look: Instant) -> Option<Instant> {
        let lacks_room = self.links.any_stuck() || self.ends.workers.waiting() > 0;
        [lacks_room.then(|| last_look + PACE), self.inlets.next_retry()].into_iter().flatten().min()
    }

    /// Tries again what there was no room for, and what was refused. Gives the number of the latter.
    fn on_time(&mut self, now: Instant) -> u64 {
        self.ends.workers.send_on();
        let mut retried = 0;
        let mut keys = self.links.take_stuck();
        while let Some((producer, node)) = self.inlets.pop_due(now) {
            if let Some((key, link)) = self.links.to(&node) {
                link.subscribe.insert(producer);
                keys.insert(key);
                retried += 1;
            }
        }
        keys.into_iter().for_each(|key| self.say(key));
        retried
    }

    fn link_up(&mut self, key: LinkKey, instance: NodeInstance) {
        let unfed: Vec<ProducerId> = self.inlets.unfed(&instance).collect();
        self.links.up(key, instance);
        if let Some(link) = self.links.get(key) {
            link.subscribe.extend(unfed);
        }
        self.say(key);
    }

    fn link_down(&mut self, key: LinkKey) {
        self.outlets.link_down(&mut self.ends, key);
        if let Some(node) = self.links.down(key) {
            self.inlets.link_down(&mut self.ends, key, &node);
        }
    }

    fn subscribed(&mut self, link: LinkKey, message: RouteControl) -> Option<outlets::Creation> {
        match self.outlets.subscribe(&mut self.ends, link, message) {
            Ok(creation) => Some(creation),
            Err(refused) => {
                self.tell_closed(refused);
                None
            }
        }
    }

    fn tell_closed(&mut self, closed: Closed) {
        let Closed { link: key, route, epoch, reason } = closed;
        let limit = self.outlets.limits().of_one_node;
        if let Some(link) = self.links.get(key) {
            link.close(route, epoch, reason, limit);
            self.say(key);
        }
    }

    fn unsubscribe(&mut self, producer: ProducerId, ended: Option<Ended>) {
        let Some(Ended { home, said }) = ended else { return };
        let Some((key, link)) = self.links.to(&home) else { return };
        link.subscribe.remove(&producer);
        if let Some((_, route, epoch)) = said.filter(|(on, ..)| *on == key) {
            link.unsubscribe(route, epoch);
        }
        // Even if there is no end to say: this may have been the producer that was to look for a free route for all.
        self.say(key);
    }

    /// Says on a link what is to be said, as far as there is room; ends first, since they make room for new
    /// subscriptions at the other end.
    fn say(&mut self, key: LinkKey) {
        let Some(link) = self.links.get(key) else { return };
        if !link.say_ends(&*self.ends.mesh, key) {
            return self.links.set_stuck(key);
        }
        while let Some(producer) = self.links.get(key).and_then(|link| link.subscribe.first().copied()) {
            let subscribed = self.inlets.subscribe(&mut self.ends, key, producer);
            if subscribed == Subscribed::NoRoom {
                return self.links.set_stuck(key);
            }
            if let Some(link) = self.links.get(key) {
                link.subscribe.remove(&producer);
            }
            if subscribed == Subscribed::NoRoute {
                return;
            }
        }
    }
}
