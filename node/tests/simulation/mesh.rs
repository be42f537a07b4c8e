//! Media cores of several nodes, the pipes between them and the paths to their users, on virtual time. Everything that
//! happens comes out of one queue, ordered by time and then by age, and all chance of it out of one seed.

mod routes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustc_hash::FxHasher;
use sluice_media::messages::{
    PipeEnd, Request, RequestError, RequestId, Response, WorkerCommand, WorkerEvent, WorkerIndex, WorkerSnapshot,
};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::{AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, Transmit, TransportAddress};
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig};
use sluice_mesh::{DataMessage, Frame, FrameClass, FrameEncoder, LinkKey, Reassembler, decode_datagram};
use sluice_proto::ids::{ProducerId, RouteId};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};

pub(crate) use self::routes::{Route, Source};

/// What a message on a pipe's control stream takes of a bottleneck.
const CONTROL_LEN: usize = 100;

/// What is on its way or due.
enum Event<E> {
    ToNode { node: usize, source: SocketAddr, data: Vec<u8> },
    PipeDatagram { from: usize, to: usize, data: Bytes },
    Feedback { from: usize, to: usize, feedback: RouteFeedback },
    Data { from: usize, to: usize, message: DataMessage },
    Request { node: usize, request: Box<Request> },
    NodeTimeout { node: usize },
    Users(UserEvent<E>),
}

/// What concerns the users.
pub(crate) enum UserEvent<E> {
    /// A node's datagram arrived.
    Datagram { address: SocketAddr, data: Vec<u8> },
    /// What they scheduled themselves.
    Own(E),
}

struct Node {
    media: Media,
    timeout: Option<Duration>,
    next_route: u32,
    free_routes: Vec<(RouteId, u8)>,
    responses: VecDeque<Result<Response, RequestError>>,
    events: Vec<WorkerEvent>,
}

/// What lies between a user's address and its node.
pub(crate) struct Access {
    node: usize,
    pub(crate) up: Impairment,
    pub(crate) down: Impairment,
}

pub(crate) struct Mesh<E> {
    pub(crate) now: Duration,
    pub(crate) rng: ChaCha8Rng,
    /// By the user's address.
    pub(crate) access: BTreeMap<SocketAddr, Access>,
    /// By sender and receiver.
    pub(crate) pipes: BTreeMap<(usize, usize), Impairment>,
    /// Pipes that have no room for video: their sending ends say so frame by frame.
    pub(crate) shedding: BTreeSet<(usize, usize)>,
    /// By producer and the node that it enters.
    pub(crate) routes: BTreeMap<(ProducerId, usize), Route>,
    /// `None` while a node is down.
    nodes: Vec<Option<Node>>,
    reassemblers: BTreeMap<(usize, usize), Reassembler>,
    /// Room for frames in a datagram of a pipe.
    max_datagram: usize,
    encoder: FrameEncoder,
    queue: BTreeMap<(Duration, u64), Event<E>>,
    sequence: u64,
    /// Messages that nodes said to each other.
    pub(crate) messages: u64,
    /// Of everything that happened.
    trace: FxHasher,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    *ORIGIN.get_or_init(Instant::now)
}

/// What all nodes show to their users.
pub(crate) fn certificate() -> Arc<DtlsCertificate> {
    static CERTIFICATE: OnceLock<Arc<DtlsCertificate>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| DtlsCertificate::generate().expect("a certificate can be made")).clone()
}

