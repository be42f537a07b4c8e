//! `sluice dev`: a whole mesh in one process on this machine, to try things out and to develop against.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use sluice_mesh::ca::ClusterCa;
use sluice_proto::ids::{NodeId, Region};

use crate::config::{NodeConfig, Pem, TelemetryConfig};
use crate::node::{Node, StartError};

/// Users' port of the first node, unless another is asked for.
pub const DEFAULT_BASE_PORT: u16 = 4443;

/// From one node's ports to the next one's.
const PORT_STEP: u16 = 100;

/// A region each; more nodes than these get numbered ones.
const REGIONS: [&str; 8] = ["eu", "us", "ap", "sa", "af", "me", "oc", "ca"];

/// Certificates of a mesh that lives as long as its process.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

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
    /// Logs and traces of all nodes.
    pub telemetry: TelemetryConfig,
}

impl Default for DevOptions {
    fn default() -> Self {
        Self { nodes: 3, workers: 0, base_port: DEFAULT_BASE_PORT, telemetry: TelemetryConfig::default() }
    }
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
}

impl DevMesh {
    /// Starts all nodes and returns when all are ready.
    ///
    /// # Errors
    /// When a port is taken; nothing remains then.
    pub async fn start(options: &DevOptions) -> Result<Self, DevError> {
        check_ports(options)?;
        let starting: Vec<_> = configs(options)?
            .into_iter()
            .map(|config| (config.id.clone(), tokio::spawn(Node::start(config))))
            .collect();
        let mut mesh = Self { nodes: Vec::new() };
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

    /// Region, URL and ports of each node, to be read by people.
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
        table
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
    let region = match REGIONS.get(usize::from(index)) {
        Some(region) => (*region).to_owned(),
        None => format!("r{}", index + 1),
    };
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
    config.media.listen = local(ports.media);
    config.mesh.listen = local(ports.mesh);
    config.grpc.listen = local(ports.grpc);
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
    let Err((port, what, error)) = try_ports(options.base_port, options.nodes) else { return Ok(()) };
    let mut others = SUGGESTED_BASE_PORTS.step_by(1_000).map(|base| base + DEFAULT_BASE_PORT % 1_000);
    let suggestion = others.find(|base| try_ports(*base, options.nodes).is_ok()).unwrap_or(options.base_port);
    Err(DevError::PortTaken { port, what, reason: error.to_string(), suggestion })
}

/// The first port that is not to be had.
fn try_ports(base_port: u16, nodes: u16) -> Result<(), (u16, String, std::io::Error)> {
    for index in 0..nodes {
        let ports = Ports::of(base_port, index);
        let tcp = |port| TcpListener::bind(local(port)).map(drop);
        let udp = |port| UdpSocket::bind(local(port)).map(drop);
        let tries = [
            ("users", ports.users, tcp(ports.users)),
            ("admin", ports.admin, tcp(ports.admin)),
            ("media", ports.media, udp(ports.media)),
            ("mesh", ports.mesh, udp(ports.mesh)),
            ("gRPC", ports.grpc, tcp(ports.grpc)),
        ];
        for (what, port, tried) in tries {
            tried.map_err(|error| (port, format!("{what} of node {}", index + 1), error))?;
        }
    }
    Ok(())
}
