//! The clock of the cluster, by which joins are numbered: a logical clock that no machine's clock sets.
//!
//! Which of two sessions of a peer is the newer must not depend on machines' clocks. So a node's clock begins at zero,
//! takes over whatever is ahead of it, in others' facts and in the numbers of others' joins, and goes on from there at
//! the pace of its own monotonic clock, also while it hears of nobody. What a node has heard of is before all that it
//! numbers after that. Nodes that ever heard of each other differ by no more than gossip takes, half a second, so that
//! after a split the later join has the greater number; those that never have, by how long they have been up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_placement::Members;
use tokio::sync::watch;
use tokio::time::Instant;

/// A clock that is ahead by more than this is out of order: years in milliseconds.
const MAX_AHEAD_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// See the module. Clones are the same clock.
#[derive(Debug, Clone)]
pub(crate) struct ClusterClock {
    started: Instant,
    /// How far the others are ahead of the time since then.
    ahead_ms: Arc<AtomicU64>,
}

impl Default for ClusterClock {
    fn default() -> Self {
        Self { started: Instant::now(), ahead_ms: Arc::default() }
    }
}

impl ClusterClock {
    /// Milliseconds since the first node of the cluster started, or about that; never goes back.
    pub(crate) fn now_ms(&self) -> u64 {
        self.own_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Another node says that it is this time, or was.
    pub(crate) fn hear(&self, ms: u64) {
        let ahead = ms.saturating_sub(self.own_ms());
        if ahead <= MAX_AHEAD_MS {
            self.ahead_ms.fetch_max(ahead, Ordering::Relaxed);
        }
    }

    /// Listens to the members until membership ends.
    pub(crate) async fn follow(self, mut members: watch::Receiver<Arc<Members>>) {
        loop {
            // What a node said a while ago is behind what it was ahead then.
            members.borrow_and_update().iter().for_each(|member| self.hear(member.facts.clock_ms));
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    fn own_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_is_ahead_counts() {
        let clock = ClusterClock::default();
        let now = clock.now_ms();
        clock.hear(0);
        assert!(clock.now_ms() < now + 5_000);
        clock.hear(now + 3_600_000);
        assert!(clock.now_ms() >= now + 3_600_000);
        clock.hear(now + 5_000);
        assert!(clock.now_ms() >= now + 3_600_000, "it does not go back");
        clock.hear(u64::MAX);
        assert!(clock.now_ms() < now + 7_200_000, "nonsense does not count");
    }
}