impl<E> Mesh<E> {
    /// Running nodes with such pipes between all of them, whose datagrams have room for `max_datagram` bytes of frames.
    pub(crate) fn new(seed: u64, nodes: usize, pipe: ImpairmentConfig, max_datagram: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pipes = BTreeMap::new();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                pipes.insert((from, to), Impairment::new(pipe, rng.random()));
            }
        }
        let mut mesh = Self {
            now: Duration::ZERO,
            rng,
            access: BTreeMap::new(),
            pipes,
            shedding: BTreeSet::new(),
            routes: BTreeMap::new(),
            nodes: (0..nodes).map(|_| None).collect(),
            reassemblers: BTreeMap::new(),
            max_datagram,
            encoder: FrameEncoder::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            messages: 0,
            trace: FxHasher::default(),
        };
        (0..nodes).for_each(|node| mesh.start(node));
        mesh
    }

    /// Number of nodes, those that are down included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Starts a node that is down, with nothing in it.
    pub(crate) fn start(&mut self, node: usize) {
        let media = Media::new(MediaConfig {
            worker: WorkerIndex(0),
            certificate: certificate(),
            epoch: (origin(), Duration::from_secs(1_700_000_000)),
            seed: self.rng.random(),
            audio: AudioLimits::default(),
            data: DataLimits::default(),
        });
        self.nodes[node] = Some(Node {
            media,
            timeout: None,
            next_route: 0,
            free_routes: Vec::new(),
            responses: VecDeque::new(),
            events: Vec::new(),
        });
    }

    /// Ends a node with all that is in it. The other ends of its routes do not know yet.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
        self.reassemblers.retain(|(from, to), _| *from != node && *to != node);
    }

    pub(crate) fn is_running(&self, node: usize) -> bool {
        self.nodes[node].is_some()
    }

    /// What a running node told its control plane.
    pub(crate) fn events(&self, node: usize) -> &[WorkerEvent] {
        &self.nodes[node].as_ref().expect("it is running").events
    }

    /// Puts an address on the network.
    pub(crate) fn connect(&mut self, address: SocketAddr, node: usize, up: ImpairmentConfig, down: ImpairmentConfig) {
        let (up, down) = (Impairment::new(up, self.rng.random()), Impairment::new(down, self.rng.random()));
        self.access.insert(address, Access { node, up, down });
    }

    /// The paths of a node's users.
    pub(crate) fn access_of(&mut self, node: usize) -> impl Iterator<Item = &mut Access> {
        self.access.values_mut().filter(move |access| access.node == node)
    }

    /// A user's datagram sets out to its node.
    pub(crate) fn send(&mut self, source: SocketAddr, data: &[u8]) {
        let now = self.instant();
        let Some(access) = self.access.get_mut(&source) else { return };
        let node = access.node;
        for at in arrivals(access.up.submit(now, data.len())) {
            self.push(at, Event::ToNode { node, source, data: data.to_vec() });
        }
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: E) {
        self.push(at, Event::Users(UserEvent::Own(event)));
    }

    fn push(&mut self, at: Duration, event: Event<E>) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Lets time pass for the nodes until something concerns the users; `None` when it is `end`.
    pub(crate) fn next(&mut self, end: Duration) -> Option<UserEvent<E>> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.trace.write_u128(at.as_nanos());
            if let Some(event) = self.handle(event) {
                return Some(event);
            }
        }
        self.now = end;
        None
    }

    fn handle(&mut self, event: Event<E>) -> Option<UserEvent<E>> {
        match event {
            Event::ToNode { node, source, mut data } => {
                self.trace.write(&data);
                let mut batch = [Datagram { source: TransportAddress::Udp(source), data: &mut data }];
                self.input(node, Input::Datagrams(&mut batch));
            }
            Event::PipeDatagram { from, to, data } => {
                self.trace.write(&data);
                self.receive_pipe_datagram(from, to, data);
            }
            Event::Feedback { from, to, feedback } => {
                self.trace.write(format!("{feedback:?}").as_bytes());
                let from = PipeEnd::Node(LinkKey(from as u32));
                self.input(to, Input::Feedback { from, feedback });
            }
            Event::Data { from, to, message } => {
                self.trace.write(&message.payload);
                let from = PipeEnd::Node(LinkKey(from as u32));
                self.input(to, Input::Data { from, message });
            }
            Event::Request { node, request } => {
                // Its subject may be gone by now.
                let _ = self.request(node, *request);
            }
            Event::NodeTimeout { node } => {
                if let Some(running) = &mut self.nodes[node]
                    && running.timeout == Some(self.now)
                {
                    running.timeout = None;
                    self.input(node, Input::Timeout);
                }
            }
            Event::Users(event) => {
                if let UserEvent::Datagram { data, .. } = &event {
                    self.trace.write(data);
                }
                return Some(event);
            }
        }
        None
    }

    fn receive_pipe_datagram(&mut self, from: usize, to: usize, data: Bytes) {
        let mut frames = Vec::new();
        let half = decode_datagram(data, &mut frames).expect("what a node encodes can be decoded");
        if let Some(half) = half {
            frames.extend(self.reassemblers.entry((from, to)).or_default().insert(half));
        }
        let from = PipeEnd::Node(LinkKey(from as u32));
        self.input(to, Input::Frames { from, frames: &mut frames });
    }

    /// Hands something to a node. What is for one that is down is lost.
    pub(crate) fn input(&mut self, node: usize, input: Input<'_>) {
        let Some(running) = &mut self.nodes[node] else { return };
        running.media.handle_input(origin() + self.now, input);
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        while let Some(running) = &mut self.nodes[node]
            && let Some(output) = running.media.poll_output()
        {
            match output {
                Output::Transmit(transmit) => self.transmit(node, transmit),
                Output::Frames { to, frames } => self.send_frames(node, to, frames),
                Output::Event(WorkerEvent::Response { result, .. }) => running.responses.push_back(result),
                Output::Feedback { to: PipeEnd::Node(LinkKey(to)), feedback } => {
                    let to = to as usize;
                    if matches!(feedback.body, FeedbackBody::Nack(_)) {
                        self.ask(node, to, &feedback);
                    } else {
                        self.say(node, to, Event::Feedback { from: node, to, feedback });
                    }
                }
                Output::Data { to: PipeEnd::Node(LinkKey(to)), message } => {
                    let to = to as usize;
                    self.say(node, to, Event::Data { from: node, to, message });
                }
                Output::Feedback { .. } | Output::Data { .. } => panic!("there is one worker only"),
                Output::Event(event) => running.events.push(event),
                Output::Forward { .. } => panic!("there is one worker only"),
                Output::AddressOwned { .. } => {}
            }
        }
        let Some(running) = &mut self.nodes[node] else { return };
        if let Some(at) = running.media.poll_timeout() {
            let at = at.saturating_duration_since(origin()).max(self.now);
            if running.timeout.is_none_or(|timeout| at < timeout) {
                running.timeout = Some(at);
                self.push(at, Event::NodeTimeout { node });
            }
        }
    }

    fn transmit(&mut self, node: usize, transmit: Transmit) {
        let now = self.instant();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for data in transmit.contents.chunks(segment) {
            let address = transmit.destination.socket_addr();
            let Some(access) = self.access.get_mut(&address) else { continue };
            for at in arrivals(access.down.submit(now, data.len())) {
                self.push(at, Event::Users(UserEvent::Datagram { address, data: data.to_vec() }));
            }
        }
        self.media(node).recycle(transmit.contents);
    }

    fn send_frames(&mut self, node: usize, to: PipeEnd, mut frames: Vec<Frame>) {
        let PipeEnd::Node(LinkKey(to)) = to else { panic!("there is one worker only") };
        let to = to as usize;
        if self.shedding.contains(&(node, to)) {
            let video = frames.iter_mut().filter(|frame| frame.class != FrameClass::Audio);
            video.for_each(Frame::shed);
        }
        let mut rest = &frames[..];
        while let Some(encoded) = self.encoder.encode_next(rest, self.max_datagram) {
            rest = &rest[encoded.frames..];
            for data in encoded.datagrams.into_iter().flat_map(|(first, second)| std::iter::once(first).chain(second)) {
                let Some(pipe) = self.pipes.get_mut(&(node, to)) else { continue };
                for at in arrivals(pipe.submit(origin() + self.now, data.len())) {
                    self.push(at, Event::PipeDatagram { from: node, to, data: data.clone() });
                }
            }
        }
        self.media(node).recycle_frames(frames);
    }

    fn media(&mut self, node: usize) -> &mut Media {
        &mut self.nodes[node].as_mut().expect("it is running").media
    }

    /// When what one node says to another on their pipe's control stream is heard; `None` while nothing passes: then
    /// the stream breaks, and what was on it is gone.
    pub(crate) fn control_passage(&mut self, from: usize, to: usize) -> Option<Duration> {
        let now = self.instant();
        let passage = self.pipes.get_mut(&(from, to))?.submit_reliable(now, CONTROL_LEN)?;
        Some(self.since_origin(passage.arrives))
    }

    fn say(&mut self, from: usize, to: usize, event: Event<E>) {
        self.messages += 1;
        if let Some(at) = self.control_passage(from, to) {
            self.push(at, event);
        }
    }

    /// What is missed is asked for in a datagram, which may get lost.
    fn ask(&mut self, from: usize, to: usize, feedback: &RouteFeedback) {
        self.messages += 1;
        let Some(pipe) = self.pipes.get_mut(&(from, to)) else { return };
        for at in arrivals(pipe.submit(origin() + self.now, CONTROL_LEN)) {
            self.push(at, Event::Feedback { from, to, feedback: feedback.clone() });
        }
    }

    /// What a pipe's sending end says to its receiving end.
    pub(crate) fn say_feedback(&mut self, from: usize, to: usize, feedback: RouteFeedback) {
        self.say(from, to, Event::Feedback { from, to, feedback });
    }

    /// Asks a node's media core, as its control plane would.
    pub(crate) fn request(&mut self, node: usize, request: Request) -> Result<Response, RequestError> {
        self.input(node, Input::Command(WorkerCommand::Request { id: RequestId(0), request }));
        let running = self.nodes[node].as_mut().ok_or(RequestError::Unavailable)?;
        running.responses.pop_front().expect("every request is answered at once")
    }

    pub(crate) fn snapshot(&mut self, node: usize) -> WorkerSnapshot {
        match self.request(node, Request::Snapshot) {
            Ok(Response::Snapshot(snapshot)) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    /// Asks a node for a request at a time to come.
    pub(crate) fn schedule_request(&mut self, at: Duration, node: usize, request: Request) {
        self.push(at, Event::Request { node, request: Box::new(request) });
    }

    /// Lets time pass for the nodes alone; what they sent is lost.
    pub(crate) fn advance_nodes(&mut self, step: Duration) {
        self.now += step;
        self.queue.clear();
        for node in 0..self.nodes.len() {
            if let Some(running) = &mut self.nodes[node] {
                running.timeout = None;
            }
            self.input(node, Input::Timeout);
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        origin() + self.now
    }

    pub(crate) fn since_origin(&self, at: Instant) -> Duration {
        at.saturating_duration_since(origin())
    }

    pub(crate) fn finish(&self) -> u64 {
        self.trace.finish()
    }
}

fn arrivals(decision: Decision) -> impl Iterator<Item = Duration> {
    let (at, again) = match decision {
        Decision::Deliver { at, again } => (Some(at), again),
        Decision::Drop(_) => (None, None),
    };
    at.into_iter().chain(again).map(|at| at.saturating_duration_since(origin()))
}
