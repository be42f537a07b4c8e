//! From what was counted each second to the results of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::driver::Collected;
use crate::media::Histogram;
use crate::results::{Event, GeneratorSample, Group, GroupSample, Joins, NodeSample, Sample};
use crate::tally::{Tally, durations};

/// Joins that ended, one way or the other.
#[derive(Debug, Clone, Default)]
pub(super) struct JoinCounts {
    pub(super) attempted: u64,
    pub(super) times: Histogram,
    pub(super) failed: BTreeMap<String, u64>,
}

impl JoinCounts {
    fn merge(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.times.merge(&other.times);
        for (reason, count) in &other.failed {
            *self.failed.entry(reason.clone()).or_default() += count;
        }
    }

    fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// What one second brought.
pub(super) struct Second {
    /// Since the first user set out to join.
    pub(super) at: Duration,
    /// Since the second before.
    pub(super) interval: Duration,
    /// The ramp is over.
    pub(super) steady: bool,
    pub(super) users_wanted: u32,
    pub(super) users_joined: u32,
    pub(super) joins: JoinCounts,
    pub(super) collected: Collected,
    pub(super) nodes: Vec<Option<NodeSample>>,
    /// Processor time of this process in the interval.
    pub(super) cpu: Duration,
}

/// Keeps the seconds of a run.
#[derive(Debug)]
pub(super) struct Recorder {
    groups: Vec<Group>,
    samples: Vec<Sample>,
    steady: Vec<Tally>,
    steady_time: Duration,
    joins: JoinCounts,
    events: Vec<Event>,
}

impl Recorder {
    pub(super) fn new(groups: Vec<Group>) -> Self {
        Self {
            samples: Vec::new(),
            steady: vec![Tally::default(); groups.len()],
            steady_time: Duration::ZERO,
            joins: JoinCounts::default(),
            events: Vec::new(),
            groups,
        }
    }

    /// Adds a second.
    pub(super) fn add(&mut self, second: Second) -> &Sample {
        let Second { at, interval, steady, users_wanted, users_joined, joins, collected, nodes, cpu } = second;
        if steady {
            self.steady_time += interval;
        }
        for (&group, tally) in &collected.tallies {
            match self.steady.get_mut(group) {
                Some(total) if steady => total.append(tally),
                // Streams begin in the ramp, mostly.
                Some(total) => total.begin(tally),
                None => {}
            }
        }
        self.joins.merge(&joins);
        let groups = collected.tallies.iter().filter(|(group, _)| **group < self.groups.len());
        self.samples.push(Sample {
            at_s: at.as_secs_f64(),
            users_wanted,
            users_joined,
            joins: durations(&joins.times),
            joins_failed: u32::try_from(joins.failures()).unwrap_or(u32::MAX),
            groups: groups.map(|(&group, tally)| tally.sample(group, interval)).collect(),
            nodes,
            generator: GeneratorSample {
                cpu: cpu.as_secs_f64() / interval.as_secs_f64().max(0.001),
                lag_ms: collected.lag.max().as_secs_f64() * 1000.0,
                receive_drops: collected.receive_drops,
                send_drops: collected.send_drops + collected.path_drops,
            },
        });
        self.samples.last().expect("was just added")
    }

    /// Something happened.
    pub(super) fn note(&mut self, at: Duration, what: String) {
        self.events.push(Event { at_s: at.as_secs_f64(), what });
    }

    /// Packets that the users of each of the target's nodes got in the steady time.
    pub(super) fn received_by_node<'a>(&self, nodes: impl Iterator<Item = &'a str>) -> Vec<u64> {
        let received = |node: &str| {
            let of_node = self.groups.iter().zip(&self.steady).filter(|(group, _)| group.node == node);
            of_node.map(|(_, tally)| tally.audio.sums.packets + tally.video.sums.packets).sum()
        };
        nodes.map(received).collect()
    }

    /// The counts of the steady time, of all groups together.
    pub(super) fn steady_of_all(&self) -> Tally {
        let mut all = Tally::default();
        self.steady.iter().for_each(|tally| all.merge(tally));
        all
    }

    /// The same as results have it.
    pub(super) fn steady_samples(&self) -> Vec<GroupSample> {
        self.steady.iter().enumerate().map(|(group, tally)| tally.sample(group, self.steady_time)).collect()
    }

    /// Joins of the whole run.
    pub(super) fn joins(&self) -> Joins {
        let JoinCounts { attempted, times, failed } = &self.joins;
        Joins { attempted: *attempted, succeeded: times.count(), failed: failed.clone(), time: durations(times) }
    }

    /// The groups, seconds and events, when the run is over.
    pub(super) fn finish(self) -> (Vec<Group>, Vec<Sample>, Vec<Event>) {
        (self.groups, self.samples, self.events)
    }

    /// The seconds so far.
    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }
}
