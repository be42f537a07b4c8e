//! A room: the one task that decides everything about the peers that a node has in it.
//!
//! The task never waits: a worker's answer comes back as a [`Continuation`], so that one slow answer delays one request
//! and nobody else's.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use sluice_media::messages::{Request, RequestError, Response, WorkerEvent, WorkerIndex};
use sluice_placement::RosterEvent;
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, RoomKey, RouterId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::Span;

use super::Guest;
use super::admission::Lateness;
use super::api::{CloseReason, PeerReply, PeerRequest, PeersPage, Refusal};
use super::context::{Context, Listener, RoomSender, Subject};
use super::elsewhere::Elsewhere;
use super::imposed::Impositions;
use super::join::{Claim, Probed};
use super::media::{Consumer, Producer};
use super::operations::Operation;
use super::overview::RoomOverview;
use super::pace::Pace;
use super::peer::Peers;
use super::seat::Desk;
use super::server_data::ServerChannel;
use super::speakers::Speakers;
use super::traces::Paths;
use super::view::View;
use crate::events::RoomEvents;
use crate::ports::{Answer, RosterPublisher};
use crate::support::count;

/// Of many, for so many something is done before the mailbox is served again: a millisecond or two of the dearest.
pub(super) const SLICE: usize = 64;

/// Peers that went are remembered until every client has been told; so many of them are not worth looking for that.
const REMEMBERED: usize = 256;

/// One WebSocket, from open to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// What a room is told.
#[derive(Debug)]
pub(crate) enum RoomMessage {
    /// A client opened its WebSocket.
    Open(Box<Opened>),
    /// A client wants something.
    Request { session: SessionId, request: PeerRequest, reply: Reply },
    /// A client has set a consumer up, or will not.
    ConsumerAnswered { session: SessionId, consumer: ConsumerId, accepted: bool },
    /// A client has had its time to join, which it has used or not.
    JoinDue { session: SessionId },
    /// Nobody reads at a desk any more: its client left. Whose it was is looked at when this is heard: the client may
    /// have gone on at another meanwhile.
    Left(Arc<Desk>),
    /// The same, because a connection broke; its client may come back.
    Broken(Arc<Desk>),
    /// A worker tells of something in this room.
    Worker(WorkerEvent),
    /// Rights may have ended.
    Reauthorise,
    /// Somebody looks at `/v1/rooms`.
    Overview(oneshot::Sender<RoomOverview>),
    /// An operator looks at who is in it, from after a peer on, and at most so many.
    Peers { after: Option<PeerId>, limit: Option<usize>, reply: oneshot::Sender<PeersPage> },
    /// An operator or a tenant's server wants something done.
    Operate { operation: Operation, reply: oneshot::Sender<Result<(), Refusal>> },
    /// An operator looks at what happens to a peer's packets.
    Paths { peer: PeerId, reply: oneshot::Sender<Result<Paths, Refusal>> },
    /// The node stops: the peers are sent away within this time.
    Shutdown(Duration),
}

/// A session that wants to be a peer of the room.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    /// When.
    pub(crate) came: Instant,
    /// Where it is noted how long it waited.
    pub(super) wait: Arc<Lateness>,
    pub(crate) guest: Guest,
    /// Where its client reads what it is told.
    pub(crate) desk: Arc<Desk>,
    /// The span of the join, from WebSocket to the answer.
    pub(crate) span: Span,
}

/// Why a room ends.
pub(crate) enum Retirement<'a> {
    /// It has no peers; somebody may be on the way in this mailbox.
    Empty(&'a mpsc::Receiver<RoomMessage>),
    /// It panicked.
    Failed,
}

/// By which a request is answered.
pub(crate) type Reply = oneshot::Sender<Result<PeerReply, Refusal>>;

/// What is left to do once a worker has answered.
pub(super) type Continuation = Box<dyn FnOnce(&mut Room) + Send>;

