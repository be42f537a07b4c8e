//! A place in a room: all that a dialect holds of it. It asks, and reads what is news; dropping it is leaving.
//!
//! What is news is no queue: of each thing the latest state waits, until the client can take it. So a client that does
//! not read costs what it has, a bounded number of consumers and producers, and is told the truth whenever it reads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use sluice_media::messages::{ConsumerScores, EncodingScore};
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, RoomKey};
use sluice_proto::pipe::Layers;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, oneshot, watch};

use super::api::{
    Announcement, CloseReason, Downlink, NewConsumer, Notice, Others, PeerReply, PeerRequest, Received, Refusal,
};
use super::context::{Gauge, RoomSender};
use super::join::PeerSecret;
use super::room::{RoomMessage, SessionId};
use super::view::{Told, View};
use crate::support::lock;

/// The answer to a request, to be waited for. One that never comes is of a session that ends.
pub(crate) type Answer = oneshot::Receiver<Result<PeerReply, Refusal>>;

/// The room has ended.
#[derive(Debug)]
pub(crate) struct RoomEnded;

/// A place in a room.
pub(crate) struct Seat {
    key: RoomKey,
    peer: PeerId,
    room: RoomSender,
    desk: Arc<Desk>,
    view: Arc<View>,
    announced: watch::Receiver<u64>,
    is_broken: bool,
    _counted: Gauge,
}

/// What a client has to be told.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Consumers of the client that are no more, which it hears first.
    pub(crate) closed: Vec<Notice>,
    /// What everybody in the room is told, after that.
    pub(crate) announcements: Vec<Arc<Announcement>>,
    /// What else only this client is told, after that.
    pub(crate) notices: Vec<Notice>,
    /// What it is asked, at last.
    pub(crate) questions: Vec<NewConsumer>,
    /// It is the client's turn to join, within [`crate::config::LimitsConfig::join_within_ms`] from now on.
    pub(crate) join_awaited: bool,
    /// Whatever is heard of the client from now on is a sign of life.
    pub(crate) probes: Vec<oneshot::Sender<()>>,
    /// The room ends the session.
    pub(crate) close: Option<(CloseReason, String)>,
    /// What becomes of a client that wants to go on, which it hears before everything else.
    pub(crate) resumption: Option<Resumption>,
}

/// What becomes of a client that wants to go on after its connection broke.
#[derive(Debug)]
pub(crate) enum Resumption {
    Resumed(Box<Resumed>),
    /// There is nothing to go on with: it has to join.
    Refused,
}

/// What a client has that goes on: all of it, since what it was told at last may not have reached it.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) others: Others,
    pub(crate) producers: Vec<OwnProducer>,
    /// Those that it has set up, and whether their producers are paused.
    pub(crate) consumers: Vec<(ConsumerId, bool)>,
    pub(crate) data_producers: Vec<ProducerId>,
    pub(crate) data_consumers: Vec<ConsumerId>,
    /// What the client shows the next time.
    pub(crate) secret: PeerSecret,
}

/// A producer of the client itself.
#[derive(Debug, Serialize)]
pub(crate) struct OwnProducer {
    pub(crate) id: ProducerId,
    /// Nobody receives it.
    pub(crate) paused: bool,
    /// Nor may the client resume it.
    pub(crate) muted: bool,
}

impl Seat {
    pub(super) fn new(
        (key, peer): (RoomKey, PeerId),
        (room, view): (RoomSender, Arc<View>),
        desk: Arc<Desk>,
        counted: Gauge,
    ) -> Self {
        let announced = view.announced();
        Self { key, peer, room, desk, view, announced, is_broken: false, _counted: counted }
    }

    /// The room that it is in.
    pub(crate) fn room(&self) -> &RoomKey {
        &self.key
    }

    /// Whose it is.
    pub(crate) fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// Asks the room for something, once it has place for that.
    pub(crate) async fn ask(&self, request: PeerRequest) -> Result<Answer, RoomEnded> {
        let (reply, answer) = oneshot::channel();
        self.tell(RoomMessage::Request { session: self.desk.session(), request, reply }).await?;
        Ok(answer)
    }

    /// The client has set a consumer up, or will not.
    pub(crate) async fn answer(&self, consumer: ConsumerId, accepted: bool) -> Result<(), RoomEnded> {
        self.tell(RoomMessage::ConsumerAnswered { session: self.desk.session(), consumer, accepted }).await
    }

