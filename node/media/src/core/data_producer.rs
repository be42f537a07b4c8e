//! A data producer: messages of one publisher, numbered from 0, and everybody on this worker who gets them.

use std::time::{Duration, Instant};

use sluice_proto::ids::{ProducerId, RouteEpoch, RouteId};
use sluice_proto::ortc::SctpStreamParameters;

use crate::core::data_consumer::is_reliable;
use crate::core::data_log::{DataLog, KEPT_TIME, Message};
use crate::core::pipe_data_consumer::PipeDataConsumer;
use crate::core::pipe_data_origin::PipeDataOrigin;
use crate::core::timers::{Timer, TimerKey, Timers};
use crate::io::Output;
use crate::keys::{DataConsumerKey, DataProducerKey, RouterKey};
use crate::messages::{DataStats, PipeEnd};
use crate::transport::demux::TransportKey;

/// What is too old is looked for so often if no messages come.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// A data producer that is younger keeps its messages for routes that are yet to come: other nodes hear of it only now,
/// and nobody who was there is to miss what it said first.
const YOUNG: Duration = Duration::from_secs(5);

/// Where a data producer's messages come from.
#[derive(Debug)]
pub(crate) enum DataOrigin {
    /// A user sends them, on a stream of this transport.
    User(TransportKey),
    /// They come by a route.
    Pipe(PipeDataOrigin),
    /// Requests say them.
    Direct,
}

/// A data producer.
#[derive(Debug)]
pub(crate) struct DataProducer {
    id: ProducerId,
    router: RouterKey,
    origin: DataOrigin,
    stream: SctpStreamParameters,
    consumers: Vec<DataConsumerKey>,
    /// The beginnings of its routes.
    routes: Vec<PipeDataConsumer>,
    log: DataLog,
    /// Whoever gets a route before this gets all that is kept.
    young_until: Option<Instant>,
    /// Until when messages are kept though there is no route: one may have broken, and another take its place.
    kept_until: Option<Instant>,
    stats: DataStats,
    timer: Timer,
}

