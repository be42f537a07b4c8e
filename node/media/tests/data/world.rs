//! Cores, their clients and the routes between them, on virtual time. What is under way takes a while, and some of it
//! is lost.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::drop_reason::DropReason;
use sluice_media::messages::{
    Account, DataStats, PipeEnd, Request, RequestError, RequestId, Response, RouteIn, TransportStats, WorkerCommand,
    WorkerEvent, WorkerIndex, WorkerSnapshot,
};
use sluice_media::secure::ice::IceCredentials;
use sluice_media::{
    AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, TransportAddress, make_ufrag,
};
use sluice_mesh::{DataMessage, LinkKey};
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId};
use sluice_proto::ortc::SctpStreamParameters;
use sluice_proto::pipe::{RouteFeedback, Wanted};

use crate::client::{Client, certificate};

pub(crate) const ROUTER: RouterId = RouterId::from_bytes([2; 16]);

/// A core and what it told.
pub(crate) struct Core {
    pub(crate) events: Vec<WorkerEvent>,
    media: Media,
    response: Option<Result<Response, RequestError>>,
    /// How long it took in real time, if there is a stopwatch.
    pub(crate) spent: Duration,
}

/// What is under way.
enum Arrival {
    ToCore(usize, TransportAddress, Vec<u8>),
    ToClient(usize, Vec<u8>),
    Data(usize, PipeEnd, DataMessage),
    Feedback(usize, PipeEnd, RouteFeedback),
}

/// How much gets lost, of 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses {
    /// Between clients and cores.
    pub(crate) datagrams: f64,
    /// Messages between cores: where queues are full.
    pub(crate) messages: f64,
    /// What routes' ends tell each other.
    pub(crate) feedback: f64,
}

/// All of them.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) cores: Vec<Core>,
    pub(crate) clients: Vec<Client>,
    pub(crate) losses: Losses,
    /// Bytes a second of messages that pass from a core to another, if that is limited.
    pub(crate) pipe_rate: Option<u64>,
    /// Until when messages from a core to another are on their way, where that is limited.
    busy_until: BTreeMap<(PipeEnd, usize), Instant>,
    /// Of clients and their core.
    homes: Vec<usize>,
    queue: BTreeMap<(Instant, u64), Arrival>,
    sequence: u64,
    pub(crate) rng: ChaCha8Rng,
    /// For whoever wants to know how long cores take in real time.
    pub(crate) stopwatch: Option<fn() -> Instant>,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    *ORIGIN.get_or_init(Instant::now)
}

pub(crate) fn producer(number: u8) -> ProducerId {
    ProducerId::from_bytes([number; 16])
}

pub(crate) fn consumer(number: u8) -> ConsumerId {
    ConsumerId::from_bytes([number; 16])
}

/// A stream that loses nothing.
pub(crate) fn reliable(stream_id: u16) -> SctpStreamParameters {
    SctpStreamParameters { stream_id, ordered: true, max_packet_life_time: None, max_retransmits: None }
}

/// A stream on which nothing is sent again.
pub(crate) fn unreliable(stream_id: u16) -> SctpStreamParameters {
    SctpStreamParameters { stream_id, ordered: false, max_packet_life_time: None, max_retransmits: Some(0) }
}

/// How a core is known to the others.
pub(crate) fn end(core: usize) -> PipeEnd {
    PipeEnd::Node(LinkKey(core as u32))
}

fn core_at(end: PipeEnd) -> usize {
    match end {
        PipeEnd::Node(LinkKey(number)) => number as usize,
        PipeEnd::Worker(_) => panic!("there is one worker a node"),
    }
}

impl World {
    /// So many cores with a router each.
    pub(crate) fn new(cores: usize, seed: u64) -> Self {
        Self::with_limits(cores, seed, DataLimits::default())
    }

    pub(crate) fn with_limits(cores: usize, seed: u64, data: DataLimits) -> Self {
        let core = |number: usize| Core {
            events: Vec::new(),
            media: Media::new(MediaConfig {
                worker: WorkerIndex(0),
                certificate: certificate(true),
                epoch: (origin(), Duration::from_secs(1_700_000_000)),
                seed: seed * 100 + number as u64,
                audio: AudioLimits::default(),
                data,
            }),
            response: None,
            spent: Duration::ZERO,
        };
        let mut world = Self {
            now: origin(),
            cores: (0..cores).map(core).collect(),
            clients: Vec::new(),
            losses: Losses::default(),
            pipe_rate: None,
            busy_until: BTreeMap::new(),
            homes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            stopwatch: None,
        };
        for core in 0..cores {
            world.request(core, Request::CreateRouter { router: ROUTER, account: Account(0) });
        }
        world
    }

