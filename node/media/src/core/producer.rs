//! A source of audio or video on this worker: a user's, or the end of a route. What comes in is brought into the mesh's
//! canonical form and put into one of its streams, where it waits for the router.

use std::time::{Duration, Instant};

use sluice_mesh::{Frame, FrameClass};
use sluice_proto::ids::ProducerId;
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{FeedbackBody, MAX_STREAMS, RouteFeedback, Wanted};

use crate::clock::Clock;
use crate::core::pipe_origin::{Arrival, PipeOrigin};
use crate::core::timers::{Timer, TimerKey, Timers};
use crate::core::user_origin::{KeyFrameMessage, UserOrigin};
use crate::drop_reason::DropReason;
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey, RouterKey};
use crate::messages::{PipeEnd, StreamScores, StreamStats};
use crate::stream::cut::Cut;
use crate::stream::packet::{PacketName, StreamIndex, StreamSet};
use crate::stream::rtp_cache::CachedPacket;
use crate::stream::{Incoming, Stream, StreamParameters};
use crate::transport::demux::TransportKey;
use crate::transport::rtp_listener::StreamKind;
use crate::wire::codec::Codec;
use crate::wire::rtcp::{ReportBlock, SenderInfo};
use crate::wire::rtp::{AudioLevel, ExtensionIds, ReceivedExtensions, RtpHeader, RtpPacket};

/// An encoding of several that sends nothing for longer was given up by its publisher: pictures come five times a
/// second at least. Whoever receives it gets another one.
const MAX_PAUSE: Duration = Duration::from_millis(700);

/// Where a producer's packets come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A user of this worker.
    User(UserOrigin),
    /// Another node or worker.
    Pipe(Box<PipeOrigin>),
}

/// How to ask for a key frame.
#[derive(Debug)]
pub(crate) enum KeyFrameRequest {
    /// The publisher, who knows the stream by this SSRC.
    User(TransportKey, u32, KeyFrameMessage),
    /// The next node or worker on the way to it.
    Pipe(PipeEnd, RouteFeedback),
}

/// A source of audio or video.
#[derive(Debug)]
pub(crate) struct Producer {
    id: ProducerId,
    kind: MediaKind,
    router: RouterKey,
    origin: Origin,
    /// One for each encoding.
    streams: Vec<Stream>,
    /// What comes in is not passed on.
    paused: bool,
    consumers: Vec<ConsumerKey>,
    pipe_consumers: Vec<PipeConsumerKey>,
    /// It is passed on, since it is among the loudest or all are.
    heard: bool,
    /// Is in the list of producers that the batch touched.
    touched: bool,
    /// The scores that the control plane was told last, of the streams that had come in.
    told_scores: [Option<u8>; MAX_STREAMS],
    /// The streams that were worth waiting for when that was looked at last.
    offered: StreamSet,
    /// The streams that the control plane was told last are wanted.
    told_wanted: StreamSet,
    timer: Timer,
}

impl Producer {
    /// A producer of which nothing came yet, but is expected from now on.
    pub(crate) fn new(
        now: Instant,
        id: ProducerId,
        router: RouterKey,
        origin: Origin,
        kind: MediaKind,
        streams: impl IntoIterator<Item = StreamParameters>,
        paused: bool,
    ) -> Self {
        Self {
            id,
            kind,
            router,
            origin,
            streams: streams.into_iter().map(|parameters| Stream::new(now, parameters, paused)).collect(),
            paused,
            consumers: Vec::new(),
            pipe_consumers: Vec::new(),
            heard: true,
            touched: false,
            told_scores: [None; MAX_STREAMS],
            offered: StreamSet::NONE,
            told_wanted: StreamSet::NONE,
            timer: Timer::default(),
        }
    }

    /// Its id, the same everywhere.
    pub(crate) fn id(&self) -> ProducerId {
        self.id
    }

    /// Audio or video.
    pub(crate) fn kind(&self) -> MediaKind {
        self.kind
    }

    /// The room's media on this worker.
    pub(crate) fn router(&self) -> RouterKey {
        self.router
    }

    /// Where its packets come from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The transport that its client sends it by, if that is one of this worker.
    pub(crate) fn user_transport(&self) -> Option<TransportKey> {
        match &self.origin {
            Origin::User(origin) => Some(origin.transport()),
            Origin::Pipe(_) => None,
        }
    }

