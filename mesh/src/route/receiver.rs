//! The receiving end of a route.

use std::time::{Duration, Instant};

use sluice_proto::pipe::RouteStats;

/// What became of an arriving packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// First arrival, use it.
    New,
    /// First arrival of one that had to be asked for, use it.
    Repaired,
    /// Arrived before, drop it.
    Duplicate,
    /// Older than anything that is still waited for, drop it.
    TooOld,
}

/// Accounts for the packets of a route and asks for the missing ones.
#[derive(Debug)]
pub struct RouteReceiver {
    stats: RouteStats,
}

impl RouteReceiver {
    /// A route on which nothing has arrived yet.
    pub fn new(_now: Instant) -> Self {
        Self { stats: RouteStats::default() }
    }

    /// A packet arrived. Says whether to use it.
    pub fn receive(&mut self, _now: Instant, _seq: u16, _retransmission: bool) -> Accept {
        todo!()
    }

    /// The sequence numbers to ask for now, if any. `rtt` is the round-trip time to assume until a repair was seen.
    pub fn poll_nack(&mut self, _now: Instant, _rtt: Duration) -> Option<Vec<u16>> {
        todo!()
    }

    /// When [`poll_nack`](Self::poll_nack) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// How many packets were given up since the last call. Video then needs a key frame.
    pub fn take_lost(&mut self) -> u64 {
        todo!()
    }

    /// The account since the route began.
    pub fn stats(&self) -> RouteStats {
        self.stats
    }
}
