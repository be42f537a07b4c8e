//! What `/metrics` tells: every metric of the node's control plane and workers with its help and unit. Mesh,
//! placement and rooms register their own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use sluice_media::messages::{Request, Response, WorkerSnapshot};
use sluice_mesh::Mesh;
use sluice_placement::{Members, Membership, Placement};
use sluice_proto::ids::NodeInstance;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::Namespaces;
use crate::events::Events;
use crate::events::usage::{NamespaceUsage, NodeUsage};
use crate::events::webhooks::WebhookCounters;
use crate::listener::PortCounters;
use crate::rooms::{Rooms, RoomsSnapshot};
use crate::turn::TurnCounters;
use crate::worker::WorkerHandle;

/// Of every metric's name.
const PREFIX: &str = "sluice";

/// A worker answers within microseconds. One that is stuck must not hold up what is known of the others.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(1);

/// Where metrics, facts and the admin port have their knowledge from.
pub(crate) struct Sources {
    /// This life of the node.
    pub(crate) instance: NodeInstance,
    /// The media workers.
    pub(crate) workers: Vec<WorkerHandle>,
    /// The rooms.
    pub(crate) rooms: Rooms,
    /// The pipes.
    pub(crate) mesh: Mesh,
    /// The members.
    pub(crate) members: watch::Receiver<Arc<Members>>,
    /// The users' port.
    pub(crate) users_port: Arc<PortCounters>,
    /// Unless media go by UDP only.
    pub(crate) media_port: Option<Arc<PortCounters>>,
    /// TURN on the users' port, if it is served.
    pub(crate) turn: Option<Arc<TurnCounters>>,
    /// What rooms tell.
    pub(crate) events: Events,
    /// The tenants.
    pub(crate) namespaces: Arc<Namespaces>,
}

