//! The end of a route: where a producer that lives elsewhere enters this worker. What it adds to a producer is the
//! account of the route's frames and the way back to the other end. The producer outlives its routes: when its pipe
//! broke it goes on by another one.

use std::time::{Duration, Instant};

use sluice_mesh::{Accept, Frame, FrameClass, REPAIR_WINDOW, RouteReceiver};
use sluice_proto::pipe::{FeedbackBody, Layers, MAX_STREAMS, RouteFeedback, Wanted};

use crate::drop_reason::DropReason;
use crate::messages::{PipeEnd, RouteIn};
use crate::stream::numbering::Numbering;
use crate::stream::packet::{StreamIndex, StreamSet};
use crate::wire::rtp::RtpHeader;
use crate::wire::seq::extend;

/// Round-trip time of a pipe to assume until a repair was seen.
const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// Time between two messages of statistics.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// The end of a route.
#[derive(Debug)]
pub(crate) struct PipeOrigin {
    /// By which way its packets come now, if any do.
    route: Option<RouteIn>,
    streams: Vec<StreamIn>,
    /// The pipe has no room for these spatial layers, as the other end says or as their frames show. It asks for a key
    /// frame itself when it has again.
    starved: StreamSet,
    /// The streams whose base layer has turned from sent to shed, which nobody was told yet.
    interrupted: StreamSet,
    /// The spatial layers that the publisher sends, as the other end says.
    offered: StreamSet,
    /// What was said last to be wanted here.
    wanted: Wanted,
    receiver: RouteReceiver,
    stats_at: Option<Instant>,
    /// It was said at this route that not all is wanted.
    narrowed: bool,
    /// What is wanted is to be said again.
    wanted_due: bool,
}

/// One of the producer's streams.
#[derive(Debug, Default)]
struct StreamIn {
    /// The last frame of its base layer was shed.
    base_is_shed: bool,
    shed: Option<Shed>,
    /// Of all routes that were: the number behind which the next one goes on.
    last_output: Option<u16>,
}

/// Closes the gaps of what the other end shed. It exists from the first packet on that was not.
#[derive(Debug)]
struct Shed {
    numbers: Numbering,
    /// Sequence number and timestamp of the newest packet, shed or not, as the other end counts.
    newest: (u64, u32),
}

/// What a frame is to its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It came by itself.
    Regular,
    /// It had to be asked for.
    Repaired,
}

impl PipeOrigin {
    /// The end of a route on which nothing came yet of so many streams.
    pub(crate) fn new(now: Instant, route: Option<RouteIn>, streams: usize) -> Self {
        let receiver = RouteReceiver::new(now);
        Self {
            route,
            streams: (0..streams).map(|_| StreamIn::default()).collect(),
            starved: StreamSet::NONE,
            interrupted: StreamSet::NONE,
            offered: StreamSet::ALL,
            wanted: Wanted::ALL,
            receiver,
            stats_at: None,
            narrowed: false,
            wanted_due: false,
        }
    }

    /// By which way its packets come now, if any do.
    pub(crate) fn route(&self) -> Option<RouteIn> {
        self.route
    }

    /// Whether the pipe has no room for a spatial layer.
    pub(crate) fn is_starved(&self, layer: StreamIndex) -> bool {
        self.starved.contains(layer)
    }

    /// The other end says what the pipe has room for.
    pub(crate) fn set_carried(&mut self, carried: Option<Layers>) {
        let is_starved = |position: usize| carried.is_none_or(|layers| position > layers.spatial.into());
        self.starved = StreamSet::NONE;
        let starved = StreamIndex::first(MAX_STREAMS).filter(|layer| is_starved(layer.position()));
        starved.for_each(|index| self.starved.insert(index));
    }

    /// The other end says which spatial layers the publisher sends.
    pub(crate) fn set_offered(&mut self, streams: StreamSet) {
        self.offered = streams;
    }

    /// Whether a spatial layer is worth waiting for.
    pub(crate) fn offers(&self, layer: StreamIndex) -> bool {
        self.offered.without(self.starved).contains(layer)
    }

    /// This is wanted here. Returns what to say to the other end, if that is news.
    pub(crate) fn set_wanted(&mut self, wanted: Wanted) -> Option<(PipeEnd, RouteFeedback)> {
        let is_news = std::mem::replace(&mut self.wanted, wanted) != wanted;
        self.narrowed |= is_news;
        is_news.then(|| self.feedback(FeedbackBody::LayersWanted(wanted))).flatten()
    }

