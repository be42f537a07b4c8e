//! The owner's half of the directory: who holds a lease on which room.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};

/// Bounds of a table, against a node gone mad rather than against strangers, who have no certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableLimits {
    /// Rooms kept at most.
    pub(crate) rooms: usize,
    /// Leases of one node at most.
    pub(crate) leases_per_holder: usize,
}

impl Default for TableLimits {
    /// A room costs about 300 bytes here, so that a full table takes 60 MB; a node serves a few thousand rooms at most.
    fn default() -> Self {
        Self { rooms: 200_000, leases_per_holder: 20_000 }
    }
}

/// Why nothing was renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewError {
    /// A newer incarnation of the holder is known.
    #[error("a newer incarnation, {0}, is known")]
    Void(u64),
}

/// The leases that this node keeps for others. It keeps whatever it is asked to keep, owner or not: nodes whose gossip
/// differs for a moment disagree on owners.
#[derive(Debug)]
pub(crate) struct LeaseTable {
    lease: Duration,
    limits: TableLimits,
    rooms: FxHashMap<RoomKey, Vec<Lease>>,
    holders: FxHashMap<NodeId, Holder>,
    next_sweep: Option<Instant>,
    refused: u64,
}

#[derive(Debug)]
struct Lease {
    holder: NodeInstance,
    until: Instant,
}

/// What is known of a node that holds or held leases.
#[derive(Debug)]
struct Holder {
    incarnation: u64,
    rooms: FxHashSet<RoomKey>,
}

impl LeaseTable {
    pub(crate) fn new(lease: Duration, limits: TableLimits) -> Self {
        Self { lease, limits, rooms: FxHashMap::default(), holders: FxHashMap::default(), next_sweep: None, refused: 0 }
    }

    /// Takes or renews the holder's leases and returns the holders of each room. A room beyond the limits is not taken;
    /// its other holders are told all the same.
    ///
    /// # Errors
    /// [`RenewError::Void`] when a newer incarnation of the holder is known.
    pub(crate) fn renew(
        &mut self,
        now: Instant,
        holder: &NodeInstance,
        rooms: &[RoomKey],
    ) -> Result<Vec<Vec<NodeInstance>>, RenewError> {
        let known = self.see(holder);
        if known > holder.incarnation {
            return Err(RenewError::Void(known));
        }
        self.next_sweep.get_or_insert(now + self.lease);
        Ok(rooms
            .iter()
            .map(|room| {
                self.take(now, holder, room);
                self.lookup(now, room)
            })
            .collect())
    }

    /// Gives leases up. Those of another incarnation stay.
    pub(crate) fn release(&mut self, holder: &NodeInstance, rooms: &[RoomKey]) {
        for room in rooms {
            if let Some(known) = self.holders.get_mut(&holder.node)
                && known.incarnation == holder.incarnation
            {
                known.rooms.remove(room);
                self.drop_lease(room, &holder.node);
            }
        }
    }

    /// The nodes with a lease on a room.
    pub(crate) fn lookup(&self, now: Instant, room: &RoomKey) -> Vec<NodeInstance> {
        let leases = self.rooms.get(room).map(Vec::as_slice).unwrap_or_default();
        leases.iter().filter(|lease| lease.until > now).map(|lease| lease.holder.clone()).collect()
    }

    /// Takes note that an incarnation exists: leases of older ones are void. Returns the newest known one.
    pub(crate) fn see(&mut self, instance: &NodeInstance) -> u64 {
        let known = self
            .holders
            .entry(instance.node.clone())
            .or_insert_with(|| Holder { incarnation: instance.incarnation, rooms: FxHashSet::default() });
        if known.incarnation >= instance.incarnation {
            return known.incarnation;
        }
        known.incarnation = instance.incarnation;
        let void = std::mem::take(&mut known.rooms);
        void.iter().for_each(|room| self.drop_lease(room, &instance.node));
        instance.incarnation
    }

    /// Drops the leases of a dead node.
    pub(crate) fn node_gone(&mut self, instance: &NodeInstance) {
        if let Some(known) = self.holders.get_mut(&instance.node)
            && known.incarnation <= instance.incarnation
        {
            let void = std::mem::take(&mut known.rooms);
            void.iter().for_each(|room| self.drop_lease(room, &instance.node));
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Removes what ran out. Until then it takes memory, but is not told to anybody.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|at| at > now) {
            return;
        }
        let holders = &mut self.holders;
        self.rooms.retain(|room, leases| {
            leases.retain(|lease| {
                let alive = lease.until > now;
                if !alive && let Some(holder) = holders.get_mut(&lease.holder.node) {
                    holder.rooms.remove(room);
                }
                alive
            });
            !leases.is_empty()
        });
        // Whoever holds nothing is forgotten, so that node names do not pile up; should a message of an older
        // incarnation still come, its lease runs out by itself.
        holders.retain(|_, holder| !holder.rooms.is_empty());
        self.next_sweep = (!self.rooms.is_empty()).then_some(now + self.lease);
    }

