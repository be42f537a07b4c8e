//! What a run says at its end.

use std::fmt::Write as _;

use super::{NOTHING, count, cut_short, objective_value, plural, seconds, value, verdict};
use crate::report::figures::{bits_per_second, percent, quantile};
use crate::report::table::{Table, clip};
use crate::report::unit::{Unit, digits};
use crate::results::{DataSent, Durations, Group, GroupSample, NodeInfo, NodeTotals, Received, Results, Sent};

/// Longest name in a table; more is cut off, so that a line fits.
const NAME: usize = 14;
/// Reasons of drops that a line has room for; the greatest are shown.
const REASONS: usize = 3;
const INDENT: &str = "  ";

/// The summary of a run, with its verdict in the last line.
pub fn summary(run: &Results) -> String {
    let media = [received(run), sent(run), data_received(run), data_sent(run)];
    let parts = [heading(run), joins(run)].into_iter().chain(media);
    let parts = parts.chain([nodes(run), generator(run), events(run), slo(run)]);
    let mut out: String = parts.filter(|part| !part.is_empty()).map(|part| part + "\n").collect();
    let _ = writeln!(out, "{}", verdict(run));
    out
}

fn heading(run: &Results) -> String {
    let scenario = &run.scenario;
    let [ramp, duration] = [scenario.ramp_ms, scenario.duration_ms].map(|ms| seconds(ms as f64 / 1000.0));
    let mut out = format!(
        "{} on {}: {} in {} on {}, {ramp} s of ramp and {duration} s after it, seed {}\n",
        scenario.name,
        run.target.label,
        plural(scenario.users, "user"),
        plural(scenario.rooms, "room"),
        plural(run.target.nodes.len() as u64, "node"),
        scenario.seed,
    );
    if let Some(how) = cut_short(run) {
        let _ = writeln!(out, "{INDENT}{how}");
    }
    out
}

fn joins(run: &Results) -> String {
    let joins = &run.joins;
    let users = run.samples.iter().map(|sample| sample.users_joined).max().unwrap_or(0);
    let mut out = format!("Joins: {} of {} succeeded", count(joins.succeeded), count(joins.attempted));
    if joins.time.count > 0 {
        let [p50, p99, max] = [joins.time.p50_ms, joins.time.p99_ms, joins.time.max_ms].map(|ms| Unit::Ms.format(ms));
        let _ = write!(out, ", p50 {p50}, p99 {p99}, at most {max}");
    }
    let _ = writeln!(out, "; {} at once", plural(users, "user"));
    for (reason, times) in &joins.failed {
        let _ = writeln!(out, "{INDENT}{} failed: {reason}", count(*times));
    }
    out
}

fn received(run: &Results) -> String {
    let titles = [
        "users",
        "node",
        "kind",
        "streams",
        "kbit/s",
        "delay p50",
        "p99",
        "loss %",
        "after",
        ">200",
        ">500",
        "first p50",
        "p99",
    ];
    let mut table = Table::new("lllrrrrrrrrrr", titles);
    for sample in &run.steady {
        let Some(group) = run.groups.get(sample.group) else { continue };
        for (kind, media) in [("audio", &sample.audio), ("video", &sample.video)] {
            if media.streams > 0 || media.expected > 0 {
                table.row(received_row(group, sample, kind, media));
            }
        }
    }
    let what = "Received after the ramp: delay, gaps and first frame in ms; loss before and after repair";
    if table.is_empty() { String::new() } else { format!("{what}\n{}", table.print(INDENT)) }
}

fn received_row(group: &Group, sample: &GroupSample, kind: &str, media: &Received) -> [String; 13] {
    let each = bits_per_second(media.bytes, sample.interval_s) / f64::from(media.streams.max(1));
    let ms = |of: &Durations, ms| quantile(of, ms).map_or(NOTHING.into(), digits);
    let share = |part| percent(part, media.expected).map_or(NOTHING.into(), digits);
    [
        clip(&group.users, NAME),
        clip(&group.node, NAME),
        kind.into(),
        count(media.streams),
        digits(each / 1000.0),
        ms(&media.delay, media.delay.p50_ms),
        ms(&media.delay, media.delay.p99_ms),
        share(media.missing),
        share(media.lost),
        count(media.freezes_200ms),
        count(media.freezes_500ms),
        ms(&media.first_frame, media.first_frame.p50_ms),
        ms(&media.first_frame, media.first_frame.p99_ms),
    ]
}

fn sent(run: &Results) -> String {
    let mut out = String::new();
    for (kind, of) in [("audio", audio as fn(&GroupSample) -> &Sent), ("video", video)] {
        let sum = |what: fn(&Sent) -> u64| run.steady.iter().map(|group| what(of(group))).sum::<u64>();
        let streams = sum(|sent| sent.streams.into());
        if streams == 0 {
            continue;
        }
        let bits: f64 = run.steady.iter().map(|group| bits_per_second(of(group).bytes, group.interval_s)).sum();
        let each = Unit::BitsPerSecond.format(bits / streams as f64);
        let again = sum(|sent| sent.retransmitted);
        let _ = write!(out, "Sent {kind}: {} of {each}, {} again", plural(streams, "stream"), plural(again, "packet"));
        let requests = sum(|sent| sent.key_frame_requests);
        if requests > 0 {
            let _ = write!(out, ", {} for a key frame", plural(requests, "request"));
        }
        out.push('\n');
    }
    out
}

