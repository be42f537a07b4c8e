//! Producers that come in: from other nodes by a route of the mesh, from other workers of this node by an in-process one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_proto::ids::{NodeInstance, ProducerId, RoomKey, RouteEpoch, RouteId, RouterId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::{Layers, PipeBody, PipeMessage, RouteCloseReason};

use super::Ends;
use crate::control_plane::rooms::context::RoomSender;
use crate::control_plane::rooms::room::RoomMessage;
use crate::control_plane::telemetry::current_traceparent;
use crate::data_plane::messages::{LinkKey, PipeEnd, Request, WorkerIndex};

/// How often a subscription is said again when its node says that the producer is not there: a roster can be ahead of the
/// node that it tells of, by less than the sum of these waits.
const ATTEMPTS: u32 = 6;

/// Wait before the first of them; each further one doubles it (3 s in all).
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// A producer as pipes have to know it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) producer: ProducerId,
    pub(crate) room: RoomKey,
    pub(crate) kind: MediaKind,
    /// Consumable RTP parameters.
    pub(crate) rtp: Arc<RtpParameters>,
    pub(crate) paused: bool,
    pub(crate) origin: Origin,
}

/// Where a producer lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On a worker of this node.
    Worker(WorkerIndex),
    /// On another node.
    Node(NodeInstance),
}

#[derive(Default)]
pub(super) struct Inlets {
    by_producer: HashMap<ProducerId, Inlet>,
    /// Routes of the mesh that are in use, to find the producer of a message.
    by_route: HashMap<RouteId, ProducerId>,
    /// Numbers in-process routes; in 2^40 of them none is used twice.
    local_routes: u64,
}

struct Inlet {
    source: Source,
    room: RoomSender,
    /// Only of producers of other nodes: where they come in.
    entry: Option<Entry>,
    /// Further workers that get it from its entry or home worker.
    branches: HashMap<WorkerIndex, Branch>,
}

struct Entry {
    worker: WorkerIndex,
    router: RouterId,
    /// Somebody at the entry worker itself needs it, not only branches.
    wanted: bool,
    /// `None` while there is no link to the node.
    feed: Option<Feed>,
    traceparent: Option<String>,
}

#[derive(Clone, Copy)]
struct Feed {
    link: LinkKey,
    route: RouteId,
    epoch: RouteEpoch,
    /// Refusals in a row.
    refusals: u32,
}

struct Branch {
    router: RouterId,
    /// `None` while the entry has no feed.
    route: Option<(RouteId, RouteEpoch)>,
}

impl Inlets {
    pub(super) fn want(
        &mut self,
        ends: &Ends,
        source: &Source,
        worker: WorkerIndex,
        router: RouterId,
        room: &RoomSender,
        link: Option<LinkKey>,
    ) -> bool {
        let inlet = self.by_producer.entry(source.producer).or_insert_with(|| Inlet {
            source: source.clone(),
            room: room.clone(),
            entry: None,
            branches: HashMap::new(),
        });
        if matches!(source.origin, Origin::Node(_)) {
            let others_wait = inlet.entry.is_some();
            let entry = inlet.entry.get_or_insert_with(|| Entry {
                worker,
                router,
                wanted: true,
                feed: None,
                traceparent: current_traceparent(),
            });
            entry.wanted |= entry.worker == worker;
            if entry.worker != worker {
                inlet.branches.entry(worker).or_insert(Branch { router, route: None });
            }
            if entry.feed.is_none()
                && let Some(route) = link.and_then(|link| inlet.open_feed(ends, link))
            {
                self.by_route.insert(route, source.producer);
                if others_wait {
                    tell(&inlet.room, RoomMessage::ProducerReady(source.producer));
                }
            }
        } else {
            inlet.branches.entry(worker).or_insert(Branch { router, route: None });
        }
        inlet.open_branches(ends, &mut self.local_routes);
        inlet.root().is_some()
    }

    pub(super) fn release(&mut self, ends: &Ends, producer: ProducerId, worker: WorkerIndex) {
        let Some(inlet) = self.by_producer.get_mut(&producer) else { return };
        match &mut inlet.entry {
            Some(entry) if entry.worker == worker => entry.wanted = false,
            _ => inlet.close_branch(ends, worker),
        }
        let fed_for_itself = inlet.entry.as_ref().is_some_and(|entry| entry.wanted);
        if !fed_for_itself && inlet.branches.is_empty() {
            self.remove(ends, producer);
        }
    }

    pub(super) fn remove(&mut self, ends: &Ends, producer: ProducerId) -> Option<RoomSender> {
        let mut inlet = self.by_producer.remove(&producer)?;
        let workers: Vec<WorkerIndex> = inlet.branches.keys().copied().collect();
        for worker in workers {
            inlet.close_branch(ends, worker);
        }
        if let Some(feed) = inlet.close_feed(ends) {
            self.by_route.remove(&feed.route);
        }
        Some(inlet.room)
    }

