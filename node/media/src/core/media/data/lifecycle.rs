//! Data producers and data consumers come and go.

use sluice_proto::ids::{ConsumerId, ProducerId, RouterId, TransportId};
use sluice_proto::ortc::SctpStreamParameters;

use crate::clock::Clock;
use crate::core::data_channels::Channel;
use crate::core::data_consumer::{DataConsumer, is_reliable};
use crate::core::data_log::Message;
use crate::core::data_producer::{DataOrigin, DataProducer};
use crate::core::media::Media;
use crate::core::media::data::TURN;
use crate::core::pipe_data_origin::PipeDataOrigin;
use crate::core::user_transport::UserTransport;
use crate::keys::{DataConsumerKey, DataProducerKey, RouterKey};
use crate::messages::{RequestError, RouteIn};
use crate::transport::demux::TransportKey;

impl Media {
    pub(in crate::core::media) fn produce_data(
        &mut self,
        clock: &Clock,
        transport: TransportId,
        id: ProducerId,
        stream: SctpStreamParameters,
    ) -> Result<(), RequestError> {
        let transport_key = self.transport_key(transport)?;
        self.check_new_producer(id)?;
        check_stream(&stream)?;
        let Some(transport) = self.transports.get_mut(transport_key) else { return Ok(()) };
        let router = transport.router();
        let channels = transport.channels().ok_or_else(no_channels)?;
        let origin = DataOrigin::User(transport_key);
        let (stream_id, producer) = (stream.stream_id, DataProducer::new(clock.now, id, router, origin, stream));
        let key = self.data.producers.insert(producer);
        if !channels.add(stream_id, Channel::Producer(key)) {
            self.data.producers.remove(key);
            return Err(RequestError::StreamInUse(format!("stream {stream_id}")));
        }
        self.enter_data_producer(key, router, id);
        Ok(())
    }

    pub(in crate::core::media) fn create_pipe_data_producer(
        &mut self,
        clock: &Clock,
        router: RouterId,
        id: ProducerId,
        stream: SctpStreamParameters,
        route: Option<RouteIn>,
    ) -> Result<(), RequestError> {
        let router = self.router_key(router)?;
        self.check_new_producer(id)?;
        self.check_new_route(route)?;
        check_stream(&stream)?;
        let origin = DataOrigin::Pipe(PipeDataOrigin::new(route));
        let key = self.data.producers.insert(DataProducer::new(clock.now, id, router, origin, stream));
        if let Some(route) = route {
            self.data.routes_in.insert((route.from, route.route), key);
        }
        self.enter_data_producer(key, router, id);
        Ok(())
    }

    pub(in crate::core::media) fn create_direct_data_producer(
        &mut self,
        clock: &Clock,
        router: RouterId,
        id: ProducerId,
        stream: SctpStreamParameters,
    ) -> Result<(), RequestError> {
        let router = self.router_key(router)?;
        self.check_new_producer(id)?;
        check_stream(&stream)?;
        let producer = DataProducer::new(clock.now, id, router, DataOrigin::Direct, stream);
        let key = self.data.producers.insert(producer);
        self.enter_data_producer(key, router, id);
        Ok(())
    }

    fn enter_data_producer(&mut self, key: DataProducerKey, router: RouterKey, id: ProducerId) {
        self.data.producers_by_id.insert(id, key);
        if let Some(router) = self.routers.get_mut(router) {
            router.add_data_producer(key);
        }
    }

    pub(in crate::core::media) fn consume_data(
        &mut self,
        clock: &Clock,
        transport: TransportId,
        id: ConsumerId,
        producer: ProducerId,
        (stream, paused): (SctpStreamParameters, bool),
    ) -> Result<(), RequestError> {
        let transport_key = self.transport_key(transport)?;
        let producer_key = self.data.producer_key(producer).ok_or(RequestError::ProducerNotFound(producer))?;
        self.check_new_consumer(id)?;
        check_stream(&stream)?;
        let (Some(transport), Some(producer)) =
            (self.transports.get_mut(transport_key), self.data.producers.get_mut(producer_key))
        else {
            return Ok(());
        };
        if producer.router() != transport.router() {
            return Err(RequestError::Invalid(format!("producer {} is of another router", producer.id())));
        }
        let channels = transport.channels().ok_or_else(no_channels)?;
        let consumer = DataConsumer::new(id, producer_key, transport_key, stream, paused);
        let stream_id = stream.stream_id;
        let key = self.data.consumers.insert(consumer);
        if !channels.add(stream_id, Channel::Consumer(key)) {
            self.data.consumers.remove(key);
            return Err(RequestError::StreamInUse(format!("stream {stream_id}")));
        }
        producer.add_consumer(key);
        self.data.consumers_by_id.insert(id, key);
        self.open_sctp(clock, transport_key);
        self.after_transport(clock, transport_key);
        Ok(())
    }

