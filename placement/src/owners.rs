//! Which nodes keep a room's directory entry: rendezvous hashing (highest random weight).
//!
//! Every node, of every version, must come to the same answer from the same members, so the hash runs over explicit
//! bytes: `xxh3_64(node id, seed = xxh3_64(namespace, 0, room))`. The zero byte cannot occur in a name. Equal weights
//! go to the smaller node id.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How many nodes keep each room's entry: one may die without the entry being lost.
pub(crate) const OWNERS: usize = 2;

/// How many former member sets are remembered at most. Each costs a ranking per room; more changes than these within
/// one lease are a cluster in turmoil, where the next renewals repair what is missed.
const MAX_FORMER: usize = 8;

/// Who owns a room now, and who did a lease ago: entries stay at the former owners until they run out, and nodes whose
/// gossip is late still ask there.
#[derive(Debug)]
pub(crate) struct Ownership {
    lease: Duration,
    members: Vec<NodeInstance>,
    /// Former members, oldest first, with the time from which nobody needs to ask them any more.
    former: VecDeque<(Instant, Vec<NodeInstance>)>,
}

impl Ownership {
    pub(crate) fn new(lease: Duration, me: NodeInstance) -> Self {
        Self { lease, members: vec![me], former: VecDeque::new() }
    }

    /// Takes note of the present members. Returns whether they changed.
    pub(crate) fn set_members(&mut self, now: Instant, mut members: Vec<NodeInstance>) -> bool {
        members.sort();
        if members == self.members {
            return false;
        }
        let former = std::mem::replace(&mut self.members, members);
        self.former.push_back((now + self.lease, former));
        if self.former.len() > MAX_FORMER {
            self.former.pop_front();
        }
        true
    }

    /// The present members, in order.
    pub(crate) fn members(&self) -> &[NodeInstance] {
        &self.members
    }

    /// Whether this incarnation is among the present members.
    pub(crate) fn is_member(&self, instance: &NodeInstance) -> bool {
        self.members.binary_search(instance).is_ok()
    }

    /// The owners among the present members, best first.
    pub(crate) fn owners(&self, room: &RoomKey) -> Vec<NodeInstance> {
        rank(room, &self.members)
    }

    /// The owners, then those of the last lease that are still there to be asked.
    pub(crate) fn old_and_new_owners(&self, now: Instant, room: &RoomKey) -> Vec<NodeInstance> {
        let mut owners = self.owners(room);
        for (_, members) in self.former.iter().filter(|(until, _)| *until > now) {
            for owner in rank(room, members) {
                if self.is_member(&owner) && !owners.contains(&owner) {
                    owners.push(owner);
                }
            }
        }
        owners
    }
}

/// The best [`OWNERS`] of the nodes for a room, best first.
fn rank(room: &RoomKey, nodes: &[NodeInstance]) -> Vec<NodeInstance> {
    let seed = room_seed(room);
    let mut best: Vec<(Reverse<u64>, &NodeInstance)> = Vec::with_capacity(OWNERS + 1);
    for node in nodes {
        let candidate = (Reverse(weight(seed, &node.node)), node);
        let place = best.partition_point(|other| *other < candidate);
        if place < OWNERS {
            best.insert(place, candidate);
            best.truncate(OWNERS);
        }
    }
    best.into_iter().map(|(_, node)| node.clone()).collect()
}

fn room_seed(room: &RoomKey) -> u64 {
    let (namespace, name) = (room.namespace.as_str().as_bytes(), room.room.as_str().as_bytes());
    let mut bytes = Vec::with_capacity(namespace.len() + 1 + name.len());
    bytes.extend_from_slice(namespace);
    bytes.push(0);
    bytes.extend_from_slice(name);
    xxh3_64(&bytes)
}

