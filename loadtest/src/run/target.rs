//! What the load is put on: nodes that run already, or a mesh that lives as long as the run. The paths of users to
//! them, and between the nodes of an own mesh, are set here too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Value, json};
use sluice_mesh::wan::{ImpairmentConfig, PathSpec};

use super::RunError;
use crate::driver::{Direction, PathConfig, PathHandle};
use crate::fleet::{Fleet, FleetConfig, FleetError, sluice_beside};
use crate::plan::{Leg, Plan};
use crate::results::NodeInfo;
use crate::scenario::{FaultAction, Scenario, Target, TargetNode};
use crate::signalling::{ProtooClient, trust_anyone, trust_system};
use crate::user::room_url;

/// Until a node must have answered before the ramp.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// The nodes under test, and the paths to and between them.
pub(super) struct TargetMesh {
    nodes: Vec<TargetNode>,
    fleet: Option<Fleet>,
    /// Whom the users of each node trust.
    tls: Vec<Option<Arc<ClientConfig>>>,
    /// What lies between the users of a node and the node, by the node's index; absent where nothing ever does.
    user_paths: BTreeMap<usize, PathHandle>,
}

impl TargetMesh {
    /// Starts what has to be started, and sees that every node answers.
    pub(super) async fn prepare(scenario: &Scenario, plan: &Plan, sluice: Option<PathBuf>) -> Result<Self, RunError> {
        let (nodes, fleet) = match &scenario.target {
            Target::Nodes(nodes) => (nodes.clone(), None),
            Target::Dev { nodes, workers } => {
                let sluice = match sluice {
                    Some(sluice) => sluice,
                    None => sluice_beside(&std::env::current_exe().unwrap_or_default())?,
                };
                let paths = node_paths(plan);
                let fleet = Fleet::start(FleetConfig {
                    sluice,
                    nodes: *nodes,
                    workers: *workers,
                    paths,
                    seed: scenario.seed,
                    log_dir: None,
                });
                let fleet = fleet.await?;
                (fleet.nodes().to_vec(), Some(fleet))
            }
        };
        let tls = nodes.iter().map(tls).collect::<Result<_, _>>()?;
        let mesh = Self { nodes, fleet, tls, user_paths: user_paths(plan) };
        for (node, tls) in mesh.nodes.iter().zip(&mesh.tls) {
            probe(node, tls.clone()).await?;
        }
        Ok(mesh)
    }

    pub(super) fn nodes(&self) -> &[TargetNode] {
        &self.nodes
    }

    pub(super) fn infos(&self) -> Vec<NodeInfo> {
        let info = |node: &TargetNode| NodeInfo {
            name: node.name.clone(),
            region: node.region.clone(),
            url: node.url.clone(),
        };
        self.nodes.iter().map(info).collect()
    }

    /// Whom the users of a node trust; `None` where there is no TLS.
    pub(super) fn tls(&self, node: usize) -> Option<Arc<ClientConfig>> {
        self.tls.get(node).cloned().flatten()
    }

    /// What lies between the users of a node and the node.
    pub(super) fn user_path(&self, node: usize) -> Option<PathHandle> {
        self.user_paths.get(&node).cloned()
    }

    /// Changes one direction of a path.
    pub(super) fn set_path(&self, leg: Leg, config: ImpairmentConfig) -> Result<(), FleetError> {
        let set = |node: usize, direction| {
            if let Some(path) = self.user_paths.get(&node) {
                path.set_direction(direction, config);
            }
        };
        match leg {
            Leg::Up(node) => set(node, Direction::Out),
            Leg::Down(node) => set(node, Direction::In),
            Leg::Nodes { from, to } => {
                if let (Some(fleet), Some(from), Some(to)) = (&self.fleet, self.nodes.get(from), self.nodes.get(to)) {
                    fleet.set_path(&one_way(&from.region, &to.region, config))?;
                }
            }
        }
        Ok(())
    }

