//! From a [`Scenario`] back to TOML: what ran, after flags had their say.

use toml::{Table, Value};

use super::value::{write_bitrate, write_duration};
use super::{
    Audio, Churn, Data, Fault, FaultAction, GeneratorConfig, Path, Rooms, Scenario, Slo, Target, TargetNode, Users,
    Video, VideoCodec, VideoEncoding, Watch,
};

/// The file's text.
pub(super) fn scenario(scenario: &Scenario) -> String {
    let mut top = Table::new();
    put(&mut top, "name", scenario.name.as_str());
    put(&mut top, "description", scenario.description.as_str());
    put(&mut top, "seed", integer(scenario.seed));
    put(&mut top, "ramp", write_duration(scenario.ramp));
    put(&mut top, "duration", write_duration(scenario.duration));
    put(&mut top, "target", target(&scenario.target));
    put_list(&mut top, "rooms", &scenario.rooms, rooms);
    put_list(&mut top, "wan", &scenario.wan, path);
    put_list(&mut top, "faults", &scenario.faults, fault);
    put(&mut top, "slo", slo(&scenario.slo));
    put(&mut top, "generator", generator(&scenario.generator));
    top.to_string()
}

fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.insert(key.to_owned(), value.into());
}

fn put_some(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(table, key, value);
    }
}

fn put_list<T>(table: &mut Table, key: &str, items: &[T], write: impl Fn(&T) -> Table) {
    if !items.is_empty() {
        put(table, key, items.iter().map(write).map(Value::from).collect::<Vec<_>>());
    }
}

/// Larger numbers than TOML's integers do not come out of a checked scenario.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn target(target: &Target) -> Table {
    let mut table = Table::new();
    match target {
        Target::Dev { nodes, workers } => {
            let mut dev = Table::new();
            put(&mut dev, "nodes", i64::from(*nodes));
            put(&mut dev, "workers", i64::from(*workers));
            put(&mut table, "dev", dev);
        }
        Target::Nodes(nodes) => put_list(&mut table, "nodes", nodes, node),
    }
    table
}

fn node(node: &TargetNode) -> Table {
    let mut table = Table::new();
    put(&mut table, "name", node.name.as_str());
    put(&mut table, "region", node.region.as_str());
    put(&mut table, "url", node.url.as_str());
    put(&mut table, "query", node.query.as_str());
    put_some(&mut table, "metrics", node.metrics.as_deref());
    put_some(&mut table, "pid", node.pid);
    put(&mut table, "insecure", node.insecure);
    table
}

fn rooms(rooms: &Rooms) -> Table {
    let mut table = Table::new();
    put(&mut table, "name", rooms.name.as_str());
    put(&mut table, "count", rooms.count);
    put_list(&mut table, "users", &rooms.users, users);
    table
}

fn users(users: &Users) -> Table {
    let mut table = Table::new();
    put(&mut table, "name", users.name.as_str());
    put(&mut table, "count", users.count);
    if !users.regions.is_empty() {
        put(&mut table, "regions", users.regions.clone());
    }
    put_some(&mut table, "audio", users.audio.as_ref().map(audio));
    put_some(&mut table, "video", users.video.as_ref().map(video));
    put_some(&mut table, "data", users.data.as_ref().map(data));
    let mut watched = Table::new();
    put(&mut watched, "audio", watch(users.watch_audio));
    put(&mut watched, "video", watch(users.watch_video));
    put(&mut watched, "data", if users.watch_data { "all" } else { "none" });
    put(&mut table, "watch", watched);
    put(&mut table, "tcp", users.tcp);
    put_some(&mut table, "churn", users.churn.map(churn));
    table
}

fn audio(audio: &Audio) -> Table {
    let mut table = Table::new();
    put(&mut table, "bitrate", write_bitrate(audio.bitrate));
    put(&mut table, "talk", audio.talk);
    put(&mut table, "dtx", audio.dtx);
    put_some(&mut table, "file", audio.file.as_deref().map(|file| file.display().to_string()));
    table
}

