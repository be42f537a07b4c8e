//! Rosters: who is in a room, told by each node about its own part to the nodes that share the room.
//!
//! Sans-IO and level-triggered: nothing is queued. What has to be said next to a follower, to a followed node or to the
//! room's reader is found by comparing what is with what was said ([`Rosters::poll_update`], [`Rosters::poll_request`],
//! [`Rosters::poll_event`]), so that whoever is slow costs no memory and misses only what no longer matters.
//! [`Rosters::poll_wake`] says whom there is something for.

mod chunks;
mod followed;
mod follower;
mod own;
mod part;
mod room;
mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};
use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{FollowRequest, PeerEntry, RosterUpdate};

use chunks::Joined;
use followed::Followed;
use follower::Follower;
use own::OwnPart;
use room::Room;

use crate::wire;

pub(crate) use chunks::MAX_MESSAGE_LEN;
#[cfg(test)]
pub(crate) use part::Entries;
pub use part::PartDelta;

/// What a node learns about the other nodes of a room.
#[derive(Debug, Clone, PartialEq)]
pub enum RosterEvent {
    /// A node's part is new or changed. Of a new one, all of it.
    PartChanged {
        /// The node that owns the part.
        instance: NodeInstance,
        /// What became different in it.
        delta: PartDelta,
        /// How many more peers it has than it has named, because it would be too large.
        unlisted: u32,
    },
    /// A node left the room, died, or came back as a newer incarnation: nothing of its part is left.
    PartGone {
        /// The node that owned the part.
        instance: NodeInstance,
    },
    /// Every node of which the directory said that it is in the room has told its part, or is gone. Once, after those
    /// parts.
    Complete,
}

/// Names the stream of a follower within this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// For whom there may be something to poll.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    /// The room's reader: [`Rosters::poll_event`].
    Events(RoomKey),
    /// The stream to a followed node: [`Rosters::poll_request`].
    Requests(NodeId),
    /// A follower's stream: [`Rosters::poll_update`]; or the stream has ended.
    Updates(StreamId),
}

