//! The mesh in memory, between any number of nodes: control messages and feedback in order, the former within bounds;
//! frames in datagrams that get lost, overtake each other and come twice. All of it is gone with the link that it was
//! sent on, of whose end the two nodes hear at different times.

mod port;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::messages::WorkerIndex;
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig, Loss};
use sluice_mesh::{DataMessage, Frame, FrameEncoder, LinkKey, Reassembler, decode_datagram};
use sluice_proto::ids::{NodeId, NodeInstance, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, PipeMessage, RouteCloseReason, RouteControl, RouteFeedback};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use self::port::NetPort;
use crate::ports::MeshSignal;

/// Messages that a link takes before somebody at its other end has read.
const ROOM: usize = 16;

/// What a message takes of a path.
const CONTROL_LEN: usize = 100;

/// Room for frames in a datagram: so little that some packets are cut in two.
const MAX_DATAGRAM: usize = 400;

/// The longest that a node takes to notice that a link is gone.
const NOTICE_MS: u64 = 2_000;

/// For so long a route that was just subscribed to may not be known yet.
const EXPECTED: Duration = Duration::from_secs(1);

/// A path that nothing is wrong with.
const PERFECT: Duration = Duration::from_millis(20);

/// What arrives at a node by the way of packets.
pub(crate) enum Arrival {
    Frame(Frame),
    Feedback(RouteFeedback),
    Data(DataMessage),
}

/// Clones are the same net.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<NetState>>,
}

struct NetState {
    rng: ChaCha8Rng,
    nodes: Vec<NetNode>,
    /// By sender and receiver.
    paths: BTreeMap<(usize, usize), Impairment>,
    next_link: u32,
    sequence: u64,
    encoder: FrameEncoder,
}

struct NetNode {
    instance: NodeInstance,
    signals: mpsc::UnboundedSender<MeshSignal>,
    /// What its mesh has to tell, in order; nothing is told while the node stands still.
    waiting: VecDeque<MeshSignal>,
    stalled: bool,
    ends: BTreeMap<LinkKey, End>,
    routes_in: HashMap<RouteId, (RouteEpoch, WorkerIndex)>,
    free: VecDeque<(u32, u8)>,
    received: Received,
}

/// One end of a link.
struct End {
    peer: usize,
    /// The link is no more, which is noticed then.
    down_at: Option<Instant>,
    /// Messages that were said into a link that is no more.
    unheard: usize,
    /// On the way to this end, with the time of arrival.
    stream: VecDeque<(Instant, PipeMessage)>,
    /// Likewise, of data channels, whose routes keep their own order only.
    data: VecDeque<(Instant, DataMessage)>,
    datagrams: BTreeMap<(Instant, u64), Bytes>,
    halves: Reassembler,
    routes_out: HashMap<RouteId, (RouteEpoch, WorkerIndex)>,
    /// Routes that were subscribed to of late.
    expected: HashMap<(RouteId, RouteEpoch), Instant>,
    /// Unknown routes that were answered for in this second.
    answered: HashSet<(RouteId, RouteEpoch)>,
    second: Instant,
}

/// Frames that have come to a node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) frames: u64,
    /// Those of routes that are none.
    pub(crate) unknown: u64,
}

/// The first life of a node.
pub(crate) fn instance(node: usize) -> NodeInstance {
    NodeInstance { node: NodeId::new(format!("node-{node}")).unwrap(), incarnation: 1 }
}

impl Net {
    /// Without any links; with so many routes into each node.
    pub(crate) fn new(seed: u64, nodes: usize, routes: u32) -> (Self, Vec<mpsc::UnboundedReceiver<MeshSignal>>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let paths = pairs.map(|pair| (pair, Impairment::new(bad_path(&mut rng), rng.random()))).collect();
        let (nodes, receivers) = (0..nodes).map(|node| NetNode::new(instance(node), routes)).unzip();
        let state = NetState { rng, nodes, paths, next_link: 0, sequence: 0, encoder: FrameEncoder::new() };
        (Self { state: Arc::new(Mutex::new(state)) }, receivers)
    }

