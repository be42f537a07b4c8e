//! A plausible run: a webinar on three nodes, whose network gets worse in its middle and which loses a node for a
//! while.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_loadtest::media::Histogram;
use sluice_loadtest::results::{
    DataReceived, DataSent, Durations, Ended, Event, GeneratorSample, GeneratorTotals, Group, Joins, NodeInfo,
    NodeSample, NodeTotals, Objective, Results, SCHEMA_VERSION, Sample, ScenarioInfo, Sent, TargetInfo, Verdict,
};
use sluice_loadtest::tally::{DataReceivedTally, ReceivedTally, SentTally, Tally, durations};

const SECOND: Duration = Duration::from_secs(1);
const RAMP_S: u32 = 15;
const RUN_S: u32 = 60;
/// When the path between two regions gets worse.
const WORSE_AT_S: u32 = 30;
/// When the last node is stopped, and when it is there again.
const DOWN_S: std::ops::Range<u32> = 42..50;

const NODES: [(&str, &str, f64); 3] = [("eu-1", "eu", 9.0), ("us-1", "us", 46.0), ("ap-1", "ap", 93.0)];
/// Kinds of users: how many on each node, how many streams of a kind they receive, whether they send.
const KINDS: [(&str, u32, u32, bool); 2] = [("speaker", 4, 11, true), ("viewer", 46, 12, false)];
/// Values of delay that stand for the packets of a group in a second.
const DELAYS: u32 = 200;
/// Messages of a data channel in a second, and their size.
const MESSAGES: u32 = 10;
const MESSAGE_BYTES: u32 = 200;

/// How one target differs from the next.
pub(crate) struct Nature {
    pub(crate) label: &'static str,
    /// Factor on delays' tails and on loss.
    pub(crate) trouble: f64,
    /// Processor time for a packet.
    pub(crate) cpu_us: f64,
}

pub(crate) const TODAY: Nature = Nature { label: "sluice 0.1", trouble: 1.0, cpu_us: 11.0 };
pub(crate) const TOMORROW: Nature = Nature { label: "sluice 0.2", trouble: 0.55, cpu_us: 8.2 };

struct World {
    nature: Nature,
    rng: ChaCha8Rng,
    joins: Joins,
    join_times: Histogram,
    steady: Vec<Tally>,
    node_totals: Vec<NodeTotals>,
    packets: Vec<f64>,
}

/// The run of a target.
pub(crate) fn run(seed: u64, nature: Nature) -> Results {
    let mut world = World {
        nature,
        rng: ChaCha8Rng::seed_from_u64(seed),
        joins: Joins::default(),
        join_times: Histogram::default(),
        steady: vec![Tally::default(); NODES.len() * KINDS.len()],
        node_totals: vec![NodeTotals::default(); NODES.len()],
        packets: vec![0.0; NODES.len()],
    };
    let samples: Vec<_> = (1..=RUN_S).map(|second| world.second(second)).collect();
    world.results(seed, samples)
}

/// Part of a group that is in its room.
fn present(node: usize, second: u32) -> f64 {
    let joined = f64::from(second.min(RAMP_S)) / f64::from(RAMP_S);
    match node {
        2 if DOWN_S.contains(&second) => 0.0,
        2 if second >= DOWN_S.end => (f64::from(second - DOWN_S.end + 1) / 4.0).min(1.0),
        _ => joined,
    }
}

impl World {
    fn second(&mut self, second: u32) -> Sample {
        let before = |node| if second == 1 { 0.0 } else { present(node, second - 1) };
        let mut sample = Sample { at_s: second.into(), ..Sample::default() };
        let mut arrivals = Histogram::default();
        for node in 0..NODES.len() {
            let mut packets_out = 0.0;
            for (kind, (_, count, watched, sends)) in KINDS.into_iter().enumerate() {
                let users = (f64::from(count) * present(node, second)).round() as u32;
                let joined = users.saturating_sub((f64::from(count) * before(node)).round() as u32);
                self.join(joined, &mut arrivals);
                sample.users_wanted +=
                    (f64::from(count) * f64::from(second.min(RAMP_S)) / f64::from(RAMP_S)).round() as u32;
                sample.users_joined += users;
                if users == 0 {
                    continue;
                }
                let tally = self.tally(node, second, users, watched, sends, joined);
                packets_out += (tally.audio.sums.packets + tally.video.sums.packets) as f64;
                let group = node * KINDS.len() + kind;
                if second > RAMP_S {
                    self.steady[group].append(&tally);
                }
                sample.groups.push(tally.sample(group, SECOND));
            }
            sample.nodes.push(self.node(node, second, packets_out));
        }
        sample.joins_failed = self.failures(second);
        sample.joins = durations(&arrivals);
        let load = f64::from(sample.users_joined) / 150.0;
        sample.generator = GeneratorSample {
            cpu: 0.05 + 0.72 * load + self.noise(0.03),
            lag_ms: 0.4 + 2.5 * load * self.rng.random::<f64>(),
            receive_drops: 0,
            send_drops: 0,
        };
        sample
    }