    /// Does to a node or a link what is to be done.
    pub(super) async fn inflict(&mut self, action: &FaultAction) -> Result<(), FleetError> {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        match action {
            FaultAction::Stop(region) => fleet.stop_node(region),
            FaultAction::Start(region) => fleet.start_node(region).await,
            FaultAction::Cut(a, b) => fleet.cut(a, b),
            FaultAction::Heal(a, b) => fleet.heal(a, b),
        }
    }

    /// Stops what was started.
    pub(super) async fn shutdown(self) {
        if let Some(fleet) = self.fleet {
            fleet.shutdown().await;
        }
    }
}

/// The paths between nodes as they are at the start. A link that will be cut needs one, be it a perfect one.
fn node_paths(plan: &Plan) -> Vec<PathSpec> {
    let region = |index: usize| plan.nodes.get(index).map_or("", |node| node.region.as_str());
    let mut paths: Vec<PathSpec> = Vec::new();
    for (leg, steps) in &plan.paths {
        if let (&Leg::Nodes { from, to }, Some(first)) = (leg, steps.first()) {
            let config = if first.at.is_zero() { first.config } else { ImpairmentConfig::default() };
            paths.push(one_way(region(from), region(to), config));
        }
    }
    for fault in &plan.faults {
        if let (FaultAction::Cut(a, b), true) = (&fault.action, paths.is_empty()) {
            paths.push(one_way(a, b, ImpairmentConfig::default()));
        }
    }
    paths
}

fn one_way(from: &str, to: &str, config: ImpairmentConfig) -> PathSpec {
    PathSpec { from: from.to_owned(), to: to.to_owned(), both: false, config }
}

fn user_paths(plan: &Plan) -> BTreeMap<usize, PathHandle> {
    let mut paths: BTreeMap<usize, PathConfig> = BTreeMap::new();
    for (leg, steps) in &plan.paths {
        let first = steps.first().filter(|step| step.at.is_zero()).map(|step| step.config).unwrap_or_default();
        match *leg {
            Leg::Up(node) => paths.entry(node).or_default().outbound = first,
            Leg::Down(node) => paths.entry(node).or_default().inbound = first,
            Leg::Nodes { .. } => {}
        }
    }
    paths.into_iter().map(|(node, config)| (node, PathHandle::new(config))).collect()
}

/// What a target is called that nobody gave a name.
pub(super) fn label(target: &Target) -> String {
    match target {
        Target::Dev { nodes: 1, workers } => format!("own node, {workers} worker(s)"),
        Target::Dev { nodes, workers } => format!("own mesh of {nodes} nodes, {workers} worker(s) each"),
        Target::Nodes(nodes) => nodes.iter().map(|node| node.url.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// What a node's users add to the query of their address.
pub(super) fn added_query(node: &TargetNode) -> String {
    if node.query.is_empty() { String::new() } else { format!("&{}", node.query) }
}

/// Whom the users of a node trust.
fn tls(node: &TargetNode) -> Result<Option<Arc<ClientConfig>>, RunError> {
    if !node.url.starts_with("wss:") {
        return Ok(None);
    }
    let config = if node.insecure { trust_anyone() } else { trust_system() };
    config.map(Some).map_err(|error| RunError::unreachable(node, &error.to_string()))
}

/// Whether a node speaks protoo to us, before anybody relies on it.
async fn probe(node: &TargetNode, tls: Option<Arc<ClientConfig>>) -> Result<(), RunError> {
    let unreachable = |why: &str| RunError::unreachable(node, why);
    let url = room_url(&node.url, "sluice-loadtest-probe", "probe", &added_query(node));
    let asked = async {
        let (protoo, _incoming) =
            ProtooClient::connect(&url, tls, None).await.map_err(|e| unreachable(&e.to_string()))?;
        protoo
            .call::<Value>("getRouterRtpCapabilities", json!({}))
            .await
            .map_err(|error| unreachable(&error.to_string()))?;
        protoo.close().await;
        Ok(())
    };
    match tokio::time::timeout(PROBE_WITHIN, asked).await {
        Ok(answered) => answered,
        Err(_) => Err(unreachable(&format!("no answer in {} s", PROBE_WITHIN.as_secs()))),
    }
}
