//! The peers of a room on this node: their sessions, transports, and what they said of themselves.
//!
//! A WebSocket that was opened is a session, and no more than that: it becomes the peer that it is named after when it
//! joins. So there can be several sessions of one name, of which at most one has joined.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_media::messages::{Request, WorkerIndex};
use sluice_media::rate_limit::RateLimit;
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::RtpCapabilities;
use tokio::time::Instant;
use tracing::Span;

use super::Guest;
use super::api::{PeerInfo, Refusal, Subscription};
use super::context::{Gauge, Load};
use super::join::{Joining, PeerSecret, Secrets, Title};
use super::room::{Opened, Room, SessionId};
use super::seat::Desk;
use super::subscriptions::Wanted;
use super::transports::Transport;
use crate::access::{Grants, Place, Quota, Rights};
use crate::address_limits::AddressLimits;
use crate::events::{Attendance, LeaveReason};
use crate::support::random_text;
use crate::turn::{IceServer, Issued, Turn};

/// What changes are counted in.
const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Peer {
    pub(super) id: PeerId,
    /// Where its client comes from.
    pub(super) remote: SocketAddr,
    desk: Arc<Desk>,
    turn_urls: Arc<[String]>,
    /// Since its first transport.
    turn: Option<Issued>,
    /// What it may do.
    pub(super) rights: Rights,
    /// What its token grants, whatever operators decided.
    pub(super) granted: Grants,
    /// How often it may change what others are told.
    changes: Option<RateLimit>,
    /// Among the peers of its namespace. One that comes again shares that of who it is, and one that does not join
    /// gives it back.
    pub(super) place: Option<Place>,
    /// Where its transports are.
    load: Load,
    /// Of its join, until that is answered.
    pub(super) span: Option<Span>,
    /// What the client showed to be who it says it is.
    pub(super) shown_secret: Option<PeerSecret>,
    /// When its connection broke, until its client comes back.
    pub(super) broken_at: Option<Instant>,
    /// How often the client asked to join.
    pub(super) joins: u32,
    /// A join that waits.
    pub(super) joining: Option<Joining>,
    pub(super) joined: Option<Joined>,
    /// [`Peers`] adds and removes them.
    transports: HashMap<TransportId, Transport>,
    pub(super) producers: HashSet<ProducerId>,
    pub(super) consumers: HashSet<ConsumerId>,
    /// What it asked to receive.
    pub(super) wanted: Wanted,
    /// Common to all its producers, so that receivers play them in sync; for clients that name none.
    pub(super) cname: String,
    next_mid: u32,
    next_ssrc: u32,
    next_transport: u64,
}

pub(super) struct Joined {
    pub(super) display_name: String,
    pub(super) device: Value,
    pub(super) rtp_capabilities: Option<Arc<RtpCapabilities>>,
    pub(super) subscription: Subscription,
    /// It is told which encodings of its producers nobody receives.
    pub(super) adapts_encodings: bool,
    /// The newest join of a peer id wins, wherever it is: that with the greatest number.
    pub(super) number: u64,
    /// It is on the stage even if it publishes nothing.
    pub(super) asked_onto_stage: bool,
    /// By which its client is known again.
    pub(super) secrets: Secrets,
    /// How often it gave one because of claims.
    pub(super) signs_of_life: u32,
    /// Until it leaves.
    pub(super) attendance: Attendance,
    pub(super) _counted: Gauge,
}

impl Peer {
    pub(super) fn new(opened: Opened, load: Load, changes_per_minute: u32) -> Self {
        let Opened { guest, desk, span, .. } = opened;
        let Guest { peer: id, secret: shown_secret, remote, turn_urls, rights, place, .. } = guest;
        Self {
            id,
            remote,
            desk,
            turn_urls,
            turn: None,
            granted: rights.grants().clone(),
            rights,
            changes: RateLimit::per(changes_per_minute, MINUTE),
            place,
            load,
            span: Some(span),
            shown_secret,
            broken_at: None,
            joins: 0,
            joining: None,
            joined: None,
            transports: HashMap::new(),
            producers: HashSet::new(),
            consumers: HashSet::new(),
            wanted: Wanted::default(),
            cname: random_text(8),
            next_mid: 0,
            next_ssrc: rand::random(),
            next_transport: 0,
        }
    }

