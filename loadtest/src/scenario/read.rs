//! From TOML to a [`Scenario`]: types, ranges and defaults. What belongs together is checked afterwards, when flags
//! have had their say.

use std::ops::RangeInclusive;
use std::path::Path as FilePath;
use std::time::Duration;

use sluice_mesh::wan::{ImpairmentConfig, SpecError};
use toml::{Table, Value};

use super::section::{Problem, Section, not_allowed};
use super::value::{
    Parsed, amount, bitrate, duration, flag, http_url, integer, name, positive_duration, share, text, web_socket_url,
};
use super::{
    Audio, Churn, Data, Fault, FaultAction, GeneratorConfig, Path, PathEnd, PathStep, Rooms, ScalabilityMode, Scenario,
    Slo, Target, TargetNode, UnknownMode, Users, Video, VideoCodec, VideoEncoding, Watch,
};
use crate::data::MIN_MESSAGE_BYTES;
use crate::transport::Delivery;

/// Of one kind of rooms and of users in one; far beyond what one generator can carry.
const MAX_COUNT: u32 = 1_000_000;
/// Nodes of a mesh on one machine: their ports are 100 apart.
pub(super) const MAX_DEV_NODES: u16 = 64;
/// Threads of one process on the largest of machines.
pub(super) const MAX_THREADS: u16 = 1024;
/// What Opus can do (RFC 7587 section 3.1.1), in bits per second.
pub(super) const AUDIO_BITRATES: RangeInclusive<u32> = 6_000..=510_000;
/// From a thumbnail to 4k, in bits per second.
pub(super) const VIDEO_BITRATES: RangeInclusive<u32> = 10_000..=100_000_000;
/// More than a server takes of one client.
const MAX_MESSAGES_PER_SECOND: u32 = 10_000;
/// From what a message says of itself to the largest that servers take.
const MESSAGE_BYTES: RangeInclusive<u32> = MIN_MESSAGE_BYTES as u32..=262_144;
/// What signalling has room for, in milliseconds.
const MAX_PACKET_LIFETIME: Duration = Duration::from_millis(65_535);
/// Shorter stays would be nothing but joins.
const MIN_STAY: Duration = Duration::from_secs(1);
/// More frames than any screen shows.
const MAX_FPS: u32 = 240;
/// Of a sample this thin nothing could be said.
pub(super) const MAX_OPEN_EVERY: u32 = 1000;
/// TOML's integers end here.
pub(super) const MAX_SEED: u64 = i64::MAX as u64;
/// Of a node that does not say where it is.
pub(super) const DEFAULT_REGION: &str = "main";
/// Longer gathering would be seen in every delay.
const MAX_COALESCE: Duration = Duration::from_millis(100);

/// The keys of each table.
pub(super) mod keys {
    pub(in crate::scenario) const SCENARIO: &[&str] =
        &["name", "description", "seed", "ramp", "duration", "target", "rooms", "wan", "faults", "slo", "generator"];
    pub(in crate::scenario) const TARGET: &[&str] = &["dev", "nodes"];
    pub(in crate::scenario) const DEV: &[&str] = &["nodes", "workers"];
    pub(in crate::scenario) const NODE: &[&str] = &["name", "region", "url", "query", "metrics", "pid", "insecure"];
    pub(in crate::scenario) const ROOMS: &[&str] = &["name", "count", "users"];
    pub(in crate::scenario) const USERS: &[&str] =
        &["name", "count", "regions", "audio", "video", "data", "watch", "tcp", "churn"];
    pub(in crate::scenario) const AUDIO: &[&str] = &["bitrate", "talk", "dtx", "file"];
    pub(in crate::scenario) const ENCODING: &[&str] = &["bitrate", "fps", "temporal_layers", "key_frame_interval"];
    pub(in crate::scenario) const VIDEO: &[&str] =
        &["codec", "bitrate", "fps", "temporal_layers", "key_frame_interval", "scalability_mode", "encodings", "file"];
    pub(in crate::scenario) const DATA: &[&str] =
        &["messages_per_second", "message_bytes", "ordered", "max_retransmits", "max_packet_lifetime"];
    pub(in crate::scenario) const WATCH: &[&str] = &["audio", "video", "data"];
    pub(in crate::scenario) const CHURN: &[&str] = &["stay", "away"];
    pub(in crate::scenario) const PATH: &[&str] = &["between", "from", "to", "path", "then"];
    pub(in crate::scenario) const STEP: &[&str] = &["at", "path"];
    pub(in crate::scenario) const FAULT: &[&str] = &["at", "stop", "start", "cut", "heal"];
    pub(in crate::scenario) const SLO: &[&str] = &[
        "join_p99",
        "delay_p99",
        "residual_loss",
        "freezes_per_hour",
        "data_delay_p99",
        "data_loss",
        "data_violations",
        "failed_joins",
    ];
    pub(in crate::scenario) const GENERATOR: &[&str] = &["open_every", "coalesce", "max_lag", "threads"];
}