    /// The end of its route, if it comes by one.
    pub(crate) fn pipe_origin(&mut self) -> Option<&mut PipeOrigin> {
        match &mut self.origin {
            Origin::User(_) => None,
            Origin::Pipe(origin) => Some(origin),
        }
    }

    /// What its payloads are.
    pub(crate) fn codec(&self) -> Codec {
        self.streams.first().map_or(Codec::Opaque, Stream::codec)
    }

    /// Whether what comes in is not passed on.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether it has several streams, of which one is received at a time.
    pub(crate) fn is_simulcast(&self) -> bool {
        self.streams.len() > 1
    }

    /// Whether it has one stream with several spatial layers inside.
    pub(crate) fn is_svc(&self) -> bool {
        !self.is_simulcast() && self.spatial_layers() > 1
    }

    /// Whether a receiver gets one of several spatial layers of it.
    pub(crate) fn is_layered(&self) -> bool {
        self.spatial_layers() > 1
    }

    /// How many spatial layers it has: streams, or layers inside the only one.
    fn spatial_layers(&self) -> usize {
        match &self.streams[..] {
            [stream] => stream.spatial_layers(),
            streams => streams.len(),
        }
    }

    /// The stream that a spatial layer is of.
    pub(crate) fn stream_of_layer(&self, layer: StreamIndex) -> StreamIndex {
        if self.is_simulcast() { layer } else { StreamIndex::ZERO }
    }

    /// Looks which of several spatial layers are worth waiting for. Returns whether that has changed.
    #[inline]
    pub(crate) fn look_what_is_offered(&mut self, now: Instant) -> bool {
        if !self.is_layered() {
            return false;
        }
        let mut offered = StreamSet::NONE;
        for layer in StreamIndex::first(self.spatial_layers()) {
            let is_offered = match (&self.origin, &self.streams[..]) {
                (Origin::Pipe(origin), _) => origin.offers(layer),
                (Origin::User(_), [stream]) => stream.layers_alive(now, MAX_PAUSE).contains(layer),
                (Origin::User(_), _) => self.stream(layer).is_some_and(|stream| stream.is_alive(now, MAX_PAUSE)),
            };
            if is_offered {
                offered.insert(layer);
            }
        }
        std::mem::replace(&mut self.offered, offered) != offered
    }

    /// The spatial layers that were worth waiting for when that was looked at last.
    pub(crate) fn offered(&self) -> StreamSet {
        self.offered
    }

    /// This is wanted of it now. Gives a bit for each of several spatial layers that is, if the control plane is to be
    /// told: they are others. Of layers inside a stream all below the highest one are.
    pub(crate) fn take_wanted(&mut self, wanted: Wanted) -> Option<u8> {
        let mut streams = StreamSet::NONE;
        let is_wanted = |layer: &StreamIndex| match self.is_simulcast() {
            true => wanted.of(layer.position()).is_some(),
            false => wanted.of(0).is_some_and(|layers| layer.position() <= layers.spatial.into()),
        };
        StreamIndex::first(self.spatial_layers()).filter(is_wanted).for_each(|layer| streams.insert(layer));
        let is_news = std::mem::replace(&mut self.told_wanted, streams) != streams;
        is_news.then(|| streams.to_bits())
    }

    /// The spatial layers for whoever wants those up to this: those that there are, or the least of those above.
    pub(crate) fn layers_up_to(&self, spatial: u8) -> impl Iterator<Item = StreamIndex> {
        let is_offered = |layer: &StreamIndex| self.offered.contains(*layer) || !self.is_layered();
        let layers = || StreamIndex::first(self.spatial_layers());
        let least = layers().find(is_offered);
        let wanted = move |layer: &StreamIndex| layer.position() <= spatial.into() || Some(*layer) == least;
        layers().filter(is_offered).filter(wanted)
    }

    /// Bits per second that it takes to send one of its spatial layers, with temporal layers up to each, from the
    /// lowest on; `None` while that is not measured.
    pub(crate) fn layer_rates(&self, layer: StreamIndex, now: Instant) -> Option<impl Iterator<Item = u64> + use<>> {
        let inner = (!self.is_simulcast()).then_some(layer.position() as u8);
        self.stream(self.stream_of_layer(layer))?.layer_rates(now, inner)
    }