/// A newer incarnation of the node is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a newer incarnation, {0}, is known")]
pub(crate) struct Void(pub(crate) u64);

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RosterCounters {
    pub(crate) snapshots_sent: u64,
    pub(crate) deltas_sent: u64,
    pub(crate) gone_sent: u64,
    pub(crate) updates_taken: u64,
    /// Updates about rooms or of incarnations that do not matter any more.
    pub(crate) updates_ignored: u64,
    pub(crate) gaps: u64,
    /// Rooms that a follower may not follow any more.
    pub(crate) follows_refused: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rosters {
    me: NodeInstance,
    rooms: FxHashMap<RoomKey, Room>,
    /// Greater than or equal to any version that this node ever used, in any room: a room that is entered again goes on
    /// from here, and nothing need be remembered of rooms that were left.
    high_version: u64,
    /// Nodes that can be reached.
    present: BTreeSet<NodeInstance>,
    /// Newest incarnation known of a node, from membership or from its own mouth.
    newest: FxHashMap<NodeId, u64>,
    followed: FxHashMap<NodeId, Followed>,
    followers: FxHashMap<StreamId, Follower>,
    wakes: BTreeSet<Wake>,
    counters: RosterCounters,
}

impl Rosters {
    pub(crate) fn new(me: NodeInstance) -> Self {
        let newest = FxHashMap::from_iter([(me.node.clone(), me.incarnation)]);
        Self {
            me,
            rooms: FxHashMap::default(),
            high_version: 0,
            present: BTreeSet::new(),
            newest,
            followed: FxHashMap::default(),
            followers: FxHashMap::default(),
            wakes: BTreeSet::new(),
            counters: RosterCounters::default(),
        }
    }

    /// Begins this node's part of a room, empty. Returns whether it was not in the room before.
    pub(crate) fn enter(&mut self, key: &RoomKey, trace: Option<String>) -> bool {
        if self.rooms.contains_key(key) {
            return false;
        }
        self.high_version += 1;
        self.rooms.insert(key.clone(), Room::new(OwnPart::new(self.high_version), trace.clone()));
        self.mark_followers(key);
        let waiting: Vec<NodeInstance> = self.followers_of(key).cloned().collect();
        for follower in waiting {
            self.follow_back(key, &follower, trace.as_deref());
        }
        true
    }

    /// Changes this node's part. Returns how many peers of it cannot be told of whole.
    pub(crate) fn publish(&mut self, key: &RoomKey, delta: PartDelta) -> usize {
        let Some(room) = self.rooms.get_mut(key) else { return 0 };
        let before = room.own.version();
        let cut = room.own.publish(delta);
        if room.own.version() != before {
            self.high_version = self.high_version.max(room.own.version());
            self.mark_followers(key);
        }
        cut
    }

    /// Ends this node's part, and what it knows of the others'.
    pub(crate) fn leave(&mut self, key: &RoomKey) {
        let Some(room) = self.rooms.remove(key) else { return };
        self.high_version += 1;
        for (node, _) in room.remotes.iter().filter(|(_, remote)| remote.following) {
            if let Some(followed) = self.followed.get_mut(node) {
                followed.unwant(key);
                self.wakes.insert(Wake::Requests(node.clone()));
            }
        }
        self.wakes.insert(Wake::Events(key.clone()));
        self.mark_followers(key);
    }

    /// The directory's word on who is in a room.
    pub(crate) fn set_holders(&mut self, key: &RoomKey, holders: &BTreeSet<NodeInstance>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let trace = room.trace.clone();
        room.heard_holders = true;
        self.wakes.insert(Wake::Events(key.clone()));
        let mut nodes = Vec::new();
        for (node, remote) in &mut room.remotes {
            remote.listed = holders.contains(&remote.instance);
            nodes.push(node.clone());
        }
        for holder in holders {
            if holder.node != self.me.node
                && self.see(holder).is_ok()
                && let Some(remote) = self.rooms.get_mut(key).and_then(|room| room.remote(holder))
            {
                remote.listed = true;
                nodes.push(holder.node.clone());
            }
        }
        for node in nodes {
            self.evaluate(key, &node, trace.as_deref());
        }
    }

    /// Who can be reached now. Parts of everybody else are gone.
    pub(crate) fn set_present(&mut self, present: BTreeSet<NodeInstance>) {
        let came: Vec<_> = present.difference(&self.present).cloned().collect();
        let went: Vec<_> = self.present.difference(&present).cloned().collect();
        self.present = present;
        for instance in went {
            self.instance_gone(&instance);
        }
        for instance in came {
            if self.see(&instance).is_ok() {
                self.evaluate_everywhere(&instance.node);
            }
        }
        let Self { newest, present, followers, me, .. } = self;
        newest.retain(|node, _| {
            *node == me.node
                || present.iter().any(|instance| instance.node == *node)
                || followers.values().any(|follower| follower.instance().node == *node)
        });
    }

    /// Takes note that an incarnation exists; whatever older ones said is void.
    ///
    /// # Errors
    /// [`Void`] when a newer one is known.
    pub(crate) fn see(&mut self, instance: &NodeInstance) -> Result<(), Void> {
        let newest = self.newest.entry(instance.node.clone()).or_insert(instance.incarnation);
        if *newest >= instance.incarnation {
            return if *newest == instance.incarnation { Ok(()) } else { Err(Void(*newest)) };
        }
        *newest = instance.incarnation;
        if let Some(followed) = self.followed.get(&instance.node)
            && followed.instance().incarnation < instance.incarnation
        {
            self.followed.remove(&instance.node);
            self.wakes.insert(Wake::Requests(instance.node.clone()));
        }
        self.close_streams_of(&instance.node, |follower| follower.incarnation < instance.incarnation);
        for (key, room) in &mut self.rooms {
            room.supersede(instance);
            if room.has_changes() {
                self.wakes.insert(Wake::Events(key.clone()));
            }
        }
        Ok(())
    }

    /// An update on the stream of a followed node.
    pub(crate) fn handle_update(&mut self, from: &NodeInstance, update: RosterUpdate) {
        let taken = self.take_update(from, update).is_some();
        let counter = if taken { &mut self.counters.updates_taken } else { &mut self.counters.updates_ignored };
        *counter += 1;
    }

    /// The next event of a room for its reader; `None` for now, or for ever when the room was left.
    pub(crate) fn poll_event(&mut self, key: &RoomKey) -> Option<RosterEvent> {
        self.rooms.get_mut(key)?.next_event()
    }

    /// For whom there may be something.
    pub(crate) fn poll_wake(&mut self) -> Option<Wake> {
        self.wakes.pop_first()
    }

    /// The rooms that this node is in.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &RoomKey> {
        self.rooms.keys()
    }

    /// The peers of every known part of a room, this node's first.
    pub(crate) fn parts(&self, key: &RoomKey) -> Vec<(NodeInstance, Vec<Arc<PeerEntry>>)> {
        let Some(room) = self.rooms.get(key) else { return Vec::new() };
        let own = (self.me.clone(), room.own.peers().cloned().collect());
        let others = room.remotes.values().filter_map(|remote| {
            let part = remote.part()?;
            Some((remote.instance.clone(), part.entries.values().cloned().collect()))
        });
        std::iter::once(own).chain(others).collect()
    }

    pub(crate) fn counters(&self) -> RosterCounters {
        self.counters
    }

    fn take_update(&mut self, from: &NodeInstance, update: RosterUpdate) -> Option<()> {
        let owner = wire::instance(update.owner.as_ref()).ok()?;
        if owner.node == from.node && owner.incarnation > from.incarnation {
            // Restarted under the same address; membership will say so soon.
            self.see(&owner).ok()?;
        }
        let key = wire::room(update.room.as_ref()?).ok()?;
        let room = self.rooms.get_mut(&key)?;
        let remote = room.remotes.get_mut(&from.node)?;
        if owner != *from || remote.instance != owner || !remote.following || update.version < remote.version {
            return None;
        }
        let version = update.version;
        let change = match remote.chunks.join(update) {
            Joined::Whole(change) => change,
            Joined::Partial => return Some(()),
            Joined::Broken => {
                self.counters.gaps += 1;
                remote.awaiting_snapshot = true;
                self.ask(&key, &owner, None);
                return None;
            }
        };
        match change {
            Change::Snapshot(part) => {
                remote.set_part(Some(part.into()));
                remote.awaiting_snapshot = false;
            }
            Change::Gone(_) => {
                remote.set_part(None);
                remote.awaiting_snapshot = false;
            }
            Change::Delta(_) if remote.awaiting_snapshot || version == remote.version => return None,
            Change::Delta(delta) => {
                if delta.since > remote.version {
                    self.counters.gaps += 1;
                    remote.awaiting_snapshot = true;
                    self.ask(&key, &owner, None);
                    return None;
                }
                remote.apply(delta)?;
            }
        }
        remote.version = version;
        room.mark(&owner.node);
        self.wakes.insert(Wake::Events(key.clone()));
        self.evaluate(&key, &owner.node, None);
        Some(())
    }

    /// A node died or was cut off: its parts are gone. What it and the directory said of its rooms is remembered,
    /// should the same incarnation come back.
    fn instance_gone(&mut self, instance: &NodeInstance) {
        if self.followed.get(&instance.node).is_some_and(|followed| followed.instance() == instance) {
            self.followed.remove(&instance.node);
            self.wakes.insert(Wake::Requests(instance.node.clone()));
        }
        for (key, room) in &mut self.rooms {
            if let Some(remote) = room.remotes.get_mut(&instance.node)
                && remote.instance == *instance
            {
                remote.set_part(None);
                (remote.following, remote.awaiting_snapshot) = (false, false);
                room.mark(&instance.node);
                self.wakes.insert(Wake::Events(key.clone()));
            }
        }
    }

    fn evaluate_everywhere(&mut self, node: &NodeId) {
        let keys = self.rooms.iter().filter(|(_, room)| room.remotes.contains_key(node));
        let keys: Vec<RoomKey> = keys.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.evaluate(&key, node, None);
        }
    }

    /// Follows a node's part of a room, or ceases to, as what is known of it demands.
    fn evaluate(&mut self, key: &RoomKey, node: &NodeId, trace: Option<&str>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let Some(remote) = room.remotes.get_mut(node) else { return };
        let wanted = remote.is_in_room() && self.present.contains(&remote.instance);
        let instance = remote.instance.clone();
        match (std::mem::replace(&mut remote.following, wanted), wanted) {
            (false, true) => {
                remote.awaiting_snapshot = true;
                remote.chunks.clear();
                self.ask(key, &instance, trace);
            }
            (true, false) => {
                if let Some(followed) = self.followed.get_mut(node) {
                    followed.unwant(key);
                    self.wakes.insert(Wake::Requests(node.clone()));
                }
                room.forget_if_blank(node);
            }
            (false, false) => room.forget_if_blank(node),
            (true, true) => {}
        }
    }

    fn ask(&mut self, key: &RoomKey, instance: &NodeInstance, trace: Option<&str>) {
        let followed = self.followed.entry(instance.node.clone()).or_insert_with(|| Followed::new(instance.clone()));
        followed.want(key, trace);
        self.wakes.insert(Wake::Requests(instance.node.clone()));
    }

    fn follow_back(&mut self, key: &RoomKey, follower: &NodeInstance, trace: Option<&str>) {
        if follower.node != self.me.node
            && let Some(remote) = self.rooms.get_mut(key).and_then(|room| room.remote(follower))
        {
            remote.follows_us = true;
            self.evaluate(key, &follower.node, trace);
        }
    }

    fn followers_of(&self, key: &RoomKey) -> impl Iterator<Item = &NodeInstance> {
        self.followers.values().filter(|follower| follower.follows(key)).map(Follower::instance)
    }

    fn mark_followers(&mut self, key: &RoomKey) {
        for (stream, follower) in &mut self.followers {
            if follower.mark(key) {
                self.wakes.insert(Wake::Updates(*stream));
            }
        }
    }

    fn request_of(&mut self, node: &NodeInstance) -> Option<FollowRequest> {
        self.followed.get_mut(&node.node).filter(|followed| followed.instance() == node)?.next_request(&self.me)
    }
}