impl DataProducer {
    /// One that sent nothing yet.
    pub(crate) fn new(
        now: Instant,
        id: ProducerId,
        router: RouterKey,
        origin: DataOrigin,
        stream: SctpStreamParameters,
    ) -> Self {
        // One that comes by a route began where that begins.
        let young_until = (!matches!(origin, DataOrigin::Pipe(_))).then(|| now + YOUNG);
        Self {
            id,
            router,
            origin,
            stream,
            consumers: Vec::new(),
            routes: Vec::new(),
            log: DataLog::default(),
            young_until,
            kept_until: young_until,
            stats: DataStats::default(),
            timer: Timer::default(),
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> ProducerId {
        self.id
    }

    /// The room's media on this worker.
    pub(crate) fn router(&self) -> RouterKey {
        self.router
    }

    /// Where its messages come from.
    pub(crate) fn origin(&self) -> &DataOrigin {
        &self.origin
    }

    /// The same, if they come by a route.
    pub(crate) fn pipe_origin(&mut self) -> Option<&mut PipeDataOrigin> {
        match &mut self.origin {
            DataOrigin::Pipe(origin) => Some(origin),
            DataOrigin::User(_) | DataOrigin::Direct => None,
        }
    }

    /// The stream that its client sends on.
    pub(crate) fn stream_id(&self) -> u16 {
        self.stream.stream_id
    }

    /// Whether nothing is lost between its publisher and here.
    pub(crate) fn is_reliable(&self) -> bool {
        is_reliable(&self.stream)
    }

    /// Who gets its messages here.
    pub(crate) fn consumers(&self) -> &[DataConsumerKey] {
        &self.consumers
    }

    /// Somebody gets its messages from now on.
    pub(crate) fn add_consumer(&mut self, key: DataConsumerKey) {
        self.consumers.push(key);
    }

    /// Somebody gets them no more.
    pub(crate) fn remove_consumer(&mut self, key: DataConsumerKey) {
        self.consumers.retain(|other| *other != key);
    }

    /// The beginnings of its routes.
    pub(crate) fn routes(&self) -> &[PipeDataConsumer] {
        &self.routes
    }

    /// A route begins.
    pub(crate) fn open_route(&mut self, now: Instant, to: PipeEnd, route: (RouteId, RouteEpoch)) {
        let is_young = self.young_until.is_some_and(|at| now < at);
        let next = if is_young { self.log.oldest() } else { self.log.next() };
        self.routes.push(PipeDataConsumer::new(now, to, route, next));
    }

    /// Whether a route begins here, in this use of it.
    pub(crate) fn has_route(&self, to: PipeEnd, route: RouteId, epoch: RouteEpoch) -> bool {
        self.routes.iter().any(|other| other.route() == (to, route) && other.epoch() == epoch)
    }

    /// A route ends.
    pub(crate) fn close_route(&mut self, now: Instant, to: PipeEnd, route: RouteId) {
        self.routes.retain(|other| other.route() != (to, route));
        self.kept_until = Some(now + KEPT_TIME);
    }

    /// The other end of a route says what came, see [`PipeDataConsumer::hear_received`].
    pub(crate) fn hear_received(
        &mut self,
        now: Instant,
        (to, route): (PipeEnd, RouteId),
        received: (u64, Option<u32>),
    ) {
        let is_reliable = self.is_reliable();
        let Self { routes, log, .. } = self;
        if let Some(found) = routes.iter_mut().find(|other| other.route() == (to, route)) {
            found.hear_received(now, received, log, is_reliable);
        }
    }

    /// A message came, under a number that its routes count by if it has come by one.
    pub(crate) fn push(&mut self, now: Instant, number: Option<u64>, message: Message) {
        self.stats.messages += 1;
        self.stats.bytes += message.payload.len() as u64;
        if let Some(number) = number.filter(|number| *number != self.log.next()) {
            self.log.jump(number);
        }
        let is_kept = self.is_reliable() && self.kept_until.is_some_and(|at| now < at);
        if is_kept || !self.routes.is_empty() {
            self.log.push(now, message);
        } else {
            self.log.jump(self.log.next() + 1);
        }
    }

    /// Says all that there is to say to the other ends of routes, and sends what they may get. Returns how many
    /// messages of an unreliable producer found no room.
    pub(crate) fn serve_routes(&mut self, now: Instant, out: &mut impl Extend<Output>) -> u64 {
        let is_reliable = self.is_reliable();
        let Self { origin, routes, log, .. } = self;
        if let DataOrigin::Pipe(origin) = origin {
            let said = std::iter::from_fn(|| origin.poll_feedback(now));
            out.extend(said.map(|(to, feedback)| Output::Feedback { to, feedback }));
        }
        log.forget_old(now);
        for route in routes.iter_mut() {
            out.extend(std::iter::from_fn(|| route.poll(now, log)));
        }
        if is_reliable {
            return 0;
        }
        let (next, mut dropped) = (log.next(), 0);
        for route in routes {
            dropped += route.skip_to(next);
        }
        log.clear();
        self.stats.dropped += dropped;
        dropped
    }

    /// Whether its publisher is to wait, because the other end of a route takes less than comes.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_reliable() && self.routes.iter().any(|route| route.is_clogged(&self.log))
    }

    /// What was between was lost: the next message has this number.
    pub(crate) fn lose_until(&mut self, next: u64) {
        self.log.jump(next);
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self) -> DataStats {
        let buffered = self.routes.iter().map(|route| route.unacknowledged(&self.log) as u64).max();
        DataStats { buffered: buffered.unwrap_or_default(), ..self.stats }
    }

    /// Wakes it when it has something to say, or something kept is too old.
    pub(crate) fn arm(&mut self, key: DataProducerKey, timers: &mut Timers) {
        let origin = match &self.origin {
            DataOrigin::Pipe(origin) => origin.poll_timeout(),
            DataOrigin::User(_) | DataOrigin::Direct => None,
        };
        let routes = self.routes.iter().filter_map(PipeDataConsumer::poll_timeout).min();
        let expires_at = self.log.expires_at().map(|at| at + EXPIRY_INTERVAL);
        let at = [origin, routes, expires_at].into_iter().flatten().min();
        timers.arm(&mut self.timer, TimerKey::DataProducer(key), at);
    }

    /// Whether it waits for this time.
    pub(crate) fn fire(&mut self, at: Instant) -> bool {
        self.timer.fire(at)
    }
}
