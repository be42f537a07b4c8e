//! A mesh on one machine whose nodes are as far from each other as one likes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::runtime::{Builder, Runtime};

use super::{ImpairmentConfig, Path, PathPair, PathSpec, RelayConfig, SpecError, TcpRelay, UdpRelay};

/// Of the nodes of a mesh on one machine, a region each; more nodes than these get numbered ones.
const REGIONS: [&str; 8] = ["eu", "us", "ap", "sa", "af", "me", "oc", "ca"];

/// The region of the node with this index (from 0) in a mesh on one machine.
pub fn region_name(index: u16) -> String {
    REGIONS.get(usize::from(index)).map_or_else(|| format!("r{}", index + 1), |&region| region.to_owned())
}

/// A node, and where relays stand for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanNode {
    /// Its region, by which paths name it. No other node has the same.
    pub region: String,
    /// Where it listens for pipes (UDP). Relays know it by the IP address, which no other node has.
    pub mesh: SocketAddr,
    /// Where it listens for gRPC (TCP), at the same IP address.
    pub grpc: SocketAddr,
    /// What it announces for its pipes; a relay listens here.
    pub mesh_announced: SocketAddr,
    /// What it announces for gRPC; a relay listens here.
    pub grpc_announced: SocketAddr,
}

impl WanNode {
    /// The node with this index: it listens on a loopback address of its own, from 127.0.0.2 on, and relays on the same
    /// ports of 127.0.0.1.
    pub fn new(index: u16, mesh_port: u16, grpc_port: u16) -> Self {
        let own = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + u32::from(index));
        Self {
            region: region_name(index),
            mesh: (own, mesh_port).into(),
            grpc: (own, grpc_port).into(),
            mesh_announced: (Ipv4Addr::LOCALHOST, mesh_port).into(),
            grpc_announced: (Ipv4Addr::LOCALHOST, grpc_port).into(),
        }
    }
}

/// Relays between all nodes of a mesh on this machine, with a path for each direction between two of them. They run on
/// a thread of their own, so that nothing else delays them, and end when this is dropped.
#[derive(Debug)]
pub struct Wan {
    regions: Vec<String>,
    /// By the indices of both ends.
    paths: HashMap<(usize, usize), Path>,
    relays: Vec<(UdpRelay, TcpRelay)>,
    runtime: Option<Runtime>,
}

impl Wan {
    /// Starts a relay for each port of each node. All paths are perfect; `seed` decides what they lose later.
    ///
    /// # Errors
    /// When an announced address cannot be listened on.
    pub fn start(nodes: &[WanNode], seed: u64) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("sluice-wan").enable_all().build()?;
        let handle = runtime.handle().clone();
        let pairs = (0..nodes.len()).flat_map(|from| (0..nodes.len()).map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to);
        let paths = (seed..).zip(pairs).map(|(seed, pair)| (pair, Path::new(ImpairmentConfig::default(), seed)));
        let mut wan = Self {
            regions: nodes.iter().map(|node| node.region.clone()).collect(),
            paths: paths.collect(),
            relays: Vec::new(),
            runtime: Some(runtime),
        };
        let _entered = handle.enter();
        for (to, node) in nodes.iter().enumerate() {
            let paths = wan.paths_to(to, nodes);
            let relay = |listen, target| RelayConfig {
                listen,
                target,
                paths: paths.clone(),
                otherwise: PathPair::new(ImpairmentConfig::default(), seed),
            };
            let udp = UdpRelay::spawn(relay(node.mesh_announced, node.mesh))?;
            let tcp = TcpRelay::spawn(relay(node.grpc_announced, node.grpc))?;
            wan.relays.push((udp, tcp));
        }
        Ok(wan)
    }

    /// Makes the path between two regions, in one direction or both, what the specification says.
    ///
    /// # Errors
    /// [`SpecError::Region`] when there is no such region, [`SpecError::SameEnds`] when both are the same.
    pub fn set(&self, spec: &PathSpec) -> Result<(), SpecError> {
        let (there, back) = (self.path(&spec.from, &spec.to)?, self.path(&spec.to, &spec.from)?);
        there.set_config(spec.config);
        if spec.both {
            back.set_config(spec.config);
        }
        Ok(())
    }

    /// Nothing passes between two regions, in neither direction, until [`heal`](Self::heal).
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub fn cut(&self, a: &str, b: &str) -> Result<(), SpecError> {
        self.both(a, b, Path::cut)
    }

    /// Ends what [`cut`](Self::cut) began.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub fn heal(&self, a: &str, b: &str) -> Result<(), SpecError> {
        self.both(a, b, Path::heal)
    }

    /// The path between two regions in this direction.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub fn path(&self, from: &str, to: &str) -> Result<&Path, SpecError> {
        let ends = (self.index(from)?, self.index(to)?);
        self.paths.get(&ends).ok_or_else(|| SpecError::SameEnds(format!("{from}-{to}")))
    }

    /// Every direction between two regions.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &str, &Path)> {
        let regions = || self.regions.iter().enumerate();
        regions().flat_map(move |(from, a)| {
            regions().filter_map(move |(to, b)| Some((a.as_str(), b.as_str(), self.paths.get(&(from, to))?)))
        })
    }

    fn both(&self, a: &str, b: &str, change: fn(&Path)) -> Result<(), SpecError> {
        let (there, back) = (self.path(a, b)?, self.path(b, a)?);
        change(there);
        change(back);
        Ok(())
    }

    fn index(&self, region: &str) -> Result<usize, SpecError> {
        let index = self.regions.iter().position(|known| known == region);
        index.ok_or_else(|| SpecError::Region { region: region.to_owned(), allowed: self.regions.join(", ") })
    }

    fn paths_to(&self, to: usize, nodes: &[WanNode]) -> HashMap<IpAddr, PathPair> {
        let pair = |from| {
            let (forward, backward) = (self.paths.get(&(from, to))?, self.paths.get(&(to, from))?);
            Some(PathPair { forward: forward.clone(), backward: backward.clone() })
        };
        nodes.iter().enumerate().filter_map(|(from, node)| Some((node.mesh.ip(), pair(from)?))).collect()
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
