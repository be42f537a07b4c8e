//! Two nodes whose users publish, come and go.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::messages::{PipeEnd, Request, WorkerIndex};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::{Input, Output};
use sluice_proto::ids::{NamespaceId, ProducerId, RoomId, RoomKey};
use sluice_proto::ortc::MediaKind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::{Content, OutletLimits, Pipes, Source};
use super::cores::{CoreWorker, ROUTER, routed};
use crate::pipes::Home;
use crate::ports::MediaWorker;
use crate::tests::net::{Arrival, Net, NetPort, Received, instance};
use crate::vitals::Vitals;
use crate::worker::FrameOut;

const STEP: Duration = Duration::from_millis(10);

/// Every publisher sends a packet each so many steps, as Opus does.
const STEPS_PER_PACKET: u32 = 2;

struct Node {
    pipes: Pipes,
    port: Arc<NetPort>,
    workers: Vec<Arc<CoreWorker>>,
    /// What this node knows of the other one's producers, which is not what is so: rosters take their own time.
    known: BTreeSet<ProducerId>,
    wanted: BTreeSet<(ProducerId, u16)>,
}

#[derive(Clone)]
struct Producer {
    home: usize,
    worker: u16,
    ssrc: u32,
    sequence: u16,
}

/// What a node hears from rosters.
enum News {
    Came(ProducerId),
    Gone(ProducerId),
}

pub(super) struct World {
    rng: ChaCha8Rng,
    net: Net,
    nodes: [Node; 2],
    producers: BTreeMap<ProducerId, Producer>,
    /// By the node that hears it, in order.
    news: [VecDeque<(Instant, News)>; 2],
    next: u32,
    steps: u32,
    /// Stalls that end: node and time.
    stalls: Vec<(usize, Instant)>,
    /// Workers that have no room: node, worker and time.
    full: Vec<(usize, usize, Instant)>,
}

/// How much has flowed.
pub(super) struct Counts {
    received: HashMap<(usize, ProducerId, u16), u64>,
    frames: [Received; 2],
}

fn certificate() -> Arc<DtlsCertificate> {
    static CERTIFICATE: OnceLock<Arc<DtlsCertificate>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| DtlsCertificate::generate().unwrap()).clone()
}

fn room() -> RoomKey {
    RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new("room").unwrap() }
}

impl World {
    /// With so many routes into each node: few are used again soon.
    pub(super) fn new(seed: u64, routes: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        CoreWorker::forget_all();
        let (net, signals) = Net::new(rng.random(), 2, routes);
        let mut signals = signals.into_iter();
        let nodes = [0, 1].map(|node| {
            let workers: Vec<_> =
                (0..2).map(|index| Arc::new(CoreWorker::new(WorkerIndex(index), certificate()))).collect();
            let ports = workers.iter().map(|worker| Arc::clone(worker) as Arc<dyn MediaWorker>).collect();
            let limits = OutletLimits { all: 10_000, of_one_node: 5_000 };
            let port = Arc::new(net.port(node));
            let pipes = Pipes::new(ports, port.clone(), limits, Vitals::default());
            let mut unbounded = signals.next().unwrap();
            let (bounded, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                while let Some(signal) = unbounded.recv().await {
                    if bounded.send(signal).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(pipes.clone().run(receiver));
            Node { pipes, port, workers, known: BTreeSet::new(), wanted: BTreeSet::new() }
        });
        net.up(0, 1);
        let news = [VecDeque::new(), VecDeque::new()];
        let (stalls, full) = (Vec::new(), Vec::new());
        Self { rng, net, nodes, producers: BTreeMap::new(), news, next: 0, steps: 0, stalls, full }
    }

    /// Lets time pass, with or without anything happening.
    pub(super) async fn run(&mut self, time: Duration, turmoil: bool) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if turmoil && self.rng.random_bool(0.2) {
                self.act();
            }
            self.end_troubles(false);
            self.hear_news();
            self.steps += 1;
            self.media();
            tokio::time::sleep(STEP).await;
        }
    }

    /// Nothing is wrong with anything from now on.
    pub(super) fn heal(&mut self) {
        self.end_troubles(true);
        if !self.net.is_up(0, 1) {
            self.net.up(0, 1);
        }
        self.net.heal_paths();
    }

    pub(super) fn reconnect(&mut self) {
        self.net.up(0, 1);
    }

    pub(super) fn publish_many(&mut self, home: usize, count: usize) {
        self.net.heal_paths();
        (0..count).for_each(|_| self.publish(home));
    }

    pub(super) fn want_everything(&mut self, node: usize) {
        for producer in self.nodes[node].known.clone() {
            self.want(node, producer, 0);
        }
    }

