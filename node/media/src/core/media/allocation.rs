//! Bandwidth towards users: their videos get their shares of it, what has to wait leaves in its turn, and it is found
//! out whether more would pass.

use std::cmp::Ordering;
use std::time::Instant;

use sluice_proto::pipe::Layers;

use super::Media;
use crate::bandwidth::Bandwidth;
use crate::bandwidth::allocation::{Demand, Ladder, Rung, allocate};
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::producer::Producer;
use crate::keys::ConsumerKey;
use crate::messages::WorkerEvent;
use crate::stream::packet::StreamIndex;
use crate::trace::{TraceInfo, TraceSubject};
use crate::transport::demux::TransportKey;

/// Between the rates of two encodings of a producer, about: twice the width and height. By that a stream is judged that
/// does not come in here, because nobody receives it.
const ENCODINGS_APART: u64 = 4;

/// What the lowest stream of a producer takes of which nothing is measured yet: what encoders begin with.
const LOWEST_ENCODING: u64 = 150_000;

/// The estimate is below this much of what is sent, in percent: no key frame is waited for before less is sent.
const HURRY_PERCENT: u64 = 75;

impl Media {
    /// The videos of a transport are to get their shares anew.
    pub(super) fn note_allocation(&mut self, key: TransportKey) {
        if self.transports.get_mut(key).and_then(|transport| transport.bandwidth()).is_some_and(Bandwidth::list) {
            self.allocated_anew.push(key);
        }
    }

    /// The same for the transport of a consumer.
    pub(super) fn note_allocation_of(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.consumers.get(key) {
            self.note_allocation(consumer.transport());
        }
    }

    /// A client told something of what passes.
    pub(super) fn look_at_estimate(&mut self, clock: &Clock, key: TransportKey) {
        let bandwidth = self.transports.get_mut(key).and_then(|transport| transport.bandwidth());
        if bandwidth.is_some_and(|bandwidth| bandwidth.is_allocation_due(clock)) {
            self.note_allocation(key);
        }
    }

    /// A client that tells no more what passes is sent less.
    pub(super) fn look_for_feedback(&mut self, clock: &Clock, key: TransportKey) {
        let bandwidth = self.transports.get_mut(key).and_then(|transport| transport.bandwidth());
        if bandwidth.is_some_and(|bandwidth| bandwidth.look_for_feedback(clock)) {
            self.note_allocation(key);
        }
    }

