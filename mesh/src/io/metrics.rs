//! The metrics of a mesh endpoint, read out of its counters when Prometheus asks.
//!
//! Everything about a link has the label `peer`, the node's id: as many series as the mesh has nodes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::counters::{DropReason, EndpointCounters};
use super::link::Link;
use super::registry::Registry;
use super::routes::RouteTable;

/// Reads counters out.
pub(super) struct MeshCollector {
    registry: Arc<Registry>,
    routes: Arc<RouteTable>,
    counters: Arc<EndpointCounters>,
}

impl fmt::Debug for MeshCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshCollector").finish_non_exhaustive()
    }
}

impl MeshCollector {
    pub(super) fn new(registry: Arc<Registry>, routes: Arc<RouteTable>, counters: Arc<EndpointCounters>) -> Self {
        Self { registry, routes, counters }
    }
}

/// Name, help and unit.
type About = (&'static str, &'static str, Option<Unit>);

type LinkCounter = (About, fn(&Link) -> u64);
type LinkGauge = (About, fn(&Link) -> f64);
type EndpointCounter = (&'static str, &'static str, fn(&EndpointCounters) -> u64);

const LINK_COUNTERS: &[LinkCounter] = &[
    (("mesh_link_frames_sent", "Media packets sent to the peer", None), |link| link.counters.frames_sent.get()),
    (("mesh_link_frames_received", "Media packets received from the peer", None), |link| {
        link.counters.frames_received.get()
    }),
    (("mesh_link_frames_sent", "Bytes of media packets sent to the peer", Some(Unit::Bytes)), |link| {
        link.counters.frame_bytes_sent.get()
    }),
    (("mesh_link_frames_received", "Bytes of media packets received from the peer", Some(Unit::Bytes)), |link| {
        link.counters.frame_bytes_received.get()
    }),
    (("mesh_link_datagrams_sent", "Media datagrams sent to the peer", None), |link| link.counters.datagrams_sent.get()),
    (("mesh_link_datagrams_received", "Media datagrams received from the peer", None), |link| {
        link.counters.datagrams_received.get()
    }),
    (("mesh_link_messages_sent", "Control messages sent to the peer", None), |link| link.counters.messages_sent.get()),
    (("mesh_link_messages_received", "Control messages received from the peer", None), |link| {
        link.counters.messages_received.get()
    }),
    (("mesh_link_data_sent", "Messages of data sent to the peer", None), |link| link.counters.data_sent.get()),
    (("mesh_link_data_received", "Messages of data received from the peer", None), |link| {
        link.counters.data_received.get()
    }),
    (("mesh_link_data_sent", "Bytes of messages of data sent to the peer", Some(Unit::Bytes)), |link| {
        link.counters.data_bytes_sent.get()
    }),
    (("mesh_link_data_received", "Bytes of messages of data received from the peer", Some(Unit::Bytes)), |link| {
        link.counters.data_bytes_received.get()
    }),
    (("mesh_link_gossip_sent", "Gossip messages sent to the peer", None), |link| link.counters.gossip_sent.get()),
    (("mesh_link_gossip_received", "Gossip messages received from the peer", None), |link| {
        link.counters.gossip_received.get()
    }),
    (("mesh_link_connections", "Connections that the link had", None), |link| link.counters.connections.get()),
    (
        ("mesh_link_unknown_routes_answered", "Answers to frames, data and feedback of routes that are none", None),
        |link| link.counters.unknown_routes_answered.get(),
    ),
    (("mesh_link_packets_sent", "QUIC packets sent on the present connection", None), |link| {
        link.live().map_or(0, |current| current.connection.stats().path.sent_packets)
    }),
    (("mesh_link_packets_lost", "QUIC packets of the present connection lost on the way to the peer", None), |link| {
        link.live().map_or(0, |current| current.connection.stats().path.lost_packets)
    }),
];