    fn act(&mut self) {
        let node = self.rng.random_range(0..2);
        match self.rng.random_range(0..100) {
            0..20 if self.producers.len() < 12 => self.publish(node),
            20..28 => self.unpublish(),
            28..58 => {
                let known: Vec<ProducerId> = self.nodes[node].known.iter().copied().collect();
                if !known.is_empty() {
                    let producer = known[self.rng.random_range(0..known.len())];
                    let worker = self.rng.random_range(0..2);
                    self.want(node, producer, worker);
                }
            }
            58..80 => {
                let wanted: Vec<_> = self.nodes[node].wanted.iter().copied().collect();
                if !wanted.is_empty() {
                    let (producer, worker) = wanted[self.rng.random_range(0..wanted.len())];
                    self.nodes[node].wanted.remove(&(producer, worker));
                    self.nodes[node].pipes.release(producer, WorkerIndex(worker));
                }
            }
            80..84 => self.net.down(0, 1),
            84..90 if !self.net.is_up(0, 1) => self.net.up(0, 1),
            90..93 => self.reconnect_if_up(),
            93..96 => {
                self.net.set_stalled(node, true);
                let until = self.soon(2_000);
                self.stalls.push((node, until));
            }
            96..98 => {
                let worker = self.rng.random_range(0..2);
                self.nodes[node].workers[worker].set_full(true);
                let until = self.soon(500);
                self.full.push((node, worker, until));
            }
            _ => {}
        }
    }

    fn reconnect_if_up(&mut self) {
        if self.net.is_up(0, 1) {
            self.reconnect();
        }
    }

