//! Workers, mesh and placement made of tables and channels.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_media::messages::{Request, RequestError, Response, WorkerIndex};
use sluice_media::trace::{TraceTypes, Traced};
use sluice_mesh::LinkKey;
use sluice_placement::{PartDelta, RosterEvent};
use sluice_proto::ids::{
    ConsumerId, NodeInstance, ProducerId, Region, RoomKey, RouteEpoch, RouteId, RouterId, TransportId,
};
use sluice_proto::pipe::RouteControl;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::parts::{Entries, apply, difference};
use super::{SOON, statistics};
use crate::ports::{Answer, EnteredRoom, MediaWorker, MeshPort, MeshSignal, PlacementPort, RosterPublisher};

/// A worker that knows what exists and answers accordingly, and remembers what it was asked.
pub(super) struct FakeWorker {
    index: WorkerIndex,
    state: Mutex<WorkerState>,
    news: Notify,
}

#[derive(Default)]
struct WorkerState {
    routers: HashSet<RouterId>,
    /// With their router, and whether they are connected.
    transports: HashMap<TransportId, (RouterId, bool)>,
    /// With their router, and their transport, which pipe producers have not.
    producers: HashMap<ProducerId, (RouterId, Option<TransportId>)>,
    consumers: HashMap<ConsumerId, (TransportId, ProducerId)>,
    /// Requests that have not been looked at, and what came of them.
    asked: Vec<(Request, Option<RequestError>)>,
    /// What the next `Produce` is answered with.
    refuse_produce: Option<RequestError>,
    /// There is no room for what does not end anything.
    full: bool,
    /// There was no room for one command, and is again.
    full_once: bool,
    /// What is told of transports when they are traced.
    traced: HashMap<TransportId, Traced>,
    /// The next request is the caller's end.
    explode: bool,
    /// The next answer is the end of whoever waits for it.
    explode_late: bool,
}

impl FakeWorker {
    pub(super) fn new(index: WorkerIndex) -> Self {
        Self { index, state: Mutex::default(), news: Notify::new() }
    }

    pub(super) fn refuse_next_produce(&self, error: RequestError) {
        self.state.lock().unwrap().refuse_produce = Some(error);
    }

    pub(super) fn set_full(&self, full: bool) {
        self.state.lock().unwrap().full = full;
    }

    /// The next command finds no room, and those after it do.
    pub(super) fn refuse_next_send(&self) {
        self.state.lock().unwrap().full_once = true;
    }

    /// This happened on a transport.
    pub(super) fn happened(&self, transport: TransportId, traced: Traced) {
        self.state.lock().unwrap().traced.insert(transport, traced);
    }

    /// Whoever asks next panics, as if it had a bug.
    pub(super) fn explode(&self) {
        self.state.lock().unwrap().explode = true;
    }

    /// Whoever waits for the next answer panics.
    pub(super) fn explode_late(&self) {
        self.state.lock().unwrap().explode_late = true;
    }

    /// The next request that `pick` wants, now or soon; earlier ones that it does not want stay.
    pub(super) async fn asked<T>(&self, pick: impl Fn(&Request) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let news = self.news.notified();
                if let Some(found) = self.take(&pick) {
                    return found;
                }
                news.await;
            }
        };
        match timeout(SOON, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("not asked; but {:#?}", self.state.lock().unwrap().asked),
        }
    }

    /// As [`Self::asked`], but only what was asked already.
    pub(super) fn take<T>(&self, pick: impl Fn(&Request) -> Option<T>) -> Option<T> {
        let asked = &mut self.state.lock().unwrap().asked;
        let (index, found) =
            asked.iter().enumerate().find_map(|(index, (request, _))| Some((index, pick(request)?)))?;
        asked.remove(index);
        Some(found)
    }

    /// Requests that were refused.
    pub(super) fn refused(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let refused =
            state.asked.iter().filter_map(|(request, error)| Some(format!("{request:?}: {}", error.as_ref()?)));
        refused.collect()
    }

    /// How many of everything there are: routers, transports, producers, consumers.
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        let state = self.state.lock().unwrap();
        (state.routers.len(), state.transports.len(), state.producers.len(), state.consumers.len())
    }

    fn handle(&self, request: Request) -> Result<Response, RequestError> {
        let mut state = self.state.lock().unwrap();
        if std::mem::take(&mut state.explode) {
            drop(state);
            panic!("as asked for by the test");
        }
        let result = state.handle(&request);
        state.asked.push((request, result.as_ref().err().cloned()));
        drop(state);
        self.news.notify_waiters();
        result
    }
}

