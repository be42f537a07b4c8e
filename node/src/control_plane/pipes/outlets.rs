//! Producers that go out: other nodes' subscriptions.

use std::collections::HashMap;

use sluice_proto::ids::{ProducerId, RoomKey, RouteEpoch, RouteId};
use sluice_proto::pipe::{PipeBody, PipeMessage, RouteCloseReason};
use tracing::Instrument;

use super::{Ends, Pipes};
use crate::control_plane::ports::Answer;
use crate::control_plane::rooms::context::lock;
use crate::control_plane::telemetry::set_parent;
use crate::data_plane::messages::{LinkKey, PipeEnd, Request, RequestError, WorkerIndex};

#[derive(Default)]
pub(super) struct Outlets {
    limit: usize,
    published: HashMap<ProducerId, Published>,
    routes: HashMap<(LinkKey, RouteId), Outlet>,
}

struct Published {
    room: RoomKey,
    worker: WorkerIndex,
}

struct Outlet {
    epoch: RouteEpoch,
    producer: ProducerId,
    worker: WorkerIndex,
}

/// A pipe consumer that its worker is making.
pub(super) struct Creation {
    link: LinkKey,
    route: RouteId,
    epoch: RouteEpoch,
    answer: Answer,
    span: tracing::Span,
}

impl Outlets {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn publish(&mut self, producer: ProducerId, room: RoomKey, worker: WorkerIndex) {
        self.published.insert(producer, Published { room, worker });
    }

    pub(super) fn unpublish(&mut self, producer: ProducerId) {
        self.published.remove(&producer);
        self.routes.retain(|_, outlet| outlet.producer != producer);
    }

    pub(super) fn close_room(&mut self, room: &RoomKey) {
        let of_it = self.published.iter().filter(|(_, published)| published.room == *room).map(|(id, _)| *id);
        for producer in of_it.collect::<Vec<_>>() {
            self.unpublish(producer);
        }
    }

    /// Serves a subscription, or refuses it.
    pub(super) fn subscribe(&mut self, ends: &Ends, link: LinkKey, message: PipeMessage) -> Option<Creation> {
        let (route, epoch) = (RouteId(message.route), RouteEpoch(message.epoch));
        let PipeBody::Subscribe { producer, namespace, room, wanted, traceparent } = message.body else { return None };
        let producer = ProducerId::from_bytes(producer);
        let span = tracing::info_span!("subscribe", %producer, namespace, room, link = link.0);
        if let Some(traceparent) = traceparent {
            set_parent(&span, &traceparent);
        }
        let _entered = span.enter();
        let worker = match self.check(producer, &namespace, &room) {
            Ok(worker) => worker,
            Err(reason) => {
                tracing::info!(?reason, "subscription refused");
                ends.mesh.send_message(link, closed(route, epoch, reason));
                return None;
            }
        };
        let to = PipeEnd::Node(link);
        match self.routes.get(&(link, route)) {
            Some(outlet) if outlet.epoch == epoch && outlet.producer == producer => {
                let body = PipeBody::LayersWanted(wanted);
                ends.worker(worker).pipe(to, PipeMessage { route: route.0, epoch: epoch.0, body });
                return None;
            }
            Some(_) => self.close(ends, link, route),
            None if self.routes.len() >= self.limit => {
                ends.mesh.send_message(link, closed(route, epoch, RouteCloseReason::Limit));
                return None;
            }
            None => {}
        }
        self.routes.insert((link, route), Outlet { epoch, producer, worker });
        let answer = ends.worker(worker).request(Request::CreatePipeConsumer { producer, to, route, epoch, wanted });
        Some(Creation { link, route, epoch, answer, span: span.clone() })
    }

    pub(super) fn unsubscribe(&mut self, ends: &Ends, link: LinkKey, message: &PipeMessage) {
        let route = RouteId(message.route);
        if self.routes.get(&(link, route)).is_some_and(|outlet| outlet.epoch.0 == message.epoch) {
            self.close(ends, link, route);
        }
    }

    /// Hands a message of the receiving end to the producer's worker.
    pub(super) fn forward(&mut self, ends: &Ends, link: LinkKey, message: PipeMessage) {
        let outlet = self.routes.get(&(link, RouteId(message.route)));
        if let Some(outlet) = outlet.filter(|outlet| outlet.epoch.0 == message.epoch) {
            ends.worker(outlet.worker).pipe(PipeEnd::Node(link), message);
        }
    }

    /// Ends what a node has subscribed to in one room.
    pub(super) fn forget(&mut self, ends: &Ends, room: &RoomKey, link: LinkKey) {
        let in_room = |producer| self.published.get(producer).is_some_and(|published| published.room == *room);
        let routes: Vec<RouteId> = {
            let routes = self.routes.iter().filter(|((of, _), outlet)| *of == link && in_room(&outlet.producer));
            routes.map(|((_, route), _)| *route).collect()
        };
        routes.into_iter().for_each(|route| self.close(ends, link, route));
    }

    /// Ends everything that goes to a node.
    pub(super) fn link_void(&mut self, ends: &Ends, link: LinkKey) {
        let routes: Vec<RouteId> = self.routes.keys().filter(|(of, _)| *of == link).map(|(_, route)| *route).collect();
        routes.into_iter().for_each(|route| self.close(ends, link, route));
    }

    /// Routes out of this node.
    pub(super) fn routes(&self) -> u64 {
        self.routes.len() as u64
    }

    /// The worker of a producer that may be subscribed to.
    fn check(&self, producer: ProducerId, namespace: &str, room: &str) -> Result<WorkerIndex, RouteCloseReason> {
        let published = self.published.get(&producer).ok_or(RouteCloseReason::ProducerGone)?;
        if published.room.namespace.as_str() != namespace || published.room.room.as_str() != room {
            return Err(RouteCloseReason::WrongRoom);
        }
        Ok(published.worker)
    }

    fn close(&mut self, ends: &Ends, link: LinkKey, route: RouteId) {
        if let Some(outlet) = self.routes.remove(&(link, route)) {
            let request = Request::ClosePipeConsumer { to: PipeEnd::Node(link), route, epoch: outlet.epoch };
            ends.worker(outlet.worker).send(request);
        }
    }

    /// The worker could not make the pipe consumer.
    fn failed(&mut self, ends: &Ends, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        if self.routes.get(&(link, route)).is_some_and(|outlet| outlet.epoch == epoch) {
            self.routes.remove(&(link, route));
            ends.mesh.send_message(link, closed(route, epoch, RouteCloseReason::ProducerGone));
        }
    }
}

impl Creation {
    /// Waits for the worker; a failure is told to the subscriber.
    pub(super) async fn finish(self, pipes: &Pipes) {
        let Self { link, route, epoch, answer, span } = self;
        match answer.instrument(span.clone()).await {
            Ok(_) | Err(RequestError::AlreadyExists(_)) => {}
            Err(error) => {
                span.in_scope(|| tracing::warn!(%error, "a pipe consumer could not be made"));
                lock(&pipes.inner.tables).outlets.failed(&pipes.inner.ends, link, route, epoch);
            }
        }
    }
}

fn closed(route: RouteId, epoch: RouteEpoch, reason: RouteCloseReason) -> PipeMessage {
    PipeMessage { route: route.0, epoch: epoch.0, body: PipeBody::RouteClosed(reason) }
}
