//! What the rest of the node sees of membership: who is there, what each says of itself, and who died.
//!
//! Plain values: gossip (feature `io`) fills them in, simulations make them up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sluice_proto::ids::{NodeId, NodeInstance, Region};

/// What a node publishes about itself. Each field travels as its own gossip key, so that a change costs its own bytes
/// only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Where the node is.
    pub region: Region,
    /// Failure domain within the region; empty if there is only one.
    #[serde(default)]
    pub zone: String,
    /// The ISP whose users are near; empty if none in particular.
    #[serde(default)]
    pub carrier: String,
    /// Nodes of a higher priority are preferred among equals.
    #[serde(default)]
    pub priority: i32,
    /// Where users reach it, `http(s)://host:port`.
    #[serde(default)]
    pub users_url: String,
    /// Its mesh socket (UDP) as others reach it; also where gossip goes.
    pub mesh_addr: SocketAddr,
    /// Its gRPC port (TCP) as others reach it.
    pub grpc_addr: SocketAddr,
    /// How busy it is.
    #[serde(default)]
    pub load: NodeLoad,
    /// What time it is there by the clock of the cluster, in milliseconds.
    #[serde(default)]
    pub clock_ms: u64,
    /// Which tenants it knows, in a text that is the same on nodes where they are the same; empty of one that does not
    /// say.
    #[serde(default)]
    pub tenants: String,
    /// The operator is emptying it: no new users.
    #[serde(default)]
    pub draining: bool,
    /// The program's version.
    #[serde(default)]
    pub version: String,
}

impl NodeFacts {
    /// Whether its tenants are known to be others than these.
    pub fn has_other_tenants(&self, than: &str) -> bool {
        !self.tenants.is_empty() && !than.is_empty() && self.tenants != than
    }
}

/// How busy a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeLoad {
    /// Share of all cores in use, 0 to 1.
    pub cpu: f32,
    /// Share of the memory in use, 0 to 1.
    pub memory: f32,
    /// Network traffic, both directions, in bits per second.
    pub network_bps: u64,
    /// Share of the disk in use, 0 to 1.
    pub disk: f32,
    /// Media workers.
    pub workers: u32,
    /// Rooms with users of this node.
    pub rooms: u32,
    /// Connected users.
    pub users: u32,
    /// Streams forwarded: producers and consumers.
    pub streams: u32,
    /// Media workers that have more to do than they can, and shed video. If all of them do, the node takes no new
    /// users.
    pub overloaded_workers: u32,
}

/// What the failure detector thinks of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Its heartbeats arrive.
    Live,
    /// Its heartbeats are late. Nothing is taken from it yet.
    Suspect,
    /// It is gone, or a newer incarnation took its place: nothing that it said counts any more.
    Dead,
}

/// One node as this node knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which life of which node.
    pub instance: NodeInstance,
    /// What it last published.
    pub facts: NodeFacts,
    /// What the failure detector thinks.
    pub state: MemberState,
    /// When it came into that state.
    pub since: Instant,
}

/// Everybody known to a node, itself included: at most one incarnation of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    me: NodeInstance,
    members: BTreeMap<NodeId, Member>,
}

impl Members {
    /// The view of the node `me`, out of everybody that it knows. Of two incarnations of a node the newer one is kept.
    pub fn new(me: NodeInstance, known: impl IntoIterator<Item = Member>) -> Self {
        let mut members = BTreeMap::<NodeId, Member>::new();
        for member in known {
            match members.get(&member.instance.node) {
                Some(other) if other.instance.incarnation > member.instance.incarnation => {}
                _ => drop(members.insert(member.instance.node.clone(), member)),
            }
        }
        Self { me, members }
    }

    /// The node whose view this is.
    pub fn me(&self) -> &NodeInstance {
        &self.me
    }

    /// Everybody, the dead of the last minutes included, by node id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Those that are not dead: a suspect keeps its duties, or each hiccup would move leases about.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| member.state != MemberState::Dead)
    }

    /// The known incarnation of a node.
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// Those present that know other tenants than this node: whom one refuses another lets in.
    pub fn with_other_tenants(&self) -> impl Iterator<Item = &Member> {
        let own = self.get(&self.me.node).map_or("", |me| &me.facts.tenants);
        self.present().filter(move |member| member.facts.has_other_tenants(own))
    }

    /// Whether this very incarnation is there and not dead.
    pub fn is_present(&self, instance: &NodeInstance) -> bool {
        self.get(&instance.node).is_some_and(|member| member.instance == *instance && member.state != MemberState::Dead)
    }
}
