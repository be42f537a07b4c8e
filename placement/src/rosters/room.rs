//! A room that this node is in: its own part, and what it knows of the others'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_proto::ids::{NodeId, NodeInstance};
use sluice_proto::placement::RosterDelta;

use super::RosterEvent;
use super::chunks::Chunks;
use super::own::OwnPart;
use super::part::{Entries, Part, PartDelta};

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) own: OwnPart,
    /// Trace context of the join that entered it.
    pub(crate) trace: Option<String>,
    pub(crate) remotes: BTreeMap<NodeId, Remote>,
    /// Nodes whose part may differ from what has been announced.
    changed: BTreeSet<NodeId>,
    /// The directory has said who is in it.
    pub(crate) heard_holders: bool,
    /// The reader was told that it knows of everybody.
    announced_complete: bool,
}

/// Another node in the room, as far as is known.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) instance: NodeInstance,
    /// An owner of the room names it as a holder.
    pub(crate) listed: bool,
    /// It follows this node's part, so it is in the room.
    pub(crate) follows_us: bool,
    /// This node follows its part.
    pub(crate) following: bool,
    /// A snapshot is on its way; deltas before it mean nothing.
    pub(crate) awaiting_snapshot: bool,
    /// What came of a long update.
    pub(crate) chunks: Chunks,
    /// Of the newest update that was taken.
    pub(crate) version: u64,
    /// Its part, unless it is gone or has not come yet.
    part: Option<Part>,
    /// What the room's reader was told.
    announced: Option<Announced>,
    /// Peers of whom that may not be true any more.
    changed: BTreeSet<String>,
}

/// What a reader knows of a part.
#[derive(Debug)]
struct Announced {
    instance: NodeInstance,
    part: Part,
}

impl Remote {
    fn new(instance: NodeInstance) -> Self {
        Self {
            instance,
            listed: false,
            follows_us: false,
            following: false,
            awaiting_snapshot: false,
            chunks: Chunks::default(),
            version: 0,
            part: None,
            announced: None,
            changed: BTreeSet::new(),
        }
    }

    /// Its part, if it has one.
    pub(crate) fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// It has this part now.
    pub(crate) fn set_part(&mut self, part: Option<Part>) {
        let former = std::mem::replace(&mut self.part, part);
        let parts = [former.as_ref(), self.part.as_ref()].into_iter().flatten();
        self.changed.extend(parts.flat_map(|part| part.entries.keys().cloned()));
    }

    /// Its part changed. `None` if it has none.
    pub(crate) fn apply(&mut self, delta: RosterDelta) -> Option<()> {
        let part = self.part.as_mut()?;
        part.unlisted = delta.unlisted;
        for id in delta.removed {
            part.entries.remove(&id);
            self.changed.insert(id);
        }
        for peer in delta.upserted {
            self.changed.insert(peer.id.clone());
            part.entries.insert(peer.id.clone(), Arc::new(peer));
        }
        Some(())
    }

    /// Why this node follows it: it is named, or asks, or gave its part and did not take it back. The last one lets a
    /// room outlive its directory owners.
    pub(crate) fn is_in_room(&self) -> bool {
        self.listed || self.follows_us || self.part.is_some()
    }
}

impl Room {
    pub(crate) fn new(own: OwnPart, trace: Option<String>) -> Self {
        Self {
            own,
            trace,
            remotes: BTreeMap::new(),
            changed: BTreeSet::new(),
            heard_holders: false,
            announced_complete: false,
        }
    }

    /// The other node, of exactly this incarnation. One of an older incarnation ends here; `None` if a newer one is
    /// known.
    pub(crate) fn remote(&mut self, instance: &NodeInstance) -> Option<&mut Remote> {
        self.supersede(instance);
        let remote = self.remotes.entry(instance.node.clone()).or_insert_with(|| Remote::new(instance.clone()));
        (remote.instance == *instance).then_some(remote)
    }

    /// Whatever an older incarnation said is void.
    pub(crate) fn supersede(&mut self, newer: &NodeInstance) {
        if let Some(remote) = self.remotes.get_mut(&newer.node)
            && remote.instance.incarnation < newer.incarnation
        {
            let announced = remote.announced.take();
            *remote = Remote { announced, ..Remote::new(newer.clone()) };
            self.changed.insert(newer.node.clone());
        }
    }

    /// The node's part may have changed.
    pub(crate) fn mark(&mut self, node: &NodeId) {
        self.changed.insert(node.clone());
    }

    /// Whether [`Self::next_event`] may have something.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The next difference between what is and what has been announced.
    pub(crate) fn next_event(&mut self) -> Option<RosterEvent> {
        while let Some(node) = self.changed.first().cloned() {
            let event = self.remotes.get_mut(&node).and_then(Remote::announce);
            if event.is_some() {
                return event;
            }
            self.changed.remove(&node);
            self.forget_if_blank(&node);
        }
        let is_awaited = |remote: &Remote| remote.listed && remote.awaiting_snapshot;
        if self.announced_complete || !self.heard_holders || self.remotes.values().any(is_awaited) {
            return None;
        }
        self.announced_complete = true;
        Some(RosterEvent::Complete)
    }

    /// Forgets a node of which nothing is known and nothing has still to be said.
    pub(crate) fn forget_if_blank(&mut self, node: &NodeId) {
        let blank = |remote: &Remote| !remote.is_in_room() && !remote.following && remote.announced.is_none();
        if !self.changed.contains(node) && self.remotes.get(node).is_some_and(blank) {
            self.remotes.remove(node);
        }
    }
}

impl Remote {
    fn announce(&mut self) -> Option<RosterEvent> {
        let is_same = |announced: &mut Announced| self.part.is_some() && announced.instance == self.instance;
        if let Some(Announced { instance, .. }) = self.announced.take_if(|announced| !is_same(announced)) {
            self.changed = self.part.iter().flat_map(|part| part.entries.keys().cloned()).collect();
            return Some(RosterEvent::PartGone { instance });
        }
        let part = self.part.as_ref()?;
        let is_new = self.announced.is_none();
        let announced =
            self.announced.get_or_insert_with(|| Announced { instance: self.instance.clone(), part: Part::default() });
        let delta = catch_up(&mut announced.part.entries, &part.entries, std::mem::take(&mut self.changed));
        let unlisted = part.unlisted;
        let is_unlisted_new = std::mem::replace(&mut announced.part.unlisted, unlisted) != unlisted;
        let is_news = is_new || is_unlisted_new || !delta.is_empty();
        is_news.then(|| RosterEvent::PartChanged { instance: self.instance.clone(), delta, unlisted })
    }
}

/// Makes of what was announced what is, where it may have changed.
fn catch_up(announced: &mut Entries, now: &Entries, changed: BTreeSet<String>) -> PartDelta {
    let mut delta = PartDelta::default();
    for id in changed {
        match now.get(&id) {
            Some(peer) if announced.get(&id) == Some(peer) => {}
            Some(peer) => {
                announced.insert(id, Arc::clone(peer));
                delta.upserted.push(Arc::clone(peer));
            }
            None if announced.remove(&id).is_some() => delta.removed.push(id),
            None => {}
        }
    }
    delta
}
