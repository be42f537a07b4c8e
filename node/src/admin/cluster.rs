//! `/v1/cluster`: the members as this node sees them, and its pipes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde::Serialize;
use sluice_mesh::{LinkState, LinkStatus};
use sluice_placement::{Member, MemberState, Members, NodeLoad};
use sluice_proto::ids::{NodeId, Region};

use crate::metrics::Sources;

/// The answer to `GET /v1/cluster`.
#[derive(Debug, Serialize)]
pub(super) struct Cluster {
    /// The node that answers.
    node: NodeId,
    /// Its start in milliseconds since the Unix epoch.
    incarnation: u64,
    /// Every node that it knows, itself and those that died in the last minutes included, by id.
    members: Vec<MemberView>,
    /// Its pipes to others, by node.
    pipes: Vec<PipeView>,
}

/// A node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    node: NodeId,
    incarnation: u64,
    region: Region,
    zone: String,
    carrier: String,
    priority: i32,
    /// `live`, `suspect` (heartbeats are late) or `dead`.
    state: MemberState,
    /// Seconds in that state.
    state_seconds: u64,
    /// Where users reach it.
    users_url: String,
    mesh_addr: SocketAddr,
    grpc_addr: SocketAddr,
    /// Which namespaces it knows: `open` if none and all, else a text that is the same where they are the same.
    namespaces: String,
    /// They are not those of the node that answers.
    other_namespaces: bool,
    /// Takes no new users.
    draining: bool,
    version: String,
    load: LoadView,
}

/// How busy a node is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LoadView {
    /// Share of all cores, 0 to 1.
    cpu: f32,
    /// Share of the memory, 0 to 1.
    memory: f32,
    /// Share of the disk, 0 to 1.
    disk: f32,
    /// Bits per second, both directions.
    network_bps: u64,
    workers: u32,
    rooms: u32,
    users: u32,
    /// Producers and consumers of users.
    streams: u32,
    /// Media workers that have more to do than they can, and shed video.
    overloaded_workers: u32,
}

/// A pipe.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PipeView {
    /// The other end.
    node: NodeId,
    incarnation: Option<u64>,
    addr: SocketAddr,
    /// `dialling`, `up` or `down`.
    state: &'static str,
    /// Round-trip time in milliseconds.
    rtt_ms: Option<f64>,
    /// Bits per second of media sent over the last second.
    send_bitrate: u64,
    /// Bits per second of media received over the last second.
    recv_bitrate: u64,
    /// Bytes that may be in flight.
    congestion_window: u64,
    /// QUIC packets.
    packets_sent: u64,
    /// Of those, lost on the way.
    packets_lost: u64,
    /// Frames dropped or shed here, by reason.
    drops: BTreeMap<&'static str, u64>,
}

impl Cluster {
    pub(super) fn of(sources: &Sources) -> Self {
        let mut pipes: Vec<_> = sources.mesh.links().into_iter().map(PipeView::from).collect();
        pipes.sort_by(|a, b| (&a.node, a.addr).cmp(&(&b.node, b.addr)));
        Self {
            node: sources.instance.node.clone(),
            incarnation: sources.instance.incarnation,
            members: members(&sources.members.borrow()),
            pipes,
        }
    }
}

fn members(known: &Members) -> Vec<MemberView> {
    let own = known.get(&known.me().node).map_or("", |me| &me.facts.tenants);
    known.iter().map(|member| MemberView::new(member, own)).collect()
}

impl MemberView {
    /// As a node sees it that has these tenants.
    #[allow(clippy::disallowed_methods, reason = "an operator is told for how long, by the clock")]
    fn new(member: &Member, own_tenants: &str) -> Self {
        let facts = member.facts.clone();
        Self {
            node: member.instance.node.clone(),
            incarnation: member.instance.incarnation,
            region: facts.region,
            zone: facts.zone,
            carrier: facts.carrier,
            priority: facts.priority,
            state: member.state,
            state_seconds: Instant::now().saturating_duration_since(member.since).as_secs(),
            users_url: facts.users_url,
            mesh_addr: facts.mesh_addr,
            grpc_addr: facts.grpc_addr,
            other_namespaces: member.facts.has_other_tenants(own_tenants),
            namespaces: facts.tenants,
            draining: facts.draining,
            version: facts.version,
            load: facts.load.into(),
        }
    }
}

impl From<NodeLoad> for LoadView {
    fn from(load: NodeLoad) -> Self {
        let NodeLoad { cpu, memory, network_bps, disk, workers, rooms, users, streams, overloaded_workers } = load;
        Self { cpu, memory, disk, network_bps, workers, rooms, users, streams, overloaded_workers }
    }
}

impl From<LinkStatus> for PipeView {
    fn from(link: LinkStatus) -> Self {
        Self {
            node: link.node,
            incarnation: link.incarnation,
            addr: link.addr,
            state: match link.state {
                LinkState::Dialling => "dialling",
                LinkState::Up => "up",
                LinkState::Down => "down",
            },
            rtt_ms: link.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            send_bitrate: link.send_bitrate,
            recv_bitrate: link.recv_bitrate,
            congestion_window: link.congestion_window,
            packets_sent: link.packets_sent,
            packets_lost: link.packets_lost,
            drops: link.drops.into_iter().collect(),
        }
    }
}