/// A room's state on this node.
pub(crate) struct Room {
    pub(super) key: RoomKey,
    pub(super) context: Arc<Context>,
    /// The way into this room, for those who tell it of media.
    pub(super) me: RoomSender,
    /// Peers, and names that are wanted, of whom other nodes have not been told what is so now, or are about to be.
    pub(super) unpublished: BTreeSet<PeerId>,
    pub(super) publications: Pace,
    /// Peers of whom other nodes were told in short.
    pub(super) published_in_short: HashSet<PeerId>,
    /// `None` once the room has been left for good.
    pub(super) publisher: Option<Box<dyn RosterPublisher>>,
    pub(super) peers: Peers,
    /// What operators decided of peers.
    pub(super) imposed: Impositions,
    /// Peers of this node that are on the stage.
    pub(super) stage: HashSet<PeerId>,
    /// Those of whom clients are not told.
    pub(super) hidden: HashSet<PeerId>,
    /// There may be more in the room than there were, or fewer.
    pub(super) census_due: bool,
    /// They are about to be counted.
    pub(super) counting: bool,
    /// It is about to be looked whether tokens have expired.
    pub(super) watches_tokens: bool,
    /// Sessions that want the name of a peer of another node.
    pub(super) claims: HashMap<SessionId, Claim>,
    /// Sessions that are asked for a sign of life, and who waits for it.
    pub(super) probes: HashMap<SessionId, Vec<Probed>>,
    /// The room's router on each worker that a peer is on.
    pub(super) routers: HashMap<WorkerIndex, Router>,
    /// A router without peers waits until nothing enters the node through it.
    pub(super) spare_routers: bool,
    /// Something that entered the node has ended since spare routers were looked at.
    pub(super) entry_ended: bool,
    /// Every producer of the room, wherever it lives.
    pub(super) producers: HashMap<ProducerId, Producer>,
    /// Producers that workers are asked for, and that have not ended since.
    pub(super) making: HashSet<ProducerId>,
    pub(super) consumers: HashMap<ConsumerId, Consumer>,
    pub(super) elsewhere: Elsewhere,
    /// What it says is about to be looked at further.
    pub(super) refreshing: bool,
    /// What all peers are told.
    pub(super) view: Arc<View>,
    announcements: Pace,
    /// What is elsewhere is known, or has been waited for long enough. Until then nobody knows whether a name is free.
    pub(super) others_known: bool,
    pub(super) speakers: Speakers,
    /// Data producers by which the tenant's server sends.
    pub(super) server_channels: HashMap<ServerChannel, ProducerId>,
    /// The trace of the latest join, and until when what happens may be its doing.
    pub(super) latest_join: Option<(String, Instant)>,
    /// What happens here is told there.
    pub(super) events: RoomEvents,
    pub(super) pending: FuturesUnordered<Pin<Box<dyn Future<Output = Continuation> + Send>>>,
}

/// The room's router on a worker.
pub(super) struct Router {
    pub(super) id: RouterId,
    _listener: Listener,
}

/// What a room has to do next.
enum Step {
    Message(RoomMessage),
    Roster(RosterEvent),
    Continue(Continuation),
}

impl Room {
    pub(crate) fn new(
        key: RoomKey,
        context: Arc<Context>,
        (me, view): (RoomSender, Arc<View>),
        publisher: Box<dyn RosterPublisher>,
    ) -> Self {
        let elsewhere = Elsewhere::new(context.instance.clone());
        let events = context.events.room(&key);
        Self {
            key,
            context,
            me,
            unpublished: BTreeSet::new(),
            publications: Pace::default(),
            published_in_short: HashSet::new(),
            publisher: Some(publisher),
            peers: Peers::default(),
            imposed: Impositions::default(),
            stage: HashSet::new(),
            hidden: HashSet::new(),
            census_due: false,
            counting: false,
            watches_tokens: false,
            claims: HashMap::new(),
            probes: HashMap::new(),
            routers: HashMap::new(),
            spare_routers: false,
            entry_ended: false,
            producers: HashMap::new(),
            making: HashSet::new(),
            consumers: HashMap::new(),
            elsewhere,
            refreshing: false,
            view,
            announcements: Pace::default(),
            others_known: false,
            speakers: Speakers::default(),
            server_channels: HashMap::new(),
            latest_join: None,
            events,
            pending: FuturesUnordered::new(),
        }
    }

