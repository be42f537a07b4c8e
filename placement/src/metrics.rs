//! The metrics of this crate, with unit and help. Counters that the core keeps are read when they are asked for.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::directory::CallKind;
use crate::members::{MemberState, Members};
use crate::membership::{GossipRefused, GossipStats};
use crate::service::Shared;

/// Why somebody on the gRPC port was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Refused {
    Handshake,
    HandshakeTimeout,
    TooManyHandshakes,
    NoNode,
    OtherNode,
    Malformed,
    Void,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Method {
    Renew,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Ok,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: Method,
    outcome: Outcome,
}

/// Counters of directory and rosters that are not the core's.
#[derive(Debug)]
pub(crate) struct Metrics {
    refused: Family<RefusedLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    call_seconds: Histogram,
    streams_broken: Counter,
    parts_too_large: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            refused: Family::default(),
            calls: Family::default(),
            // 0.5 ms to 2 s: from loopback to the call's time-out.
            call_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 13)),
            streams_broken: Counter::default(),
            parts_too_large: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn refuse(&self, reason: Refused) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }

    pub(crate) fn called(&self, kind: CallKind, ok: bool, took: Duration) {
        let method = match kind {
            CallKind::Renew => Method::Renew,
            CallKind::Release => Method::Release,
        };
        let outcome = if ok { Outcome::Ok } else { Outcome::Failed };
        self.calls.get_or_create(&CallLabels { method, outcome }).inc();
        self.call_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn stream_broke(&self) {
        self.streams_broken.inc();
    }

    pub(crate) fn part_too_large(&self) {
        self.parts_too_large.inc();
    }
}

/// Registers the metrics of directory and rosters.
pub(crate) fn register_placement(registry: &mut Registry, shared: &Arc<Shared>) {
    let metrics = shared.metrics();
    registry.register(
        "placement_refused",
        "Connections and requests on the gRPC port that were refused, by reason",
        metrics.refused.clone(),
    );
    registry.register("directory_calls", "Calls to directory owners, by method and outcome", metrics.calls.clone());
    registry.register_with_unit(
        "directory_call_duration",
        "Time until a directory owner answered, or was given up",
        Unit::Seconds,
        metrics.call_seconds.clone(),
    );
    registry.register(
        "roster_streams_broken",
        "Times that the stream to a followed node ended and was opened again",
        metrics.streams_broken.clone(),
    );
    registry.register(
        "roster_parts_too_large",
        "Parts of rooms that were too large to be published whole",
        metrics.parts_too_large.clone(),
    );
    registry.register_collector(Box::new(CoreCollector(Arc::downgrade(shared))));
}

/// Registers the metrics of membership.
pub(crate) fn register_membership(
    registry: &mut Registry,
    members: watch::Receiver<Arc<Members>>,
    gossip: Arc<GossipStats>,
) {
    registry.register_collector(Box::new(MembersCollector(members)));
    registry.register_collector(Box::new(GossipCollector(gossip)));
}

/// What the core holds and has counted.
struct CoreCollector(Weak<Shared>);

impl fmt::Debug for CoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreCollector")
    }
}

impl Collector for CoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let (gauges, counters) = shared.look(|core| {
            let (rosters, table, counters) = (&core.rosters, core.table(), core.rosters.counters());
            let gauges = [
                ("directory_rooms", "Rooms whose directory entry is kept here", table.rooms()),
                ("directory_leases", "Leases kept here", table.leases()),
                ("roster_rooms", "Rooms that this node is in", rosters.rooms().count()),
                ("roster_parts_followed", "Parts of other nodes that are followed", rosters.parts_followed()),
                ("roster_follower_streams", "Open streams of followers", rosters.follower_streams()),
                ("roster_follow_streams", "Open streams to followed nodes", rosters.follow_streams()),
            ];
            let counters = [
                ("directory_leases_refused", "Leases refused because of the limits", table.refused()),
                ("roster_snapshots_sent", "Snapshots of own parts told to followers", counters.snapshots_sent),
                ("roster_deltas_sent", "Deltas of own parts told to followers", counters.deltas_sent),
                ("roster_gone_sent", "Times that a follower was told there is no part", counters.gone_sent),
                ("roster_updates_taken", "Updates of others' parts that were taken", counters.updates_taken),
                ("roster_updates_ignored", "Updates that came too late to matter", counters.updates_ignored),
                (
                    "roster_gaps",
                    "Deltas that did not follow on the last, so that a snapshot was asked for",
                    counters.gaps,
                ),
                (
                    "roster_follows_refused",
                    "Rooms that a follower was refused because of the limits",
                    counters.follows_refused,
                ),
            ];
            (gauges, counters)
        });
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// How many members are in which state.
#[derive(Debug)]
struct MembersCollector(watch::Receiver<Arc<Members>>);

impl Collector for MembersCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let members = self.0.borrow().clone();
        let first = ConstGauge::new(0_i64);
        let help = "Members of the mesh as this node knows them, itself included, by state";
        let mut metric = encoder.encode_descriptor("membership_members", help, None, first.metric_type())?;
        for (label, state) in
            [("live", MemberState::Live), ("suspect", MemberState::Suspect), ("dead", MemberState::Dead)]
        {
            let count = members.iter().filter(|member| member.state == state).count();
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(metric.encode_family(&[("state", label)])?)?;
        }
        Ok(())
    }
}

/// How large gossip is, and what of it was not taken.
#[derive(Debug)]
struct GossipCollector(Arc<GossipStats>);

impl Collector for GossipCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let digest = ConstGauge::new(i64::try_from(self.0.digest_len()).unwrap_or(i64::MAX));
        let help = "Size of the list of all nodes that gossip tells each time; no new node is taken from 49152 on";
        digest.encode(encoder.encode_descriptor("gossip_digest", help, Some(&Unit::Bytes), digest.metric_type())?)?;
        let first = ConstCounter::new(0_u64);
        let help = "Messages and nodes in gossip that were not taken, by reason";
        let mut metric = encoder.encode_descriptor("gossip_refused", help, None, first.metric_type())?;
        for reason in GossipRefused::ALL {
            let counter = ConstCounter::new(self.0.refused(reason));
            counter.encode(metric.encode_family(&[("reason", reason.label())])?)?;
        }
        Ok(())
    }
}
