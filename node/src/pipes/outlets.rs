//! Producers that go out: other nodes' subscriptions.

use std::collections::{HashMap, HashSet};

use sluice_media::messages::{PipeEnd, Request, WorkerIndex};
use sluice_mesh::LinkKey;
use sluice_proto::ids::{ProducerId, RoomKey, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, RouteCloseReason, RouteControl};
use tracing::Instrument;

use super::{Ends, Pipes};
use crate::ports::Answer;
use crate::telemetry::set_parent;

#[derive(Default)]
pub(super) struct Outlets {
    limits: OutletLimits,
    published: HashMap<ProducerId, Published>,
    links: HashMap<LinkKey, HashMap<RouteId, Outlet>>,
    count: usize,
}

/// How many subscriptions of other nodes are served.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OutletLimits {
    /// Of all together.
    pub all: usize,
    /// Of one node.
    pub of_one_node: usize,
}

struct Published {
    room: RoomKey,
    worker: WorkerIndex,
    routes: HashSet<(LinkKey, RouteId)>,
}

struct Outlet {
    epoch: RouteEpoch,
    producer: ProducerId,
    worker: WorkerIndex,
}

/// A route that has ended at this end, of which the other one is to be told.
pub(super) struct Closed {
    pub(super) link: LinkKey,
    pub(super) route: RouteId,
    pub(super) epoch: RouteEpoch,
    pub(super) reason: RouteCloseReason,
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
    pub(super) fn new(limits: OutletLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn limits(&self) -> OutletLimits {
        self.limits
    }

    pub(super) fn publish(&mut self, producer: ProducerId, room: RoomKey, worker: WorkerIndex) {
        self.published.insert(producer, Published { room, worker, routes: HashSet::new() });
    }

    /// The producer's worker has been told, and its pipe consumers end with it.
    pub(super) fn unpublish(&mut self, ends: &Ends, producer: ProducerId) -> Vec<Closed> {
        let routes = self.published.remove(&producer).map(|published| published.routes).unwrap_or_default();
        let closed = routes.into_iter().filter_map(|(link, route)| {
            let Outlet { epoch, .. } = self.take(link, route)?;
            ends.mesh.close_route_out(link, route, epoch);
            Some(Closed { link, route, epoch, reason: RouteCloseReason::ProducerGone })
        });
        closed.collect()
    }

    pub(super) fn of_room(&self, room: &RoomKey) -> Vec<ProducerId> {
        let of_it = self.published.iter().filter(|(_, published)| published.room == *room);
        of_it.map(|(producer, _)| *producer).collect()
    }

    /// Serves a subscription, or refuses it.
    pub(super) fn subscribe(
        &mut self,
        ends: &mut Ends,
        link: LinkKey,
        message: RouteControl,
    ) -> Result<Creation, Closed> {
        let (route, epoch) = (RouteId(message.route), RouteEpoch(message.epoch));
        let refuse = |reason| Closed { link, route, epoch, reason };
        let ControlBody::Subscribe { producer, namespace, room, wanted, traceparent } = message.body else {
            return Err(refuse(RouteCloseReason::ProducerGone));
        };
        let producer = ProducerId::from_bytes(producer);
        let span = tracing::info_span!("subscribe", %producer, namespace, room, link = link.0);
        if let Some(traceparent) = traceparent {
            set_parent(&span, &traceparent);
        }
        let _entered = span.enter();
        // The subscriber gave up a former use of the route.
        self.close(ends, link, route);
        let worker = self.check(ends, link, producer, &namespace, &room).map_err(|reason| {
            tracing::info!(?reason, "subscription refused");
            refuse(reason)
        })?;
        let to = PipeEnd::Node(link);
        let request = Request::CreatePipeConsumer { producer, to, route, epoch, wanted };
        let answer = ends.workers.request(worker, request);
        ends.mesh.open_route_out(link, route, epoch, worker);
        self.links.entry(link).or_default().insert(route, Outlet { epoch, producer, worker });
        self.count += 1;
        if let Some(published) = self.published.get_mut(&producer) {
            published.routes.insert((link, route));
        }
        Ok(Creation { link, route, epoch, answer, span: span.clone() })
    }

    pub(super) fn unsubscribe(&mut self, ends: &mut Ends, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        if self.is_open(link, route, epoch) {
            self.close(ends, link, route);
        }
    }

    /// Ends everything that went over a link.
    pub(super) fn link_down(&mut self, ends: &mut Ends, link: LinkKey) {
        let routes: Vec<RouteId> = self.links.get(&link).into_iter().flat_map(HashMap::keys).copied().collect();
        routes.into_iter().for_each(|route| self.close(ends, link, route));
    }

    /// Routes out of this node.
    pub(super) fn routes(&self) -> u64 {
        self.count as u64
    }

    /// The worker of a producer that may be subscribed to.
    fn check(
        &self,
        ends: &Ends,
        link: LinkKey,
        producer: ProducerId,
        namespace: &str,
        room: &str,
    ) -> Result<WorkerIndex, RouteCloseReason> {
        let published = self.published.get(&producer).ok_or(RouteCloseReason::ProducerGone)?;
        if published.room.namespace.as_str() != namespace || published.room.room.as_str() != room {
            return Err(RouteCloseReason::WrongRoom);
        }
        let of_link = self.links.get(&link).map_or(0, HashMap::len);
        let is_full = self.count >= self.limits.all || of_link >= self.limits.of_one_node;
        if is_full || ends.workers.is_behind(published.worker) {
            return Err(RouteCloseReason::Limit);
        }
        Ok(published.worker)
    }

    fn is_open(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch) -> bool {
        self.links.get(&link).and_then(|routes| routes.get(&route)).is_some_and(|outlet| outlet.epoch == epoch)
    }

    fn close(&mut self, ends: &mut Ends, link: LinkKey, route: RouteId) {
        let Some(Outlet { epoch, worker, .. }) = self.take(link, route) else { return };
        ends.mesh.close_route_out(link, route, epoch);
        ends.workers.send(worker, Request::ClosePipeConsumer { to: PipeEnd::Node(link), route, epoch });
    }

    fn take(&mut self, link: LinkKey, route: RouteId) -> Option<Outlet> {
        let routes = self.links.get_mut(&link)?;
        let outlet = routes.remove(&route)?;
        if routes.is_empty() {
            self.links.remove(&link);
        }
        self.count -= 1;
        if let Some(published) = self.published.get_mut(&outlet.producer) {
            published.routes.remove(&(link, route));
        }
        Some(outlet)
    }

    /// The worker could not make the pipe consumer, and so has none to close.
    pub(super) fn failed(&mut self, ends: &Ends, link: LinkKey, route: RouteId, epoch: RouteEpoch) -> Option<Closed> {
        if !self.is_open(link, route, epoch) {
            return None;
        }
        self.take(link, route)?;
        ends.mesh.close_route_out(link, route, epoch);
        Some(Closed { link, route, epoch, reason: RouteCloseReason::ProducerGone })
    }
}

impl Creation {
    /// Waits for the worker; a failure is told to the subscriber.
    pub(super) async fn finish(self, pipes: &Pipes) {
        let Self { link, route, epoch, answer, span } = self;
        if let Err(error) = answer.instrument(span.clone()).await {
            span.in_scope(|| tracing::warn!(%error, "a pipe consumer could not be made"));
            pipes.on_failed_creation(link, route, epoch);
        }
    }
}