    /// The streams whose base layer, since this was asked last, has turned from sent to shed. What is shed after that
    /// interrupts nothing, as nothing was taken up again in between.
    pub(crate) fn take_interrupted(&mut self) -> StreamSet {
        std::mem::take(&mut self.interrupted)
    }

    /// Packets come by another way from now on, where they are numbered anew. Gives the former one.
    pub(crate) fn take_route(&mut self, now: Instant, route: Option<RouteIn>) -> Option<RouteIn> {
        (self.starved, self.interrupted) = (StreamSet::NONE, StreamSet::NONE);
        // The other end begins with everything, and is told what is wanted as soon as something comes.
        (self.offered, self.narrowed) = (StreamSet::ALL, self.wanted != Wanted::ALL);
        self.receiver = RouteReceiver::new(now);
        self.stats_at = None;
        self.forget_numbers();
        std::mem::replace(&mut self.route, route)
    }

    /// The next packet's number says nothing about the ones before.
    fn forget_numbers(&mut self) {
        for stream in &mut self.streams {
            let last_output = stream.shed.take().map(|shed| shed.numbers.highest_output());
            (stream.last_output, stream.base_is_shed) = (last_output.or(stream.last_output), false);
        }
    }

    /// A frame of the route came, of this stream.
    ///
    /// # Errors
    /// Why it is not to be used.
    pub(crate) fn receive(&mut self, now: Instant, index: StreamIndex, frame: &Frame) -> Result<Arrival, DropReason> {
        if self.route.is_none_or(|route| route.epoch != frame.epoch) {
            return Err(DropReason::StaleRoute);
        }
        let accept = self.receiver.receive(now, frame.seq, frame.flags.retransmission);
        if self.stats_at.is_none() {
            (self.stats_at, self.wanted_due) = (Some(now + STATS_INTERVAL), true);
        }
        let arrival = match accept {
            Accept::New => Arrival::Regular,
            Accept::Restarted => {
                self.forget_numbers();
                Arrival::Regular
            }
            Accept::Repaired => Arrival::Repaired,
            Accept::Duplicate => return Err(DropReason::PipeDuplicate),
            Accept::TooOld => return Err(DropReason::PipeTooOld),
        };
        let is_shed = frame.is_shed();
        let Some(stream) = self.streams.get_mut(index.position()) else { return Err(DropReason::UnknownRoute) };
        if let FrameClass::Video { temporal: 0, spatial, .. } = frame.class
            && let Some(layer) = StreamIndex::at(spatial.into())
        {
            match is_shed {
                true => self.starved.insert(layer),
                false => self.starved.remove(layer),
            }
            // Of layers inside a stream only the lowest one is of all receivers.
            if layer == index {
                if is_shed && !stream.base_is_shed {
                    self.interrupted.insert(index);
                }
                stream.base_is_shed = is_shed;
            }
        }
        if is_shed {
            stream.leave_out(&frame.packet);
            return Err(DropReason::PipeShed);
        }
        Ok(arrival)
    }

    /// The sequence number of a packet that the other end did not shed, with the number of pictures that it shed before
    /// it. `None` for what comes too late.
    pub(crate) fn renumber(&mut self, index: StreamIndex, frame: &Frame, header: &RtpHeader) -> Option<(u16, u16)> {
        let StreamIn { shed, last_output, .. } = self.streams.get_mut(index.position())?;
        let seq = header.sequence_number;
        let shed = shed.get_or_insert_with(|| match *last_output {
            None => Shed::new(seq, REPAIR_WINDOW, seq.wrapping_sub(REPAIR_WINDOW + 1)),
            // Numbers of the pipe begin at 0: so many may still come before this one.
            Some(last) => Shed::new(seq, frame.seq.min(REPAIR_WINDOW), last),
        });
        let sequence = shed.advance(seq, header.timestamp).0;
        Some((shed.numbers.input(sequence)?, shed.numbers.pictures_before(sequence)))
    }

