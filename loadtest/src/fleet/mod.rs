//! A mesh of `sluice node` processes on this machine to put load on. Each node is a process of its own, so that its
//! processor time is its own; and what can happen to a mesh out there can happen to it: nodes die and come back, paths
//! are long, get worse, are cut and heal.

mod plan;
mod ports;
mod process;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use sluice_mesh::wan::{PathSpec, SpecError, Wan, WanNode};
use tempfile::TempDir;

use self::plan::NodePlan;
use self::process::{NodeProcess, Spawner};
use crate::http::HttpClient;
use crate::scenario::TargetNode;

/// A mesh over paths of seconds and with losses, on a slow machine, stands before this.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two questions to a node that starts or stops.
const POLL: Duration = Duration::from_millis(20);

/// What nodes may take to end in order; a node gives each of its parts 3 seconds.
const GRACE: Duration = Duration::from_secs(10);

/// What mesh to start.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The program, see [`sluice_beside`].
    pub sluice: PathBuf,
    /// Nodes, a region each: `eu`, `us`, `ap` and so on, as `sluice dev` has them.
    pub nodes: u16,
    /// Media workers of each node.
    pub workers: u16,
    /// Paths between nodes. If there are any, relays stand between all nodes and every path can be changed and cut;
    /// without relays none can. A path that is perfect until then is given as
    /// [`ImpairmentConfig::default`](sluice_mesh::wan::ImpairmentConfig).
    pub paths: Vec<PathSpec>,
    /// Decides what paths lose.
    pub seed: u64,
    /// Where the nodes' logs are kept; `None`: they are removed at the end.
    pub log_dir: Option<PathBuf>,
}

/// Why a mesh does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The program is not there.
    #[error("there is no `sluice` beside {}; build it with `cargo build --release -p sluice-node`", .0.display())]
    NoBinary(PathBuf),
    /// A file, a program or a thread.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// `sluice ca` refused.
    #[error("the nodes' certificates: {0}")]
    Certificates(String),
    /// Nodes without relays between them.
    #[error(
        "there are no relays between the nodes: paths can only be changed and cut where one was given at the start"
    )]
    NoRelays,
    /// There is no such region, or both ends of a path are the same.
    #[error(transparent)]
    Region(#[from] SpecError),
    /// A node ended, or is not what it should be in time.
    #[error("node {node} {what}; its log ends with:\n{log}")]
    Node {
        /// The node.
        node: String,
        /// What is wrong with it.
        what: String,
        /// The last lines of its log.
        log: String,
    },
}

impl FleetError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::System { what: what.into(), source }
    }
}

/// The program that lies beside an executable, or one folder up for those of tests.
///
/// # Errors
/// [`FleetError::NoBinary`] with the command that builds it.
pub fn sluice_beside(executable: &Path) -> Result<PathBuf, FleetError> {
    let name = format!("sluice{}", std::env::consts::EXE_SUFFIX);
    let folder = executable.parent();
    let above = folder.filter(|folder| folder.ends_with("deps")).and_then(Path::parent);
    let found = [folder, above].into_iter().flatten().map(|folder| folder.join(&name)).find(|path| path.is_file());
    found.ok_or_else(|| FleetError::NoBinary(executable.to_owned()))
}

/// A running mesh. What still runs of it when it is dropped is killed.
#[derive(Debug)]
pub struct Fleet {
    targets: Vec<TargetNode>,
    nodes: Vec<NodeProcess>,
    wan: Option<Wan>,
    spawner: Spawner,
    http: HttpClient,
    /// Certificates and what nodes remember; removed at the end.
    _folder: TempDir,
}

