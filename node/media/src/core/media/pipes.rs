//! What the other ends of routes send: frames, and what they say of them. Of data see `data`.

use sluice_mesh::Frame;
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback, Wanted};

use super::Media;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::pipe_origin::PipeOrigin;
use crate::core::producer::{Origin, Producer};
use crate::drop_reason::DropReason;
use crate::keys::{PipeConsumerKey, ProducerKey};
use crate::messages::PipeEnd;
use crate::stream::packet::StreamSet;
use crate::wire::rtcp::SenderInfo;

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
        if let Ok(Some(level)) = result {
            self.hear(clock, key, level);
        }
        self.touch_producer(clock, key);
        if result == Err(DropReason::PipeShed) {
            let origin = self.producers.get_mut(key).and_then(Producer::pipe_origin);
            let interrupted = origin.map(PipeOrigin::take_interrupted).unwrap_or_default();
            self.begin_anew(clock, key, interrupted);
        }
        result.map(drop)
    }

    /// What comes next of these streams does not follow what came last, since the base layer was left out on purpose or
    /// the route is another one: receivers are to wait for the key frame that follows, and not to ask for what will
    /// never come.
    pub(super) fn begin_anew(&mut self, clock: &Clock, key: ProducerKey, streams: StreamSet) {
        if streams == StreamSet::NONE {
            return;
        }
        self.route(clock, key);
        let Some(producer) = self.producers.get_mut(key) else { return };
        producer.forget_key_frame(streams);
        for consumer in producer.consumers() {
            let consumer = self.consumers.get_mut(*consumer);
            let consumer = consumer.filter(|consumer| streams.contains(consumer.cut().stream()));
            consumer.into_iter().for_each(Consumer::require_sync);
        }
        for consumer in producer.pipe_consumers() {
            self.pipe_consumers.get_mut(*consumer).into_iter().for_each(|pipe| pipe.require_sync(streams));
        }
        self.look_what_is_offered(clock, key);
    }

    /// What is said about a route that begins or ends here. About any other it is old news, which is counted.
    pub(super) fn receive_feedback(&mut self, clock: &Clock, from: PipeEnd, feedback: RouteFeedback) {
        let of_receiver = feedback.body.is_of_receiver();
        let (route, epoch) = (RouteId(feedback.route), RouteEpoch(feedback.epoch));
        if let FeedbackBody::DataReceived { .. } | FeedbackBody::DataOffered { .. } = feedback.body {
            return self.hear_data(clock, from, (route, epoch), &feedback.body);
        }
        if of_receiver {
            match self.route_out(from, route, epoch) {
                Some(key) => self.hear_receiver(clock, key, feedback.body),
                None => self.counters.drops.count(DropReason::StaleFeedback),
            }
        } else {
            match self.route_in(from, route, epoch) {
                Some(key) => self.hear_sender(clock, key, &feedback.body),
                None => self.counters.drops.count(DropReason::StaleFeedback),
            }
        }
    }

    fn hear_receiver(&mut self, clock: &Clock, key: PipeConsumerKey, body: FeedbackBody) {
        let Some(consumer) = self.pipe_consumers.get_mut(key) else { return };
        match body {
            FeedbackBody::LayersWanted(wanted) => self.hear_wanted(clock, key, wanted),
            FeedbackBody::KeyFrameRequest(streams) => {
                consumer.want_parameter_sets();
                let (producer, streams) = (consumer.producer(), StreamSet::from_bits(streams));
                let indices = self.producers.get(producer).map(Producer::stream_indices);
                for stream in indices.into_iter().flatten() {
                    let is_sent = self.pipe_consumers.get(key).is_some_and(|consumer| consumer.carries(stream));
                    if is_sent && streams.contains(stream) {
                        self.request_key_frame(clock, producer, stream);
                    }
                }
            }
            FeedbackBody::Nack(missing) => {
                let Some(producer) = self.producers.get(consumer.producer()) else { return };
                self.counters.pipe_packets_sent +=
                    consumer.receive_nack(clock.now, &missing, producer, &mut self.frames);
            }
            FeedbackBody::Stats(stats) => consumer.set_remote(stats),
            FeedbackBody::SenderReport { .. }
            | FeedbackBody::LayersCarried(_)
            | FeedbackBody::StreamsOffered(_)
            | FeedbackBody::DataReceived { .. }
            | FeedbackBody::DataOffered { .. } => {}
        }
    }

    fn hear_wanted(&mut self, clock: &Clock, key: PipeConsumerKey, wanted: Wanted) {
        let Some(consumer) = self.pipe_consumers.get_mut(key) else { return };
        let (new, producer) = (consumer.set_wanted(wanted), consumer.producer());
        if new != StreamSet::NONE {
            self.start_pipe_consumer(clock, key, new);
        }
        self.note_wanted(producer);
    }

    fn hear_sender(&mut self, clock: &Clock, key: ProducerKey, body: &FeedbackBody) {
        match *body {
            FeedbackBody::SenderReport { ssrc, ntp, rtp_timestamp } => {
                let info = SenderInfo { ssrc, ntp, rtp_timestamp, packets: 0, octets: 0 };
                let stream = self.producers.get(key).and_then(|producer| producer.stream_with(ssrc));
                stream.into_iter().for_each(|stream| self.set_producer_clock(clock, key, stream, &info));
            }
            FeedbackBody::LayersCarried(carried) => {
                if let Some(origin) = self.producers.get_mut(key).and_then(Producer::pipe_origin) {
                    origin.set_carried(carried);
                }
                self.look_what_is_offered(clock, key);
            }
            FeedbackBody::StreamsOffered(streams) => {
                if let Some(origin) = self.producers.get_mut(key).and_then(Producer::pipe_origin) {
                    origin.set_offered(StreamSet::from_bits(streams));
                }
                self.look_what_is_offered(clock, key);
            }
            FeedbackBody::LayersWanted(_)
            | FeedbackBody::KeyFrameRequest(_)
            | FeedbackBody::Nack(_)
            | FeedbackBody::Stats(_)
            | FeedbackBody::DataReceived { .. }
            | FeedbackBody::DataOffered { .. } => {}
        }
    }

    fn route_in(&self, from: PipeEnd, route: RouteId, epoch: RouteEpoch) -> Option<ProducerKey> {
        let key = *self.routes_in.get(&(from, route))?;
        match self.producers.get(key)?.origin() {
            Origin::Pipe(origin) if origin.route().is_some_and(|route| route.epoch == epoch) => Some(key),
            _ => None,
        }
    }

    fn route_out(&self, to: PipeEnd, route: RouteId, epoch: RouteEpoch) -> Option<PipeConsumerKey> {
        let key = *self.routes_out.get(&(to, route))?;
        (self.pipe_consumers.get(key)?.epoch() == epoch).then_some(key)
    }
}