fn weight(room_seed: u64, node: &NodeId) -> u64 {
    xxh3_64_with_seed(node.as_str().as_bytes(), room_seed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sluice_proto::ids::{NamespaceId, RoomId};

    use super::*;

    fn room(name: &str) -> RoomKey {
        RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new(name).unwrap() }
    }

    fn nodes(count: usize) -> Vec<NodeInstance> {
        (0..count).map(|i| NodeInstance { node: NodeId::new(format!("node-{i}")).unwrap(), incarnation: 1 }).collect()
    }

    fn names(owners: &[NodeInstance]) -> Vec<&str> {
        owners.iter().map(|owner| owner.node.as_str()).collect()
    }

    #[test]
    fn owners_are_balanced() {
        let nodes = nodes(50);
        let mut owned = BTreeMap::<NodeInstance, u32>::new();
        for i in 0..50_000 {
            let owners = rank(&room(&format!("room {i}")), &nodes);
            assert_eq!(owners.len(), OWNERS);
            assert_ne!(owners[0], owners[1]);
            owners.into_iter().for_each(|owner| *owned.entry(owner).or_default() += 1);
        }
        let mean = 50_000.0 * OWNERS as f64 / 50.0;
        for (node, count) in owned {
            let deviation = f64::from(count) / mean - 1.0;
            // The standard deviation of fair dice is 2.2% here.
            assert!(deviation.abs() < 0.08, "{node} owns {count} of a mean of {mean}");
        }
    }

    #[test]
    fn a_member_more_or_less_moves_only_its_share() {
        let (fifty, mut fewer) = (nodes(50), nodes(50));
        let gone = fewer.remove(17);
        for i in 0..5_000 {
            let room = room(&format!("room {i}"));
            let (before, after) = (rank(&room, &fifty), rank(&room, &fewer));
            let stayed: Vec<_> = before.iter().filter(|&owner| *owner != gone).cloned().collect();
            assert_eq!(after[..stayed.len()], stayed[..], "those that stay keep their rank");
        }
    }

    /// Nodes of different versions must agree: these owners never change.
    #[test]
    fn owners_are_the_same_in_every_version() {
        let three: Vec<_> = ["eu-1", "us-1", "ap-1"]
            .map(|name| NodeInstance { node: NodeId::new(name).unwrap(), incarnation: 7 })
            .to_vec();
        let vectors = [
            ("lobby", ["eu-1", "us-1"], ["node-42", "node-31"]),
            ("küche 1", ["ap-1", "eu-1"], ["node-44", "node-15"]),
            ("a", ["eu-1", "ap-1"], ["node-33", "node-30"]),
            ("9b0c8f04-31c5-4b23-9c5c-6f1f1a0f3a52", ["eu-1", "ap-1"], ["node-32", "node-25"]),
        ];
        for (name, of_three, of_fifty) in vectors {
            assert_eq!(names(&rank(&room(name), &three)), of_three, "{name}");
            assert_eq!(names(&rank(&room(name), &nodes(50))), of_fifty, "{name}");
        }
        assert_eq!(room_seed(&room("lobby")), xxh3_64(b"default\0lobby"));
    }

    #[test]
    fn former_owners_are_asked_for_one_lease() {
        #[allow(clippy::disallowed_methods, reason = "any instant serves")]
        let start = Instant::now();
        let lease = Duration::from_secs(6);
        let all = nodes(10);
        let room = room("lobby");
        let owners = rank(&room, &all);
        let others: Vec<_> = all.iter().filter(|node| !owners.contains(node)).cloned().collect();

        let mut ownership = Ownership::new(lease, all[0].clone());
        assert!(ownership.set_members(start, others.clone()));
        assert!(!ownership.set_members(start, others.clone()));
        let before = ownership.owners(&room);
        assert!(ownership.set_members(start + lease, all.clone()), "the two best come back");
        assert_eq!(ownership.owners(&room), owners);

        let asked = ownership.old_and_new_owners(start + lease, &room);
        assert_eq!(asked, [owners.clone(), before.clone()].concat());
        assert_eq!(ownership.old_and_new_owners(start + 2 * lease, &room), owners);

        let survivors: Vec<_> = all.into_iter().filter(|node| *node != before[0]).collect();
        ownership.set_members(start + lease, survivors);
        assert_eq!(
            ownership.old_and_new_owners(start + lease, &room),
            [owners, vec![before[1].clone()]].concat(),
            "the dead are not asked"
        );
    }
}
