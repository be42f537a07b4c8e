//! The nodes under test as they see themselves: their `/metrics`, or where there are none their process, once a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::task::JoinHandle;

use super::openmetrics::Metrics;
use crate::http::HttpClient;
use crate::results::{NodeSample, NodeTotals};
use crate::scenario::TargetNode;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a node said longer ago than this says nothing of now.
const STALE: Duration = Duration::from_millis(2500);

/// What a node counted since it started.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    cpu: f64,
    worker_cpu: f64,
    resident_bytes: u64,
    packets_in: f64,
    packets_out: f64,
    pipe_packets_in: f64,
    pipe_packets_out: f64,
    drops: BTreeMap<String, f64>,
    /// The node counts packets at all.
    counts_packets: bool,
}

impl Counts {
    /// Sluice's names, and for other programs those that Prometheus's client libraries give a process.
    fn from_metrics(metrics: &Metrics) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| metrics.sum(name)).unwrap_or_default();
        let mut drops: BTreeMap<String, f64> = BTreeMap::new();
        for (reason, count) in metrics.by("sluice_worker_dropped_packets_total", "reason") {
            *drops.entry(reason.to_owned()).or_default() += count;
        }
        Self {
            cpu: first(&["sluice_process_cpu_seconds_total", "process_cpu_seconds_total"]),
            worker_cpu: first(&["sluice_worker_cpu_seconds_total"]),
            resident_bytes: first(&["sluice_process_resident_bytes", "process_resident_memory_bytes"]) as u64,
            packets_in: first(&["sluice_worker_rtp_received_packets_total"]),
            packets_out: first(&["sluice_worker_rtp_sent_packets_total"]),
            pipe_packets_in: first(&["sluice_worker_pipe_received_packets_total"]),
            pipe_packets_out: first(&["sluice_worker_pipe_sent_packets_total"]),
            counts_packets: metrics.sum("sluice_worker_rtp_sent_packets_total").is_some(),
            drops,
        }
    }

    /// What was counted since `earlier`; from nothing on if the node has started anew since.
    fn since(&self, earlier: &Self) -> Self {
        let nothing = Self::default();
        let earlier = if self.cpu < earlier.cpu { &nothing } else { earlier };
        let drop_since = |(reason, count): (&String, &f64)| {
            (reason.clone(), (count - earlier.drops.get(reason).copied().unwrap_or_default()).max(0.0))
        };
        Self {
            cpu: self.cpu - earlier.cpu,
            worker_cpu: self.worker_cpu - earlier.worker_cpu,
            resident_bytes: self.resident_bytes,
            packets_in: self.packets_in - earlier.packets_in,
            packets_out: self.packets_out - earlier.packets_out,
            pipe_packets_in: self.pipe_packets_in - earlier.pipe_packets_in,
            pipe_packets_out: self.pipe_packets_out - earlier.pipe_packets_out,
            drops: self.drops.iter().map(drop_since).collect(),
            counts_packets: self.counts_packets,
        }
    }

    fn sample(&self, interval: Duration) -> NodeSample {
        let rate = |count: f64| count.max(0.0) / interval.as_secs_f64().max(0.001);
        NodeSample {
            cpu: rate(self.cpu),
            worker_cpu: rate(self.worker_cpu),
            resident_bytes: self.resident_bytes,
            packets_in: rate(self.packets_in),
            packets_out: rate(self.packets_out),
            pipe_packets_in: rate(self.pipe_packets_in),
            pipe_packets_out: rate(self.pipe_packets_out),
            drops: rate(self.drops.values().sum()),
        }
    }
}

/// What one node did from some moment on.
#[derive(Debug, Clone, Default)]
struct Account {
    cpu: f64,
    seconds: f64,
    packets: f64,
    counts_packets: bool,
    max_resident_bytes: u64,
    drops: BTreeMap<String, f64>,
}

impl Account {
    fn add(&mut self, counts: &Counts, interval: Duration) {
        self.cpu += counts.cpu.max(0.0);
        self.seconds += interval.as_secs_f64();
        self.packets += (counts.packets_out + counts.pipe_packets_out).max(0.0);
        self.counts_packets |= counts.counts_packets;
        self.max_resident_bytes = self.max_resident_bytes.max(counts.resident_bytes);
        for (reason, count) in counts.drops.iter().filter(|(_, count)| **count > 0.0) {
            *self.drops.entry(reason.clone()).or_default() += count;
        }
    }

