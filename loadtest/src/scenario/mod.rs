//! What a run does: who meets where, what they send and watch, what the network and the nodes do meanwhile, and what is
//! expected of all that. A TOML file says it; `docs/scenarios.md` is its reference.

mod check;
mod file;
mod overrides;
mod places;
mod read;
mod scalability;
mod section;
mod shipped;
#[cfg(test)]
mod tests;
mod value;
mod write;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sluice_mesh::wan::ImpairmentConfig;

use crate::results::ScenarioInfo;
use crate::transport::Delivery;

pub use self::file::{ScenarioError, ScenarioFile};
pub use self::overrides::Overrides;
pub use self::scalability::{InterLayer, ScalabilityMode, UnknownMode};
pub use self::shipped::shipped_names;

/// A whole scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Short name.
    pub name: String,
    /// What it is about, in a sentence.
    pub description: String,
    /// Decides everything random.
    pub seed: u64,
    /// Time over which the users join, evenly.
    pub ramp: Duration,
    /// Time after the ramp; what is judged is measured here, joins excepted.
    pub duration: Duration,
    /// What the load is put on.
    pub target: Target,
    /// Rooms, by kinds.
    pub rooms: Vec<Rooms>,
    /// Paths that are not perfect.
    pub wan: Vec<Path>,
    /// What happens to nodes and links, in order of time.
    pub faults: Vec<Fault>,
    /// What is expected.
    pub slo: Slo,
    /// How the generator works.
    pub generator: GeneratorConfig,
}

/// What the load is put on. `--dev` and `--target` replace it.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A mesh that the run starts on this machine and stops at its end.
    Dev {
        /// Nodes, one region each: `eu`, `us`, `ap`, as `sluice dev` has them.
        nodes: u16,
        /// Media workers of each; 0: one for each processor.
        workers: u16,
    },
    /// Nodes that run already.
    Nodes(Vec<TargetNode>),
}

impl Default for Target {
    fn default() -> Self {
        Self::Dev { nodes: 1, workers: 1 }
    }
}

/// Regions of a mesh that the run starts, as `sluice dev` calls them; further nodes are in `r9` and so on.
const DEV_REGIONS: [&str; 8] = ["eu", "us", "ap", "sa", "af", "me", "oc", "ca"];

impl Target {
    /// Its nodes, in order.
    pub fn nodes(&self) -> Vec<NodeName> {
        match self {
            Self::Dev { nodes, .. } => (0..usize::from(*nodes)).map(dev_node).collect(),
            Self::Nodes(nodes) => {
                nodes.iter().map(|node| NodeName { name: node.name.clone(), region: node.region.clone() }).collect()
            }
        }
    }

    /// The regions of its nodes, each once, in order.
    pub fn regions(&self) -> Vec<String> {
        let mut regions = Vec::new();
        for node in self.nodes() {
            if !regions.contains(&node.region) {
                regions.push(node.region);
            }
        }
        regions
    }
}

fn dev_node(index: usize) -> NodeName {
    let region = DEV_REGIONS.get(index).map_or_else(|| format!("r{}", index + 1), |region| (*region).to_owned());
    NodeName { name: format!("{region}-1"), region }
}

/// What a node of the target is called, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
}

/// A node that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetNode {
    /// Its name, for reports; the region if none is given.
    pub name: String,
    /// Region.
    pub region: String,
    /// Where users connect: `ws://` or `wss://`, host and port, perhaps a path.
    pub url: String,
    /// Added to the query: `token=...`.
    pub query: String,
    /// Where its metrics are: `http://host:port/metrics`.
    pub metrics: Option<String>,
    /// Its process, if it is on this machine: processor time and memory are read from there when there are no metrics.
    pub pid: Option<u32>,
    /// Accepts any certificate of `wss://`.
    pub insecure: bool,
}

/// Rooms of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Rooms {
    /// First part of their names; a number follows.
    pub name: String,
    /// How many.
    pub count: u32,
    /// Who is in each.
    pub users: Vec<Users>,
}