    /// Frames given up since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        self.receiver.take_lost()
    }

    /// What is to be said to the other end now.
    pub(crate) fn poll_feedback(&mut self, now: Instant) -> Option<(PipeEnd, RouteFeedback)> {
        if let Some(missing) = self.receiver.poll_nack(now, ASSUMED_RTT) {
            return self.feedback(FeedbackBody::Nack(missing));
        }
        // It may have got lost.
        if std::mem::take(&mut self.wanted_due) && self.narrowed {
            return self.feedback(FeedbackBody::LayersWanted(self.wanted));
        }
        if self.stats_at.is_some_and(|at| at <= now) {
            self.wanted_due = true;
            self.stats_at = Some(now + STATS_INTERVAL);
            return self.feedback(FeedbackBody::Stats(self.receiver.stats()));
        }
        None
    }

    /// When [`poll_feedback`](Self::poll_feedback) has something to say next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.receiver.poll_timeout(), self.stats_at].into_iter().flatten().min()
    }

    /// What to say to the other end, if there is one.
    pub(crate) fn feedback(&self, body: FeedbackBody) -> Option<(PipeEnd, RouteFeedback)> {
        let RouteIn { from, route, epoch } = self.route?;
        Some((from, RouteFeedback { route: route.0, epoch: epoch.0, body }))
    }
}

impl StreamIn {
    fn leave_out(&mut self, head: &[u8]) {
        let (Some(shed), Some(&[_, _, high, low, ref timestamp @ ..])) = (&mut self.shed, head.first_chunk::<8>())
        else {
            return;
        };
        let (sequence, begins) = shed.advance(u16::from_be_bytes([high, low]), u32::from_be_bytes(*timestamp));
        shed.numbers.leave_out(sequence, begins);
    }
}

impl Shed {
    /// With this packet, behind the number `last`. What it has overtaken, or what had to be asked for, may be before
    /// it: as many as `before`.
    fn new(first: u16, before: u16, last: u16) -> Self {
        let sequence = extend(None, first);
        let mut numbers = Numbering::new(last);
        numbers.sync(sequence - u64::from(before));
        // No picture has begun: the first one does with whatever timestamp it has.
        Self { numbers, newest: (sequence, 0) }
    }

