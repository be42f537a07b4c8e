//! A node whose parts this one follows: what is wanted of it, and what it has to be asked.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;
use sluice_proto::ids::{NodeInstance, RoomKey};
use sluice_proto::placement::FollowRequest;

use crate::wire;

/// Rooms in one request: at most 70 KiB with the longest names, well below any message limit.
const MAX_ROOMS_PER_REQUEST: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Followed {
    instance: NodeInstance,
    connected: bool,
    /// The first message of a stream says who is asking.
    hello_due: bool,
    wanted: FxHashSet<RoomKey>,
    /// Rooms to speak of, with the trace context of the join that is the cause.
    pending: BTreeMap<RoomKey, Option<String>>,
}

impl Followed {
    pub(crate) fn new(instance: NodeInstance) -> Self {
        Self { instance, connected: false, hello_due: false, wanted: FxHashSet::default(), pending: BTreeMap::new() }
    }

    pub(crate) fn instance(&self) -> &NodeInstance {
        &self.instance
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Wants a room, with a snapshot first; said again it asks for another one.
    pub(crate) fn want(&mut self, room: &RoomKey, trace: Option<&str>) {
        self.wanted.insert(room.clone());
        self.pending.insert(room.clone(), trace.map(str::to_owned));
    }

    pub(crate) fn unwant(&mut self, room: &RoomKey) {
        if self.wanted.remove(room) {
            self.pending.insert(room.clone(), None);
        }
    }

    /// A new stream: everything has to be said again, nothing unsaid.
    pub(crate) fn opened(&mut self) {
        (self.connected, self.hello_due) = (true, true);
        let wanted = &self.wanted;
        self.pending.retain(|room, _| wanted.contains(room));
        for room in wanted {
            self.pending.entry(room.clone()).or_default();
        }
    }

    pub(crate) fn closed(&mut self) {
        self.connected = false;
    }

    /// What to say next on the stream. Rooms of one trace go together.
    pub(crate) fn next_request(&mut self, me: &NodeInstance) -> Option<FollowRequest> {
        if !self.connected || (self.pending.is_empty() && !self.hello_due) {
            return None;
        }
        let trace = self.pending.first_key_value().and_then(|(_, trace)| trace.clone());
        let rooms = self.pending.iter().filter(|(_, other)| **other == trace);
        let rooms: Vec<RoomKey> = rooms.map(|(room, _)| room.clone()).take(MAX_ROOMS_PER_REQUEST).collect();
        for room in &rooms {
            self.pending.remove(room);
        }
        let (follow, unfollow): (Vec<_>, Vec<_>) = rooms.into_iter().partition(|room| self.wanted.contains(room));
        Some(FollowRequest {
            follower: std::mem::take(&mut self.hello_due).then(|| wire::to_instance(me)),
            follow: wire::to_rooms(&follow),
            unfollow: wire::to_rooms(&unfollow),
            traceparent: trace.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, room};

    fn names(rooms: &[sluice_proto::placement::RoomKey]) -> Vec<&str> {
        rooms.iter().map(|room| room.room.as_str()).collect()
    }

    #[test]
    fn a_new_stream_says_who_asks_and_for_everything_again() {
        let me = instance("me", 3);
        let mut followed = Followed::new(instance("a", 1));
        followed.want(&room("r"), None);
        followed.want(&room("s"), None);
        assert_eq!(followed.next_request(&me), None, "not connected");
        followed.opened();
        let request = followed.next_request(&me).unwrap();
        assert_eq!(request.follower, Some(wire::to_instance(&me)));
        assert_eq!((names(&request.follow), names(&request.unfollow)), (vec!["r", "s"], vec![]));
        assert_eq!(followed.next_request(&me), None);

        followed.closed();
        followed.unwant(&room("r"));
        followed.opened();
        let request = followed.next_request(&me).unwrap();
        assert_eq!((names(&request.follow), names(&request.unfollow)), (vec!["s"], vec![]));
        followed.unwant(&room("s"));
        let request = followed.next_request(&me).unwrap();
        assert_eq!((request.follower, names(&request.unfollow)), (None, vec!["s"]));
    }

    #[test]
    fn rooms_of_one_join_carry_its_trace() {
        let me = instance("me", 3);
        let mut followed = Followed::new(instance("a", 1));
        followed.opened();
        followed.want(&room("r"), Some("trace-1"));
        followed.want(&room("s"), Some("trace-2"));
        followed.want(&room("t"), Some("trace-1"));
        let (first, second) = (followed.next_request(&me).unwrap(), followed.next_request(&me).unwrap());
        assert_eq!((first.traceparent.as_str(), names(&first.follow)), ("trace-1", vec!["r", "t"]));
        assert_eq!((second.traceparent.as_str(), names(&second.follow)), ("trace-2", vec!["s"]));
    }
}
