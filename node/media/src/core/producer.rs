//! A source of audio or video on this worker: a user's, or the end of a route. What comes in is brought into the mesh's canonical
//! form, put into the cache, and left in `pending` for the router.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use sluice_mesh::Frame;
use sluice_proto::ids::ProducerId;
use sluice_proto::ortc::MediaKind;

use crate::clock::Clock;
use crate::core::audio_levels::AudioLevelMeter;
use crate::core::pipe_origin::{Arrival, PipeOrigin};
use crate::core::timers::Timer;
use crate::core::user_origin::{KeyFrameMessage, UserOrigin};
use crate::drop_reason::DropReason;
use crate::keys::{ConsumerKey, PipeConsumerKey, RouterKey};
use crate::messages::StreamStats;
use crate::stream::key_frame_request_manager::{KeyFrameRequestManager, MIN_INTERVAL};
use crate::stream::nack_generator::{NackGenerator, NackOutcome};
use crate::stream::rtp_cache::{MAX_PAYLOAD_LEN, NewPacket, RtpCache, VIDEO_SLOTS};
use crate::stream::rtp_stream_recv::{RtpStreamRecv, Sequence};
use crate::transport::rtp_listener::StreamKind;
use crate::wire::codec::Codec;
use crate::wire::rtcp::SenderInfo;
use crate::wire::rtp::{AudioLevel, CANONICAL_AUDIO_LEVEL_ID, ExtensionIds, RtpHeader, RtpPacket};
use crate::wire::seq::extend;

/// Packets since the last key frame that a newcomer is sent in one go: some 40 ms of 10 Mbit/s on a 1 Gbit/s port's conscience.
const MAX_CATCH_UP: u64 = 256;

/// A publisher's clock is told to every node that has its viewers, so no oftener than this. Browsers tell theirs every second or less
/// often.
const MIN_SENDER_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Pending packets after which the router is called before the batch is over, so that no slot is used again before its packet left.
const MAX_PENDING: usize = 64;

/// Where a producer's packets come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// A user of this worker.
    User(UserOrigin),
    /// Another node or worker.
    Pipe(Box<PipeOrigin>),
}

/// A source of audio or video.
#[derive(Debug)]
pub(crate) struct Producer {
    /// Its id, the same everywhere.
    pub id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// The room's media on this worker.
    pub router: RouterKey,
    /// Where its packets come from.
    pub origin: Origin,
    /// What its payloads are.
    pub codec: Codec,
    /// What comes in is not passed on.
    pub paused: bool,
    /// Who gets its packets.
    pub consumers: Vec<ConsumerKey>,
    /// Which other nodes and workers get its packets.
    pub pipe_consumers: Vec<PipeConsumerKey>,
    /// Its packets.
    pub cache: RtpCache,
    /// Reception.
    pub stream: RtpStreamRecv,
    /// When to ask for a key frame.
    pub key_frames: KeyFrameRequestManager,
    /// How loud it is.
    pub audio_levels: AudioLevelMeter,
    /// Packets for the router, by sequence number.
    pub pending: Vec<u16>,
    /// Is in the list of producers that the batch touched.
    pub touched: bool,
    /// Counts anew since the router was called last: consumers have to begin anew as well.
    pub restarted: bool,
    /// Reception found that a key frame is needed.
    pub needs_key_frame: bool,
    /// The score that the control plane was told last.
    pub reported_score: Option<u8>,
    /// Wakes it up.
    pub timer: Timer,
    /// Requests sent, for statistics.
    pub key_frame_requests: u64,
    /// NACK messages sent, and packets that they asked for.
    pub nacks: (u64, u64),
    last_key_frame: Option<(u64, Instant)>,
    /// Its sequence number without the wrap.
    newest: Option<u64>,
    key_frame_count: u64,
}

