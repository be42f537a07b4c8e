//! One RTP stream of a producer: what is kept of it, how it arrives, what is asked for again, and how it is numbered
//! on.
//!
//! # Layout
//! - [`Stream`]: what comes in, and the state that belongs to it. `rtp_cache` (with `segments`) keeps packets;
//!   `rtp_stream_recv`, `nack_generator`, `key_frame_request_manager` and `audio_levels` follow the arrival; `packet`
//!   names a packet.
//! - [`cut::Cut`]: what of a stream leaves, for one consumer or route, by its `numbering` and `layers`; `succession`
//!   when another stream takes the place of one.
//! - `header_template`, `carriage`, `sent_packets`, `sender_reports`: what it leaves as, to a user.
//! - `rate`, `layer_rates` and `score`: how much and how well, of what comes in and of what leaves.

pub(crate) mod audio_levels;
pub(crate) mod carriage;
pub(crate) mod cut;
pub(crate) mod header_template;
pub(crate) mod key_frame_request_manager;
pub(crate) mod layer_rates;
pub(crate) mod layers;
pub(crate) mod nack_generator;
pub(crate) mod numbering;
pub(crate) mod packet;
pub(crate) mod rate;
pub(crate) mod rtp_cache;
pub(crate) mod rtp_stream_recv;
pub(crate) mod score;
pub(crate) mod segments;
pub(crate) mod sender_reports;
pub(crate) mod sent_packets;
pub(crate) mod succession;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::MAX_STREAMS;

use self::audio_levels::AudioLevelMeter;
use self::key_frame_request_manager::{KeyFrameRequestManager, MIN_INTERVAL};
use self::layer_rates::LayerRates;
use self::nack_generator::{NackGenerator, NackOutcome};
use self::packet::{StreamIndex, StreamSet};
use self::rtp_cache::{CachedPacket, MAX_PAYLOAD_LEN, NewPacket, RtpCache, VIDEO_SLOTS};
use self::rtp_stream_recv::{ClockMapping, RtpStreamRecv, Sequence};
use crate::clock::Clock;
use crate::drop_reason::DropReason;
use crate::messages::StreamStats;
use crate::wire::codec::Codec;
use crate::wire::rtcp::{ReportBlock, SenderInfo};
use crate::wire::rtp::{AudioLevel, CarriedExtensions, RtpHeader};
use crate::wire::seq::Unwrapper;

/// Age of the last key frame that a newcomer may begin with, if it came for this one, or if the publisher is not to be
/// asked for another one yet: so often publishers are asked, so that however many come, none waits for long.
const MAX_CATCH_UP_AGE: Duration = Duration::from_secs(1);

/// Packets since the last key frame that a newcomer is sent in one go: a second of 2.5 Mbit/s.
const MAX_CATCH_UP: u64 = 256;

/// A publisher's clock is told to every node that has its viewers, so no oftener than this. Browsers tell theirs every
/// second or less often.
const MIN_SENDER_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Pending packets after which they are to be routed before the batch is over, so that no slot is used again before its
/// packet left. There are never more of them.
pub(crate) const MAX_PENDING: usize = 64;

/// Packets that one NACK names. Each may take four bytes, so that with its SRTCP trailer it stays below any path's MTU.
pub(crate) const MAX_NACKED: usize = 250;

/// What is known of a stream before its first packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamParameters {
    /// Audio or video.
    pub kind: MediaKind,
    /// SSRC inside the mesh.
    pub ssrc: u32,
    /// The publisher's SSRC, if it said so beforehand and sends to this end.
    pub publisher_ssrc: Option<u32>,
    /// What its payloads are.
    pub codec: Codec,
    /// Units of the timestamps per second.
    pub clock_rate: u32,
    /// Longest pause that is in its nature.
    pub max_silence: Duration,
    /// Its publisher sends again what is asked for.
    pub nack: bool,
    /// Spatial layers inside it.
    pub spatial_layers: u8,
}