const LINK_GAUGES: &[LinkGauge] = &[
    (("mesh_link_up", "1 while the link has a connection", None), |link| f64::from(u8::from(link.live().is_some()))),
    (("mesh_link_rtt", "Smoothed round-trip time", Some(Unit::Seconds)), |link| {
        link.live().map_or(0.0, |current| current.connection.rtt().as_secs_f64())
    }),
    (("mesh_link_congestion_window", "Congestion window", Some(Unit::Bytes)), |link| {
        link.live().map_or(0.0, |current| current.connection.stats().path.cwnd as f64)
    }),
    (("mesh_link_capacity_bits_per_second", "What the path carries, 0 while it showed no limit", None), |link| {
        link.counters.capacity.get() as f64
    }),
    (("mesh_link_send_bits_per_second", "Media sent over the last second", None), |link| {
        link.counters.send_bitrate.get() as f64
    }),
    (("mesh_link_receive_bits_per_second", "Media received over the last second", None), |link| {
        link.counters.recv_bitrate.get() as f64
    }),
    (("mesh_link_queue_frames", "Media packets that wait for the link's task", None), |link| link.queue.len() as f64),
    (("mesh_link_queue_messages", "Control messages that wait for the peer", None), |link| {
        link.live().map_or(0.0, |current| current.waiting_messages() as f64)
    }),
    (("mesh_link_queue_data", "Messages of data that wait for their streams", None), |link| {
        link.live().map_or(0.0, |current| current.data.queues.len() as f64)
    }),
    (("mesh_link_queue_gossip", "Gossip messages that wait for the peer", None), |link| {
        link.live().map_or(0.0, |current| current.waiting_gossip() as f64)
    }),
];

const ENDPOINT_COUNTERS: &[EndpointCounter] = &[
    ("mesh_dials", "Connections tried", |counters| counters.dials.get()),
    ("mesh_dials_failed", "Connections tried in vain", |counters| counters.dials_failed.get()),
    ("mesh_accepted", "Connections that peers opened", |counters| counters.accepted.get()),
    ("mesh_handshakes_failed", "Connections from outside that did not get through handshake and hello", |counters| {
        counters.handshakes_failed.get()
    }),
    ("mesh_handshakes_retried", "Handshakes that had to prove their address first", |counters| counters.retried.get()),
    ("mesh_handshakes_turned_away", "Handshakes refused because too many were under way", |counters| {
        counters.turned_away.get()
    }),
    ("mesh_identity_refused", "Connections refused because of the peer's certificate", |counters| {
        counters.identity_refused.get()
    }),
    ("mesh_unknown_link_dropped", "Frames and messages for links that do not exist", |counters| {
        counters.unknown_link.get()
    }),
    ("mesh_gossip_undeliverable", "Gossip messages for addresses that cannot be reached", |counters| {
        counters.gossip_undeliverable.get()
    }),
];

impl Collector for MeshCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, read) in ENDPOINT_COUNTERS {
            let counter = ConstCounter::new(read(&self.counters));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let routes = ConstGauge::new(self.routes.len() as u64);
        routes.encode(encoder.encode_descriptor("mesh_routes", "Routes in use", None, MetricType::Gauge)?)?;

        let links = self.registry.all();
        for ((name, help, unit), read) in LINK_COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
            for link in &links {
                let labels = [("peer", link.instance.node.as_str())];
                ConstCounter::new(read(link)).encode(family.encode_family(&labels)?)?;
            }
        }
        for ((name, help, unit), read) in LINK_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for link in &links {
                let labels = [("peer", link.instance.node.as_str())];
                ConstGauge::new(read(link)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Frames, datagrams, messages, data and gossip that were dropped on a link, by reason";
        let mut family = encoder.encode_descriptor("mesh_link_dropped", help, None, MetricType::Counter)?;
        for link in &links {
            for reason in DropReason::ALL {
                let labels = [("peer", link.instance.node.as_str()), ("reason", reason.label())];
                ConstCounter::new(link.counters.dropped(reason)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
