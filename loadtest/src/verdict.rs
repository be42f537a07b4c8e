//! What follows from what was measured: whether the generator was fit to measure it, and whether the objectives were
//! met.

use std::time::Duration;

use crate::results::{Ended, GeneratorTotals, Joins, Objective, Sample, Verdict};
use crate::scenario::{GeneratorConfig, Slo};
use crate::tally::Tally;

/// A run that was interrupted is judged from this much steady time on: what is shorter says more of the ramp than of
/// the load.
const MIN_STEADY: Duration = Duration::from_secs(10);
/// Share of packets that the generator may lose itself: a tenth of the least loss that the shipped scenarios allow.
const MAX_OWN_LOSS: f64 = 0.0001;
/// Share of its processors in use from which on a generator has nothing left for what comes next.
const MAX_BUSY: f64 = 0.95;

/// What a run is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// How it ended.
    pub ended: &'a Ended,
    /// Time over which the users joined; what comes after it is steady.
    pub ramp: Duration,
    /// Its seconds, the ramp's included.
    pub samples: &'a [Sample],
    /// Counts of the steady time, of all groups together.
    pub steady: &'a Tally,
    /// Joins of the whole run.
    pub joins: &'a Joins,
    /// The generator over the whole run.
    pub generator: &'a GeneratorTotals,
}

/// Holds a run against its objectives.
///
/// A run in which the generator was the bottleneck, that was aborted or interrupted early, or in which nothing was
/// measured is not judged. Otherwise an objective that could not be measured is not met: the target delivered nothing.
pub fn judge(slo: &Slo, measured: &Measured<'_>) -> (Vec<Objective>, Verdict) {
    let objectives = objectives(slo, measured);
    let verdict = match not_judged(&objectives, measured) {
        Some(reason) => Verdict::NotJudged { reason },
        None if objectives.iter().all(|objective| objective.met) => Verdict::Passed,
        None => Verdict::Failed,
    };
    (objectives, verdict)
}

fn objectives(slo: &Slo, measured: &Measured<'_>) -> Vec<Objective> {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let percent = |share: f64| share * 100.0;
    let (joins, data) = (measured.joins, &measured.steady.data.sums);
    let all = [
        ("join_p99", "ms", slo.join_p99.map(ms), (joins.time.count > 0).then_some(joins.time.p99_ms)),
        ("delay_p99", "ms", slo.delay_p99.map(ms), delay_p99(measured.steady).map(ms)),
        ("residual_loss", "%", slo.residual_loss.map(percent), residual_loss(measured.steady).map(percent)),
        ("freezes_per_hour", "1/h", slo.freezes_per_hour, freezes_per_hour(measured)),
        ("data_delay_p99", "ms", slo.data_delay_p99.map(ms), measured.steady.data.delay.quantile(0.99).map(ms)),
        ("data_loss", "%", slo.data_loss.map(percent), share(data.lost, data.expected).map(percent)),
        ("data_violations", "", slo.data_violations, (data.expected > 0).then_some(data.violations as f64)),
        ("failed_joins", "%", slo.failed_joins.map(percent), share(joins.failures(), joins.attempted).map(percent)),
    ];
    let objective = |(name, unit, limit, measured): (&str, &str, Option<f64>, Option<f64>)| {
        let limit = limit?;
        let met = measured.is_some_and(|measured| measured <= limit);
        Some(Objective { name: name.to_owned(), limit, measured, unit: unit.to_owned(), met })
    };
    all.into_iter().filter_map(objective).collect()
}

/// Of audio and video together.
fn delay_p99(steady: &Tally) -> Option<Duration> {
    let mut delay = steady.audio.delay.clone();
    delay.merge(&steady.video.delay);
    delay.quantile(0.99)
}

fn residual_loss(steady: &Tally) -> Option<f64> {
    let [audio, video] = [&steady.audio.sums, &steady.video.sums];
    share(audio.lost + video.lost, audio.expected + video.expected)
}

fn freezes_per_hour(measured: &Measured<'_>) -> Option<f64> {
    let streams = |sample: &Sample| -> f64 {
        sample.groups.iter().map(|group| f64::from(group.video.streams) * group.interval_s).sum()
    };
    let hours = steady_samples(measured).map(streams).sum::<f64>() / 3600.0;
    (hours > 0.0).then(|| measured.steady.video.sums.freezes_500ms as f64 / hours)
}