    fn join(&mut self, users: u32, arrivals: &mut Histogram) {
        for _ in 0..users {
            let time = ms(self.tailed(170.0, 60.0 * self.nature.trouble));
            arrivals.record(time);
            self.join_times.record(time);
        }
        self.joins.attempted += u64::from(users);
        self.joins.succeeded += u64::from(users);
    }

    /// Joins fail while their node is down.
    fn failures(&mut self, second: u32) -> u32 {
        if !DOWN_S.contains(&second) || second.is_multiple_of(2) {
            return 0;
        }
        let failed = self.rng.random_range(1..4);
        self.joins.attempted += u64::from(failed);
        *self.joins.failed.entry("connect: connection refused".into()).or_default() += u64::from(failed);
        failed
    }

    fn tally(&mut self, node: usize, second: u32, users: u32, watched: u32, sends: bool, joined: u32) -> Tally {
        let video_rate = self.video_rate(second);
        let mut tally = Tally {
            audio: self.received(node, second, users * watched, (50, 80), joined),
            video: self.received(node, second, users * watched, (video_rate, 1_150), joined),
            ..Tally::default()
        };
        let video = &mut tally.video.sums;
        video.frames = u64::from(video.streams) * 15 - video.lost;
        video.key_frames = u64::from(joined * watched) + u64::from(video.streams / 30);
        video.key_frame_requests = u64::from(joined * watched);
        let delay = NODES[node].2 + if second >= WORSE_AT_S { 42.0 } else { 0.0 };
        tally.data = data_received(users * watched, delay);
        if sends {
            tally.sent_data = DataSent {
                channels: users,
                messages: u64::from(users * MESSAGES),
                bytes: u64::from(users * MESSAGES * MESSAGE_BYTES),
                refused: 0,
            };
            tally.sent_audio = self.sent(users, (50, 80), 0);
            tally.sent_video = self.sent(users, (video_rate, 1_150), 15);
        }
        tally
    }

    /// Packets per second of a stream: congestion control gives way when the network gets worse.
    fn video_rate(&mut self, second: u32) -> u32 {
        let worse = second.saturating_sub(WORSE_AT_S).min(4);
        self.rng.random_range(53..57) - 3 * worse
    }

    /// Streams of some packets a second of some bytes each.
    fn received(
        &mut self,
        node: usize,
        second: u32,
        streams: u32,
        (rate, size): (u32, u32),
        joined: u32,
    ) -> ReceivedTally {
        let worse = second >= WORSE_AT_S && node > 0;
        let expected = u64::from(streams * rate);
        let loss = if worse { 0.035 } else { 0.004 * (node as f64 + 0.5) } * self.nature.trouble;
        let missing = (expected as f64 * loss * (0.7 + 0.6 * self.rng.random::<f64>())) as u64;
        let lost = (missing as f64 * if worse { 0.09 } else { 0.01 }) as u64;
        let freezes = if worse { lost / 6 + u64::from(self.rng.random_bool(0.4)) } else { 0 };
        let mut tally = ReceivedTally::default();
        let sums = &mut tally.sums;
        (sums.streams, sums.expected, sums.missing, sums.lost) = (streams, expected, missing, lost);
        (sums.repaired, sums.nacked) = (missing - lost, missing + missing / 5);
        sums.packets = expected - lost;
        sums.bytes = sums.packets * u64::from(size);
        (sums.freezes_200ms, sums.freezes_500ms, sums.frozen_ms) = (freezes, freezes / 3, freezes * 290);
        tally.jitter = streams * ms(2.0 + if worse { 6.0 } else { 0.0 } + self.rng.random::<f64>());
        let extra = if worse { 42.0 } else { 0.0 };
        for _ in 0..DELAYS {
            let tail = (4.0 + extra * 0.35) * self.nature.trouble;
            let delay = ms(self.tailed(NODES[node].2 + extra, tail));
            tally.delay.record(delay);
        }
        for _ in 0..joined {
            let first = ms(self.tailed(60.0 + 2.0 * NODES[node].2, 35.0 * self.nature.trouble));
            tally.first_frame.record(first);
        }
        tally
    }

