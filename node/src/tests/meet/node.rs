//! A node: real rooms and pipes over real workers, which the simulation turns.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sluice_media::Transmit;
use sluice_media::messages::{Request, WorkerIndex};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::{DataLimits, TransportAddress};
use sluice_mesh::FrameSink;
use sluice_proto::ids::Region;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::address_limits::AddressLimits;
use crate::cluster::clock::ClusterClock;
use crate::config::NodeConfig;
use crate::events::Events;
use crate::limits::Limits;
use crate::ports::{Answer, MediaWorker, MeshSignal, Ports};
use crate::rooms::{Rooms, RoomsConfig};
use crate::tests::net::{Arrival, Net};
use crate::tests::rosters::Rosters;
use crate::vitals::Vitals;
use crate::worker::FrameOut;
use crate::worker::simulated::{self, SimulatedWorker};

/// Signals that wait for the pipes: few, so that the mesh is slowed down by them.
const SIGNALS: usize = 4;

pub(super) struct Node {
    number: usize,
    pub(super) rooms: Rooms,
    pub(super) clock: ClusterClock,
    vitals: Vitals,
    workers: Vec<SimulatedWorker>,
    sinks: Vec<Arc<dyn FrameSink>>,
    /// Until when a worker stands still, if it does.
    paused_until: Vec<Option<Instant>>,
    stalled_until: Option<Instant>,
    dead: bool,
    /// By which the kernel chooses a socket for an address.
    hash: u64,
}

fn certificate() -> &'static Arc<DtlsCertificate> {
    static CERTIFICATE: OnceLock<Arc<DtlsCertificate>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| DtlsCertificate::generate().unwrap())
}

impl Node {
    pub(super) fn start(
        number: usize,
        workers: u16,
        rng: &mut ChaCha8Rng,
        (net, mut signals): (&Net, mpsc::UnboundedReceiver<MeshSignal>),
        rosters: &Rosters,
    ) -> Self {
        let (port, instance) = (Arc::new(net.port(number)), net.instance(number));
        let frame_out: Arc<dyn FrameOut> = port.clone();
        let (workers, worker_events) = simulated::workers(workers, certificate(), &frame_out, || rng.random());
        let (bounded, mesh_signals) = mpsc::channel(SIGNALS);
        tokio::spawn(async move {
            while let Some(signal) = signals.recv().await {
                if bounded.send(signal).await.is_err() {
                    return;
                }
            }
        });
        let (clock, vitals) = (ClusterClock::default(), Vitals::default());
        let config = RoomsConfig {
            instance: instance.clone(),
            region: Region::new(format!("region-of-{}", instance.node)).unwrap(),
            media_addresses: vec![TransportAddress::Udp(([10, 1, 0, number as u8], 4444).into())],
            fingerprints: certificate().fingerprints(),
            // Shorter than what is waited for when everybody has gone.
            limits: Limits { resume_within: Duration::from_secs(1), ..Limits::default() },
            codecs: crate::ortc::MIME_TYPES.map(str::to_owned).to_vec(),
            clock: clock.clone(),
            address_limits: AddressLimits::new(&NodeConfig::default()),
            turn: None,
            data: Some(DataLimits::default()),
        };
        let ports = Ports {
            workers: workers.iter().map(|worker| Arc::new(worker.handle.clone()) as Arc<dyn MediaWorker>).collect(),
            worker_events,
            mesh: port,
            mesh_signals,
            events: Events::unheard(&instance),
            placement: Arc::new(rosters.port(number, instance)),
            vitals: vitals.clone(),
        };
        Self {
            number,
            rooms: Rooms::spawn(config, ports),
            clock,
            vitals,
            sinks: workers.iter().map(|worker| worker.handle.frame_sink()).collect(),
            paused_until: vec![None; workers.len()],
            workers,
            stalled_until: None,
            dead: false,
            hash: rng.random(),
        }
    }

    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// The node stands still: nothing comes in or goes out.
    pub(super) fn stall(&mut self, until: Instant) {
        self.stalled_until = Some(until);
    }

    /// It also does when it is dead.
    pub(super) fn is_stalled(&self) -> bool {
        self.dead || self.stalled_until.is_some_and(|until| Instant::now() < until)
    }

    /// The process is gone. What is left of its tasks is cut off from the world.
    pub(super) fn die(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Ends all that runs in it.
    pub(super) async fn shut_down(self) {
        let Self { rooms, workers, vitals, dead, .. } = self;
        assert!(dead || vitals.lost().is_none(), "{:?} is lost", vitals.lost());
        // Without them nothing is waited for any more.
        drop(workers);
        rooms.shutdown().await;
    }

    /// One worker does.
    pub(super) fn pause_worker(&mut self, worker: usize, until: Instant) {
        self.paused_until[worker] = Some(until);
    }

    pub(super) fn go_on(&mut self) {
        self.stalled_until = None;
        self.paused_until.fill(None);
    }

    /// A datagram of a user comes to one of the workers' sockets, by its source as the kernel chooses.
    pub(super) fn receive(&mut self, source: SocketAddr, data: Vec<u8>) {
        let hash = (u64::from(source.port()) ^ self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let worker = hash as usize % self.workers.len();
        self.workers[worker].receive(source, data);
    }

    /// Takes what came by the mesh and turns the workers; yields what they send to users.
    pub(super) fn turn(&mut self, net: &Net) -> Vec<Transmit> {
        net.set_stalled(self.number, self.is_stalled());
        if self.is_stalled() {
            return Vec::new();
        }
        for (worker, link, arrival) in net.deliver(self.number) {
            let sink = &self.sinks[usize::from(worker.0)];
            match arrival {
                Arrival::Frame(frame) => sink.deliver(link, &mut vec![frame]),
                Arrival::Feedback(feedback) => sink.feedback(link, feedback),
                Arrival::Data(message) => sink.data(link, message),
            }
        }
        let now = Instant::now();
        let running =
            self.workers.iter_mut().zip(&self.paused_until).filter(|(_, until)| until.is_none_or(|at| at <= now));
        running.flat_map(|(worker, _)| worker.turn()).collect()
    }

    /// Asks every worker for its counts, which it tells when it is turned.
    pub(super) fn ask_snapshots(&self) -> Vec<Answer> {
        self.workers.iter().map(|worker| MediaWorker::request(&worker.handle, Request::Snapshot)).collect()
    }

    /// A watch takes a worker for stuck, or no longer: nobody new is placed there.
    pub(super) fn set_stuck(&self, worker: usize, stuck: bool) {
        self.rooms.set_stuck(WorkerIndex(worker as u16), stuck);
    }
}
