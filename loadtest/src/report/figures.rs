//! The key figures of a run, by which runs are compared.

use serde::Serialize;

use super::unit::Unit;
use crate::results::{DataReceived, Durations, GroupSample, Received, Results};

/// A number that says much about a run.
pub(super) struct Figure {
    /// Stable name, for programs.
    pub(super) key: &'static str,
    /// Name for people.
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) better: Better,
    of: fn(&Results) -> Option<f64>,
}

/// Which of two values one would rather have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    Lower,
    Higher,
    /// It tells what ran, not how well.
    Neither,
}

impl Figure {
    /// Its value in a run; `None` if there was nothing to measure.
    pub(super) fn of(&self, run: &Results) -> Option<f64> {
        (self.of)(run).filter(|value| value.is_finite())
    }
}

const fn figure(
    key: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    of: fn(&Results) -> Option<f64>,
) -> Figure {
    Figure { key, name, unit, better, of }
}

/// All figures. Delays are those of the worst group: quantiles of several groups do not add up, but no user mix can
/// make the quantile over all of them worse than that.
pub(super) const FIGURES: &[Figure] = {
    use Better::{Higher, Lower, Neither};
    &[
        figure("users", "Users at most", Unit::Count, Neither, |run| {
            run.samples.iter().map(|sample| f64::from(sample.users_joined)).reduce(f64::max)
        }),
        figure("join_p50", "Join time, p50", Unit::Ms, Lower, |run| quantile(&run.joins.time, run.joins.time.p50_ms)),
        figure("join_p99", "Join time, p99", Unit::Ms, Lower, |run| quantile(&run.joins.time, run.joins.time.p99_ms)),
        figure("failed_joins", "Failed joins", Unit::Percent, Lower, |run| {
            percent(run.joins.failures(), run.joins.attempted)
        }),
        figure("audio_delay_p50", "Audio delay, p50, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.audio.delay, |delay| delay.p50_ms)
        }),
        figure("audio_delay_p99", "Audio delay, p99, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.audio.delay, |delay| delay.p99_ms)
        }),
        figure("video_delay_p50", "Video delay, p50, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.video.delay, |delay| delay.p50_ms)
        }),
        figure("video_delay_p99", "Video delay, p99, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.video.delay, |delay| delay.p99_ms)
        }),
        figure("audio_loss", "Audio loss before repair", Unit::Percent, Lower, |run| {
            loss(run, |group| &group.audio, |audio| audio.missing)
        }),
        figure("audio_residual_loss", "Audio loss after repair", Unit::Percent, Lower, |run| {
            loss(run, |group| &group.audio, |audio| audio.lost)
        }),
        figure("video_loss", "Video loss before repair", Unit::Percent, Lower, |run| {
            loss(run, |group| &group.video, |video| video.missing)
        }),
        figure("video_residual_loss", "Video loss after repair", Unit::Percent, Lower, |run| {
            loss(run, |group| &group.video, |video| video.lost)
        }),
        figure("freezes_per_hour", "Freezes > 500 ms per hour of video", Unit::PerHour, Lower, freezes_per_hour),
        figure("first_frame_p99", "First frame, p99, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.video.first_frame, |time| time.p99_ms)
        }),
        figure("data_delay_p50", "Data delay, p50, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.data.delay, |delay| delay.p50_ms)
        }),
        figure("data_delay_p99", "Data delay, p99, worst group", Unit::Ms, Lower, |run| {
            worst(run, |group| &group.data.delay, |delay| delay.p99_ms)
        }),
        figure("data_loss", "Data loss", Unit::Percent, Lower, |run| {
            percent(data(run, |data| data.lost), data(run, |data| data.expected))
        }),
        figure("data_violations", "Data violations", Unit::Count, Lower, |run| {
            (data(run, |data| data.expected) > 0).then(|| data(run, |data| data.violations) as f64)
        }),
        figure("received", "Received", Unit::BitsPerSecond, Neither, |run| {
            let groups = run.steady.iter().filter(|group| group.interval_s > 0.0);
            groups.map(|group| bits_per_second(bytes(group), group.interval_s)).reduce(plus)
        }),
        figure("nodes_cpu", "Nodes' CPU, sum", Unit::Cpus, Lower, |run| {
            run.nodes.iter().map(|node| node.cpu).filter(|cpu| *cpu > 0.0).reduce(plus)
        }),
        figure("packets_per_cpu_second", "Packets per CPU-second", Unit::Count, Higher, packets_per_cpu_second),
        figure("nodes_memory", "Nodes' memory, sum of peaks", Unit::Bytes, Lower, |run| {
            run.nodes.iter().map(|node| node.max_resident_bytes as f64).filter(|bytes| *bytes > 0.0).reduce(plus)
        }),
        figure("nodes_drops", "Nodes' drops", Unit::Count, Lower, |run| {
            run.nodes.iter().map(|node| node.drops.values().sum::<u64>() as f64).reduce(plus)
        }),
        figure("generator_cpu", "Generator's CPU", Unit::Cpus, Neither, |run| Some(run.generator.cpu)),
        figure("generator_lag_p99", "Generator's lag, p99", Unit::Ms, Neither, |run| Some(run.generator.lag_p99_ms)),
        figure("generator_drops", "Generator's drops", Unit::Count, Neither, |run| {
            Some((run.generator.receive_drops + run.generator.send_drops) as f64)
        }),
    ]
};

/// Bits per second of so many bytes.
pub(super) fn bits_per_second(bytes: u64, interval_s: f64) -> f64 {
    if interval_s > 0.0 { bytes as f64 * 8.0 / interval_s } else { 0.0 }
}

/// A share in percent; `None` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}

/// A value of a distribution; `None` if it is empty.
pub(super) fn quantile(durations: &Durations, value: f64) -> Option<f64> {
    (durations.count > 0).then_some(value)
}

fn worst(run: &Results, of: fn(&GroupSample) -> &Durations, value: fn(&Durations) -> f64) -> Option<f64> {
    run.steady.iter().map(of).filter_map(|durations| quantile(durations, value(durations))).reduce(f64::max)
}

fn loss(run: &Results, kind: fn(&GroupSample) -> &Received, packets: fn(&Received) -> u64) -> Option<f64> {
    percent(
        run.steady.iter().map(|group| packets(kind(group))).sum(),
        run.steady.iter().map(|group| kind(group).expected).sum(),
    )
}

fn data(run: &Results, messages: fn(&DataReceived) -> u64) -> u64 {
    run.steady.iter().map(|group| messages(&group.data)).sum()
}

fn bytes(group: &GroupSample) -> u64 {
    group.audio.bytes + group.video.bytes + group.data.bytes
}

fn freezes_per_hour(run: &Results) -> Option<f64> {
    let freezes: u64 = run.steady.iter().map(|group| group.video.freezes_500ms).sum();
    let hours: f64 = run.steady.iter().map(|group| f64::from(group.video.streams) * group.interval_s / 3600.0).sum();
    (hours > 0.0).then(|| freezes as f64 / hours)
}

/// Of the nodes that count packets: all packets for all of their processor time.
fn packets_per_cpu_second(run: &Results) -> Option<f64> {
    let counted = || run.nodes.iter().filter_map(|node| Some((node.packets_per_cpu_second?, node.cpu)));
    let cpu: f64 = counted().map(|(_, cpu)| cpu).sum();
    (cpu > 0.0).then(|| counted().map(|(packets, cpu)| packets * cpu).sum::<f64>() / cpu)
}

fn plus(a: f64, b: f64) -> f64 {
    a + b
}