impl FakeWorker {
    fn is_full_for(&self, request: &Request) -> bool {
        let closes = format!("{request:?}").starts_with("Close");
        self.state.lock().unwrap().full && !closes
    }
}

impl WorkerState {
    #[allow(clippy::too_many_lines, reason = "a flat dispatch")]
    fn handle(&mut self, request: &Request) -> Result<Response, RequestError> {
        match *request {
            Request::CreateRouter { router, .. } => drop(self.routers.insert(router)),
            Request::CloseRouter { router } => {
                self.routers.remove(&router).then_some(()).ok_or(RequestError::RouterNotFound(router))?;
                self.transports.retain(|_, (of, _)| *of != router);
                self.producers.retain(|_, (of, _)| *of != router);
                self.consumers.retain(|_, (transport, _)| self.transports.contains_key(transport));
            }
            Request::CreateWebRtcTransport { router, transport, .. } => {
                self.routers.contains(&router).then_some(()).ok_or(RequestError::RouterNotFound(router))?;
                self.transports.insert(transport, (router, false));
            }
            Request::ConnectWebRtcTransport { transport, .. } => {
                let transports = &mut self.transports;
                let (_, connected) =
                    transports.get_mut(&transport).ok_or(RequestError::TransportNotFound(transport))?;
                if std::mem::replace(connected, true) {
                    return Err(RequestError::AlreadyConnected(transport));
                }
            }
            Request::RestartIce { transport, .. } => self.transport(transport).map(drop)?,
            Request::CloseTransport { transport } => {
                self.transport(transport)?;
                self.transports.remove(&transport);
                self.consumers.retain(|_, (on, _)| *on != transport);
                self.close_producers_of(transport);
            }
            Request::Produce { transport, producer, .. } | Request::ProduceData { transport, producer, .. } => {
                let router = self.transport(transport)?;
                self.refuse_produce.take().map_or(Ok(()), Err)?;
                self.producers.insert(producer, (router, Some(transport)));
            }
            Request::CreatePipeProducer { router, producer, .. }
            | Request::CreatePipeDataProducer { router, producer, .. }
            | Request::CreateDirectDataProducer { router, producer, .. } => {
                self.routers.contains(&router).then_some(()).ok_or(RequestError::RouterNotFound(router))?;
                if self.producers.insert(producer, (router, None)).is_some() {
                    return Err(RequestError::AlreadyExists(producer.to_string()));
                }
            }
            Request::Consume { transport, consumer, producer, .. }
            | Request::ConsumeData { transport, consumer, producer, .. } => {
                self.transport(transport)?;
                self.producer(producer)?;
                self.consumers.insert(consumer, (transport, producer));
            }
            Request::CreatePipeConsumer { producer, .. }
            | Request::MovePipeProducer { producer, .. }
            | Request::SendData { producer, .. }
            | Request::PauseProducer { producer }
            | Request::ResumeProducer { producer } => self.producer(producer)?,
            Request::CloseProducer { producer } => {
                self.producer(producer)?;
                self.close_producer(producer);
            }
            Request::CloseConsumer { consumer } => {
                self.consumer(consumer)?;
                self.consumers.remove(&consumer);
            }
            Request::PauseConsumer { consumer }
            | Request::ResumeConsumer { consumer }
            | Request::RequestKeyFrame { consumer }
            | Request::SetPreferredLayers { consumer, .. }
            | Request::SetConsumerPriority { consumer, .. } => {
                self.consumer(consumer)?;
            }
            Request::TransportStats { .. } => return Ok(Response::TransportStats(statistics::of_transport())),
            Request::ProducerStats { .. } => return Ok(Response::ProducerStats(statistics::of_producer())),
            Request::ConsumerStats { .. } => return Ok(Response::ConsumerStats(statistics::of_consumer())),
            Request::DataProducerStats { .. } | Request::DataConsumerStats { .. } => {
                return Ok(Response::DataStats(statistics::of_data()));
            }
            Request::Trace { transport, types, .. } => return self.trace(transport, types),
            Request::ClosePipeConsumer { .. } | Request::ConnectWithSrtpKeys { .. } | Request::Snapshot => {}
        }
        Ok(Response::Done)
    }