    /// The next life of a node, which has a number of its own; whoever hears of it hears of the end of the former one
    /// first.
    pub(crate) fn restart(&self, former: usize, routes: u32) -> (usize, mpsc::UnboundedReceiver<MeshSignal>) {
        let state = &mut *self.state();
        let NodeInstance { node, incarnation } = state.nodes[former].instance.clone();
        let (node, receiver) = NetNode::new(NodeInstance { node, incarnation: incarnation + 1 }, routes);
        let number = state.nodes.len();
        state.nodes.push(node);
        for other in 0..=number {
            for pair in [(number, other), (other, number)] {
                let path = Impairment::new(bad_path(&mut state.rng), state.rng.random());
                state.paths.insert(pair, path);
            }
        }
        (number, receiver)
    }

    pub(crate) fn instance(&self, node: usize) -> NodeInstance {
        self.state().nodes[node].instance.clone()
    }

    pub(crate) fn port(&self, node: usize) -> NetPort {
        NetPort { net: self.clone(), node }
    }

    pub(crate) fn is_up(&self, a: usize, b: usize) -> bool {
        self.state().nodes[a].ends.values().any(|end| end.peer == b && end.down_at.is_none())
    }

    /// Links two nodes, in place of the link that they may have.
    pub(crate) fn up(&self, a: usize, b: usize) {
        let state = &mut *self.state();
        let link = LinkKey(state.next_link);
        state.next_link += 1;
        for (node, peer) in [(a, b), (b, a)] {
            let instance = state.nodes[peer].instance.clone();
            let lives = state.nodes.iter().map(|other| other.instance.node == instance.node);
            let lives: Vec<bool> = lives.collect();
            state.nodes[node].end_links(|end| lives[end.peer]);
            state.nodes[node].ends.insert(link, End::new(peer));
            state.nodes[node].waiting.push_back(MeshSignal::LinkUp { link, instance });
        }
    }

    /// Nothing passes between two nodes any more.
    pub(crate) fn down(&self, a: usize, b: usize) {
        let state = &mut *self.state();
        for (node, peer) in [(a, b), (b, a)] {
            let end = state.nodes[node].ends.values_mut().find(|end| end.peer == peer && end.down_at.is_none());
            let Some(end) = end else { return };
            end.stream.clear();
            end.data.clear();
            end.datagrams.clear();
            let notice = Duration::from_millis(state.rng.random_range(0..NOTICE_MS));
            end.down_at = Some(Instant::now() + notice);
        }
    }

    pub(crate) fn set_stalled(&self, node: usize, stalled: bool) {
        self.state().nodes[node].stalled = stalled;
    }

    /// From now on nothing gets lost.
    pub(crate) fn heal_paths(&self) {
        let config = ImpairmentConfig { delay: PERFECT, ..ImpairmentConfig::default() };
        self.state().paths.values_mut().for_each(|path| path.set_config(config));
    }

    pub(crate) fn received(&self, node: usize) -> Received {
        self.state().nodes[node].received
    }

    /// Routes into a node and out of it.
    pub(crate) fn routes(&self, node: usize) -> (usize, usize) {
        let node = &self.state().nodes[node];
        (node.routes_in.len(), node.ends.values().map(|end| end.routes_out.len()).sum())
    }

    /// Hands a node what has come for it: signals to its pipes, the rest to the caller, with the worker that it is for.
    pub(crate) fn deliver(&self, node: usize) -> Vec<(WorkerIndex, LinkKey, Arrival)> {
        let state = &mut *self.state();
        let here = &mut state.nodes[node];
        if here.stalled {
            return Vec::new();
        }
        let now = Instant::now();
        here.end_links(|end| end.down_at.is_some_and(|at| at <= now));
        let (mut arrived, mut answers) = (Vec::new(), Vec::new());
        let links: Vec<LinkKey> = here.ends.keys().copied().collect();
        for link in links {
            for arrival in here.arrivals(link, now) {
                match here.worker_of(link, &arrival) {
                    Ok(worker) => arrived.push((worker, link, arrival)),
                    Err(answer) => answers.extend(here.answer(link, now, answer).map(|answer| (link, answer))),
                }
            }
        }
        here.waiting.drain(..).for_each(|signal| here.signals.send(signal).unwrap());
        for (link, answer) in answers {
            // One that has no room will be asked for again.
            let _ = state.say(node, link, PipeMessage::Control(answer));
        }
        arrived
    }

