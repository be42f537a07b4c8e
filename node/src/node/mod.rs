//! A node: the assembly of workers, mesh, placement, rooms and HTTP, started and stopped in order.
//!
//! # Layout
//! - `assembly`: the parts and how they are joined.
//! - `identity`: certificates and incarnation; `certificates`: their renewal; `standing`: whether the others believe in
//!   this one.
//! - `runtimes`: the threads of control plane and mesh.
//! - `memory`: what users leave behind is given back.
//! - `doors`: the ports that people come to; `open_files`: how many connections the system allows.
//! - `announced`: what others are told of the node's sockets.

mod announced;
mod assembly;
mod doors;
mod identity;
mod memory;
mod open_files;
mod renewal;
mod runtimes;
mod standing;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use sluice_proto::ids::NodeInstance;

use crate::config::{ConfigError, NodeConfig};
use crate::telemetry::{self, NodeTelemetry};
use assembly::Parts;
use runtimes::Runtimes;

pub(crate) use open_files::raise_limit as raise_open_files;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be listened on.
    #[error("{setting} = \"{addr}\": cannot listen there: {source}")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An address to be announced is a name that stands for none.
    #[error("{setting} = \"{value}\": {reason}")]
    Announced {
        /// The setting that names it.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("{setting} = \"{value}\": {reason}")]
    Certificate {
        /// The setting that names it.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The system refuses something else that a node needs.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        reason: String,
    },
}

impl StartError {
    fn system(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::System { what, reason: reason.to_string() }
    }
}

/// Why a node has to end although nobody asked it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEnd {
    /// A part that it cannot do without has ended: it is not ready any more, and to be ended with an error.
    Lost(&'static str),
    /// The others remember a newer incarnation of it, which is no more: it is to be started again with a higher one.
    Superseded {
        /// The highest that is remembered.
        incarnation: u64,
    },
}

/// A running node, on threads of its own. To be ended with [`Self::shutdown`]; when it is dropped instead, it ends
/// without telling anybody, as if it had been killed.
pub struct Node {
    config: NodeConfig,
    instance: NodeInstance,
    parts: Option<Parts>,
    runtimes: Option<Runtimes>,
    telemetry: Option<NodeTelemetry>,
}

impl Node {
    /// Starts a node and returns when it is ready. Must be called on a tokio runtime, which carries the export of
    /// traces if that is configured, and nothing else.
    ///
    /// # Errors
    /// When a port is taken or a certificate cannot be used; nothing of the node remains then.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let telemetry =
            NodeTelemetry::new(&config).map_err(|error| StartError::system("telemetry.otlp_endpoint", error))?;
        Self::start_with(config, telemetry).await
    }

    async fn start_with(config: NodeConfig, telemetry: Option<NodeTelemetry>) -> Result<Self, StartError> {
        config.check()?;
        let runtimes = Runtimes::new(&config.id, telemetry.as_ref())?;
        let instance = identity::instance(&config)?;
        let assembling = Parts::assemble(config, instance.clone(), runtimes.mesh());
        let assembled = runtimes.control().spawn(assembling).await;
        let (parts, config) = match assembled.map_err(|error| StartError::system("the node's assembly", error)) {
            Ok(Ok(assembled)) => assembled,
            Ok(Err(error)) | Err(error) => {
                runtimes.end().await;
                return Err(error);
            }
        };
        Ok(Self { config, instance, parts: Some(parts), runtimes: Some(runtimes), telemetry })
    }

    /// What it was started with; ports given as 0 are replaced by those that were bound.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// This life of the node.
    pub fn instance(&self) -> &NodeInstance {
        &self.instance
    }

    /// Waits until the node has to be ended with [`Self::shutdown`].
    pub fn ending(&self) -> impl Future<Output = NodeEnd> + Send + use<> {
        let ending = self.parts.as_ref().map(Parts::ending);
        async move {
            match ending {
                Some(ending) => ending.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Reads certificates and tenants again, of which those that cannot be used are left aside, and opens the audit log
    /// anew.
    pub fn reload(&self) {
        if let (Some(parts), Some(runtimes)) = (&self.parts, &self.runtimes) {
            runtimes.control().spawn(parts.reopen());
            runtimes.control().spawn_blocking(parts.reload());
        }
    }

    /// Stops in order: users first, the mesh last. Returns when all threads have ended.
    pub async fn shutdown(mut self) {
        tracing::info!(node = %self.instance, "stopping");
        if let (Some(parts), Some(runtimes)) = (self.parts.take(), self.runtimes.take()) {
            if let Err(error) = runtimes.control().spawn(parts.shutdown()).await {
                tracing::error!(%error, "the node did not stop in order");
            }
            runtimes.end().await;
        }
        if let Some(telemetry) = self.telemetry.take() {
            // Blocks until the last spans are exported.
            let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// Log lines of the whole process go where the configuration says; nodes log through it too. A second call changes
/// nothing.
pub fn install_logging(config: &NodeConfig) {
    telemetry::install_logging(&config.telemetry);
}
