//! What goes back to publishers: NACKs, key-frame requests, clocks told onwards.

use super::Media;
use crate::clock::Clock;
use crate::core::overload::Shed;
use crate::core::producer::Origin;
use crate::core::router::{mark_dirty, send, send_by_pipe};
use crate::core::timers::TimerKey;
use crate::core::user_origin::KeyFrameMessage;
use crate::drop_reason::DropReason;
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey};
use crate::transport::demux::TransportKey;
use crate::wire::rtcp::{self, SenderInfo};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};

/// Packets that one NACK names. Each may take four bytes, so that with its SRTCP trailer it stays below any path's MTU.
const MAX_NACKED: usize = 250;

/// Time from a consumer's start to its first sender report: by then its first packets went out.
const FIRST_REPORT_DELAY: std::time::Duration = std::time::Duration::from_millis(150);

impl Media {
    /// Asks for what a producer misses, as far as it is time.
    pub(super) fn serve_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let mut needs_key_frame = std::mem::take(&mut producer.needs_key_frame);
        match &mut producer.origin {
            Origin::User(origin) => {
                if let Some(nack) = &mut origin.nack
                    && (nack.has_new() || nack.poll_timeout(clock.now).is_some_and(|at| at <= clock.now))
                {
                    self.missing.clear();
                    needs_key_frame |= nack.take_due(clock.now, &mut self.missing);
                    self.send_nack(clock, key);
                }
            }
            Origin::Pipe(origin) => {
                while let Some((to, feedback)) = origin.poll_feedback(clock.now) {
                    self.outputs.push_back(super::Output::Feedback { to, feedback });
                }
                let lost = origin.take_lost();
                needs_key_frame |= lost > 0;
                self.counters.drops.count_many(DropReason::PipeLost, lost);
            }
        }
        if needs_key_frame && self.is_watched(key) {
            self.request_key_frame(clock, key);
        }
        self.arm_producer(clock.now, key);
    }

    /// Whether anybody gets a producer's packets.
    pub(super) fn is_watched(&self, key: ProducerKey) -> bool {
        let Some(producer) = self.producers.get(key) else { return false };
        let is_active = |consumer: &ConsumerKey| self.consumers.get(*consumer).is_some_and(|consumer| consumer.active);
        let is_sent = |key: &PipeConsumerKey| self.pipe_consumers.get(*key).is_some_and(|pipe| pipe.shed != Shed::Yes);
        producer.consumers.iter().any(is_active) || producer.pipe_consumers.iter().any(is_sent)
    }

    fn send_nack(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let Origin::User(origin) = &producer.origin else { return };
        let (transport, Some(ssrc)) = (origin.transport, origin.ssrc) else { return };
        let Some(rtcp_ssrc) = self.transports.get(transport).map(|transport| transport.rtcp_ssrc) else { return };
        producer.nacks.0 += self.missing.len().div_ceil(MAX_NACKED) as u64;
        producer.nacks.1 += self.missing.len() as u64;
        let missing = std::mem::take(&mut self.missing);
        for missing in missing.chunks(MAX_NACKED) {
            self.compound.clear();
            rtcp::nack(&mut self.compound, rtcp_ssrc, ssrc, missing.iter().copied());
            self.send_rtcp(clock, transport);
        }
        self.missing = missing;
    }

    /// Sends the compound to a user.
    pub(super) fn send_rtcp(&mut self, clock: &Clock, key: TransportKey) {
        if self.compound.is_empty() {
            return;
        }
        self.mark_dirty(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        if let Err(reason) = transport.webrtc.send_rtcp(clock.now, &self.compound) {
            self.counters.drops.count(reason);
        }
    }

    /// Somebody needs a key frame of this producer.
    pub(super) fn request_key_frame(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if !producer.codec.has_key_frames() || producer.paused {
            return;
        }
        if producer.key_frames.need(clock.now) {
            self.send_key_frame_request(clock, key);
        }
        self.arm_producer(clock.now, key);
    }

    /// Asks the publisher, or the next node on the way to it.
    pub(super) fn send_key_frame_request(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        match &mut producer.origin {
            // What asks comes back until there is a key frame, so that it is heard as soon as one can come.
            Origin::Pipe(origin) if origin.starved => return,
            Origin::Pipe(origin) => {
                let Some((to, feedback)) = origin.feedback(FeedbackBody::KeyFrameRequest) else { return };
                self.outputs.push_back(super::Output::Feedback { to, feedback });
            }
            Origin::User(origin) => {
                let (Some(message), Some(ssrc)) = (&mut origin.key_frame_message, origin.ssrc) else { return };
                let Some(transport) = self.transports.get(origin.transport) else { return };
                self.compound.clear();
                match message {
                    KeyFrameMessage::Pli => rtcp::pli(&mut self.compound, transport.rtcp_ssrc, ssrc),
                    KeyFrameMessage::Fir { number } => {
                        *number = number.wrapping_add(1);
                        rtcp::fir(&mut self.compound, transport.rtcp_ssrc, ssrc, *number);
                    }
                }
                let transport = origin.transport;
                producer.key_frame_requests += 1;
                self.send_rtcp(clock, transport);
            }
        }
        self.counters.key_frame_requests += 1;
    }

    /// A publisher told its clock: it is kept for the producer's consumers and told on to other nodes.
    pub(super) fn set_producer_clock(&mut self, clock: &Clock, key: ProducerKey, info: &SenderInfo) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let is_first = producer.stream.clock().is_none();
        producer.stream.set_clock(clock.now, info);
        for consumer in producer.consumers.iter().filter(|_| is_first) {
            let Some(consumer) = self.consumers.get(*consumer).filter(|c| c.lacks_sender_report()) else { continue };
            let Some(transport) = self.transports.get_mut(consumer.transport) else { continue };
            transport.reports_at = Some(clock.now);
            self.timers.arm(&mut transport.timer, TimerKey::Transport(consumer.transport), Some(clock.now));
        }
        for index in 0.. {
            let Some(pipe) = self.producers.get(key).and_then(|p| p.pipe_consumers.get(index)).copied() else { break };
            self.tell_clock(key, pipe);
        }
    }

    /// Tells a new pipe the publisher's clock, if it is known.
    pub(super) fn tell_clock(&mut self, producer: ProducerKey, pipe_consumer: PipeConsumerKey) {
        let (Some(producer), Some(consumer)) = (self.producers.get(producer), self.pipe_consumers.get(pipe_consumer))
        else {
            return;
        };
        let Some(clock) = producer.stream.clock() else { return };
        let (ssrc, ntp, rtp_timestamp) = (producer.ssrc(), clock.ntp, clock.rtp_timestamp);
        let body = FeedbackBody::SenderReport { ssrc, ntp, rtp_timestamp };
        let feedback = RouteFeedback { route: consumer.route().0, epoch: consumer.epoch().0, body };
        self.outputs.push_back(super::Output::Feedback { to: consumer.to, feedback });
    }

    /// Looks whether a consumer can send now, and begins or ends that.
    pub(super) fn refresh_consumer(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(consumer.producer) else { return };
        let Some(transport) = self.transports.get_mut(consumer.transport) else { return };
        let active = !consumer.paused && !producer.paused && consumer.shed == Shed::No && transport.writable;
        if std::mem::replace(&mut consumer.active, active) == active {
            return;
        }
        if !active {
            return consumer.forget_sent();
        }
        consumer.require_sync();
        let soon = clock.now + FIRST_REPORT_DELAY;
        transport.reports_at = Some(transport.reports_at.map_or(soon, |at| at.min(soon)));
        let (producer, transport) = (consumer.producer, consumer.transport);
        self.arm_transport(transport);
        self.start_consumer(clock, key, producer);
    }

    fn start_consumer(&mut self, clock: &Clock, key: ConsumerKey, producer_key: ProducerKey) {
        // What is pending goes to those who were there before.
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.active = false;
        }
        self.route_pending(clock, producer_key);
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.active = true;
        let Some(producer) = self.producers.get(producer_key) else { return };
        if !producer.codec.has_key_frames() {
            return;
        }
        let Some(transport) = self.transports.get_mut(consumer.transport) else { return };
        mark_dirty(transport, consumer.transport, &mut self.dirty_transports, &mut self.buffers);
        if producer.catch_up(clock.now).next().is_some_and(|first| consumer.may_begin_at(first)) {
            let packets = producer.catch_up(clock.now).map(|sequence| sequence as u16);
            send(consumer, transport, producer, packets, clock, &mut self.counters);
        }
        if consumer.waits_for_key_frame() {
            self.request_key_frame(clock, producer_key);
        }
    }

    /// Lets a pipe begin (again), as soon as a key frame allows it.
    pub(super) fn start_pipe_consumer(&mut self, clock: &Clock, key: PipeConsumerKey) {
        let Some(producer_key) = self.pipe_consumers.get(key).map(|consumer| consumer.producer) else { return };
        self.route_pending(clock, producer_key);
        let Some(consumer) = self.pipe_consumers.get_mut(key) else { return };
        consumer.require_sync();
        let Some(producer) = self.producers.get(producer_key) else { return };
        if !producer.codec.has_key_frames() {
            return;
        }
        if producer.catch_up(clock.now).next().is_some_and(|first| consumer.may_begin_at(first)) {
            let packets = producer.catch_up(clock.now).map(|sequence| sequence as u16);
            send_by_pipe(consumer, producer, packets, &mut self.frames, &mut self.counters);
        }
        if consumer.waits_for_key_frame() {
            self.request_key_frame(clock, producer_key);
        }
    }

    pub(super) fn route_pending(&mut self, clock: &Clock, key: ProducerKey) {
        if let Some(touched) = self.producers.get(key).map(|producer| producer.touched) {
            self.route(clock, key);
            if let Some(producer) = self.producers.get_mut(key) {
                producer.touched = touched;
            }
        }
    }
}