    fn trace(&mut self, transport: TransportId, types: TraceTypes) -> Result<Response, RequestError> {
        self.transport(transport)?;
        let traced = self.traced.remove(&transport).filter(|_| types != TraceTypes::NONE);
        Ok(Response::Traced(traced.unwrap_or_default()))
    }

    fn close_producers_of(&mut self, transport: TransportId) {
        let of_it = self.producers.iter().filter(|(_, (_, of))| *of == Some(transport)).map(|(id, _)| *id);
        of_it.collect::<Vec<_>>().into_iter().for_each(|producer| self.close_producer(producer));
    }

    fn close_producer(&mut self, id: ProducerId) {
        self.producers.remove(&id);
        self.consumers.retain(|_, (_, of)| *of != id);
    }

    fn transport(&self, id: TransportId) -> Result<RouterId, RequestError> {
        self.transports.get(&id).map(|(router, _)| *router).ok_or(RequestError::TransportNotFound(id))
    }

    fn producer(&self, id: ProducerId) -> Result<(), RequestError> {
        self.producers.contains_key(&id).then_some(()).ok_or(RequestError::ProducerNotFound(id))
    }

    fn consumer(&self, id: ConsumerId) -> Result<(), RequestError> {
        self.consumers.contains_key(&id).then_some(()).ok_or(RequestError::ConsumerNotFound(id))
    }
}

impl MediaWorker for FakeWorker {
    fn index(&self) -> WorkerIndex {
        self.index
    }

    fn request(&self, request: Request) -> Answer {
        let full = self.is_full_for(&request);
        let result = if full { Err(RequestError::Unavailable) } else { self.handle(request) };
        let explode = std::mem::take(&mut self.state.lock().unwrap().explode_late);
        Box::pin(async move {
            // An answer is never there at once.
            tokio::task::yield_now().await;
            assert!(!explode, "as asked for by the test");
            result
        })
    }

    fn send(&self, request: Request) {
        let _ = self.try_send(request);
    }

    fn try_send(&self, request: Request) -> Result<(), Box<Request>> {
        if std::mem::take(&mut self.state.lock().unwrap().full_once) || self.is_full_for(&request) {
            return Err(Box::new(request));
        }
        let _ = self.handle(request);
        Ok(())
    }
}

/// What the nodes of a test have between them.
#[derive(Clone, Default)]
pub(super) struct World {
    inner: Arc<Mutex<WorldState>>,
}

#[derive(Default)]
struct WorldState {
    nodes: Vec<(NodeInstance, mpsc::UnboundedSender<MeshSignal>)>,
    /// The pipes that are up, with the nodes at their ends.
    links: HashMap<LinkKey, [NodeInstance; 2]>,
    next_link: u32,
    /// Everything said over the mesh: from, to, message.
    said: Vec<(NodeInstance, NodeInstance, RouteControl)>,
    /// Messages to these nodes get lost.
    deaf: HashSet<NodeInstance>,
    rooms: HashMap<RoomKey, HashMap<NodeInstance, Holder>>,
    /// No node hears of another.
    split: bool,
    /// For how long a node that enters a room hears nothing of the others in it.
    late: Duration,
}

#[derive(Default)]
struct Holder {
    part: Option<Entries>,
    events: Option<mpsc::UnboundedSender<RosterEvent>>,
    /// What it was told of others.
    told: HashMap<NodeInstance, Entries>,
}

impl World {
    /// Brings a pipe between two nodes up, which has a key of its own.
    pub(super) fn link_up(&self, a: &NodeInstance, b: &NodeInstance) {
        let mut state = self.inner.lock().unwrap();
        let link = LinkKey(state.next_link);
        state.next_link += 1;
        state.links.insert(link, [a.clone(), b.clone()]);
        for (at, other) in [(a, b), (b, a)] {
            state.signals(at).send(MeshSignal::LinkUp { link, instance: other.clone() }).unwrap();
        }
    }

