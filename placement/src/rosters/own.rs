//! This node's part of a room, and how to bring a follower from any version to the present one.

use std::collections::VecDeque;
use std::sync::Arc;

use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{RosterDelta, RosterPart};

use super::part::difference;

/// Deltas kept per room. Whoever is further behind gets the snapshot, which is hardly larger than that many deltas.
const KEPT_DELTAS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct OwnPart {
    part: Arc<RosterPart>,
    version: u64,
    /// The last one leads to `version`.
    deltas: VecDeque<RosterDelta>,
}

impl OwnPart {
    /// An empty part; `version` must be greater than any that this node ever used for the room.
    pub(crate) fn new(version: u64) -> Self {
        Self { part: Arc::default(), version, deltas: VecDeque::new() }
    }

    pub(crate) fn part(&self) -> &Arc<RosterPart> {
        &self.part
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Takes a new canonical part. Returns whether it differs from the present one.
    pub(crate) fn publish(&mut self, part: RosterPart) -> bool {
        let Some(delta) = difference(&self.part, &part) else { return false };
        self.part = Arc::new(part);
        self.version += 1;
        self.deltas.push_back(delta);
        if self.deltas.len() > KEPT_DELTAS {
            self.deltas.pop_front();
        }
        true
    }

    /// What a follower that was told `told` has to be told next, with its version; `None` when it knows everything.
    pub(crate) fn next_after(&self, told: Option<u64>) -> Option<(u64, Change)> {
        let snapshot = || Some((self.version, Change::Snapshot(self.part.as_ref().clone())));
        let Some(told) = told else { return snapshot() };
        let behind = usize::try_from(self.version.checked_sub(told)?).ok()?;
        if behind == 0 {
            return None;
        }
        match self.deltas.len().checked_sub(behind).and_then(|index| self.deltas.get(index)) {
            Some(delta) => Some((told + 1, Change::Delta(delta.clone()))),
            None => snapshot(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_proto::placement::PeerEntry;

    use super::*;

    fn part(peers: usize) -> RosterPart {
        let peers = (0..peers).map(|i| PeerEntry { id: format!("{i:04}"), ..PeerEntry::default() });
        RosterPart { peers: peers.collect() }
    }

    #[test]
    fn a_follower_gets_the_snapshot_then_deltas_in_order() {
        let mut own = OwnPart::new(7);
        assert_eq!(own.next_after(None), Some((7, Change::Snapshot(part(0)))));
        assert_eq!(own.next_after(Some(7)), None);
        assert!(!own.publish(part(0)), "an unchanged part is not announced");
        assert!(own.publish(part(1)) && own.publish(part(2)));
        assert!(matches!(own.next_after(Some(7)), Some((8, Change::Delta(delta))) if delta.upserted[0].id == "0000"));
        assert!(matches!(own.next_after(Some(8)), Some((9, Change::Delta(delta))) if delta.upserted[0].id == "0001"));
    }

    #[test]
    fn a_follower_far_behind_gets_a_snapshot() {
        let mut own = OwnPart::new(1);
        for peers in 1..=KEPT_DELTAS + 1 {
            own.publish(part(peers));
        }
        assert_eq!(own.deltas.len(), KEPT_DELTAS);
        assert!(matches!(own.next_after(Some(1)), Some((18, Change::Snapshot(_)))));
        assert!(matches!(own.next_after(Some(2)), Some((3, Change::Delta(_)))));
    }
}