/// A packet of a stream on its way into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// What the payload is.
    pub codec: Codec,
    /// As it came, but for what is the mesh's already.
    pub header: RtpHeader,
    /// Volume, of audio.
    pub audio_level: Option<AudioLevel>,
    /// What goes with it to whoever gets it.
    pub carried: Option<&'a CarriedExtensions<'a>>,
    /// Without padding.
    pub payload: &'a [u8],
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    ssrc: u32,
    publisher_ssrc: Option<u32>,
    codec: Codec,
    clock_rate: u32,
    /// What comes in is not passed on.
    paused: bool,
    /// What is added to the publisher's timestamps, so that they go on when it begins anew with others.
    timestamp_offset: u32,
    numbers: Unwrapper,
    reception: RtpStreamRecv,
    /// If its publisher sends again what is asked for.
    nack: Option<NackGenerator>,
    key_frame_requests: KeyFrameRequestManager,
    audio_levels: AudioLevelMeter,
    layer_rates: LayerRates,
    cache: RtpCache,
    /// What came and was not routed yet.
    pending: Vec<u64>,
    /// Counts anew since it was routed last: whoever gets it has to begin anew as well.
    restarted: bool,
    needs_key_frame: bool,
    last_key_frame: Option<(u64, Instant)>,
    key_frames: u64,
    /// Packets that came and could not be used.
    discarded: u64,
    /// NACK messages, and packets that they asked for.
    nacked: (u64, u64),
    /// Messages that asked for a key frame.
    key_frames_asked: u64,
    /// When each of several spatial layers was heard last; empty for one.
    layers_heard: Box<[Option<Instant>]>,
}

impl Stream {
    /// A stream of which nothing came yet, but is expected from now on.
    pub(crate) fn new(now: Instant, parameters: StreamParameters, paused: bool) -> Self {
        let StreamParameters { kind, ssrc, publisher_ssrc, codec, clock_rate, max_silence, nack, spatial_layers } =
            parameters;
        let layers = if codec.has_spatial_layers() && spatial_layers > 1 { usize::from(spatial_layers) } else { 0 };
        let mut reception = RtpStreamRecv::new(clock_rate, max_silence);
        reception.expect(now);
        Self {
            ssrc,
            publisher_ssrc,
            codec,
            clock_rate,
            paused,
            timestamp_offset: 0,
            numbers: Unwrapper::default(),
            reception,
            nack: nack.then(NackGenerator::default),
            key_frame_requests: KeyFrameRequestManager::default(),
            audio_levels: AudioLevelMeter::default(),
            layer_rates: LayerRates::default(),
            cache: RtpCache::new(kind),
            pending: Vec::new(),
            restarted: false,
            needs_key_frame: false,
            last_key_frame: None,
            key_frames: 0,
            discarded: 0,
            nacked: (0, 0),
            key_frames_asked: 0,
            layers_heard: vec![None; layers.min(MAX_STREAMS)].into(),
        }
    }

    /// How many spatial layers there are inside it.
    pub(crate) fn spatial_layers(&self) -> usize {
        self.layers_heard.len().max(1)
    }

    /// Those of its spatial layers that its publisher sends: of each something came, within what is a pause and not an
    /// end.
    pub(crate) fn layers_alive(&self, now: Instant, longest_pause: Duration) -> StreamSet {
        let mut alive = StreamSet::NONE;
        for (index, heard_at) in StreamIndex::first(self.layers_heard.len()).zip(&self.layers_heard) {
            if heard_at.is_some_and(|at| now.saturating_duration_since(at) <= longest_pause) {
                alive.insert(index);
            }
        }
        alive
    }

    /// SSRC inside the mesh.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// SSRC as its publisher sends it, once known, if that sends to this end.
    pub(crate) fn publisher_ssrc(&self) -> Option<u32> {
        self.publisher_ssrc
    }

    /// What its payloads are.
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Units of the timestamps per second.
    pub(crate) fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Whether its publisher sends it: something came, within what is a pause and not an end.
    pub(crate) fn is_alive(&self, now: Instant, longest_pause: Duration) -> bool {
        self.reception.heard_within(now, longest_pause)
    }

