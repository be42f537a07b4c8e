//! The streams of rosters: those that others follow this node by, and those that it follows others by.

use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};
use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{FollowRequest, RosterUpdate};

use super::followed::Followed;
use super::follower::Follower;
use super::{Rosters, StreamId, Void, Wake};

impl Rosters {
    /// A node opened a stream to follow this one by. An earlier one of it is over.
    ///
    /// # Errors
    /// [`Void`] when a newer incarnation of it is known.
    pub(crate) fn follower_opened(&mut self, stream: StreamId, follower: &NodeInstance) -> Result<(), Void> {
        self.see(follower)?;
        self.close_streams_of(&follower.node, |_| true);
        self.followers.insert(stream, Follower::new(follower.clone()));
        Ok(())
    }

    /// What a follower asks. In a room that this node is in too, it follows back at once. `trace` is the context of the
    /// join that caused it.
    pub(crate) fn follower_request(
        &mut self,
        stream: StreamId,
        follow: &[RoomKey],
        unfollow: &[RoomKey],
        trace: Option<&str>,
    ) {
        let Some(follower) = self.followers.get_mut(&stream) else { return };
        let instance = follower.instance().clone();
        let mut followed = Vec::with_capacity(follow.len());
        for key in follow {
            if follower.follow(key) {
                followed.push(key);
            } else {
                self.counters.follows_refused += 1;
            }
        }
        for key in unfollow {
            follower.unfollow(key);
        }
        self.wakes.insert(Wake::Updates(stream));
        for key in followed {
            self.follow_back(key, &instance, trace);
        }
        for key in unfollow {
            self.follows_no_longer(key, &instance);
        }
    }

    /// A follower's stream ended.
    pub(crate) fn follower_closed(&mut self, stream: StreamId) {
        let Some(follower) = self.followers.remove(&stream) else { return };
        self.wakes.insert(Wake::Updates(stream));
        for key in follower.rooms() {
            self.follows_no_longer(key, follower.instance());
        }
    }

    /// Whether a follower's stream is to go on.
    pub(crate) fn is_open(&self, stream: StreamId) -> bool {
        self.followers.contains_key(&stream)
    }

    /// What to tell a follower next.
    pub(crate) fn poll_update(&mut self, stream: StreamId) -> Option<RosterUpdate> {
        let Self { rooms, followers, me, high_version, counters, .. } = self;
        let update =
            followers.get_mut(&stream)?.next_update(me, *high_version, |key| rooms.get(key).map(|room| &room.own))?;
        match update.change {
            Some(Change::Snapshot(_)) => counters.snapshots_sent += 1,
            Some(Change::Delta(_)) => counters.deltas_sent += 1,
            Some(Change::Gone(_)) | None => counters.gone_sent += 1,
        }
        Some(update)
    }

    /// The stream to a node was opened: everything wanted of it is asked for anew. Returns whether the incarnation is
    /// worth a stream.
    pub(crate) fn follow_opened(&mut self, node: &NodeInstance) -> bool {
        if !self.present.contains(node) || self.see(node).is_err() {
            return false;
        }
        let followed = self.followed.entry(node.node.clone()).or_insert_with(|| Followed::new(node.clone()));
        if followed.instance() != node {
            return false;
        }
        followed.opened();
        self.wakes.insert(Wake::Requests(node.node.clone()));
        true
    }

    /// The stream to a node ended. Its parts stay: only membership says who is dead.
    pub(crate) fn follow_closed(&mut self, node: &NodeInstance) {
        if let Some(followed) = self.followed.get_mut(&node.node)
            && followed.instance() == node
        {
            followed.closed();
        }
    }

    /// What to say next on the stream to a node.
    pub(crate) fn poll_request(&mut self, node: &NodeInstance) -> Option<FollowRequest> {
        self.request_of(node)
    }

    /// Open streams of followers.
    pub(crate) fn follower_streams(&self) -> usize {
        self.followers.len()
    }

    /// Open streams to followed nodes.
    pub(crate) fn follow_streams(&self) -> usize {
        self.followed.values().filter(|followed| followed.is_connected()).count()
    }

    /// Parts of other nodes that are followed.
    pub(crate) fn parts_followed(&self) -> usize {
        self.followed.values().map(Followed::len).sum()
    }

    pub(super) fn close_streams_of(&mut self, node: &NodeId, which: impl Fn(&NodeInstance) -> bool) {
        let streams = self
            .followers
            .iter()
            .filter(|(_, follower)| follower.instance().node == *node && which(follower.instance()));
        let streams: Vec<StreamId> = streams.map(|(stream, _)| *stream).collect();
        streams.into_iter().for_each(|stream| self.follower_closed(stream));
    }

    fn follows_no_longer(&mut self, key: &RoomKey, instance: &NodeInstance) {
        if let Some(remote) = self.rooms.get_mut(key).and_then(|room| room.remotes.get_mut(&instance.node))
            && remote.instance == *instance
        {
            remote.follows_us = false;
            self.evaluate(key, &instance.node, None);
        }
    }
}