    fn soon(&mut self, most_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(0..most_ms))
    }

    fn end_troubles(&mut self, all: bool) {
        let now = Instant::now();
        for (node, _) in self.stalls.extract_if(.., |(_, until)| all || *until <= now) {
            self.net.set_stalled(node, false);
        }
        for (node, worker, _) in self.full.extract_if(.., |(_, _, until)| all || *until <= now) {
            self.nodes[node].workers[worker].set_full(false);
        }
    }

    /// Somebody begins to publish. Rosters may be faster than the control plane's own word, or seconds behind.
    fn publish(&mut self, home: usize) {
        self.next += 1;
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.next.to_be_bytes());
        let (id, worker, ssrc) = (ProducerId::from_bytes(bytes), self.rng.random_range(0..2), 1_000 + self.next);
        self.nodes[home].workers[usize::from(worker)].produce(id, ssrc);
        self.nodes[home].pipes.publish(id, room(), WorkerIndex(worker));
        self.producers.insert(id, Producer { home, worker, ssrc, sequence: 0 });
        self.nodes[home].known.insert(id);
        self.tell(1 - home, News::Came(id));
    }

    fn unpublish(&mut self) {
        if self.producers.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.producers.len());
        let (&id, Producer { home, worker, .. }) = self.producers.iter().nth(index).unwrap();
        let (home, worker) = (*home, *worker);
        self.producers.remove(&id);
        let node = &mut self.nodes[home];
        node.workers[usize::from(worker)].ask(Request::CloseProducer { producer: id }).unwrap();
        node.known.remove(&id);
        node.wanted.retain(|(producer, _)| *producer != id);
        node.pipes.gone(id);
        node.pipes.unpublish(id);
        self.tell(1 - home, News::Gone(id));
    }

    fn tell(&mut self, node: usize, news: News) {
        let after = self.news[node].back().map_or(Instant::now(), |(at, _)| *at);
        let at = self.soon(1_000).max(after);
        self.news[node].push_back((at, news));
    }

    fn hear_news(&mut self) {
        let now = Instant::now();
        for (node, news) in self.nodes.iter_mut().zip(&mut self.news) {
            while let Some((_, news)) = news.pop_front_if(|(at, _)| *at <= now) {
                match news {
                    News::Came(producer) => drop(node.known.insert(producer)),
                    News::Gone(producer) => {
                        node.known.remove(&producer);
                        node.wanted.retain(|(wanted, _)| *wanted != producer);
                        node.pipes.gone(producer);
                    }
                }
            }
        }
    }

    fn want(&mut self, node: usize, id: ProducerId, worker: u16) {
        let number = u32::from_be_bytes(id.to_bytes()[..4].try_into().unwrap());
        let producer = self.producers.get(&id).cloned();
        // What is gone already, as only its own node knows, lived at the other one.
        let (home, at) = producer.map_or((1 - node, 0), |producer| (producer.home, producer.worker));
        let home = if home == node { Home::Worker(WorkerIndex(at)) } else { Home::Node(instance(home)) };
        if home == Home::Worker(WorkerIndex(worker)) || !self.nodes[node].wanted.insert((id, worker)) {
            return;
        }
        let rtp = Arc::new(routed(1_000 + number));
        let source = Source {
            producer: id,
            room: room(),
            content: Content::Media { kind: MediaKind::Audio, rtp },
            paused: false,
            home,
        };
        self.nodes[node].pipes.want(&source, WorkerIndex(worker), ROUTER);
    }

    fn media(&mut self) {
        if self.steps.is_multiple_of(STEPS_PER_PACKET) {
            for producer in self.producers.values_mut() {
                producer.sequence = producer.sequence.wrapping_add(1);
                let worker = &self.nodes[producer.home].workers[usize::from(producer.worker)];
                worker.publish(producer.ssrc, producer.sequence);
            }
        }
        for node in 0..2 {
            for (worker, link, arrival) in self.net.deliver(node) {
                let worker = &self.nodes[node].workers[usize::from(worker.0)];
                let from = PipeEnd::Node(link);
                match arrival {
                    Arrival::Frame(frame) => worker.input(Input::Frames { from, frames: &mut vec![frame] }),
                    Arrival::Feedback(feedback) => worker.input(Input::Feedback { from, feedback }),
                    Arrival::Data(message) => worker.input(Input::Data { from, message }),
                }
            }
            // What goes from worker to worker may go on to a node, and the other way round.
            for _ in 0..3 {
                self.nodes[node].workers.iter().for_each(|worker| worker.on_time());
                self.pass_on(node);
            }
        }
    }

    fn pass_on(&self, node: usize) {
        let Node { workers, port, .. } = &self.nodes[node];
        for (index, worker) in (0..).zip(workers) {
            let from = PipeEnd::Worker(WorkerIndex(index));
            for output in worker.take_outputs() {
                match output {
                    Output::Frames { to: PipeEnd::Node(link), mut frames } => port.send_frames(link, &mut frames),
                    Output::Feedback { to: PipeEnd::Node(link), feedback } => port.send_feedback(link, feedback),
                    Output::Frames { to: PipeEnd::Worker(to), mut frames } => {
                        workers[usize::from(to.0)].input(Input::Frames { from, frames: &mut frames });
                    }
                    Output::Feedback { to: PipeEnd::Worker(to), feedback } => {
                        workers[usize::from(to.0)].input(Input::Feedback { from, feedback });
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let mut received = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for (producer, worker) in &node.wanted {
                let count = node.workers[usize::from(*worker)].received(*producer);
                received.insert((index, *producer, *worker), count.expect("what is wanted is there"));
            }
        }
        Counts { received, frames: [0, 1].map(|node| self.net.received(node)) }
    }

    /// What was wanted has flowed since, and nothing else has.
    pub(super) fn judge(&self, before: &Counts, time: Duration) {
        let packets = time.as_millis() as u64 / (STEP.as_millis() as u64 * u64::from(STEPS_PER_PACKET));
        let now = self.counts();
        for (key, count) in &now.received {
            let flowed = count - before.received[key];
            assert!((packets - 5..=packets + 5).contains(&flowed), "{flowed} of {packets} packets of {key:?}");
        }
        for index in 0..2 {
            let (here, there) = (&self.nodes[index], &self.nodes[1 - index]);
            let piped: BTreeSet<ProducerId> = here
                .wanted
                .iter()
                .map(|(producer, _)| *producer)
                .filter(|producer| self.producers[producer].home != index)
                .collect();
            let (now, before) = (now.frames[index], before.frames[index]);
            let (unknown, frames) = (now.unknown - before.unknown, now.frames - before.frames);
            let wanted = piped.len() as u64;
            assert_eq!(unknown, 0, "frames that nobody wants came to node {index}");
            assert!(
                (wanted * (packets - 5)..=wanted * (packets + 5)).contains(&frames),
                "{frames} frames of {wanted} producers came to node {index}"
            );
            let (here, there) = (here.pipes.snapshot(), there.pipes.snapshot());
            assert_eq!((here.routes_in, here.waiting, here.commands_waiting), (wanted, 0, 0), "node {index}");
            assert_eq!(there.routes_out, wanted, "out of node {}", 1 - index);
            self.judge_workers(index);
        }
    }

    /// The cores have what is wanted at them, branches included, and nothing of what was.
    fn judge_workers(&self, index: usize) {
        let node = &self.nodes[index];
        let snapshots: Vec<_> = node.workers.iter().map(|worker| worker.snapshot()).collect();
        let mut branches = 0;
        let mut entries: BTreeMap<ProducerId, u64> = BTreeMap::new();
        for (producer, _) in &node.wanted {
            match self.producers[producer].home == index {
                true => branches += 1,
                false => *entries.entry(*producer).or_default() += 1,
            }
        }
        // A producer that comes in where nobody wants it any more does so for the sake of its branches.
        let remote = snapshots.iter().map(|snapshot| snapshot.pipe_producers).sum::<u64>() - branches;
        let fewest: u64 = entries.values().sum();
        assert!((fewest..=2 * entries.len() as u64).contains(&remote), "{remote} pipe producers at node {index}");
        let out = node.pipes.snapshot().routes_out;
        let consumers: u64 = snapshots.iter().map(|snapshot| snapshot.pipe_consumers).sum();
        assert_eq!(consumers, out + branches + (remote - entries.len() as u64), "pipe consumers at node {index}");
    }
}
