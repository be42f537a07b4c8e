//! What a node says of how long its rooms were busy at a time, and how late its timers were for it.

use std::time::Duration;

use crate::server::Server;

/// What nothing shall take longer than.
const BOUND: f64 = 0.02;

/// The node's two histograms at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Busy {
    steps: Histogram,
    lag: Histogram,
}

impl Busy {
    pub(crate) async fn read(server: &Server) -> Self {
        let text = server.metrics().await;
        Self {
            steps: Histogram::read(&text, "sluice_room_step_seconds"),
            lag: Histogram::read(&text, "sluice_control_lag_seconds"),
        }
    }

    /// Prints what happened since another moment.
    pub(crate) fn print_since(&self, before: &Self) {
        let (steps, lag) = (self.steps.since(&before.steps), self.lag.since(&before.lag));
        println!("  rooms' steps: {}, {:.2} s in all; timers late: {}", steps.longest(), steps.sum, lag.longest());
    }

    /// Time in rooms' steps since another moment.
    pub(crate) fn in_steps_since(&self, before: &Self) -> Duration {
        Duration::from_secs_f64(self.steps.since(&before.steps).sum)
    }
}

/// A histogram of Prometheus.
#[derive(Debug, Clone)]
struct Histogram {
    /// Upper bounds, and how many are below each.
    buckets: Vec<(f64, u64)>,
    sum: f64,
}

impl Histogram {
    fn read(text: &str, name: &str) -> Self {
        let lines = || text.lines().filter_map(|line| line.strip_prefix(name));
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix("_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        };
        let sum = lines().find_map(|line| line.strip_prefix("_sum ")?.parse().ok());
        Self { buckets: lines().filter_map(bucket).collect(), sum: sum.expect("the node has such a histogram") }
    }

    fn since(&self, before: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&before.buckets).map(|((bound, now), (_, then))| (*bound, now - then));
        Self { buckets: buckets.collect(), sum: self.sum - before.sum }
    }

    /// Between which bounds the longest is, and how many are above what nothing shall take.
    fn longest(&self) -> String {
        let all = self.buckets.last().map_or(0, |(_, count)| *count);
        let within = |bound: f64| self.buckets.iter().find(|(upper, _)| *upper == bound).map_or(0, |(_, count)| *count);
        let top = self.buckets.iter().find(|(_, count)| *count == all).map_or(f64::NAN, |(bound, _)| *bound);
        let late = all - within(BOUND);
        format!("longest within {:.1} ms, {late} of {all} above {:.0} ms", top * 1e3, BOUND * 1e3)
    }
}