    /// Whether it may make so many changes now that others are told of.
    pub(super) fn take_changes(&mut self, count: u32, limits: &AddressLimits) -> Result<(), Refusal> {
        let now = Instant::now();
        let allowed = self.changes.as_mut().is_none_or(|changes| changes.allow_many(count, now.into_std()))
            && limits.take_changes(self.remote.ip(), count, now)
            && self.rights.namespace().allow_changes(count);
        let refusal = || Refusal::new(429, "so many changes that others are told of are not allowed: try again later");
        allowed.then_some(()).ok_or_else(refusal)
    }

    /// Sees that it has a place among the peers of its namespace.
    ///
    /// # Errors
    /// When there is none, in words.
    pub(super) fn take_place(&mut self) -> Result<(), String> {
        if self.place.is_none() {
            self.place = Some(self.rights.namespace().take(Quota::Peer)?);
        }
        Ok(())
    }

    /// The TURN server that its client may use, if it can reach one.
    pub(super) fn ice_server(&mut self, turn: Option<&Turn>) -> Option<IceServer> {
        let turn = turn.filter(|_| !self.turn_urls.is_empty())?;
        let issued = self.turn.get_or_insert_with(|| turn.issue());
        let (username, credential) = (issued.username.clone(), issued.password.clone());
        Some(IceServer { urls: self.turn_urls.clone(), username, credential })
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Its client came back, and reads at this desk.
    pub(super) fn go_on(&mut self, guest: Guest, desk: Arc<Desk>) {
        (self.remote, self.turn_urls) = (guest.remote, guest.turn_urls);
        (self.desk, self.broken_at) = (desk, None);
    }

    /// What somebody has of its name, whom a token names, or not, and who shows this.
    pub(super) fn title_of(&self, is_named: bool, shown: Option<&PeerSecret>) -> Title {
        Title::new(self.rights.names_peer(), is_named, self.is_shown(shown))
    }

    /// Whether this is what its client was told.
    pub(super) fn is_shown(&self, secret: Option<&PeerSecret>) -> bool {
        self.joined.as_ref().zip(secret).is_some_and(|(joined, secret)| joined.secrets.include(secret))
    }

    /// Its client says something: it says nothing before it has heard what it was told when it came.
    pub(super) fn hear(&mut self) {
        self.joined.iter_mut().for_each(|joined| joined.secrets.are_heard());
    }

    pub(super) fn worker(&self) -> WorkerIndex {
        self.load.worker()
    }

    /// Whether the client's session has ended, of which the room has not heard yet.
    pub(super) fn is_gone(&self) -> bool {
        self.desk.is_left()
    }

    /// Whether the client has as many consumers as it may have, or has not answered for so many.
    pub(super) fn has_all_consumers(&self, limit: usize) -> bool {
        self.desk.consumers() >= limit
    }

    pub(super) fn transports(&self) -> &HashMap<TransportId, Transport> {
        &self.transports
    }

    pub(super) fn transport_mut(&mut self, id: TransportId) -> Result<&mut Transport, Refusal> {
        self.transports.get_mut(&id).ok_or_else(|| Refusal::not_found("transport", id))
    }

    /// A number for a new transport.
    pub(super) fn number_transport(&mut self) -> u64 {
        self.next_transport += 1;
        self.next_transport
    }

    /// Names for a new consumer of a producer: its MID, which the client may have chosen, and an SSRC whose successor
    /// is free for RTX.
    pub(super) fn next_stream(&mut self, producer: ProducerId) -> (String, u32) {
        // Zero and its predecessor are left out: no SSRC of ours is zero.
        self.next_ssrc = if self.next_ssrc >= u32::MAX - 3 { 1 } else { self.next_ssrc + 2 };
        let mid = self.wanted.mid(producer).unwrap_or_else(|| self.next_mid());
        (mid, self.next_ssrc)
    }

    fn next_mid(&mut self) -> String {
        loop {
            let mid = self.next_mid.to_string();
            self.next_mid = self.next_mid.wrapping_add(1);
            if !self.wanted.has_mid(&mid) {
                return mid;
            }
        }
    }

    /// Whether the client may choose this MID for a consumer: it has not, and neither has the room.
    pub(super) fn is_free_mid(&self, mid: &str) -> bool {
        let taken = mid.parse().is_ok_and(|number: u32| number < self.next_mid);
        !taken && !self.wanted.has_mid(mid)
    }
}

impl Drop for Peer {
    /// However it ends.
    fn drop(&mut self) {
        self.desk.abandon();
    }
}

/// The sessions of a room on this node, and which of them are joined peers.
#[derive(Default)]
pub(super) struct Peers {
    by_session: HashMap<SessionId, Peer>,
    joined: BTreeMap<PeerId, SessionId>,
    /// How many sessions are on each worker.
    on_worker: HashMap<WorkerIndex, usize>,
    /// Whose each transport is.
    by_transport: HashMap<TransportId, SessionId>,
    /// Sessions for which a worker did not take a command, so that what the room believes of them is not so. They end
    /// once what is going on is done.
    unserved: Vec<SessionId>,
    /// Sessions at whose desks something was written.
    written: Vec<SessionId>,
}

impl Peers {
    pub(super) fn insert(&mut self, session: SessionId, peer: Peer) {
        *self.on_worker.entry(peer.worker()).or_default() += 1;
        self.by_session.insert(session, peer);
    }

