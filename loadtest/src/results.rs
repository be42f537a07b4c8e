//! The results of a run, as they are kept in JSON: what ran, what was measured each second, and what was concluded from
//! it.
//!
//! Field names carry their units. Fields may be added within one [`SCHEMA_VERSION`]; readers ignore those that they do
//! not know.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Changes when a reader of older results would misunderstand newer ones.
pub const SCHEMA_VERSION: u32 = 1;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Results {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Version of `sluice-loadtest`.
    pub tool_version: String,
    /// What was asked for.
    pub scenario: ScenarioInfo,
    /// What it was asked of.
    pub target: TargetInfo,
    /// When the first user set out to join, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// How long the run lasted, ramp included.
    pub ran_s: f64,
    /// How it ended.
    pub ended: Ended,
    /// Who the users were; [`GroupSample::group`] is an index into this list.
    pub groups: Vec<Group>,
    /// What was measured each second.
    pub samples: Vec<Sample>,
    /// What was measured over the whole time after the ramp, by group, in the order of `groups`; `first_frame` over the
    /// ramp as well, since that is when most streams begin.
    pub steady: Vec<GroupSample>,
    /// Joins of the whole run.
    pub joins: Joins,
    /// What the nodes under test did in the steady time, in the order of `target.nodes`.
    pub nodes: Vec<NodeTotals>,
    /// How the generator itself fared.
    pub generator: GeneratorTotals,
    /// Faults, changes of paths and whatever else happened.
    pub events: Vec<Event>,
    /// Each objective and whether it was met.
    pub slo: Vec<Objective>,
    /// What follows from all that.
    pub verdict: Verdict,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioInfo {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Decides everything random.
    pub seed: u64,
    /// Users when the ramp is over.
    pub users: u32,
    /// Rooms.
    pub rooms: u32,
    /// Time over which the users join, in milliseconds.
    pub ramp_ms: u64,
    /// Time after the ramp, in milliseconds.
    pub duration_ms: u64,
    /// The scenario as it ran, in TOML.
    pub toml: String,
}

/// What the load was put on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetInfo {
    /// A name for comparisons: the scenario's target, or what `--label` says.
    pub label: String,
    /// Its nodes.
    pub nodes: Vec<NodeInfo>,
}

/// One node under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Where its users connect.
    pub url: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Ended {
    /// When its time was over.
    Completed,
    /// By Ctrl-C.
    Interrupted,
    /// Because it could not go on.
    Aborted {
        /// Why.
        reason: String,
    },
}

/// Users of one kind on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// The kind, as the scenario calls it.
    pub users: String,
    /// The node's name.
    pub node: String,
    /// The node's region.
    pub region: String,
}

/// One second of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// End of the interval, in seconds since the first user set out to join.
    pub at_s: f64,
    /// Users that should be in their rooms at the end of the interval.
    pub users_wanted: u32,
    /// Users that are.
    pub users_joined: u32,
    /// Joins that succeeded in the interval, with the time that they took.
    pub joins: Durations,
    /// Joins that failed in the interval.
    pub joins_failed: u32,
    /// What users sent and received, groups without users left out.
    pub groups: Vec<GroupSample>,
    /// What the nodes under test say of themselves, in the order of `target.nodes`; `None` of one that did not answer.
    pub nodes: Vec<Option<NodeSample>>,
    /// The generator.
    pub generator: GeneratorSample,
}

/// What users of one group sent and received in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupSample {
    /// Index of the group.
    pub group: usize,
    /// Length of the interval, in seconds.
    pub interval_s: f64,
    /// Received audio.
    pub audio: Received,
    /// Received video.
    pub video: Received,
    /// Sent audio.
    pub sent_audio: Sent,
    /// Sent video.
    pub sent_video: Sent,
    /// What arrived on data channels.
    #[serde(default)]
    pub data: DataReceived,
    /// What was sent on data channels.
    #[serde(default)]
    pub sent_data: DataSent,
}

/// What arrived of the streams of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// Streams at the end of the interval, those paused on purpose left out.
    pub streams: u32,
    /// Packets that arrived for the first time, repaired ones included.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Packets that should have arrived by their sequence numbers.
    pub expected: u64,
    /// Of `expected`, those that were missing when a later one came: loss before repair.
    pub missing: u64,
    /// Of those, the ones that a retransmission brought.
    pub repaired: u64,
    /// Packets given up: loss after repair.
    pub lost: u64,
    /// Frames that were complete.
    pub frames: u64,
    /// Key frames.
    pub key_frames: u64,
    /// Gaps between frames of more than 200 ms.
    pub freezes_200ms: u64,
    /// Gaps between frames of more than 500 ms.
    pub freezes_500ms: u64,
    /// Time in gaps of more than 200 ms, in milliseconds, over all streams.
    pub frozen_ms: u64,
    /// Changes of the spatial or temporal layer that arrives.
    pub layer_switches: u64,
    /// Packets asked for again.
    pub nacked: u64,
    /// Key frames asked for.
    pub key_frame_requests: u64,
    /// Mean of the streams' interarrival jitter (RFC 3550 section 6.4.1), in milliseconds.
    pub jitter_ms: f64,
    /// One-way delay from the publisher's send to this receive, of packets that were not retransmitted.
    pub delay: Durations,
    /// Time from the announcement of a stream to its first key frame (of audio: its first packet).
    pub first_frame: Durations,
}

