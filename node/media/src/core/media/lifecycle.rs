//! Creating, pausing and resuming.

use rand::RngExt;
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::Wanted;

use super::Media;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::loudest::Loudest;
use crate::core::parameters::{self, UserProducerParameters};
use crate::core::pipe_consumer::PipeConsumer;
use crate::core::pipe_origin::PipeOrigin;
use crate::core::producer::{Origin, Producer};
use crate::core::router::Router;
use crate::core::rtp_stream_send::Redundancy;
use crate::core::user_origin::UserOrigin;
use crate::core::user_transport::UserTransport;
use crate::keys::{ConsumerKey, ProducerKey};
use crate::messages::{Account, PipeEnd, RequestError, RouteIn, RtpMapping};
use crate::secure::ice::IceCredentials;
use crate::stream::packet::StreamSet;
use crate::transport::webrtc_transport::WebRtcTransport;

impl Media {
    pub(super) fn create_router(&mut self, id: RouterId, account: Account) -> Result<(), RequestError> {
        if self.routers_by_id.contains_key(&id) {
            return Err(RequestError::AlreadyExists(format!("router {id}")));
        }
        let key = self.routers.insert(Router::new(id, account, self.config.audio.last_n.map(Loudest::new)));
        self.routers_by_id.insert(id, key);
        Ok(())
    }

