//! Producers that come in: from other nodes by a route of the mesh, from other workers of this node by an in-process
//! one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sluice_media::messages::{PipeEnd, Request, RouteIn, WorkerIndex};
use sluice_mesh::LinkKey;
use sluice_proto::ids::{NodeInstance, ProducerId, RoomKey, RouteEpoch, RouteId, RouterId};
use sluice_proto::ortc::{MediaKind, RtpParameters, SctpStreamParameters};
use sluice_proto::pipe::{ControlBody, RouteCloseReason, Wanted};
use tokio::time::Instant;

use super::Ends;
use super::links::control;
use crate::ortc::{DataChannel, ProducerKind};
use crate::telemetry::current_traceparent;

/// Wait before a subscription that was refused is tried again. Each further refusal doubles it, up to the second one:
/// rosters can be ahead of the node that they tell of, usually by very little, and say themselves when a producer is no
/// more.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// A subscription that lived this long was no failure when it ends.
const PROVEN: Duration = Duration::from_secs(10);

/// Wait when no route is free: until some rooms are over.
const ROUTE_RETRY: Duration = Duration::from_secs(1);

/// A producer as pipes have to know it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) producer: ProducerId,
    pub(crate) room: RoomKey,
    pub(crate) content: Content,
    pub(crate) paused: bool,
    pub(crate) home: Home,
}

/// What a producer sends, and in which form.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Media {
        kind: MediaKind,
        /// Consumable RTP parameters.
        rtp: Arc<RtpParameters>,
    },
    Data(Arc<DataChannel>),
}

impl Content {
    pub(crate) fn kind(&self) -> ProducerKind {
        match self {
            Self::Media { kind, .. } => (*kind).into(),
            Self::Data(_) => ProducerKind::Data,
        }
    }

    /// How messages of data arrive, and on which stream of their sender.
    pub(crate) fn stream(&self) -> Option<SctpStreamParameters> {
        match self {
            Self::Media { .. } => None,
            Self::Data(channel) => Some(channel.sctp_stream_parameters),
        }
    }

    /// Bytes of what its client named it.
    pub(crate) fn names_len(&self) -> usize {
        match self {
            Self::Media { .. } => 0,
            Self::Data(channel) => channel.label.len() + channel.protocol.len(),
        }
    }

    /// Consumable RTP parameters, of media.
    pub(crate) fn rtp(&self) -> Option<&RtpParameters> {
        match self {
            Self::Media { rtp, .. } => Some(rtp),
            Self::Data(_) => None,
        }
    }
}

/// Where a producer lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Home {
    /// On a worker of this node.
    Worker(WorkerIndex),
    /// On another node.
    Node(NodeInstance),
}

#[derive(Default)]
pub(super) struct Inlets {
    by_producer: HashMap<ProducerId, Inlet>,
    /// Producers of other nodes, by where they live.
    by_node: HashMap<NodeInstance, HashSet<ProducerId>>,
    /// Of producers of other nodes: how many of a room come in at which worker.
    entries: HashMap<RoomKey, HashMap<WorkerIndex, usize>>,
    /// Routes of the mesh that are in use, to find the producer of a message.
    by_route: HashMap<RouteId, ProducerId>,
    /// When to try again to subscribe.
    retries: BTreeSet<(Instant, ProducerId)>,
    /// Numbers in-process routes; in 2^40 of them none is used twice.
    local_routes: u64,
}

struct Inlet {
    source: Source,
    /// Only of producers of other nodes: where they come in.
    entry: Option<Entry>,
    /// Further workers that get it from its entry or home worker.
    branches: HashMap<WorkerIndex, (RouteId, RouteEpoch)>,
}

struct Entry {
    worker: WorkerIndex,
    /// Somebody at the entry worker itself needs it, not only branches.
    wanted: bool,
    /// `None` while nothing comes: there is no link to the node, or no route, or the node has refused.
    feed: Option<Feed>,
    /// Refusals in a row.
    refusals: u32,
    retry_at: Option<Instant>,
    traceparent: Option<String>,
}

#[derive(Clone, Copy)]
struct Feed {
    link: LinkKey,
    route: RouteId,
    epoch: RouteEpoch,
    since: Instant,
}

