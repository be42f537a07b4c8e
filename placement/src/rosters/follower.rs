//! A node that follows this one's parts: what it asked for and what it has been told.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};
use sluice_proto::ids::{NodeInstance, RoomKey};
use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{PartGone, RosterUpdate};

use super::chunks;
use super::own::OwnPart;
use crate::wire;

/// Rooms that one node may follow. As many as one may hold leases on, see the directory's table.
const MAX_ROOMS: usize = 20_000;

/// The stream of one follower. What it has still to be told is not queued but found by comparing versions, so that a
/// slow one costs nothing and catches up with one delta.
#[derive(Debug)]
pub(crate) struct Follower {
    instance: NodeInstance,
    rooms: FxHashMap<RoomKey, Told>,
    /// Rooms to look at, in turn.
    queue: VecDeque<RoomKey>,
    /// The same, so that each is in the queue once.
    queued: FxHashSet<RoomKey>,
    /// What is left of a long change.
    chunks: VecDeque<RosterUpdate>,
}

/// What a follower knows of this node's part.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Gone,
    Version(u64),
}

impl Follower {
    pub(crate) fn new(instance: NodeInstance) -> Self {
        Self {
            instance,
            rooms: FxHashMap::default(),
            queue: VecDeque::new(),
            queued: FxHashSet::default(),
            chunks: VecDeque::new(),
        }
    }

    pub(crate) fn instance(&self) -> &NodeInstance {
        &self.instance
    }

    pub(crate) fn follows(&self, room: &RoomKey) -> bool {
        self.rooms.contains_key(room)
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = &RoomKey> {
        self.rooms.keys()
    }

    /// Follows a room from now on, beginning with a snapshot. Returns whether it may.
    pub(crate) fn follow(&mut self, room: &RoomKey) -> bool {
        if self.rooms.len() >= MAX_ROOMS && !self.follows(room) {
            return false;
        }
        self.rooms.insert(room.clone(), Told::Nothing);
        self.mark(room);
        true
    }

    pub(crate) fn unfollow(&mut self, room: &RoomKey) {
        // What is left in the queue finds nothing, or a later follow's need.
        self.rooms.remove(room);
    }

    /// This node's part of a room changed. Returns whether the follower cares.
    pub(crate) fn mark(&mut self, room: &RoomKey) -> bool {
        let follows = self.follows(room);
        if follows && self.queued.insert(room.clone()) {
            self.queue.push_back(room.clone());
        }
        follows
    }

    /// What to tell it next. `own` finds this node's part of a room; `gone_version` is that of having none.
    pub(crate) fn next_update<'a>(
        &mut self,
        me: &NodeInstance,
        gone_version: u64,
        own: impl Fn(&RoomKey) -> Option<&'a OwnPart>,
    ) -> Option<RosterUpdate> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Some(chunk);
        }
        loop {
            let room = self.queue.pop_front()?;
            self.queued.remove(&room);
            let Some(told) = self.rooms.get_mut(&room) else { continue };
            let (version, change) = match own(&room) {
                Some(part) => {
                    let known = if let Told::Version(version) = told { Some(*version) } else { None };
                    let Some(change) = part.change_since(known) else { continue };
                    *told = Told::Version(part.version());
                    (part.version(), change)
                }
                None if *told == Told::Gone => continue,
                None => {
                    *told = Told::Gone;
                    (gone_version, Change::Gone(PartGone {}))
                }
            };
            let (owner, room) = (Some(wire::to_instance(me)), Some(wire::to_room(&room)));
            let update = RosterUpdate { owner, room, version, change: Some(change), ..RosterUpdate::default() };
            self.chunks = chunks::split(update).into();
            return self.chunks.pop_front();
        }
    }
}