    /// The number without its wrap, and whether the packet is the first of a picture.
    fn advance(&mut self, seq: u16, timestamp: u32) -> (u64, bool) {
        let sequence = extend(Some(self.newest.0), seq);
        if sequence < self.newest.0 {
            return (sequence, false);
        }
        let begins = self.newest.1 != timestamp;
        self.newest = (sequence, timestamp);
        (sequence, begins)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use sluice_mesh::{FrameFlags, LinkKey};
    use sluice_proto::ids::{RouteEpoch, RouteId};

    use super::*;

    #[test]
    fn what_the_other_end_sheds_leaves_no_gap() {
        let now = Instant::now();
        let (route, epoch) = (RouteId(1), RouteEpoch(1));
        let from = PipeEnd::Node(LinkKey(1));
        let mut producer = PipeOrigin::new(now, Some(RouteIn { from, route, epoch }), 1);
        let mut came_out = Vec::new();
        // Pictures of two packets each, close to the wrap; every other picture of the middle is shed.
        for packet in 0..40_u16 {
            let picture = packet / 2;
            let header = RtpHeader {
                marker: packet % 2 == 1,
                payload_type: 101,
                sequence_number: 65_520_u16.wrapping_add(packet),
                timestamp: u32::from(picture) * 3000,
                ssrc: 7,
            };
            let class = FrameClass::Video { temporal: (picture % 2) as u8, spatial: 0, key: false };
            let flags = FrameFlags::default();
            let bytes = header.to_bytes(false).to_vec().into();
            let mut frame = Frame { route, epoch, seq: packet, flags, class, packet: bytes };
            if (10..30).contains(&packet) && picture % 2 == 1 {
                frame.shed();
            }
            match producer.receive(now, StreamIndex::ZERO, &frame) {
                Ok(_) => came_out.push((packet, producer.renumber(StreamIndex::ZERO, &frame, &header).unwrap())),
                Err(reason) => assert_eq!(reason, DropReason::PipeShed),
            }
        }
        assert_eq!(came_out.len(), 30);
        for (index, (packet, (seq, left_out_pictures))) in came_out.into_iter().enumerate() {
            assert_eq!(seq, 65_520_u16.wrapping_add(index as u16));
            assert_eq!(packet / 2 - left_out_pictures, index as u16 / 2);
        }
    }

    #[test]
    fn what_was_lost_at_the_very_beginning_and_repaired_is_used() {
        let now = Instant::now();
        let (route, epoch) = (RouteId(1), RouteEpoch(1));
        let from = PipeEnd::Node(LinkKey(1));
        let mut producer = PipeOrigin::new(now, Some(RouteIn { from, route, epoch }), 1);
        for (packet, retransmission) in [(1, false), (0, true), (2, false)] {
            let sequence_number = 65_535_u16.wrapping_add(packet);
            let header = RtpHeader { marker: true, payload_type: 101, sequence_number, timestamp: 0, ssrc: 7 };
            let class = FrameClass::Video { temporal: 0, spatial: 0, key: true };
            let flags = FrameFlags { retransmission };
            let bytes = header.to_bytes(false).to_vec().into();
            let frame = Frame { route, epoch, seq: packet, flags, class, packet: bytes };
            producer.receive(now, StreamIndex::ZERO, &frame).unwrap();
            assert_eq!(producer.renumber(StreamIndex::ZERO, &frame, &header), Some((sequence_number, 0)));
        }
    }

    #[test]
    fn numbers_go_on_when_packets_come_by_another_route() {
        let now = Instant::now();
        let route =
            |route| Some(RouteIn { from: PipeEnd::Node(LinkKey(1)), route: RouteId(route), epoch: RouteEpoch(0) });
        let mut producer = PipeOrigin::new(now, route(0), 1);
        let mut numbers = Vec::new();
        let mut packet = |producer: &mut PipeOrigin, route, seq: u16, retransmission| {
            // Each route counts its packets, and its RTP sequence numbers, from the beginning.
            let header = RtpHeader { marker: true, payload_type: 101, sequence_number: seq + 1, timestamp: 0, ssrc: 7 };
            let class = FrameClass::Audio;
            let flags = FrameFlags { retransmission };
            let (route, packet) = (RouteId(route), header.to_bytes(false).to_vec().into());
            let frame = Frame { route, epoch: RouteEpoch(0), seq, flags, class, packet };
            producer.receive(now, StreamIndex::ZERO, &frame).unwrap();
            numbers.push(producer.renumber(StreamIndex::ZERO, &frame, &header).unwrap().0);
        };
        (0..3).for_each(|seq| packet(&mut producer, 0, seq, false));
        assert_eq!(producer.take_route(now, None), route(0));
        assert_eq!(producer.feedback(FeedbackBody::KeyFrameRequest(1)), None);
        assert_eq!(producer.take_route(now, route(1)), None);
        // The first two are lost and come later.
        packet(&mut producer, 1, 2, false);
        assert!(producer.poll_feedback(now + Duration::from_millis(10)).is_some());
        (0..2).for_each(|seq| packet(&mut producer, 1, seq, true));
        packet(&mut producer, 1, 3, false);
        producer.take_route(now, route(2));
        packet(&mut producer, 2, 0, false);
        assert_eq!(numbers, [1, 2, 3, 6, 4, 5, 7, 8]);
    }

    #[test]
    fn a_route_is_starved_until_a_frame_of_it_is_not_shed() {
        let now = Instant::now();
        let (route, epoch) = (RouteId(1), RouteEpoch(1));
        let from = PipeEnd::Node(LinkKey(1));
        let mut producer = PipeOrigin::new(now, Some(RouteIn { from, route, epoch }), 1);
        let mut frame = |seq, temporal, shed| {
            let header = RtpHeader { marker: true, payload_type: 101, sequence_number: seq, timestamp: 0, ssrc: 7 };
            let class = FrameClass::Video { temporal, spatial: 0, key: false };
            let packet = header.to_bytes(false).to_vec().into();
            let mut frame = Frame { route, epoch, seq, flags: FrameFlags::default(), class, packet };
            if shed {
                frame.shed();
            }
            // What is shed is an error, and of no interest here.
            let _ = producer.receive(now, StreamIndex::ZERO, &frame);
            (producer.is_starved(StreamIndex::ZERO), producer.take_interrupted() != StreamSet::NONE)
        };
        assert_eq!(frame(0, 1, true), (false, false), "other layers still come");
        assert_eq!(frame(1, 0, true), (true, true));
        assert_eq!(frame(2, 2, true), (true, false));
        for seq in 3..100 {
            assert_eq!(frame(seq, 0, true), (true, false), "whoever waits already need not be told again");
        }
        assert_eq!(frame(100, 0, false), (false, false));
        assert_eq!(frame(101, 1, false), (false, false));
        assert_eq!(frame(102, 0, true), (true, true));
    }
}