    /// A client cares so much for a video.
    pub(super) fn set_consumer_priority(&mut self, key: ConsumerKey, priority: u8) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.set_priority(priority.max(1));
        }
        self.pin(key);
        self.note_allocation_of(key);
    }

    /// Gives the videos their shares where that is to be done.
    pub(super) fn allocate(&mut self, clock: &Clock) {
        let mut transports = std::mem::take(&mut self.allocated_anew);
        for key in transports.drain(..) {
            self.allocate_transport(clock, key);
        }
        // None is entered meanwhile.
        self.allocated_anew = transports;
    }

    /// Gives the videos of a transport their shares, if anything is known of how much passes.
    pub(super) fn allocate_transport(&mut self, clock: &Clock, key: TransportKey) {
        let (mut demanding, mut demands) = (std::mem::take(&mut self.demanding), std::mem::take(&mut self.demands));
        let reserve = self.collect_demands(clock, key, &mut demanding, &mut demands);
        let bandwidth = self.transports.get_mut(key).and_then(|transport| transport.bandwidth());
        if let Some(bandwidth) = bandwidth
            && let Some((room, may_raise)) = bandwidth.begin_allocation(clock, reserve)
        {
            let allocation = allocate(&mut demands, &mut self.demand_order, room, may_raise);
            let is_any = |change| demands.iter().any(|demand| demand.change() == change);
            let changes = (is_any(Ordering::Less), is_any(Ordering::Greater));
            bandwidth.end_allocation(clock, allocation, changes, &mut self.rng);
            let sent: u64 = demands.iter().map(Demand::current_rate).sum();
            let is_hurried = room.is_some_and(|room| room < sent * HURRY_PERCENT / 100);
            for (consumer, demand) in demanding.iter().zip(&demands) {
                self.limit_consumer(clock, *consumer, demand.granted().map(|rung| rung.layers), is_hurried);
            }
            self.trace_estimate(clock, key);
            self.tell_downlink(clock, key);
        }
        (self.demanding, self.demands) = (demanding, demands);
    }

    /// What of video is wanted, and how much of what passes is not for that.
    fn collect_demands(
        &self,
        clock: &Clock,
        key: TransportKey,
        demanding: &mut Vec<ConsumerKey>,
        demands: &mut Vec<Demand>,
    ) -> u64 {
        demanding.clear();
        demands.clear();
        let mut reserve = 0;
        let Some(transport) = self.transports.get(key).filter(|transport| transport.has_bandwidth()) else { return 0 };
        for key in transport.consumers() {
            let Some(consumer) = self.consumers.get(*key).filter(|consumer| consumer.would_want()) else { continue };
            let Some(producer) = self.producers.get(consumer.producer()).filter(|producer| !producer.is_paused())
            else {
                continue;
            };
            if !consumer.is_video() {
                reserve += consumer.path_bitrate();
                continue;
            }
            let ladder = ladder(producer, consumer.preferred(), clock.now);
            if !ladder.rungs().is_empty() {
                demanding.push(*key);
                demands.push(Demand::new(consumer.priority(), ladder, consumer.limit()));
            }
        }
        reserve
    }

    /// There is room for layers of a consumer up to these, or for none.
    fn limit_consumer(&mut self, clock: &Clock, key: ConsumerKey, limit: Option<Layers>, is_hurried: bool) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        if consumer.limit() == limit {
            return;
        }
        consumer.set_limit(limit);
        self.aim_consumer(clock, key);
        if is_hurried {
            self.consumers.get_mut(key).into_iter().for_each(Consumer::hurry);
        }
        self.refresh_consumer(clock, key);
        self.switched.push(key);
    }

    fn tell_downlink(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let id = transport.id();
        if let Some(downlink) = transport.bandwidth().and_then(|bandwidth| bandwidth.take_downlink(clock)) {
            self.event(WorkerEvent::DownlinkChanged {
                transport: id,
                desired_bitrate: downlink.desired,
                effective_desired_bitrate: downlink.effective_desired,
                available_bitrate: downlink.available,
            });
        }
        if let Some(transport) = self.transports.get_mut(key) {
            transport.arm_bandwidth(clock, key, &mut self.timers);
        }
    }

    /// Sends the video that waits for its turn, as far as there is room.
    pub(super) fn send_held(&mut self, clock: &Clock, key: TransportKey) {
        let bandwidth = self.transports.get_mut(key).and_then(|transport| transport.bandwidth());
        if !bandwidth.is_some_and(|bandwidth| bandwidth.is_holding()) {
            return;
        }
        self.mark_dirty(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        self.reported.clear();
        self.reported.extend_from_slice(transport.consumers());
        let mut is_holding = false;
        for key in &self.reported {
            let Some(consumer) = self.consumers.get_mut(*key).filter(|consumer| consumer.is_held()) else { continue };
            let Some(producer) = self.producers.get(consumer.producer()) else { continue };
            is_holding |= consumer.send_held(producer, transport, clock, &mut self.counters);
            self.switched.push(*key);
        }
        transport.bandwidth().into_iter().for_each(|bandwidth| bandwidth.set_holding(is_holding));
    }

    /// Sends what a probe needs beside the media, if it is time.
    pub(super) fn send_probe(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key).filter(|transport| transport.is_writable()) else { return };
        let Some(bandwidth) = transport.bandwidth() else { return };
        if bandwidth.is_raise_due(clock) {
            return self.note_allocation(key);
        }
        let bytes = bandwidth.take_probe(clock);
        if bytes == 0 {
            return;
        }
        let is_able = |key: &&ConsumerKey| self.consumers.get(**key).is_some_and(Consumer::can_probe);
        let Some(consumer) = transport.consumers().iter().find(is_able).copied() else {
            transport.bandwidth().into_iter().for_each(Bandwidth::forget_limit);
            return self.note_allocation(key);
        };
        self.mark_dirty(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(consumer) = self.consumers.get_mut(consumer) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        let packets = consumer.send_probe(bytes, producer, transport, clock);
        self.counters.rtp_packets_sent += packets;
        if let Some(trace) = transport.trace() {
            trace.add(clock, TraceSubject::Transport, TraceInfo::Probation { packets });
        }
    }
}

/// What of a producer can be sent to whoever wants layers up to these. Of its lowest spatial layer some temporal layers
/// may be left out; those above are taken whole, since a larger picture that moves less is no better one, and each
/// change takes a key frame.
fn ladder(producer: &Producer, preferred: Layers, now: Instant) -> Ladder {
    let mut ladder = Ladder::EMPTY;
    for layer in producer.layers_up_to(preferred.spatial) {
        let spatial = layer.position() as u8;
        let whole = Layers { spatial, temporal: u8::MAX };
        let Some(rates) = producer.layer_rates(layer, now) else {
            ladder.push(Rung { layers: whole, rate: likely_rate(producer, layer, now) });
            continue;
        };
        let mut rates = (0..=preferred.temporal).zip(rates).peekable();
        let is_lowest = ladder.rungs().is_empty();
        while let Some((temporal, rate)) = rates.next() {
            match rates.peek() {
                None => ladder.push(Rung { layers: whole, rate }),
                Some((_, above)) if is_lowest && *above > rate => {
                    ladder.push(Rung { layers: Layers { spatial, temporal }, rate });
                }
                Some(_) => {}
            }
        }
    }
    ladder
}

/// What a spatial layer likely takes that does not come in here, by those that do.
fn likely_rate(producer: &Producer, layer: StreamIndex, now: Instant) -> u64 {
    let rate = |of: StreamIndex| Some((of, producer.layer_rates(of, now)?.last()?));
    let measured = producer.layers_up_to(u8::MAX).filter_map(rate);
    let nearest = measured.min_by_key(|(of, _)| of.position().abs_diff(layer.position()));
    let (from, rate) = nearest.map_or((0, LOWEST_ENCODING), |(of, rate)| (of.position(), rate));
    let factor = ENCODINGS_APART.pow(from.abs_diff(layer.position()) as u32);
    if layer.position() >= from { rate * factor } else { rate / factor }
}