/// Users of one kind in a room.
#[derive(Debug, Clone, PartialEq)]
pub struct Users {
    /// What they are called in reports.
    pub name: String,
    /// How many in each room.
    pub count: u32,
    /// Regions of the nodes that they connect to, in turn; empty: all of the target's.
    pub regions: Vec<String>,
    /// What they say.
    pub audio: Option<Audio>,
    /// What they show.
    pub video: Option<Video>,
    /// What they send on a data channel.
    pub data: Option<Data>,
    /// What they receive of the others' audio.
    pub watch_audio: Watch,
    /// What they receive of the others' video.
    pub watch_video: Watch,
    /// They receive what the others send on data channels.
    pub watch_data: bool,
    /// Their media go by TCP.
    pub tcp: bool,
    /// They come and go.
    pub churn: Option<Churn>,
}

/// Sent audio: Opus.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// While speaking, in bits per second.
    pub bitrate: u32,
    /// Share of the time (0 to 1) that the user speaks, in turns of some seconds.
    pub talk: f64,
    /// Sends next to nothing while not speaking (RFC 7587 section 3.1.3); otherwise silence is sent in full.
    pub dtx: bool,
    /// An Ogg or WebM file with Opus to send instead of synthetic packets, over and over.
    pub file: Option<std::path::PathBuf>,
}

impl Default for Audio {
    fn default() -> Self {
        Self { bitrate: 32_000, talk: 1.0, dtx: true, file: None }
    }
}

/// Sent video.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// Codec.
    pub codec: VideoCodec,
    /// The streams that are sent of one picture (simulcast), lowest first.
    pub encodings: Vec<VideoEncoding>,
    /// The layers inside its only encoding, of VP9.
    pub scalability_mode: Option<ScalabilityMode>,
    /// An IVF or WebM file of `codec` to send instead of synthetic frames, over and over.
    pub file: Option<std::path::PathBuf>,
}

/// One stream of video.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoEncoding {
    /// At most, in bits per second; congestion control may demand less.
    pub bitrate: u32,
    /// Frames per second.
    pub fps: u32,
    /// Temporal layers, 1 to 3.
    pub temporal_layers: u8,
    /// Between key frames that nobody asked for; `None`: only the first and those asked for.
    pub key_frame_interval: Option<Duration>,
}

impl Default for VideoEncoding {
    fn default() -> Self {
        Self { bitrate: 1_000_000, fps: 30, temporal_layers: 1, key_frame_interval: None }
    }
}

/// How frames are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// H.264, constrained baseline.
    H264,
    /// H.265.
    H265,
}

/// Messages on a data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// Their pace.
    pub messages_per_second: u32,
    /// Bytes of each.
    pub message_bytes: u32,
    /// What becomes of them.
    pub delivery: Delivery,
}

impl Default for Data {
    fn default() -> Self {
        Self { messages_per_second: 10, message_bytes: 200, delivery: Delivery::default() }
    }
}

/// Which of the streams in the room a user receives; the others are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// All.
    All,
    /// None.
    None,
    /// At most so many: those announced first.
    First(u32),
}

/// Users that leave and join again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// Mean time in the room; the times are exponentially distributed.
    pub stay: Duration,
    /// Mean time until the user comes again.
    pub away: Duration,
}

/// One or both directions between two ends. Where several say something of one direction, the last one holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// One end.
    pub from: PathEnd,
    /// The other.
    pub to: PathEnd,
    /// Not only this direction but also back.
    pub both: bool,
    /// What the path is like, from when on: the first from the start.
    pub steps: Vec<PathStep>,
}

/// What a path is like from a time on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStep {
    /// Since the first user set out to join.
    pub at: Duration,
    /// From then on.
    pub config: ImpairmentConfig,
}

/// One end of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathEnd {
    /// The nodes of a region.
    Nodes(String),
    /// All nodes.
    AllNodes,
    /// The users of the nodes of a region.
    Users(String),
    /// All users.
    AllUsers,
}

impl PathEnd {
    /// The region that it is about; `None`: all.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Self::Nodes(region) | Self::Users(region) => Some(region),
            Self::AllNodes | Self::AllUsers => None,
        }
    }

    pub(crate) fn is_users(&self) -> bool {
        matches!(self, Self::Users(_) | Self::AllUsers)
    }
}

impl fmt::Display for PathEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(region) => f.write_str(region),
            Self::AllNodes => f.write_str("nodes"),
            Self::Users(region) => write!(f, "users:{region}"),
            Self::AllUsers => f.write_str("users"),
        }
    }
}

impl FromStr for PathEnd {
    type Err = ();

