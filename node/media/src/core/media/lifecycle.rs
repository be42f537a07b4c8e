//! Creating, pausing and resuming.

use rand::RngExt;
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::Layers;

use super::Media;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::parameters;
use crate::core::pipe_consumer::PipeConsumer;
use crate::core::pipe_origin::PipeOrigin;
use crate::core::producer::{Origin, Producer};
use crate::core::router::Router;
use crate::core::user_origin::UserOrigin;
use crate::core::user_transport::{REPORT_INTERVAL, UserTransport};
use crate::keys::{ConsumerKey, ProducerKey};
use crate::messages::{PipeEnd, RequestError, RouteIn, RtpMapping};
use crate::secure::ice::IceCredentials;
use crate::stream::nack_generator::NackGenerator;
use crate::transport::transport_feedback_generator::TransportFeedbackGenerator;
use crate::transport::webrtc_transport::WebRtcTransport;

impl Media {
    pub(super) fn create_router(&mut self, id: RouterId) -> Result<(), RequestError> {
        if self.routers_by_id.contains_key(&id) {
            return Err(RequestError::AlreadyExists(format!("router {id}")));
        }
        let key = self.routers.insert(Router::new(id));
        self.routers_by_id.insert(id, key);
        Ok(())
    }

    pub(super) fn create_transport(
        &mut self,
        clock: &Clock,
        router: RouterId,
        id: TransportId,
        ice: IceCredentials,
    ) -> Result<(), RequestError> {
        let router_key = self.router_key(router)?;
        if self.transports_by_id.contains_key(&id) {
            return Err(RequestError::AlreadyExists(format!("transport {id}")));
        }
        let ufrag = ice.ufrag.clone();
        let webrtc = WebRtcTransport::new(id, ice, self.config.certificate.clone(), clock.now);
        let rtcp_ssrc = self.rng.random();
        let key = self.transports.insert(UserTransport::new(id, router_key, webrtc, rtcp_ssrc));
        self.transports_by_id.insert(id, key);
        self.demux.add_ufrag(&ufrag, key);
        if let Some(router) = self.routers.get_mut(router_key) {
            router.transports.push(key);
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
        let origin = Origin::User(UserOrigin {
            transport: transport_key,
            payloads: parameters.payloads,
            mapped_ssrc: parameters.mapped_ssrc,
            ssrc: parameters.identity.ssrc,
            timestamp_offset: 0,
            nack: parameters.nack.then(NackGenerator::default),
            key_frame_message: parameters.key_frame_message,
        });
        let rates = (parameters.clock_rate, parameters.max_silence);
        let mut producer = Producer::new(id, kind, transport.router, origin, parameters.codec, rates);
        producer.paused = paused;
        producer.stream.expect(clock.now);
        let router = transport.router;
        let key = self.producers.insert(producer);
        if let Err(taken) = transport.listener.add(key, parameters.identity) {
            self.producers.remove(key);
            return Err(RequestError::StreamInUse(taken));
        }
        transport.extension_ids.merge(parameters.extension_ids);
        if transport.extension_ids.transport_wide_cc != 0 {
            transport.feedback.get_or_insert_with(|| Box::new(TransportFeedbackGenerator::new(clock.now)));
        }
        transport.producers.push(key);
        transport.reports_at.get_or_insert(clock.now + REPORT_INTERVAL);
        self.producers_by_id.insert(id, key);
        if let Some(router) = self.routers.get_mut(router) {
            router.producers.push(key);
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
        let parameters = parameters::pipe_producer(rtp)?;
        let origin = Origin::Pipe(Box::new(PipeOrigin::new(clock.now, route, parameters.ssrc)));
        let rates = (parameters.clock_rate, parameters.max_silence);
        let mut producer = Producer::new(id, kind, router_key, origin, parameters.codec, rates);
        producer.paused = paused;
        producer.stream.expect(clock.now);
        let key = self.producers.insert(producer);
        self.producers_by_id.insert(id, key);
        if let Some(route) = route {
            self.routes_in.insert((route.from, route.route), key);
        }
        if let Some(router) = self.routers.get_mut(router_key) {
            router.producers.push(key);
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
        let Origin::Pipe(origin) = &mut producer.origin else {
            return Err(RequestError::Invalid(format!("producer {id} comes by no pipe")));
        };
        if let Some(former) = origin.take_route(clock.now, route) {
            self.routes_in.remove(&(former.from, former.route));
        }
        if let Some(route) = route {
            self.routes_in.insert((route.from, route.route), key);
            self.begin_anew(clock, key);
        }
        self.arm_producer(clock.now, key);
        Ok(())
    }

    fn check_new_route(&self, route: Option<RouteIn>) -> Result<(), RequestError> {
        match route.filter(|route| self.routes_in.contains_key(&(route.from, route.route))) {
            Some(taken) => Err(RequestError::AlreadyExists(format!("route {}", taken.route.0))),
            None => Ok(()),
        }
    }

    fn check_new_producer(&self, id: ProducerId) -> Result<(), RequestError> {
        if self.producers_by_id.contains_key(&id) {
            return Err(RequestError::AlreadyExists(format!("producer {id}")));
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
        if self.consumers_by_id.contains_key(&id) {
            return Err(RequestError::AlreadyExists(format!("consumer {id}")));
        }
        let parameters = parameters::consumer(rtp)?;
        let random = self.rng.random();
        let (Some(transport), Some(producer)) =
            (self.transports.get_mut(transport_key), self.producers.get_mut(producer_key))
        else {
            return Ok(());
        };
        if producer.kind != kind || producer.router != transport.router {
            return Err(RequestError::Invalid(format!("producer {} is of another kind or router", producer.id)));
        }
        let ssrcs: Vec<u32> = std::iter::once(parameters.ssrc).chain(parameters.rtx.map(|(ssrc, _)| ssrc)).collect();
        if let Some(taken) = ssrcs.iter().find(|ssrc| transport.consumers_by_ssrc.contains_key(ssrc)) {
            return Err(RequestError::StreamInUse(format!("SSRC {taken}")));
        }
        let mut consumer = Consumer::new(id, kind, producer_key, transport_key, parameters, random);
        consumer.paused = paused;
        let key = self.consumers.insert(consumer);
        transport.consumers_by_ssrc.extend(ssrcs.into_iter().map(|ssrc| (ssrc, key)));
        transport.consumers.push(key);
        transport.reports_at.get_or_insert(clock.now + REPORT_INTERVAL);
        producer.consumers.push(key);
        self.consumers_by_id.insert(id, key);
        self.arm_transport(transport_key);
        self.shed_newcomer(clock, key);
        self.refresh_consumer(clock, key);
        Ok(())
    }

    pub(super) fn create_pipe_consumer(
        &mut self,
        clock: &Clock,
        producer: ProducerId,
        to: PipeEnd,
        (route, epoch): (RouteId, RouteEpoch),
        wanted: Layers,
    ) -> Result<(), RequestError> {
        let producer_key = self.producer_key(producer)?;
        if let Some(key) = self.routes_out.get(&(to, route)).copied() {
            self.close_pipe_consumer(key);
        }
        let Some(producer) = self.producers.get_mut(producer_key) else { return Ok(()) };
        let mut consumer = PipeConsumer::new(producer_key, to, route, epoch, producer.kind, producer.codec);
        consumer.set_wanted(wanted);
        let key = self.pipe_consumers.insert(consumer);
        producer.pipe_consumers.push(key);
        self.routes_out.insert((to, route), key);
        self.tell_clock(producer_key, key);
        self.shed_new_pipe(key);
        self.start_pipe_consumer(clock, key);
        Ok(())
    }

    pub(super) fn pause_producer(&mut self, clock: &Clock, key: ProducerKey) {
        if let Some(producer) = self.producers.get_mut(key) {
            producer.pause();
            for consumer in &producer.pipe_consumers {
                self.pipe_consumers.get_mut(*consumer).into_iter().for_each(PipeConsumer::forget_sent);
            }
        }
        self.refresh_consumers(clock, key);
    }

    pub(super) fn resume_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key).filter(|producer| producer.paused) else { return };
        producer.resume(clock.now);
        self.refresh_consumers(clock, key);
        for index in 0.. {
            let Some(consumer) = self.producers.get(key).and_then(|p| p.pipe_consumers.get(index)).copied() else {
                break;
            };
            self.start_pipe_consumer(clock, consumer);
        }
    }

    fn refresh_consumers(&mut self, clock: &Clock, key: ProducerKey) {
        for index in 0.. {
            let Some(consumer) = self.producers.get(key).and_then(|p| p.consumers.get(index)).copied() else { break };
            self.refresh_consumer(clock, consumer);
        }
    }

    pub(super) fn set_consumer_paused(&mut self, clock: &Clock, key: ConsumerKey, paused: bool) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.paused = paused;
        }
        self.refresh_consumer(clock, key);
    }
}