    pub(super) fn close_room(&mut self, ends: &Ends, room: &RoomKey) {
        let of_it = self.by_producer.iter().filter(|(_, inlet)| inlet.source.room == *room).map(|(id, _)| *id);
        for producer in of_it.collect::<Vec<_>>() {
            self.remove(ends, producer);
        }
    }

    pub(super) fn enter_at(&self, room: &RoomKey, worker: WorkerIndex) -> bool {
        let at = |inlet: &Inlet| inlet.entry.as_ref().is_some_and(|entry| entry.worker == worker);
        self.by_producer.values().any(|inlet| inlet.source.room == *room && at(inlet))
    }

    pub(super) fn set_paused(&mut self, ends: &Ends, producer: ProducerId, paused: bool) {
        let Some(inlet) = self.by_producer.get_mut(&producer) else { return };
        inlet.source.paused = paused;
        let entry = inlet.entry.iter().filter(|entry| entry.feed.is_some()).map(|entry| entry.worker);
        let branches = inlet.branches.iter().filter(|(_, branch)| branch.route.is_some()).map(|(worker, _)| *worker);
        for worker in entry.chain(branches) {
            let request =
                if paused { Request::PauseProducer { producer } } else { Request::ResumeProducer { producer } };
            ends.worker(worker).send(request);
        }
    }

    pub(super) fn link_up(&mut self, ends: &Ends, link: LinkKey, instance: &NodeInstance) {
        for (producer, inlet) in &mut self.by_producer {
            if inlet.source.origin != Origin::Node(instance.clone()) {
                continue;
            }
            let Some(entry) = &mut inlet.entry else { continue };
            if let Some(feed) = &mut entry.feed {
                feed.refusals = 0;
                let feed = *feed;
                inlet.subscribe(ends, feed);
            } else if let Some(route) = inlet.open_feed(ends, link) {
                self.by_route.insert(route, *producer);
                inlet.open_branches(ends, &mut self.local_routes);
                tell(&inlet.room, RoomMessage::ProducerReady(*producer));
            }
        }
    }

    /// The node at the other end was started again: rosters will say what became of its producers.
    pub(super) fn link_void(&mut self, ends: &Ends, link: LinkKey) {
        let fed_by = |inlet: &Inlet| inlet.feed().is_some_and(|feed| feed.link == link);
        let lost: Vec<ProducerId> =
            self.by_producer.iter().filter(|(_, inlet)| fed_by(inlet)).map(|(id, _)| *id).collect();
        for producer in lost {
            self.lose(ends, producer);
        }
    }

    /// Hands a message of the sending end to the entry worker.
    pub(super) fn forward(&mut self, ends: &Ends, link: LinkKey, message: PipeMessage) {
        let Some((_, inlet)) = self.fed(link, &message) else { return };
        if let Some(entry) = &mut inlet.entry {
            if let Some(feed) = &mut entry.feed {
                feed.refusals = 0;
            }
            ends.worker(entry.worker).pipe(PipeEnd::Node(link), message);
        }
    }

    /// The sending end refused or ended a route. Answers after what time to ask again, if that makes sense.
    pub(super) fn refused(
        &mut self,
        ends: &Ends,
        link: LinkKey,
        message: &PipeMessage,
        reason: RouteCloseReason,
    ) -> Option<Duration> {
        let (producer, inlet) = self.fed(link, message)?;
        let feed = inlet.entry.as_mut()?.feed.as_mut()?;
        if reason == RouteCloseReason::ProducerGone && feed.refusals < ATTEMPTS {
            feed.refusals += 1;
            return Some(FIRST_RETRY * (1 << (feed.refusals - 1)));
        }
        tracing::warn!(%producer, ?reason, "the producer's node does not send it");
        self.lose(ends, producer);
        None
    }

    pub(super) fn subscribe_again(&mut self, ends: &Ends, link: LinkKey, refused: &PipeMessage) {
        if let Some((_, inlet)) = self.fed(link, refused)
            && let Some(feed) = inlet.feed()
        {
            inlet.subscribe(ends, feed);
        }
    }

    /// Routes into this node.
    pub(super) fn routes(&self) -> u64 {
        self.by_route.len() as u64
    }

    fn lose(&mut self, ends: &Ends, producer: ProducerId) {
        if let Some(room) = self.remove(ends, producer) {
            tell(&room, RoomMessage::ProducerLost(producer));
        }
    }

    /// The inlet that a message from the sending end is about, if it means the present use of the route.
    fn fed(&mut self, link: LinkKey, message: &PipeMessage) -> Option<(ProducerId, &mut Inlet)> {
        let producer = *self.by_route.get(&RouteId(message.route))?;
        let inlet = self.by_producer.get_mut(&producer)?;
        let feed = inlet.feed()?;
        (feed.link == link && feed.epoch.0 == message.epoch).then_some((producer, inlet))
    }
}