    /// `received`: packets that the node's users got meanwhile, for a node that does not count.
    fn totals(&self, received: u64) -> NodeTotals {
        let packets = if self.counts_packets { self.packets } else { received as f64 };
        NodeTotals {
            cpu: if self.seconds > 0.0 { self.cpu / self.seconds } else { 0.0 },
            max_resident_bytes: self.max_resident_bytes,
            packets_per_cpu_second: (self.cpu > 0.0 && packets > 0.0).then(|| packets / self.cpu),
            drops: self.drops.iter().map(|(reason, count)| (reason.clone(), *count as u64)).collect(),
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<(Instant, Counts)>,
    sample: Option<NodeSample>,
    account: Account,
}

/// Watches all nodes until it is dropped.
pub(super) struct NodeWatch {
    nodes: Arc<[Mutex<Seen>]>,
    tasks: Vec<JoinHandle<()>>,
}

impl NodeWatch {
    /// Begins to look at nodes that say how.
    pub(super) fn start(targets: &[TargetNode]) -> Self {
        let nodes: Arc<[Mutex<Seen>]> = targets.iter().map(|_| Mutex::default()).collect();
        let tasks = targets
            .iter()
            .enumerate()
            .filter_map(|(index, target)| {
                let mut source = NodeSource::of(target)?;
                let nodes = nodes.clone();
                Some(tokio::spawn(async move {
                    let mut ticks = tokio::time::interval(INTERVAL);
                    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                    loop {
                        ticks.tick().await;
                        let counts = source.read().await;
                        if let Some(node) = nodes.get(index) {
                            note(&mut lock(node), counts);
                        }
                    }
                }))
            })
            .collect();
        Self { nodes, tasks }
    }

    /// What each node said last, if that is not too long ago.
    pub(super) fn samples(&self) -> Vec<Option<NodeSample>> {
        let now = now();
        let fresh = |node: &Mutex<Seen>| {
            let seen = lock(node);
            seen.sample.clone().filter(|_| seen.last.as_ref().is_some_and(|(at, _)| now < *at + STALE))
        };
        self.nodes.iter().map(fresh).collect()
    }

    /// Begins the account of [`Self::totals`] anew.
    pub(super) fn begin(&self) {
        self.nodes.iter().for_each(|node| lock(node).account = Account::default());
    }

    /// What each node did since [`Self::begin`]. `received`: packets that its users got meanwhile.
    pub(super) fn totals(&self, received: &[u64]) -> Vec<NodeTotals> {
        let received = received.iter().copied().chain(std::iter::repeat(0));
        self.nodes.iter().zip(received).map(|(node, received)| lock(node).account.totals(received)).collect()
    }
}

impl Drop for NodeWatch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn note(seen: &mut Seen, counts: Option<Counts>) {
    let now = now();
    let Some(counts) = counts else {
        seen.sample = None;
        return;
    };
    if let Some((at, earlier)) = &seen.last {
        let (interval, since) = (now.saturating_duration_since(*at), counts.since(earlier));
        seen.sample = Some(since.sample(interval));
        seen.account.add(&since, interval);
    }
    seen.last = Some((now, counts));
}

fn lock(node: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a node's counts come from.
enum NodeSource {
    Metrics { client: Box<HttpClient>, url: hyper::Uri },
    Process { system: Box<System>, pid: Pid },
}

impl NodeSource {
    fn of(target: &TargetNode) -> Option<Self> {
        if let Some(url) = target.metrics.as_ref().and_then(|url| url.parse().ok()) {
            return Some(Self::Metrics { client: Box::default(), url });
        }
        let system = Box::new(System::new().ok()?);
        Some(Self::Process { system, pid: Pid::from_u32(target.pid?) })
    }

    async fn read(&mut self) -> Option<Counts> {
        match self {
            Self::Metrics { client, url } => {
                client.get_uri(url.clone()).await.map(|text| Counts::from_metrics(&Metrics::parse(&text)))
            }
            Self::Process { system, pid } => {
                let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
                system.refresh_processes_specifics(ProcessesToUpdate::Some(&[*pid]), true, kind);
                system.process(*pid).map(|process| Counts {
                    cpu: process.accumulated_cpu_time() as f64 / 1_000.0,
                    resident_bytes: process.memory(),
                    ..Counts::default()
                })
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "rates are over real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_started_anew_counts_from_nothing() {
        let counts = |cpu, packets_out, shed: f64| Counts {
            cpu,
            packets_out,
            counts_packets: true,
            drops: [("pipe_shed".to_owned(), shed)].into(),
            ..Counts::default()
        };
        let mut account = Account::default();
        let second = Duration::from_secs(1);
        account.add(&counts(11.0, 1500.0, 7.0).since(&counts(10.0, 1000.0, 5.0)), second);
        account.add(&counts(0.5, 100.0, 1.0).since(&counts(11.0, 1500.0, 7.0)), second);
        let totals = account.totals(0);
        assert_eq!((totals.cpu, totals.packets_per_cpu_second), (0.75, Some(400.0)));
        assert_eq!(totals.drops, [("pipe_shed".to_owned(), 3)].into());
    }

    #[test]
    fn a_node_that_does_not_count_is_judged_by_its_users() {
        let mut account = Account::default();
        account.add(&Counts { cpu: 2.0, ..Counts::default() }, Duration::from_secs(4));
        assert_eq!(account.totals(1000).packets_per_cpu_second, Some(500.0));
        assert_eq!(account.totals(0).packets_per_cpu_second, None, "a node without media is not judged by packets");
        assert_eq!(Account::default().totals(1000).packets_per_cpu_second, None);
    }
}
