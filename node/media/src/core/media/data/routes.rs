//! Data between nodes and workers.

use sluice_mesh::DataMessage;
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::FeedbackBody;

use crate::clock::Clock;
use crate::core::data_log::Message;
use crate::core::data_producer::DataOrigin;
use crate::core::media::Media;
use crate::drop_reason::DropReason;
use crate::keys::DataProducerKey;
use crate::messages::{PipeEnd, RequestError, RouteIn};

impl Media {
    pub(in crate::core::media) fn move_pipe_data_producer(
        &mut self,
        clock: &Clock,
        key: DataProducerKey,
        route: Option<RouteIn>,
    ) -> Result<(), RequestError> {
        self.check_new_route(route)?;
        let Some(producer) = self.data.producers.get_mut(key) else { return Ok(()) };
        let id = producer.id();
        let origin = producer.pipe_origin();
        let origin = origin.ok_or_else(|| RequestError::Invalid(format!("data producer {id} comes by no pipe")))?;
        if let Some(former) = origin.take_route(route) {
            self.data.routes_in.remove(&(former.from, former.route));
        }
        if let Some(route) = route {
            self.data.routes_in.insert((route.from, route.route), key);
        }
        self.serve_data_producer(clock, key);
        Ok(())
    }

    pub(in crate::core::media) fn open_data_route(
        &mut self,
        clock: &Clock,
        key: DataProducerKey,
        to: PipeEnd,
        (route, epoch): (RouteId, RouteEpoch),
    ) {
        self.close_route_out(clock, to, route);
        let Some(producer) = self.data.producers.get_mut(key) else { return };
        producer.open_route(clock.now, to, (route, epoch));
        self.data.routes_out.insert((to, route), key);
        self.serve_data_producer(clock, key);
    }

    /// Closes what begins a route of data there.
    pub(in crate::core::media) fn close_data_route(&mut self, clock: &Clock, to: PipeEnd, route: RouteId) {
        let Some(key) = self.data.routes_out.remove(&(to, route)) else { return };
        if let Some(producer) = self.data.producers.get_mut(key) {
            producer.close_route(clock.now, to, route);
        }
        self.serve_data_producer(clock, key);
        self.go_on(clock, key);
    }

    /// A message of a route, or a mark between them, which is empty: no client sends such a message.
    pub(in crate::core::media) fn receive_data(&mut self, clock: &Clock, from: PipeEnd, message: DataMessage) {
        let Some(key) = self.data.routes_in.get(&(from, message.route)).copied() else {
            return self.counters.drops.count(DropReason::UnknownRoute);
        };
        let Some(producer) = self.data.producers.get_mut(key) else { return };
        let is_reliable = producer.is_reliable();
        let Some(origin) = producer.pipe_origin() else { return };
        if message.payload.is_empty() {
            if let Err(reason) = origin.hear_mark(clock.now, &message, is_reliable) {
                self.counters.drops.count(reason);
            }
            return self.serve_data_producer(clock, key);
        }
        match origin.receive(clock.now, &message, is_reliable) {
            Ok(()) => {
                let DataMessage { number, ppid, payload, .. } = message;
                self.route_message(clock, key, Some(number), Message { ppid, payload });
            }
            Err(reason) => {
                self.counters.drops.count(reason);
                self.serve_data_producer(clock, key);
            }
        }
    }

    /// What is said about a route of data that begins or ends here. About any other it is old news, which is counted.
    pub(in crate::core::media) fn hear_data(
        &mut self,
        clock: &Clock,
        from: PipeEnd,
        (route, epoch): (RouteId, RouteEpoch),
        body: &FeedbackBody,
    ) {
        let key = match body {
            FeedbackBody::DataReceived { .. } => self.data_route_out(from, route, epoch),
            _ => self.data_route_in(from, route, epoch),
        };
        let Some((key, producer)) = key.and_then(|key| Some((key, self.data.producers.get_mut(key)?))) else {
            return self.counters.drops.count(DropReason::StaleFeedback);
        };
        match *body {
            FeedbackBody::DataReceived { next, missed } => {
                producer.hear_received(clock.now, (from, route), (next, missed));
                self.serve_data_producer(clock, key);
                self.go_on(clock, key);
            }
            FeedbackBody::DataOffered { oldest, next } => {
                let lost = producer.pipe_origin().and_then(|origin| origin.hear_offered(clock.now, oldest, next));
                if let Some(next) = lost.filter(|_| producer.is_reliable()) {
                    producer.lose_until(next);
                    for consumer in producer.consumers().to_vec() {
                        self.lose_of(clock, consumer);
                    }
                }
                self.serve_data_producer(clock, key);
            }
            _ => {}
        }
    }

    fn data_route_in(&self, from: PipeEnd, route: RouteId, epoch: RouteEpoch) -> Option<DataProducerKey> {
        let key = *self.data.routes_in.get(&(from, route))?;
        match self.data.producers.get(key)?.origin() {
            DataOrigin::Pipe(origin) if origin.route().is_some_and(|route| route.epoch == epoch) => Some(key),
            _ => None,
        }
    }

    /// The producer that begins a route there.
    pub(in crate::core::media) fn data_route_out(
        &self,
        to: PipeEnd,
        route: RouteId,
        epoch: RouteEpoch,
    ) -> Option<DataProducerKey> {
        let key = *self.data.routes_out.get(&(to, route))?;
        self.data.producers.get(key).is_some_and(|producer| producer.has_route(to, route, epoch)).then_some(key)
    }
}
