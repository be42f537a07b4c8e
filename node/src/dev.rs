//! `sluice dev`: a whole mesh in one process on this machine, to try things out and to develop against.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use sluice_mesh::ca::ClusterCa;
use sluice_mesh::wan::{ImpairmentConfig, PathSpec, SpecError, Wan, WanNode, region_name};
use sluice_proto::ids::{NodeId, Region};

use crate::config::{Announced, NodeConfig, Pem, TelemetryConfig};
use crate::node::{Node, NodeEnd, StartError};

/// Users' port of the first node, unless another is asked for.
pub const DEFAULT_BASE_PORT: u16 = 4443;

/// From one node's ports to the next one's.
const PORT_STEP: u16 = 100;

/// Certificates of a mesh that lives as long as its process.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Of what paths lose: the same in each run, as far as the nodes do the same.
const WAN_SEED: u64 = 1;

/// Tried for a free range when the one that was asked for is taken.
const SUGGESTED_BASE_PORTS: std::ops::Range<u16> = 10_000..60_000;

/// What mesh to make.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// Nodes, one region each.
    pub nodes: u16,
    /// Media workers of each node; 0: one for each processor.
    pub workers: u16,
    /// Users' port of the first node. Its others, and those of the other nodes, follow.
    pub base_port: u16,
    /// Paths between nodes that are not perfect. If there are any, relays stand between all nodes: on the ports that
    /// the nodes would have had, which then listen for each other on 127.0.0.2, 127.0.0.3 and so on, so that relays can
    /// tell them apart.
    pub wan: Vec<PathSpec>,
    /// An address of this machine besides loopback, see [`lan_address`]. Users are told it too, and media are taken on
    /// all addresses: some browsers (Firefox) send none to loopback.
    pub lan: Option<IpAddr>,
    /// Logs and traces of all nodes.
    pub telemetry: TelemetryConfig,
}

impl Default for DevOptions {
    fn default() -> Self {
        let telemetry = TelemetryConfig::default();
        Self { nodes: 3, workers: 0, base_port: DEFAULT_BASE_PORT, wan: Vec::new(), lan: None, telemetry }
    }
}

impl DevOptions {
    fn media_listen(&self, port: u16) -> SocketAddr {
        if self.lan.is_some() { (Ipv4Addr::UNSPECIFIED, port).into() } else { local(port) }
    }
}

/// The address from which this machine would reach others, if it has one. Nothing is sent for it.
pub fn lan_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address for documentation (RFC 5737): only the route counts.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Why a mesh did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The ports do not fit below 65536 or above 3.
    #[error("--base-port {base_port}: allowed is an integer from 4 to {max} with {nodes} nodes")]
    BasePort {
        /// What was asked for.
        base_port: u16,
        /// Nodes that were asked for.
        nodes: u16,
        /// The highest that fits.
        max: u16,
    },
    /// A port is taken.
    #[error("port {port} ({what}) is taken: {reason}; try --base-port {suggestion}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Whose it would have been.
        what: String,
        /// The system's reason.
        reason: String,
        /// A base port with which all ports are free.
        suggestion: u16,
    },
    /// A path makes no sense.
    #[error("--wan {0}: {1}")]
    Wan(String, SpecError),
    /// The relays cannot be started.
    #[error("relays between the nodes: {0}")]
    Relays(std::io::Error),
    /// The certificates cannot be made.
    #[error("the mesh's certificates: {0}")]
    Ca(#[from] sluice_mesh::ca::CaError),
    /// A node does not start.
    #[error("node {node}: {source}")]
    Start {
        /// The node.
        node: NodeId,
        /// Why.
        source: StartError,
    },
}

/// A running mesh.
#[derive(Debug)]
pub struct DevMesh {
    nodes: Vec<Node>,
    wan: Option<Wan>,
}

