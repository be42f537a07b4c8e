//! The beginning of a route: sends a cut of each of a producer's streams that are wanted there, one copy of each
//! packet, to another node or worker, however many want it there.

use std::time::{Duration, Instant};

use sluice_mesh::{Frame, FrameClass, FrameFlags, REPAIR_WINDOW, RouteSender};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{FeedbackBody, Layers, RouteFeedback, RouteStats, Wanted};

use crate::core::frames::FrameBatches;
use crate::core::producer::Producer;
use crate::drop_reason::DropReason;
use crate::keys::ProducerKey;
use crate::messages::PipeEnd;
use crate::stream::Stream;
use crate::stream::cut::{Cut, Place, rewrite};
use crate::stream::layers::UpTo;
use crate::stream::packet::{PacketName, StreamIndex, StreamSet};
use crate::stream::rtp_cache::{CachedPacket, Part};
use crate::stream::succession::Shift;
use crate::wire::codec::Codec;

/// No repair of what is older. Behind a pipe that was dark for a while everything is missing at once: what was said and
/// shown then is of no use any more, and would come all at once in the way of what is said now.
const MAX_REPAIR_AGE: Duration = Duration::from_secs(1);

/// What [`RouteSender`] remembers of a packet: how to make the same frame again.
fn cookie(place: Place) -> u64 {
    let Place { input, part, output, left_out_pictures, .. } = place;
    let part = u64::from(part == Part::ParameterSets) << PacketName::BITS;
    (part | u64::from(input.to_bits())) << 32 | u64::from(output) << 16 | u64::from(left_out_pictures)
}

fn place(cookie: u64) -> Place {
    let part = if cookie >> 32 >> PacketName::BITS == 0 { Part::Payload } else { Part::ParameterSets };
    let input = PacketName::from_bits((cookie >> 32) as u32);
    let (output, left_out_pictures) = ((cookie >> 16) as u16, cookie as u16);
    // Whoever receives users' packets from the other end's says where their pictures end.
    Place { input, part, output, left_out_pictures, ends_picture: false, up_to: UpTo::ALL }
}

/// What a route carries.
#[derive(Debug, Clone, Copy)]
struct Content {
    kind: MediaKind,
    codec: Codec,
    /// Its spatial layers are streams, not layers inside one.
    is_simulcast: bool,
}

/// The beginning of a route.
#[derive(Debug)]
pub(crate) struct PipeConsumer {
    producer: ProducerKey,
    to: PipeEnd,
    content: Content,
    /// One of each of the producer's streams.
    cuts: Vec<Cut>,
    wanted: Wanted,
    sender: RouteSender,
    /// Packets that may be sent again: as many as were sent, and no more of them at once than can be asked for.
    repairs: u16,
    /// What the other end measured.
    remote: RouteStats,
}

impl PipeConsumer {
    /// The beginning of a route that carried nothing yet.
    pub(crate) fn new(
        key: ProducerKey,
        producer: &Producer,
        to: PipeEnd,
        (route, epoch): (RouteId, RouteEpoch),
        wanted: Wanted,
    ) -> Self {
        let codec = producer.codec();
        let cuts = producer.stream_indices().map(|index| Cut::new(index, codec, 0, true)).collect();
        let sender = RouteSender::new(route, epoch);
        let content = Content { kind: producer.kind(), codec, is_simulcast: producer.is_simulcast() };
        let remote = RouteStats::default();
        let mut new = Self { producer: key, to, content, cuts, wanted, sender, repairs: 0, remote };
        new.set_wanted(wanted);
        new
    }

    /// Whose packets it sends.
    pub(crate) fn producer(&self) -> ProducerKey {
        self.producer
    }

    /// The route and where it ends.
    pub(crate) fn route(&self) -> (PipeEnd, RouteId) {
        (self.to, self.sender.route())
    }

    /// Which use of the route.
    pub(crate) fn epoch(&self) -> RouteEpoch {
        self.sender.epoch()
    }