fn audio(group: &GroupSample) -> &Sent {
    &group.sent_audio
}

fn video(group: &GroupSample) -> &Sent {
    &group.sent_video
}

fn data_received(run: &Results) -> String {
    let titles =
        ["users", "node", "channels", "messages", "delay p50", "p99", "lost %", "twice", "out of order", "violations"];
    let mut table = Table::new("llrrrrrrrr", titles);
    for sample in &run.steady {
        let Some(group) = run.groups.get(sample.group) else { continue };
        let data = &sample.data;
        if data.channels > 0 || data.expected > 0 {
            let ms = |ms| quantile(&data.delay, ms).map_or(NOTHING.into(), digits);
            table.row([
                clip(&group.users, NAME),
                clip(&group.node, NAME),
                count(data.channels),
                count(data.messages),
                ms(data.delay.p50_ms),
                ms(data.delay.p99_ms),
                percent(data.lost, data.expected).map_or(NOTHING.into(), digits),
                count(data.duplicates),
                count(data.out_of_order),
                count(data.violations),
            ]);
        }
    }
    let what = "Received on data channels after the ramp: delay in ms";
    if table.is_empty() { String::new() } else { format!("{what}\n{}", table.print(INDENT)) }
}

fn data_sent(run: &Results) -> String {
    let sum = |what: fn(&DataSent) -> u64| run.steady.iter().map(|group| what(&group.sent_data)).sum::<u64>();
    let (channels, messages, refused) =
        (sum(|sent| sent.channels.into()), sum(|sent| sent.messages), sum(|sent| sent.refused));
    if channels == 0 && messages == 0 {
        return String::new();
    }
    let mut out = format!("Sent on {}: {}", plural(channels, "data channel"), plural(messages, "message"));
    if refused > 0 {
        let _ = write!(out, ", {} refused", count(refused));
    }
    out + "\n"
}

fn nodes(run: &Results) -> String {
    let mut table = Table::new("llrrrrl", ["node", "region", "CPU", "packets/CPU-s", "memory", "drops", ""]);
    for (node, totals) in run.target.nodes.iter().zip(&run.nodes) {
        table.row(node_row(node, totals));
    }
    if table.is_empty() { String::new() } else { format!("Nodes after the ramp\n{}", table.print(INDENT)) }
}

fn node_row(node: &NodeInfo, totals: &NodeTotals) -> [String; 7] {
    let mut reasons: Vec<_> = totals.drops.iter().filter(|(_, packets)| **packets > 0).collect();
    reasons.sort_by_key(|(_, packets)| std::cmp::Reverse(**packets));
    let shown = reasons.iter().take(REASONS).map(|(reason, packets)| format!("{} {reason}", count(**packets)));
    [
        clip(&node.name, NAME),
        clip(&node.region, NAME),
        value(Unit::Cpus, known(totals.cpu)),
        value(Unit::Count, totals.packets_per_cpu_second),
        value(Unit::Bytes, known(totals.max_resident_bytes as f64)),
        count(totals.drops.values().sum::<u64>()),
        shown.collect::<Vec<_>>().join(", "),
    ]
}

/// A process that takes neither time nor memory is one that was not measured.
fn known(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn generator(run: &Results) -> String {
    let generator = &run.generator;
    let mut out = format!(
        "Generator: CPU {}, lag p99 {}, {} datagrams dropped on receiving and {} on sending",
        Unit::Cpus.format(generator.cpu),
        Unit::Ms.format(generator.lag_p99_ms),
        count(generator.receive_drops),
        count(generator.send_drops),
    );
    if generator.open_every > 1 {
        let _ = write!(out, "; 1 of {} packets opened", generator.open_every);
    }
    out.push('\n');
    for reason in &generator.overloaded {
        let _ = writeln!(out, "{INDENT}it was the bottleneck: {reason}");
    }
    out
}

fn events(run: &Results) -> String {
    let lines = run.events.iter().map(|event| format!("{INDENT}{:>6.1} s  {}\n", event.at_s, event.what));
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("Events\n{lines}") }
}

fn slo(run: &Results) -> String {
    let mut table = Table::new("lrrl", ["objective", "measured", "at most", ""]);
    for objective in &run.slo {
        let [measured, limit] = [objective.measured, Some(objective.limit)].map(|of| objective_value(objective, of));
        table.row([objective.name.clone(), measured, limit, if objective.met { "met" } else { "NOT MET" }.into()]);
    }
    if table.is_empty() { String::new() } else { table.print("") }
}