    /// The best of them.
    pub(crate) fn best_layer(&self, spatial: u8) -> Option<StreamIndex> {
        self.layers_up_to(spatial).last()
    }

    /// The highest spatial layer of those up to this, sent or not.
    pub(crate) fn highest_layer(&self, spatial: u8) -> u8 {
        spatial.min(self.spatial_layers().saturating_sub(1) as u8)
    }

    /// Which streams it has.
    pub(crate) fn stream_indices(&self) -> impl Iterator<Item = StreamIndex> + use<> {
        StreamIndex::first(self.streams.len())
    }

    /// One of its streams.
    #[inline]
    pub(crate) fn stream(&self, index: StreamIndex) -> Option<&Stream> {
        self.streams.get(index.position())
    }

    /// The stream that has this SSRC inside the mesh.
    pub(crate) fn stream_with(&self, ssrc: u32) -> Option<StreamIndex> {
        self.stream_indices().find(|index| self.stream(*index).is_some_and(|stream| stream.ssrc() == ssrc))
    }

    /// The stream of it that a cut is made of.
    #[inline]
    pub(crate) fn source_of(&self, cut: &Cut) -> Option<&Stream> {
        self.stream(cut.stream())
    }

    /// One of its streams.
    pub(crate) fn stream_mut(&mut self, index: StreamIndex) -> Option<&mut Stream> {
        self.streams.get_mut(index.position())
    }

