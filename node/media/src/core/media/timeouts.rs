//! What is done because it is time: reports, feedback, repeated requests, audio levels.

use super::Media;
use crate::clock::Clock;
use crate::core::timers::TimerKey;
use crate::io::Output;
use crate::keys::{ConsumerKey, ProducerKey, RouterKey};
use crate::messages::WorkerEvent;
use crate::stream::Stream;
use crate::transport::demux::TransportKey;
use crate::wire::rtcp;

/// A compound of sender reports goes out when it has this many bytes: with its SRTCP trailer it stays below any path's
/// MTU.
const COMPOUND_LEN: usize = 1_000;

impl Media {
    pub(super) fn handle_timeouts(&mut self, clock: &Clock) {
        // What is entered meanwhile waits for the next call, whatever time it names: no object can keep the core busy.
        let mut due = std::mem::take(&mut self.due);
        due.extend(std::iter::from_fn(|| self.timers.pop_due(clock.now)));
        for (at, key) in due.drain(..) {
            match key {
                TimerKey::Transport(key) => {
                    if self.transports.get_mut(key).is_some_and(|transport| transport.fire(at)) {
                        self.wake_transport(clock, key);
                    }
                }
                TimerKey::Producer(key) => {
                    if self.producers.get_mut(key).is_some_and(|producer| producer.fire(at)) {
                        self.wake_producer(clock, key);
                    }
                }
                TimerKey::DataProducer(key) => {
                    if self.data.producers.get_mut(key).is_some_and(|producer| producer.fire(at)) {
                        self.wake_data_producer(clock, key);
                    }
                }
                TimerKey::Router(key) => {
                    if self.routers.get_mut(key).is_some_and(|router| router.fire(at)) {
                        self.tell_audio_levels(clock, key);
                    }
                }
            }
        }
        self.due = due;
    }

    fn wake_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        for index in producer.stream_indices() {
            let is_watched = self.is_watched(key, index);
            let stream = self.producers.get_mut(key).and_then(|producer| producer.stream_mut(index));
            if stream.is_some_and(|stream| stream.handle_timeout(clock.now, is_watched)) {
                self.send_key_frame_request(clock, key, index);
            }
        }
        self.serve_producer(clock, key);
    }

    fn wake_transport(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if let Err(reason) = transport.handle_timeout(clock.now) {
            self.counters.drops.count(reason);
        }
        self.send_held(clock, key);
        self.send_probe(clock, key);
        self.send_transport_feedback(clock, key);
        if self.transports.get_mut(key).is_some_and(|transport| transport.begin_reports(clock.now)) {
            self.look_for_feedback(clock, key);
            self.look_what_ended(clock, key);
            self.send_receiver_reports(clock, key);
            self.send_sender_reports(clock, key);
        }
        self.after_transport(clock, key);
    }

    /// A producer of which nothing comes any more is looked at when its client's reports are due.
    fn look_what_ended(&mut self, clock: &Clock, key: TransportKey) {
        let producers = self.transports.get(key).map_or(0, |transport| transport.producers().len());
        for place in 0..producers {
            let producer = self.transports.get(key).and_then(|transport| transport.producers().get(place).copied());
            producer.into_iter().for_each(|producer| self.look_what_is_offered(clock, producer));
        }
    }

    fn send_transport_feedback(&mut self, clock: &Clock, key: TransportKey) {
        loop {
            self.compound.clear();
            let Some(transport) = self.transports.get_mut(key) else { return };
            if !transport.write_feedback(clock.now, &mut self.compound) {
                return;
            }
            self.send_rtcp(key);
        }
    }

    fn send_sender_reports(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get(key) else { return };
        let mut reported = std::mem::take(&mut self.reported);
        reported.clear();
        reported.extend_from_slice(transport.consumers());
        self.compound.clear();
        for consumer in reported.iter().copied() {
            self.tell_silence(clock, consumer);
            let Some(consumer) = self.consumers.get_mut(consumer) else { continue };
            let stream =
                self.producers.get(consumer.producer()).and_then(|producer| producer.source_of(consumer.cut()));
            let publisher_clock = stream.and_then(Stream::clock);
            let Some(info) = consumer.sender_report(clock, publisher_clock) else { continue };
            rtcp::sender_report(&mut self.compound, &info);
            rtcp::sdes_cname(&mut self.compound, info.ssrc, &consumer.parameters().cname);
            if self.compound.len() >= COMPOUND_LEN {
                self.send_rtcp(key);
                self.compound.clear();
            }
        }
        self.reported = reported;
        self.send_rtcp(key);
    }

    /// A client's reports bring its consumer's score up to date, but of a stream that has stopped there are none.
    fn tell_silence(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let producer = self.producers.get(consumer.producer());
        let is_silent = producer.is_some_and(|producer| producer.scores(clock.now).best() == 0);
        if is_silent || consumer.was_told_of_silence() {
            self.tell_consumer_score(clock, key);
        }
    }

    fn send_receiver_reports(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get(key) else { return };
        self.blocks.clear();
        for key in transport.producers() {
            let Some(producer) = self.producers.get_mut(*key) else { continue };
            let before = self.blocks.len();
            producer.report(clock.now, &mut self.blocks);
            if self.blocks.len() > before
                && let Some(scores) = producer.take_scores(clock.now)
            {
                let scores = scores.filter_map(|(index, score)| transport.encoding_score((*key, index), score));
                let event = WorkerEvent::ProducerScore { producer: producer.id(), scores: scores.collect() };
                self.outputs.push_back(Output::Event(event));
            }
        }
        let rtcp_ssrc = transport.rtcp_ssrc();
        let blocks = std::mem::take(&mut self.blocks);
        for blocks in blocks.chunks(rtcp::MAX_REPORT_BLOCKS) {
            self.compound.clear();
            rtcp::receiver_report(&mut self.compound, rtcp_ssrc, blocks);
            self.send_rtcp(key);
        }
        self.blocks = blocks;
    }

    fn tell_audio_levels(&mut self, clock: &Clock, key: RouterKey) {
        let Some(router) = self.routers.get_mut(key) else { return };
        let mut volumes = Vec::new();
        let mut heard_any = false;
        for producer in router.producers() {
            let Some(producer) = self.producers.get_mut(*producer) else { continue };
            heard_any |= producer.has_audio_level();
            if let Some(volume) = producer.take_audio_level() {
                volumes.push((producer.id(), volume));
            }
        }
        volumes.sort_by_key(|(_, volume)| std::cmp::Reverse(*volume));
        let is_told = router.heard(&volumes);
        if heard_any {
            router.observe(clock.now, key, &mut self.timers);
        }
        if is_told {
            let router = router.id();
            self.event(WorkerEvent::AudioLevels { router, volumes });
        }
    }
}
