//! What the control plane asks for. A request that is refused changed nothing.

use super::Media;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::data_log::Message;
use crate::keys::{ConsumerKey, ProducerKey, RouterKey};
use crate::messages::{Request, RequestError, Response};
use crate::transport::demux::TransportKey;
use sluice_proto::ids::{ConsumerId, ProducerId, RouterId, TransportId};

impl Media {
    #[allow(clippy::too_many_lines, reason = "a flat dispatch")]
    pub(super) fn handle_request(&mut self, clock: &Clock, request: Request) -> Result<Response, RequestError> {
        match request {
            Request::CreateRouter { router, account } => self.create_router(router, account)?,
            Request::CloseRouter { router } => {
                let key = self.router_key(router)?;
                self.close_router(clock, key);
            }
            Request::CreateWebRtcTransport { router, transport, ice, data_channels } => {
                self.create_transport(clock, router, transport, ice, data_channels)?;
            }
            Request::ConnectWebRtcTransport { transport, dtls } => {
                let key = self.transport_key(transport)?;
                let connected = self.transports.get_mut(key).map(|t| t.webrtc().connect(clock.now, &dtls));
                self.after_transport(clock, key);
                connected.unwrap_or(Ok(()))?;
            }
            Request::ConnectWithSrtpKeys { transport, keys } => {
                let key = self.transport_key(transport)?;
                let connected =
                    self.transports.get_mut(key).map(|t| t.webrtc().connect_with_srtp_keys(clock.now, keys));
                self.after_transport(clock, key);
                connected.unwrap_or(Ok(()))?;
            }
            Request::RestartIce { transport, ice } => {
                let key = self.transport_key(transport)?;
                if !self.demux.add_ufrag(&ice.ufrag, key) {
                    return Err(RequestError::AlreadyExists(format!("ufrag {}", ice.ufrag)));
                }
                if let Some(transport) = self.transports.get_mut(key) {
                    transport.webrtc().restart_ice(clock.now, ice);
                }
                self.after_transport(clock, key);
            }
            Request::CloseTransport { transport } => {
                let key = self.transport_key(transport)?;
                self.close_transport(clock, key);
            }
            Request::Produce { transport, producer, kind, rtp, mapping, paused } => {
                self.produce(clock, transport, producer, kind, &rtp, &mapping, paused)?;
            }
            Request::Consume { transport, consumer, producer, kind, rtp, paused } => {
                self.consume(clock, transport, consumer, producer, kind, &rtp, paused)?;
            }
            Request::CreatePipeProducer { router, producer, kind, rtp, route, paused } => {
                self.create_pipe_producer(clock, router, producer, kind, &rtp, route, paused)?;
            }
            Request::ProduceData { transport, producer, stream } => {
                self.produce_data(clock, transport, producer, stream)?;
            }
            Request::ConsumeData { transport, consumer, producer, stream, paused } => {
                self.consume_data(clock, transport, consumer, producer, (stream, paused))?;
            }
            Request::CreatePipeDataProducer { router, producer, stream, route } => {
                self.create_pipe_data_producer(clock, router, producer, stream, route)?;
            }
            Request::CreateDirectDataProducer { router, producer, stream } => {
                self.create_direct_data_producer(clock, router, producer, stream)?;
            }
            Request::SendData { producer, to, ppid, payload } => {
                self.send_direct_data(clock, producer, to, Message { ppid, payload })?;
            }
            Request::MovePipeProducer { producer, route } => match self.data.producer_key(producer) {
                Some(key) => self.move_pipe_data_producer(clock, key, route)?,
                None => self.move_pipe_producer(clock, producer, route)?,
            },
            Request::CreatePipeConsumer { producer, to, route, epoch, wanted } => {
                match self.data.producer_key(producer) {
                    Some(key) => self.open_data_route(clock, key, to, (route, epoch)),
                    None => self.create_pipe_consumer(clock, producer, to, (route, epoch), wanted)?,
                }
            }
            Request::ClosePipeConsumer { to, route, epoch } => {
                if self.data_route_out(to, route, epoch).is_some() {
                    self.close_data_route(clock, to, route);
                }
                if let Some(key) = self.routes_out.get(&(to, route)).copied()
                    && self.pipe_consumers.get(key).is_some_and(|consumer| consumer.epoch() == epoch)
                {
                    self.close_pipe_consumer(key);
                }
            }
            Request::CloseProducer { producer } => match self.data.producer_key(producer) {
                Some(key) => self.close_data_producer(clock, key),
                None => {
                    let key = self.producer_key(producer)?;
                    self.close_producer(clock, key);
                }
            },
            Request::PauseProducer { producer } => {
                let key = self.producer_key(producer)?;
                self.pause_producer(clock, key);
            }
            Request::ResumeProducer { producer } => {
                let key = self.producer_key(producer)?;
                self.resume_producer(clock, key);
            }
            Request::CloseConsumer { consumer } => match self.data.consumer_key(consumer) {
                Some(key) => self.close_data_consumer(clock, key),
                None => {
                    let key = self.consumer_key(consumer)?;
                    self.close_consumer(key);
                }
            },
            Request::PauseConsumer { consumer } => {
                let key = self.consumer_key(consumer)?;
                self.set_consumer_paused(clock, key, true);
            }
            Request::ResumeConsumer { consumer } => match self.data.consumer_key(consumer) {
                Some(key) => self.resume_data_consumer(key),
                None => {
                    let key = self.consumer_key(consumer)?;
                    self.set_consumer_paused(clock, key, false);
                }
            },
            Request::RequestKeyFrame { consumer } => {
                let key = self.consumer_key(consumer)?;
                if self.consumers.get(key).is_some_and(Consumer::is_active) {
                    self.request_key_frame_for(clock, key);
                }
            }
            Request::SetPreferredLayers { consumer, layers } => {
                let key = self.consumer_key(consumer)?;
                self.set_preferred_layers(clock, key, layers);
            }
            Request::SetConsumerPriority { consumer, priority } => {
                let key = self.consumer_key(consumer)?;
                self.set_consumer_priority(key, priority);
            }
            Request::TransportStats { transport } => return self.transport_stats(clock, transport),
            Request::ProducerStats { producer } => return self.producer_stats(clock, producer),
            Request::ConsumerStats { consumer } => return self.consumer_stats(clock, consumer),
            Request::DataProducerStats { producer } => return self.data_producer_stats(producer),
            Request::DataConsumerStats { consumer } => return self.data_consumer_stats(consumer),
            Request::Trace { transport, types, within } => {
                return self.trace_transport(clock, transport, types, within);
            }
            Request::Snapshot => return Ok(Response::Snapshot(Box::new(self.snapshot(clock)))),
        }
        Ok(Response::Done)
    }

    pub(super) fn router_key(&self, id: RouterId) -> Result<RouterKey, RequestError> {
        self.routers_by_id.get(&id).copied().ok_or(RequestError::RouterNotFound(id))
    }

    pub(super) fn transport_key(&self, id: TransportId) -> Result<TransportKey, RequestError> {
        self.transports_by_id.get(&id).copied().ok_or(RequestError::TransportNotFound(id))
    }

    pub(super) fn producer_key(&self, id: ProducerId) -> Result<ProducerKey, RequestError> {
        self.producers_by_id.get(&id).copied().ok_or(RequestError::ProducerNotFound(id))
    }

    pub(super) fn consumer_key(&self, id: ConsumerId) -> Result<ConsumerKey, RequestError> {
        self.consumers_by_id.get(&id).copied().ok_or(RequestError::ConsumerNotFound(id))
    }
}