    /// The packet that is so named, if it is kept and not older than that.
    pub(crate) fn named(&self, name: PacketName, now: Instant, max_age: Duration) -> Option<CachedPacket<'_>> {
        self.stream(name.stream())?.cache().named(name, now, max_age)
    }

    /// Who gets its packets.
    pub(crate) fn consumers(&self) -> &[ConsumerKey] {
        &self.consumers
    }

    /// Somebody gets its packets from now on.
    pub(crate) fn add_consumer(&mut self, key: ConsumerKey) {
        self.consumers.push(key);
    }

    /// Somebody gets none any more.
    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) {
        self.consumers.retain(|other| *other != key);
    }

    /// Which other nodes and workers get its packets.
    pub(crate) fn pipe_consumers(&self) -> &[PipeConsumerKey] {
        &self.pipe_consumers
    }

    /// Another node or worker gets its packets from now on.
    pub(crate) fn add_pipe_consumer(&mut self, key: PipeConsumerKey) {
        self.pipe_consumers.push(key);
    }

    /// Another node or worker gets none any more.
    pub(crate) fn remove_pipe_consumer(&mut self, key: PipeConsumerKey) {
        self.pipe_consumers.retain(|other| *other != key);
    }

    /// A user's packet came.
    ///
    /// # Errors
    /// Why it is not passed on.
    #[inline]
    pub(crate) fn receive_rtp(
        &mut self,
        clock: &Clock,
        (index, kind): (StreamIndex, StreamKind),
        packet: &RtpPacket<'_>,
        extensions: &ReceivedExtensions<'_>,
    ) -> Result<(), DropReason> {
        let (Origin::User(origin), Some(stream)) = (&self.origin, self.streams.get_mut(index.position())) else {
            return Err(DropReason::UnknownSsrc);
        };
        let content = match origin.content_of(kind, packet) {
            Err(fault) if kind == StreamKind::Media => {
                let payload_type = origin.mapped_payload_type().ok_or(fault)?;
                return stream.receive_nothing(clock, RtpHeader { payload_type, ..packet.header }, fault);
            }
            content => content?,
        };
        let header =
            RtpHeader { payload_type: content.payload_type, sequence_number: content.sequence_number, ..packet.header };
        let (audio_level, carried) = (extensions.audio_level, extensions.carried.checked());
        let carried = carried.as_ref();
        let packet = Incoming { codec: content.codec, header, audio_level, carried, payload: content.payload };
        match kind {
            StreamKind::Media => stream.receive(clock, packet),
            StreamKind::Rtx => stream.receive_retransmission(clock, packet),
        }
    }

    /// A frame of the producer's route came. Returns how loud it is, of audio.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub(crate) fn receive_frame(&mut self, clock: &Clock, frame: &Frame) -> Result<Option<AudioLevel>, DropReason> {
        let index = self.stream_of(frame.class).ok_or(DropReason::UnknownRoute)?;
        let (Origin::Pipe(origin), Some(stream)) = (&mut self.origin, self.streams.get_mut(index.position())) else {
            return Err(DropReason::UnknownRoute);
        };
        let arrival = origin.receive(clock.now, index, frame)?;
        let packet = RtpPacket::parse(&frame.packet).ok_or(DropReason::RtpMalformed)?;
        let extensions = ExtensionIds::CANONICAL.read(packet.extensions);
        let (audio_level, carried) = (extensions.audio_level, extensions.carried.checked());
        let carried = carried.as_ref();
        let (sequence_number, mut left_out_pictures) =
            origin.renumber(index, frame, &packet.header).ok_or(DropReason::TooLate)?;
        let header = RtpHeader { sequence_number, ..packet.header };
        let codec = stream.codec().of_payload_type(header.payload_type);
        if !codec.counts_pictures() {
            left_out_pictures = 0;
        }
        let packet = Incoming { codec, header, audio_level, carried, payload: packet.payload };
        stream.receive_by_route(clock, packet, left_out_pictures, arrival == Arrival::Repaired)?;
        Ok(audio_level)
    }

    /// The stream that a frame of its route is of: with several each is a spatial layer.
    fn stream_of(&self, class: FrameClass) -> Option<StreamIndex> {
        match class {
            FrameClass::Video { spatial, .. } if self.is_simulcast() => {
                StreamIndex::at(spatial.into()).filter(|index| index.position() < self.streams.len())
            }
            FrameClass::Video { .. } | FrameClass::Audio => Some(StreamIndex::ZERO),
        }
    }

    /// Whether it is passed on to whom it is not pinned.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.heard
    }

    /// It is among the loudest now, or not any more.
    pub(crate) fn set_heard(&mut self, heard: bool) {
        self.heard = heard;
    }

    /// It is to be routed and served at the end of the batch. Returns whether that is news.
    pub(crate) fn touch(&mut self) -> bool {
        !std::mem::replace(&mut self.touched, true)
    }

    /// It is served.
    pub(crate) fn untouch(&mut self) {
        self.touched = false;
    }

    /// Something of it is missing that will not come.
    pub(crate) fn lose(&mut self) {
        self.streams.iter_mut().for_each(Stream::lose);
    }

    /// Whether it should be routed before more comes in.
    pub(crate) fn is_full(&self) -> bool {
        self.streams.iter().any(Stream::is_full)
    }

    /// The streams that count anew since this was asked last: whoever gets them has to begin anew as well.
    pub(crate) fn take_restarted(&mut self) -> StreamSet {
        let mut restarted = StreamSet::NONE;
        for (index, stream) in StreamIndex::first(self.streams.len()).zip(&mut self.streams) {
            if stream.take_restarted() {
                restarted.insert(index);
            }
        }
        restarted
    }

    /// What was pending has been routed; somebody waits for a key frame of these streams that was not in it.
    pub(crate) fn routed(&mut self, waited_for: StreamSet) {
        for (index, stream) in StreamIndex::first(self.streams.len()).zip(&mut self.streams) {
            stream.routed(waited_for.contains(index));
        }
    }

    /// Nothing is passed on from now on.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.streams.iter_mut().for_each(Stream::pause);
    }

    /// What comes in is passed on again. Consumers have to begin anew.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.paused = false;
        self.streams.iter_mut().for_each(|stream| stream.resume(now));
    }

    /// What comes next does not follow what came last, so nobody can begin with the latest key frame of these streams.
    pub(crate) fn forget_key_frame(&mut self, streams: StreamSet) {
        let forgets = StreamIndex::first(self.streams.len()).zip(&mut self.streams);
        forgets.filter(|(index, _)| streams.contains(*index)).for_each(|(_, stream)| stream.forget_key_frame());
    }

    /// Puts what of a stream is to be asked for again now into `missing`; gives whom to ask, and for which SSRC.
    pub(crate) fn take_missing(
        &mut self,
        now: Instant,
        index: StreamIndex,
        missing: &mut Vec<u16>,
    ) -> Option<(TransportKey, u32)> {
        let Origin::User(origin) = &self.origin else { return None };
        let stream = self.streams.get_mut(index.position())?;
        stream.take_missing(now, missing);
        stream.publisher_ssrc().filter(|_| !missing.is_empty()).map(|ssrc| (origin.transport(), ssrc))
    }

    /// Whom to ask for a key frame of a stream, if there is anybody.
    pub(crate) fn key_frame_request(&mut self, index: StreamIndex) -> Option<KeyFrameRequest> {
        match &mut self.origin {
            // What asks comes back until there is a key frame, so that it is heard as soon as one can come.
            // Of layers inside a stream the lowest one.
            Origin::Pipe(origin) if origin.is_starved(index) => None,
            Origin::Pipe(origin) => {
                let mut streams = StreamSet::NONE;
                streams.insert(index);
                let (to, feedback) = origin.feedback(FeedbackBody::KeyFrameRequest(streams.to_bits()))?;
                Some(KeyFrameRequest::Pipe(to, feedback))
            }
            Origin::User(origin) => {
                let stream = self.streams.get_mut(index.position())?;
                let ssrc = stream.publisher_ssrc()?;
                let message = origin.next_key_frame_message()?;
                stream.count_key_frame_request();
                Some(KeyFrameRequest::User(origin.transport(), ssrc, message))
            }
        }
    }

    /// A sender report of the client for one of its streams, as the mesh counts; `None` if it comes too soon to be of
    /// use.
    pub(crate) fn map_sender_info(&self, now: Instant, index: StreamIndex, info: &SenderInfo) -> Option<SenderInfo> {
        self.stream(index)?.map_sender_info(now, info)
    }

    /// Wakes the producer when it wants to be woken.
    pub(crate) fn arm(&mut self, now: Instant, key: ProducerKey, timers: &mut Timers) {
        let streams = self.streams.iter().filter_map(|stream| stream.poll_timeout(now)).min();
        let route = match &self.origin {
            Origin::User(_) => None,
            Origin::Pipe(origin) => origin.poll_timeout(),
        };
        timers.arm(&mut self.timer, TimerKey::Producer(key), [streams, route].into_iter().flatten().min());
    }

    /// Whether it waits for this time.
    pub(crate) fn fire(&mut self, at: Instant) -> bool {
        self.timer.fire(at)
    }

    /// Quality of reception of each stream, 0 to 10: 0 when nothing comes that should.
    pub(crate) fn scores(&self, now: Instant) -> StreamScores {
        self.streams.iter().map(|stream| stream.score(now)).collect()
    }

    /// Puts the report blocks for the client, of those streams that came, into `blocks`.
    pub(crate) fn report(&mut self, now: Instant, blocks: &mut Vec<ReportBlock>) {
        for stream in &mut self.streams {
            blocks.extend(stream.publisher_ssrc().and_then(|ssrc| stream.report(now, ssrc)));
        }
    }

    /// The scores of those of its streams that came in, if the control plane is to be told of them: they have changed.
    pub(crate) fn take_scores(&mut self, now: Instant) -> Option<impl Iterator<Item = (StreamIndex, u8)> + use<>> {
        let mut scores = [None; MAX_STREAMS];
        for (score, stream) in scores.iter_mut().zip(&self.streams) {
            *score = (stream.packets_heard() != (0, 0)).then(|| stream.score(now));
        }
        let is_news = std::mem::replace(&mut self.told_scores, scores) != scores;
        let came_in = StreamIndex::first(MAX_STREAMS).zip(scores).filter_map(|(index, score)| Some((index, score?)));
        is_news.then_some(came_in)
    }

    /// How loud it was since this was asked last, if it was audible.
    pub(crate) fn take_audio_level(&mut self) -> Option<i8> {
        self.streams.iter_mut().find_map(Stream::take_audio_level)
    }

    /// Whether it said something of how loud it is since that was asked last.
    pub(crate) fn has_audio_level(&self) -> bool {
        self.streams.iter().any(Stream::has_audio_level)
    }

    /// Everything that is known of one of its streams. Of a user's there is something to know once its SSRC is known.
    pub(crate) fn stats(&self, now: Instant, index: StreamIndex) -> Option<StreamStats> {
        let stream = self.stream(index)?;
        let mut stats = stream.stats(now);
        if let Origin::User(origin) = &self.origin {
            stream.publisher_ssrc()?;
            match origin.key_frame_message() {
                Some(KeyFrameMessage::Fir { .. }) => stats.fir_count = stream.key_frame_requests(),
                _ => stats.pli_count = stream.key_frame_requests(),
            }
        }
        Some(stats)
    }
}