    fn state(&self) -> MutexGuard<'_, NetState> {
        self.state.lock().unwrap()
    }
}

impl NetState {
    /// Says something on the stream of a link; false if there is no room for it.
    fn say(&mut self, from: usize, link: LinkKey, message: PipeMessage) -> bool {
        let Some(end) = self.nodes[from].ends.get_mut(&link) else { return true };
        let (to, is_control) = (end.peer, matches!(message, PipeMessage::Control(_)));
        if end.down_at.is_some() {
            end.unheard += usize::from(is_control);
            return end.unheard <= ROOM;
        }
        let end = self.nodes[to].ends.get_mut(&link).expect("the link is up");
        let controls = end.stream.iter().filter(|(_, message)| matches!(message, PipeMessage::Control(_)));
        if is_control && controls.count() >= ROOM {
            return false;
        }
        let path = self.paths.get_mut(&(from, to)).expect("there is a path");
        let passage = path.submit_reliable(Instant::now().into_std(), CONTROL_LEN).expect("nothing is dark");
        end.stream.push_back((passage.arrives.into(), message));
        true
    }

    /// Sends a message of a data channel: it comes, after those before it, unless the link ends.
    fn send_data(&mut self, from: usize, link: LinkKey, message: DataMessage) {
        let Some(to) = self.nodes[from].ends.get(&link).filter(|end| end.down_at.is_none()).map(|end| end.peer) else {
            return;
        };
        let path = self.paths.get_mut(&(from, to)).expect("there is a path");
        let len = message.payload.len();
        let passage = path.submit_reliable(Instant::now().into_std(), len).expect("nothing is dark");
        let end = self.nodes[to].ends.get_mut(&link).expect("the link is up");
        end.data.push_back((passage.arrives.into(), message));
    }

    fn send_datagram(&mut self, from: usize, link: LinkKey, data: &Bytes) {
        let Some(to) = self.nodes[from].ends.get(&link).filter(|end| end.down_at.is_none()).map(|end| end.peer) else {
            return;
        };
        let path = self.paths.get_mut(&(from, to)).expect("there is a path");
        let Decision::Deliver { at, again } = path.submit(Instant::now().into_std(), data.len()) else { return };
        let end = self.nodes[to].ends.get_mut(&link).expect("the link is up");
        for at in [Some(at), again].into_iter().flatten() {
            self.sequence += 1;
            end.datagrams.insert((at.into(), self.sequence), data.clone());
        }
    }
}

impl NetNode {
    fn new(instance: NodeInstance, routes: u32) -> (Self, mpsc::UnboundedReceiver<MeshSignal>) {
        let (signals, receiver) = mpsc::unbounded_channel();
        let node = Self {
            instance,
            signals,
            waiting: VecDeque::new(),
            stalled: false,
            ends: BTreeMap::new(),
            routes_in: HashMap::new(),
            free: (0..routes).map(|id| (id, 0)).collect(),
            received: Received::default(),
        };
        (node, receiver)
    }

    fn end_links(&mut self, is_meant: impl Fn(&End) -> bool) {
        for (link, _) in self.ends.extract_if(.., |_, end| is_meant(end)) {
            self.waiting.push_back(MeshSignal::LinkDown { link });
        }
    }