    pub(super) fn link_down(&self, a: &NodeInstance, b: &NodeInstance) {
        let mut state = self.inner.lock().unwrap();
        let link = state.link(a, b);
        state.links.remove(&link);
        for at in [a, b] {
            state.signals(at).send(MeshSignal::LinkDown { link }).unwrap();
        }
    }

    /// Sends a message as if one node had said it.
    pub(super) fn say(&self, from: &NodeInstance, to: &NodeInstance, message: RouteControl) {
        let state = self.inner.lock().unwrap();
        state.signals(to).send(MeshSignal::Control { link: state.link(from, to), message }).unwrap();
    }

    pub(super) fn set_deaf(&self, node: &NodeInstance, deaf: bool) {
        let mut state = self.inner.lock().unwrap();
        if deaf {
            state.deaf.insert(node.clone())
        } else {
            state.deaf.remove(node)
        };
    }

    /// What has been said over the mesh since the last look.
    pub(super) fn said(&self) -> Vec<(NodeInstance, NodeInstance, RouteControl)> {
        std::mem::take(&mut self.inner.lock().unwrap().said)
    }

    /// Parts every node from every other as far as placement is concerned, or brings them together.
    pub(super) fn set_split(&self, split: bool) {
        let mut state = self.inner.lock().unwrap();
        state.split = split;
        for holders in state.rooms.values_mut() {
            let instances: Vec<_> = holders.keys().cloned().collect();
            instances.iter().for_each(|instance| tell(holders, instance, !split));
        }
    }

    /// From now on, whoever enters a room hears of the others in it after this time.
    pub(super) fn set_late(&self, late: Duration) {
        self.inner.lock().unwrap().late = late;
    }

    /// As [`Self::set_split`], but nobody has noticed it yet.
    pub(super) fn set_mute(&self) {
        self.inner.lock().unwrap().split = true;
    }

    /// A node's part of a room, as it is.
    pub(super) fn part(&self, room: &str, node: &NodeInstance) -> Entries {
        let state = self.inner.lock().unwrap();
        let (_, holders) = state.rooms.iter().find(|(key, _)| key.room.as_str() == room).unwrap();
        holders[node].part.clone().unwrap()
    }

    /// A node dies as far as placement is concerned.
    pub(super) fn die(&self, node: &NodeInstance) {
        let mut state = self.inner.lock().unwrap();
        for holders in state.rooms.values_mut() {
            holders.remove(node);
            tell(holders, node, true);
        }
    }
}

impl WorldState {
    fn link(&self, a: &NodeInstance, b: &NodeInstance) -> LinkKey {
        let between = |ends: &[NodeInstance; 2]| ends.contains(a) && ends.contains(b);
        *self.links.iter().find(|(_, ends)| between(ends)).expect("the pipe is up").0
    }

    fn signals(&self, node: &NodeInstance) -> &mpsc::UnboundedSender<MeshSignal> {
        &self.nodes.iter().find(|(instance, _)| instance == node).unwrap().1
    }
}

/// Tells the others of a node's part, if it can be reached.
fn tell(holders: &mut HashMap<NodeInstance, Holder>, of: &NodeInstance, is_near: bool) {
    let part = holders.get(of).and_then(|holder| holder.part.clone()).filter(|_| is_near);
    for (_, holder) in holders.iter_mut().filter(|(instance, _)| *instance != of) {
        holder.hear(of, part.as_ref());
    }
}

impl Holder {
    fn hear(&mut self, of: &NodeInstance, part: Option<&Entries>) {
        let told = self.told.remove(of);
        let event = match part {
            Some(part) => {
                self.told.insert(of.clone(), part.clone());
                let delta = difference(&told.unwrap_or_default(), part);
                RosterEvent::PartChanged { instance: of.clone(), delta, unlisted: 0 }
            }
            None => RosterEvent::PartGone { instance: of.clone() },
        };
        self.say(event);
    }

    fn say(&self, event: RosterEvent) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }
}

pub(super) struct FakeMesh {
    world: World,
    me: NodeInstance,
    /// Ids given out, and how many of them are in use.
    routes: Mutex<(u32, usize)>,
}

/// Routes that a fake mesh has.
pub(super) const ROUTES: usize = 100;

