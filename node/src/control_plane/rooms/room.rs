//! A room: the one task that decides everything about the peers that a node has in it.
//!
//! The task never waits: a worker's answer comes back as a [`Continuation`], so that one slow answer delays one request and
//! nobody else's.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sluice_placement::RosterEvent;
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, RoomKey, RouterId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::Span;

use super::api::{CloseReason, Notice, Outbox, Outgoing, PeerReply, PeerRequest, Refusal};
use super::context::{Context, RoomSender, Subject, count};
use super::elsewhere::Elsewhere;
use super::media::{Consumer, Producer};
use super::overview::RoomOverview;
use super::peer::Peer;
use super::speakers::Speakers;
use crate::control_plane::ports::{Answer, RosterPublisher};
use crate::control_plane::telemetry::current_traceparent;
use crate::data_plane::messages::{Request, RequestError, Response, WorkerEvent, WorkerIndex};

/// For how long after a client's coming what other nodes tell is taken for its doing, in traces.
const JOIN_TRACE: Duration = Duration::from_secs(10);

/// One WebSocket, from open to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// What a room is told.
#[derive(Debug)]
pub(crate) enum RoomMessage {
    /// A client opened its WebSocket.
    Open(Opened),
    /// A client wants something; the answer goes to its outbox.
    Request { session: SessionId, id: u32, request: PeerRequest },
    /// A client has set a consumer up, or will not.
    ConsumerAnswered { session: SessionId, consumer: ConsumerId, accepted: bool },
    /// A client has had its time to join, which it has used or not.
    JoinDue { session: SessionId },
    /// A WebSocket closed.
    Left { session: SessionId },
    /// A worker tells of something in this room.
    Worker(WorkerEvent),
    /// A producer that was wanted has come.
    ProducerReady(ProducerId),
    /// A producer of another node does not come, or no longer.
    ProducerLost(ProducerId),
    /// Somebody looks at `/v1/rooms`.
    Overview(oneshot::Sender<RoomOverview>),
    /// The node stops.
    Shutdown,
}

/// A session that wants to be a peer of the room.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    pub(crate) peer: PeerId,
    pub(crate) outbox: Outbox,
    /// The span of the join, from WebSocket to the answer.
    pub(crate) span: Span,
}

/// What is left to do once a worker has answered.
pub(super) type Continuation = Box<dyn FnOnce(&mut Room) + Send>;

/// A room's state on this node.
pub(crate) struct Room {
    pub(super) key: RoomKey,
    pub(super) context: Arc<Context>,
    /// The way into this room, for those who tell it of media.
    pub(super) me: RoomSender,
    /// `None` once the room has been left for good.
    pub(super) publisher: Option<Box<dyn RosterPublisher>>,
    pub(super) peers: HashMap<PeerId, Peer>,
    pub(super) sessions: HashMap<SessionId, PeerId>,
    /// The room's router on each worker that a peer is on.
    pub(super) routers: HashMap<WorkerIndex, RouterId>,
    /// A router without peers waits until nothing enters the node through it.
    pub(super) spare_routers: bool,
    /// Every producer of the room, wherever it lives.
    pub(super) producers: HashMap<ProducerId, Producer>,
    pub(super) consumers: HashMap<ConsumerId, Consumer>,
    /// Producers that were brought to a worker that is not their home; true once they are there.
    pub(super) brought: HashMap<(ProducerId, WorkerIndex), bool>,
    pub(super) elsewhere: Elsewhere,
    pub(super) speakers: Speakers,
    /// The trace of the latest join, and until when what happens may be its doing.
    latest_join: Option<(String, Instant)>,
    pending: FuturesUnordered<Pin<Box<dyn Future<Output = Continuation> + Send>>>,
}

impl Room {
    pub(crate) fn new(
        key: RoomKey,
        context: Arc<Context>,
        me: RoomSender,
        publisher: Box<dyn RosterPublisher>,
    ) -> Self {
        let elsewhere = Elsewhere::new(context.instance.clone());
        Self {
            key,
            context,
            me,
            publisher: Some(publisher),
            peers: HashMap::new(),
            sessions: HashMap::new(),
            routers: HashMap::new(),
            spare_routers: false,
            producers: HashMap::new(),
            consumers: HashMap::new(),
            brought: HashMap::new(),
            elsewhere,
            speakers: Speakers::default(),
            latest_join: None,
            pending: FuturesUnordered::new(),
        }
    }

    /// Runs until `retire` says that nobody can enter any more. It is asked whenever the room is empty, with the mailbox so that
    /// it can see whether somebody is on the way.
    pub(crate) async fn run(
        mut self,
        mut mailbox: mpsc::Receiver<RoomMessage>,
        mut roster: mpsc::Receiver<RosterEvent>,
        mut retire: impl FnMut(&mpsc::Receiver<RoomMessage>, &mut Self) -> bool,
    ) {
        loop {
            tokio::select! {
                message = mailbox.recv() => match message {
                    Some(message) => self.handle(message),
                    None => break,
                },
                Some(event) = roster.recv() => self.on_roster_event(event),
                Some(go_on) = self.pending.next(), if !self.pending.is_empty() => go_on(&mut self),
            }
            if self.spare_routers {
                self.close_unused_routers();
            }
            if self.sessions.is_empty() && retire(&mailbox, &mut self) {
                break;
            }
        }
    }