/// What was sent of the streams of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// Streams at the end of the interval.
    pub streams: u32,
    /// Packets, retransmissions left out.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
    /// Key frames.
    pub key_frames: u64,
    /// Key frames asked for by the server.
    pub key_frame_requests: u64,
    /// Packets that the server asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Mean of what congestion control allows a stream, in bits per second; 0 where nothing limits it.
    pub allowed_bits_per_second: f64,
}

/// What arrived on data channels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataReceived {
    /// Data consumers at the end of the interval, on associations that are up.
    pub channels: u32,
    /// Messages that arrived for the first time.
    pub messages: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Messages that should have arrived by their numbers, from the first on that did.
    pub expected: u64,
    /// Messages that did not arrive: in ordered channels before one that was sent later, in others within 10 s of it.
    pub lost: u64,
    /// Messages that arrived again.
    pub duplicates: u64,
    /// Messages that arrived after one that was sent later.
    pub out_of_order: u64,
    /// Of those three, what the channel had promised not to do: losses of reliable ones, all duplicates, and what came
    /// out of order on ordered ones.
    pub violations: u64,
    /// One-way delay from the sender's send to this receive.
    pub delay: Durations,
}

/// What was sent on data channels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataSent {
    /// Data producers at the end of the interval, on associations that are up.
    pub channels: u32,
    /// Messages.
    pub messages: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Messages that were not sent because the server takes less than comes, and too much waited.
    pub refused: u64,
}

/// A distribution of times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Durations {
    /// Number of values; the rest is 0 when this is.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

/// One second of a node under test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeSample {
    /// Processor time of the process, in seconds per second.
    pub cpu: f64,
    /// Processor time of its media workers, in seconds per second.
    pub worker_cpu: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// RTP packets per second from users.
    pub packets_in: f64,
    /// RTP packets per second to users.
    pub packets_out: f64,
    /// RTP packets per second from other nodes.
    pub pipe_packets_in: f64,
    /// RTP packets per second to other nodes.
    pub pipe_packets_out: f64,
    /// Packets per second that it dropped.
    pub drops: f64,
}

/// A node under test over the steady time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTotals {
    /// Mean processor time, in seconds per second.
    pub cpu: f64,
    /// Largest resident memory.
    pub max_resident_bytes: u64,
    /// RTP packets sent to users and to other nodes for each second of processor time; `None` when the node does not
    /// count them, or sent none.
    pub packets_per_cpu_second: Option<f64>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Joins of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Joins {
    /// Tried.
    pub attempted: u64,
    /// Ended in the room, with media connected.
    pub succeeded: u64,
    /// Did not, by what failed.
    pub failed: BTreeMap<String, u64>,
    /// From opening the WebSocket to connected media and the answer to `join`.
    pub time: Durations,
}

impl Joins {
    /// Joins that failed for whatever reason.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// One second of the generator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratorSample {
    /// Processor time of this process, in seconds per second.
    pub cpu: f64,
    /// The longest that a timer fired too late, in milliseconds.
    pub lag_ms: f64,
    /// Datagrams that the kernel dropped because this process read too slowly.
    pub receive_drops: u64,
    /// Datagrams that the kernel had no room to send.
    pub send_drops: u64,
}

/// The generator over the whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratorTotals {
    /// Mean processor time, in seconds per second.
    pub cpu: f64,
    /// 99th percentile of the seconds' [`GeneratorSample::lag_ms`].
    pub lag_p99_ms: f64,
    /// Datagrams that the kernel dropped because this process read too slowly.
    pub receive_drops: u64,
    /// Datagrams that the kernel had no room to send.
    pub send_drops: u64,
    /// Of received RTP packets every nth was opened.
    pub open_every: u32,
    /// Why the generator was the bottleneck; empty when it was not.
    pub overloaded: Vec<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// In seconds since the first user set out to join.
    pub at_s: f64,
    /// In words.
    pub what: String,
}

/// An objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Objective {
    /// The scenario's key: `join_p99`.
    pub name: String,
    /// What is allowed at most.
    pub limit: f64,
    /// What was measured; `None` when there was nothing to measure.
    pub measured: Option<f64>,
    /// Unit of both: `ms`, `%`, `1/h` or nothing.
    pub unit: String,
    /// Whether it was met.
    pub met: bool,
}

/// What a run says about the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Verdict {
    /// All objectives were met.
    Passed,
    /// Some were not.
    Failed,
    /// The run says nothing about the target.
    NotJudged {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// Exit code of a program that ends with this verdict.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::NotJudged { .. } => 2,
        }
    }
}
