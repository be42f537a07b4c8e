//! Rooms as clients, workers and other nodes see them: scripted workers that answer as real ones do, and a mesh and a
//! placement of channels between two nodes. Time is paused: whatever waits for a time-out gets it at once.

mod changes;
mod client;
mod crowd;
mod data;
mod dialects;
mod entrance;
mod events;
mod failures;
mod fakes;
mod meet;
mod mesh;
mod names;
pub(crate) mod net;
mod operations;
mod overload;
mod pace;
pub(crate) mod parts;
mod patience;
mod producers;
mod real;
mod resume;
mod rosters;
mod rtp;
pub(crate) mod seeds;
mod signalling;
mod stage;
mod statistics;
mod subscriptions;
mod traces;
mod transports;

use std::sync::Arc;
use std::time::Duration;

use sluice_media::messages::{WorkerEvent, WorkerIndex};
use sluice_media::{DataLimits, TransportAddress};
use sluice_proto::ids::{NodeId, NodeInstance, Region};
use sluice_proto::ortc::DtlsFingerprint;
use tokio::sync::mpsc;

use self::client::Client;
use self::fakes::{FakeMesh, FakePlacement, FakeWorker, World};
use crate::address_limits::AddressLimits;
use crate::cluster::clock::ClusterClock;
use crate::config::NodeConfig;
use crate::events::Events;
use crate::events::audit::Lines;
use crate::events::webhooks::Outgoing;
use crate::limits::Limits;
use crate::ports::{MediaWorker, PlacementPort, Ports};
use crate::rooms::{Rooms, RoomsConfig};
use crate::vitals::Vitals;

/// Longer than anything takes that is not waiting for a time-out of its own.
const SOON: Duration = Duration::from_secs(5);

/// A node with everything but its rooms faked.
struct TestNode {
    instance: NodeInstance,
    rooms: Rooms,
    workers: Vec<Arc<FakeWorker>>,
    events: mpsc::Sender<(WorkerIndex, WorkerEvent)>,
    clock: ClusterClock,
    /// The events that it tells.
    told: mpsc::Receiver<Outgoing>,
    /// What it records.
    audit: Lines,
}

impl TestNode {
    fn start(world: &World, name: &str, workers: u16) -> Self {
        Self::start_with(world, name, workers, Limits::default())
    }

    fn start_with(world: &World, name: &str, workers: u16, limits: Limits) -> Self {
        let instance = NodeInstance { node: NodeId::new(name).unwrap(), incarnation: 1 };
        let placement = Arc::new(FakePlacement::join(world, &instance));
        Self::start_in(world, instance, workers, limits, placement)
    }

    fn start_in(
        world: &World,
        instance: NodeInstance,
        workers: u16,
        limits: Limits,
        placement: Arc<dyn PlacementPort>,
    ) -> Self {
        let workers: Vec<_> = (0..workers).map(|index| Arc::new(FakeWorker::new(WorkerIndex(index)))).collect();
        let (worker_events_in, worker_events) = mpsc::channel(64);
        let (mesh, mesh_signals) = FakeMesh::join(world, &instance);
        let clock = ClusterClock::default();
        let (events, told, audit) = Events::heard(&instance);
        let config = RoomsConfig {
            instance: instance.clone(),
            region: Region::new(format!("region-of-{}", instance.node)).unwrap(),
            media_addresses: [TransportAddress::Udp, TransportAddress::Tcp]
                .map(|of| of(([192, 0, 2, 1], 4_444).into()))
                .to_vec(),
            fingerprints: vec![DtlsFingerprint::Sha256 { value: [7; 32] }],
            limits,
            codecs: crate::ortc::MIME_TYPES.map(str::to_owned).to_vec(),
            clock: clock.clone(),
            address_limits: AddressLimits::new(&NodeConfig::default()),
            turn: None,
            data: Some(DataLimits::default()),
        };
        let ports = Ports {
            workers: workers.iter().map(|worker| Arc::clone(worker) as Arc<dyn MediaWorker>).collect(),
            worker_events,
            mesh: Arc::new(mesh),
            mesh_signals,
            placement,
            events,
            vitals: Vitals::default(),
        };
        Self { rooms: Rooms::spawn(config, ports), instance, workers, events: worker_events_in, told, audit, clock }
    }

    /// Opens a WebSocket.
    fn open(&self, room: &str, peer: &str) -> Client {
        Client::open(&self.rooms, room, peer, None)
    }

    /// Opens a WebSocket as somebody who was in the room already.
    fn reopen(&self, room: &str, peer: &str, secret: &str) -> Client {
        Client::open(&self.rooms, room, peer, Some(secret))
    }

    /// Opens a WebSocket and joins with two transports.
    async fn join(&self, room: &str, peer: &str) -> Client {
        let mut client = self.open(room, peer);
        client.join().await;
        client
    }

    async fn tell(&self, worker: u16, event: WorkerEvent) {
        self.events.send((WorkerIndex(worker), event)).await.unwrap();
    }
}