impl DevMesh {
    /// Starts all nodes and returns when all are ready.
    ///
    /// # Errors
    /// When a port is taken; nothing remains then.
    pub async fn start(options: &DevOptions) -> Result<Self, DevError> {
        check_ports(options)?;
        let wan = start_wan(options)?;
        let starting: Vec<_> = configs(options)?
            .into_iter()
            .map(|config| (config.id.clone(), tokio::spawn(Node::start(config))))
            .collect();
        let mut mesh = Self { nodes: Vec::new(), wan };
        let mut failed = None;
        for (node, starting) in starting {
            match starting.await {
                Ok(Ok(started)) => mesh.nodes.push(started),
                Ok(Err(source)) => failed = Some(DevError::Start { node, source }),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        match failed {
            None => Ok(mesh),
            Some(error) => {
                mesh.shutdown().await;
                Err(error)
            }
        }
    }

    /// The nodes, in the order of their ports.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Region, URL and ports of each node and the paths between them that are not perfect, to be read by people.
    pub fn table(&self) -> String {
        let heads = ["region", "node", "URL", "admin", "media", "mesh", "gRPC"].map(str::to_owned);
        let rows = self.nodes.iter().map(|node| {
            let config = node.config();
            let url = |addr: SocketAddr| format!("http://localhost:{}/", addr.port());
            let port = |addr: SocketAddr| addr.port().to_string();
            [
                config.region.to_string(),
                config.id.to_string(),
                url(config.users.listen),
                url(config.admin.listen),
                port(config.media.listen),
                port(config.mesh.listen),
                port(config.grpc.listen),
            ]
        });
        let mut table = String::new();
        for [region, node, url, admin, media, mesh, grpc] in std::iter::once(heads).chain(rows) {
            let _ = writeln!(table, "{region:<7} {node:<8} {url:<24} {admin:<24} {media:<6} {mesh:<6} {grpc}");
        }
        for (from, to, path) in self.wan.iter().flat_map(Wan::paths) {
            if path.config() != ImpairmentConfig::default() {
                let _ = writeln!(table, "{from:<7} > {to:<6} {}", path.config());
            }
        }
        table
    }

    /// Waits until one of the nodes has to end.
    pub async fn ending(&self) -> (NodeId, NodeEnd) {
        let ending = self.nodes.iter().map(|node| node.ending().map(|end| (node.config().id.clone(), end)).boxed());
        select_all(ending).await.0
    }

    /// Ends all nodes.
    pub async fn shutdown(self) {
        let ending: Vec<_> = self.nodes.into_iter().map(|node| tokio::spawn(node.shutdown())).collect();
        for node in ending {
            // Fails only if a part's ending panicked, which has been logged by then.
            let _ = node.await;
        }
    }
}

/// The settings of each node of a development mesh, with a CA made for the occasion.
///
/// # Errors
/// [`DevError::Ca`] or [`DevError::BasePort`].
pub fn configs(options: &DevOptions) -> Result<Vec<NodeConfig>, DevError> {
    check_base_port(options)?;
    let ca = ClusterCa::create(NodeConfig::default().cluster.name.as_str(), VALIDITY)?;
    (0..options.nodes).map(|index| config(options, &ca, index)).collect()
}

fn config(options: &DevOptions, ca: &ClusterCa, index: u16) -> Result<NodeConfig, DevError> {
    let ports = Ports::of(options.base_port, index);
    let region = region_name(index);
    let mut config = NodeConfig {
        id: NodeId::new(format!("{region}-1")).expect("a valid name"),
        region: Region::new(region).expect("a valid name"),
        workers: options.workers,
        telemetry: options.telemetry.clone(),
        ..NodeConfig::default()
    };
    let certificate = ca.issue(&config.id, &[], VALIDITY)?;
    config.mesh.ca = Some(Pem::Text(ca.cert_pem().to_owned()));
    config.mesh.cert = Some(Pem::Text(certificate.cert_pem));
    config.mesh.key = Some(Pem::Text(certificate.key_pem));
    config.users.listen = local(ports.users);
    config.admin.listen = local(ports.admin);
    config.media.listen = options.media_listen(ports.media);
    // Who listens on all addresses answers from the one that the system chooses: to this machine's own browsers, the
    // network's.
    config.media.announced =
        options.lan.iter().flat_map(|lan| [*lan, Ipv4Addr::LOCALHOST.into()]).map(Announced::from).collect();
    config.mesh.listen = local(ports.mesh);
    config.grpc.listen = local(ports.grpc);
    if !options.wan.is_empty() {
        let node = ports.wan_node(index);
        (config.mesh.listen, config.mesh.announced) = (node.mesh, Some(Announced::from(node.mesh_announced)));
        (config.grpc.listen, config.grpc.announced) = (node.grpc, Some(Announced::from(node.grpc_announced)));
    }
    // The first two know of everybody soon, and either may be killed.
    let seeds = (0..options.nodes.min(2)).filter(|seed| *seed != index);
    let addresses = seeds.map(|seed| local(Ports::of(options.base_port, seed).mesh).to_string());
    config.cluster.seeds = addresses.map(|addr| addr.parse().expect("an address with a port")).collect();
    Ok(config)
}

/// The ports of one node.
struct Ports {
    admin: u16,
    users: u16,
    media: u16,
    mesh: u16,
    grpc: u16,
}

impl Ports {
    fn of(base_port: u16, index: u16) -> Self {
        let users = base_port + PORT_STEP * index;
        Self { admin: users - 3, users, media: users + 1, mesh: users + 2, grpc: users + 3 }
    }

    fn wan_node(&self, index: u16) -> WanNode {
        WanNode::new(index, self.mesh, self.grpc)
    }
}

fn start_wan(options: &DevOptions) -> Result<Option<Wan>, DevError> {
    if options.wan.is_empty() {
        return Ok(None);
    }
    let nodes = (0..options.nodes).map(|index| Ports::of(options.base_port, index).wan_node(index));
    let wan = Wan::start(&nodes.collect::<Vec<_>>(), WAN_SEED).map_err(DevError::Relays)?;
    for spec in &options.wan {
        wan.set(spec).map_err(|error| DevError::Wan(spec.to_string(), error))?;
    }
    Ok(Some(wan))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn check_base_port(options: &DevOptions) -> Result<(), DevError> {
    let (nodes, base_port) = (options.nodes, options.base_port);
    let max = u32::from(u16::MAX) - 3 - u32::from(PORT_STEP) * u32::from(nodes.saturating_sub(1));
    let max = u16::try_from(max).unwrap_or(0);
    if (4..=max).contains(&base_port) { Ok(()) } else { Err(DevError::BasePort { base_port, nodes, max }) }
}

fn check_ports(options: &DevOptions) -> Result<(), DevError> {
    check_base_port(options)?;
    let try_ports = |base_port| try_ports(base_port, options);
    let Err((port, what, error)) = try_ports(options.base_port) else { return Ok(()) };
    let mut others = SUGGESTED_BASE_PORTS.step_by(1_000).map(|base| base + DEFAULT_BASE_PORT % 1_000);
    let suggestion = others.find(|base| try_ports(*base).is_ok()).unwrap_or(options.base_port);
    Err(DevError::PortTaken { port, what, reason: error.to_string(), suggestion })
}

/// The first port that is not to be had.
fn try_ports(base_port: u16, options: &DevOptions) -> Result<(), (u16, String, std::io::Error)> {
    for index in 0..options.nodes {
        let ports = Ports::of(base_port, index);
        let behind = Some(ports.wan_node(index)).filter(|_| !options.wan.is_empty());
        let tcp = |addr: SocketAddr| (addr.port(), TcpListener::bind(addr).map(drop));
        let udp = |addr: SocketAddr| (addr.port(), UdpSocket::bind(addr).map(drop));
        let tries = [
            ("users", Some(tcp(local(ports.users)))),
            ("admin", Some(tcp(local(ports.admin)))),
            ("media", Some(udp(options.media_listen(ports.media)))),
            ("mesh", Some(udp(local(ports.mesh)))),
            ("mesh", behind.as_ref().map(|node| udp(node.mesh))),
            ("gRPC", Some(tcp(local(ports.grpc)))),
            ("gRPC", behind.as_ref().map(|node| tcp(node.grpc))),
        ];
        for (what, tried) in tries {
            let Some((port, tried)) = tried else { continue };
            tried.map_err(|error| (port, format!("{what} of node {}", index + 1), error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_an_address_besides_loopback_if_there_is_one() {
        let lan: IpAddr = [192, 168, 1, 7].into();
        for (lan, told) in [(Some(lan), vec![lan, Ipv4Addr::LOCALHOST.into()]), (None, vec![])] {
            let config = configs(&DevOptions { nodes: 1, lan, ..DevOptions::default() }).unwrap().remove(0);
            assert_eq!(config.media.announced, told.into_iter().map(Announced::from).collect::<Vec<_>>());
            // Loopback goes on to be taken, where a browser prefers it.
            assert_eq!(config.media.listen.ip().is_unspecified(), lan.is_some());
        }
    }
}