/// Reads a scenario that is called `default_name` unless it says otherwise; media files are relative to `folder`.
pub(super) fn scenario(table: Table, default_name: &str, folder: &FilePath) -> Result<Scenario, Problem> {
    let mut top = Section::new(String::new(), table, keys::SCENARIO)?;
    Ok(Scenario {
        name: top.take("name", name)?.unwrap_or_else(|| default_name.to_owned()),
        description: top.take("description", text)?.unwrap_or_default(),
        seed: top.take("seed", integer(0..=MAX_SEED))?.unwrap_or(1),
        ramp: top.take("ramp", duration)?.unwrap_or(Duration::from_secs(10)),
        duration: top.take("duration", positive_duration)?.unwrap_or(Duration::from_secs(60)),
        target: target(&mut top)?,
        rooms: each(top.take_sections("rooms", keys::ROOMS)?, |section| rooms(section, folder))?,
        wan: each(top.take_sections("wan", keys::PATH)?, path)?,
        faults: each(top.take_sections("faults", keys::FAULT)?, fault)?,
        slo: slo(&mut top)?,
        generator: generator(&mut top)?,
    })
}

fn each<T>(sections: Vec<Section>, read: impl FnMut(Section) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
    sections.into_iter().map(read).collect()
}

fn target(top: &mut Section) -> Result<Target, Problem> {
    let Some(mut section) = top.take_section("target", keys::TARGET)? else { return Ok(Target::default()) };
    let dev = section.take_section("dev", keys::DEV)?;
    let mut nodes = each(section.take_sections("nodes", keys::NODE)?, node)?;
    match (dev, nodes.is_empty()) {
        (Some(_), false) => Err(section.problem("the target is either dev or nodes")),
        (None, true) => Err(section.problem("the target is dev or a list of nodes, and neither is there")),
        (None, false) => {
            name_nodes(&mut nodes);
            Ok(Target::Nodes(nodes))
        }
        (Some(mut dev), true) => Ok(Target::Dev {
            nodes: dev.take("nodes", integer(1..=MAX_DEV_NODES))?.unwrap_or(1),
            workers: dev.take("workers", integer(0..=MAX_THREADS))?.unwrap_or(1),
        }),
    }
}

fn node(mut section: Section) -> Result<TargetNode, Problem> {
    Ok(TargetNode {
        name: section.take("name", name)?.unwrap_or_default(),
        region: section.take("region", name)?.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        url: section.require("url", web_socket_url)?,
        query: section.take("query", text)?.unwrap_or_default(),
        metrics: section.take("metrics", http_url)?,
        pid: section.take("pid", integer(1..=u32::MAX))?,
        insecure: section.take("insecure", flag)?.unwrap_or_default(),
    })
}

/// Nodes without a name are called after their region, with a number where there are several.
pub(super) fn name_nodes(nodes: &mut [TargetNode]) {
    let regions: Vec<String> = nodes.iter().map(|node| node.region.clone()).collect();
    for (index, node) in nodes.iter_mut().enumerate().filter(|(_, node)| node.name.is_empty()) {
        let same = |regions: &[String]| regions.iter().filter(|region| **region == node.region).count();
        node.name = match same(&regions) {
            1 => node.region.clone(),
            _ => format!("{}-{}", node.region, same(&regions[..=index])),
        };
    }
}

