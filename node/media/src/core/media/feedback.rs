//! What goes back to publishers: NACKs, key-frame requests, clocks told onwards.

use std::time::Duration;

use sluice_proto::pipe::FeedbackBody;

use super::Media;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::pipe_consumer::PipeConsumer;
use crate::core::producer::{KeyFrameRequest, Producer};
use crate::core::router::{mark_dirty, send, send_by_pipe};
use crate::core::user_origin::KeyFrameMessage;
use crate::core::user_transport::UserTransport;
use crate::drop_reason::DropReason;
use crate::io::Output;
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey};
use crate::stream::packet::{StreamIndex, StreamSet};
use crate::stream::{MAX_NACKED, Stream};
use crate::trace::TraceInfo;
use crate::transport::demux::TransportKey;
use crate::wire::rtcp::{self, SenderInfo};

/// Time from a consumer's start to its first sender report: by then its first packets went out.
const FIRST_REPORT_DELAY: Duration = Duration::from_millis(150);

impl Media {
    /// Asks for what a producer misses, as far as it is time.
    pub(super) fn serve_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let streams = producer.stream_indices();
        if let Some(origin) = producer.pipe_origin() {
            while let Some((to, feedback)) = origin.poll_feedback(clock.now) {
                self.outputs.push_back(Output::Feedback { to, feedback });
            }
            let lost = origin.take_lost();
            self.counters.drops.count_many(DropReason::PipeLost, lost);
            if lost > 0 {
                producer.lose();
            }
        }
        for stream in streams {
            self.send_nacks(clock, key, stream);
            let stream_of = |producer: &mut Producer| producer.stream_mut(stream).map(Stream::take_needs_key_frame);
            let needs_key_frame = self.producers.get_mut(key).and_then(stream_of) == Some(true);
            if needs_key_frame && self.is_watched(key, stream) {
                self.request_key_frame(clock, key, stream);
            }
        }
        self.arm_producer(clock.now, key);
    }

    /// Whether anybody gets a stream's packets, or is to.
    pub(super) fn is_watched(&self, key: ProducerKey, stream: StreamIndex) -> bool {
        let Some(producer) = self.producers.get(key) else { return false };
        let gets = |consumer: &Consumer| {
            consumer.is_active() && (consumer.cut().stream() == stream || consumer.cut().next_stream() == Some(stream))
        };
        let is_active = |key: &ConsumerKey| self.consumers.get(*key).is_some_and(gets);
        let is_sent = |key: &PipeConsumerKey| self.pipe_consumers.get(*key).is_some_and(|pipe| pipe.carries(stream));
        producer.consumers().iter().any(is_active) || producer.pipe_consumers().iter().any(is_sent)
    }

    fn send_nacks(&mut self, clock: &Clock, key: ProducerKey, stream: StreamIndex) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let Some((transport, ssrc)) = producer.take_missing(clock.now, stream, &mut self.missing) else { return };
        let Some(rtcp_ssrc) = self.transports.get(transport).map(UserTransport::rtcp_ssrc) else { return };
        let missing = std::mem::take(&mut self.missing);
        for missing in missing.chunks(MAX_NACKED) {
            self.compound.clear();
            rtcp::nack(&mut self.compound, rtcp_ssrc, ssrc, missing.iter().copied());
            self.send_rtcp(transport);
            self.trace_producer(clock, key, TraceInfo::Nack { ssrc, packets: missing.len() as u64 });
        }
        self.missing = missing;
    }

    /// Sends the compound to a user.
    pub(super) fn send_rtcp(&mut self, key: TransportKey) {
        if self.compound.is_empty() {
            return;
        }
        self.mark_dirty(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        if let Err(reason) = transport.webrtc().send_rtcp(&self.compound) {
            self.counters.drops.count(reason);
        }
    }

    /// Somebody needs a key frame of this stream.
    pub(super) fn request_key_frame(&mut self, clock: &Clock, key: ProducerKey, stream: StreamIndex) {
        let Some(found) = self.producers.get_mut(key).and_then(|producer| producer.stream_mut(stream)) else { return };
        if found.need_key_frame(clock.now) {
            self.send_key_frame_request(clock, key, stream);
        }
        self.arm_producer(clock.now, key);
    }

    /// A consumer needs a key frame.
    pub(super) fn request_key_frame_for(&mut self, clock: &Clock, key: ConsumerKey) {
        if let Some(consumer) = self.consumers.get(key) {
            self.request_key_frame(clock, consumer.producer(), consumer.cut().aimed_stream());
        }
    }

    /// Asks the publisher, or the next node on the way to it.
    pub(super) fn send_key_frame_request(&mut self, clock: &Clock, key: ProducerKey, stream: StreamIndex) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        match producer.key_frame_request(stream) {
            None => return,
            Some(KeyFrameRequest::Pipe(to, feedback)) => self.outputs.push_back(Output::Feedback { to, feedback }),
            Some(KeyFrameRequest::User(transport, ssrc, message)) => {
                let Some(rtcp_ssrc) = self.transports.get(transport).map(UserTransport::rtcp_ssrc) else { return };
                self.compound.clear();
                let info = match message {
                    KeyFrameMessage::Pli => {
                        rtcp::pli(&mut self.compound, rtcp_ssrc, ssrc);
                        TraceInfo::Pli { ssrc }
                    }
                    KeyFrameMessage::Fir { number } => {
                        rtcp::fir(&mut self.compound, rtcp_ssrc, ssrc, number);
                        TraceInfo::Fir { ssrc }
                    }
                };
                self.send_rtcp(transport);
                self.trace_producer(clock, key, info);
            }
        }
        self.counters.key_frame_requests += 1;
    }

    /// A publisher told its clock: it is kept for the stream's consumers and told on to other nodes.
    pub(super) fn set_producer_clock(
        &mut self,
        clock: &Clock,
        key: ProducerKey,
        index: StreamIndex,
        info: &SenderInfo,
    ) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let Some(stream) = producer.stream_mut(index) else { return };
        let is_first = stream.clock().is_none();
        stream.set_clock(clock.now, info);
        for consumer in producer.consumers().iter().filter(|_| is_first) {
            let Some(consumer) = self.consumers.get(*consumer).filter(|c| c.lacks_sender_report()) else { continue };
            let Some(transport) = self.transports.get_mut(consumer.transport()) else { continue };
            transport.report_by(clock.now);
            transport.arm(consumer.transport(), &mut self.timers);
        }
        let pipe_consumers = producer.pipe_consumers().to_vec();
        for pipe_consumer in &pipe_consumers {
            let pipe_consumer = self.pipe_consumers.get(*pipe_consumer);
            self.outputs.extend(pipe_consumer.and_then(|pipe_consumer| clock_of(producer, index, pipe_consumer)));
        }
        for pipe_consumer in pipe_consumers {
            // What was said of that when it changed may have got lost.
            self.tell_offered(key, pipe_consumer);
        }
    }

    /// Tells a new pipe the publisher's clock, if it is known.
    pub(super) fn tell_clock(&mut self, producer: ProducerKey, pipe_consumer: PipeConsumerKey) {
        let told = self.producers.get(producer).zip(self.pipe_consumers.get(pipe_consumer));
        for (producer, pipe_consumer) in told.into_iter() {
            let clocks = producer.stream_indices().filter_map(|index| clock_of(producer, index, pipe_consumer));
            self.outputs.extend(clocks);
        }
    }

    /// Looks whether a consumer can be sent to now, and begins or ends that.
    pub(super) fn refresh_consumer(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        let Some(transport) = self.transports.get_mut(consumer.transport()) else { return };
        let active = consumer.wants() && !producer.is_paused() && transport.is_writable();
        if consumer.is_active() == active {
            return;
        }
        if !active {
            consumer.deactivate();
            return self.switched.push(key);
        }
        transport.report_by(clock.now + FIRST_REPORT_DELAY);
        transport.arm(consumer.transport(), &mut self.timers);
        // What is pending goes to those who were there before.
        let producer = consumer.producer();
        self.route(clock, producer);
        self.start_consumer(clock, key);
    }

    fn start_consumer(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.activate();
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        let Some(transport) = self.transports.get_mut(consumer.transport()) else { return };
        if !producer.codec().has_key_frames() {
            return;
        }
        mark_dirty(transport, consumer.transport(), &mut self.dirty_transports, &mut self.buffers);
        if let Some(stream) = producer.source_of(consumer.cut())
            && let Some(packets) = consumer.catch_up(stream, clock.now, transport.has_bandwidth())
        {
            send(consumer, transport, stream.kept(packets).map(Ok), clock, &mut self.counters);
        }
        if consumer.waits_for_key_frame() {
            self.request_key_frame_for(clock, key);
        } else {
            self.switched.push(key);
        }
    }

    /// Asks for the key frame that a new consumer will begin with as soon as its client is ready for it.
    pub(super) fn expect_consumer(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get(key).filter(|consumer| !consumer.is_active()) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        if producer.is_paused() || !producer.codec().has_key_frames() {
            return;
        }
        let stream = producer.source_of(consumer.cut());
        if stream.is_none_or(|stream| consumer.catch_up(stream, clock.now, false).is_none()) {
            self.request_key_frame_for(clock, key);
        }
    }

    /// Lets these streams of a pipe begin (again), as soon as a key frame allows it.
    pub(super) fn start_pipe_consumer(&mut self, clock: &Clock, key: PipeConsumerKey, streams: StreamSet) {
        let Some(producer_key) = self.pipe_consumers.get(key).map(PipeConsumer::producer) else { return };
        self.route(clock, producer_key);
        self.pipe_consumers.get_mut(key).into_iter().for_each(|pipe| pipe.require_sync(streams));
        let indices = self.producers.get(producer_key).map(Producer::stream_indices);
        for index in indices.into_iter().flatten().filter(|index| streams.contains(*index)) {
            let Some(consumer) = self.pipe_consumers.get_mut(key) else { return };
            let Some(producer) = self.producers.get(producer_key) else { return };
            if !producer.codec().has_key_frames() {
                return;
            }
            if consumer.carries(index)
                && let Some(stream) = producer.stream(index)
                && let Some(packets) =
                    consumer.cut(index).and_then(|cut| cut.catch_up(stream, clock.now, clock.now, false))
            {
                send_by_pipe(consumer, index, stream.kept(packets).map(Ok), &mut self.frames, &mut self.counters);
            }
            if consumer.waits_for_key_frame(index) {
                self.request_key_frame(clock, producer_key, index);
            }
        }
    }
}

/// What a pipe is told of the publisher's clock in a stream, if that is known.
fn clock_of(producer: &Producer, index: StreamIndex, pipe_consumer: &PipeConsumer) -> Option<Output> {
    let stream = producer.stream(index)?;
    let (clock, ssrc) = (stream.clock()?, stream.ssrc());
    let body = FeedbackBody::SenderReport { ssrc, ntp: clock.ntp, rtp_timestamp: clock.rtp_timestamp };
    let (to, feedback) = pipe_consumer.feedback(body);
    Some(Output::Feedback { to, feedback })
}