impl Fleet {
    /// Starts a mesh; returns when all nodes are ready, know each other and have their pipes up.
    ///
    /// # Errors
    /// [`FleetError`]; nothing is left running then.
    pub async fn start(config: FleetConfig) -> Result<Self, FleetError> {
        let folder = TempDir::with_prefix("sluice-fleet-").map_err(FleetError::system("a temporary folder"))?;
        let log_dir = config.log_dir.as_deref().unwrap_or(folder.path());
        std::fs::create_dir_all(log_dir).map_err(FleetError::system(log_dir.display().to_string()))?;
        let plans = (0..config.nodes).map(|index| NodePlan::new(index, &config)).collect::<Result<Vec<_>, _>>()?;
        make_certificates(&config.sluice, folder.path(), &plans)?;
        let wan = if config.paths.is_empty() { None } else { Some(start_wan(&config, &plans)?) };
        let spawner = Spawner::new().map_err(FleetError::system("a thread"))?;
        let seeds: Vec<String> = plans.iter().take(2).map(|plan| plan.mesh_announced().to_string()).collect();
        let nodes = plans.iter().map(|plan| {
            let log = log_dir.join(format!("{}.log", plan.target.name));
            let args = plan.args(&config, folder.path(), &seeds);
            NodeProcess::new(config.sluice.clone(), args, log, plan.admin())
        });
        let nodes = nodes.collect();
        let targets = plans.into_iter().map(|plan| plan.target).collect();
        let mut fleet = Self { targets, nodes, wan, spawner, http: HttpClient::default(), _folder: folder };
        for index in 0..fleet.nodes.len() {
            fleet.spawn(index)?;
        }
        let deadline = deadline();
        for index in 0..fleet.nodes.len() {
            fleet.wait_until_ready(index, deadline).await?;
        }
        for index in 0..fleet.nodes.len() {
            fleet.wait_until_acquainted(index, deadline).await?;
        }
        Ok(fleet)
    }

    /// The nodes. One that is stopped has no process id.
    pub fn nodes(&self) -> &[TargetNode] {
        &self.targets
    }

    /// Kills a region's node, as when its machine loses power.
    ///
    /// # Errors
    /// [`FleetError::Region`] when there is no such region.
    pub fn stop_node(&mut self, region: &str) -> Result<(), FleetError> {
        let index = self.index(region)?;
        self.nodes[index].kill();
        self.targets[index].pid = None;
        Ok(())
    }

    /// Starts a region's node again, on the same ports, and returns when it is ready. Does nothing if it runs.
    ///
    /// # Errors
    /// [`FleetError`] when there is no such region or the node does not start.
    pub async fn start_node(&mut self, region: &str) -> Result<(), FleetError> {
        let index = self.index(region)?;
        if self.nodes[index].ended().is_none() {
            return Ok(());
        }
        self.spawn(index)?;
        self.wait_until_ready(index, deadline()).await
    }

    /// Whether all nodes run that were not stopped: a mesh that lost one by itself is not what the load was meant for.
    ///
    /// # Errors
    /// [`FleetError::Node`] with how it ended and the end of its log.
    pub fn check(&mut self) -> Result<(), FleetError> {
        for (node, target) in self.nodes.iter_mut().zip(&self.targets) {
            if let (Some(_), Some(status)) = (target.pid, node.ended()) {
                let what = format!("ended ({status})");
                return Err(FleetError::Node { node: target.name.clone(), what, log: node.log_tail() });
            }
        }
        Ok(())
    }

    /// Changes the path between two regions, in one direction or both. While it is cut it stays so; this is then what
    /// it heals to.
    ///
    /// # Errors
    /// [`FleetError::NoRelays`] and [`FleetError::Region`].
    pub fn set_path(&self, spec: &PathSpec) -> Result<(), FleetError> {
        Ok(self.wan()?.set(spec)?)
    }

    /// Nothing passes between two regions' nodes, neither pipes nor gRPC, in neither direction.
    ///
    /// # Errors
    /// [`FleetError::NoRelays`] and [`FleetError::Region`].
    pub fn cut(&self, a: &str, b: &str) -> Result<(), FleetError> {
        Ok(self.wan()?.cut(a, b)?)
    }

    /// The path between two regions is again what it was set to.
    ///
    /// # Errors
    /// [`FleetError::NoRelays`] and [`FleetError::Region`].
    pub fn heal(&self, a: &str, b: &str) -> Result<(), FleetError> {
        Ok(self.wan()?.heal(a, b)?)
    }

    /// The relays between the nodes, for their statistics; `None` when there are none.
    pub fn relays(&self) -> Option<&Wan> {
        self.wan.as_ref()
    }