    /// What of one of its producer's streams it sends.
    #[inline]
    pub(crate) fn cut(&self, stream: StreamIndex) -> Option<&Cut> {
        self.cuts.get(stream.position())
    }

    /// Whether the worker is too busy for it.
    pub(crate) fn is_shed(&self) -> bool {
        self.cuts.first().is_some_and(Cut::is_shed)
    }

    /// Whether nothing is sent because the worker is too busy.
    pub(crate) fn is_shed_wholly(&self) -> bool {
        self.cuts.iter().all(Cut::is_shed_wholly)
    }

    /// Whether a stream is wanted at the other end, and sent.
    pub(crate) fn carries(&self, stream: StreamIndex) -> bool {
        self.cut(stream).is_some_and(|cut| cut.is_wanted() && !cut.is_shed_wholly())
    }

    /// Whether it is of audio that somebody at the other end wants to hear however quiet.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        !self.is_video() && self.wanted.of(0).is_some_and(|wanted| wanted != Layers::WHILE_LOUD)
    }

    /// Whether it is of video.
    pub(crate) fn is_video(&self) -> bool {
        self.content.kind == MediaKind::Video
    }

    /// The other end wants other layers. Returns the streams that are wanted now and were not.
    pub(crate) fn set_wanted(&mut self, wanted: Wanted) -> StreamSet {
        let mut new = StreamSet::NONE;
        let was_pinned = self.is_pinned();
        self.wanted = wanted;
        if self.is_pinned() && !was_pinned {
            // Maybe it was not heard of late.
            self.require_sync(StreamSet::ALL);
        }
        for cut in &mut self.cuts {
            let layers = wanted.of(cut.stream().position());
            if layers.is_some() && !cut.is_wanted() {
                new.insert(cut.stream());
            }
            cut.set_wanted(layers);
        }
        new
    }

    /// What the other end wants.
    pub(crate) fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The other end told what it measured.
    pub(crate) fn set_remote(&mut self, stats: RouteStats) {
        self.remote = stats;
    }

    /// What was sent last of these streams has nothing to do with what comes next.
    pub(crate) fn require_sync(&mut self, streams: StreamSet) {
        let cuts = self.cuts.iter_mut().filter(|cut| streams.contains(cut.stream()));
        cuts.for_each(Cut::require_sync);
    }

    /// The producer is silent, and nothing of it is kept: nothing can be sent again. Gives the memory back.
    pub(crate) fn forget_sent(&mut self) {
        self.sender.forget();
    }

    /// The next key frame is to come with its parameter sets.
    pub(crate) fn want_parameter_sets(&mut self) {
        self.cuts.iter_mut().for_each(Cut::want_parameter_sets);
    }

    /// Whether it waits for a key frame of a stream.
    pub(crate) fn waits_for_key_frame(&self, stream: StreamIndex) -> bool {
        self.cut(stream).is_some_and(Cut::waits_for_key_frame)
    }

    /// The worker is too busy for it: it ends with the picture that is being sent.
    pub(crate) fn shed(&mut self, producer: &Producer) {
        for cut in &mut self.cuts {
            let unfinished = producer.source_of(cut).and_then(Stream::unfinished_picture);
            let sends = cut.is_wanted() && !cut.waits_for_key_frame();
            cut.shed(unfinished.filter(|_| sends));
        }
    }

    /// The same for one by which nothing was sent yet.
    pub(crate) fn shed_from_the_start(&mut self) {
        self.cuts.iter_mut().for_each(|cut| cut.shed(None));
    }

    /// The worker is not too busy for it any more.
    pub(crate) fn unshed(&mut self) {
        self.cuts.iter_mut().for_each(Cut::unshed);
    }

    /// What to say to the other end.
    pub(crate) fn feedback(&self, body: FeedbackBody) -> (PipeEnd, RouteFeedback) {
        (self.to, RouteFeedback { route: self.sender.route().0, epoch: self.sender.epoch().0, body })
    }

    /// Sends a packet of one of the producer's streams, if the other end wants its layer. Adds to `sent` how many
    /// frames that made: two with parameter sets.
    ///
    /// # Errors
    /// Why it did not go out.
    pub(crate) fn send_rtp(
        &mut self,
        index: StreamIndex,
        packet: &CachedPacket<'_>,
        out: &mut FrameBatches,
        sent: &mut u64,
    ) -> Result<(), DropReason> {
        let Self { cuts, sender, repairs, content, to, .. } = self;
        let cut = cuts.get_mut(index.position()).ok_or(DropReason::UnwantedLayer)?;
        cut.pass(packet, |place, _| {
            let seq = sender.next(cookie(place));
            *repairs = (*repairs + 1).min(REPAIR_WINDOW);
            let packet = frame(packet, place, *content, sender, seq, FrameFlags::default(), out);
            out.push(*to, packet);
            *sent += 1;
            Ok(())
        })
    }

    /// The other end misses these frames: those that the producer still has, and that are not too old to be of use, go
    /// out again. Returns how many did.
    pub(crate) fn receive_nack(
        &mut self,
        now: Instant,
        missing: &[u16],
        producer: &Producer,
        out: &mut FrameBatches,
    ) -> u64 {
        let mut sent = 0;
        for (seq, cookie) in self.sender.on_nack(missing).take(self.repairs.into()) {
            let place = place(cookie);
            if let Some(packet) = producer.named(place.input, now, MAX_REPAIR_AGE) {
                let flags = FrameFlags { retransmission: true };
                let packet = frame(&packet, place, self.content, &self.sender, seq, flags, out);
                out.push(self.to, packet);
                sent += 1;
            }
        }
        self.repairs -= sent;
        sent.into()
    }
}