    /// What has come by a link. Control messages are put with what is to be told.
    fn arrivals(&mut self, link: LinkKey, now: Instant) -> Vec<Arrival> {
        let Some(end) = self.ends.get_mut(&link) else { return Vec::new() };
        let mut arrivals = Vec::new();
        while let Some((_, message)) = end.stream.pop_front_if(|(at, _)| *at <= now) {
            match message {
                PipeMessage::Control(message) => {
                    if matches!(message.body, ControlBody::Subscribe { .. }) {
                        end.expected.insert((RouteId(message.route), RouteEpoch(message.epoch)), now);
                    }
                    self.waiting.push_back(MeshSignal::Control { link, message });
                }
                PipeMessage::Feedback(feedback) => arrivals.push(Arrival::Feedback(feedback)),
                PipeMessage::DataConsumed(_) => {}
            }
        }
        while let Some((_, message)) = end.data.pop_front_if(|(at, _)| *at <= now) {
            arrivals.push(Arrival::Data(message));
        }
        while let Some(entry) = end.datagrams.first_entry().filter(|entry| entry.key().0 <= now) {
            let mut frames = Vec::new();
            let half = decode_datagram(entry.remove(), &mut frames).expect("what is encoded can be decoded");
            frames.extend(half.and_then(|half| end.halves.insert(half)));
            arrivals.extend(frames.into_iter().map(Arrival::Frame));
        }
        arrivals
    }

    /// Whom a frame or feedback is for, or the answer to it.
    fn worker_of(&mut self, link: LinkKey, arrival: &Arrival) -> Result<WorkerIndex, RouteControl> {
        let (route, epoch, of_receiver) = match arrival {
            Arrival::Frame(frame) => (frame.route, frame.epoch, false),
            Arrival::Data(message) => (message.route, message.epoch, false),
            Arrival::Feedback(feedback) => {
                (RouteId(feedback.route), RouteEpoch(feedback.epoch), feedback.body.is_of_receiver())
            }
        };
        let (routes, body) = if of_receiver {
            (&self.ends[&link].routes_out, ControlBody::RouteClosed(RouteCloseReason::ProducerGone))
        } else {
            (&self.routes_in, ControlBody::Unsubscribe)
        };
        let found = routes.get(&route).filter(|(of, _)| *of == epoch).map(|(_, worker)| *worker);
        if matches!(arrival, Arrival::Frame(_)) {
            self.received.frames += 1;
            self.received.unknown += u64::from(found.is_none());
        }
        found.ok_or(RouteControl { route: route.0, epoch: epoch.0, body })
    }

    /// What is said of a route that is none, unless that was said just now.
    fn answer(&mut self, link: LinkKey, now: Instant, answer: RouteControl) -> Option<RouteControl> {
        let end = self.ends.get_mut(&link)?;
        if now >= end.second + Duration::from_secs(1) {
            end.second = now;
            end.answered.clear();
        }
        let route = (RouteId(answer.route), RouteEpoch(answer.epoch));
        let is_expected = end.expected.get(&route).is_some_and(|since| now < *since + EXPECTED);
        let is_to_be_told = answer.body == ControlBody::Unsubscribe || !is_expected;
        (is_to_be_told && end.answered.insert(route)).then_some(answer)
    }
}

impl End {
    fn new(peer: usize) -> Self {
        Self {
            peer,
            down_at: None,
            unheard: 0,
            stream: VecDeque::new(),
            data: VecDeque::new(),
            datagrams: BTreeMap::new(),
            halves: Reassembler::new(),
            routes_out: HashMap::new(),
            expected: HashMap::new(),
            answered: HashSet::new(),
            second: Instant::now(),
        }
    }
}

/// A path that loses, reorders, duplicates and delays, some more than others.
fn bad_path(rng: &mut ChaCha8Rng) -> ImpairmentConfig {
    let mut ms = |range| Duration::from_millis(rng.random_range(range));
    let (delay, jitter, reorder_by) = (ms(2..60), ms(0..20), ms(1..40));
    ImpairmentConfig {
        delay,
        jitter,
        loss: Loss::Random(rng.random_range(0.0..0.04)),
        reorder: rng.random_range(0.0..0.1),
        reorder_by,
        duplicate: rng.random_range(0.0..0.03),
        ..ImpairmentConfig::default()
    }
}