    /// Gives the room up in placement.
    pub(super) fn leave(&mut self) {
        self.publisher = None;
    }

    fn handle(&mut self, message: RoomMessage) {
        match message {
            RoomMessage::Open(opened) => self.open(opened),
            RoomMessage::Request { session, id, request } => self.on_request(session, id, request),
            RoomMessage::ConsumerAnswered { session, consumer, accepted } => {
                self.on_consumer_answered(session, consumer, accepted);
            }
            RoomMessage::JoinDue { session } => self.on_join_due(session),
            RoomMessage::Left { session } => {
                if let Some(peer) = self.sessions.get(&session).cloned() {
                    self.close_peer(&peer);
                }
            }
            RoomMessage::Worker(event) => self.on_worker_event(event),
            RoomMessage::ProducerReady(producer) => self.on_producer_ready(producer),
            RoomMessage::ProducerLost(producer) => self.on_producer_lost(producer),
            RoomMessage::Overview(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.overview());
            }
            RoomMessage::Shutdown => self.shutdown(),
        }
    }

    fn open(&mut self, opened: Opened) {
        let Opened { session, peer: id, outbox, span } = opened;
        let _entered = span.clone().entered();
        self.latest_join = current_traceparent().map(|trace| (trace, Instant::now() + JOIN_TRACE));
        if self.peers.contains_key(&id) {
            self.dismiss(&id, CloseReason::Replaced, "the same peer joined again");
        }
        if self.peers.len() >= self.context.limits.peers_per_room {
            let limit = self.context.limits.peers_per_room;
            outbox.send(Outgoing::Close(CloseReason::Full, format!("the room has {limit} peers on this node already")));
            return;
        }
        let worker = self.context.place(|worker| self.routers.contains_key(&worker));
        self.context.loads[usize::from(worker.0)].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.ensure_router(worker);
        self.sessions.insert(session, id.clone());
        outbox.send(Outgoing::JoinAwaited);
        self.peers.insert(id, Peer::new(session, outbox, worker, span));
        // Whatever is in the room already starts on its way while the client still asks for capabilities.
        self.reconcile_worker(worker);
    }

    fn on_join_due(&mut self, session: SessionId) {
        if let Some((id, peer)) = self.peer_of(session)
            && peer.joined.is_none()
        {
            let words = format!("no join within {} s", self.context.limits.join_within.as_secs());
            self.dismiss(&id, CloseReason::NotJoined, &words);
        }
    }

    fn ensure_router(&mut self, worker: WorkerIndex) {
        if self.routers.contains_key(&worker) {
            return;
        }
        let router = RouterId::from_random_bytes(rand::random());
        self.context.worker(worker).send(Request::CreateRouter { router });
        self.context.addresses.insert(Subject::Router(router), self.me.clone());
        self.routers.insert(worker, router);
    }

    /// Closes a peer on the room's own decision.
    pub(super) fn dismiss(&mut self, id: &PeerId, reason: CloseReason, words: &str) {
        if let Some(peer) = self.peers.get(id) {
            peer.outbox.send(Outgoing::Close(reason, words.to_owned()));
        }
        self.close_peer(id);
    }

    fn shutdown(&mut self) {
        let everybody: Vec<PeerId> = self.peers.keys().cloned().collect();
        for peer in everybody {
            self.dismiss(&peer, CloseReason::Shutdown, "the node stops");
        }
    }

    /// Waits for a worker's answer in the background.
    pub(super) fn later<F>(&mut self, answer: Answer, go_on: F)
    where
        F: FnOnce(&mut Self, Result<Response, RequestError>) + Send + 'static,
    {
        self.pending.push(Box::pin(async move {
            let result = answer.await;
            Box::new(move |room: &mut Self| go_on(room, result)) as Continuation
        }));
    }

    /// Does something after a while.
    pub(super) fn after<F>(&mut self, delay: Duration, go_on: F)
    where
        F: FnOnce(&mut Self) + Send + 'static,
    {
        self.pending.push(Box::pin(async move {
            sleep(delay).await;
            Box::new(go_on) as Continuation
        }));
    }

    /// The peer of a session, unless it has gone or been replaced.
    pub(super) fn peer_of(&mut self, session: SessionId) -> Option<(PeerId, &mut Peer)> {
        let id = self.sessions.get(&session)?.clone();
        let peer = self.peers.get_mut(&id)?;
        Some((id, peer))
    }

    pub(super) fn reply(&mut self, session: SessionId, id: u32, result: Result<PeerReply, Refusal>) {
        let counters = &self.context.counters;
        count(if result.is_ok() { &counters.requests_ok } else { &counters.requests_failed });
        if let Some((_, peer)) = self.peer_of(session) {
            peer.outbox.send(Outgoing::Reply { id, result });
        }
    }

    /// Tells every joined peer but one.
    pub(super) fn tell_others(&self, but: Option<&PeerId>, notice: &Notice) {
        for (id, peer) in &self.peers {
            if peer.joined.is_some() && Some(id) != but {
                peer.outbox.notify(notice.clone());
            }
        }
    }

    /// The trace of a join that is still going on, or was until just now.
    pub(super) fn recent_join(&self) -> Option<&str> {
        self.latest_join.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(trace, _)| trace.as_str())
    }

    /// Workers that a peer is on.
    pub(super) fn workers(&self) -> HashSet<WorkerIndex> {
        self.routers.keys().copied().collect()
    }
}
