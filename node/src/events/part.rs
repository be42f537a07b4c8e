//! What one room tells: a part begins with the first peer that a node has in the room and ends with the last.
//!
//! What begins is told when its guard is made, what ends when that is dropped: so each beginning has its end, in order,
//! however a peer or a room ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sluice_proto::ids::{PeerId, ProducerId, RoomKey};
use tokio::time::Instant;

use super::Events;
use super::audit::Entry;
use super::event::{Event, Happening, LeaveReason};
use super::usage::{Account, Presence};
use crate::ortc::ProducerKind;
use crate::support::{millis, random_text, unix_ms};

/// Characters of an event's or a part's name: 100 bits.
const NAME_LEN: usize = 20;

/// What a room tells.
pub(crate) struct RoomEvents {
    events: Events,
    key: RoomKey,
    part: Weak<Part>,
}

/// Who comes: one WebSocket of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// Its number within this life of the node.
    pub(crate) number: u64,
    /// Where it comes from.
    pub(crate) remote: SocketAddr,
}

impl RoomEvents {
    pub(super) fn new(events: Events, key: RoomKey) -> Self {
        Self { events, key, part: Weak::new() }
    }

    /// On whose account the room's traffic goes.
    pub(crate) fn account(&self) -> Account {
        self.events.usage.account(&self.key.namespace)
    }

    /// A session has become a peer, and is one until the answer is dropped.
    pub(crate) fn join(&mut self, session: Session, peer: &PeerId, display_name: &str) -> Attendance {
        let part = self.part.upgrade().unwrap_or_else(|| Part::begin(&self.events, &self.key));
        self.part = Arc::downgrade(&part);
        part.tell(Happening::PeerJoined { peer: peer.clone(), display_name: display_name.to_owned() });
        let _presence = self.events.usage.attend(&self.key.namespace);
        let attendance = Attendance {
            part,
            session,
            peer: peer.clone(),
            since: Instant::now(),
            // What nobody gave a reason for is the end of a room that panicked.
            reason: LeaveReason::Failed,
            _presence,
        };
        self.events.audit.record(&Entry::PeerJoined { session: session.into(), who: attendance.who() });
        attendance
    }
}

/// A life of this node's part of a room.
struct Part {
    events: Events,
    key: RoomKey,
    name: String,
    since: Instant,
    sequence: AtomicU64,
}

impl Part {
    fn begin(events: &Events, key: &RoomKey) -> Arc<Self> {
        let part = Arc::new(Self {
            events: events.clone(),
            key: key.clone(),
            name: random_text(NAME_LEN),
            since: Instant::now(),
            sequence: AtomicU64::new(1),
        });
        part.tell(Happening::RoomStarted);
        part
    }

    fn tell(&self, happening: Happening) {
        let node = &self.events.node;
        self.events.tell(&Event {
            id: random_text(NAME_LEN),
            happening,
            time_ms: unix_ms(),
            namespace: self.key.namespace.clone(),
            room: self.key.room.clone(),
            node: node.node.clone(),
            incarnation: node.incarnation,
            part: self.name.clone(),
            // All of a room is told by its one task.
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        });
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.tell(Happening::RoomEnded { duration_ms: millis(self.since.elapsed()) });
    }
}

/// A peer of a room; when it is dropped, the peer has left.
pub(crate) struct Attendance {
    part: Arc<Part>,
    session: Session,
    peer: PeerId,
    since: Instant,
    reason: LeaveReason,
    _presence: Presence,
}

impl Attendance {
    /// The peer is about to leave.
    pub(crate) fn set_reason(&mut self, reason: LeaveReason) {
        self.reason = reason;
    }

    /// The peer has a producer, until the answer is dropped.
    pub(crate) fn publish(&self, producer: ProducerId, kind: ProducerKind) -> Publication {
        self.part.tell(Happening::ProducerPublished { peer: self.peer.clone(), producer, kind });
        Publication { part: Arc::clone(&self.part), peer: self.peer.clone(), producer, kind, since: Instant::now() }
    }

    fn who(&self) -> super::audit::Who {
        super::audit::Who::new(&self.part.key, &self.peer)
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let (peer, reason, duration_ms) = (self.peer.clone(), self.reason, millis(self.since.elapsed()));
        self.part.tell(Happening::PeerLeft { peer, reason, duration_ms });
        let entry = Entry::PeerLeft { session: self.session.into(), who: self.who(), reason, duration_ms };
        self.part.events.audit.record(&entry);
    }
}

/// A producer of a peer; when it is dropped, the producer is no more.
pub(crate) struct Publication {
    part: Arc<Part>,
    peer: PeerId,
    producer: ProducerId,
    kind: ProducerKind,
    since: Instant,
}

impl Drop for Publication {
    fn drop(&mut self) {
        let Self { producer, kind, .. } = *self;
        let (peer, duration_ms) = (self.peer.clone(), millis(self.since.elapsed()));
        self.part.tell(Happening::ProducerUnpublished { peer, producer, kind, duration_ms });
    }
}
