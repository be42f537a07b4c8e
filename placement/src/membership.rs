//! Membership over gossip: publishes this node's facts, and tells who else is there.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_proto::ids::NodeInstance;
use tokio::sync::watch;

use crate::members::{Members, NodeFacts};

/// How a node takes part in gossip.
#[derive(Debug, Clone)]
pub struct MembershipConfig {
    /// Which life of which node this is.
    pub instance: NodeInstance,
    /// Where others send gossip to: the advertised mesh address. The transport must report peers by theirs.
    pub gossip_addr: SocketAddr,
    /// `host:port` of nodes to begin with. None need be up.
    pub seeds: Vec<String>,
    /// Gossip of another cluster is refused.
    pub cluster: String,
    /// How often a node gossips, with three others each time.
    pub interval: Duration,
    /// Suspicion begins when the silence is this many times the usual interval between heartbeats.
    pub phi: f64,
    /// A suspect is dead after this long without a heartbeat.
    pub dead_after: Duration,
}

impl MembershipConfig {
    /// The settings of production: death is noticed within 1.5 to 2.5 s.
    pub fn new(instance: NodeInstance, gossip_addr: SocketAddr, cluster: String) -> Self {
        Self {
            instance,
            gossip_addr,
            seeds: Vec::new(),
            cluster,
            interval: Duration::from_millis(200),
            phi: 8.0,
            dead_after: Duration::from_millis(1_600),
        }
    }
}

/// Why gossip could not begin.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The transport did not open.
    #[error("the gossip transport did not open: {0}")]
    Transport(String),
}

/// A running membership; dropping it ends the gossip without a word.
#[derive(Debug)]
pub struct Membership {}

impl Membership {
    /// Begins to gossip. Waits for no other node.
    ///
    /// # Errors
    /// [`MembershipError::Transport`] when the transport does not open.
    pub async fn spawn(
        _config: MembershipConfig,
        _facts: NodeFacts,
        _transport: &dyn chitchat::transport::Transport,
    ) -> Result<Self, MembershipError> {
        todo!()
    }

    /// Everybody that is known, and each change.
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        todo!()
    }

    /// Publishes what changed of this node's facts.
    pub fn publish(&self, _facts: NodeFacts) {
        todo!()
    }

    /// Says goodbye to the others and ends the gossip.
    pub async fn shutdown(self) {
        todo!()
    }
}