    /// How many rooms are kept.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// How many leases are kept.
    pub(crate) fn leases(&self) -> usize {
        self.holders.values().map(|holder| holder.rooms.len()).sum()
    }

    /// How many leases were refused because of the limits, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    fn take(&mut self, now: Instant, holder: &NodeInstance, room: &RoomKey) {
        let until = now + self.lease;
        let full = self.rooms.len() >= self.limits.rooms && !self.rooms.contains_key(room);
        let Some(known) = self.holders.get_mut(&holder.node) else { return };
        if full || (known.rooms.len() >= self.limits.leases_per_holder && !known.rooms.contains(room)) {
            self.refused += 1;
            return;
        }
        known.rooms.insert(room.clone());
        let leases = self.rooms.entry(room.clone()).or_default();
        match leases.iter_mut().find(|lease| lease.holder == *holder) {
            Some(lease) => lease.until = until,
            None => leases.push(Lease { holder: holder.clone(), until }),
        }
    }

    fn drop_lease(&mut self, room: &RoomKey, node: &NodeId) {
        if let Some(leases) = self.rooms.get_mut(room) {
            leases.retain(|lease| lease.holder.node != *node);
            if leases.is_empty() {
                self.rooms.remove(room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, now, room};

    const LEASE: Duration = Duration::from_secs(6);

    fn table() -> LeaseTable {
        LeaseTable::new(LEASE, TableLimits { rooms: 3, leases_per_holder: 2 })
    }

    #[test]
    fn a_lease_lasts_as_long_as_it_is_renewed() {
        let (mut table, start) = (table(), now());
        let (a, b) = (instance("a", 1), instance("b", 1));
        assert_eq!(table.renew(start, &a, &[room("r")]), Ok(vec![vec![a.clone()]]));
        let later = start + LEASE - Duration::from_millis(1);
        assert_eq!(table.renew(later, &b, &[room("r")]), Ok(vec![vec![a.clone(), b.clone()]]));
        assert_eq!(table.lookup(start + LEASE, &room("r")), std::slice::from_ref(&b));

        table.handle_timeout(table.poll_timeout().unwrap());
        assert_eq!((table.rooms(), table.leases()), (1, 1));
        table.release(&b, &[room("r")]);
        assert_eq!((table.rooms(), table.leases()), (0, 0));
        table.handle_timeout(start + 3 * LEASE);
        assert_eq!(table.poll_timeout(), None);
        assert!(table.holders.is_empty());
    }

    #[test]
    fn a_newer_incarnation_voids_the_older() {
        let (mut table, start) = (table(), now());
        let (old, new) = (instance("a", 1), instance("a", 2));
        table.renew(start, &old, &[room("r"), room("s")]).unwrap();
        assert_eq!(table.renew(start, &new, &[room("s")]), Ok(vec![vec![new.clone()]]));
        assert_eq!(table.lookup(start, &room("r")), []);
        assert_eq!(table.renew(start, &old, &[room("r")]), Err(RenewError::Void(2)));
        table.release(&old, &[room("s")]);
        table.node_gone(&old);
        assert_eq!(table.lookup(start, &room("s")), std::slice::from_ref(&new), "the dead speak only for themselves");
        table.node_gone(&new);
        assert_eq!(table.leases(), 0);
    }

    #[test]
    fn rooms_and_leases_are_bounded() {
        let (mut table, start) = (table(), now());
        let (a, b) = (instance("a", 1), instance("b", 1));
        let rooms = ["1", "2", "3", "4"].map(room);
        let answer = table.renew(start, &a, &rooms).unwrap();
        assert_eq!(answer, [vec![a.clone()], vec![a.clone()], vec![], vec![]]);
        let answer = table.renew(start, &b, &[rooms[2].clone(), rooms[3].clone()]).unwrap();
        assert_eq!(answer, [vec![b.clone()], vec![]]);
        assert_eq!((table.rooms(), table.leases(), table.refused()), (3, 3, 3));
        let renewed = table.renew(start, &a, &rooms[..2]).unwrap();
        assert_eq!(renewed, [vec![a.clone()], vec![a]], "what is held can be renewed");
    }
}