    /// The client has had its time to join, which it has used or not: the room knows whether the client is late or the
    /// room itself.
    pub(crate) async fn join_due(&self) -> Result<(), RoomEnded> {
        self.tell(RoomMessage::JoinDue { session: self.desk.session() }).await
    }

    /// The connection broke: the client has a while to come back and go on.
    pub(crate) fn break_off(mut self) {
        self.is_broken = true;
    }

    /// The session ends because nothing is heard of the client.
    pub(crate) fn set_silent(&self) {
        self.desk.silent.store(true, Ordering::Relaxed);
    }

    async fn tell(&self, message: RoomMessage) -> Result<(), RoomEnded> {
        self.room.send(message).await.map_err(|_| RoomEnded)
    }

    /// Waits until there is something to be told. Nothing is lost when this is dropped. To be asked for when the client
    /// has taken what it was told before, and after that for the answers that have come: these it hears first.
    pub(crate) async fn news(&self) -> Result<News, RoomEnded> {
        let mut announced = self.announced.clone();
        loop {
            let written = self.desk.written.notified();
            announced.borrow_and_update();
            if let Some(news) = self.desk.take(&self.view, &self.peer)? {
                return Ok(news);
            }
            tokio::select! {
                () = written => {}
                // The view lives as long as this does.
                _ = announced.changed() => {}
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let desk = Arc::clone(&self.desk);
        let left = match self.is_broken {
            true => RoomMessage::Broken(desk),
            false => {
                self.desk.left.store(true, Ordering::Relaxed);
                RoomMessage::Left(desk)
            }
        };
        // A room that has ended needs no telling; one that is busy is told by a task of its own.
        if let (Err(TrySendError::Full(left)), Ok(runtime)) = (self.room.try_send(left), Handle::try_current()) {
            let room = self.room.clone();
            runtime.spawn(async move { room.send(left).await });
        }
    }
}

/// Where a room puts what one client has to be told.
#[derive(Debug)]
pub(crate) struct Desk {
    /// For which session its client speaks.
    session: AtomicU64,
    state: Mutex<DeskState>,
    written: Notify,
    /// Nobody reads it any more.
    left: AtomicBool,
    /// Its client had been silent for too long.
    silent: AtomicBool,
}

#[derive(Debug, Default)]
struct DeskState {
    /// What the client knows of the view, once it has joined.
    told: Option<Told>,
    consumers: HashMap<ConsumerId, ConsumerView>,
    /// Consumers that the client has to be asked to set up.
    questions: VecDeque<ConsumerId>,
    /// Consumers that are not what the client was told.
    changed: Vec<ConsumerId>,
    /// Of consumers that the client has, and that are no more.
    closed: Vec<Notice>,
    /// Scores that the client was not told.
    producer_scores: BTreeMap<ProducerId, Vec<EncodingScore>>,
    /// Which encodings of producers of the client are received by anybody, and whether it was told.
    encodings_wanted: BTreeMap<ProducerId, (Vec<bool>, bool)>,
    /// How much passes to the client, of which it was not told.
    downlink: Option<Downlink>,
    /// Producers of the client that were muted, or may be resumed again, of which it was not told.
    muted: BTreeMap<ProducerId, bool>,
    /// Producers of the client that the room ended, of which it was not told.
    ended: BTreeSet<ProducerId>,
    join_awaited: bool,
    probes: Vec<oneshot::Sender<()>>,
    close: Option<(CloseReason, String)>,
    resumption: Option<Resumption>,
    /// The room has more to write.
    incomplete: bool,
    /// The room puts nothing here any more.
    abandoned: bool,
}

/// A consumer as it is, and as its client was told.
#[derive(Debug)]
struct ConsumerView {
    producer: ProducerId,
    is_data: bool,
    progress: Progress,
    now: Telling,
    told: Telling,
    /// It is in the list of those that changed.
    is_listed: bool,
}

/// How far a client is with a consumer.
#[derive(Debug)]
enum Progress {
    ToAsk(Box<NewConsumer>),
    Asked,
    Ready,
    /// It ended before the client had answered.
    ClosedUnanswered,
}

/// What a client is told of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Telling {
    paused: bool,
    scores: Option<ConsumerScores>,
    /// `None` inside if none are sent.
    layers: Option<Option<Layers>>,
}

impl Desk {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session: AtomicU64::new(session.0),
            state: Mutex::default(),
            written: Notify::new(),
            left: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        }
    }

    pub(super) fn session(&self) -> SessionId {
        SessionId(self.session.load(Ordering::Relaxed))
    }

    /// The client reads on at another desk, for the same session. What it was told here it may not have heard, so it is
    /// told there of all that it has; `question` asks it again for a consumer that it has not set up. The session of
    /// this desk ends.
    pub(super) fn hand_over(
        &self,
        to: &Self,
        told: Told,
        question: impl Fn(ConsumerId) -> Option<NewConsumer>,
        resumed: impl FnOnce(Vec<(ConsumerId, bool)>, Vec<ConsumerId>) -> Resumed,
    ) {
        let before = std::mem::take(&mut *lock(&self.state));
        to.write(|state| {
            state.told = Some(told);
            let wanted = before.encodings_wanted.into_iter().map(|(producer, (wanted, _))| (producer, (wanted, false)));
            state.encodings_wanted = wanted.collect();
            for (id, mut view) in before.consumers {
                view.is_listed = false;
                view.told = Telling { scores: None, layers: None, ..view.now };
                match view.progress {
                    Progress::Ready => {}
                    Progress::ToAsk(_) | Progress::Asked => {
                        let Some(question) = question(id) else { continue };
                        view.progress = Progress::ToAsk(Box::new(question));
                        state.questions.push_back(id);
                    }
                    Progress::ClosedUnanswered => continue,
                }
                state.consumers.insert(id, view);
            }
            let ready = state.consumers.iter().filter(|(_, view)| matches!(view.progress, Progress::Ready));
            let (data, media): (Vec<_>, Vec<_>) = ready.partition(|(_, view)| view.is_data);
            let media = media.into_iter().map(|(id, view)| (*id, view.now.paused)).collect();
            let data = data.into_iter().map(|(id, _)| *id).collect();
            state.resumption = Some(Resumption::Resumed(Box::new(resumed(media, data))));
        });
        self.session.store(to.session.swap(self.session().0, Ordering::Relaxed), Ordering::Relaxed);
        self.close(CloseReason::Replaced, "the client goes on over another connection".to_owned());
        self.abandon();
    }

    /// There is nothing to go on with: the client has to join.
    pub(super) fn refuse_to_resume(&self) {
        self.write(|state| state.resumption = Some(Resumption::Refused));
    }

    /// Whether nobody reads it any more: the client's session has ended.
    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether its client had been silent for too long.
    pub(super) fn was_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// What is written is not read before the room says that it is complete: clients negotiate once for what they are
    /// told at once.
    fn write(&self, change: impl FnOnce(&mut DeskState)) {
        let state = &mut *lock(&self.state);
        state.incomplete = true;
        change(state);
    }

    /// What was written is complete: has the session read it.
    pub(super) fn complete(&self) {
        lock(&self.state).incomplete = false;
        self.written.notify_one();
    }

    /// The client has been told of this, and is told of changes from now on.
    pub(super) fn follow(&self, told: Told) {
        self.write(|state| state.told = Some(told));
    }

    /// The version of the view that the client knows, if it follows it.
    pub(super) fn told(&self) -> Option<u64> {
        lock(&self.state).told.map(|told| told.version)
    }

    /// Asks the client to set a consumer up.
    pub(super) fn ask(&self, question: NewConsumer) {
        self.write(|state| {
            let id = question.id;
            let (is_data, scores) = match &question.content {
                Received::Media(media) => (false, Some(media.scores)),
                Received::Data { .. } => (true, None),
            };
            let now = Telling { paused: question.producer_paused, scores, layers: None };
            let (producer, told) = (question.producer, Telling { scores: None, ..now });
            let progress = Progress::ToAsk(Box::new(question));
            state.consumers.insert(id, ConsumerView { producer, is_data, progress, now, told, is_listed: false });
            state.questions.push_back(id);
        });
    }

    /// How many consumers the client has or has still to answer for, those included that have ended meanwhile.
    pub(super) fn consumers(&self) -> usize {
        lock(&self.state).consumers.len()
    }

    /// A consumer's producer is paused or goes on.
    pub(super) fn set_paused(&self, consumer: ConsumerId, paused: bool) {
        self.write(|state| state.change(consumer, |now| now.paused = paused));
    }

    /// How a consumer and its producer fare.
    pub(super) fn set_scores(&self, consumer: ConsumerId, scores: ConsumerScores) {
        self.write(|state| state.change(consumer, |now| now.scores = Some(scores)));
    }

    /// A consumer is sent these layers, or none.
    pub(super) fn set_layers(&self, consumer: ConsumerId, layers: Option<Layers>) {
        self.write(|state| state.change(consumer, |now| now.layers = Some(layers)));
    }

    /// How much passes to the client.
    pub(super) fn set_downlink(&self, downlink: Downlink) {
        self.write(|state| state.downlink = Some(downlink));
    }

    /// A consumer is about to end: if its client was not asked to set it up yet, it is not asked any more.
    pub(super) fn withdraw(&self, consumer: ConsumerId) {
        let state = &mut *lock(&self.state);
        if state.consumers.get(&consumer).is_some_and(|view| matches!(view.progress, Progress::ToAsk(_))) {
            state.consumers.remove(&consumer);
            state.questions.retain(|asked| *asked != consumer);
        }
    }

    /// A consumer is no more.
    pub(super) fn close_consumer(&self, consumer: ConsumerId) {
        self.write(|state| {
            let Some(mut view) = state.consumers.remove(&consumer) else { return };
            match view.progress {
                Progress::ToAsk(_) => state.questions.retain(|asked| *asked != consumer),
                Progress::Asked => {
                    view.progress = Progress::ClosedUnanswered;
                    state.consumers.insert(consumer, view);
                }
                Progress::Ready => state.closed.push(view.closed(consumer)),
                Progress::ClosedUnanswered => {}
            }
        });
    }

    /// The client has set a consumer up, or will not. What changed while it did it had nothing to apply to.
    pub(super) fn answered(&self, consumer: ConsumerId, accepted: bool) {
        self.write(|state| {
            let Some(view) = state.consumers.get_mut(&consumer) else { return };
            match view.progress {
                Progress::Asked if accepted => {
                    view.progress = Progress::Ready;
                    state.change(consumer, |_| ());
                }
                Progress::ToAsk(_) | Progress::Ready => {}
                Progress::Asked | Progress::ClosedUnanswered => {
                    let closed = view.closed(consumer);
                    state.consumers.remove(&consumer);
                    state.closed.extend(accepted.then_some(closed));
                }
            }
        });
    }

    /// How the encodings of one of the client's producers fare.
    pub(super) fn set_producer_scores(&self, producer: ProducerId, scores: Vec<EncodingScore>) {
        self.write(|state| {
            state.producer_scores.insert(producer, scores);
        });
    }

    /// Which encodings of one of the client's producers anybody receives.
    pub(super) fn set_encodings_wanted(&self, producer: ProducerId, wanted: Vec<bool>) {
        self.write(|state| {
            state.encodings_wanted.insert(producer, (wanted, false));
        });
    }

    /// One of the client's producers was muted, or may be resumed again.
    pub(super) fn set_muted(&self, producer: ProducerId, muted: bool) {
        self.write(|state| {
            state.muted.insert(producer, muted);
        });
    }

    /// The room ends one of the client's producers, which goes on itself.
    pub(super) fn end_producer(&self, producer: ProducerId) {
        self.write(|state| {
            state.ended.insert(producer);
        });
    }

    /// One of the client's producers is no more.
    pub(super) fn forget_producer(&self, producer: ProducerId) {
        self.write(|state| {
            state.producer_scores.remove(&producer);
            state.encodings_wanted.remove(&producer);
            state.muted.remove(&producer);
        });
    }

    /// It is the client's turn to join.
    pub(super) fn await_join(&self) {
        self.write(|state| state.join_awaited = true);
    }

    /// Asks for a sign of life of the client.
    pub(super) fn probe(&self, answer: oneshot::Sender<()>) {
        self.write(|state| state.probes.push(answer));
    }

    /// Ends the client's session.
    pub(super) fn close(&self, reason: CloseReason, words: String) {
        self.write(|state| {
            state.close.get_or_insert((reason, words));
        });
    }

    /// Nothing is put here any more. A session that was not ended ends now.
    pub(super) fn abandon(&self) {
        self.write(|state| state.abandoned = true);
        self.complete();
    }

    fn take(&self, view: &View, peer: &PeerId) -> Result<Option<News>, RoomEnded> {
        let state = &mut *lock(&self.state);
        if state.incomplete {
            return Ok(None);
        }
        let mut news = state.take();
        if let Some(told) = state.told {
            let (now, announcements) = view.since(told, peer);
            (state.told, news.announcements) = (Some(now), announcements);
        }
        match news.is_empty() {
            false => Ok(Some(news)),
            true if state.abandoned => Err(RoomEnded),
            true => Ok(None),
        }
    }
}