impl Sources {
    /// The counters of each worker that answers within [`SNAPSHOT_WITHIN`], by its index.
    pub(crate) async fn worker_snapshots(&self) -> Vec<(u16, WorkerSnapshot)> {
        let asked = self.workers.iter().map(async |worker| {
            match timeout(SNAPSHOT_WITHIN, worker.request(Request::Snapshot)).await {
                Ok(Ok(Response::Snapshot(snapshot))) => Some((worker.index().0, *snapshot)),
                _ => None,
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// What namespaces have used until now.
    pub(crate) async fn usage(&self) -> NodeUsage {
        let usage = self.events.usage();
        usage.set_traffic(&self.worker_snapshots().await);
        usage.totals()
    }

    /// Writes that down, if there is a data directory.
    pub(crate) async fn write_usage(&self) {
        let usage = self.events.usage().clone();
        usage.set_traffic(&self.worker_snapshots().await);
        // An error would be a panic, which has been logged.
        let _ = tokio::task::spawn_blocking(move || usage.write()).await;
    }
}

/// The metrics endpoint of a node.
pub(crate) struct Metrics {
    sources: Arc<Sources>,
    /// Metrics that count by themselves.
    live: Registry,
    /// `None` where the system tells nothing of its processes.
    process: Option<Mutex<System>>,
}

impl Metrics {
    /// Registers what mesh, placement and rooms count.
    pub(crate) fn new(sources: Arc<Sources>, membership: &Membership, placement: &Placement) -> Self {
        let mut live = Registry::with_prefix(PREFIX);
        sources.mesh.register_metrics(&mut live);
        sources.rooms.register_metrics(&mut live);
        membership.register_metrics(&mut live);
        placement.register_metrics(&mut live);
        Self { sources, live, process: System::new().ok().map(Mutex::new) }
    }

    /// The OpenMetrics text of this moment.
    pub(crate) async fn encode(&self) -> Result<String, fmt::Error> {
        let (workers, usage) = (self.sources.worker_snapshots().await, self.sources.events.usage());
        usage.set_traffic(&workers);
        let sample = Sample {
            workers,
            usage: usage.totals(),
            events: self.sources.events.clone(),
            rooms: self.sources.rooms.snapshot(),
            users_port: self.sources.users_port.clone(),
            media_port: self.sources.media_port.clone(),
            turn: self.sources.turn.clone(),
            with_other_tenants: self.sources.members.borrow().with_other_tenants().count() as u64,
            process: self.process_usage(),
            instance: self.sources.instance.clone(),
        };
        let mut sampled = Registry::with_prefix(PREFIX);
        sampled.register_collector(Box::new(sample));
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.live)?;
        prometheus_client::encoding::text::encode_registry(&mut text, &sampled)?;
        prometheus_client::encoding::text::encode_eof(&mut text)?;
        Ok(text)
    }

    fn process_usage(&self) -> ProcessUsage {
        let pid = Pid::from_u32(std::process::id());
        let Some(Ok(mut system)) = self.process.as_ref().map(Mutex::lock) else { return ProcessUsage::default() };
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
        system.process(pid).map_or_else(ProcessUsage::default, |process| ProcessUsage {
            cpu_seconds: process.accumulated_cpu_time() as f64 / 1_000.0,
            resident_bytes: process.memory(),
        })
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct ProcessUsage {
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// Everything at one moment.
#[derive(Debug)]
struct Sample {
    workers: Vec<(u16, WorkerSnapshot)>,
    usage: NodeUsage,
    events: Events,
    rooms: RoomsSnapshot,
    users_port: Arc<PortCounters>,
    media_port: Option<Arc<PortCounters>>,
    turn: Option<Arc<TurnCounters>>,
    with_other_tenants: u64,
    process: ProcessUsage,
    instance: NodeInstance,
}

/// A metric of workers: name, help, unit and where it is in a snapshot.
type OfWorker = (&'static str, &'static str, &'static str, fn(&WorkerSnapshot) -> u64);

const WORKER_GAUGES: [OfWorker; 9] = [
    ("routers", "Open routers", "", |w| w.routers),
    ("transports", "Open WebRTC transports", "", |w| w.transports),
    ("transports_connected", "WebRTC transports with ICE and DTLS connected", "", |w| w.transports_connected),
    ("producers", "Open producers, pipe producers excluded", "", |w| w.producers),
    ("consumers", "Open consumers, pipe consumers excluded", "", |w| w.consumers),
    ("pipe_producers", "Producers that arrive by a pipe", "", |w| w.pipe_producers),
    ("pipe_consumers", "Producers that leave by a pipe", "", |w| w.pipe_consumers),
    ("overloaded", "Whether the worker sheds video because it has more to do than it can", "", |w| w.shedding.into()),
    ("shed_consumers", "Consumers and pipe consumers of video that are shed for that", "", |w| w.shed_consumers),
];

const WORKER_COUNTERS: [OfWorker; 10] = [
    ("received", "Datagrams from users; one that another worker passed on counts at both", "datagrams", |w| {
        w.datagrams_received
    }),
    ("sent", "Datagrams to users", "datagrams", |w| w.datagrams_sent),
    ("received", "Bytes of datagrams from users", "bytes", |w| w.bytes_received),
    ("sent", "Bytes of datagrams to users", "bytes", |w| w.bytes_sent),
    ("rtp_received", "RTP packets accepted from users", "packets", |w| w.rtp_packets_received),
    ("rtp_sent", "RTP packets sent to users, retransmissions included", "packets", |w| w.rtp_packets_sent),
    ("pipe_received", "RTP packets that came in by pipes", "packets", |w| w.pipe_packets_received),
    ("pipe_sent", "RTP packets that went out by pipes", "packets", |w| w.pipe_packets_sent),
    ("retransmissions_sent", "Retransmissions sent to users", "packets", |w| w.retransmissions_sent),
    ("key_frame_requests", "Key-frame requests sent to publishers", "", |w| w.key_frame_requests),
];

/// A metric of rooms and signalling.
type OfRooms = (&'static str, &'static str, fn(&RoomsSnapshot) -> u64);

const ROOM_GAUGES: [OfRooms; 7] = [
    ("rooms", "Rooms with a peer on this node", |r| r.rooms),
    ("sessions", "Open signalling WebSockets", |r| r.sessions),
    ("peers", "Peers of this node that have joined a room", |r| r.peers),
    ("routes_in", "Routes of producers into this node", |r| r.routes_in),
    ("routes_out", "Routes of producers out of this node", |r| r.routes_out),
    ("subscriptions_waiting", "Producers of other nodes that are wanted and do not come", |r| r.subscriptions_waiting),
    ("pipe_commands_waiting", "Commands about pipes that wait for a worker", |r| r.pipe_commands_waiting),
];

const ROOM_COUNTERS: [OfRooms; 6] = [
    ("requests_ok", "Signalling requests answered with success", |r| r.requests_ok),
    ("requests_failed", "Signalling requests answered with an error", |r| r.requests_failed),
    ("malformed_messages", "Signalling messages that were not protoo", |r| r.malformed_messages),
    ("sessions_dropped", "Sessions closed because the client did not read, answer or behave", |r| r.sessions_dropped),
    ("subscriptions_refused", "Subscriptions that another node refused or ended", |r| r.subscriptions_refused),
    ("subscriptions_retried", "Subscriptions that were tried again", |r| r.subscriptions_retried),
];

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_node(&mut encoder)?;
        self.encode_workers(&mut encoder)?;
        for (name, help, value) in ROOM_GAUGES {
            gauge(&mut encoder, name, help, "", value(&self.rooms))?;
        }
        for (name, help, value) in ROOM_COUNTERS {
            counter(&mut encoder, name, help, "", value(&self.rooms))?;
        }
        self.encode_ports(&mut encoder)?;
        self.encode_turn(&mut encoder)?;
        self.encode_usage(&mut encoder)?;
        self.encode_events(&mut encoder)
    }
}

impl Sample {
    fn encode_node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = [
            ("node", self.instance.node.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("incarnation", self.instance.incarnation.to_string()),
        ];
        let mut info = encoder.encode_descriptor("node", "The node and its program", None, MetricType::Info)?;
        info.encode_info(&labels)?;
        let help = "Nodes that know other namespaces than this one";
        gauge(encoder, "members_with_other_namespaces", help, "", self.with_other_tenants)?;
        counter(encoder, "process_cpu", "CPU time of the process", "seconds", self.process.cpu_seconds)?;
        gauge(encoder, "process_resident", "Resident memory of the process", "bytes", self.process.resident_bytes)
    }

    fn encode_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, unit, value) in WORKER_GAUGES {
            let samples = self.workers.iter().map(|(index, worker)| ([("worker", index.to_string())], value(worker)));
            family(encoder, &format!("worker_{name}"), help, unit, MetricType::Gauge, samples)?;
        }
        for (name, help, unit, value) in WORKER_COUNTERS {
            let samples = self.workers.iter().map(|(index, worker)| ([("worker", index.to_string())], value(worker)));
            family(encoder, &format!("worker_{name}"), help, unit, MetricType::Counter, samples)?;
        }
        let lag = self.workers.iter().map(|(index, w)| ([("worker", index.to_string())], w.lag_us as f64 / 1e6));
        let help = "The longest that a packet has waited for the worker in the last second or two";
        family(encoder, "worker_lag", help, "seconds", MetricType::Gauge, lag)?;
        let cpu =
            self.workers.iter().map(|(index, worker)| ([("worker", index.to_string())], worker.cpu_ns as f64 / 1e9));
        family(encoder, "worker_cpu", "CPU time of the worker's thread", "seconds", MetricType::Counter, cpu)?;
        let drops = self.workers.iter().flat_map(|(index, worker)| {
            let labels = |reason: &str| [("worker", index.to_string()), ("reason", reason.to_owned())];
            worker.drops.iter().map(move |(reason, count)| (labels(reason), *count))
        });
        family(encoder, "worker_dropped", "Packets dropped, by reason", "packets", MetricType::Counter, drops)
    }

    fn encode_ports(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let users = ("users", "users' port", &self.users_port);
        let media = self.media_port.as_ref().map(|counters| ("media", "media port over TCP", counters));
        for (name, port, counters) in std::iter::once(users).chain(media) {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let help = format!("Connections to the {port}");
            gauge(encoder, &format!("{name}_connections"), &help, "", read(&counters.open))?;
            let help = format!("Connections ever made to the {port}");
            counter(encoder, &format!("{name}_connections_accepted"), &help, "", read(&counters.accepted))?;
            let help = format!("Connections to the {port} that there was no place for, in all or for their address");
            counter(encoder, &format!("{name}_connections_refused"), &help, "", read(&counters.refused))?;
            let help = format!("Connections to the {port} that ended in something that is not spoken there");
            counter(encoder, &format!("{name}_connections_failed"), &help, "", read(&counters.failed))?;
        }
        Ok(())
    }
}

/// A metric of TURN.
type OfTurn = (&'static str, &'static str, &'static str, fn(&TurnCounters) -> &AtomicU64);

const TURN_COUNTERS: [OfTurn; 6] = [
    ("allocations_made", "TURN allocations ever made", "", |t| &t.made),
    ("allocations_refused", "TURN allocations that there was no place for, of all or of the session", "", |t| {
        &t.no_place
    }),
    ("unauthenticated", "TURN requests with wrong credentials", "", |t| &t.unauthenticated),
    ("foreign_peers", "TURN requests that named a peer other than the media port", "", |t| &t.foreign_peers),
    ("received", "UDP payload that TURN relayed from users", "bytes", |t| &t.bytes_from_clients),
    ("sent", "UDP payload that TURN relayed to users", "bytes", |t| &t.bytes_to_clients),
];

impl Sample {
    fn encode_turn(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(turn) = &self.turn else { return Ok(()) };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        gauge(encoder, "turn_allocations", "TURN allocations", "", read(&turn.open))?;
        for (name, help, unit, value) in TURN_COUNTERS {
            counter(encoder, &format!("turn_{name}"), help, unit, read(value(turn)))?;
        }
        let dropped = turn.dropped().map(|(reason, count)| ([("reason", reason)], read(count)));
        let help = "Messages and datagrams that TURN did not relay, by reason";
        family(encoder, "turn_dropped", help, "packets", MetricType::Counter, dropped)
    }
}

/// A metric of namespaces.
type OfNamespace = (&'static str, &'static str, &'static str, MetricType, fn(&NamespaceUsage) -> f64);

const USAGE: [OfNamespace; 5] = [
    ("participant", "Time for which peers were joined", "seconds", MetricType::Counter, |u| {
        u.participant_ms as f64 / 1e3
    }),
    ("received", "Payload of datagrams from users", "bytes", MetricType::Counter, |u| u.bytes_received as f64),
    ("sent", "Payload of datagrams to users", "bytes", MetricType::Counter, |u| u.bytes_sent as f64),
    ("peers", "Joined peers", "", MetricType::Gauge, |u| u.peers as f64),
    ("peak_peers", "The most joined peers at a time", "", MetricType::Gauge, |u| u.peak_peers as f64),
];

/// A metric of webhooks.
type OfWebhooks = (&'static str, &'static str, fn(&WebhookCounters) -> &AtomicU64);

const WEBHOOK_COUNTERS: [OfWebhooks; 5] = [
    ("delivered", "Events that the receiver took", |w| &w.delivered),
    ("failed", "Deliveries that the receiver did not take, each to be tried again", |w| &w.failed),
    ("expired", "Events given up as too old", |w| &w.expired),
    ("dropped", "Events given up as the queue was full", |w| &w.dropped),
    ("lost", "Events that never came to the queue, as its disk stood still, or that the disk spoilt", |w| &w.lost),
];

impl Sample {
    /// Those without a namespace of their own have the empty name.
    fn encode_usage(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, unit, kind, value) in USAGE {
            let samples = self.usage.namespaces.iter().map(|used| {
                let namespace = used.namespace.as_ref().map_or_else(String::new, ToString::to_string);
                ([("namespace", namespace)], value(used))
            });
            family(encoder, &format!("usage_{name}"), help, unit, kind, samples)?;
        }
        Ok(())
    }

    fn encode_events(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lines of the audit log that its file did not take, or not in time; the log has them";
        counter(encoder, "audit_overflowed", help, "", self.events.audit().overflowed())?;
        let Some(webhooks) = self.events.webhooks() else { return Ok(()) };
        let counters = webhooks.counters();
        for (name, help, value) in WEBHOOK_COUNTERS {
            counter(encoder, &format!("webhooks_{name}"), help, "", value(counters).load(Ordering::Relaxed))?;
        }
        let (pending, bytes) = (&counters.pending, &counters.queue_bytes);
        gauge(encoder, "webhooks_pending", "Events that wait for the receiver", "", pending.load(Ordering::Relaxed))?;
        gauge(encoder, "webhooks_queue", "Length of their queue", "bytes", bytes.load(Ordering::Relaxed))
    }
}

/// A value that counters and gauges of samples have.
trait Value: Copy {
    fn encode(self, kind: MetricType, encoder: MetricEncoder<'_>) -> fmt::Result;
}

macro_rules! value {
    ($($ty:ty),+) => { $(
        impl Value for $ty {
            fn encode(self, kind: MetricType, encoder: MetricEncoder<'_>) -> fmt::Result {
                match kind {
                    MetricType::Counter => ConstCounter::new(self).encode(encoder),
                    _ => ConstGauge::new(self).encode(encoder),
                }
            }
        }
    )+ };
}
value!(u64, f64);

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, unit: &str, value: impl Value) -> fmt::Result {
    single(encoder, name, help, unit, MetricType::Gauge, value)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, unit: &str, value: impl Value) -> fmt::Result {
    single(encoder, name, help, unit, MetricType::Counter, value)
}

fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit_name: &str,
    kind: MetricType,
    value: impl Value,
) -> fmt::Result {
    value.encode(kind, encoder.encode_descriptor(name, help, unit(unit_name).as_ref(), kind)?)
}

fn family<const N: usize, L: EncodeLabelValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit_name: &str,
    kind: MetricType,
    samples: impl Iterator<Item = ([(&'static str, L); N], impl Value)>,
) -> fmt::Result {
    let unit = unit(unit_name);
    let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
    for (labels, value) in samples {
        value.encode(kind, family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn unit(name: &str) -> Option<Unit> {
    match name {
        "" => None,
        "bytes" => Some(Unit::Bytes),
        "seconds" => Some(Unit::Seconds),
        other => Some(Unit::Other(other.to_owned())),
    }
}
