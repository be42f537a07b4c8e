//! What happened in the lanes of a driver, and how well the driver itself kept up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::media::Histogram;
use crate::tally::Tally;

/// What happened since the last [`Driver::collect`](super::Driver::collect), over all threads.
#[derive(Debug, Default)]
pub struct Collected {
    /// What users sent and received, by group, lanes closed meanwhile included.
    pub tallies: BTreeMap<usize, Tally>,
    /// How late timers fired.
    pub lag: Histogram,
    /// Datagrams that the kernel dropped because this process read too slowly. Of those that it merged (GRO) only the
    /// first is counted.
    pub receive_drops: u64,
    /// Datagrams that the kernel did not take.
    pub send_drops: u64,
    /// Datagrams that found the queue of an impaired path full, which is this process's fault and not the path's.
    pub path_drops: u64,
    /// Datagrams received.
    pub received: Traffic,
    /// Datagrams sent.
    pub sent: Traffic,
}

/// Datagrams on sockets, whatever they carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Number.
    pub datagrams: u64,
    /// Their UDP payload.
    pub bytes: u64,
}

impl Collected {
    pub(super) fn add_tally(&mut self, group: usize, tally: &Tally) {
        self.tallies.entry(group).or_default().merge(tally);
    }

    pub(super) fn add_lag(&mut self, lag: Duration) {
        self.lag.record(lag);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (&group, tally) in &other.tallies {
            self.add_tally(group, tally);
        }
        self.lag.merge(&other.lag);
        self.receive_drops += other.receive_drops;
        self.send_drops += other.send_drops;
        self.path_drops += other.path_drops;
        self.received.merge(other.received);
        self.sent.merge(other.sent);
    }
}

impl Traffic {
    pub(super) fn add(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams += datagrams as u64;
        self.bytes += bytes as u64;
    }

    fn merge(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
    }
}
