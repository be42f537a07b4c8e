//! Nodes, clients and the paths between them on virtual time. Everything that happens comes out of one queue, ordered by time and
//! then by age, and all chance out of one seed: the same seed is the same run, to the last encrypted byte.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustc_hash::FxHasher;
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig};
use sluice_mesh::{Frame, FrameClass, FrameEncoder, Reassembler, decode_datagram};
use sluice_node::data_plane::demux::{Datagram, make_ufrag};
use sluice_node::data_plane::dtls::DtlsCertificate;
use sluice_node::data_plane::io::{Input, Output, Transmit};
use sluice_node::data_plane::media::{Media, MediaConfig};
use sluice_node::data_plane::messages::{
    IceCredentials, LinkKey, PipeEnd, Request, RequestError, RequestId, Response, WorkerCommand, WorkerEvent,
    WorkerIndex,
};
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{Layers, PipeBody, PipeMessage};

use crate::client::{Client, Connection};
use crate::parameters::{self, Ssrcs};
use crate::publication::Publication;
use crate::subscription::Subscription;

/// Room for frames in a datagram of a pipe: so little that many packets are cut in two, as at a small MTU.
const MAX_PIPE_DATAGRAM: usize = 280;

pub(crate) enum Event {
    ToNode {
        node: usize,
        source: SocketAddr,
        data: Vec<u8>,
    },
    ToClient {
        address: SocketAddr,
        data: Vec<u8>,
    },
    PipeDatagram {
        from: usize,
        to: usize,
        data: Bytes,
    },
    PipeMessage {
        from: usize,
        to: usize,
        message: PipeMessage,
    },
    /// A request that reached a node by its control plane.
    Request {
        node: usize,
        request: Box<Request>,
    },
    NodeTimeout {
        node: usize,
    },
    Publish {
        publication: usize,
    },
    ClientTick {
        client: usize,
    },
    Act {
        action: usize,
    },
}

pub(crate) struct Node {
    pub(crate) media: Media,
    pub(crate) router: RouterId,
    timeout: Option<Duration>,
    next_route: u32,
    free_routes: Vec<(RouteId, u8)>,
    responses: VecDeque<Result<Response, RequestError>>,
    pub(crate) events: Vec<WorkerEvent>,
}

/// A producer's way into a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) epoch: RouteEpoch,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// By producer and the node that it enters.
    pub(crate) routes: BTreeMap<(ProducerId, usize), Route>,
    /// By sender and receiver.
    pub(crate) pipes: BTreeMap<(usize, usize), Impairment>,
    /// Pipes that have no room for video: their sending ends say so frame by frame.
    pub(crate) shedding: BTreeSet<(usize, usize)>,
    /// What is on its way on a control stream, which keeps its order.
    pub(crate) control_delay: Duration,
    pub(crate) client_path: ImpairmentConfig,
    /// Nothing is published any more.
    pub(crate) quiet: bool,
    /// Of everything that happened.
    pub(crate) trace: FxHasher,
    reassemblers: BTreeMap<(usize, usize), Reassembler>,
    encoder: FrameEncoder,
    queue: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    port: u16,
    next_ssrc: u32,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    *ORIGIN.get_or_init(Instant::now)
}