    /// A packet came from its publisher.
    ///
    /// # Errors
    /// Why it is not passed on.
    #[inline]
    pub(crate) fn receive(&mut self, clock: &Clock, packet: Incoming<'_>) -> Result<(), DropReason> {
        self.publisher_ssrc = Some(packet.header.ssrc);
        self.receive_media(clock, packet)
    }

    #[inline]
    fn receive_media(&mut self, clock: &Clock, packet: Incoming<'_>) -> Result<(), DropReason> {
        let (codec, mut packet) = self.canonical(packet);
        let seq = packet.header.sequence_number;
        match self.reception.check_sequence(seq) {
            Sequence::Valid if self.cache.get(packet.sequence).is_some() => return Err(DropReason::RtxUnwanted),
            Sequence::Valid => {}
            Sequence::Suspect => return Err(DropReason::RtpSequenceJump),
            Sequence::Restarted => {
                self.restart();
                packet.sequence = self.numbers.extend(seq);
                packet.header.timestamp = self.carry_on(clock, packet.header.timestamp);
            }
        }
        self.reception.count(clock, packet.header.timestamp, packet.payload.len());
        if let Some(nack) = self.asks() {
            let outcome = nack.receive(clock.now, seq, || packet.starts_key_frame(codec));
            self.needs_key_frame |= outcome == NackOutcome::GivenUp;
        }
        self.store(clock.now, codec, packet)
    }

    /// A packet came of which nothing can be used but its number, which is used all the same: nobody is to ask for it,
    /// or to wait. Returns `fault`.
    pub(crate) fn receive_nothing(
        &mut self,
        clock: &Clock,
        header: RtpHeader,
        fault: DropReason,
    ) -> Result<(), DropReason> {
        let codec = self.codec;
        self.receive_media(clock, Incoming { codec, header, audio_level: None, carried: None, payload: &[] })?;
        self.needs_key_frame |= fault == DropReason::RtpMalformed && codec.has_key_frames();
        Err(fault)
    }