impl FakeMesh {
    pub(super) fn join(world: &World, me: &NodeInstance) -> (Self, mpsc::Receiver<MeshSignal>) {
        let (sender, mut unbounded) = mpsc::unbounded_channel();
        world.inner.lock().unwrap().nodes.push((me.clone(), sender));
        let (bounded, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(signal) = unbounded.recv().await {
                if bounded.send(signal).await.is_err() {
                    return;
                }
            }
        });
        (Self { world: world.clone(), me: me.clone(), routes: Mutex::default() }, receiver)
    }
}

impl MeshPort for FakeMesh {
    fn allocate_route(&self, _worker: WorkerIndex) -> Option<(RouteId, RouteEpoch)> {
        let (next, used) = &mut *self.routes.lock().unwrap();
        if *used == ROUTES {
            return None;
        }
        *next += 1;
        *used += 1;
        Some((RouteId(*next), RouteEpoch(3)))
    }

    fn release_route(&self, _route: RouteId) {
        self.routes.lock().unwrap().1 -= 1;
    }

    fn open_route_out(&self, _link: LinkKey, _route: RouteId, _epoch: RouteEpoch, _worker: WorkerIndex) {}

    fn close_route_out(&self, _link: LinkKey, _route: RouteId, _epoch: RouteEpoch) {}

    fn send_control(&self, link: LinkKey, message: RouteControl) -> bool {
        let mut state = self.world.inner.lock().unwrap();
        let Some(to) = state.links.get(&link).and_then(|ends| ends.iter().find(|end| **end != self.me)).cloned() else {
            return true;
        };
        state.said.push((self.me.clone(), to.clone(), message.clone()));
        if !state.deaf.contains(&to) {
            let _ = state.signals(&to).send(MeshSignal::Control { link, message });
        }
        true
    }
}

pub(super) struct FakePlacement {
    world: World,
    me: NodeInstance,
}

impl FakePlacement {
    pub(super) fn join(world: &World, me: &NodeInstance) -> Self {
        Self { world: world.clone(), me: me.clone() }
    }
}

impl PlacementPort for FakePlacement {
    fn enter(&self, room: RoomKey) -> Result<EnteredRoom, String> {
        let (sender, mut unbounded) = mpsc::unbounded_channel();
        let (bounded, events) = mpsc::channel(1);
        let mut state = self.world.inner.lock().unwrap();
        let (split, late) = (state.split, state.late);
        tokio::spawn(async move {
            sleep(late).await;
            while let Some(event) = unbounded.recv().await {
                if bounded.send(event).await.is_err() {
                    return;
                }
            }
        });
        let holders = state.rooms.entry(room.clone()).or_default();
        if holders.contains_key(&self.me) {
            return Err("entered already".to_owned());
        }
        let mut me = Holder { part: None, events: Some(sender), told: HashMap::new() };
        for (instance, holder) in holders.iter().filter(|(_, holder)| !split && holder.part.is_some()) {
            me.hear(instance, holder.part.as_ref());
        }
        me.say(RosterEvent::Complete);
        holders.insert(self.me.clone(), me);
        let publisher = FakePublisher { world: self.world.clone(), me: self.me.clone(), room };
        Ok(EnteredRoom { publisher: Box::new(publisher), events })
    }

    fn region(&self, node: &NodeInstance) -> Option<Region> {
        Region::new(format!("region-of-{}", node.node)).ok()
    }
}

struct FakePublisher {
    world: World,
    me: NodeInstance,
    room: RoomKey,
}

impl RosterPublisher for FakePublisher {
    fn publish(&self, delta: PartDelta) {
        let mut state = self.world.inner.lock().unwrap();
        let split = state.split;
        let Some(holders) = state.rooms.get_mut(&self.room) else { return };
        let Some(holder) = holders.get_mut(&self.me) else { return };
        apply(holder.part.get_or_insert_default(), delta);
        if !split {
            tell(holders, &self.me, true);
        }
    }
}

impl Drop for FakePublisher {
    fn drop(&mut self) {
        let mut state = self.world.inner.lock().unwrap();
        if let Some(holders) = state.rooms.get_mut(&self.room) {
            holders.remove(&self.me);
            tell(holders, &self.me, true);
        }
    }
}