    fn sent(&mut self, streams: u32, (rate, size): (u32, u32), frames: u32) -> SentTally {
        let packets = u64::from(streams * rate);
        let sums = Sent {
            streams,
            packets,
            bytes: packets * u64::from(size),
            frames: u64::from(streams * frames),
            key_frames: u64::from(streams * frames / 45),
            key_frame_requests: u64::from(streams * frames / 60),
            nacked: packets / 50,
            retransmitted: packets / 52,
            allowed_bits_per_second: 0.0,
        };
        let allowed_bits_per_second = f64::from(streams) * (600_000.0 + self.noise(40_000.0));
        SentTally { sums, allowed_bits_per_second }
    }

    fn node(&mut self, node: usize, second: u32, packets_out: f64) -> Option<NodeSample> {
        let down = node == 2 && DOWN_S.contains(&second);
        if down {
            return None;
        }
        let pipe = packets_out / 9.0;
        let worker_cpu = (packets_out + pipe) * (self.nature.cpu_us + node as f64) / 1e6 * (1.0 + self.noise(0.06));
        let drops = if second >= WORSE_AT_S { 3.0 + self.noise(3.0).abs() } else { 0.0 };
        let sample = NodeSample {
            cpu: worker_cpu + 0.03 + self.noise(0.01).abs(),
            worker_cpu,
            resident_bytes: 48_000_000
                + (packets_out * (700.0 + 90.0 * node as f64)) as u64
                + u64::from(second) * 40_000,
            packets_in: packets_out / 13.0,
            packets_out,
            pipe_packets_in: pipe,
            pipe_packets_out: pipe,
            drops,
        };
        if second > RAMP_S {
            let totals = &mut self.node_totals[node];
            totals.cpu += sample.cpu;
            totals.max_resident_bytes = totals.max_resident_bytes.max(sample.resident_bytes);
            *totals.drops.entry("pipe_queue_full".into()).or_default() += drops as u64;
            self.packets[node] += sample.packets_out + sample.pipe_packets_out;
        }
        Some(sample)
    }

    fn results(mut self, seed: u64, samples: Vec<Sample>) -> Results {
        self.joins.time = durations(&self.join_times);
        for (totals, packets) in self.node_totals.iter_mut().zip(&self.packets) {
            totals.packets_per_cpu_second = Some(packets / totals.cpu);
            totals.cpu /= f64::from(RUN_S - RAMP_S);
        }
        let generator = GeneratorTotals {
            cpu: samples.iter().map(|sample| sample.generator.cpu).sum::<f64>() / f64::from(RUN_S),
            lag_p99_ms: samples.iter().map(|sample| sample.generator.lag_ms).fold(0.0, f64::max),
            open_every: 1,
            ..GeneratorTotals::default()
        };
        let slo = self.objectives();
        Results {
            schema_version: SCHEMA_VERSION,
            tool_version: "0.1.0".into(),
            scenario: scenario(seed),
            target: target(self.nature.label),
            started_unix_ms: 1_790_000_000_000,
            ran_s: RUN_S.into(),
            ended: Ended::Completed,
            groups: groups(),
            samples,
            steady: self
                .steady
                .iter()
                .enumerate()
                .map(|(at, tally)| tally.sample(at, SECOND * (RUN_S - RAMP_S)))
                .collect(),
            joins: self.joins,
            nodes: self.node_totals,
            generator,
            events: events(),
            verdict: if slo.iter().all(|objective| objective.met) { Verdict::Passed } else { Verdict::Failed },
            slo,
        }
    }