    pub(super) fn remove(&mut self, session: SessionId) -> Option<Peer> {
        let peer = self.by_session.remove(&session)?;
        if self.joined.get(&peer.id) == Some(&session) {
            self.joined.remove(&peer.id);
        }
        for transport in peer.transports.keys() {
            self.by_transport.remove(transport);
        }
        if let Entry::Occupied(mut count) = self.on_worker.entry(peer.worker()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(peer)
    }

    /// Whether a session is on this worker.
    fn are_on(&self, worker: WorkerIndex) -> bool {
        self.on_worker.contains_key(&worker)
    }

    pub(super) fn add_transport(&mut self, session: SessionId, id: TransportId, transport: Transport) {
        if let Some(peer) = self.by_session.get_mut(&session) {
            peer.transports.insert(id, transport);
            self.by_transport.insert(id, session);
        }
    }

    pub(super) fn remove_transport(&mut self, session: SessionId, id: TransportId) -> Option<Transport> {
        let transport = self.by_session.get_mut(&session)?.transports.remove(&id)?;
        self.by_transport.remove(&id);
        Some(transport)
    }

    /// Whose transport it is.
    pub(super) fn owner_of(&self, transport: TransportId) -> Option<SessionId> {
        self.by_transport.get(&transport).copied()
    }

    /// Makes a session the peer that it is named after. Whoever was it before has been removed.
    pub(super) fn set_joined(&mut self, session: SessionId, joined: Joined) {
        if let Some(peer) = self.by_session.get_mut(&session) {
            peer.joined = Some(joined);
            self.joined.insert(peer.id.clone(), session);
        }
    }

    pub(super) fn get(&self, session: SessionId) -> Option<&Peer> {
        self.by_session.get(&session)
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Peer> {
        self.by_session.get_mut(&session)
    }

    /// The session that is the peer of this name.
    pub(super) fn session_of(&self, id: &PeerId) -> Option<SessionId> {
        self.joined.get(id).copied()
    }

    /// The joined peer of this name.
    pub(super) fn joined(&self, id: &PeerId) -> Option<&Joined> {
        self.by_session.get(self.joined.get(id)?)?.joined.as_ref()
    }

    /// Whether a token names the peer of this name, and by which number it joined.
    pub(super) fn standing(&self, id: &PeerId) -> Option<(bool, u64)> {
        let peer = self.by_session.get(self.joined.get(id)?)?;
        Some((peer.rights.names_peer(), peer.joined.as_ref()?.number))
    }

    pub(super) fn joined_ids(&self) -> impl Iterator<Item = &PeerId> {
        self.joined.keys()
    }

    /// Joined peers in the order of their ids, from after one of them on.
    pub(super) fn joined_after(&self, after: Option<&PeerId>) -> impl Iterator<Item = &PeerId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.joined.range((from, Bound::Unbounded)).map(|(id, _)| id)
    }

    pub(super) fn joined_count(&self) -> usize {
        self.joined.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }

    pub(super) fn unjoined_count(&self) -> usize {
        self.by_session.len() - self.joined.len()
    }

    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.by_session.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Peer)> {
        self.by_session.iter().map(|(session, peer)| (*session, peer))
    }

    /// Sessions of joined peers.
    pub(super) fn joined_sessions(&self) -> Vec<SessionId> {
        self.joined.values().copied().collect()
    }

    /// The version of the view that all joined peers know.
    pub(super) fn told_by_all(&self) -> Option<u64> {
        let joined = self.joined.values().filter_map(|session| self.by_session.get(session));
        joined.filter_map(|peer| peer.desk.told()).min()
    }