/// What came of subscribing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// It is said, or not wanted any more.
    Yes,
    /// The link has no room for that now.
    NoRoom,
    /// No route is free. This one is tried again in a while, and the others then, or when it ends.
    NoRoute,
}

/// A subscription that ended with its producer's inlet.
pub(super) struct Ended {
    pub(super) home: NodeInstance,
    /// The route that the other end still believes in.
    pub(super) said: Option<(LinkKey, RouteId, RouteEpoch)>,
}

impl Inlets {
    /// Makes the producer at the worker, to be fed by whatever way there is. Gives the node that it has to be
    /// subscribed to at, if that is new.
    pub(super) fn want(
        &mut self,
        ends: &mut Ends,
        source: &Source,
        worker: WorkerIndex,
        router: RouterId,
    ) -> Option<NodeInstance> {
        let inlet = self.by_producer.entry(source.producer).or_insert_with(|| Inlet {
            source: source.clone(),
            entry: None,
            branches: HashMap::new(),
        });
        match (&source.home, &mut inlet.entry) {
            (Home::Node(node), entry @ None) => {
                ends.workers.send(worker, inlet.source.pipe_producer(router, None));
                let traceparent = current_traceparent();
                *entry = Some(Entry { worker, wanted: true, feed: None, refusals: 0, retry_at: None, traceparent });
                self.by_node.entry(node.clone()).or_default().insert(source.producer);
                *self.entries.entry(source.room.clone()).or_default().entry(worker).or_default() += 1;
                Some(node.clone())
            }
            (Home::Node(_), Some(entry)) if entry.worker == worker => {
                entry.wanted = true;
                None
            }
            _ => {
                inlet.open_branch(ends, worker, router, &mut self.local_routes);
                None
            }
        }
    }

    pub(super) fn release(&mut self, ends: &mut Ends, producer: ProducerId, worker: WorkerIndex) -> Option<Ended> {
        let inlet = self.by_producer.get_mut(&producer)?;
        match &mut inlet.entry {
            Some(entry) if entry.worker == worker => entry.wanted = false,
            _ => inlet.close_branch(ends, worker),
        }
        let fed_for_itself = inlet.entry.as_ref().is_some_and(|entry| entry.wanted);
        if fed_for_itself || !inlet.branches.is_empty() {
            return None;
        }
        self.remove(ends, producer)
    }

    pub(super) fn remove(&mut self, ends: &mut Ends, producer: ProducerId) -> Option<Ended> {
        let mut inlet = self.by_producer.remove(&producer)?;
        let workers: Vec<WorkerIndex> = inlet.branches.keys().copied().collect();
        for worker in workers {
            inlet.close_branch(ends, worker);
        }
        let Source { room, home: Home::Node(home), .. } = inlet.source else { return None };
        let entry = inlet.entry?;
        ends.workers.send(entry.worker, Request::CloseProducer { producer });
        if let Some(at) = entry.retry_at {
            self.retries.remove(&(at, producer));
        }
        if let Some(feed) = entry.feed {
            self.by_route.remove(&feed.route);
            ends.mesh.release_route(feed.route);
        }
        take_one(&mut self.entries, &room, entry.worker);
        if let Some(producers) = self.by_node.get_mut(&home) {
            producers.remove(&producer);
            if producers.is_empty() {
                self.by_node.remove(&home);
            }
        }
        Some(Ended { home, said: entry.feed.map(|feed| (feed.link, feed.route, feed.epoch)) })
    }

    pub(super) fn of_room(&self, room: &RoomKey) -> Vec<ProducerId> {
        let of_it = self.by_producer.iter().filter(|(_, inlet)| inlet.source.room == *room);
        of_it.map(|(producer, _)| *producer).collect()
    }

    pub(super) fn enter_at(&self, room: &RoomKey, worker: WorkerIndex) -> bool {
        self.entries.get(room).is_some_and(|workers| workers.contains_key(&worker))
    }

    pub(super) fn set_paused(&mut self, ends: &mut Ends, producer: ProducerId, paused: bool) {
        let Some(inlet) = self.by_producer.get_mut(&producer) else { return };
        inlet.source.paused = paused;
        let entry = inlet.entry.iter().map(|entry| entry.worker);
        for worker in entry.chain(inlet.branches.keys().copied()) {
            let request =
                if paused { Request::PauseProducer { producer } } else { Request::ResumeProducer { producer } };
            ends.workers.send(worker, request);
        }
    }