fn steady_samples<'a>(measured: &Measured<'a>) -> impl Iterator<Item = &'a Sample> {
    let ramp = measured.ramp.as_secs_f64();
    measured.samples.iter().filter(move |sample| sample.at_s > ramp)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn not_judged(objectives: &[Objective], measured: &Measured<'_>) -> Option<String> {
    let ran = measured.samples.last().map_or(0.0, |sample| sample.at_s);
    let steady = ran - measured.ramp.as_secs_f64();
    match measured.ended {
        Ended::Aborted { reason } => return Some(format!("the run was aborted: {reason}")),
        Ended::Interrupted if steady < MIN_STEADY.as_secs_f64() => {
            return Some(format!(
                "the run was interrupted {:.0} s after the ramp: {} s are needed",
                steady.max(0.0),
                MIN_STEADY.as_secs()
            ));
        }
        Ended::Interrupted | Ended::Completed => {}
    }
    if !measured.generator.overloaded.is_empty() {
        return Some(format!("the load generator was the bottleneck: {}", measured.generator.overloaded.join("; ")));
    }
    let nothing = !objectives.is_empty() && objectives.iter().all(|objective| objective.measured.is_none());
    nothing.then(|| "nothing was measured".to_owned())
}

/// The generator over a whole run, and whether it was the bottleneck: on a machine with `processors`.
pub fn generator_totals(samples: &[Sample], config: &GeneratorConfig, processors: usize) -> GeneratorTotals {
    let each = |read: fn(&Sample) -> f64| samples.iter().map(read).collect::<Vec<_>>();
    let sum = |read: fn(&Sample) -> u64| samples.iter().map(read).sum::<u64>();
    let cpu = each(|sample| sample.generator.cpu);
    let mut totals = GeneratorTotals {
        cpu: cpu.iter().sum::<f64>() / cpu.len().max(1) as f64,
        lag_p99_ms: percentile(each(|sample| sample.generator.lag_ms), 0.99),
        receive_drops: sum(|sample| sample.generator.receive_drops),
        send_drops: sum(|sample| sample.generator.send_drops),
        open_every: config.open_every,
        overloaded: Vec::new(),
    };
    let busy = percentile(cpu, 0.9);
    let packets = sum(packets);
    totals.overloaded = overloaded(&totals, busy, packets, config, processors);
    totals
}

/// RTP packets and messages that were received and sent.
fn packets(sample: &Sample) -> u64 {
    let group = |group: &crate::results::GroupSample| {
        let received = group.audio.packets + group.video.packets;
        let sent = [&group.sent_audio, &group.sent_video].map(|sent| sent.packets + sent.retransmitted);
        received + sent.iter().sum::<u64>() + group.data.messages + group.sent_data.messages
    };
    sample.groups.iter().map(group).sum()
}

fn overloaded(
    totals: &GeneratorTotals,
    busy: f64,
    packets: u64,
    config: &GeneratorConfig,
    processors: usize,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let max_lag_ms = config.max_lag.as_secs_f64() * 1000.0;
    if totals.lag_p99_ms > max_lag_ms {
        reasons.push(format!(
            "its timers fired {:.0} ms late (99th percentile of the seconds; {max_lag_ms:.0} ms are allowed)",
            totals.lag_p99_ms
        ));
    }
    let drops = [
        (totals.receive_drops, "received datagrams because it read too slowly"),
        (totals.send_drops, "datagrams that it sent faster than the network took them"),
    ];
    for (count, what) in drops {
        let share = share(count, packets + count).unwrap_or(0.0);
        if share > MAX_OWN_LOSS {
            reasons.push(format!("the kernel dropped {count} {what} ({:.2}% of its packets)", share * 100.0));
        }
    }
    let available = usize::from(config.threads).min(processors);
    if busy > available as f64 * MAX_BUSY {
        reasons.push(format!("it used {busy:.2} of {available} processors (90th percentile of the seconds)"));
    }
    reasons
}

