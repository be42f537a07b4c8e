//! What relays of datagrams and of connections have in common.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::PathPair;

/// What a relay stands for, and how far away that is.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where to listen: what the diallers take for the target.
    pub listen: SocketAddr,
    /// Where the target really is.
    pub target: SocketAddr,
    /// Paths of those who come from an address.
    pub paths: HashMap<IpAddr, PathPair>,
    /// The path of everybody else.
    pub otherwise: PathPair,
}

impl RelayConfig {
    /// The same path for all who come.
    pub fn new(listen: SocketAddr, target: SocketAddr, path: PathPair) -> Self {
        Self { listen, target, paths: HashMap::new(), otherwise: path }
    }

    pub(super) fn path(&self, source: SocketAddr) -> &PathPair {
        self.paths.get(&source.ip()).unwrap_or(&self.otherwise)
    }
}

#[allow(clippy::disallowed_methods, reason = "a relay is what reads the clock for the core")]
pub(super) fn clock() -> Instant {
    Instant::now()
}
