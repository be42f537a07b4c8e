//! Closing: what depends on something ends with it.

use sluice_proto::ids::RouteId;

use super::Media;
use crate::clock::Clock;
use crate::core::producer::Origin;
use crate::core::user_transport::UserTransport;
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey, RouterKey};
use crate::messages::PipeEnd;
use crate::transport::demux::TransportKey;
use crate::wire::rtcp;

impl Media {
    pub(super) fn close_router(&mut self, clock: &Clock, key: RouterKey) {
        let Some(router) = self.routers.get(key) else { return };
        let (transports, producers) = (router.transports().to_vec(), router.producers().to_vec());
        for transport in transports {
            self.close_transport(clock, transport);
        }
        // Those that remain live elsewhere.
        for producer in producers {
            self.close_producer(clock, producer);
        }
        let data_producers = self.routers.get(key).map(|router| router.data_producers().to_vec());
        for producer in data_producers.into_iter().flatten() {
            self.close_data_producer(clock, producer);
        }
        if let Some(router) = self.routers.remove(key) {
            self.routers_by_id.remove(&router.id());
        }
    }

    pub(super) fn close_transport(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get(key) else { return };
        let (producers, consumers) = (transport.producers().to_vec(), transport.consumers().to_vec());
        for consumer in consumers {
            self.close_consumer(consumer);
        }
        for producer in producers {
            self.close_producer(clock, producer);
        }
        self.close_channels(clock, key);
        if let Some(transport) = self.transports.get_mut(key) {
            transport.webrtc().close(clock.now);
        }
        self.after_transport(clock, key);
        let Some(mut transport) = self.transports.remove(key) else { return };
        transport.flush(clock.now, &mut self.transmits, &mut self.buffers);
        self.dirty_transports.retain(|dirty| *dirty != key);
        self.transports_by_id.remove(&transport.id());
        if let Some(router) = self.routers.get_mut(transport.router()) {
            *self.closed_traffic.entry(router.account()).or_default() += transport.traffic();
            router.remove_transport(key);
        }
    }

    pub(super) fn close_producer(&mut self, clock: &Clock, key: ProducerKey) {
        // What came before leaves before.
        self.route(clock, key);
        let Some(producer) = self.producers.get(key) else { return };
        let (consumers, pipe_consumers) = (producer.consumers().to_vec(), producer.pipe_consumers().to_vec());
        for consumer in consumers {
            self.close_consumer(consumer);
        }
        for consumer in pipe_consumers {
            self.close_pipe_consumer(consumer);
        }
        let Some(producer) = self.producers.remove(key) else { return };
        self.producers_by_id.remove(&producer.id());
        match producer.origin() {
            Origin::User(origin) => {
                if let Some(transport) = self.transports.get_mut(origin.transport()) {
                    transport.remove_producer(key);
                }
            }
            Origin::Pipe(origin) => {
                if let Some(route) = origin.route() {
                    self.routes_in.remove(&(route.from, route.route));
                }
            }
        }
        if let Some(router) = self.routers.get_mut(producer.router()) {
            router.remove_producer(key);
        }
    }

    pub(super) fn close_consumer(&mut self, key: ConsumerKey) {
        self.say_goodbye(key);
        let Some(consumer) = self.consumers.remove(key) else { return };
        self.consumers_by_id.remove(&consumer.id());
        if let Some(producer) = self.producers.get_mut(consumer.producer()) {
            producer.remove_consumer(key);
        }
        self.note_wanted(consumer.producer());
        if let Some(transport) = self.transports.get_mut(consumer.transport()) {
            transport.remove_consumer(key, consumer.parameters());
        }
        self.note_allocation(consumer.transport());
    }

    /// Tells the client that a stream is over, RFC 3550 section 6.6.
    fn say_goodbye(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get(key).filter(|consumer| consumer.has_sent()) else { return };
        self.compound.clear();
        rtcp::bye(&mut self.compound, consumer.parameters().ssrc);
        let transport = consumer.transport();
        if self.transports.get(transport).is_some_and(UserTransport::is_writable) {
            self.send_rtcp(transport);
        }
    }

    /// Closes what begins a route there, of whichever kind.
    pub(super) fn close_route_out(&mut self, clock: &Clock, to: PipeEnd, route: RouteId) {
        if let Some(key) = self.routes_out.get(&(to, route)).copied() {
            self.close_pipe_consumer(key);
        }
        self.close_data_route(clock, to, route);
    }

    pub(super) fn close_pipe_consumer(&mut self, key: PipeConsumerKey) {
        let Some(consumer) = self.pipe_consumers.remove(key) else { return };
        self.routes_out.remove(&consumer.route());
        if let Some(producer) = self.producers.get_mut(consumer.producer()) {
            producer.remove_pipe_consumer(key);
        }
        self.note_wanted(consumer.producer());
    }
}