    /// A packet came from its publisher as retransmission, which is unwrapped.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub(crate) fn receive_retransmission(&mut self, clock: &Clock, packet: Incoming<'_>) -> Result<(), DropReason> {
        let (codec, packet) = self.canonical(packet);
        let seq = packet.header.sequence_number;
        if !self.is_recent(seq) || self.cache.get(packet.sequence).is_some() {
            self.reception.count_retransmission(packet.payload.len(), false);
            return Err(DropReason::RtxUnwanted);
        }
        let outcome = self.asks().map(|nack| nack.receive_retransmission(clock.now, seq));
        self.reception.count_retransmission(packet.payload.len(), outcome == Some(NackOutcome::Repaired));
        self.store(clock.now, codec, packet)
    }

    fn canonical<'a>(&self, packet: Incoming<'a>) -> (Codec, NewPacket<'a>) {
        let Incoming { codec, header, audio_level, carried, payload } = packet;
        let timestamp = header.timestamp.wrapping_add(self.timestamp_offset);
        let header = RtpHeader { timestamp, ssrc: self.ssrc, ..header };
        let sequence = self.numbers.extend(header.sequence_number);
        (codec, NewPacket { sequence, header, audio_level, carried, left_out_pictures: 0, payload })
    }

    /// Timestamps go on where they were, by the time that has passed, wherever the publisher's begin anew: to receivers
    /// it is one stream.
    fn carry_on(&mut self, clock: &Clock, timestamp: u32) -> u32 {
        let Some(jump) = self.reception.timestamp_jump(clock, timestamp) else { return timestamp };
        self.timestamp_offset = self.timestamp_offset.wrapping_add(jump);
        self.reception.forget_clock();
        timestamp.wrapping_add(jump)
    }

    /// What is asked for, unless nothing is.
    fn asks(&mut self) -> Option<&mut NackGenerator> {
        self.nack.as_mut().filter(|_| !self.paused)
    }

    fn is_recent(&self, seq: u16) -> bool {
        self.reception.is_recent(seq, VIDEO_SLOTS as u64)
    }

    /// A packet came by a route, by itself or because it was asked for.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub(crate) fn receive_by_route(
        &mut self,
        clock: &Clock,
        packet: Incoming<'_>,
        left_out_pictures: u16,
        repaired: bool,
    ) -> Result<(), DropReason> {
        let Incoming { codec, header, audio_level, carried, payload } = packet;
        let seq = header.sequence_number;
        let sequence = self.numbers.extend(seq);
        let mut packet = NewPacket { sequence, header, audio_level, carried, left_out_pictures, payload };
        if repaired {
            if !self.is_recent(seq) {
                return Err(DropReason::PipeTooOld);
            }
            self.reception.count_retransmission(payload.len(), true);
        } else {
            // The other end of a route is a node of ours: a jump is what it seems to be.
            if self.reception.check_sequence(seq) == Sequence::Suspect {
                self.reception.accept_jump(seq);
                self.restart();
                packet.sequence = self.numbers.extend(seq);
            }
            self.reception.count(clock, header.timestamp, payload.len());
        }
        // Two numbers of the route do not make two packets of one.
        if self.cache.get(packet.sequence).is_some() {
            return Err(DropReason::PipeDuplicate);
        }
        self.store(clock.now, codec, packet)
    }

    fn store(&mut self, now: Instant, codec: Codec, mut packet: NewPacket<'_>) -> Result<(), DropReason> {
        // Numbers are followed through a pause, however long it is.
        self.numbers.advance(packet.sequence);
        if self.paused {
            if packet.dependency_descriptor().is_none() {
                self.cache.remember_parameter_sets(codec, packet.payload);
            }
            return Err(DropReason::ProducerPaused);
        }
        if let Some(level) = packet.audio_level {
            self.audio_levels.add(level);
        }
        let too_large = packet.payload.len() > MAX_PAYLOAD_LEN;
        if too_large {
            packet.payload = &[];
            self.needs_key_frame |= codec.has_key_frames();
        }
        let stored = self.cache.insert(now, codec, packet).ok_or(DropReason::TooLate)?;
        // A key frame says nothing of what the stream takes.
        if !stored.key_frame {
            self.layer_rates.count(now, &stored.info, packet.payload.len());
        }
        if stored.info.key_frame_start {
            self.key_frame_requests.received();
            self.key_frames += 1;
            self.last_key_frame = Some((packet.sequence, now));
        }
        let spatial_layer = usize::from(stored.info.spatial_layer);
        if let Some(heard_at) = self.layers_heard.get_mut(spatial_layer) {
            *heard_at = Some(now);
        }
        self.pending.push(packet.sequence);
        if too_large { Err(DropReason::TooLarge) } else { Ok(()) }
    }

    fn restart(&mut self) {
        self.cache.clear();
        self.pending.clear();
        self.last_key_frame = None;
        self.numbers.restart();
        self.restarted = true;
        self.needs_key_frame = self.codec.has_key_frames();
        if let Some(nack) = &mut self.nack {
            nack.reset(None);
        }
    }

    /// What comes next is another stream of the publisher's, of which nothing is known.
    pub(crate) fn begin_anew(&mut self) {
        self.reception.begin_anew();
    }

    /// Nothing is passed on from now on.
    pub(crate) fn pause(&mut self) {
        if let Some(nack) = self.asks() {
            nack.reset(None);
        }
        self.paused = true;
        self.cache.clear();
        self.last_key_frame = None;
        self.key_frame_requests.cancel();
    }

    /// What comes in is passed on again. Whoever gets it has to begin anew.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.paused = false;
        self.reception.expect(now);
        let newest = self.numbers.newest().map(|newest| newest as u16);
        if let Some(nack) = self.asks() {
            nack.reset(newest);
        }
    }

    /// Whether what is pending should be routed before more comes in.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING || self.restarted
    }

    /// Whether it counts anew since this was asked last.
    pub(crate) fn take_restarted(&mut self) -> bool {
        std::mem::take(&mut self.restarted)
    }

    /// What came since it was routed last, in the order in which it came; [`DropReason::Evicted`] in place of what is
    /// not kept any more.
    #[inline]
    pub(crate) fn pending(&self) -> impl ExactSizeIterator<Item = Result<CachedPacket<'_>, DropReason>> {
        self.pending.iter().map(|sequence| self.cache.get(*sequence).ok_or(DropReason::Evicted))
    }

    /// What was pending has been routed; `somebody_waits` for a key frame that was not in it.
    pub(crate) fn routed(&mut self, somebody_waits: bool) {
        self.needs_key_frame |= somebody_waits && !self.pending.is_empty();
        self.pending.clear();
    }

    /// Those of its packets that are kept.
    pub(crate) fn kept(&self, sequences: RangeInclusive<u64>) -> impl Iterator<Item = CachedPacket<'_>> {
        sequences.filter_map(|sequence| self.cache.get(sequence))
    }

    /// Those of its packets that are kept, from this number on.
    pub(crate) fn kept_from(&self, first: u64) -> impl Iterator<Item = CachedPacket<'_>> {
        let newest = self.numbers.newest().unwrap_or_default();
        self.kept(first.max(newest.saturating_sub(VIDEO_SLOTS as u64))..=newest)
    }

    /// Bits per second that spatial layers inside it up to one take, or all of them, with temporal layers up to each,
    /// from the lowest on; `None` while it is not measured.
    pub(crate) fn layer_rates(&self, now: Instant, spatial: Option<u8>) -> Option<impl Iterator<Item = u64> + use<>> {
        self.layer_rates.sums(now, spatial)
    }

    /// What is kept of it.
    pub(crate) fn cache(&self) -> &RtpCache {
        &self.cache
    }

    /// The packets that let a newcomer begin at once who waits `since` then: from the last key frame on, if that is
    /// recent. Otherwise a new one is worth its wait, and always to whom what came since might not pass.
    pub(crate) fn catch_up(&self, now: Instant, since: Instant, is_limited: bool) -> Option<RangeInclusive<u64>> {
        let ((first, at), newest) = self.last_key_frame.zip(self.numbers.newest())?;
        let may_be_old = !is_limited && (at >= since || !self.key_frame_requests.may_ask(now));
        let max_age = if may_be_old { MAX_CATCH_UP_AGE } else { MIN_INTERVAL };
        let is_recent = now.saturating_duration_since(at) < max_age && newest.saturating_sub(first) < MAX_CATCH_UP;
        is_recent.then_some(first..=newest)
    }

    /// From a key frame on whose first packet is pending: for those who wait for one. What follows it may have come
    /// before it, if it had to be asked for again.
    pub(crate) fn pending_key_frame(&self) -> Option<RangeInclusive<u64>> {
        let (first, newest) = (self.last_key_frame?.0, self.numbers.newest()?);
        let is_pending = newest.saturating_sub(first) < MAX_CATCH_UP && self.pending.contains(&first);
        is_pending.then_some(first..=newest)
    }

    /// The timestamp of the picture that its last packet belongs to, if more of that picture is to come.
    pub(crate) fn unfinished_picture(&self) -> Option<u32> {
        let last = self.cache.get(self.numbers.newest()?)?;
        (!last.header.marker).then_some(last.header.timestamp)
    }

    /// What comes next does not follow what came last, so nobody can begin with the latest key frame.
    pub(crate) fn forget_key_frame(&mut self) {
        self.last_key_frame = None;
    }

    /// Puts the packets to ask the publisher for now into `missing`.
    pub(crate) fn take_missing(&mut self, now: Instant, missing: &mut Vec<u16>) {
        missing.clear();
        let Some(nack) = &mut self.nack else { return };
        if !nack.has_new() && nack.poll_timeout(now).is_none_or(|at| at > now) {
            return;
        }
        self.needs_key_frame |= nack.take_due(now, missing);
        self.nacked.0 += missing.len().div_ceil(MAX_NACKED) as u64;
        self.nacked.1 += missing.len() as u64;
    }

    /// Something is missing that will not come.
    pub(crate) fn lose(&mut self) {
        self.needs_key_frame = true;
    }

    /// Whether a key frame was found to be needed since this was asked last.
    pub(crate) fn take_needs_key_frame(&mut self) -> bool {
        std::mem::take(&mut self.needs_key_frame)
    }

    /// Somebody needs a key frame. Returns whether to ask for it now.
    pub(crate) fn need_key_frame(&mut self, now: Instant) -> bool {
        self.codec.has_key_frames() && !self.paused && self.key_frame_requests.need(now)
    }

    /// Whether to ask for a key frame because it is time to; not if nobody `is_watching` any more.
    pub(crate) fn handle_timeout(&mut self, now: Instant, is_watched: bool) -> bool {
        if !is_watched {
            self.key_frame_requests.cancel();
        }
        self.key_frame_requests.handle_timeout(now)
    }

    /// When [`take_missing`](Self::take_missing) or [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let repair = self.nack.as_ref().and_then(|nack| nack.poll_timeout(now));
        [repair, self.key_frame_requests.poll_timeout()].into_iter().flatten().min()
    }

    /// How loud it was since this was asked last; `None` if it said nothing of that.
    pub(crate) fn take_audio_level(&mut self) -> Option<i8> {
        self.audio_levels.take()
    }

    /// Whether it said something of how loud it is since that was asked last.
    pub(crate) fn has_audio_level(&self) -> bool {
        !self.audio_levels.is_empty()
    }

    /// A sender report of the publisher as the mesh counts; `None` if it comes too soon to be of use.
    pub(crate) fn map_sender_info(&self, now: Instant, info: &SenderInfo) -> Option<SenderInfo> {
        let told_at = self.clock().map(|clock| clock.received_at);
        let is_news = told_at.is_none_or(|at| now.saturating_duration_since(at) >= MIN_SENDER_REPORT_INTERVAL);
        is_news.then(|| SenderInfo { rtp_timestamp: info.rtp_timestamp.wrapping_add(self.timestamp_offset), ..*info })
    }

    /// The publisher told its clock, as the mesh counts.
    pub(crate) fn set_clock(&mut self, now: Instant, info: &SenderInfo) {
        self.reception.set_clock(now, info);
    }

    /// The publisher's clock, once told.
    pub(crate) fn clock(&self) -> Option<ClockMapping> {
        self.reception.clock()
    }

    /// The report block for the publisher, who knows the stream as `ssrc`. `None` before the first packet.
    pub(crate) fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReportBlock> {
        self.reception.report(now, ssrc)
    }

    /// A packet came that could not be used.
    pub(crate) fn count_discarded(&mut self) {
        self.discarded += 1;
    }

    /// Its publisher is asked for a key frame.
    pub(crate) fn count_key_frame_request(&mut self) {
        self.key_frames_asked += 1;
    }

    /// Messages that asked its publisher for a key frame.
    pub(crate) fn key_frame_requests(&self) -> u64 {
        self.key_frames_asked
    }

    /// Packets that came by themselves, and as retransmission.
    pub(crate) fn packets_heard(&self) -> (u64, u64) {
        self.reception.packets()
    }

    /// Quality of reception, 0 to 10: 0 when nothing comes that should.
    pub(crate) fn score(&self, now: Instant) -> u8 {
        if !self.paused && self.reception.is_silent(now) { 0 } else { self.reception.score() }
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self, now: Instant) -> StreamStats {
        let rtt = self.nack.as_ref().and_then(NackGenerator::rtt);
        let mut stats = StreamStats {
            ssrc: self.publisher_ssrc.unwrap_or(self.ssrc),
            packets_discarded: self.discarded,
            bitrate_by_layer: self.layer_rates.by_layer(now),
            score: self.score(now),
            nack_count: self.nacked.0,
            nack_packet_count: self.nacked.1,
            key_frames: self.key_frames,
            round_trip_time_ms: rtt.map(|rtt| rtt.as_secs_f32() * 1_000.0),
            ..StreamStats::default()
        };
        self.reception.fill_stats(&mut stats);
        stats
    }
}
