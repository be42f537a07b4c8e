//! A mesh on one machine whose nodes are as far from each other as one likes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::runtime::{Builder, Runtime};

use super::{ImpairmentConfig, Path, PathPair, RelayConfig, TcpRelay, UdpRelay};

/// A node, and where its relays stand for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WanNode {
    /// Address of its own, which no other node has: relays know it by that.
    pub ip: IpAddr,
    /// Its mesh port (UDP).
    pub mesh_port: u16,
    /// Its gRPC port (TCP).
    pub grpc_port: u16,
    /// What it announces for its mesh port; a relay listens here.
    pub mesh_announced: SocketAddr,
    /// What it announces for its gRPC port; a relay listens here.
    pub grpc_announced: SocketAddr,
}

/// Relays between all nodes of a mesh on this machine, with a path for each direction between two of them. They run on a thread of
/// their own, so that nothing else delays them, and end when this is dropped.
#[derive(Debug)]
pub struct Wan {
    /// By the indices of both ends.
    paths: HashMap<(usize, usize), Path>,
    relays: Vec<(UdpRelay, TcpRelay)>,
    runtime: Option<Runtime>,
}

impl Wan {
    /// Starts a relay for each port of each node, all paths perfect.
    ///
    /// # Errors
    /// When an announced address cannot be listened on.
    pub fn start(nodes: &[WanNode], seed: u64) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("sluice-wan").enable_all().build()?;
        let handle = runtime.handle().clone();
        let pairs = (0..nodes.len()).flat_map(|from| (0..nodes.len()).map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to);
        let paths = (seed..).zip(pairs).map(|(seed, pair)| (pair, Path::new(ImpairmentConfig::default(), seed)));
        let mut wan = Self { paths: paths.collect(), relays: Vec::new(), runtime: Some(runtime) };
        let _entered = handle.enter();
        for (to, node) in nodes.iter().enumerate() {
            let udp = UdpRelay::spawn(wan.relay(nodes, to, node.mesh_announced, node.mesh_port))?;
            let tcp = TcpRelay::spawn(wan.relay(nodes, to, node.grpc_announced, node.grpc_port))?;
            wan.relays.push((udp, tcp));
        }
        Ok(wan)
    }

    /// The path between two nodes, by their indices, in this direction.
    ///
    /// # Panics
    /// When there is no such node, or both are the same.
    pub fn path(&self, from: usize, to: usize) -> &Path {
        &self.paths[&(from, to)]
    }

    fn relay(&self, nodes: &[WanNode], to: usize, listen: SocketAddr, port: u16) -> RelayConfig {
        let others = nodes.iter().enumerate().filter(|(from, _)| *from != to);
        let pair = |from| PathPair { forward: self.path(from, to).clone(), backward: self.path(to, from).clone() };
        RelayConfig {
            listen,
            target: (nodes[to].ip, port).into(),
            paths: others.map(|(from, node)| (node.ip, pair(from))).collect(),
            otherwise: PathPair::new(ImpairmentConfig::default(), 0),
        }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping it would wait, which a task of another runtime may not.
            runtime.shutdown_background();
        }
    }
}