    /// Runs until `retire` says that nobody can enter any more. It is asked whenever the room is empty, with the
    /// mailbox so that it can see whether somebody is on the way, and after a panic, when it has to agree.
    pub(crate) async fn run(
        mut self,
        mut mailbox: mpsc::Receiver<RoomMessage>,
        mut roster: mpsc::Receiver<RosterEvent>,
        mut retire: impl FnMut(Retirement<'_>, &mut Self) -> bool,
    ) {
        let working = self.work(&mut mailbox, &mut roster, &mut retire);
        // What a panic leaves behind is thrown away whole.
        if AssertUnwindSafe(working).catch_unwind().await.is_err() {
            tracing::error!(room = %self.key, "the room has failed: its peers are sent away and may come back");
            retire(Retirement::Failed, &mut self);
        }
    }

    async fn work(
        &mut self,
        mailbox: &mut mpsc::Receiver<RoomMessage>,
        roster: &mut mpsc::Receiver<RosterEvent>,
        retire: &mut impl FnMut(Retirement<'_>, &mut Self) -> bool,
    ) {
        // A node that says nothing of its part gives its peers no sign of life either.
        self.after(self.context.limits.sign_of_life, Self::know_others);
        loop {
            let step = tokio::select! {
                Some(message) = mailbox.recv() => Step::Message(message),
                Some(event) = roster.recv() => Step::Roster(event),
                Some(go_on) = self.pending.next(), if !self.pending.is_empty() => Step::Continue(go_on),
            };
            let begun = Instant::now();
            self.take(step);
            self.context.timing.note_step(begun.elapsed());
            if self.peers.is_empty() && retire(Retirement::Empty(mailbox), self) {
                return;
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Message(message) => self.handle(message),
            Step::Roster(event) => self.on_roster_event(event),
            Step::Continue(go_on) => go_on(self),
        }
        while let Some(session) = self.peers.next_unserved() {
            self.dismiss(session, CloseReason::Overloaded, "the media worker is too busy");
        }
        if self.spare_routers && self.entry_ended {
            self.close_unused_routers();
        }
        self.publish_in_time();
        self.tell_census_in_time();
        self.announce();
        self.peers.complete();
    }

    /// Has sessions look at what is new for all, when it is time.
    fn announce(&mut self) {
        if !self.view.is_unannounced() {
            return;
        }
        self.tell_at(|room| &mut room.announcements, Self::announce_now);
    }

    fn announce_now(&mut self) {
        self.forget_the_told();
        self.view.announce();
    }

    /// What all have been told of needs no remembering.
    fn forget_the_told(&self) {
        if self.view.remembered() > REMEMBERED
            && let Some(oldest) = self.peers.told_by_all()
        {
            self.view.forget_until(oldest);
        }
    }

    /// Gives up what a room without peers has at placement and workers.
    pub(super) fn leave(&mut self) {
        self.publisher = None;
        for (worker, router) in self.routers.drain() {
            self.context.worker(worker).send(Request::CloseRouter { router: router.id });
        }
    }

    /// The same of a room in whatever state, and what it has at other nodes. What it has in tables of the node goes
    /// when it is dropped, and its sessions end for want of a room.
    pub(super) fn abandon(&mut self) {
        self.context.pipes.close_room(&self.key);
        // Their ends are told before those of their peers.
        self.producers.clear();
        self.leave();
    }

    fn handle(&mut self, message: RoomMessage) {
        match message {
            RoomMessage::Open(opened) => self.open(*opened),
            RoomMessage::Request { session, request, reply } => self.on_request(session, request, reply),
            RoomMessage::ConsumerAnswered { session, consumer, accepted } => {
                self.on_consumer_answered(session, consumer, accepted);
            }
            RoomMessage::JoinDue { session } => self.on_join_due(session),
            RoomMessage::Left(desk) => self.close_left(desk.session()),
            RoomMessage::Broken(desk) => self.on_broken(desk.session()),
            RoomMessage::Worker(event) => self.on_worker_event(event),
            RoomMessage::Reauthorise => self.reauthorise(),
            RoomMessage::Overview(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.overview());
            }
            RoomMessage::Peers { after, limit, reply } => {
                let _ = reply.send(self.page(after.as_ref(), limit, true));
            }
            RoomMessage::Operate { operation, reply } => self.on_operation(operation, reply),
            RoomMessage::Paths { peer, reply } => self.on_paths_asked(&peer, reply),
            RoomMessage::Shutdown(within) => self.shutdown(within),
        }
    }

    /// False if the worker cannot take it.
    pub(super) fn ensure_router(&mut self, worker: WorkerIndex) -> bool {
        if self.routers.contains_key(&worker) {
            return true;
        }
        let id = RouterId::from_random_bytes(rand::random());
        if self
            .context
            .worker(worker)
            .try_send(Request::CreateRouter { router: id, account: self.events.account() })
            .is_err()
        {
            return false;
        }
        let _listener = self.context.listen(Subject::Router(id), &self.me);
        self.routers.insert(worker, Router { id, _listener });
        true
    }

    /// Closes a session on the room's own decision.
    pub(super) fn dismiss(&mut self, session: SessionId, reason: CloseReason, words: &str) {
        if let Some(desk) = self.peers.desk(session) {
            desk.close(reason, words.to_owned());
        }
        self.close_peer(session, reason.into());
    }

    /// Not all at once, so that they do not come back all at once, to one place.
    fn shutdown(&mut self, within: Duration) {
        for session in self.peers.sessions() {
            self.after(within.mul_f64(rand::random()), move |room| {
                room.dismiss(session, CloseReason::Shutdown, "the node stops");
            });
        }
    }

    /// Does something for each of many, a slice at a time: what else comes is served in between, and some may have
    /// ended by then.
    pub(super) fn for_each<T, F>(&mut self, mut many: Vec<T>, mut act: F)
    where
        T: Send + 'static,
        F: FnMut(&mut Self, T) + Send + 'static,
    {
        let rest = many.split_off(many.len().min(SLICE));
        for one in many {
            act(self, one);
        }
        if !rest.is_empty() {
            self.soon(move |room| room.for_each(rest, act));
        }
    }

    /// Does something when what waits in the mailbox has been served.
    pub(super) fn soon<F>(&mut self, go_on: F)
    where
        F: FnOnce(&mut Self) + Send + 'static,
    {
        self.pending.push(Box::pin(async move {
            yield_now().await;
            Box::new(go_on) as Continuation
        }));
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

    /// `None` if somebody else answers.
    pub(super) fn reply(&self, reply: Option<Reply>, result: Result<PeerReply, Refusal>) {
        let Some(reply) = reply else { return };
        let counters = &self.context.counters;
        count(if result.is_ok() { &counters.requests_ok } else { &counters.requests_failed });
        // Whoever asked may have gone.
        let _ = reply.send(result);
    }

    /// The trace of a join that is still going on, or was until just now.
    pub(super) fn recent_join(&self) -> Option<&str> {
        self.latest_join.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(trace, _)| trace.as_str())
    }
}
