//! What a node of the fleet will be: name, ports, settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use sluice_mesh::wan::{WanNode, region_name};

use super::ports::Ports;
use super::{FleetConfig, FleetError};
use crate::scenario::TargetNode;

/// A node to be started.
pub(super) struct NodePlan {
    pub(super) target: TargetNode,
    ports: Ports,
    /// Where relays stand for it, if there are any.
    pub(super) relays: Option<WanNode>,
}

impl NodePlan {
    /// # Errors
    /// When no ports are free.
    pub(super) fn new(index: u16, config: &FleetConfig) -> Result<Self, FleetError> {
        let region = region_name(index);
        let ports = Ports::find().map_err(FleetError::system("free ports"))?;
        let relays = (!config.paths.is_empty()).then(|| WanNode::new(index, ports.mesh, ports.grpc));
        let target = TargetNode {
            name: format!("{region}-1"),
            region,
            url: format!("ws://{}", local(ports.users)),
            query: String::new(),
            metrics: Some(format!("http://{}/metrics", local(ports.admin))),
            pid: None,
            insecure: false,
        };
        Ok(Self { target, ports, relays })
    }

    pub(super) fn admin(&self) -> SocketAddr {
        local(self.ports.admin)
    }

    /// What the others know its pipes by.
    pub(super) fn mesh_announced(&self) -> SocketAddr {
        self.relays.as_ref().map_or(local(self.ports.mesh), |node| node.mesh_announced)
    }

    /// The command line, for certificates that are in `folder`.
    pub(super) fn args(&self, config: &FleetConfig, folder: &Path, seeds: &[String]) -> Vec<String> {
        let Self { target, ports, relays } = self;
        let file = |name: String| folder.join(name).display().to_string();
        let (mesh, grpc) = match relays {
            Some(node) => (node.mesh, node.grpc),
            None => (local(ports.mesh), local(ports.grpc)),
        };
        let mut settings = vec![
            ("id", target.name.clone()),
            ("region", target.region.clone()),
            ("workers", config.workers.to_string()),
            ("data-dir", file(target.name.clone())),
            ("users-listen", local(ports.users).to_string()),
            ("admin-listen", local(ports.admin).to_string()),
            ("media-listen", local(ports.media).to_string()),
            ("mesh-listen", mesh.to_string()),
            ("grpc-listen", grpc.to_string()),
            ("mesh-ca", file("ca.pem".to_owned())),
            ("mesh-cert", file(format!("{}.pem", target.name))),
            ("mesh-key", file(format!("{}.key", target.name))),
            ("cluster-seeds", seeds.join(",")),
        ];
        if let Some(node) = relays {
            settings.push(("mesh-announced", node.mesh_announced.to_string()));
            settings.push(("grpc-announced", node.grpc_announced.to_string()));
        }
        let flags = settings.into_iter().map(|(setting, value)| format!("--{setting}={value}"));
        std::iter::once("node".to_owned()).chain(flags).collect()
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