    fn input(&mut self, core: usize, input: Input<'_>) {
        let began = self.stopwatch.map(|now| now());
        self.cores[core].media.handle_input(self.now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| self.cores[core].media.poll_output()).collect();
        self.cores[core].spent += self.stopwatch.zip(began).map_or(Duration::ZERO, |(now, began)| now() - began);
        for output in outputs {
            match output {
                Output::Transmit(transmit) => {
                    let size = transmit.segment_size.unwrap_or(transmit.contents.len());
                    let client = self.clients.iter().position(|client| client.address == transmit.destination);
                    for datagram in transmit.contents.chunks(size) {
                        assert!(datagram.len() <= 1_280 - 48, "{} bytes", datagram.len());
                        let arrival = Arrival::ToClient(client.expect("a client"), datagram.to_vec());
                        self.send(self.losses.datagrams, arrival);
                    }
                }
                Output::Data { to, message } => {
                    self.send(self.losses.messages, Arrival::Data(core_at(to), end(core), message));
                }
                Output::Feedback { to, feedback } => {
                    self.send(self.losses.feedback, Arrival::Feedback(core_at(to), end(core), feedback));
                }
                Output::Event(WorkerEvent::Response { result, .. }) => self.cores[core].response = Some(result),
                Output::Event(event) => self.cores[core].events.push(event),
                Output::Frames { .. } | Output::Forward { .. } | Output::AddressOwned { .. } => {}
            }
        }
    }

    fn send(&mut self, loss: f64, arrival: Arrival) {
        if !self.rng.random_bool(loss) {
            self.sequence += 1;
            let sent = self.sent_at(&arrival);
            self.queue.insert((sent + Duration::from_millis(10), self.sequence), arrival);
        }
    }

    /// When all of it has left.
    fn sent_at(&mut self, arrival: &Arrival) -> Instant {
        let (Some(rate), Arrival::Data(to, from, message)) = (self.pipe_rate, arrival) else { return self.now };
        let until = self.busy_until.entry((*from, *to)).or_insert(self.now);
        *until = self.now.max(*until) + Duration::from_secs_f64(message.encoded_len() as f64 / rate as f64);
        *until
    }

    /// Has a client do something, and sends what comes of it.
    pub(crate) fn act(&mut self, client: usize, act: impl FnOnce(&mut Client, Instant)) {
        act(&mut self.clients[client], self.now);
        for datagram in self.clients[client].take_datagrams() {
            let (home, address) = (self.homes[client], self.clients[client].address);
            self.send(self.losses.datagrams, Arrival::ToCore(home, address, datagram));
        }
    }

    /// The answer to a request.
    pub(crate) fn try_request(&mut self, core: usize, request: Request) -> Result<Response, RequestError> {
        self.input(core, Input::Command(WorkerCommand::Request { id: RequestId(1), request }));
        self.cores[core].response.take().expect("an answer")
    }

    pub(crate) fn request(&mut self, core: usize, request: Request) -> Response {
        self.try_request(core, request).expect("it is granted")
    }

    /// A client of a core that has keys, and calls by SCTP if it is to. Yields its number.
    pub(crate) fn add_client(&mut self, core: usize, calls: bool) -> usize {
        let number = self.clients.len();
        let client = Client::new(self.now, number as u8 + 1);
        let (transport, dtls) = (client.transport, client.parameters());
        self.clients.push(client);
        self.homes.push(core);
        let ufrag = make_ufrag(WorkerIndex(0), &format!("client{number:02}"));
        let ice = IceCredentials { ufrag, pwd: "a password of thirty-two letters".to_owned() };
        let request =
            Request::CreateWebRtcTransport { router: ROUTER, transport, ice: ice.clone(), data_channels: true };
        self.request(core, request);
        self.request(core, Request::ConnectWebRtcTransport { transport, dtls });
        let losses = std::mem::take(&mut self.losses);
        self.act(number, |client, now| client.begin(now, &ice));
        self.pass(Duration::from_millis(500));
        if calls {
            self.act(number, Client::connect);
            self.pass(Duration::from_millis(500));
            assert!(self.clients[number].is_connected());
        }
        self.losses = losses;
        number
    }

    pub(crate) fn produce(&mut self, client: usize, number: u8, stream: SctpStreamParameters) {
        let (core, transport) = (self.homes[client], self.clients[client].transport);
        self.request(core, Request::ProduceData { transport, producer: producer(number), stream });
    }

    /// The consumer has the producer's parameters, on a stream of its own.
    pub(crate) fn consume(&mut self, client: usize, number: u8, of: u8, stream: SctpStreamParameters) {
        let (core, transport) = (self.homes[client], self.clients[client].transport);
        let (producer, consumer) = (producer(of), consumer(number));
        self.request(core, Request::ConsumeData { transport, consumer, producer, stream, paused: false });
    }

