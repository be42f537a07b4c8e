//! From chitchat's view of the cluster to [`Members`].
//!
//! What chitchat leaves to its user:
//! - A node that it has only heard of is "dead" to it until two heartbeats came: here it is no member yet.
//! - A restarted node is another node to it, beside its former self: here the newer incarnation voids the older as soon as
//!   it is heard of.
//! - Its facts may come in pieces: a node is a member when they are complete.
//! - The fewer the nodes, the more often their heartbeats are heard, and the less silence its failure detector takes for
//!   death (0.4 s with three nodes at the default settings): that is suspicion here, and death needs `dead_after`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use chitchat::{Chitchat, ChitchatId, NodeState, Version};
use rustc_hash::FxHashSet;
use sluice_proto::ids::{NodeId, NodeInstance};
use tokio::time::Instant;

use super::facts;
use crate::members::{Member, MemberState, Members, NodeFacts};

/// How long the console shows the dead.
const SHOW_DEAD: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Observer {
    me: NodeInstance,
    began: Instant,
    dead_after: Duration,
    seen: BTreeMap<NodeId, Seen>,
    warned_of_twin: bool,
}

/// A node that was heard of: its newest incarnation.
#[derive(Debug)]
struct Seen {
    incarnation: u64,
    heartbeat: u64,
    heartbeat_at: Instant,
    /// Of the keys that `facts` were made of.
    version: Version,
    facts: Option<NodeFacts>,
    leaving: bool,
    state: Option<(MemberState, Instant)>,
}

impl Observer {
    pub(super) fn new(me: NodeInstance, now: Instant, dead_after: Duration) -> Self {
        Self { me, began: now, dead_after, seen: BTreeMap::new(), warned_of_twin: false }
    }

    /// The present members.
    pub(super) fn observe(&mut self, now: Instant, chitchat: &Chitchat, own_facts: &NodeFacts) -> Members {
        let nodes = chitchat.node_states();
        let known: FxHashSet<(&str, u64)> = nodes.keys().map(name).collect();
        self.seen.retain(|node, seen| known.contains(&(node.as_str(), seen.incarnation)));
        for (id, state) in nodes {
            self.note(now, id, state);
        }
        let live: FxHashSet<(&str, u64)> = chitchat.live_nodes().map(name).collect();
        let me = Member {
            instance: self.me.clone(),
            facts: own_facts.clone(),
            state: MemberState::Live,
            since: self.began.into_std(),
        };
        let dead_after = self.dead_after;
        let others = self.seen.iter_mut().filter_map(|(node, seen)| {
            seen.judge(now, live.contains(&(node.as_str(), seen.incarnation)), dead_after);
            let (state, since) = seen.state?;
            let shown = state != MemberState::Dead || now < since + SHOW_DEAD;
            let instance = NodeInstance { node: node.clone(), incarnation: seen.incarnation };
            shown.then_some(Member { instance, facts: seen.facts.clone()?, state, since: since.into_std() })
        });
        Members::new(self.me.clone(), std::iter::once(me).chain(others))
    }

    fn note(&mut self, now: Instant, id: &ChitchatId, state: &NodeState) {
        let Ok(node) = NodeId::new(&id.node_id) else { return };
        if node == self.me.node {
            self.note_twin(id.generation_id);
            return;
        }
        let fresh = Seen {
            incarnation: id.generation_id,
            heartbeat: state.heartbeat().into(),
            heartbeat_at: now,
            version: 0,
            facts: None,
            leaving: false,
            state: None,
        };
        let seen = match self.seen.entry(node) {
            Entry::Vacant(entry) => entry.insert(fresh),
            Entry::Occupied(entry) if entry.get().incarnation > id.generation_id => return,
            Entry::Occupied(mut entry) => {
                if entry.get().incarnation < id.generation_id {
                    entry.insert(fresh);
                }
                entry.into_mut()
            }
        };
        seen.update(now, state);
    }

    fn note_twin(&mut self, incarnation: u64) {
        if incarnation > self.me.incarnation && !self.warned_of_twin {
            self.warned_of_twin = true;
            tracing::error!(node = %self.me.node, incarnation, "another process runs under this node's id: give it its own");
        }
    }
}

fn name(id: &ChitchatId) -> (&str, u64) {
    (&id.node_id, id.generation_id)
}

impl Seen {
    fn update(&mut self, now: Instant, state: &NodeState) {
        let heartbeat = state.heartbeat().into();
        if heartbeat != self.heartbeat {
            (self.heartbeat, self.heartbeat_at) = (heartbeat, now);
        }
        if state.max_version() != self.version {
            self.version = state.max_version();
            self.leaving = state.get(facts::LEAVING).is_some_and(|value| value == "true");
            if let Some(facts) = facts::from_keys(state) {
                self.facts = Some(facts);
            }
        }
    }

    fn judge(&mut self, now: Instant, is_live: bool, dead_after: Duration) {
        let silent = now.duration_since(self.heartbeat_at);
        let state = match self.state {
            None if is_live && self.facts.is_some() && !self.leaving => MemberState::Live,
            None => return,
            Some(_) if self.leaving => MemberState::Dead,
            Some(_) if is_live => MemberState::Live,
            Some((MemberState::Dead, _)) => MemberState::Dead,
            Some(_) if silent >= dead_after => MemberState::Dead,
            Some(_) => MemberState::Suspect,
        };
        if self.state.is_none_or(|(was, _)| was != state) {
            self.state = Some((state, now));
        }
    }
}