impl Inlet {
    fn feed(&self) -> Option<Feed> {
        self.entry.as_ref().and_then(|entry| entry.feed)
    }

    /// The worker that branches start from, once the producer is there.
    fn root(&self) -> Option<WorkerIndex> {
        match (&self.source.origin, &self.entry) {
            (Origin::Worker(home), _) => Some(*home),
            (Origin::Node(_), Some(entry)) if entry.feed.is_some() => Some(entry.worker),
            _ => None,
        }
    }

    fn open_feed(&mut self, ends: &Ends, link: LinkKey) -> Option<RouteId> {
        let entry = self.entry.as_mut()?;
        let Some((route, epoch)) = ends.mesh.allocate_route(entry.worker) else {
            tracing::warn!(producer = %self.source.producer, "no route is free for another producer of other nodes");
            return None;
        };
        let feed = Feed { link, route, epoch, refusals: 0 };
        entry.feed = Some(feed);
        let (worker, router) = (entry.worker, entry.router);
        ends.worker(worker).send(self.pipe_producer(router, PipeEnd::Node(link), route, epoch));
        self.subscribe(ends, feed);
        Some(route)
    }

    fn close_feed(&mut self, ends: &Ends) -> Option<Feed> {
        let entry = self.entry.as_mut()?;
        let feed = entry.feed.take()?;
        ends.worker(entry.worker).send(Request::CloseProducer { producer: self.source.producer });
        ends.mesh.send_message(
            feed.link,
            PipeMessage { route: feed.route.0, epoch: feed.epoch.0, body: PipeBody::Unsubscribe },
        );
        ends.mesh.release_route(feed.route);
        Some(feed)
    }

    fn subscribe(&self, ends: &Ends, feed: Feed) {
        let body = PipeBody::Subscribe {
            producer: self.source.producer.to_bytes(),
            namespace: self.source.room.namespace.to_string(),
            room: self.source.room.room.to_string(),
            wanted: Layers::ALL,
            traceparent: self.entry.as_ref().and_then(|entry| entry.traceparent.clone()),
        };
        ends.mesh.send_message(feed.link, PipeMessage { route: feed.route.0, epoch: feed.epoch.0, body });
    }

    /// Opens the branches that wait for the producer to be there.
    fn open_branches(&mut self, ends: &Ends, local_routes: &mut u64) {
        let Some(root) = self.root() else { return };
        let waiting: Vec<(WorkerIndex, RouterId)> = {
            let waiting = self.branches.iter().filter(|(_, branch)| branch.route.is_none());
            waiting.map(|(worker, branch)| (*worker, branch.router)).collect()
        };
        for (worker, router) in waiting {
            let (route, epoch) = local_route(local_routes);
            let producer = self.source.producer;
            ends.worker(worker).send(self.pipe_producer(router, PipeEnd::Worker(root), route, epoch));
            let to = PipeEnd::Worker(worker);
            ends.worker(root).send(Request::CreatePipeConsumer { producer, to, route, epoch, wanted: Layers::ALL });
            if let Some(branch) = self.branches.get_mut(&worker) {
                branch.route = Some((route, epoch));
            }
        }
    }

    fn close_branch(&mut self, ends: &Ends, worker: WorkerIndex) {
        let root = self.root();
        let Some(Branch { route: Some((route, epoch)), .. }) = self.branches.remove(&worker) else { return };
        if let Some(root) = root {
            ends.worker(root).send(Request::ClosePipeConsumer { to: PipeEnd::Worker(worker), route, epoch });
        }
        ends.worker(worker).send(Request::CloseProducer { producer: self.source.producer });
    }

    fn pipe_producer(&self, router: RouterId, from: PipeEnd, route: RouteId, epoch: RouteEpoch) -> Request {
        let Source { producer, kind, paused, ref rtp, .. } = self.source;
        Request::CreatePipeProducer { router, producer, kind, rtp: (**rtp).clone(), from, route, epoch, paused }
    }
}

fn local_route(routes: &mut u64) -> (RouteId, RouteEpoch) {
    *routes += 1;
    let [_, _, _, epoch, a, b, c, d] = routes.to_be_bytes();
    (RouteId(u32::from_be_bytes([a, b, c, d])), RouteEpoch(epoch))
}

/// Tells a room, after its present work if it has much to do.
fn tell(room: &RoomSender, message: RoomMessage) {
    if let Err(tokio::sync::mpsc::error::TrySendError::Full(message)) = room.try_send(message) {
        let room = room.clone();
        tokio::spawn(async move { room.send(message).await });
    }
}
