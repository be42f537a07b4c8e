//! Statistics and metrics, counted when they are asked for.

use sluice_proto::ids::{ConsumerId, ProducerId, TransportId};

use super::Media;
use crate::clock::Clock;
use crate::core::data_producer::DataOrigin;
use crate::core::producer::Origin;
use crate::keys::ProducerKey;
use crate::messages::{Account, ConsumerStats, RequestError, Response, StreamStats, Traffic, WorkerSnapshot};
use crate::stream::packet::StreamIndex;

impl Media {
    pub(super) fn transport_stats(&self, clock: &Clock, id: TransportId) -> Result<Response, RequestError> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get(key).ok_or(RequestError::TransportNotFound(id))?;
        Ok(Response::TransportStats(Box::new(transport.stats(clock.now))))
    }

    pub(super) fn producer_stats(&self, clock: &Clock, id: ProducerId) -> Result<Response, RequestError> {
        let key = self.producer_key(id)?;
        let producer = self.producers.get(key).ok_or(RequestError::ProducerNotFound(id))?;
        let stats = producer.stream_indices().filter_map(|index| self.stream_stats(clock, key, index));
        Ok(Response::ProducerStats(stats.collect()))
    }

    pub(super) fn consumer_stats(&self, clock: &Clock, id: ConsumerId) -> Result<Response, RequestError> {
        let key = self.consumer_key(id)?;
        let consumer = self.consumers.get(key).ok_or(RequestError::ConsumerNotFound(id))?;
        let received = self.stream_stats(clock, consumer.producer(), consumer.cut().stream());
        Ok(Response::ConsumerStats(Box::new(ConsumerStats { sent: consumer.stats(), received })))
    }

    pub(super) fn data_producer_stats(&self, id: ProducerId) -> Result<Response, RequestError> {
        let producer = self.data.producer_key(id).and_then(|key| self.data.producers.get(key));
        producer.map(|producer| Response::DataStats(producer.stats())).ok_or(RequestError::ProducerNotFound(id))
    }

    pub(super) fn data_consumer_stats(&self, id: ConsumerId) -> Result<Response, RequestError> {
        let consumer = self.data.consumer_key(id).and_then(|key| self.data.consumers.get(key));
        consumer.map(|consumer| Response::DataStats(consumer.stats())).ok_or(RequestError::ConsumerNotFound(id))
    }

    /// Of what comes in.
    fn stream_stats(&self, clock: &Clock, key: ProducerKey, index: StreamIndex) -> Option<StreamStats> {
        let producer = self.producers.get(key)?;
        let mut stats = producer.stats(clock.now, index)?;
        if let Some(transport) = producer.user_transport().and_then(|transport| self.transports.get(transport)) {
            transport.name_stream((key, index), &mut stats);
        }
        Some(stats)
    }

    /// By account, in no order.
    fn traffic(&self) -> Vec<(Account, Traffic)> {
        let mut traffic = self.closed_traffic.clone();
        for transport in self.transports.values() {
            if let Some(router) = self.routers.get(transport.router()) {
                *traffic.entry(router.account()).or_default() += transport.traffic();
            }
        }
        traffic.into_iter().collect()
    }

    pub(super) fn snapshot(&self, clock: &Clock) -> WorkerSnapshot {
        let counters = &self.counters;
        let pipe_producers = self.producers.values().filter(|p| matches!(p.origin(), Origin::Pipe(_))).count();
        let pipe_data_producers = self.data.producers.values().filter(|p| matches!(p.origin(), DataOrigin::Pipe(_)));
        let pipe_data_producers = pipe_data_producers.count();
        let shed_consumers = self.consumers.values().filter(|consumer| consumer.cut().is_shed());
        let shed_pipes = self.pipe_consumers.values().filter(|pipe| pipe.is_shed());
        WorkerSnapshot {
            routers: self.routers.len() as u64,
            transports: self.transports.len() as u64,
            transports_connected: self.transports.values().filter(|transport| transport.is_writable()).count() as u64,
            producers: (self.producers.len() - pipe_producers) as u64,
            consumers: self.consumers.len() as u64,
            pipe_producers: pipe_producers as u64,
            pipe_consumers: self.pipe_consumers.len() as u64,
            data_producers: (self.data.producers.len() - pipe_data_producers) as u64,
            data_consumers: self.data.consumers.len() as u64,
            pipe_data_producers: pipe_data_producers as u64,
            pipe_data_consumers: self.data.routes_out.len() as u64,
            datagrams_received: counters.datagrams_received,
            datagrams_sent: counters.datagrams_sent,
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            rtp_packets_received: counters.rtp_packets_received,
            rtp_packets_sent: counters.rtp_packets_sent,
            pipe_packets_received: counters.pipe_packets_received,
            pipe_packets_sent: counters.pipe_packets_sent,
            data_messages_received: counters.data_messages_received,
            data_bytes_received: counters.data_bytes_received,
            data_messages_sent: counters.data_messages_sent,
            data_bytes_sent: counters.data_bytes_sent,
            retransmissions_sent: counters.retransmissions_sent,
            key_frame_requests: counters.key_frame_requests,
            lag_us: self.overload.lag(clock.now).as_micros() as u64,
            shedding: self.overload.is_shedding(),
            shed_consumers: (shed_consumers.count() + shed_pipes.count()) as u64,
            traffic: self.traffic(),
            drops: counters.drops.nonzero().collect(),
            // The driver's to enter.
            cpu_ns: 0,
        }
    }
}
