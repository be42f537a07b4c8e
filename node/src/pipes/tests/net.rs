//! The mesh in memory: control messages in order and within bounds, frames and feedback in any order and some of them lost, all of it gone
//! with the link that it was sent on.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::messages::WorkerIndex;
use sluice_mesh::{Frame, LinkKey};
use sluice_proto::ids::{NodeId, NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, RouteCloseReason, RouteControl, RouteFeedback};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ports::{MeshPort, MeshSignal};

/// Messages that a link takes before somebody at its other end has read.
const ROOM: usize = 16;

/// What arrives at a node by the way of packets.
pub(super) enum Arrival {
    Frame(Frame),
    Feedback(RouteFeedback),
}

#[derive(Clone)]
pub(super) struct Net {
    state: Arc<Mutex<NetState>>,
}

struct NetState {
    rng: ChaCha8Rng,
    nodes: [NetNode; 2],
    /// The link that is up.
    link: Option<LinkKey>,
    next_link: u32,
}

struct NetNode {
    signals: mpsc::UnboundedSender<MeshSignal>,
    /// What its mesh has to tell; nothing is told while the node stands still.
    waiting: VecDeque<MeshSignal>,
    stalled: bool,
    /// On the way to it, with the time of arrival.
    control: VecDeque<(Instant, RouteControl)>,
    arrivals: BTreeMap<(Instant, u64), (LinkKey, Arrival)>,
    sequence: u64,
    routes_in: HashMap<RouteId, (RouteEpoch, WorkerIndex)>,
    free: VecDeque<(u32, u8)>,
    routes_out: HashMap<RouteId, (RouteEpoch, WorkerIndex)>,
    /// Unknown routes that were answered for in this second.
    answered: HashSet<(RouteId, RouteEpoch)>,
    second: Option<Instant>,
    unknown: u64,
    frames: u64,
}

pub(super) fn instance(node: usize) -> NodeInstance {
    NodeInstance { node: NodeId::new(format!("node-{node}")).unwrap(), incarnation: 1 }
}

impl Net {
    /// With so many routes into each node.
    pub(super) fn new(seed: u64, routes: u32) -> (Self, [mpsc::UnboundedReceiver<MeshSignal>; 2]) {
        let (here, signals_here) = mpsc::unbounded_channel();
        let (there, signals_there) = mpsc::unbounded_channel();
        let nodes = [here, there].map(|signals| NetNode {
            signals,
            waiting: VecDeque::new(),
            stalled: false,
            control: VecDeque::new(),
            arrivals: BTreeMap::new(),
            sequence: 0,
            routes_in: HashMap::new(),
            free: (0..routes).map(|id| (id, 0)).collect(),
            routes_out: HashMap::new(),
            answered: HashSet::new(),
            second: None,
            unknown: 0,
            frames: 0,
        });
        let state = NetState { rng: ChaCha8Rng::seed_from_u64(seed), nodes, link: None, next_link: 0 };
        (Self { state: Arc::new(Mutex::new(state)) }, [signals_here, signals_there])
    }

    pub(super) fn port(&self, node: usize) -> NetPort {
        NetPort { net: self.clone(), node }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.lock().unwrap().link.is_some()
    }

    pub(super) fn up(&self) {
        let state = &mut *self.state.lock().unwrap();
        let link = LinkKey(state.next_link);
        state.next_link += 1;
        state.link = Some(link);
        for (node, other) in [(0, 1), (1, 0)] {
            state.nodes[node].waiting.push_back(MeshSignal::LinkUp { link, instance: instance(other) });
        }
    }

    pub(super) fn down(&self) {
        let state = &mut *self.state.lock().unwrap();
        let Some(link) = state.link.take() else { return };
        for node in &mut state.nodes {
            node.control.clear();
            node.arrivals.clear();
            node.routes_out.clear();
            node.waiting.push_back(MeshSignal::LinkDown { link });
        }
    }

    pub(super) fn set_stalled(&self, node: usize, stalled: bool) {
        self.state.lock().unwrap().nodes[node].stalled = stalled;
    }

    /// Frames of routes that are none, and frames, that have come to a node.
    pub(super) fn counts(&self, node: usize) -> (u64, u64) {
        let node = &self.state.lock().unwrap().nodes[node];
        (node.unknown, node.frames)
    }

    pub(super) fn send_frames(&self, from: usize, link: LinkKey, frames: Vec<Frame>, perfect: bool) {
        frames.into_iter().for_each(|frame| self.send(from, link, Arrival::Frame(frame), perfect));
    }

    pub(super) fn send(&self, from: usize, link: LinkKey, arrival: Arrival, perfect: bool) {
        let state = &mut *self.state.lock().unwrap();
        if state.link != Some(link) || !perfect && state.rng.random_bool(0.02) {
            return;
        }
        let delay = if perfect { 20 } else { state.rng.random_range(5..60) };
        let to = &mut state.nodes[1 - from];
        to.sequence += 1;
        let at = Instant::now() + Duration::from_millis(delay);
        to.arrivals.insert((at, to.sequence), (link, arrival));
    }