fn video(video: &Video) -> Table {
    let mut table = Table::new();
    put(&mut table, "codec", video.codec.name());
    put_some(&mut table, "file", video.file.as_deref().map(|file| file.display().to_string()));
    put_some(&mut table, "scalability_mode", video.scalability_mode.map(|mode| mode.to_string()));
    match video.encodings.as_slice() {
        [only] => table.extend(encoding(only)),
        several => put_list(&mut table, "encodings", several, encoding),
    }
    table
}

fn encoding(encoding: &VideoEncoding) -> Table {
    let mut table = Table::new();
    put(&mut table, "bitrate", write_bitrate(encoding.bitrate));
    put(&mut table, "fps", encoding.fps);
    put(&mut table, "temporal_layers", i64::from(encoding.temporal_layers));
    put_some(&mut table, "key_frame_interval", encoding.key_frame_interval.map(write_duration));
    table
}

fn data(data: &Data) -> Table {
    let mut table = Table::new();
    put(&mut table, "messages_per_second", data.messages_per_second);
    put(&mut table, "message_bytes", data.message_bytes);
    put(&mut table, "ordered", data.delivery.ordered);
    put_some(&mut table, "max_retransmits", data.delivery.max_retransmits.map(i64::from));
    put_some(&mut table, "max_packet_lifetime", data.delivery.max_packet_lifetime.map(write_duration));
    table
}

fn watch(watch: Watch) -> Value {
    match watch {
        Watch::All => "all".into(),
        Watch::None => "none".into(),
        Watch::First(count) => count.into(),
    }
}

fn churn(churn: Churn) -> Table {
    let mut table = Table::new();
    put(&mut table, "stay", write_duration(churn.stay));
    put(&mut table, "away", write_duration(churn.away));
    table
}

fn path(path: &Path) -> Table {
    let mut table = Table::new();
    let ends = [&path.from, &path.to].map(ToString::to_string);
    if path.both {
        put(&mut table, "between", ends.to_vec());
    } else {
        for (key, end) in ["from", "to"].into_iter().zip(ends) {
            put(&mut table, key, end);
        }
    }
    let mut steps = path.steps.iter();
    put_some(&mut table, "path", steps.next().map(|step| step.config.to_string()));
    let step = |step: &super::PathStep| {
        let mut table = Table::new();
        put(&mut table, "at", write_duration(step.at));
        put(&mut table, "path", step.config.to_string());
        table
    };
    put_list(&mut table, "then", steps.as_slice(), step);
    table
}

fn fault(fault: &Fault) -> Table {
    let mut table = Table::new();
    put(&mut table, "at", write_duration(fault.at));
    let (key, value): (_, Value) = match &fault.action {
        FaultAction::Stop(region) => ("stop", region.as_str().into()),
        FaultAction::Start(region) => ("start", region.as_str().into()),
        FaultAction::Cut(a, b) => ("cut", vec![a.clone(), b.clone()].into()),
        FaultAction::Heal(a, b) => ("heal", vec![a.clone(), b.clone()].into()),
    };
    put(&mut table, key, value);
    table
}

fn slo(slo: &Slo) -> Table {
    let mut table = Table::new();
    put_some(&mut table, "join_p99", slo.join_p99.map(write_duration));
    put_some(&mut table, "delay_p99", slo.delay_p99.map(write_duration));
    put_some(&mut table, "residual_loss", slo.residual_loss);
    put_some(&mut table, "freezes_per_hour", slo.freezes_per_hour);
    put_some(&mut table, "data_delay_p99", slo.data_delay_p99.map(write_duration));
    put_some(&mut table, "data_loss", slo.data_loss);
    put_some(&mut table, "data_violations", slo.data_violations);
    put_some(&mut table, "failed_joins", slo.failed_joins);
    table
}

fn generator(generator: &GeneratorConfig) -> Table {
    let mut table = Table::new();
    put(&mut table, "open_every", generator.open_every);
    put(&mut table, "coalesce", write_duration(generator.coalesce));
    put(&mut table, "max_lag", write_duration(generator.max_lag));
    put(&mut table, "threads", i64::from(generator.threads));
    table
}

impl VideoCodec {
    /// As scenarios write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }
}