    pub(super) fn create_transport(
        &mut self,
        clock: &Clock,
        router: RouterId,
        id: TransportId,
        ice: IceCredentials,
        data_channels: bool,
    ) -> Result<(), RequestError> {
        let router_key = self.router_key(router)?;
        if self.transports_by_id.contains_key(&id) {
            return Err(RequestError::AlreadyExists(format!("transport {id}")));
        }
        let ufrag = ice.ufrag.clone();
        let webrtc = WebRtcTransport::new(id, ice, self.config.certificate.clone(), clock.now);
        let rtcp_ssrc = self.rng.random();
        let mut transport = UserTransport::new(id, router_key, webrtc, rtcp_ssrc);
        if data_channels {
            transport.allow_data(self.config.data, self.rng.random());
        }
        let key = self.transports.insert(transport);
        if !self.demux.add_ufrag(&ufrag, key) {
            self.transports.remove(key);
            return Err(RequestError::AlreadyExists(format!("ufrag {ufrag}")));
        }
        self.transports_by_id.insert(id, key);
        if let Some(router) = self.routers.get_mut(router_key) {
            router.add_transport(key);
        }
        self.after_transport(clock, key);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "they are the fields of the request")]
    pub(super) fn produce(
        &mut self,
        clock: &Clock,
        transport: TransportId,
        id: ProducerId,
        kind: MediaKind,
        rtp: &RtpParameters,
        mapping: &RtpMapping,
        paused: bool,
    ) -> Result<(), RequestError> {
        let transport_key = self.transport_key(transport)?;
        self.check_new_producer(id)?;
        let parameters = parameters::user_producer(kind, rtp, mapping)?;
        let Some(transport) = self.transports.get_mut(transport_key) else { return Ok(()) };
        let UserProducerParameters { streams, payloads, identities, key_frame_message, extension_ids } = parameters;
        let origin = Origin::User(UserOrigin::new(transport_key, payloads, key_frame_message));
        let router = transport.router();
        let key = self.producers.insert(Producer::new(clock.now, id, router, origin, kind, streams, paused));
        if let Err(taken) = transport.add_producer(clock.now, key, identities, extension_ids) {
            self.producers.remove(key);
            return Err(RequestError::StreamInUse(taken));
        }
        self.producers_by_id.insert(id, key);
        if let Some(router) = self.routers.get_mut(router) {
            router.add_producer(key);
        }
        self.arm_transport(transport_key);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "they are the fields of the request")]
    pub(super) fn create_pipe_producer(
        &mut self,
        clock: &Clock,
        router: RouterId,
        id: ProducerId,
        kind: MediaKind,
        rtp: &RtpParameters,
        route: Option<RouteIn>,
        paused: bool,
    ) -> Result<(), RequestError> {
        let router_key = self.router_key(router)?;
        self.check_new_producer(id)?;
        self.check_new_route(route)?;
        let streams = parameters::pipe_producer(kind, rtp)?;
        let origin = Origin::Pipe(Box::new(PipeOrigin::new(clock.now, route, streams.len())));
        let key = self.producers.insert(Producer::new(clock.now, id, router_key, origin, kind, streams, paused));
        self.look_what_is_offered(clock, key);
        self.producers_by_id.insert(id, key);
        if let Some(route) = route {
            self.routes_in.insert((route.from, route.route), key);
        }
        if let Some(router) = self.routers.get_mut(router_key) {
            router.add_producer(key);
        }
        Ok(())
    }

    pub(super) fn move_pipe_producer(
        &mut self,
        clock: &Clock,
        id: ProducerId,
        route: Option<RouteIn>,
    ) -> Result<(), RequestError> {
        let key = self.producer_key(id)?;
        self.check_new_route(route)?;
        let Some(producer) = self.producers.get_mut(key) else { return Ok(()) };
        let Some(origin) = producer.pipe_origin() else {
            return Err(RequestError::Invalid(format!("producer {id} comes by no pipe")));
        };
        if let Some(former) = origin.take_route(clock.now, route) {
            self.routes_in.remove(&(former.from, former.route));
        }
        if let Some(route) = route {
            self.routes_in.insert((route.from, route.route), key);
            self.begin_anew(clock, key, StreamSet::ALL);
        }
        self.arm_producer(clock.now, key);
        Ok(())
    }

    pub(super) fn check_new_route(&self, route: Option<RouteIn>) -> Result<(), RequestError> {
        let is_taken = |route: &RouteIn| {
            let route = (route.from, route.route);
            self.routes_in.contains_key(&route) || self.data.routes_in.contains_key(&route)
        };
        match route.filter(is_taken) {
            Some(taken) => Err(RequestError::AlreadyExists(format!("route {}", taken.route.0))),
            None => Ok(()),
        }
    }

    pub(super) fn check_new_producer(&self, id: ProducerId) -> Result<(), RequestError> {
        if self.producers_by_id.contains_key(&id) || self.data.producer_key(id).is_some() {
            return Err(RequestError::AlreadyExists(format!("producer {id}")));
        }
        Ok(())
    }

    pub(super) fn check_new_consumer(&self, id: ConsumerId) -> Result<(), RequestError> {
        if self.consumers_by_id.contains_key(&id) || self.data.consumer_key(id).is_some() {
            return Err(RequestError::AlreadyExists(format!("consumer {id}")));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "they are the fields of the request")]
    pub(super) fn consume(
        &mut self,
        clock: &Clock,
        transport: TransportId,
        id: ConsumerId,
        producer: ProducerId,
        kind: MediaKind,
        rtp: &RtpParameters,
        paused: bool,
    ) -> Result<(), RequestError> {
        let transport_key = self.transport_key(transport)?;
        let producer_key = self.producer_key(producer)?;
        self.check_new_consumer(id)?;
        let mut parameters = parameters::consumer(rtp)?;
        let random = self.rng.random();
        let (Some(transport), Some(producer)) =
            (self.transports.get_mut(transport_key), self.producers.get_mut(producer_key))
        else {
            return Ok(());
        };
        if producer.kind() != kind || producer.router() != transport.router() {
            return Err(RequestError::Invalid(format!("producer {} is of another kind or router", producer.id())));
        }
        parameters.redundancy = Redundancy::between(producer.codec(), parameters.codec);
        if let Some(taken) = transport.taken(&parameters) {
            return Err(RequestError::StreamInUse(format!("SSRC {taken}")));
        }
        let ends = (producer_key, transport_key);
        let consumer = Consumer::new(id, kind, ends, parameters, paused, (clock.now, random));
        let key = self.consumers.insert(consumer);
        if let Some(consumer) = self.consumers.get(key) {
            transport.add_consumer(clock.now, key, consumer.parameters());
        }
        producer.add_consumer(key);
        self.consumers_by_id.insert(id, key);
        self.arm_transport(transport_key);
        self.shed_newcomer(clock, key);
        // What is begun is what there is room for.
        self.allocate_transport(clock, transport_key);
        self.aim_consumer(clock, key);
        self.refresh_consumer(clock, key);
        self.expect_consumer(clock, key);
        self.note_wanted(producer_key);
        Ok(())
    }

    pub(super) fn create_pipe_consumer(
        &mut self,
        clock: &Clock,
        producer: ProducerId,
        to: PipeEnd,
        (route, epoch): (RouteId, RouteEpoch),
        wanted: Wanted,
    ) -> Result<(), RequestError> {
        let producer_key = self.producer_key(producer)?;
        self.close_route_out(clock, to, route);
        let Some(producer) = self.producers.get_mut(producer_key) else { return Ok(()) };
        let consumer = PipeConsumer::new(producer_key, producer, to, (route, epoch), wanted);
        let key = self.pipe_consumers.insert(consumer);
        producer.add_pipe_consumer(key);
        self.routes_out.insert((to, route), key);
        self.tell_clock(producer_key, key);
        self.tell_offered(producer_key, key);
        self.shed_new_pipe(key);
        self.start_pipe_consumer(clock, key, StreamSet::ALL);
        self.note_wanted(producer_key);
        Ok(())
    }

    pub(super) fn pause_producer(&mut self, clock: &Clock, key: ProducerKey) {
        if let Some(producer) = self.producers.get_mut(key) {
            producer.pause();
            for consumer in producer.pipe_consumers() {
                self.pipe_consumers.get_mut(*consumer).into_iter().for_each(PipeConsumer::forget_sent);
            }
        }
        self.refresh_consumers(clock, key);
    }

    pub(super) fn resume_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key).filter(|producer| producer.is_paused()) else { return };
        producer.resume(clock.now);
        let pipe_consumers = producer.pipe_consumers().to_vec();
        self.refresh_consumers(clock, key);
        for consumer in pipe_consumers {
            self.start_pipe_consumer(clock, consumer, StreamSet::ALL);
        }
    }

    fn refresh_consumers(&mut self, clock: &Clock, key: ProducerKey) {
        let consumers = self.producers.get(key).map(|producer| producer.consumers().to_vec());
        for consumer in consumers.into_iter().flatten() {
            self.refresh_consumer(clock, consumer);
            self.note_allocation_of(consumer);
        }
    }

    pub(super) fn set_consumer_paused(&mut self, clock: &Clock, key: ConsumerKey, paused: bool) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.set_paused(paused);
        }
        self.refresh_consumer(clock, key);
        self.note_allocation_of(key);
    }
}
