//! What is done because it is time: reports, feedback, repeated requests, audio levels.

use super::Media;
use crate::clock::Clock;
use crate::core::audio_levels;
use crate::core::producer::Origin;
use crate::core::timers::{Timer, TimerKey};
use crate::core::user_transport::REPORT_INTERVAL;
use crate::keys::{ConsumerKey, ProducerKey, RouterKey};
use crate::messages::WorkerEvent;
use crate::transport::demux::TransportKey;
use crate::wire::rtcp;

/// A compound of sender reports goes out when it has this many bytes: with its SRTCP trailer it stays below any path's MTU.
const COMPOUND_LEN: usize = 1_000;

impl Media {
    pub(super) fn handle_timeouts(&mut self, clock: &Clock) {
        // What is entered meanwhile waits for the next call, whatever time it names: no object can keep the core busy.
        let mut due = std::mem::take(&mut self.due);
        due.extend(std::iter::from_fn(|| self.timers.pop_due(clock.now)));
        for (at, key) in due.drain(..) {
            let fires = |timer: Option<&mut Timer>| timer.is_some_and(|timer| timer.fire(at));
            match key {
                TimerKey::Transport(key) => {
                    if fires(self.transports.get_mut(key).map(|transport| &mut transport.timer)) {
                        self.wake_transport(clock, key);
                    }
                }
                TimerKey::Producer(key) => {
                    if fires(self.producers.get_mut(key).map(|producer| &mut producer.timer)) {
                        self.wake_producer(clock, key);
                    }
                }
                TimerKey::Router(key) => {
                    if fires(self.routers.get_mut(key).map(|router| &mut router.timer)) {
                        self.tell_audio_levels(clock, key);
                    }
                }
            }
        }
        self.due = due;
    }

    fn wake_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let is_watched = self.is_watched(key);
        let Some(producer) = self.producers.get_mut(key) else { return };
        if !is_watched {
            producer.key_frames.cancel();
        } else if producer.key_frames.handle_timeout(clock.now) {
            self.send_key_frame_request(clock, key);
        }
        self.serve_producer(clock, key);
    }

    fn wake_transport(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let is_due = |at: Option<std::time::Instant>| at.is_some_and(|at| at <= clock.now);
        let reports = is_due(transport.reports_at);
        if is_due(transport.webrtc.poll_timeout()) {
            transport.webrtc.handle_timeout(clock.now);
        }
        self.send_transport_feedback(clock, key);
        if reports {
            self.send_reports(clock, key);
        }
        self.after_transport(clock, key);
    }

    fn send_transport_feedback(&mut self, clock: &Clock, key: TransportKey) {
        loop {
            let Some(transport) = self.transports.get_mut(key) else { return };
            let Some(feedback) = &mut transport.feedback else { return };
            self.compound.clear();
            let (from, about) = (transport.rtcp_ssrc, transport.feedback_ssrc);
            if !feedback.write_next(clock.now, &mut self.compound, from, about) {
                return;
            }
            self.send_rtcp(clock, key);
        }
    }

    fn send_reports(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.reports_at = Some(clock.now + REPORT_INTERVAL);
        transport.sample_downlink();
        self.send_receiver_reports(clock, key);
        self.compound.clear();
        for index in 0.. {
            let Some(consumer) = self.transports.get(key).and_then(|t| t.consumers.get(index)).copied() else { break };
            self.tell_silence(clock, consumer);
            let Some(consumer) = self.consumers.get_mut(consumer) else { continue };
            let publisher_clock = self.producers.get(consumer.producer).and_then(|producer| producer.stream.clock());
            let Some(info) = consumer.sender_report(clock, publisher_clock) else { continue };
            rtcp::sender_report(&mut self.compound, &info);
            rtcp::sdes_cname(&mut self.compound, info.ssrc, &consumer.parameters().cname);
            if self.compound.len() >= COMPOUND_LEN {
                self.send_rtcp(clock, key);
                self.compound.clear();
            }
        }
        self.send_rtcp(clock, key);
    }

    /// A client's reports bring its consumer's score up to date, but of a stream that has stopped there are none.
    fn tell_silence(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let is_silent = self.producers.get(consumer.producer).is_some_and(|producer| producer.score(clock.now) == 0);
        if is_silent || consumer.reported_score.is_some_and(|(_, producer_score)| producer_score == 0) {
            self.tell_consumer_score(clock, key);
        }
    }

    fn send_receiver_reports(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get(key) else { return };
        self.blocks.clear();
        for producer in &transport.producers {
            let Some(producer) = self.producers.get_mut(*producer) else { continue };
            let Origin::User(origin) = &producer.origin else { continue };
            let Some(report) = origin.ssrc.and_then(|ssrc| producer.stream.report(clock.now, ssrc)) else { continue };
            self.blocks.push(report);
            let score = producer.score(clock.now);
            if producer.reported_score.replace(score) != Some(score) {
                let event = WorkerEvent::ProducerScore { producer: producer.id, score };
                self.outputs.push_back(super::Output::Event(event));
            }
        }
        let rtcp_ssrc = transport.rtcp_ssrc;
        let blocks = std::mem::take(&mut self.blocks);
        for blocks in blocks.chunks(rtcp::MAX_REPORT_BLOCKS) {
            self.compound.clear();
            rtcp::receiver_report(&mut self.compound, rtcp_ssrc, blocks);
            self.send_rtcp(clock, key);
        }
        self.blocks = blocks;
    }

    fn tell_audio_levels(&mut self, clock: &Clock, key: RouterKey) {
        let Some(router) = self.routers.get_mut(key) else { return };
        let mut volumes = Vec::new();
        let mut heard_any = false;
        for producer in &router.producers {
            let Some(producer) = self.producers.get_mut(*producer) else { continue };
            heard_any |= !producer.audio_levels.is_empty();
            if let Some(volume) = producer.audio_levels.take() {
                volumes.push((producer.id, volume));
            }
        }
        volumes.sort_by_key(|(_, volume)| std::cmp::Reverse(*volume));
        let was_audible = std::mem::replace(&mut router.audible, !volumes.is_empty());
        router.observing = heard_any;
        if heard_any {
            let at = clock.now + audio_levels::INTERVAL;
            self.timers.arm(&mut router.timer, TimerKey::Router(key), Some(at));
        }
        if was_audible || !volumes.is_empty() {
            let router = router.id;
            self.event(WorkerEvent::AudioLevels { router, volumes });
        }
    }
}
