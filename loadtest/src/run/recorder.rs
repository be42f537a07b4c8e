//! From what was counted each second to the results of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::driver::Collected;
use crate::media::Histogram;
use crate::results::{Event, GeneratorSample, Group, GroupSample, Joins, NodeSample, Sample};
use crate::tally::{Tally, durations};

/// Joins that ended, one way or the other.
#[derive(Debug, Clone, Default)]
pub struct JoinCounts {
    /// Tried.
    pub attempted: u64,
    /// How long those took that succeeded.
    pub times: Histogram,
    /// Those that did not, by what failed.
    pub failed: BTreeMap<String, u64>,
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
#[derive(Debug)]
pub struct Second {
    /// Since the first user set out to join.
    pub at: Duration,
    /// Since the second before.
    pub interval: Duration,
    /// The ramp was over when it began.
    pub steady: bool,
    /// Users that should be in their rooms.
    pub users_wanted: u32,
    /// Users that are.
    pub users_joined: u32,
    /// Joins that began or ended.
    pub joins: JoinCounts,
    /// What the users saw, and their driver.
    pub collected: Collected,
    /// What the nodes under test say of themselves.
    pub nodes: Vec<Option<NodeSample>>,
    /// Processor time of this process in the interval.
    pub cpu: Duration,
}

/// Keeps the seconds of a run.
#[derive(Debug)]
pub struct Recorder {
    groups: Vec<Group>,
    samples: Vec<Sample>,
    steady: Vec<Tally>,
    steady_time: Duration,
    joins: JoinCounts,
    events: Vec<Event>,
}

impl Recorder {
    /// Of a run that has not begun.
    pub fn new(groups: Vec<Group>) -> Self {
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
    pub fn add(&mut self, second: Second) -> &Sample {
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
    pub fn note(&mut self, at: Duration, what: String) {
        self.events.push(Event { at_s: at.as_secs_f64(), what });
    }

    /// Packets that the users of each of the target's nodes got in the steady time.
    pub fn received_by_node<'a>(&self, nodes: impl Iterator<Item = &'a str>) -> Vec<u64> {
        let received = |node: &str| {
            let of_node = self.groups.iter().zip(&self.steady).filter(|(group, _)| group.node == node);
            of_node.map(|(_, tally)| tally.audio.sums.packets + tally.video.sums.packets).sum()
        };
        nodes.map(received).collect()
    }

    /// The counts of the steady time, of all groups together.
    pub fn steady_of_all(&self) -> Tally {
        let mut all = Tally::default();
        self.steady.iter().for_each(|tally| all.merge(tally));
        all
    }

    /// The same as results have it.
    pub fn steady_samples(&self) -> Vec<GroupSample> {
        self.steady.iter().enumerate().map(|(group, tally)| tally.sample(group, self.steady_time)).collect()
    }

    /// Joins of the whole run.
    pub fn joins(&self) -> Joins {
        let JoinCounts { attempted, times, failed } = &self.joins;
        Joins { attempted: *attempted, succeeded: times.count(), failed: failed.clone(), time: durations(times) }
    }

    /// The groups, seconds and events, when the run is over.
    pub fn finish(self) -> (Vec<Group>, Vec<Sample>, Vec<Event>) {
        (self.groups, self.samples, self.events)
    }

    /// The seconds so far.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}