    /// Its client has a channel for it from now on.
    pub(in crate::core::media) fn resume_data_consumer(&mut self, key: DataConsumerKey) {
        let Some(consumer) = self.data.consumers.get_mut(key) else { return };
        if consumer.resume() && consumer.has_waiting() {
            self.await_turn(key);
        }
    }

    pub(in crate::core::media) fn send_direct_data(
        &mut self,
        clock: &Clock,
        id: ProducerId,
        to: Option<ConsumerId>,
        message: Message,
    ) -> Result<(), RequestError> {
        let key = self.data.producer_key(id).ok_or(RequestError::ProducerNotFound(id))?;
        if !self.data.producers.get(key).is_some_and(|producer| matches!(producer.origin(), DataOrigin::Direct)) {
            return Err(RequestError::Invalid(format!("data producer {id} has a client")));
        }
        let len = message.payload.len();
        if len == 0 || len > self.config.data.max_message_size {
            return Err(RequestError::Invalid(format!("a message of {len} bytes")));
        }
        let Some(to) = to else {
            self.route_message(clock, key, None, message);
            return Ok(());
        };
        let consumer = self.data.consumer_key(to).ok_or(RequestError::ConsumerNotFound(to))?;
        if self.deliver_message(consumer, &message).is_err() {
            self.lose_of(clock, consumer);
        }
        Ok(())
    }

    /// Its consumers end with it, and its routes.
    pub(in crate::core::media) fn close_data_producer(&mut self, clock: &Clock, key: DataProducerKey) {
        let Some(producer) = self.data.producers.remove(key) else { return };
        self.data.producers_by_id.remove(&producer.id());
        for consumer in producer.consumers() {
            self.close_data_consumer(clock, *consumer);
        }
        for route in producer.routes() {
            self.data.routes_out.remove(&route.route());
        }
        match producer.origin() {
            DataOrigin::User(transport) => {
                if let Some(channels) = self.transports.get_mut(*transport).and_then(UserTransport::channels) {
                    // Maybe it was for this one's routes that the client had to wait.
                    channels.read_at.get_or_insert(clock.now + TURN);
                }
                self.leave_stream(clock, *transport, producer.stream_id());
            }
            DataOrigin::Pipe(origin) => {
                if let Some(route) = origin.route() {
                    self.data.routes_in.remove(&(route.from, route.route));
                }
            }
            DataOrigin::Direct => {}
        }
        if let Some(router) = self.routers.get_mut(producer.router()) {
            router.remove_data_producer(key);
        }
    }

    pub(in crate::core::media) fn close_data_consumer(&mut self, clock: &Clock, key: DataConsumerKey) {
        let Some(consumer) = self.data.consumers.remove(key) else { return };
        self.data.consumers_by_id.remove(&consumer.id());
        if let Some(producer) = self.data.producers.get_mut(consumer.producer()) {
            producer.remove_consumer(key);
        }
        if let Some(channels) = self.transports.get_mut(consumer.transport()).and_then(UserTransport::channels) {
            channels.release(consumer.waiting_cost());
        }
        self.leave_stream(clock, consumer.transport(), consumer.stream().stream_id);
    }

    fn leave_stream(&mut self, clock: &Clock, key: TransportKey, stream: u16) {
        if let Some(channels) = self.transports.get_mut(key).and_then(UserTransport::channels) {
            channels.remove(stream);
        }
        self.reset_stream(clock, key, stream);
    }

    /// Closes all channels of a transport, of which nobody has to be told.
    pub(in crate::core::media) fn close_channels(&mut self, clock: &Clock, key: TransportKey) {
        let channels = self.transports.get_mut(key).and_then(UserTransport::channels);
        for channel in channels.map(|channels| channels.all()).unwrap_or_default() {
            match channel {
                Channel::Producer(key) => self.close_data_producer(clock, key),
                Channel::Consumer(key) => self.close_data_consumer(clock, key),
            }
        }
    }
}

/// A stream that is ordered loses nothing: SCTP would have to tell of what it skips, stream by stream.
fn check_stream(stream: &SctpStreamParameters) -> Result<(), RequestError> {
    if stream.ordered && !is_reliable(stream) {
        return Err(RequestError::Invalid("a stream that may lose messages cannot be ordered".to_owned()));
    }
    Ok(())
}

fn no_channels() -> RequestError {
    RequestError::Invalid("the transport carries no data channels".to_owned())
}
