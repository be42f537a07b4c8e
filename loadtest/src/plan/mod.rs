//! What a scenario comes to: every user with their room, node and seed, and all that happens, in order of virtual time.
//! Pure: the same seed makes the same plan, for a run on real sockets and for a simulation alike.

mod paths;
#[cfg(test)]
mod tests;
mod timeline;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::results::Group;
use crate::scenario::{Fault, NodeName, PathStep, Scenario, Target, Users};

pub use self::timeline::{Action, Step, Timeline};

/// Who takes part in a run, and what happens.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target's nodes; [`PlannedUser::node`] is an index into this list.
    pub nodes: Vec<NodeName>,
    /// Kinds of users by node; [`PlannedUser::group`] is an index into this list.
    pub groups: Vec<Group>,
    /// Users, in the order in which they first join.
    pub users: Vec<PlannedUser>,
    /// What each leg is like, and from when on, in order of time; legs of which the scenario says nothing are left out.
    pub paths: BTreeMap<Leg, Vec<PathStep>>,
    /// What happens to nodes and links, in order of time.
    pub faults: Vec<Fault>,
    /// When the run ends.
    pub end: Duration,
}

/// One user.
#[derive(Debug, Clone)]
pub struct PlannedUser {
    /// Name of the room.
    pub room: String,
    /// Peer id, unique in the room.
    pub peer: String,
    /// Whom the user counts to.
    pub group: usize,
    /// The node that the user connects to.
    pub node: usize,
    /// What they send and watch.
    pub kind: Arc<Users>,
    /// Decides everything random about the user.
    pub seed: u64,
    /// When they first join, since the first of all does.
    pub joins_at: Duration,
}

/// One direction of a path, by indices of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// Between two nodes.
    Nodes {
        /// Which sends.
        from: usize,
        /// Which receives.
        to: usize,
    },
    /// From the users of a node to it.
    Up(usize),
    /// From a node to its users.
    Down(usize),
}

impl Plan {
    /// The plan of a scenario.
    ///
    /// Joins are spread evenly over the ramp, in an order in which all rooms fill at the same pace. The users of a room
    /// connect to the regions of their kind in turn, and to the nodes of a region in turn; each room begins one
    /// further.
    pub fn new(scenario: &Scenario) -> Self {
        let nodes = scenario.target.nodes();
        let mut groups = Vec::new();
        let mut users = users(scenario, &nodes, &mut groups);
        users.sort_by(Seat::compare);
        let count = users.len().max(1) as f64;
        let users = users
            .into_iter()
            .enumerate()
            .map(|(index, seat)| PlannedUser { joins_at: scenario.ramp.mul_f64(index as f64 / count), ..seat.user });
        Self {
            users: users.collect(),
            paths: paths::paths(&scenario.wan, &nodes),
            faults: scenario.faults.clone(),
            end: scenario.end(),
            nodes,
            groups,
        }
    }

    /// All that happens, from the beginning.
    pub fn timeline(self: &Arc<Self>) -> Timeline {
        Timeline::new(self.clone())
    }
}

/// A user and their place among those of their room.
struct Seat {
    user: PlannedUser,
    index: u32,
    size: u32,
}

impl Seat {
    /// By how full the room is when they come, so that large and small rooms fill at the same pace.
    fn compare(&self, other: &Self) -> Ordering {
        let share = |mine: &Self, other: &Self| u64::from(mine.index) * u64::from(other.size);
        share(self, other).cmp(&share(other, self))
    }
}

/// All users, room by room.
fn users(scenario: &Scenario, nodes: &[NodeName], groups: &mut Vec<Group>) -> Vec<Seat> {
    let mut seeds = ChaCha8Rng::seed_from_u64(scenario.seed);
    let mut seats = Vec::with_capacity(scenario.users() as usize);
    for rooms in &scenario.rooms {
        let kinds: Vec<_> = rooms
            .users
            .iter()
            .map(|users| (Arc::new(users.clone()), Turns::new(users, &scenario.target, nodes)))
            .collect();
        for room in 0..rooms.count {
            let mut index = 0;
            for (kind, turns) in &kinds {
                for number in 0..kind.count {
                    let node = turns.node(number as usize + room as usize);
                    let user = PlannedUser {
                        room: format!("{}-{}", rooms.name, room + 1),
                        peer: format!("{}-{}", kind.name, number + 1),
                        group: group_of(groups, &kind.name, &nodes[node]),
                        node,
                        kind: kind.clone(),
                        seed: seeds.next_u64(),
                        joins_at: Duration::ZERO,
                    };
                    seats.push(Seat { user, index, size: rooms.size() });
                    index += 1;
                }
            }
        }
    }
    seats
}

/// The nodes that users of one kind connect to, by region.
struct Turns(Vec<Vec<usize>>);

impl Turns {
    fn new(users: &Users, target: &Target, nodes: &[NodeName]) -> Self {
        let regions = if users.regions.is_empty() { target.regions() } else { users.regions.clone() };
        let of = |region: &String| {
            let is_there = |(index, node): (usize, &NodeName)| (node.region == *region).then_some(index);
            nodes.iter().enumerate().filter_map(is_there).collect()
        };
        Self(regions.iter().map(of).collect())
    }

    /// Regions in turn, and within each its nodes in turn. A checked scenario has no region without a node.
    fn node(&self, turn: usize) -> usize {
        let region = &self.0[turn % self.0.len()];
        region[turn / self.0.len() % region.len()]
    }
}

fn group_of(groups: &mut Vec<Group>, users: &str, node: &NodeName) -> usize {
    let group = Group { users: users.to_owned(), node: node.name.clone(), region: node.region.clone() };
    groups.iter().position(|known| *known == group).unwrap_or_else(|| {
        groups.push(group);
        groups.len() - 1
    })
}