    /// A route of a producer from one core to another, whose producer at its end is made if it is not there.
    pub(crate) fn route(&mut self, number: u8, (from, to): (usize, usize), route: u32, stream: SctpStreamParameters) {
        let id = producer(number);
        let way = RouteIn { from: end(from), route: RouteId(route), epoch: RouteEpoch(1) };
        let request = Request::MovePipeProducer { producer: id, route: Some(way) };
        if self.try_request(to, request).is_err() {
            let request = Request::CreatePipeDataProducer { router: ROUTER, producer: id, stream, route: Some(way) };
            self.request(to, request);
        }
        self.open_route(number, (from, to), route);
    }

    /// The beginning of a route.
    pub(crate) fn open_route(&mut self, number: u8, (from, to): (usize, usize), route: u32) {
        let (producer, route, epoch) = (producer(number), RouteId(route), RouteEpoch(1));
        let to = end(to);
        self.request(from, Request::CreatePipeConsumer { producer, to, route, epoch, wanted: Wanted::ALL });
    }

    pub(crate) fn close_route(&mut self, (from, to): (usize, usize), route: u32) {
        let (route, epoch) = (RouteId(route), RouteEpoch(1));
        self.request(from, Request::ClosePipeConsumer { to: end(to), route, epoch });
    }

    /// The clients are gone, without a word.
    #[allow(dead_code, reason = "of those who weigh cores")]
    pub(crate) fn forget_clients(&mut self) {
        self.clients = Vec::new();
        self.queue.clear();
    }

    /// A message of a route comes, whoever sent it.
    pub(crate) fn deliver(&mut self, core: usize, from: PipeEnd, message: DataMessage) {
        self.input(core, Input::Data { from, message });
    }

    /// Something is said of a route, whoever said it.
    pub(crate) fn tell(&mut self, core: usize, from: PipeEnd, feedback: RouteFeedback) {
        self.input(core, Input::Feedback { from, feedback });
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.next_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = until;
    }

    fn next_at(&self) -> Option<Instant> {
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let cores = self.cores.iter().filter_map(|core| core.media.poll_timeout());
        let clients = self.clients.iter().filter_map(Client::poll_timeout);
        cores.chain(clients).chain(arrival).min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Arrival::ToCore(core, source, mut data) => {
                    self.input(core, Input::Datagrams(&mut [Datagram { source, data: &mut data }]));
                }
                Arrival::ToClient(client, data) => self.act(client, |client, now| client.receive(now, &data)),
                Arrival::Data(core, from, message) => self.input(core, Input::Data { from, message }),
                Arrival::Feedback(core, from, feedback) => self.input(core, Input::Feedback { from, feedback }),
            }
        }
        for core in 0..self.cores.len() {
            if self.cores[core].media.poll_timeout().is_some_and(|at| at <= now) {
                self.input(core, Input::Timeout);
                assert!(self.cores[core].media.poll_timeout().is_none_or(|at| at > now), "woken for ever");
            }
        }
        for client in 0..self.clients.len() {
            if self.clients[client].poll_timeout().is_some_and(|at| at <= now) {
                self.act(client, Client::handle_timeout);
            }
        }
    }

    pub(crate) fn transport_stats(&mut self, client: usize) -> TransportStats {
        let (core, transport) = (self.homes[client], self.clients[client].transport);
        match self.request(core, Request::TransportStats { transport }) {
            Response::TransportStats(stats) => *stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn producer_stats(&mut self, core: usize, number: u8) -> DataStats {
        match self.request(core, Request::DataProducerStats { producer: producer(number) }) {
            Response::DataStats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn consumer_stats(&mut self, core: usize, number: u8) -> DataStats {
        match self.request(core, Request::DataConsumerStats { consumer: consumer(number) }) {
            Response::DataStats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn snapshot(&mut self, core: usize) -> WorkerSnapshot {
        match self.request(core, Request::Snapshot) {
            Response::Snapshot(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn drops(&mut self, core: usize, reason: DropReason) -> u64 {
        let drops = self.snapshot(core).drops;
        drops.iter().find(|(label, _)| *label == reason.label()).map_or(0, |(_, count)| *count)
    }

    /// Whether a consumer was closed by its core.
    pub(crate) fn is_closed(&self, core: usize, number: u8) -> bool {
        let is_it = |event: &WorkerEvent| matches!(event, WorkerEvent::DataConsumerClosed { consumer: closed, .. } if *closed == consumer(number));
        self.cores[core].events.iter().any(is_it)
    }
}