    fn objectives(&self) -> Vec<Objective> {
        let mut all = Tally::default();
        for tally in &self.steady {
            all.merge(tally);
        }
        let mut delay = all.audio.delay.clone();
        delay.merge(&all.video.delay);
        let Durations { p99_ms, .. } = durations(&delay);
        let (audio, video) = (&all.audio.sums, &all.video.sums);
        let residual = (audio.lost + video.lost) as f64 / (audio.expected + video.expected) as f64;
        let hours = f64::from(video.streams) * f64::from(RUN_S - RAMP_S) / 3600.0;
        let failed = self.joins.failures() as f64 / self.joins.attempted as f64;
        [
            ("join_p99", 2_000.0, self.joins.time.p99_ms, "ms"),
            ("delay_p99", 170.0, p99_ms, "ms"),
            ("residual_loss", 0.5, residual * 100.0, "%"),
            ("freezes_per_hour", 20.0, video.freezes_500ms as f64 / hours, "1/h"),
            ("failed_joins", 10.0, failed * 100.0, "%"),
        ]
        .map(|(name, limit, measured, unit)| Objective {
            name: name.into(),
            limit,
            measured: Some(measured),
            unit: unit.into(),
            met: measured <= limit,
        })
        .to_vec()
    }

    /// Something above `least`, seldom far above: a Pareto-like tail.
    fn tailed(&mut self, least: f64, tail: f64) -> f64 {
        least + tail * (1.0 / (1.0 - self.rng.random::<f64>()).powf(0.4) - 1.0)
    }

    fn noise(&mut self, most: f64) -> f64 {
        self.rng.random_range(-most..most)
    }
}

/// All that is sent on so many channels.
fn data_received(channels: u32, delay_ms: f64) -> DataReceivedTally {
    let messages = u64::from(channels * MESSAGES);
    let bytes = messages * u64::from(MESSAGE_BYTES);
    let sums = DataReceived { channels, messages, bytes, expected: messages, ..DataReceived::default() };
    let mut tally = DataReceivedTally { sums, ..DataReceivedTally::default() };
    for tenth in 0..10 {
        tally.delay.record(ms(delay_ms + f64::from(tenth)));
    }
    tally
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

fn groups() -> Vec<Group> {
    let group = |(node, region, _): (&str, &str, f64), users: &str| Group {
        users: users.into(),
        node: node.into(),
        region: region.into(),
    };
    NODES.into_iter().flat_map(|node| KINDS.map(|(users, ..)| group(node, users))).collect()
}

fn scenario(seed: u64) -> ScenarioInfo {
    ScenarioInfo {
        name: "webinar".into(),
        description: "12 speakers and 138 viewers, spread over three regions; the Atlantic gets worse, then Asia's node dies".into(),
        seed,
        users: 150,
        rooms: 1,
        ramp_ms: u64::from(RAMP_S) * 1000,
        duration_ms: u64::from(RUN_S - RAMP_S) * 1000,
        toml: "name = \"webinar\"\nramp = \"15s\"\nduration = \"45s\"\n\n[[rooms]]\ncount = 1\n\n[[rooms.users]]\nname = \"speaker\"\ncount = 12\n".into(),
    }
}

fn target(label: &str) -> TargetInfo {
    let node = |(name, region, _): (&str, &str, f64)| NodeInfo {
        name: name.into(),
        region: region.into(),
        url: format!("ws://{name}.example:4443"),
    };
    TargetInfo { label: label.into(), nodes: NODES.map(node).to_vec() }
}

fn events() -> Vec<Event> {
    let event = |at_s: u32, what: &str| Event { at_s: at_s.into(), what: what.into() };
    vec![
        event(WORSE_AT_S, "eu-us: 80 ms, 1% becomes 160 ms, 4%"),
        event(DOWN_S.start, "ap: node stopped"),
        event(DOWN_S.end, "ap: node started"),
    ]
}

/// A run that ended before its first second was over.
pub(crate) fn stillborn() -> Results {
    let run = run(1, TODAY);
    Results {
        samples: Vec::new(),
        steady: Vec::new(),
        nodes: Vec::new(),
        events: Vec::new(),
        slo: Vec::new(),
        joins: Joins { attempted: 1, failed: BTreeMap::from([("connect: refused".into(), 1)]), ..Joins::default() },
        generator: GeneratorTotals { open_every: 1, ..GeneratorTotals::default() },
        ended: Ended::Aborted { reason: "no node answers".into() },
        verdict: Verdict::NotJudged { reason: "nobody joined".into() },
        ran_s: 0.4,
        ..run
    }
}