    /// Where a session's client reads what it is told; it does when that is [complete](Self::complete).
    pub(super) fn desk(&mut self, session: SessionId) -> Option<&Desk> {
        let peer = self.by_session.get(&session)?;
        if self.written.last() != Some(&session) {
            self.written.push(session);
        }
        Some(&peer.desk)
    }

    /// All that was written at desks is complete.
    pub(super) fn complete(&mut self) {
        for session in self.written.drain(..) {
            self.by_session.get(&session).into_iter().for_each(|peer| peer.desk.complete());
        }
    }

    /// A worker did not take a command for a session.
    pub(super) fn set_unserved(&mut self, session: SessionId) {
        self.unserved.push(session);
    }

    /// The next session that has to end for that.
    pub(super) fn next_unserved(&mut self) -> Option<SessionId> {
        self.unserved.pop()
    }
}

impl Room {
    /// Ends a session whose client is gone.
    pub(super) fn close_left(&mut self, session: SessionId) {
        let was_silent = self.peers.get(session).is_some_and(|peer| peer.desk.was_silent());
        self.close_peer(session, if was_silent { LeaveReason::Silent } else { LeaveReason::Left });
    }

    /// Everything that a session's end entails, whatever ended it.
    pub(super) fn close_peer(&mut self, session: SessionId, reason: LeaveReason) {
        if let Some(peer) = self.end_peer(session, reason) {
            self.publish(&peer);
            self.refresh_elsewhere_of(&peer);
        }
    }

    /// The same without a word to other nodes. Which peer it was, if they have to be told.
    pub(super) fn end_peer(&mut self, session: SessionId, reason: LeaveReason) -> Option<PeerId> {
        let mut peer = self.peers.remove(session)?;
        let claimed = self.claims.remove(&session).is_some();
        if let Some(joined) = &mut peer.joined {
            joined.attendance.set_reason(reason);
        }
        for consumer in &peer.consumers {
            self.forget_consumer(*consumer);
        }
        for producer in &peer.producers {
            self.remove_producer(*producer);
        }
        if peer.joined.is_some() {
            // Before the view is looked at: somebody may have its name already, on another node.
            self.stage.remove(&peer.id);
            self.hidden.remove(&peer.id);
            self.hide(&peer.id);
            self.imposed.trim(|id| self.peers.session_of(id).is_some());
        }
        for transport in peer.transports.keys() {
            self.context.worker(peer.worker()).send(Request::CloseTransport { transport: *transport });
        }
        if !self.peers.are_on(peer.worker()) {
            self.close_unused_routers();
        }
        (peer.joined.is_some() || claimed).then(|| peer.id.clone())
    }

    /// Closes the routers of workers that no peer is on any more, except where producers of other nodes come in that
    /// other workers still need.
    pub(super) fn close_unused_routers(&mut self) {
        let unused = self.routers.keys().copied().filter(|worker| !self.peers.are_on(*worker));
        let unused: Vec<WorkerIndex> = unused.collect();
        self.spare_routers = false;
        self.entry_ended = false;
        for worker in unused {
            if self.context.pipes.enter_at(&self.key, worker) {
                self.spare_routers = true;
            } else if let Some(router) = self.routers.remove(&worker) {
                self.close_server_channels(worker);
                self.context.worker(worker).send(Request::CloseRouter { router: router.id });
                self.speakers.forget(router.id);
            }
        }
    }

    /// Asks a peer's worker for something. What it does not take is not done later either, so the session ends, and
    /// with it what the room believes.
    pub(super) fn command(&mut self, session: SessionId, request: Request) {
        let Some(peer) = self.peers.get(session) else { return };
        if self.context.worker(peer.worker()).try_send(request).is_err() {
            self.peers.set_unserved(session);
        }
    }

    /// What others are told of a peer of this node; `None` of one whom nobody is told of.
    pub(super) fn local_info(&self, id: &PeerId) -> Option<PeerInfo> {
        let peer = self.peers.get(self.peers.session_of(id)?)?;
        let joined = peer.joined.as_ref().filter(|_| !peer.rights.grants().hidden)?;
        Some(PeerInfo {
            metadata: peer.rights.metadata().cloned(),
            id: id.clone(),
            display_name: joined.display_name.clone(),
            device: joined.device.clone(),
            node: self.context.node().clone(),
            region: Some(self.context.region.clone()),
        })
    }
}