    /// `eu`, `nodes`, `users:eu` or `users`.
    fn from_str(text: &str) -> Result<Self, ()> {
        match (text, text.strip_prefix("users:")) {
            ("nodes", _) => Ok(Self::AllNodes),
            ("users", _) => Ok(Self::AllUsers),
            (_, Some(region)) if value::is_name(region) => Ok(Self::Users(region.to_owned())),
            (region, None) if value::is_name(region) => Ok(Self::Nodes(region.to_owned())),
            _ => Err(()),
        }
    }
}

/// Something that happens to a node or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Since the first user set out to join.
    pub at: Duration,
    /// What.
    pub action: FaultAction,
}

/// What happens. Only a mesh that the run started itself can be treated so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultAction {
    /// A region's node is killed.
    Stop(String),
    /// It is started again.
    Start(String),
    /// Nothing passes between two regions' nodes.
    Cut(String, String),
    /// It does again.
    Heal(String, String),
}

impl fmt::Display for FaultAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(region) => write!(f, "the node of {region} is killed"),
            Self::Start(region) => write!(f, "the node of {region} is started again"),
            Self::Cut(a, b) => write!(f, "the link between {a} and {b} is cut"),
            Self::Heal(a, b) => write!(f, "the link between {a} and {b} heals"),
        }
    }
}

/// Objectives; what is `None` is not judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slo {
    /// 99th percentile of the time that a join takes.
    pub join_p99: Option<Duration>,
    /// 99th percentile of the one-way delay, audio and video together.
    pub delay_p99: Option<Duration>,
    /// Share (0 to 1) of packets that are missing after repair.
    pub residual_loss: Option<f64>,
    /// Freezes of more than 500 ms for each hour of received video.
    pub freezes_per_hour: Option<f64>,
    /// 99th percentile of the one-way delay of data channels' messages.
    pub data_delay_p99: Option<Duration>,
    /// Share (0 to 1) of data channels' messages that are lost.
    pub data_loss: Option<f64>,
    /// Messages that data channels lost, doubled or reordered though they had promised not to.
    pub data_violations: Option<f64>,
    /// Share (0 to 1) of joins that fail.
    pub failed_joins: Option<f64>,
}

/// How the generator works.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorConfig {
    /// Opens every nth received RTP packet, and looks at the header of the others.
    pub open_every: u32,
    /// Gathers what arrives for this long before it is handled; delays are measured that much too long.
    pub coalesce: Duration,
    /// Lag of timers (99th percentile) above which a run is not judged.
    pub max_lag: Duration,
    /// Threads that drive users.
    pub threads: u16,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self { open_every: 1, coalesce: Duration::ZERO, max_lag: Duration::from_millis(100), threads: 1 }
    }
}

impl Scenario {
    /// Users when the ramp is over.
    pub fn users(&self) -> u32 {
        let users = self.rooms.iter().map(|rooms| u64::from(rooms.count) * u64::from(rooms.size()));
        users.sum::<u64>().try_into().unwrap_or(u32::MAX)
    }

    /// Whether the run starts the nodes itself, and so can stop them and impair what is between them.
    pub fn is_own_mesh(&self) -> bool {
        matches!(self.target, Target::Dev { .. })
    }

    /// When the run ends, since the first user set out to join.
    pub fn end(&self) -> Duration {
        self.ramp + self.duration
    }

    /// The scenario as a file that says the same.
    pub fn to_toml(&self) -> String {
        write::scenario(self)
    }

    /// What results say of it.
    pub fn info(&self) -> ScenarioInfo {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        ScenarioInfo {
            name: self.name.clone(),
            description: self.description.clone(),
            seed: self.seed,
            users: self.users(),
            rooms: self.rooms.iter().map(|rooms| rooms.count).sum(),
            ramp_ms: ms(self.ramp),
            duration_ms: ms(self.duration),
            toml: self.to_toml(),
        }
    }
}

impl Users {
    /// Whether they send audio, video or data.
    pub fn sends(&self) -> bool {
        self.audio.is_some() || self.video.is_some() || self.data.is_some()
    }

    /// Whether they receive audio, video or data, if there is any.
    pub fn watches(&self) -> bool {
        self.watch_audio != Watch::None || self.watch_video != Watch::None || self.watch_data
    }
}

impl Rooms {
    /// Users in each.
    pub fn size(&self) -> u32 {
        self.users.iter().fold(0, |size, users| size.saturating_add(users.count))
    }
}