fn rooms(mut section: Section, folder: &FilePath) -> Result<Rooms, Problem> {
    let name = section.take("name", name)?.unwrap_or_else(|| "room".to_owned());
    let count = section.take("count", integer(1..=MAX_COUNT))?.unwrap_or(1);
    let users = each(section.take_sections("users", keys::USERS)?, |users| self::users(users, folder))?;
    // Where nobody sends data nobody waits for any, unless they say so: others may send in the same rooms.
    let has_data = users.iter().any(|(users, _)| users.data.is_some());
    let users = users
        .into_iter()
        .map(|(users, watch_data)| Users { watch_data: watch_data.unwrap_or(has_data), ..users })
        .collect();
    Ok(Rooms { name, count, users })
}

/// Users, and whether they receive data if they say so.
fn users(mut section: Section, folder: &FilePath) -> Result<(Users, Option<bool>), Problem> {
    let (watch_audio, watch_video, watch_data) = take_watch(&mut section)?;
    let users = Users {
        name: section.take("name", name)?.unwrap_or_else(|| "user".to_owned()),
        count: section.take("count", integer(1..=MAX_COUNT))?.unwrap_or(1),
        regions: section.take("regions", names)?.unwrap_or_default(),
        audio: take_audio(&mut section, folder)?,
        video: take_video(&mut section, folder)?,
        data: take_data(&mut section)?,
        watch_audio,
        watch_video,
        watch_data: false,
        tcp: section.take("tcp", flag)?.unwrap_or_default(),
        churn: section.take_section("churn", keys::CHURN)?.map(churn).transpose()?,
    };
    Ok((users, watch_data))
}

fn take_audio(section: &mut Section, folder: &FilePath) -> Result<Option<Audio>, Problem> {
    let at = section.at("audio");
    let value = section.take_raw("audio");
    let Some(mut table) = sent("audio", at, value, keys::AUDIO)? else { return Ok(None) };
    let default = Audio::default();
    Ok(Some(Audio {
        bitrate: table.take("bitrate", bitrate(AUDIO_BITRATES))?.unwrap_or(default.bitrate),
        talk: table.take("talk", share)?.unwrap_or(default.talk),
        dtx: table.take("dtx", flag)?.unwrap_or(default.dtx),
        file: table.take("file", text)?.map(|file| folder.join(file)),
    }))
}

fn take_video(section: &mut Section, folder: &FilePath) -> Result<Option<Video>, Problem> {
    let at = section.at("video");
    let value = section.take_raw("video");
    let Some(mut table) = sent("video", at, value, keys::VIDEO)? else { return Ok(None) };
    let listed = table.take_sections("encodings", keys::ENCODING)?;
    let codec = table.take("codec", codec)?.unwrap_or(VideoCodec::Vp8);
    let file = table.take("file", text)?.map(|file| folder.join(file));
    let scalability_mode = table.take("scalability_mode", scalability_mode)?;
    let encodings = if listed.is_empty() {
        vec![encoding(table)?]
    } else if let Some(key) = keys::ENCODING.iter().find(|key| table.take_raw(key).is_some()) {
        return Err(Problem::new(table.at(key), format!("{key} belongs into the encodings when they are listed")));
    } else {
        each(listed, encoding)?
    };
    Ok(Some(Video { codec, encodings, scalability_mode, file }))
}

/// True or false, or a table.
fn take_data(section: &mut Section) -> Result<Option<Data>, Problem> {
    let default = Data::default();
    let at = section.at("data");
    let table = match section.take_raw("data") {
        None | Some(Value::Boolean(false)) => return Ok(None),
        Some(Value::Boolean(true)) => return Ok(Some(default)),
        Some(Value::Table(table)) => table,
        Some(other) => return Err(not_allowed(at, "data", &other, "true, false or a table")),
    };
    let mut table = Section::new(at, table, keys::DATA)?;
    let paces = integer(1..=MAX_MESSAGES_PER_SECOND);
    Ok(Some(Data {
        messages_per_second: table.take("messages_per_second", paces)?.unwrap_or(default.messages_per_second),
        message_bytes: table.take("message_bytes", integer(MESSAGE_BYTES))?.unwrap_or(default.message_bytes),
        delivery: Delivery {
            ordered: table.take("ordered", flag)?.unwrap_or(default.delivery.ordered),
            max_retransmits: table.take("max_retransmits", integer(0..=u16::MAX))?,
            max_packet_lifetime: table.take("max_packet_lifetime", packet_lifetime)?,
        },
    }))
}

