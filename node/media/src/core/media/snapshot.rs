//! Statistics and metrics, counted when they are asked for.

use sluice_proto::ids::TransportId;

use super::Media;
use crate::clock::Clock;
use crate::core::producer::Origin;
use crate::messages::{Account, RequestError, Response, Traffic, WorkerSnapshot};

impl Media {
    pub(super) fn transport_stats(&self, clock: &Clock, id: TransportId) -> Result<Response, RequestError> {
        let key = self.transport_key(id)?;
        let transport = self.transports.get(key).ok_or(RequestError::TransportNotFound(id))?;
        Ok(Response::TransportStats(Box::new(transport.stats(clock.now))))
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
            datagrams_received: counters.datagrams_received,
            datagrams_sent: counters.datagrams_sent,
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            rtp_packets_received: counters.rtp_packets_received,
            rtp_packets_sent: counters.rtp_packets_sent,
            pipe_packets_received: counters.pipe_packets_received,
            pipe_packets_sent: counters.pipe_packets_sent,
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