    /// Producers of a node that are wanted and do not come.
    pub(super) fn unfed(&self, node: &NodeInstance) -> impl Iterator<Item = ProducerId> {
        let producers = self.by_node.get(node).into_iter().flatten().copied();
        producers.filter(|producer| self.entry(*producer).is_some_and(|entry| entry.feed.is_none()))
    }

    /// Subscribes to a producer that is wanted and does not come.
    pub(super) fn subscribe(&mut self, ends: &mut Ends, link: LinkKey, producer: ProducerId) -> Subscribed {
        let Some(inlet) = self.by_producer.get_mut(&producer) else { return Subscribed::Yes };
        let Some(entry) = inlet.entry.as_mut().filter(|entry| entry.feed.is_none()) else { return Subscribed::Yes };
        if let Some(at) = entry.retry_at.take() {
            self.retries.remove(&(at, producer));
        }
        let Some((route, epoch)) = ends.mesh.allocate_route(entry.worker) else {
            self.retry(producer, ROUTE_RETRY);
            return Subscribed::NoRoute;
        };
        let body = ControlBody::Subscribe {
            producer: producer.to_bytes(),
            namespace: inlet.source.room.namespace.to_string(),
            room: inlet.source.room.room.to_string(),
            wanted: Wanted::ALL,
            traceparent: entry.traceparent.clone(),
        };
        if !ends.mesh.send_control(link, control(route, epoch, body)) {
            ends.mesh.release_route(route);
            return Subscribed::NoRoom;
        }
        let from = PipeEnd::Node(link);
        let way = Some(RouteIn { from, route, epoch });
        ends.workers.send(entry.worker, Request::MovePipeProducer { producer, route: way });
        entry.feed = Some(Feed { link, route, epoch, since: Instant::now() });
        self.by_route.insert(route, producer);
        Subscribed::Yes
    }

    /// Nothing comes over this link any more.
    pub(super) fn link_down(&mut self, ends: &mut Ends, link: LinkKey, node: &NodeInstance) {
        let producers: Vec<ProducerId> = self.by_node.get(node).into_iter().flatten().copied().collect();
        for producer in producers {
            let Some(entry) = self.by_producer.get_mut(&producer).and_then(|inlet| inlet.entry.as_mut()) else {
                continue;
            };
            entry.refusals = 0;
            if entry.feed.is_some_and(|feed| feed.link == link) {
                self.starve(ends, producer);
            }
            // What was refused is tried again on the next link.
            if let Some(at) = self.entry_mut(producer).and_then(|entry| entry.retry_at.take()) {
                self.retries.remove(&(at, producer));
            }
        }
    }

    /// The sending end refused or ended a route. Whatever its reason, as long as the room's roster has the producer it
    /// is asked for again. False if there is no such route: it was given up here meanwhile.
    pub(super) fn refused(
        &mut self,
        ends: &mut Ends,
        link: LinkKey,
        (route, epoch): (RouteId, RouteEpoch),
        reason: RouteCloseReason,
    ) -> bool {
        let Some(&producer) = self.by_route.get(&route) else { return false };
        let Some(entry) = self.entry_mut(producer) else { return false };
        let Some(feed) = entry.feed.filter(|feed| feed.link == link && feed.epoch == epoch) else { return false };
        entry.refusals = if feed.since.elapsed() >= PROVEN { 0 } else { entry.refusals };
        let wait = FIRST_RETRY.saturating_mul(1 << entry.refusals.min(16)).min(MAX_RETRY);
        entry.refusals += 1;
        if wait == MAX_RETRY {
            tracing::warn!(%producer, ?reason, "the producer's node does not send it");
        }
        self.starve(ends, producer);
        self.retry(producer, wait);
        true
    }