fn packet_lifetime(value: &Value) -> Parsed<Duration> {
    match positive_duration(value)? {
        lifetime if lifetime <= MAX_PACKET_LIFETIME && lifetime.subsec_nanos() % 1_000_000 == 0 => Ok(lifetime),
        _ => Err("a duration of whole milliseconds, up to 65535ms".to_owned()),
    }
}

/// What stands for sent media: true or false, a bitrate, or a table.
fn sent(key: &str, at: String, value: Option<Value>, keys: &[&str]) -> Result<Option<Section>, Problem> {
    let table = match value {
        None | Some(Value::Boolean(false)) => return Ok(None),
        Some(Value::Boolean(true)) => Table::new(),
        Some(Value::Table(table)) => table,
        Some(bitrate @ (Value::String(_) | Value::Integer(_))) => Table::from_iter([("bitrate".to_owned(), bitrate)]),
        Some(other) => return Err(not_allowed(at, key, &other, "true, false, a bitrate or a table")),
    };
    Section::new(at, table, keys).map(Some)
}

fn encoding(mut section: Section) -> Result<VideoEncoding, Problem> {
    let default = VideoEncoding::default();
    Ok(VideoEncoding {
        bitrate: section.take("bitrate", bitrate(VIDEO_BITRATES))?.unwrap_or(default.bitrate),
        fps: section.take("fps", integer(1..=MAX_FPS))?.unwrap_or(default.fps),
        temporal_layers: section.take("temporal_layers", integer(1..=3))?.unwrap_or(default.temporal_layers),
        key_frame_interval: section.take("key_frame_interval", positive_duration)?,
    })
}

fn codec(value: &Value) -> Parsed<VideoCodec> {
    match value.as_str() {
        Some("vp8") => Ok(VideoCodec::Vp8),
        Some("vp9") => Ok(VideoCodec::Vp9),
        Some("h264") => Ok(VideoCodec::H264),
        Some("h265") => Ok(VideoCodec::H265),
        _ => Err("\"vp8\", \"vp9\", \"h264\" or \"h265\"".to_owned()),
    }
}

fn scalability_mode(value: &Value) -> Parsed<ScalabilityMode> {
    value.as_str().unwrap_or_default().parse().map_err(|allowed: UnknownMode| allowed.to_string())
}

/// Of audio, of video and, if it is said, of data.
fn take_watch(section: &mut Section) -> Result<(Watch, Watch, Option<bool>), Problem> {
    let at = section.at("watch");
    match section.take_raw("watch") {
        None => Ok((Watch::All, Watch::All, None)),
        Some(Value::Table(table)) => {
            let mut table = Section::new(at, table, keys::WATCH)?;
            let [audio, video] = ["audio", "video"].map(|key| table.take(key, watch));
            let data = table.take("data", watch_data)?;
            Ok((audio?.unwrap_or(Watch::All), video?.unwrap_or(Watch::All), data))
        }
        Some(value) => match watch(&value) {
            Ok(watch) => Ok((watch, watch, (watch == Watch::None).then_some(false))),
            Err(allowed) => {
                let allowed = format!("{allowed}, or a table of audio, video and data");
                Err(not_allowed(at, "watch", &value, &allowed))
            }
        },
    }
}

fn watch_data(value: &Value) -> Parsed<bool> {
    match value.as_str() {
        Some("all") => Ok(true),
        Some("none") => Ok(false),
        _ => Err("\"all\" or \"none\"".to_owned()),
    }
}

fn watch(value: &Value) -> Parsed<Watch> {
    match value {
        Value::String(text) if text == "all" => Ok(Watch::All),
        Value::String(text) if text == "none" => Ok(Watch::None),
        value => {
            integer(1..=MAX_COUNT)(value).map(Watch::First).map_err(|_| "\"all\", \"none\" or a number from 1".into())
        }
    }
}

fn churn(mut section: Section) -> Result<Churn, Problem> {
    Ok(Churn {
        stay: section.require("stay", stay)?,
        away: section.take("away", duration)?.unwrap_or(Duration::from_secs(5)),
    })
}

fn stay(value: &Value) -> Parsed<Duration> {
    match duration(value)? {
        stay if stay >= MIN_STAY => Ok(stay),
        _ => Err("a duration of at least 1s".to_owned()),
    }
}

