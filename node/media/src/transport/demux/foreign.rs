//! Addresses of other workers' clients, whose datagrams come to this worker's socket.
//!
//! Each is one entry, in the younger of two tables if it was spoken of since that one was begun. When the younger is
//! full it becomes the older, and what the older had is forgotten: addresses in use are spoken of every few seconds and
//! stay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::WorkerIndex;

/// Addresses in each table: ten thousand users with a few candidates each, in under 2 MiB.
const MAX_ADDRESSES: usize = 32_768;

/// How long an address is its owner's after that worker has spoken of it: the time that a client's consent lasts, and
/// the 5 s that may pass until it is spoken of again.
const LEASE: Duration = Duration::from_secs(25);

#[derive(Debug, Clone, Copy)]
struct Foreign {
    worker: WorkerIndex,
    told_at: Instant,
}

/// Which addresses are other workers'. Clients choose their addresses, so the hash has a key.
#[derive(Debug, Default)]
pub(super) struct ForeignAddresses {
    younger: HashMap<SocketAddr, Foreign>,
    older: HashMap<SocketAddr, Foreign>,
}

impl ForeignAddresses {
    fn find(&self, address: SocketAddr) -> Option<Foreign> {
        self.younger.get(&address).or_else(|| self.older.get(&address)).copied()
    }

    /// Whose datagrams from there are.
    pub(super) fn get(&self, address: SocketAddr) -> Option<WorkerIndex> {
        self.find(address).map(|foreign| foreign.worker)
    }

    /// Who may not lose the address to another.
    pub(super) fn owner(&self, now: Instant, address: SocketAddr) -> Option<WorkerIndex> {
        let foreign = self.find(address)?;
        (now.saturating_duration_since(foreign.told_at) < LEASE).then_some(foreign.worker)
    }

    /// A worker says that the address is its own.
    pub(super) fn insert(&mut self, now: Instant, address: SocketAddr, worker: WorkerIndex) {
        if self.owner(now, address).is_some_and(|owner| owner != worker) {
            return;
        }
        self.remove(address);
        if self.younger.len() >= MAX_ADDRESSES {
            std::mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
        }
        self.younger.insert(address, Foreign { worker, told_at: now });
    }

    pub(super) fn remove(&mut self, address: SocketAddr) {
        self.younger.remove(&address);
        self.older.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    const FIRST: WorkerIndex = WorkerIndex(1);
    const SECOND: WorkerIndex = WorkerIndex(2);

    fn address(number: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from(number), 1).into()
    }

    #[test]
    fn an_address_in_use_outlives_any_number_of_others() {
        let now = Instant::now();
        let mut foreign = ForeignAddresses::default();
        for number in 1..300_000 {
            if number % 10_000 == 1 {
                foreign.insert(now, address(0), FIRST);
            }
            foreign.insert(now, address(number), SECOND);
            // The same one again and again is one entry.
            foreign.insert(now, address(number), SECOND);
            assert_eq!(foreign.get(address(0)), Some(FIRST));
        }
        assert!(foreign.younger.len() + foreign.older.len() <= 2 * MAX_ADDRESSES);
        assert_eq!(foreign.get(address(1)), None, "it was not spoken of any more");
    }

    #[test]
    fn an_address_changes_hands_when_its_owner_has_fallen_silent() {
        let now = Instant::now();
        let mut foreign = ForeignAddresses::default();
        foreign.insert(now, address(1), FIRST);
        let soon = now + LEASE / 2;
        foreign.insert(soon, address(1), SECOND);
        assert_eq!(foreign.owner(soon, address(1)), Some(FIRST));
        foreign.insert(soon, address(1), FIRST);
        let later = soon + LEASE;
        foreign.insert(later - Duration::from_millis(1), address(1), SECOND);
        assert_eq!((foreign.get(address(1)), foreign.owner(later, address(1))), (Some(FIRST), None));
        foreign.insert(later, address(1), SECOND);
        assert_eq!(foreign.owner(later, address(1)), Some(SECOND));
    }
}