fn certificate() -> Arc<DtlsCertificate> {
    static CERTIFICATE: OnceLock<Arc<DtlsCertificate>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| DtlsCertificate::generate().expect("a certificate can be made")).clone()
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, pipe: ImpairmentConfig, client_path: ImpairmentConfig) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pipes = BTreeMap::new();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                pipes.insert((from, to), Impairment::new(pipe, rng.random()));
            }
        }
        let mut world = Self {
            now: Duration::ZERO,
            nodes: Vec::new(),
            clients: Vec::new(),
            publications: Vec::new(),
            subscriptions: Vec::new(),
            routes: BTreeMap::new(),
            pipes,
            shedding: BTreeSet::new(),
            control_delay: pipe.delay + Duration::from_millis(1),
            client_path,
            quiet: false,
            trace: FxHasher::default(),
            reassemblers: BTreeMap::new(),
            encoder: FrameEncoder::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            port: 10_000,
            next_ssrc: 1_000,
            rng,
        };
        for _ in 0..nodes {
            world.add_node();
        }
        world
    }

    fn add_node(&mut self) {
        let media = Media::new(MediaConfig {
            worker: WorkerIndex(0),
            certificate: certificate(),
            epoch: (origin(), Duration::from_secs(1_700_000_000)),
            seed: self.rng.random(),
        });
        let router = RouterId::from_random_bytes(self.rng.random());
        self.nodes.push(Node {
            media,
            router,
            timeout: None,
            next_route: 0,
            free_routes: Vec::new(),
            responses: VecDeque::new(),
            events: Vec::new(),
        });
        let node = self.nodes.len() - 1;
        self.request(node, Request::CreateRouter { router }).expect("a new router");
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, end: Duration, mut act: impl FnMut(&mut Self, usize)) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event, &mut act);
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event, act: &mut impl FnMut(&mut Self, usize)) {
        self.trace.write_u128(self.now.as_nanos());
        match event {
            Event::ToNode { node, source, mut data } => {
                self.trace.write(&data);
                let mut batch = [Datagram { source, data: &mut data }];
                self.input(node, Input::Datagrams(&mut batch));
            }
            Event::ToClient { address, data } => {
                self.trace.write(&data);
                self.client_receives(address, data);
            }
            Event::PipeDatagram { from, to, data } => {
                self.trace.write(&data);
                self.receive_pipe_datagram(from, to, data);
            }
            Event::PipeMessage { from, to, message } => {
                self.trace.write(format!("{message:?}").as_bytes());
                let from = PipeEnd::Node(LinkKey(from as u32));
                self.input(to, Input::Command(WorkerCommand::Pipe { from, message }));
            }
            Event::Request { node, request } => {
                // Its subject may be gone by now.
                let _ = self.request(node, *request);
            }
            Event::NodeTimeout { node } => {
                if self.nodes[node].timeout == Some(self.now) {
                    self.nodes[node].timeout = None;
                    self.input(node, Input::Timeout);
                }
            }
            Event::Publish { publication } => self.publish(publication),
            Event::ClientTick { client } => self.client_tick(client),
            Event::Act { action } => act(self, action),
        }
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

    pub(crate) fn input(&mut self, node: usize, input: Input<'_>) {
        self.nodes[node].media.handle_input(origin() + self.now, input);
        self.drain(node);
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].media.poll_output() {
            match output {
                Output::Transmit(transmit) => self.transmit(node, transmit),
                Output::Frames { to, frames } => self.send_frames(node, to, frames),
                Output::Event(WorkerEvent::Response { result, .. }) => self.nodes[node].responses.push_back(result),
                Output::Event(WorkerEvent::Pipe { to: PipeEnd::Node(LinkKey(to)), message }) => {
                    let event = Event::PipeMessage { from: node, to: to as usize, message };
                    self.schedule(self.now + self.control_delay, event);
                }
                Output::Event(event) => self.nodes[node].events.push(event),
                Output::Forward { .. } => panic!("there is one worker only"),
                Output::AddressOwned { .. } => {}
            }
        }
        if let Some(at) = self.nodes[node].media.poll_timeout() {
            let at = at.saturating_duration_since(origin()).max(self.now);
            if self.nodes[node].timeout.is_none_or(|timeout| at < timeout) {
                self.nodes[node].timeout = Some(at);
                self.schedule(at, Event::NodeTimeout { node });
            }
        }
    }

    fn transmit(&mut self, node: usize, transmit: Transmit) {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for data in transmit.contents.chunks(segment) {
            let address = transmit.destination;
            let now = self.instant();
            let Some(connection) = self.connection(address) else { continue };
            let decision = connection.to_client.submit(now, data.len());
            for at in arrivals(decision) {
                self.schedule(at, Event::ToClient { address, data: data.to_vec() });
            }
        }
        self.nodes[node].media.recycle(transmit.contents);
    }

    fn send_frames(&mut self, node: usize, to: PipeEnd, mut frames: Vec<Frame>) {
        let PipeEnd::Node(LinkKey(to)) = to else { panic!("there is one worker only") };
        if self.shedding.contains(&(node, to as usize)) {
            let video = frames.iter_mut().filter(|frame| frame.class != FrameClass::Audio);
            video.for_each(Frame::shed);
        }
        let mut rest = &frames[..];
        while let Some(encoded) = self.encoder.encode_next(rest, MAX_PIPE_DATAGRAM) {
            rest = &rest[encoded.frames..];
            for data in encoded.datagrams.into_iter().flat_map(|(first, second)| std::iter::once(first).chain(second)) {
                let Some(pipe) = self.pipes.get_mut(&(node, to as usize)) else { continue };
                for at in arrivals(pipe.submit(origin() + self.now, data.len())) {
                    self.schedule(at, Event::PipeDatagram { from: node, to: to as usize, data: data.clone() });
                }
            }
        }
        self.nodes[node].media.recycle_frames(frames);
    }

    pub(crate) fn connection(&mut self, address: SocketAddr) -> Option<&mut Connection> {
        let index = usize::from(address.port()).checked_sub(10_000)?;
        let client = self.clients.get_mut(index / 2)?;
        Some(if index % 2 == 0 { &mut client.sending } else { &mut client.receiving })
    }

    /// Asks a node's media core, as its control plane would.
    pub(crate) fn request(&mut self, node: usize, request: Request) -> Result<Response, RequestError> {
        self.input(node, Input::Command(WorkerCommand::Request { id: RequestId(0), request }));
        self.nodes[node].responses.pop_front().expect("every request is answered at once")
    }

    pub(crate) fn add_client(&mut self, node: usize) -> usize {
        let connect = |world: &mut Self| {
            let (to_node, to_client) = (world.rng.random(), world.rng.random());
            let path = world.client_path;
            let (to_node, to_client) = (Impairment::new(path, to_node), Impairment::new(path, to_client));
            let port = world.port;
            world.port += 1;
            let (connection, keys) = Connection::new(&mut world.rng, node, port, to_node, to_client);
            let (router, transport) = (world.nodes[node].router, connection.transport);
            let random: u64 = world.rng.random();
            let ice =
                IceCredentials { ufrag: make_ufrag(WorkerIndex(0), &format!("{random:016x}")), pwd: "p".repeat(24) };
            world.request(node, Request::CreateWebRtcTransport { router, transport, ice }).expect("a new transport");
            world.request(node, Request::ConnectWithSrtpKeys { transport, keys }).expect("it is not connected yet");
            connection
        };
        let (sending, receiving) = (connect(self), connect(self));
        self.clients.push(Client { sending, receiving, next_mid: 0 });
        let client = self.clients.len() - 1;
        let at = self.now + Duration::from_millis(10);
        self.schedule(at, Event::ClientTick { client });
        client
    }

    pub(crate) fn add_publication(&mut self, client: usize, kind: MediaKind) -> usize {
        let (ssrcs, mapped) = (self.ssrcs(), self.ssrcs().media);
        let id = ProducerId::from_random_bytes(self.rng.random());
        let mid = self.next_mid(client);
        let random = self.rng.random();
        let Connection { node, transport, .. } = self.clients[client].sending;
        let rtp = parameters::client(kind, &mid, ssrcs);
        let request = Request::Produce {
            transport,
            producer: id,
            kind,
            rtp,
            mapping: parameters::mapping(mapped),
            paused: false,
        };
        self.request(node, request).expect("a new producer");
        self.publications.push(Publication::new(id, client, kind, mid, ssrcs, random));
        let publication = self.publications.len() - 1;
        self.schedule(self.now, Event::Publish { publication });
        publication
    }

    pub(crate) fn next_mid(&mut self, client: usize) -> String {
        self.clients[client].next_mid += 1;
        self.clients[client].next_mid.to_string()
    }

    fn ssrcs(&mut self) -> Ssrcs {
        self.next_ssrc += 2;
        Ssrcs { media: self.next_ssrc, rtx: self.next_ssrc + 1 }
    }

    /// Lets a client receive a publication, over a pipe if it is on another node.
    pub(crate) fn add_subscription(&mut self, client: usize, publication: usize) -> usize {
        let Connection { node, transport, .. } = self.clients[client].receiving;
        let (producer, kind) = (self.publications[publication].id, self.publications[publication].kind);
        self.ensure_route(publication, node);
        let (consumer, ssrcs) = (ConsumerId::from_random_bytes(self.rng.random()), self.ssrcs());
        let mid = self.next_mid(client);
        let rtp = parameters::router(kind, &mid, ssrcs);
        self.request(node, Request::Consume { transport, consumer, producer, kind, rtp, paused: true })
            .expect("a new consumer");
        self.request(node, Request::ResumeConsumer { consumer }).expect("it exists");
        self.subscriptions.push(Subscription::new(consumer, client, publication, mid, ssrcs));
        self.subscriptions.len() - 1
    }

    /// The node that a publication's publisher is on.
    pub(crate) fn home(&self, publication: usize) -> usize {
        self.clients[self.publications[publication].client].sending.node
    }

    pub(crate) fn ensure_route(&mut self, publication: usize, node: usize) {
        let (home, producer, kind) =
            (self.home(publication), self.publications[publication].id, self.publications[publication].kind);
        if home == node || self.routes.contains_key(&(producer, node)) {
            return;
        }
        let there = &mut self.nodes[node];
        // A route id is used again as soon as it is free, with the next epoch.
        let (id, epoch) =
            there.free_routes.pop().map_or((RouteId(there.next_route), 0), |(id, last)| (id, last.wrapping_add(1)));
        there.next_route += u32::from(id.0 == there.next_route);
        let route = Route { id, epoch: RouteEpoch(epoch) };
        self.routes.insert((producer, node), route);
        let rtp = parameters::router(kind, "0", Ssrcs { media: 77, rtx: 78 });
        let (router, from) = (there.router, PipeEnd::Node(LinkKey(home as u32)));
        let request = Request::CreatePipeProducer {
            router,
            producer,
            kind,
            rtp,
            from,
            route: route.id,
            epoch: route.epoch,
            paused: false,
        };
        self.request(node, request).expect("a new pipe producer");
        let to = PipeEnd::Node(LinkKey(node as u32));
        let request =
            Request::CreatePipeConsumer { producer, to, route: route.id, epoch: route.epoch, wanted: Layers::ALL };
        self.schedule(self.now + self.control_delay, Event::Request { node: home, request: Box::new(request) });
    }

    /// What a pipe's sending end says to its receiving end about a publication's route.
    pub(crate) fn say_carried(&mut self, publication: usize, node: usize, carried: Option<Layers>) {
        let Route { id, epoch } = self.routes[&(self.publications[publication].id, node)];
        let message = PipeMessage { route: id.0, epoch: epoch.0, body: PipeBody::LayersCarried(carried) };
        let from = self.home(publication);
        self.schedule(self.now + self.control_delay, Event::PipeMessage { from, to: node, message });
    }

    /// Ends a route from its receiving end, its consumers too. Its id is free again.
    pub(crate) fn close_route(&mut self, publication: usize, node: usize) {
        let (home, producer) = (self.home(publication), self.publications[publication].id);
        let Some(route) = self.routes.remove(&(producer, node)) else { return };
        self.request(node, Request::CloseProducer { producer }).expect("it exists");
        let to = PipeEnd::Node(LinkKey(node as u32));
        let request = Request::ClosePipeConsumer { to, route: route.id, epoch: route.epoch };
        self.schedule(self.now + self.control_delay, Event::Request { node: home, request: Box::new(request) });
        self.nodes[node].free_routes.push((route.id, route.epoch.0));
        let clients = &self.clients;
        for subscription in &mut self.subscriptions {
            if subscription.publication == publication && clients[subscription.client].receiving.node == node {
                subscription.closed = true;
            }
        }
    }

    /// Lets time pass for the nodes alone; what they sent is lost.
    pub(crate) fn advance_nodes(&mut self, step: Duration) {
        self.now += step;
        self.queue.clear();
        for node in 0..self.nodes.len() {
            self.nodes[node].timeout = None;
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

fn arrivals(decision: Decision) -> Vec<Duration> {
    match decision {
        Decision::Deliver { at, again } => {
            std::iter::once(at).chain(again).map(|at| at.saturating_duration_since(origin())).collect()
        }
        Decision::Drop(_) => Vec::new(),
    }
}