/// A packet of the producer as a frame of the route.
fn frame(
    packet: &CachedPacket<'_>,
    place: Place,
    content: Content,
    sender: &RouteSender,
    seq: u16,
    flags: FrameFlags,
    out: &mut FrameBatches,
) -> Frame {
    let spatial = if content.is_simulcast { place.input.stream().position() as u8 } else { packet.info.spatial_layer };
    let class = match content.kind {
        MediaKind::Audio => FrameClass::Audio,
        MediaKind::Video => FrameClass::Video { temporal: packet.info.temporal_layer, spatial, key: packet.key_frame },
    };
    let header = packet.header_bytes();
    let bytes = out.copy(header, packet.part(place.part), |bytes| {
        if let Some([_, marker, number @ ..]) = bytes.first_chunk_mut::<4>() {
            *marker &= if place.part == Part::ParameterSets { 0x7f } else { 0xff };
            *number = place.output.to_be_bytes();
        }
        rewrite(place, Shift::default(), content.codec, bytes.get_mut(header.len()..).unwrap_or_default());
    });
    Frame { route: sender.route(), epoch: sender.epoch(), seq, flags, class, packet: bytes }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use sluice_mesh::LinkKey;
    use sluice_proto::ids::ProducerId;
    use sluice_proto::pipe::{Layers, MAX_STREAMS};

    use super::*;
    use crate::clock::Clock;
    use crate::core::pipe_origin::PipeOrigin;
    use crate::core::producer::Origin;
    use crate::keys::RouterKey;
    use crate::stream::packet::StreamIndex;
    use crate::stream::{Incoming, StreamParameters};
    use crate::wire::codec::Vp8Descriptor;
    use crate::wire::rtp::{RtpHeader, RtpPacket};
    use crate::wire::seq::FIRST_CYCLE;

    /// One packet a frame: a key frame, then the layers 0 2 1 2 in turn, of which the layer 2 behind a 1 builds on it.
    fn frame(number: u16) -> (Vec<u8>, u8) {
        let (layer, sync) = [(0, false), (2, true), (1, true), (2, false)][usize::from(number % 4)];
        let [high, low] = (number | 0x8000).to_be_bytes();
        let key = if number == 0 { 0x50 } else { 0x51 };
        (vec![0x90, 0xe0, high, low, 0, layer << 6 | u8::from(sync) << 5, key], layer)
    }

    fn producer(now: Instant) -> Producer {
        let id = ProducerId::from_random_bytes([1; 16]);
        let parameters = StreamParameters {
            kind: MediaKind::Video,
            ssrc: 1,
            publisher_ssrc: None,
            codec: Codec::Vp8,
            clock_rate: 90_000,
            max_silence: Duration::from_secs(1),
            nack: false,
            spatial_layers: 1,
        };
        let origin = Origin::Pipe(Box::new(PipeOrigin::new(now, None, 1)));
        Producer::new(now, id, RouterKey::default(), origin, parameters.kind, [parameters], false)
    }

    #[test]
    fn unwanted_layers_leave_no_trace() {
        let now = Instant::now();
        let (mut producer, mut out) = (producer(now), FrameBatches::default());
        let (clock, stream) = (Clock::new(now, (now, Duration::ZERO)), StreamIndex::ZERO);
        let to = PipeEnd::Node(LinkKey(1));
        let route = (RouteId(1), RouteEpoch(2));
        let mut consumer = PipeConsumer::new(ProducerKey::default(), &producer, to, route, Wanted::ALL);
        let (mut layers, mut sent) = (Vec::new(), 0);
        for number in 0..40 {
            let wanted = Layers { spatial: 0, temporal: if number < 20 { 1 } else { 2 } };
            consumer.set_wanted(Wanted([Some(wanted); MAX_STREAMS]));
            let (payload, layer) = frame(number);
            let header = RtpHeader {
                marker: true,
                payload_type: 101,
                sequence_number: 65_530_u16.wrapping_add(number),
                timestamp: 0,
                ssrc: 1,
            };
            let packet = Incoming { codec: Codec::Vp8, header, audio_level: None, carried: None, payload: &payload };
            producer.stream_mut(stream).unwrap().receive(&clock, packet).unwrap();
            let packet =
                producer.stream(stream).unwrap().cache().get(FIRST_CYCLE + 65_530 + u64::from(number)).unwrap();
            if consumer.send_rtp(stream, &packet, &mut out, &mut sent).is_ok() {
                layers.push(layer);
            }
        }
        assert_eq!(sent, layers.len() as u64);
        assert_eq!(layers[..10], [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(layers[10..], [0, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1, 2]);

        let later = now + MAX_REPAIR_AGE * 2;
        assert_eq!(consumer.receive_nack(later, &[3, 12], &producer, &mut out), 0, "nobody waits that long");
        assert_eq!(consumer.receive_nack(now, &[3, 12], &producer, &mut out), 2);
        let (_, frames) = out.drain().next().unwrap();
        let (sent, again) = frames.split_at(layers.len());
        for (index, frame) in sent.iter().enumerate() {
            let packet = RtpPacket::parse(&frame.packet).unwrap();
            assert_eq!((usize::from(frame.seq), usize::from(packet.header.sequence_number)), (index, index + 1));
            let picture = Vp8Descriptor::parse(packet.payload).unwrap().pictures.picture_id.unwrap();
            assert_eq!(usize::from(picture.value), index);
        }
        for frame in again {
            assert!(frame.flags.retransmission);
            assert_eq!(frame.packet, sent[usize::from(frame.seq)].packet);
        }
        // However often it is asked for the same: no more is sent again than was sent.
        let everything: Vec<u16> = (0..layers.len() as u16).collect();
        let ask = || consumer.receive_nack(now, &everything, &producer, &mut out);
        let again: u64 = std::iter::repeat_with(ask).take(100).sum();
        assert_eq!(again, layers.len() as u64 - 2);
    }
}
