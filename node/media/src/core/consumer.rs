//! One user's reception of one producer (mediasoup's SimpleConsumer, SimulcastConsumer and SvcConsumer): a cut of one
//! of the producer's streams at a time, sent as a stream of the user's own.

mod room;

use std::ops::RangeInclusive;
use std::time::Instant;

use sluice_proto::ids::ConsumerId;
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::Layers;

use crate::clock::Clock;
use crate::core::counters::Counters;
use crate::core::producer::Producer;
use crate::core::rtp_stream_send::{RtpStreamSend, SendParameters};
use crate::core::user_transport::UserTransport;
use crate::drop_reason::DropReason;
use crate::keys::ProducerKey;
use crate::messages::{ConsumerScores, StreamScores, StreamStats};
use crate::stream::Stream;
use crate::stream::cut::Cut;
use crate::stream::packet::{StreamIndex, StreamSet};
use crate::stream::rtp_cache::CachedPacket;
use crate::stream::rtp_stream_recv::ClockMapping;
use crate::transport::demux::TransportKey;
use crate::wire::rtcp::{ReportBlock, SenderInfo};

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    kind: MediaKind,
    producer: ProducerKey,
    transport: TransportKey,
    /// When it was made.
    since: Instant,
    /// The client, or the control plane in its stead, wants nothing for now.
    paused: bool,
    /// Highest layers that the client wants.
    preferred: Layers,
    /// Whose video gets its share before that of others, 1 to 255.
    priority: u8,
    /// Highest layers that there is room for on the way to the client; `None` if there is none for any.
    limit: Option<Layers>,
    /// It goes over to a stream that takes less, and until then is sent as little as can be of the one that it has.
    is_hurried: bool,
    /// The layers that the control plane was told last; `None` inside if none are sent.
    told_layers: Option<Option<Layers>>,
    /// Nothing stands in the way of sending: not paused, the producer neither, not shed, there is room, and the
    /// transport is connected.
    active: bool,
    /// The packets of the stream from this one on wait for their turn. They have no numbers yet.
    held_from: Option<u64>,
    cut: Cut,
    stream: RtpStreamSend,
    plis: u64,
    firs: u64,
    last_fir: Option<u8>,
    /// The scores that the control plane was told last.
    told_scores: Option<ConsumerScores>,
}