fn path(mut section: Section) -> Result<Path, Problem> {
    let between = section.take("between", pair(path_end))?;
    let (from, to) = (section.take("from", path_end)?, section.take("to", path_end)?);
    let (from, to, both) = match (between, from, to) {
        (Some([from, to]), None, None) => (from, to, true),
        (None, Some(from), Some(to)) => (from, to, false),
        _ => return Err(section.problem("a path is between two ends, or from one to another")),
    };
    let first = PathStep { at: Duration::ZERO, config: impairment(&mut section)? };
    let later = each(section.take_sections("then", keys::STEP)?, |mut step| {
        Ok(PathStep { at: step.require("at", duration)?, config: impairment(&mut step)? })
    })?;
    Ok(Path { from, to, both, steps: std::iter::once(first).chain(later).collect() })
}

fn impairment(section: &mut Section) -> Result<ImpairmentConfig, Problem> {
    let written = section.require("path", text)?;
    written.parse().map_err(|error: SpecError| Problem::new(section.at("path"), format!("path: {error}")))
}

fn path_end(value: &Value) -> Parsed<PathEnd> {
    let end = value.as_str().and_then(|text| text.parse().ok());
    end.ok_or_else(|| "a region, \"nodes\" for all of them, \"users\" or \"users:REGION\"".to_owned())
}

fn fault(mut section: Section) -> Result<Fault, Problem> {
    let at = section.require("at", duration)?;
    let actions = [
        section.take("stop", name)?.map(FaultAction::Stop),
        section.take("start", name)?.map(FaultAction::Start),
        section.take("cut", pair(name))?.map(|[a, b]| FaultAction::Cut(a, b)),
        section.take("heal", pair(name))?.map(|[a, b]| FaultAction::Heal(a, b)),
    ];
    let mut actions = actions.into_iter().flatten();
    match (actions.next(), actions.next()) {
        (Some(action), None) => Ok(Fault { at, action }),
        _ => Err(section.problem("a fault is one of stop, start, cut and heal")),
    }
}

fn slo(top: &mut Section) -> Result<Slo, Problem> {
    let Some(mut section) = top.take_section("slo", keys::SLO)? else { return Ok(Slo::default()) };
    Ok(Slo {
        join_p99: section.take("join_p99", positive_duration)?,
        delay_p99: section.take("delay_p99", positive_duration)?,
        residual_loss: section.take("residual_loss", share)?,
        freezes_per_hour: section.take("freezes_per_hour", amount)?,
        data_delay_p99: section.take("data_delay_p99", positive_duration)?,
        data_loss: section.take("data_loss", share)?,
        data_violations: section.take("data_violations", amount)?,
        failed_joins: section.take("failed_joins", share)?,
    })
}

fn generator(top: &mut Section) -> Result<GeneratorConfig, Problem> {
    let default = GeneratorConfig::default();
    let Some(mut section) = top.take_section("generator", keys::GENERATOR)? else { return Ok(default) };
    Ok(GeneratorConfig {
        open_every: section.take("open_every", integer(1..=MAX_OPEN_EVERY))?.unwrap_or(default.open_every),
        coalesce: section.take("coalesce", coalesce)?.unwrap_or(default.coalesce),
        max_lag: section.take("max_lag", positive_duration)?.unwrap_or(default.max_lag),
        threads: section.take("threads", integer(1..=MAX_THREADS))?.unwrap_or(default.threads),
    })
}

fn coalesce(value: &Value) -> Parsed<Duration> {
    match duration(value)? {
        duration if duration <= MAX_COALESCE => Ok(duration),
        _ => Err("a duration of up to 100ms".to_owned()),
    }
}

fn names(value: &Value) -> Parsed<Vec<String>> {
    let names = value.as_array().and_then(|names| names.iter().map(|value| name(value).ok()).collect());
    names.ok_or_else(|| "a list of names, such as [\"eu\", \"us\"]".to_owned())
}

fn pair<T>(read: impl Fn(&Value) -> Parsed<T>) -> impl Fn(&Value) -> Parsed<[T; 2]> {
    move |value| match value.as_array().map(Vec::as_slice) {
        Some([a, b]) => Ok([read(a)?, read(b)?]),
        _ => Err("a list of two, such as [\"eu\", \"us\"]".to_owned()),
    }
}