    /// Asks all nodes to end, and kills those that take too long.
    pub async fn shutdown(mut self) {
        self.nodes.iter().for_each(NodeProcess::terminate);
        let ended = async {
            while self.nodes.iter_mut().any(|node| node.ended().is_none()) {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("some nodes did not end in time and are killed");
        }
    }

    fn wan(&self) -> Result<&Wan, FleetError> {
        self.wan.as_ref().ok_or(FleetError::NoRelays)
    }

    fn index(&self, region: &str) -> Result<usize, FleetError> {
        self.targets.iter().position(|node| node.region == region).ok_or_else(|| {
            let allowed: Vec<_> = self.targets.iter().map(|node| node.region.as_str()).collect();
            FleetError::Region(SpecError::Region { region: region.to_owned(), allowed: allowed.join(", ") })
        })
    }

    fn spawn(&mut self, index: usize) -> Result<(), FleetError> {
        let node = &mut self.nodes[index];
        node.spawn(&self.spawner).map_err(FleetError::system(node.program().display().to_string()))?;
        self.targets[index].pid = node.pid();
        Ok(())
    }

    async fn wait_until_ready(&mut self, index: usize, deadline: Instant) -> Result<(), FleetError> {
        self.wait(index, deadline, "/readyz", "is not ready", |_| true).await
    }

    async fn wait_until_acquainted(&mut self, index: usize, deadline: Instant) -> Result<(), FleetError> {
        let own = &self.targets[index].region;
        let others = self.targets.iter().filter(|other| other.region != *own);
        let pipes: Vec<String> =
            others.filter(|other| self.may_reach(own, &other.region)).map(|n| n.name.clone()).collect();
        let members: Vec<String> = self.targets.iter().map(|node| node.name.clone()).collect();
        let acquainted = |body: &str| {
            let Ok(cluster) = serde_json::from_str::<Cluster>(body) else { return false };
            members.iter().all(|name| cluster.members.iter().any(|it| it.node == *name && it.state == "live"))
                && pipes.iter().all(|name| cluster.pipes.iter().any(|it| it.node == *name && it.state == "up"))
        };
        self.wait(index, deadline, "/v1/cluster", "does not know all others", acquainted).await
    }

    /// Whether pipes can come up: a path may be dark from the start.
    fn may_reach(&self, a: &str, b: &str) -> bool {
        let dark = |path: Result<&sluice_mesh::wan::Path, _>| path.is_ok_and(|path| path.config().blackout);
        self.wan.as_ref().is_none_or(|wan| !dark(wan.path(a, b)) && !dark(wan.path(b, a)))
    }

    /// Asks a node's admin port until the answer is as wanted.
    async fn wait(
        &mut self,
        index: usize,
        deadline: Instant,
        path: &str,
        otherwise: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), FleetError> {
        let node = &mut self.nodes[index];
        loop {
            if self.http.get(node.admin, path).await.is_some_and(|body| wanted(&body)) {
                return Ok(());
            }
            let what = match node.ended() {
                Some(status) => format!("ended ({status})"),
                None if clock() >= deadline => format!("{otherwise} after {} s", START_TIMEOUT.as_secs()),
                None => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            return Err(FleetError::Node { node: self.targets[index].name.clone(), what, log: node.log_tail() });
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "processes live by the clock")]
fn clock() -> Instant {
    Instant::now()
}

fn deadline() -> Instant {
    clock() + START_TIMEOUT
}

/// Of the answer to `GET /v1/cluster`, what is looked at.
#[derive(Deserialize)]
struct Cluster {
    members: Vec<Acquaintance>,
    pipes: Vec<Acquaintance>,
}

#[derive(Deserialize)]
struct Acquaintance {
    node: String,
    state: String,
}

fn start_wan(config: &FleetConfig, plans: &[NodePlan]) -> Result<Wan, FleetError> {
    let nodes: Vec<WanNode> = plans.iter().filter_map(|plan| plan.relays.clone()).collect();
    let wan = Wan::start(&nodes, config.seed).map_err(FleetError::system("relays between the nodes"))?;
    config.paths.iter().try_for_each(|spec| wan.set(spec))?;
    Ok(wan)
}

fn make_certificates(sluice: &Path, folder: &Path, plans: &[NodePlan]) -> Result<(), FleetError> {
    let issue = plans.iter().map(|plan| vec!["issue", "--node", &plan.target.name]);
    for args in std::iter::once(vec!["init"]).chain(issue) {
        let mut command = process::command(sluice);
        let output = command.arg("ca").args(args).arg("--dir").arg(folder).output();
        let output = output.map_err(FleetError::system(sluice.display().to_string()))?;
        if !output.status.success() {
            return Err(FleetError::Certificates(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
    }
    Ok(())
}
