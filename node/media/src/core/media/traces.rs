//! What is told of packets to an operator who looks, see [`crate::trace`].

use std::time::Duration;

use sluice_proto::ids::TransportId;

use super::Media;
use crate::clock::Clock;
use crate::keys::ProducerKey;
use crate::messages::{RequestError, Response};
use crate::trace::{TraceInfo, TraceSubject, TraceTypes, TracedPacket};
use crate::transport::demux::TransportKey;
use crate::transport::rtp_listener::{Found, StreamKind};
use crate::wire::rtp::RtpPacket;

impl Media {
    /// Gives what happened on a transport, and goes on with these types for so long.
    pub(super) fn trace_transport(
        &mut self,
        clock: &Clock,
        transport: TransportId,
        types: TraceTypes,
        within: Duration,
    ) -> Result<Response, RequestError> {
        let (key, epoch) = (self.transport_key(transport)?, self.config.epoch.1);
        let transport = self.transports.get_mut(key).ok_or(RequestError::TransportNotFound(transport))?;
        Ok(Response::Traced(transport.go_on_tracing(clock.now, epoch, types, within)))
    }

    /// Something happened to what a client sends.
    pub(super) fn trace_producer(&mut self, clock: &Clock, key: ProducerKey, info: TraceInfo) {
        let Some(producer) = self.producers.get(key) else { return };
        let Some(transport) = producer.user_transport().and_then(|key| self.transports.get_mut(key)) else { return };
        if let Some(trace) = transport.trace() {
            trace.add(clock, TraceSubject::Producer(producer.id()), info);
        }
    }

    /// A packet of a client came, and is the last of its stream that is pending. It is read once more, so that whoever
    /// traces nothing need not keep what was read.
    #[cold]
    pub(super) fn trace_received(&mut self, clock: &Clock, key: TransportKey, found: Found, data: &[u8]) {
        let (Some(packet), Some(producer)) = (RtpPacket::parse(data), self.producers.get(found.producer)) else {
            return;
        };
        let Some(transport) = self.transports.get_mut(key) else { return };
        let wide_sequence_number = transport.extensions_of(&packet).transport_wide_cc;
        let Some(trace) = transport.trace() else { return };
        let kept = producer.stream(found.stream).and_then(|stream| stream.pending().last()?.ok());
        let info = kept.map(|kept| kept.info).unwrap_or_default();
        let packet = TracedPacket {
            header: packet.header,
            size: data.len(),
            payload_size: packet.payload.len(),
            is_key_frame: info.key_frame_start,
            spatial_layer: info.spatial_layer,
            temporal_layer: info.temporal_layer,
            wide_sequence_number,
            is_rtx: found.kind == StreamKind::Rtx,
        };
        trace.add_packet(clock, TraceSubject::Producer(producer.id()), packet);
    }

    /// It was looked at what passes to a client.
    pub(super) fn trace_estimate(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key).filter(|transport| transport.is_traced()) else { return };
        let Some((downlink, is_transport_wide)) =
            transport.bandwidth().and_then(|bandwidth| Some((bandwidth.downlink()?, bandwidth.is_transport_wide())))
        else {
            return;
        };
        let info = TraceInfo::Bwe {
            is_transport_wide,
            desired_bitrate: downlink.desired,
            effective_desired_bitrate: downlink.effective_desired,
            available_bitrate: downlink.available,
        };
        if let Some(trace) = transport.trace() {
            trace.add(clock, TraceSubject::Transport, info);
        }
    }
}