/// The value that the share `quantile` of all values does not exceed; 0 of none.
fn percentile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * quantile).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{DataReceived, Durations, GeneratorSample, GroupSample, Received};
    use crate::tally::{DataReceivedTally, ReceivedTally};

    const SLO: Slo = Slo {
        join_p99: Some(Duration::from_secs(1)),
        delay_p99: Some(Duration::from_millis(100)),
        residual_loss: Some(0.01),
        freezes_per_hour: Some(6.0),
        data_delay_p99: Some(Duration::from_millis(100)),
        data_loss: Some(0.01),
        data_violations: Some(0.0),
        failed_joins: Some(0.1),
    };

    /// A run of 10 s ramp and 20 s steady time in which all went as it should, and may be spoilt.
    struct Run {
        ended: Ended,
        samples: Vec<Sample>,
        steady: Tally,
        joins: Joins,
    }

    impl Run {
        fn good() -> Self {
            let video = Received { streams: 90, packets: 1000, ..Default::default() };
            let group = GroupSample { interval_s: 1.0, video, ..Default::default() };
            let generator = GeneratorSample { cpu: 0.5, lag_ms: 5.0, ..Default::default() };
            let sample = |second: u32| Sample {
                at_s: second.into(),
                groups: vec![group.clone()],
                generator: generator.clone(),
                ..Default::default()
            };
            let time = Durations { count: 100, p99_ms: 400.0, ..Default::default() };
            Self {
                ended: Ended::Completed,
                samples: (1..=30).map(sample).collect(),
                steady: Tally {
                    audio: received(500, 10),
                    video: received(500, 20),
                    data: data(500, 30),
                    ..Default::default()
                },
                joins: Joins { attempted: 100, succeeded: 100, time, ..Default::default() },
            }
        }

        fn judge(&self) -> (Vec<Objective>, Verdict) {
            let generator = generator_totals(&self.samples, &GeneratorConfig::default(), 2);
            let ramp = Duration::from_secs(10);
            let (samples, steady) = (&self.samples[..], &self.steady);
            judge(
                &SLO,
                &Measured { ended: &self.ended, ramp, samples, steady, joins: &self.joins, generator: &generator },
            )
        }

        fn verdict(&self) -> Verdict {
            self.judge().1
        }

        /// The objectives that were not met.
        fn unmet(&self) -> Vec<String> {
            self.judge().0.into_iter().filter(|objective| !objective.met).map(|objective| objective.name).collect()
        }

        fn reason(&self) -> String {
            match self.verdict() {
                Verdict::NotJudged { reason } => reason,
                other => panic!("{other:?}"),
            }
        }
    }

    fn received(expected: u64, delay_ms: u64) -> ReceivedTally {
        let mut tally = ReceivedTally { sums: Received { expected, ..Default::default() }, ..Default::default() };
        for _ in 0..expected {
            tally.delay.record(Duration::from_millis(delay_ms));
        }
        tally
    }

    fn data(expected: u64, delay_ms: u64) -> DataReceivedTally {
        let sums = DataReceived { expected, messages: expected, ..Default::default() };
        let mut tally = DataReceivedTally { sums, ..Default::default() };
        (0..expected).for_each(|_| tally.delay.record(Duration::from_millis(delay_ms)));
        tally
    }

    #[test]
    fn a_good_run_passes_with_all_that_was_measured() {
        let (objectives, verdict) = Run::good().judge();
        assert_eq!(verdict, Verdict::Passed);
        let shown: Vec<_> = objectives
            .iter()
            .map(|o| (o.name.as_str(), o.limit, o.measured.unwrap().round(), o.unit.as_str()))
            .collect();
        let expected = [
            ("join_p99", 1000.0, 400.0, "ms"),
            ("delay_p99", 100.0, 20.0, "ms"),
            ("residual_loss", 1.0, 0.0, "%"),
            ("freezes_per_hour", 6.0, 0.0, "1/h"),
            ("data_delay_p99", 100.0, 30.0, "ms"),
            ("data_loss", 1.0, 0.0, "%"),
            ("data_violations", 0.0, 0.0, ""),
            ("failed_joins", 10.0, 0.0, "%"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn each_objective_can_fail() {
        let mut run = Run::good();
        run.joins.time.p99_ms = 1001.0;
        assert_eq!((run.unmet(), run.verdict()), (vec!["join_p99".to_owned()], Verdict::Failed));

        // Of 1,000 delays 11 are too long: 11 of the video's, none of the audio's.
        let mut run = Run::good();
        for late in 0..12 {
            assert_eq!(run.unmet().is_empty(), late <= 10, "{late} late");
            run.steady.video.delay.record(Duration::from_millis(150));
        }

        let mut run = Run::good();
        run.steady.audio.sums.lost = 11;
        assert_eq!(run.unmet(), ["residual_loss"]);

        // 90 streams for 20 s are half an hour.
        let mut run = Run::good();
        run.steady.video.sums.freezes_500ms = 3;
        assert_eq!(run.verdict(), Verdict::Passed);
        run.steady.video.sums.freezes_500ms = 4;
        assert_eq!(run.unmet(), ["freezes_per_hour"]);

        let mut run = Run::good();
        (run.steady.data.sums.lost, run.steady.data.sums.violations) = (6, 1);
        assert_eq!(run.unmet(), ["data_loss", "data_violations"]);

        let mut run = Run::good();
        run.joins.failed.insert("connect".into(), 11);
        assert_eq!(run.unmet(), ["failed_joins"]);
    }

    #[test]
    fn a_target_that_delivers_nothing_fails() {
        let mut run = Run::good();
        run.steady = Tally::default();
        run.samples.iter_mut().for_each(|sample| sample.groups.clear());
        assert_eq!((run.unmet().len(), run.verdict()), (6, Verdict::Failed));
    }

    #[test]
    fn a_run_that_measured_nothing_is_not_judged() {
        let mut run = Run::good();
        (run.steady, run.joins) = Default::default();
        run.samples.clear();
        assert_eq!(run.reason(), "nothing was measured");
    }

    #[test]
    fn a_run_that_did_not_end_well_is_judged_by_what_ran() {
        let mut run = Run::good();
        run.ended = Ended::Interrupted;
        assert_eq!(run.verdict(), Verdict::Passed);
        run.samples.truncate(19);
        assert_eq!(run.reason(), "the run was interrupted 9 s after the ramp: 10 s are needed");
        run.samples.truncate(5);
        assert_eq!(run.reason(), "the run was interrupted 0 s after the ramp: 10 s are needed");
        run.ended = Ended::Aborted { reason: "the server is gone".into() };
        assert_eq!(run.reason(), "the run was aborted: the server is gone");
    }

    #[test]
    fn a_generator_that_was_the_bottleneck_says_why() {
        let spoilt = |spoil: fn(&mut GeneratorSample)| {
            let mut run = Run::good();
            run.samples.iter_mut().for_each(|sample| spoil(&mut sample.generator));
            run.reason()
        };
        let because = |reason: &str| format!("the load generator was the bottleneck: {reason}");
        assert_eq!(
            spoilt(|generator| generator.lag_ms = 140.0),
            because("its timers fired 140 ms late (99th percentile of the seconds; 100 ms are allowed)")
        );
        assert_eq!(
            spoilt(|generator| generator.receive_drops = 10),
            because("the kernel dropped 300 received datagrams because it read too slowly (0.99% of its packets)")
        );
        assert_eq!(
            spoilt(|generator| generator.send_drops = 1),
            because(
                "the kernel dropped 30 datagrams that it sent faster than the network took them (0.10% of its packets)"
            )
        );
        assert_eq!(
            spoilt(|generator| generator.cpu = 0.97),
            because("it used 0.97 of 1 processors (90th percentile of the seconds)")
        );
    }

    #[test]
    fn a_single_bad_second_does_not_spoil_a_long_run() {
        let mut samples = vec![Run::good().samples; 10].concat();
        let bad = &mut samples[150].generator;
        (bad.cpu, bad.lag_ms, bad.receive_drops, bad.send_drops) = (1.0, 500.0, 20, 20);
        let totals = generator_totals(&samples, &GeneratorConfig::default(), 2);
        assert_eq!(totals.overloaded, Vec::<String>::new());
        assert_eq!((totals.receive_drops, totals.lag_p99_ms), (20, 5.0));
    }
}
