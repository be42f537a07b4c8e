//! From chitchat's view of the cluster to [`Members`].
//!
//! What chitchat leaves to its user:
//! - A node that it has only heard of is "dead" to it until two heartbeats came: here it is no member yet.
//! - A restarted node is another node to it, beside its former self: here the newer incarnation voids the older as soon
//!   as it is heard of.
//! - Its facts may come in pieces: a node is a member when they are complete.
//! - It forgets the dead within half a minute, so that its digests stay small: here they are remembered.
//! - It takes 0.4 s of silence for death in a mesh of three, and the silence that this node did not listen to as well:
//!   what life and death are is for [`Pulse`] to say.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::{Chitchat, ChitchatId, NodeState, Version};
use rustc_hash::FxHashSet;
use sluice_proto::ids::{NodeId, NodeInstance};
use tokio::time::Instant;

use super::facts;
use super::pulse::{Hints, Patience, Pulse};
use crate::members::{Member, MemberState, Members, NodeFacts};

/// How long the console shows the dead.
const SHOW_DEAD: Duration = Duration::from_secs(300);

/// How long the dead are knocked at, so that a partition heals without seeds.
const REMEMBER_DEAD: Duration = Duration::from_secs(2 * 3600);

/// Dead nodes that are remembered: with two knocks a second each gets one in eight minutes.
const MAX_DEAD: usize = 1_000;

/// An observation that comes later than this many intervals after the last one came late.
const LATE: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Observer {
    me: NodeInstance,
    began: Instant,
    /// When it looked last, and how long after that it should look again.
    looked: Instant,
    interval: Duration,
    patience: Patience,
    seen: BTreeMap<NodeId, Seen>,
}

/// A node that was heard of: its newest incarnation.
#[derive(Debug)]
struct Seen {
    incarnation: u64,
    addr: SocketAddr,
    pulse: Pulse,
    /// Of the keys that `facts` were made of.
    version: Version,
    facts: Option<NodeFacts>,
    leaving: bool,
}

impl Observer {
    pub(super) fn new(me: NodeInstance, now: Instant, interval: Duration, patience: Patience) -> Self {
        Self { me, began: now, looked: now, interval, patience, seen: BTreeMap::new() }
    }

    /// The members. `arrived` says how much arrived from a node on the connection that this node has with it.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        chitchat: &Chitchat,
        own_facts: &NodeFacts,
        arrived: impl Fn(&NodeInstance) -> Option<u64>,
    ) -> Members {
        self.forgive(now);
        let nodes = chitchat.node_states();
        for (id, state) in nodes {
            self.note(now, id, state);
        }
        let known: FxHashSet<(&str, u64)> = nodes.keys().map(name).collect();
        self.forget(now, &known);
        let live: FxHashSet<(&str, u64)> = chitchat.live_nodes().map(name).collect();
        let me = Member {
            instance: self.me.clone(),
            facts: own_facts.clone(),
            state: MemberState::Live,
            since: self.began.into_std(),
        };
        let patience = self.patience;
        let others = self.seen.iter_mut().filter_map(|(node, seen)| {
            let instance = NodeInstance { node: node.clone(), incarnation: seen.incarnation };
            seen.pulse.note_arrived(now, arrived(&instance));
            let is_live = live.contains(&(node.as_str(), seen.incarnation));
            let hints = Hints { is_live, is_complete: seen.facts.is_some(), is_leaving: seen.leaving };
            seen.pulse.judge(now, hints, patience);
            let (state, since) = seen.pulse.state()?;
            let shown = state != MemberState::Dead || now < since + SHOW_DEAD;
            shown.then_some(Member { instance, facts: seen.facts.clone()?, state, since: since.into_std() })
        });
        Members::new(self.me.clone(), std::iter::once(me).chain(others))
    }

    /// A node's machine said that nobody is there, to a question of the given time.
    pub(super) fn refused(&mut self, instance: &NodeInstance, asked: Instant) {
        if let Some(seen) = self.seen.get_mut(&instance.node).filter(|seen| seen.incarnation == instance.incarnation) {
            seen.pulse.note_refused(asked);
        }
    }

    /// Where the dead were who might come back without saying so.
    pub(super) fn dead(&self) -> impl Iterator<Item = SocketAddr> {
        self.seen.values().filter(|seen| seen.dead_since().is_some() && !seen.leaving).map(|seen| seen.addr)
    }

    /// What was not listened to is not held against anybody.
    fn forgive(&mut self, now: Instant) {
        let gap = now.duration_since(self.looked);
        self.looked = now;
        if gap > self.interval * LATE {
            let missed = gap - self.interval;
            tracing::warn!(
                missed_ms = missed.as_millis() as u64,
                "this node was away: the others are given that much more time"
            );
            self.seen.values_mut().for_each(|seen| seen.pulse.forgive(now, missed));
        }
    }

    fn note(&mut self, now: Instant, id: &ChitchatId, state: &NodeState) {
        let Ok(node) = NodeId::new(&id.node_id) else { return };
        if node == self.me.node {
            return;
        }
        let fresh = || Seen {
            incarnation: id.generation_id,
            addr: id.gossip_advertise_addr,
            pulse: Pulse::new(now, state.heartbeat().into()),
            version: 0,
            facts: None,
            leaving: false,
        };
        let seen = match self.seen.entry(node) {
            Entry::Vacant(entry) => entry.insert(fresh()),
            Entry::Occupied(entry) if entry.get().incarnation > id.generation_id => return,
            Entry::Occupied(mut entry) => {
                if entry.get().incarnation < id.generation_id {
                    entry.insert(fresh());
                }
                entry.into_mut()
            }
        };
        seen.update(now, state);
    }

    /// Drops who has been dead for long, and who was only heard of and then never again.
    fn forget(&mut self, now: Instant, known: &FxHashSet<(&str, u64)>) {
        self.seen.retain(|node, seen| match seen.pulse.state() {
            None => known.contains(&(node.as_str(), seen.incarnation)),
            Some((MemberState::Dead, since)) => now < since + REMEMBER_DEAD,
            Some(_) => true,
        });
        let mut dead: Vec<Instant> = self.seen.values().filter_map(Seen::dead_since).collect();
        if let Some(beyond) = dead.len().checked_sub(MAX_DEAD).filter(|beyond| *beyond > 0) {
            let (_, &mut last, _) = dead.select_nth_unstable(beyond - 1);
            self.seen.retain(|_, seen| seen.dead_since().is_none_or(|since| since > last));
        }
    }
}

fn name(id: &ChitchatId) -> (&str, u64) {
    (&id.node_id, id.generation_id)
}

impl Seen {
    fn update(&mut self, now: Instant, state: &NodeState) {
        self.pulse.note_heartbeat(now, state.heartbeat().into());
        if state.max_version() != self.version {
            self.version = state.max_version();
            self.leaving = state.get(facts::LEAVING).is_some_and(|value| value == "true");
            if let Some(facts) = facts::from_keys(state) {
                self.facts = Some(facts);
            }
        }
    }

    fn dead_since(&self) -> Option<Instant> {
        self.pulse.state().and_then(|(state, since)| (state == MemberState::Dead).then_some(since))
    }
}