impl Consumer {
    /// `random` gives sequence numbers their beginning.
    pub(crate) fn new(
        id: ConsumerId,
        kind: MediaKind,
        (producer, transport): (ProducerKey, TransportKey),
        parameters: SendParameters,
        paused: bool,
        (now, random): (Instant, u32),
    ) -> Self {
        // Half of the number space stays free, so that a first packet lost or late does not look like a cycle (RFC 3711
        // section 3.3.1).
        let (first, rtx_first) = (random as u16 & 0x3fff, (random >> 16) as u16 & 0x3fff);
        Self {
            kind,
            producer,
            transport,
            since: now,
            paused,
            preferred: Layers::ALL,
            priority: 1,
            limit: Some(Layers::ALL),
            is_hurried: false,
            told_layers: None,
            active: false,
            held_from: None,
            cut: Cut::new(StreamIndex::ZERO, parameters.codec, first, false),
            stream: RtpStreamSend::new(id, kind, parameters, rtx_first),
            plis: 0,
            firs: 0,
            last_fir: None,
            told_scores: None,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> ConsumerId {
        self.stream.consumer()
    }

    /// Whose packets it sends.
    pub(crate) fn producer(&self) -> ProducerKey {
        self.producer
    }

    /// Where it sends them.
    pub(crate) fn transport(&self) -> TransportKey {
        self.transport
    }

    /// How its packets look.
    pub(crate) fn parameters(&self) -> &SendParameters {
        self.stream.parameters()
    }

    /// What of a stream lets it begin at once, if there is such.
    pub(crate) fn catch_up(&self, source: &Stream, now: Instant, is_limited: bool) -> Option<RangeInclusive<u64>> {
        self.cut.catch_up(source, now, self.since, is_limited)
    }

    /// What of its producer's stream it gets.
    pub(crate) fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Whether it is of video.
    pub(crate) fn is_video(&self) -> bool {
        self.kind == MediaKind::Video
    }

    /// The client, or the control plane in its stead, wants nothing for now, or something again.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Highest layers that the client wants.
    pub(crate) fn preferred(&self) -> Layers {
        self.preferred
    }

    /// The client wants layers up to these.
    pub(crate) fn set_preferred(&mut self, layers: Layers) {
        self.preferred = layers;
        self.set_wanted();
    }

    /// The spatial layer that it gets of the producer, or is to get.
    pub(crate) fn aimed_layer(&self, producer: &Producer) -> Option<StreamIndex> {
        if producer.is_svc() {
            StreamIndex::at(self.cut.layers().wanted().spatial.into())
        } else {
            Some(self.cut.aimed_stream())
        }
    }

    /// It is to get this spatial layer: as soon as there is a key frame, or at once if it has nothing to go on with.
    /// Returns whether it has to wait.
    pub(crate) fn aim(&mut self, layer: StreamIndex, producer: &Producer) -> bool {
        if producer.is_svc() {
            let spatial = layer.position() as u8;
            self.cut.set_wanted(Some(Layers { spatial, ..self.cut.layers().wanted() }));
            return self.waits_for_layer();
        }
        self.cut.aim(layer);
        if self.cut.next_stream().is_none() {
            self.end_hurry();
        }
        if self.cut.next_stream().is_some() && (!self.active || self.cut.waits_for_key_frame()) {
            self.switch(producer);
        }
        self.cut.next_stream().is_some()
    }

    /// It is made of the stream that it is aimed at from now on.
    pub(crate) fn switch(&mut self, producer: &Producer) {
        let streams = producer.source_of(&self.cut).zip(self.cut.next_stream().and_then(|next| producer.stream(next)));
        if let Some((from, to)) = streams {
            self.cut.switch(from, to);
            self.held_from = None;
            self.end_hurry();
        }
    }

    /// What it needs of its producer: some of the streams, with their layers, also while it is paused, so that it goes
    /// on at once. The best that it may get is among them, sent or not, or it would never be sent: how much room there
    /// is on the way to one client changes faster than a publisher can follow.
    pub(crate) fn needs(&self, producer: &Producer) -> impl Iterator<Item = (StreamIndex, Layers)> + use<> {
        let temporal = self.preferred.temporal;
        let best = producer.highest_layer(self.preferred.spatial);
        let (spatial, best_stream) = if producer.is_svc() {
            // It may not be able to go down before there is a key frame.
            let current = Some(self.cut.layers().current().spatial).filter(|current| *current != u8::MAX);
            (best.max(current.unwrap_or_default()), None)
        } else {
            let spatial = if self.is_video() || self.is_pinned() { u8::MAX } else { Layers::WHILE_LOUD.spatial };
            (spatial, StreamIndex::at(best.into()))
        };
        let streams = [Some(self.cut.stream()), self.cut.next_stream(), best_stream].into_iter().flatten();
        streams.map(move |stream| (stream, Layers { spatial, temporal }))
    }

    /// Whether other layers are sent than when this was asked last.
    pub(crate) fn take_layers_changed(&mut self) -> bool {
        self.cut.take_layers_changed()
    }

    /// The layers that are sent, `None` inside if none are, if the control plane is to be told of them: they have
    /// changed. Of a producer with one spatial layer that is told only if there was no room at some time.
    pub(crate) fn take_layers(&mut self, producer: &Producer) -> Option<Option<Layers>> {
        if !producer.is_layered() && self.limit.is_some() && self.told_layers.is_none() {
            return None;
        }
        let Layers { spatial, temporal } = self.cut.layers().current();
        let spatial =
            if producer.is_svc() { producer.highest_layer(spatial) } else { self.cut.stream().position() as u8 };
        let layers = self.is_sent(producer).then_some(Layers { spatial, temporal });
        let is_known = match layers {
            Some(_) => !self.cut.waits_for_key_frame() && self.cut.next_stream().is_none(),
            // What was never told to begin need not be told to end.
            None => self.limit.is_none() || self.told_layers.is_some(),
        };
        let is_news = is_known && self.told_layers != Some(layers);
        is_news.then(|| *self.told_layers.insert(layers))
    }

    /// Whether anything is sent: nothing stands in the way, and something comes in.
    fn is_sent(&self, producer: &Producer) -> bool {
        let comes = !producer.is_layered() || producer.offered() != StreamSet::NONE;
        self.active && !self.cut.is_shed() && comes
    }

    /// Whether it may be sent to.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether it should be sent to, if its producer and transport allow it.
    pub(crate) fn wants(&self) -> bool {
        self.limit.is_some() && self.would_want()
    }

    /// The same if there were room on the way to the client.
    pub(crate) fn would_want(&self) -> bool {
        !self.paused && !self.cut.is_shed()
    }

    /// It is sent to from now on, beginning anew.
    pub(crate) fn activate(&mut self) {
        self.active = true;
        self.cut.require_sync();
    }

    /// It is not sent to from now on, so that nothing will be asked for again.
    pub(crate) fn deactivate(&mut self) {
        self.active = false;
        self.held_from = None;
        self.stream.forget_sent();
    }

    /// What was sent last has nothing to do with what comes next.
    pub(crate) fn require_sync(&mut self) {
        self.held_from = None;
        self.cut.require_sync();
    }

    /// The publisher counts anew: nothing of what was sent is kept any more.
    pub(crate) fn restart(&mut self) {
        self.require_sync();
        self.stream.forget_sent();
    }

    /// The worker is too busy for it: it ends with the picture that is being sent.
    pub(crate) fn shed(&mut self, producer: &Producer) {
        // Who waits for a key frame has no picture to finish.
        let sends = self.active && !self.cut.waits_for_key_frame();
        let unfinished = producer.source_of(&self.cut).and_then(Stream::unfinished_picture);
        self.cut.shed(unfinished.filter(|_| sends));
        if self.cut.is_shed_wholly() {
            self.deactivate();
        }
    }

    /// The same for one that was not sent to yet.
    pub(crate) fn shed_from_the_start(&mut self) {
        self.cut.shed(None);
    }

    /// The worker is not too busy for it any more.
    pub(crate) fn unshed(&mut self) {
        self.cut.unshed();
    }

    /// Whether it waits for a key frame. One whose turn is not yet may wait for what is there.
    pub(crate) fn waits_for_key_frame(&self) -> bool {
        self.active && self.cut.waits_for_key_frame() && self.held_from.is_none()
    }

    /// Whether it waits for a key frame to take up or give up a spatial layer, and meanwhile goes on as it is.
    pub(crate) fn waits_for_layer(&self) -> bool {
        self.active && self.cut.waits_for_layer()
    }

    /// Sends a packet of the producer, if it is this consumer's turn. If there is no room for video now, it and those
    /// behind it wait where they are, in the producer's cache. Adds to `sent` how many packets that made: none of the
    /// publisher's padding, two with parameter sets.
    ///
    /// # Errors
    /// Why it did not go out. Parameter sets may have gone out before it.
    #[inline]
    pub(crate) fn send_rtp(
        &mut self,
        packet: &CachedPacket<'_>,
        transport: &mut UserTransport,
        clock: &Clock,
        sent: &mut u64,
    ) -> Result<(), DropReason> {
        match self.held_from {
            Some(from) if packet.sequence >= from => Ok(()),
            // What is late has its number already, and is waited for.
            None if self.is_video() && !transport.has_room(clock) && self.cut.is_ahead(packet.sequence) => {
                self.held_from = Some(packet.sequence);
                transport.bandwidth().into_iter().for_each(|bandwidth| bandwidth.set_holding(true));
                Ok(())
            }
            _ => self.send_now(packet, transport, clock, sent),
        }
    }

    #[inline]
    fn send_now(
        &mut self,
        packet: &CachedPacket<'_>,
        transport: &mut UserTransport,
        clock: &Clock,
        sent: &mut u64,
    ) -> Result<(), DropReason> {
        let result = self.cut.pass(packet, |place, shift| {
            self.stream.send(packet, (place, shift), transport, clock)?;
            *sent += 1;
            Ok(())
        });
        if result == Err(DropReason::Overload) {
            self.deactivate();
        }
        result
    }

    /// The client misses these packets: those that the producer still has go out again, but for those that it can do
    /// without if much is sent already.
    pub(crate) fn receive_nack(
        &mut self,
        missing: impl Iterator<Item = u16>,
        producer: &Producer,
        transport: &mut UserTransport,
        clock: &Clock,
        counters: &mut Counters,
    ) {
        let is_scarce = transport.bandwidth().is_some_and(|bandwidth| bandwidth.is_scarce(clock));
        let missing = missing.filter(|output| !is_scarce || !self.cut.is_past(*output));
        self.stream.receive_nack(missing, (producer, self.cut.shifts()), transport, clock, counters);
    }

    /// The client wants a key frame (PLI, or FIR with its number). Returns whether that is news: a FIR is repeated
    /// until a key frame comes.
    pub(crate) fn receive_key_frame_request(&mut self, fir: Option<u8>) -> bool {
        self.cut.want_parameter_sets();
        match fir {
            None => self.plis += 1,
            Some(number) => {
                self.firs += 1;
                if self.last_fir.replace(number) == Some(number) {
                    return false;
                }
            }
        }
        self.active
    }

    /// The client's reception of its stream.
    pub(crate) fn receive_report(&mut self, clock: &Clock, report: &ReportBlock) {
        self.stream.receive_report(clock, report);
    }

    /// What a sender report says now; `None` before there is something to say.
    pub(crate) fn sender_report(&mut self, clock: &Clock, publisher: Option<ClockMapping>) -> Option<SenderInfo> {
        let publisher = publisher.filter(|_| self.active).map(|clock| clock.shifted(self.cut.shift().timestamp));
        self.stream.sender_report(clock, publisher)
    }

    /// Bits per second on the path in the last report interval.
    pub(crate) fn path_bitrate(&self) -> u64 {
        self.stream.path_bitrate()
    }

    /// Whether the client knows its stream.
    pub(crate) fn has_sent(&self) -> bool {
        self.stream.has_sent()
    }

    /// Whether a sender report is overdue.
    pub(crate) fn lacks_sender_report(&self) -> bool {
        self.stream.lacks_sender_report()
    }

    /// The scores, its own and those of the producer's streams, if the control plane is to be told of them: they have
    /// changed. Its own is 0 while it is shed.
    pub(crate) fn take_scores(&mut self, streams: StreamScores) -> Option<ConsumerScores> {
        let producer = streams.as_slice().get(self.cut.stream().position()).copied().unwrap_or_default();
        let scores = ConsumerScores { consumer: self.score(), producer, streams };
        (self.told_scores.replace(scores) != Some(scores)).then_some(scores)
    }

    /// Whether the control plane was told last that nothing comes of the producer.
    pub(crate) fn was_told_of_silence(&self) -> bool {
        self.told_scores.is_some_and(|scores| scores.streams.best() == 0)
    }

    fn score(&self) -> u8 {
        if self.cut.is_shed() { 0 } else { self.stream.score() }
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self) -> StreamStats {
        StreamStats { pli_count: self.plis, fir_count: self.firs, score: self.score(), ..self.stream.stats() }
    }
}
