//! What the other ends of routes send: frames, and messages about routes.

use sluice_mesh::{Frame, FrameClass};
use sluice_proto::ids::RouteId;
use sluice_proto::pipe::{PipeBody, PipeMessage};

use super::super::clock::Clock;
use super::super::consumer::Consumer;
use super::super::drop_reason::DropReason;
use super::super::keys::{PipeConsumerKey, ProducerKey};
use super::super::messages::PipeEnd;
use super::super::pipe_consumer::PipeConsumer;
use super::super::producer::Origin;
use super::super::rtcp::SenderInfo;
use super::Media;

impl Media {
    pub(super) fn receive_frames(&mut self, clock: &Clock, from: PipeEnd, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            match self.receive_frame(clock, from, &frame) {
                Ok(()) => self.counters.pipe_packets_received += 1,
                Err(reason) => self.counters.drops.count(reason),
            }
        }
    }

    fn receive_frame(&mut self, clock: &Clock, from: PipeEnd, frame: &Frame) -> Result<(), DropReason> {
        let key = *self.routes_in.get(&(from, frame.route)).ok_or(DropReason::UnknownRoute)?;
        let producer = self.producers.get_mut(key).ok_or(DropReason::UnknownRoute)?;
        let result = producer.receive_frame(clock, frame);
        self.touch_producer(clock, key);
        if result == Err(DropReason::PipeShed) && matches!(frame.class, FrameClass::Video { temporal: 0, .. }) {
            self.begin_anew(clock, key);
        }
        result
    }

    /// The base layer was left out on purpose: receivers are to wait for the key frame that follows, and not to ask for what will
    /// never come.
    fn begin_anew(&mut self, clock: &Clock, key: ProducerKey) {
        self.route_pending(clock, key);
        let Some(producer) = self.producers.get(key) else { return };
        for consumer in &producer.consumers {
            self.consumers.get_mut(*consumer).into_iter().for_each(Consumer::require_sync);
        }
        for consumer in &producer.pipe_consumers {
            self.pipe_consumers.get_mut(*consumer).into_iter().for_each(PipeConsumer::require_sync);
        }
    }

    /// A message about a route that begins or ends here. One about any other is old news.
    pub(super) fn receive_pipe_message(&mut self, clock: &Clock, from: PipeEnd, message: PipeMessage) {
        match message.body {
            PipeBody::SenderReport { ssrc, ntp, rtp_timestamp } => {
                let Some(producer) = self.route_in(from, &message) else { return };
                let info = SenderInfo { ssrc, ntp, rtp_timestamp, packets: 0, octets: 0 };
                self.set_producer_clock(clock, producer, &info);
            }
            PipeBody::RouteClosed(_) => {
                let Some(producer) = self.route_in(from, &message) else { return };
                if let Some(Origin::Pipe(origin)) = self.producers.get_mut(producer).map(|p| &mut p.origin) {
                    origin.closed = true;
                }
            }
            PipeBody::Unsubscribe => {
                if let Some(consumer) = self.route_out(from, &message) {
                    self.close_pipe_consumer(consumer);
                }
            }
            PipeBody::LayersWanted(wanted) => {
                if let Some(consumer) = self.route_out(from, &message).and_then(|key| self.pipe_consumers.get_mut(key))
                {
                    consumer.set_wanted(wanted);
                }
            }
            PipeBody::KeyFrameRequest => {
                let key = self.route_out(from, &message);
                let Some(consumer) = key.and_then(|key| self.pipe_consumers.get_mut(key)) else { return };
                consumer.want_parameter_sets();
                let producer = consumer.producer;
                self.request_key_frame(clock, producer);
            }
            PipeBody::Nack(ref missing) => {
                let Some(key) = self.route_out(from, &message) else { return };
                let Some(consumer) = self.pipe_consumers.get_mut(key) else { return };
                let Some(producer) = self.producers.get(consumer.producer) else { return };
                self.counters.pipe_packets_sent +=
                    consumer.receive_nack(clock.now, missing, &producer.cache, &mut self.frames);
            }
            PipeBody::Stats(stats) => {
                if let Some(consumer) = self.route_out(from, &message).and_then(|key| self.pipe_consumers.get_mut(key))
                {
                    consumer.remote = stats;
                }
            }
            PipeBody::LayersCarried(carried) => {
                let Some(producer) = self.route_in(from, &message) else { return };
                if let Some(Origin::Pipe(origin)) = self.producers.get_mut(producer).map(|p| &mut p.origin) {
                    origin.starved = carried.is_none();
                }
            }
            // Subscriptions are the control plane's.
            PipeBody::Subscribe { .. } => {}
        }
    }

    fn route_in(&self, from: PipeEnd, message: &PipeMessage) -> Option<ProducerKey> {
        let key = *self.routes_in.get(&(from, RouteId(message.route)))?;
        match &self.producers.get(key)?.origin {
            Origin::Pipe(origin) if origin.epoch.0 == message.epoch => Some(key),
            _ => None,
        }
    }

    fn route_out(&self, to: PipeEnd, message: &PipeMessage) -> Option<PipeConsumerKey> {
        let key = *self.routes_out.get(&(to, RouteId(message.route)))?;
        (self.pipe_consumers.get(key)?.epoch().0 == message.epoch).then_some(key)
    }
}
