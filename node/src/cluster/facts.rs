//! What the node tells the others of itself, renewed each second: how busy its machine and its workers are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_media::messages::{WorkerIndex, WorkerSnapshot};
use sluice_placement::{Membership, NodeFacts, NodeLoad};
use sysinfo::{Disks, Networks, System};

use crate::cluster::clock::ClusterClock;
use crate::metrics::Sources;
use crate::vitals::Vitals;

/// Between two publications. Gossip spreads a change within half a second, so that the others' view is about this old.
const INTERVAL: Duration = Duration::from_secs(1);

/// Disks fill slowly, and asking for them means a system call for each mount.
const DISK_INTERVAL: u32 = 30;

/// Looks in a row that a media worker may let pass without an answer: some 30 s, after which every client of it has
/// seen its media end. Counted in looks and not in time, so that a machine that was stopped for long has not lost its
/// workers by that.
const STUCK_LOOKS: u32 = 20;

/// Publishes the node's facts each second, for ever, and notes which media workers are stuck. One that stays so is told
/// to `vitals`: its clients have no media any more, and what is asked of it is never answered.
pub(crate) async fn publish_facts(
    membership: Arc<Membership>,
    mut facts: NodeFacts,
    sources: Arc<Sources>,
    data_dir: Option<PathBuf>,
    clock: ClusterClock,
    vitals: Vitals,
) {
    let mut silence = Silence::new(sources.workers.len());
    let mut machine = Machine::new(data_dir.unwrap_or_else(|| "/".into()));
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Reading /proc may wait for the kernel, which an async thread must not.
        let sampled = tokio::task::spawn_blocking(move || {
            let load = machine.as_mut().map(Machine::sample).unwrap_or_default();
            (machine, load)
        });
        let Ok((back, load)) = sampled.await else { return };
        machine = back;
        let workers = sources.worker_snapshots().await;
        let looks = silence.look(|index| workers.iter().any(|(answering, _)| *answering == index));
        for (index, missed) in looks {
            sources.rooms.set_stuck(WorkerIndex(index), missed > 0);
            if missed >= STUCK_LOOKS {
                vitals.lose("a media worker");
            }
        }
        facts.clock_ms = clock.now_ms();
        facts.tenants = sources.namespaces.digest();
        facts.load = with_media(load, &sources, &workers);
        membership.publish(facts.clone());
    }
}

/// How many looks in a row each media worker has let pass without an answer.
struct Silence(Vec<u32>);

impl Silence {
    fn new(workers: usize) -> Self {
        Self(vec![0; workers])
    }

    /// Counts one more look, of which `answered` tells who answered. Gives each worker's count.
    fn look(&mut self, answered: impl Fn(u16) -> bool) -> Vec<(u16, u32)> {
        let counts = (0..).zip(&mut self.0).map(|(index, missed)| {
            *missed = if answered(index) { 0 } else { missed.saturating_add(1) };
            (index, *missed)
        });
        counts.collect()
    }
}

fn with_media(machine: NodeLoad, sources: &Sources, workers: &[(u16, WorkerSnapshot)]) -> NodeLoad {
    let rooms = sources.rooms.snapshot();
    let streams: u64 = workers.iter().map(|(_, worker)| worker.producers + worker.consumers).sum();
    NodeLoad {
        workers: count(sources.workers.len() as u64),
        rooms: count(rooms.rooms),
        users: count(rooms.sessions),
        streams: count(streams),
        overloaded_workers: count(workers.iter().filter(|(_, worker)| worker.shedding).count() as u64),
        ..machine
    }
}

fn count(number: u64) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// The machine's load since the last sample.
struct Machine {
    system: System,
    networks: Networks,
    disks: Disks,
    disk_of: PathBuf,
    samples: u32,
    last: Option<Instant>,
}

impl Machine {
    /// `None` where the system tells nothing of itself.
    fn new(disk_of: PathBuf) -> Option<Self> {
        let (system, networks, disks) = (System::new().ok()?, Networks::new().ok()?, Disks::new().ok()?);
        Some(Self { system, networks, disks, disk_of, samples: 0, last: None })
    }

    fn sample(&mut self) -> NodeLoad {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        if self.samples.is_multiple_of(DISK_INTERVAL) {
            self.disks.refresh(true);
        }
        self.samples = self.samples.wrapping_add(1);
        NodeLoad {
            cpu: self.system.global_cpu_usage() / 100.0,
            memory: share(self.system.used_memory(), self.system.total_memory()),
            network_bps: self.network_bps(),
            disk: self.disk(),
            ..NodeLoad::default()
        }
    }

    #[allow(clippy::disallowed_methods, reason = "a rate of the machine is per second of its clock")]
    fn network_bps(&mut self) -> u64 {
        let now = Instant::now();
        let elapsed = self.last.replace(now).map(|last| now - last);
        let beyond = self.networks.iter().filter(|(name, _)| *name != "lo");
        let bytes: u64 = beyond.map(|(_, network)| network.received() + network.transmitted()).sum();
        elapsed.map_or(0, |elapsed| (bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64)
    }

    fn disk(&self) -> f32 {
        let holding = self.disks.iter().filter(|disk| self.disk_of.starts_with(disk.mount_point()));
        let disk = holding.max_by_key(|disk| disk.mount_point().as_os_str().len());
        disk.map_or(0.0, |disk| share(disk.total_space().saturating_sub(disk.available_space()), disk.total_space()))
    }
}

fn share(part: u64, whole: u64) -> f32 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_from_its_first_missed_answer_to_its_next() {
        let mut silence = Silence::new(2);
        assert_eq!(silence.look(|_| true), [(0, 0), (1, 0)]);
        assert_eq!(silence.look(|index| index == 0), [(0, 0), (1, 1)]);
        assert_eq!(silence.look(|_| false), [(0, 1), (1, 2)]);
        assert_eq!(silence.look(|_| true), [(0, 0), (1, 0)]);
    }

    #[test]
    fn the_machine_has_memory_and_a_disk() {
        let mut machine = Machine::new("/".into()).expect("a supported system");
        machine.sample();
        let load = machine.sample();
        assert!((0.0..=1.0).contains(&load.cpu), "{load:?}");
        assert!(load.memory > 0.0 && load.memory <= 1.0, "{load:?}");
        assert!((0.0..=1.0).contains(&load.disk), "{load:?}");
    }
}