impl Producer {
    /// A producer of which nothing came yet.
    pub(crate) fn new(
        id: ProducerId,
        kind: MediaKind,
        router: RouterKey,
        origin: Origin,
        codec: Codec,
        (clock_rate, max_silence): (u32, Duration),
    ) -> Self {
        Self {
            id,
            kind,
            router,
            origin,
            codec,
            paused: false,
            consumers: Vec::new(),
            pipe_consumers: Vec::new(),
            cache: RtpCache::new(kind),
            stream: RtpStreamRecv::new(clock_rate, max_silence),
            key_frames: KeyFrameRequestManager::default(),
            audio_levels: AudioLevelMeter::default(),
            pending: Vec::new(),
            touched: false,
            restarted: false,
            needs_key_frame: false,
            reported_score: None,
            timer: Timer::default(),
            key_frame_requests: 0,
            nacks: (0, 0),
            last_key_frame: None,
            newest: None,
            key_frame_count: 0,
        }
    }

    /// SSRC inside the mesh.
    pub(crate) fn ssrc(&self) -> u32 {
        match &self.origin {
            Origin::User(origin) => origin.mapped_ssrc,
            Origin::Pipe(origin) => origin.ssrc,
        }
    }

    /// Whether the router should be called before more comes in.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING || self.restarted
    }

    /// A user's packet came.
    ///
    /// # Errors
    /// Why it is not passed on.
    #[inline]
    pub(crate) fn receive_rtp(
        &mut self,
        clock: &Clock,
        kind: StreamKind,
        packet: &RtpPacket<'_>,
        audio_level: Option<AudioLevel>,
    ) -> Result<(), DropReason> {
        let Origin::User(origin) = &mut self.origin else { return Err(DropReason::UnknownSsrc) };
        let content = match origin.content_of(kind, packet) {
            // Its number is used all the same: nobody is to ask for it, or to wait.
            Err(fault) if kind == StreamKind::Media => return self.receive_nothing(clock, packet.header, fault),
            content => content?,
        };
        if kind == StreamKind::Media {
            origin.ssrc = Some(packet.header.ssrc);
        }
        let header = RtpHeader {
            payload_type: content.payload_type,
            sequence_number: content.sequence_number,
            timestamp: packet.header.timestamp.wrapping_add(origin.timestamp_offset),
            ssrc: origin.mapped_ssrc,
            ..packet.header
        };
        let sequence = extend(self.newest, header.sequence_number);
        let packet = NewPacket { sequence, header, audio_level, left_out_pictures: 0, payload: content.payload };
        match kind {
            StreamKind::Media => self.receive_media(clock, content.codec, packet),
            StreamKind::Rtx => self.receive_retransmission(clock, content.codec, packet),
        }
    }

    /// A packet came of which nothing can be used but its number. Returns `fault`.
    fn receive_nothing(&mut self, clock: &Clock, header: RtpHeader, fault: DropReason) -> Result<(), DropReason> {
        let Origin::User(origin) = &self.origin else { return Err(fault) };
        let header = RtpHeader {
            payload_type: origin.mapped_payload_type().ok_or(fault)?,
            timestamp: header.timestamp.wrapping_add(origin.timestamp_offset),
            ssrc: origin.mapped_ssrc,
            ..header
        };
        let sequence = extend(self.newest, header.sequence_number);
        let packet = NewPacket { sequence, header, audio_level: None, left_out_pictures: 0, payload: &[] };
        self.receive_media(clock, self.codec, packet)?;
        self.needs_key_frame |= fault == DropReason::RtpMalformed && self.codec.has_key_frames();
        Err(fault)
    }

    fn receive_media(&mut self, clock: &Clock, codec: Codec, mut packet: NewPacket<'_>) -> Result<(), DropReason> {
        let seq = packet.header.sequence_number;
        match self.stream.check_sequence(seq) {
            Sequence::Valid if self.cache.get(seq).is_some() => return Err(DropReason::RtxUnwanted),
            Sequence::Valid => {}
            Sequence::Suspect => return Err(DropReason::RtpSequenceJump),
            Sequence::Restarted => {
                self.restart();
                packet.sequence = extend(None, seq);
                packet.header.timestamp = self.carry_on(clock, packet.header.timestamp);
            }
        }
        self.stream.count(clock, packet.header.timestamp, packet.payload.len());
        if let Some(nack) = self.nack() {
            let outcome = nack.receive(clock.now, seq, || codec.inspect(packet.payload).key_frame_start);
            self.needs_key_frame |= outcome == NackOutcome::GivenUp;
        }
        self.store(clock.now, codec, packet)
    }

    /// Timestamps go on where they were, by the time that has passed, wherever the client's begin anew: to receivers it is one stream.
    fn carry_on(&mut self, clock: &Clock, timestamp: u32) -> u32 {
        let (Some(jump), Origin::User(origin)) = (self.stream.timestamp_jump(clock, timestamp), &mut self.origin)
        else {
            return timestamp;
        };
        origin.timestamp_offset = origin.timestamp_offset.wrapping_add(jump);
        self.stream.forget_clock();
        timestamp.wrapping_add(jump)
    }

    fn receive_retransmission(&mut self, clock: &Clock, codec: Codec, packet: NewPacket<'_>) -> Result<(), DropReason> {
        let seq = packet.header.sequence_number;
        if !self.stream.is_recent(seq, VIDEO_SLOTS as u64) || self.cache.get(seq).is_some() {
            self.stream.count_retransmission(packet.payload.len(), false);
            return Err(DropReason::RtxUnwanted);
        }
        let outcome = self.nack().map(|nack| nack.receive_retransmission(clock.now, seq));
        self.stream.count_retransmission(packet.payload.len(), outcome == Some(NackOutcome::Repaired));
        self.store(clock.now, codec, packet)
    }

    /// What is asked for, unless nothing is.
    fn nack(&mut self) -> Option<&mut NackGenerator> {
        match &mut self.origin {
            Origin::User(origin) if !self.paused => origin.nack.as_mut(),
            _ => None,
        }
    }

    /// A frame of the producer's route came.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub(crate) fn receive_frame(&mut self, clock: &Clock, frame: &Frame) -> Result<(), DropReason> {
        let Origin::Pipe(origin) = &mut self.origin else { return Err(DropReason::UnknownRoute) };
        if origin.route.is_none_or(|route| route.epoch != frame.epoch) {
            return Err(DropReason::StaleRoute);
        }
        let arrival = origin.receive(clock.now, frame)?;
        let packet = RtpPacket::parse(&frame.packet).ok_or(DropReason::RtpMalformed)?;
        let ids = ExtensionIds { audio_level: CANONICAL_AUDIO_LEVEL_ID, ..ExtensionIds::default() };
        let (seq, left_out_pictures) = origin.renumber(frame, &packet.header).ok_or(DropReason::TooLate)?;
        let mut packet = NewPacket {
            sequence: extend(self.newest, seq),
            header: RtpHeader { sequence_number: seq, ..packet.header },
            audio_level: ids.read(packet.extensions).audio_level,
            left_out_pictures,
            payload: packet.payload,
        };
        if arrival == Arrival::Repaired {
            if !self.stream.is_recent(seq, VIDEO_SLOTS as u64) {
                return Err(DropReason::PipeTooOld);
            }
            self.stream.count_retransmission(packet.payload.len(), true);
        } else {
            // The other end of a route is a node of ours: a jump is what it seems to be.
            let first = self.stream.check_sequence(seq);
            if first == Sequence::Suspect {
                self.stream.accept_jump(seq);
                self.restart();
                packet.sequence = extend(None, seq);
            }
            self.stream.count(clock, packet.header.timestamp, packet.payload.len());
        }
        self.store(clock.now, self.codec, packet)
    }

    fn store(&mut self, now: Instant, codec: Codec, mut packet: NewPacket<'_>) -> Result<(), DropReason> {
        // Numbers are followed through a pause, however long it is.
        self.newest = self.newest.max(Some(packet.sequence));
        if self.paused {
            self.cache.remember_parameter_sets(codec, packet.payload);
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
        let seq = packet.header.sequence_number;
        let stored = self.cache.insert(now, codec, packet).ok_or(DropReason::TooLate)?;
        if stored.info.key_frame_start {
            self.key_frames.received();
            self.key_frame_count += 1;
            self.last_key_frame = Some((packet.sequence, now));
        }
        self.pending.push(seq);
        if too_large { Err(DropReason::TooLarge) } else { Ok(()) }
    }

    fn restart(&mut self) {
        self.cache.clear();
        self.pending.clear();
        self.last_key_frame = None;
        self.newest = None;
        self.restarted = true;
        self.needs_key_frame = self.codec.has_key_frames();
        if let Origin::User(UserOrigin { nack: Some(nack), .. }) = &mut self.origin {
            nack.reset(None);
        }
    }

    /// Nothing is passed on from now on.
    pub(crate) fn pause(&mut self) {
        if let Some(nack) = self.nack() {
            nack.reset(None);
        }
        self.paused = true;
        self.cache.clear();
        self.last_key_frame = None;
        self.key_frames.cancel();
    }

    /// What comes in is passed on again. Consumers have to begin anew.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.paused = false;
        self.stream.expect(now);
        let newest = self.newest.map(|newest| newest as u16);
        if let Some(nack) = self.nack() {
            nack.reset(newest);
        }
    }

    /// The packets that let a newcomer begin at once: from the last key frame on, if that is so recent that the encoder would not
    /// make another one yet. Otherwise a new one is worth its wait.
    pub(crate) fn catch_up(&self, now: Instant) -> impl Iterator<Item = u64> + use<> {
        let recent = self.last_key_frame.zip(self.newest).filter(|((sequence, at), newest)| {
            now.saturating_duration_since(*at) < MIN_INTERVAL && newest.saturating_sub(*sequence) < MAX_CATCH_UP
        });
        recent.into_iter().flat_map(|((first, _), newest)| first..=newest)
    }

    /// From a key frame on whose first packet is pending: for those who wait for one. What follows it may have come before it, if it had
    /// to be asked for again.
    pub(crate) fn pending_key_frame(&self) -> Option<RangeInclusive<u64>> {
        let (first, newest) = (self.last_key_frame?.0, self.newest?);
        let is_pending = newest.saturating_sub(first) < MAX_CATCH_UP && self.pending.contains(&(first as u16));
        is_pending.then_some(first..=newest)
    }

    /// The timestamp of the picture that its last packet belongs to, if more of that picture is to come.
    pub(crate) fn unfinished_picture(&self) -> Option<u32> {
        let last = self.cache.get(self.newest? as u16)?;
        (!last.header.marker).then_some(last.header.timestamp)
    }

    /// What comes next does not follow what came last, so nobody can begin with the latest key frame.
    pub(crate) fn forget_key_frame(&mut self) {
        self.last_key_frame = None;
    }

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let repair = match &self.origin {
            Origin::User(origin) => origin.nack.as_ref().and_then(|nack| nack.poll_timeout(now)),
            Origin::Pipe(origin) => origin.poll_timeout(),
        };
        [repair, self.key_frames.poll_timeout()].into_iter().flatten().min()
    }

    /// Quality of reception, 0 to 10: 0 when nothing comes that should.
    pub(crate) fn score(&self, now: Instant) -> u8 {
        if !self.paused && self.stream.is_silent(now) { 0 } else { self.stream.score() }
    }

    /// A sender report of the client as the mesh counts; `None` if it comes too soon to be of use.
    pub(crate) fn map_sender_info(&self, now: Instant, info: &SenderInfo) -> Option<SenderInfo> {
        let Origin::User(origin) = &self.origin else { return None };
        let told_at = self.stream.clock().map(|clock| clock.received_at);
        let is_news = told_at.is_none_or(|at| now.saturating_duration_since(at) >= MIN_SENDER_REPORT_INTERVAL);
        is_news.then(|| SenderInfo { rtp_timestamp: info.rtp_timestamp.wrapping_add(origin.timestamp_offset), ..*info })
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self, now: Instant) -> StreamStats {
        let mut stats = StreamStats {
            score: self.score(now),
            nack_count: self.nacks.0,
            nack_packet_count: self.nacks.1,
            key_frames: self.key_frame_count,
            ..StreamStats::default()
        };
        self.stream.fill_stats(&mut stats);
        let rtt = |rtt: Duration| rtt.as_secs_f32() * 1_000.0;
        if let Origin::User(origin) = &self.origin {
            stats.ssrc = origin.ssrc.unwrap_or_default();
            stats.round_trip_time_ms = origin.nack.as_ref().and_then(NackGenerator::rtt).map(rtt);
            match origin.key_frame_message {
                Some(KeyFrameMessage::Fir { .. }) => stats.fir_count = self.key_frame_requests,
                _ => stats.pli_count = self.key_frame_requests,
            }
        }
        stats
    }
}