impl DeskState {
    fn change(&mut self, consumer: ConsumerId, change: impl FnOnce(&mut Telling)) {
        let Some(view) = self.consumers.get_mut(&consumer) else { return };
        change(&mut view.now);
        if matches!(view.progress, Progress::Ready) && view.now != view.told && !view.is_listed {
            view.is_listed = true;
            self.changed.push(consumer);
        }
    }

    /// One that takes the place of another waits until the client has been told of the end of that.
    fn take_questions(&mut self) -> Vec<NewConsumer> {
        if self.questions.is_empty() {
            return Vec::new();
        }
        let ending = self.consumers.values().filter(|view| matches!(view.progress, Progress::ClosedUnanswered));
        let ending: HashSet<ProducerId> = ending.map(|view| view.producer).collect();
        let mut questions = Vec::new();
        self.questions.retain(|id| {
            let Some(view) = self.consumers.get_mut(id) else { return false };
            let waits = ending.contains(&view.producer);
            questions.extend(if waits { None } else { view.ask() });
            waits
        });
        questions
    }

    fn take(&mut self) -> News {
        let mut notices = Vec::new();
        for id in self.changed.drain(..) {
            if let Some(view) = self.consumers.get_mut(&id) {
                view.is_listed = false;
                let told = std::mem::replace(&mut view.told, view.now);
                notices.extend(view.now.since(told, id));
            }
        }
        let scores = std::mem::take(&mut self.producer_scores).into_iter();
        notices.extend(scores.map(|(producer, scores)| Notice::ProducerScore { producer, scores }));
        for (producer, (wanted, is_told)) in &mut self.encodings_wanted {
            if !std::mem::replace(is_told, true) {
                notices.push(Notice::ProducerEncodingsWanted { producer: *producer, wanted: wanted.clone() });
            }
        }
        notices.extend(self.downlink.take().map(Notice::Downlink));
        let muted = std::mem::take(&mut self.muted).into_iter();
        notices.extend(muted.map(|(producer, muted)| match muted {
            true => Notice::ProducerPaused { producer },
            false => Notice::ProducerResumable { producer },
        }));
        let ended = std::mem::take(&mut self.ended).into_iter();
        notices.extend(ended.map(|producer| Notice::ProducerClosed { producer }));
        let questions = self.take_questions();
        News {
            closed: std::mem::take(&mut self.closed),
            announcements: Vec::new(),
            notices,
            questions,
            join_awaited: std::mem::take(&mut self.join_awaited),
            probes: std::mem::take(&mut self.probes),
            close: self.close.take(),
            resumption: self.resumption.take(),
        }
    }
}

