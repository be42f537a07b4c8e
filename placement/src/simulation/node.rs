//! One simulated node: a core, its streams, and a reader per room that believes what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};

use crate::core::Core;
use crate::rosters::{Entries, RosterEvent};

/// A stream as its client knows it.
#[derive(Debug)]
pub(super) struct SimLink {
    pub(super) peer: NodeInstance,
    /// The connection in use.
    pub(super) connection: Option<u64>,
    /// A next attempt is on its way.
    pub(super) opening: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SimNode {
    pub(super) instance: NodeInstance,
    pub(super) core: Core,
    pub(super) links: BTreeMap<NodeId, SimLink>,
    /// When each other incarnation was heard of last.
    pub(super) heard: BTreeMap<NodeInstance, Instant>,
    /// What this node published.
    pub(super) truth: BTreeMap<RoomKey, Entries>,
    /// What the readers of its rooms were told.
    pub(super) seen: BTreeMap<RoomKey, BTreeMap<NodeInstance, Entries>>,
    /// Newest incarnation of each node that a reader was told of.
    newest: BTreeMap<NodeId, u64>,
    pub(super) events: u64,
    pub(super) timer: Option<Instant>,
}

impl SimNode {
    pub(super) fn new(instance: NodeInstance) -> Self {
        let core = Core::new(instance.clone(), Duration::from_secs(6), Duration::from_secs(2));
        Self {
            instance,
            core,
            links: BTreeMap::new(),
            heard: BTreeMap::new(),
            truth: BTreeMap::new(),
            seen: BTreeMap::new(),
            newest: BTreeMap::new(),
            events: 0,
            timer: None,
        }
    }

    /// A reader is told something.
    pub(super) fn read(&mut self, room: &RoomKey, event: RosterEvent) {
        self.events += 1;
        let seen = self.seen.entry(room.clone()).or_default();
        match event {
            RosterEvent::PartChanged { instance, delta, unlisted } => {
                assert_ne!(instance.node, self.instance.node, "nobody is told of its own part");
                let newest = self.newest.entry(instance.node.clone()).or_insert(instance.incarnation);
                assert!(*newest <= instance.incarnation, "{instance} speaks after {newest} did");
                *newest = instance.incarnation;
                let twins = seen.keys().filter(|other| other.node == instance.node && **other != instance);
                assert_eq!(twins.count(), 0, "an incarnation goes before the next one comes");
                let is_new = !seen.contains_key(&instance);
                let part = seen.entry(instance).or_default();
                assert!(is_new || !delta.is_empty(), "an unchanged part is not announced again");
                assert_eq!(unlisted, 0);
                for id in &delta.removed {
                    assert!(part.remove(id).is_some(), "{id} goes without having come");
                }
                for peer in delta.upserted {
                    let before = part.insert(peer.id.clone(), std::sync::Arc::clone(&peer));
                    assert_ne!(before, Some(peer), "an unchanged peer is not announced again");
                }
            }
            RosterEvent::PartGone { instance } => {
                assert!(seen.remove(&instance).is_some(), "{instance} goes without having come");
            }
            RosterEvent::Complete => {}
        }
    }

    pub(super) fn seen_in(&self, room: &RoomKey) -> BTreeSet<NodeInstance> {
        self.seen.get(room).into_iter().flat_map(|seen| seen.keys().cloned()).collect()
    }
}