    /// When a subscription is to be tried again next.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// A producer that is to be subscribed to again now, and the node that it lives on.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(ProducerId, NodeInstance)> {
        while self.next_retry().is_some_and(|at| at <= now) {
            let (_, producer) = self.retries.pop_first()?;
            let Some(inlet) = self.by_producer.get_mut(&producer) else { continue };
            if let (Some(entry), Home::Node(node)) = (&mut inlet.entry, &inlet.source.home) {
                entry.retry_at = None;
                return Some((producer, node.clone()));
            }
        }
        None
    }

    /// Routes into this node.
    pub(super) fn routes(&self) -> u64 {
        self.by_route.len() as u64
    }

    /// Producers of other nodes that are wanted and do not come.
    pub(super) fn waiting(&self) -> u64 {
        self.by_node.values().map(|producers| producers.len() as u64).sum::<u64>() - self.routes()
    }

    fn entry(&self, producer: ProducerId) -> Option<&Entry> {
        self.by_producer.get(&producer)?.entry.as_ref()
    }

    fn entry_mut(&mut self, producer: ProducerId) -> Option<&mut Entry> {
        self.by_producer.get_mut(&producer)?.entry.as_mut()
    }

    fn retry(&mut self, producer: ProducerId, wait: Duration) {
        let at = Instant::now() + wait;
        if let Some(entry) = self.entry_mut(producer) {
            entry.retry_at = Some(at);
            self.retries.insert((at, producer));
        }
    }

    /// The producer's route is over: nothing comes for the time being.
    fn starve(&mut self, ends: &mut Ends, producer: ProducerId) {
        let Some(entry) = self.entry_mut(producer) else { return };
        let (worker, Some(feed)) = (entry.worker, entry.feed.take()) else { return };
        ends.workers.send(worker, Request::MovePipeProducer { producer, route: None });
        ends.mesh.release_route(feed.route);
        self.by_route.remove(&feed.route);
    }
}

impl Inlet {
    /// The worker that branches start from.
    fn root(&self) -> Option<WorkerIndex> {
        match &self.source.home {
            Home::Worker(home) => Some(*home),
            Home::Node(_) => self.entry.as_ref().map(|entry| entry.worker),
        }
    }

    fn open_branch(&mut self, ends: &mut Ends, worker: WorkerIndex, router: RouterId, local_routes: &mut u64) {
        let Some(root) = self.root().filter(|_| !self.branches.contains_key(&worker)) else { return };
        let (route, epoch) = local_route(local_routes);
        let producer = self.source.producer;
        let way = RouteIn { from: PipeEnd::Worker(root), route, epoch };
        ends.workers.send(worker, self.source.pipe_producer(router, Some(way)));
        let to = PipeEnd::Worker(worker);
        ends.workers.send(root, Request::CreatePipeConsumer { producer, to, route, epoch, wanted: Wanted::ALL });
        self.branches.insert(worker, (route, epoch));
    }

    fn close_branch(&mut self, ends: &mut Ends, worker: WorkerIndex) {
        let Some((route, epoch)) = self.branches.remove(&worker) else { return };
        if let Some(root) = self.root() {
            ends.workers.send(root, Request::ClosePipeConsumer { to: PipeEnd::Worker(worker), route, epoch });
        }
        ends.workers.send(worker, Request::CloseProducer { producer: self.source.producer });
    }
}

impl Source {
    fn pipe_producer(&self, router: RouterId, route: Option<RouteIn>) -> Request {
        let Self { producer, paused, ref content, .. } = *self;
        match content {
            Content::Media { kind, rtp } => {
                Request::CreatePipeProducer { router, producer, kind: *kind, rtp: (**rtp).clone(), route, paused }
            }
            Content::Data(channel) => {
                let stream = channel.sctp_stream_parameters;
                Request::CreatePipeDataProducer { router, producer, stream, route }
            }
        }
    }
}

fn take_one(entries: &mut HashMap<RoomKey, HashMap<WorkerIndex, usize>>, room: &RoomKey, worker: WorkerIndex) {
    let Some(workers) = entries.get_mut(room) else { return };
    if let Some(count) = workers.get_mut(&worker) {
        *count -= 1;
        if *count == 0 {
            workers.remove(&worker);
        }
    }
    if workers.is_empty() {
        entries.remove(room);
    }
}

fn local_route(routes: &mut u64) -> (RouteId, RouteEpoch) {
    *routes += 1;
    let [_, _, _, epoch, a, b, c, d] = routes.to_be_bytes();
    (RouteId(u32::from_be_bytes([a, b, c, d])), RouteEpoch(epoch))
}