    /// Hands a node what has come for it: signals to its pipes, the rest to the caller, with the worker that it is for.
    pub(super) fn deliver(&self, node: usize) -> Vec<(WorkerIndex, LinkKey, Arrival)> {
        let state = &mut *self.state.lock().unwrap();
        let now = Instant::now();
        let Some(link) = state.link else {
            state.nodes[node].tell();
            return Vec::new();
        };
        let here = &mut state.nodes[node];
        if here.stalled {
            return Vec::new();
        }
        while let Some((_, message)) = here.control.pop_front_if(|(at, _)| *at <= now) {
            here.waiting.push_back(MeshSignal::Control { link, message });
        }
        here.tell();
        let mut arrived = Vec::new();
        let mut answers = Vec::new();
        while let Some(entry) = here.arrivals.first_entry().filter(|entry| entry.key().0 <= now) {
            let (link, arrival) = entry.remove();
            match here.worker_of(&arrival) {
                Ok(worker) => arrived.push((worker, link, arrival)),
                Err((route, epoch, body)) => {
                    if here.is_to_be_answered(now, route, epoch) {
                        answers.push(RouteControl { route: route.0, epoch: epoch.0, body });
                    }
                }
            }
        }
        for answer in answers {
            state.say(node, answer);
        }
        arrived
    }
}

impl NetState {
    fn say(&mut self, from: usize, message: RouteControl) -> bool {
        let to = &mut self.nodes[1 - from];
        if to.control.len() >= ROOM {
            return false;
        }
        let delay = Duration::from_millis(self.rng.random_range(5..60));
        let after = to.control.back().map_or(Instant::now(), |(at, _)| *at);
        to.control.push_back(((Instant::now() + delay).max(after), message));
        true
    }
}

impl NetNode {
    fn tell(&mut self) {
        if !self.stalled {
            self.waiting.drain(..).for_each(|signal| self.signals.send(signal).unwrap());
        }
    }

    /// Whom a frame or feedback is for, or the answer to it.
    fn worker_of(&mut self, arrival: &Arrival) -> Result<WorkerIndex, (RouteId, RouteEpoch, ControlBody)> {
        let (route, epoch, of_receiver) = match arrival {
            Arrival::Frame(frame) => (frame.route, frame.epoch, false),
            Arrival::Feedback(feedback) => {
                (RouteId(feedback.route), RouteEpoch(feedback.epoch), feedback.body.is_of_receiver())
            }
        };
        let (routes, answer) = if of_receiver {
            (&self.routes_out, ControlBody::RouteClosed(RouteCloseReason::ProducerGone))
        } else {
            (&self.routes_in, ControlBody::Unsubscribe)
        };
        let found = routes.get(&route).filter(|(of, _)| *of == epoch).map(|(_, worker)| *worker);
        if matches!(arrival, Arrival::Frame(_)) {
            self.frames += 1;
            self.unknown += u64::from(found.is_none());
        }
        found.ok_or((route, epoch, answer))
    }

    fn is_to_be_answered(&mut self, now: Instant, route: RouteId, epoch: RouteEpoch) -> bool {
        if self.second.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            self.second = Some(now);
            self.answered.clear();
        }
        self.answered.insert((route, epoch))
    }
}

/// One node's end of the net.
pub(super) struct NetPort {
    net: Net,
    node: usize,
}

impl MeshPort for NetPort {
    fn allocate_route(&self, worker: WorkerIndex) -> Option<(RouteId, RouteEpoch)> {
        let node = &mut self.net.state.lock().unwrap().nodes[self.node];
        let (id, epoch) = node.free.pop_front()?;
        node.routes_in.insert(RouteId(id), (RouteEpoch(epoch), worker));
        Some((RouteId(id), RouteEpoch(epoch)))
    }

    fn release_route(&self, route: RouteId) {
        let node = &mut self.net.state.lock().unwrap().nodes[self.node];
        let (epoch, _) = node.routes_in.remove(&route).expect("a route is released once");
        node.free.push_back((route.0, epoch.0.wrapping_add(1)));
    }

    fn open_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch, worker: WorkerIndex) {
        let state = &mut *self.net.state.lock().unwrap();
        if state.link == Some(link) {
            state.nodes[self.node].routes_out.insert(route, (epoch, worker));
        }
    }

    fn close_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        let state = &mut *self.net.state.lock().unwrap();
        let routes = &mut state.nodes[self.node].routes_out;
        if state.link == Some(link) && routes.get(&route).is_some_and(|(of, _)| *of == epoch) {
            routes.remove(&route);
        }
    }

    fn send_control(&self, link: LinkKey, message: RouteControl) -> bool {
        let state = &mut *self.net.state.lock().unwrap();
        state.link != Some(link) || state.say(self.node, message)
    }
}