impl ConsumerView {
    /// What its client is told of its end.
    fn closed(&self, consumer: ConsumerId) -> Notice {
        match self.is_data {
            true => Notice::DataConsumerClosed { consumer },
            false => Notice::ConsumerClosed { consumer },
        }
    }

    fn ask(&mut self) -> Option<NewConsumer> {
        match std::mem::replace(&mut self.progress, Progress::Asked) {
            Progress::ToAsk(question) => {
                self.told.paused = self.now.paused;
                Some(NewConsumer { producer_paused: self.now.paused, ..*question })
            }
            other => {
                self.progress = other;
                None
            }
        }
    }
}

impl Telling {
    fn since(self, told: Self, consumer: ConsumerId) -> impl Iterator<Item = Notice> {
        let paused = (self.paused != told.paused).then_some(match self.paused {
            true => Notice::ConsumerPaused { consumer },
            false => Notice::ConsumerResumed { consumer },
        });
        let scores = self.scores.filter(|_| self.scores != told.scores);
        let scores = scores.map(|scores| Notice::ConsumerScore { consumer, scores });
        let layers = self.layers.filter(|_| self.layers != told.layers);
        let layers = layers.map(|layers| Notice::ConsumerLayers { consumer, layers });
        paused.into_iter().chain(scores).chain(layers)
    }
}

impl News {
    fn is_empty(&self) -> bool {
        let Self { closed, announcements, notices, questions, join_awaited, probes, close, resumption } = self;
        closed.is_empty()
            && announcements.is_empty()
            && notices.is_empty()
            && questions.is_empty()
            && probes.is_empty()
            && !join_awaited
            && close.is_none()
            && resumption.is_none()
    }
}
