//! One user's reception of one producer (mediasoup's SimpleConsumer): the producer's packets under the consumer's own SSRC,
//! sequence numbers, payload type and header extensions.

use std::time::{Duration, Instant};

use sluice_proto::ids::ConsumerId;
use sluice_proto::ortc::MediaKind;

use crate::clock::Clock;
use crate::core::counters::Counters;
use crate::core::overload::Shed;
use crate::core::user_transport::UserTransport;
use crate::drop_reason::DropReason;
use crate::keys::ProducerKey;
use crate::messages::StreamStats;
use crate::stream::header_template::{HeaderFields, HeaderTemplate};
use crate::stream::rate::RateMeter;
use crate::stream::rtp_cache::{CachedPacket, Part, RtpCache};
use crate::stream::rtp_stream_recv::ClockMapping;
use crate::stream::score::Score;
use crate::stream::sender_reports::SenderReports;
use crate::stream::sent_packets::{InputNumber, SentPackets};
use crate::stream::seq_manager::SeqManager;
use crate::transport::demux::TransportKey;
use crate::wire::codec::Codec;
use crate::wire::rtcp::{ReportBlock, SenderInfo};
use crate::wire::rtp::RtpHeader;

/// Sent packets that a video consumer can find again: a second of 500 each.
const VIDEO_SENT_SLOTS: u16 = 512;
/// The same for audio: 640 ms of 20 ms each. What comes later than that was concealed.
const AUDIO_SENT_SLOTS: u16 = 32;

/// No retransmission of what is older: no receiver waits that long.
const MAX_RETRANSMISSION_AGE: Duration = Duration::from_secs(2);

/// Reports of the client that come sooner behind one another than this tell nothing new. Browsers send one or two a second.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// How a consumer's packets look to its client.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerParameters {
    /// Of the packets.
    pub ssrc: u32,
    /// Of the packets.
    pub payload_type: u8,
    /// The client asks for what it misses.
    pub nack: bool,
    /// SSRC and payload type of retransmissions; without, packets go out again as they were.
    pub rtx: Option<(u32, u8)>,
    /// Units of the timestamps per second.
    pub clock_rate: u32,
    /// What the payloads are.
    pub codec: Codec,
    /// For the source descriptions.
    pub cname: String,
    /// Everything else of the header.
    pub template: HeaderTemplate,
}

impl ConsumerParameters {
    /// The header of a part of a packet under its output number.
    fn header(&self, packet: &CachedPacket<'_>, part: Part, output: u16) -> RtpHeader {
        RtpHeader {
            marker: packet.header.marker && part == Part::Payload,
            payload_type: self.payload_type,
            sequence_number: output,
            timestamp: packet.header.timestamp,
            ssrc: self.ssrc,
        }
    }
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// Its id.
    pub id: ConsumerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Whose packets it sends.
    pub producer: ProducerKey,
    /// Where it sends them.
    pub transport: TransportKey,
    /// The client, or the control plane in its stead, wants nothing for now.
    pub paused: bool,
    /// Nothing stands in the way of sending: not paused, the producer neither, not shed, and the transport is connected.
    pub active: bool,
    /// Whether the worker is too busy for it.
    pub shed: Shed,
    /// The score that the control plane was told last.
    pub reported_score: Option<(u8, u8)>,
    parameters: ConsumerParameters,
    /// The next packet begins anew; of video only a key frame can.
    sync_required: bool,
    /// The client cannot decode: it may have missed parameter sets that its publisher does not repeat.
    parameter_sets_wanted: bool,
    seq: SeqManager,
    rtx_seq: u16,
    sent: SentPackets,
    packets: u64,
    bytes: u64,
    retransmitted: u64,
    packets_at_report: u64,
    retransmitted_at_report: u64,
    lost: i32,
    fraction_lost: u8,
    jitter: u32,
    nacks: u64,
    nack_packets: u64,
    plis: u64,
    firs: u64,
    key_frames: u64,
    last_fir: Option<u8>,
    sender_reports: SenderReports,
    reported_at: Option<Instant>,
    rtt: Option<Duration>,
    bitrate: RateMeter,
    score: Score,
}

impl Consumer {
    /// `random` gives sequence numbers their beginning.
    pub(crate) fn new(
        id: ConsumerId,
        kind: MediaKind,
        producer: ProducerKey,
        transport: TransportKey,
        parameters: ConsumerParameters,
        random: u32,
    ) -> Self {
        // Half of the number space stays free, so that a first packet lost or late does not look like a cycle (RFC 3711 section 3.3.1).
        let (first, rtx_first) = (random as u16 & 0x3fff, (random >> 16) as u16 & 0x3fff);
        let slots = match kind {
            _ if !parameters.nack => 0,
            MediaKind::Video => VIDEO_SENT_SLOTS,
            MediaKind::Audio => AUDIO_SENT_SLOTS,
        };
        let sent = SentPackets::new(slots, parameters.rtx.is_none());
        Self {
            id,
            kind,
            producer,
            transport,
            paused: true,
            active: false,
            shed: Shed::No,
            reported_score: None,
            parameters,
            sync_required: true,
            parameter_sets_wanted: false,
            seq: SeqManager::new(first),
            rtx_seq: rtx_first,
            sent,
            packets: 0,
            bytes: 0,
            retransmitted: 0,
            packets_at_report: 0,
            retransmitted_at_report: 0,
            lost: 0,
            fraction_lost: 0,
            jitter: 0,
            nacks: 0,
            nack_packets: 0,
            plis: 0,
            firs: 0,
            key_frames: 0,
            last_fir: None,
            sender_reports: SenderReports::default(),
            reported_at: None,
            rtt: None,
            bitrate: RateMeter::default(),
            score: Score::default(),
        }
    }

    /// How its packets look.
    pub(crate) fn parameters(&self) -> &ConsumerParameters {
        &self.parameters
    }

    /// What was sent last has nothing to do with what comes next.
    pub(crate) fn require_sync(&mut self) {
        self.sync_required = true;
    }

    /// The publisher counts anew.
    pub(crate) fn restart(&mut self) {
        self.sync_required = true;
        self.seq.restart();
        self.sent.clear();
    }

    /// Sends nothing for now, so that nothing will be asked for again: gives the memory back.
    pub(crate) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// Whether all of this was never sent, so that it may begin here.
    pub(crate) fn may_begin_at(&self, sequence: u64) -> bool {
        self.seq.is_ahead(sequence)
    }

    /// Whether it waits for a key frame.
    pub(crate) fn waits_for_key_frame(&self) -> bool {
        self.active && self.sync_required && self.parameters.codec.has_key_frames()
    }

    /// Sends a packet of the producer, if it is this consumer's turn. Returns how many packets that made: none of the publisher's padding,
    /// two with parameter sets.
    ///
    /// # Errors
    /// Why it did not go out. No number was used then.
    #[inline]
    pub(crate) fn send_rtp(
        &mut self,
        packet: &CachedPacket<'_>,
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<u64, DropReason> {
        let before = self.packets;
        if self.sync_required || self.parameter_sets_wanted || self.shed != Shed::No {
            self.begin(packet, transport, clock)?;
        }
        if packet.payload().is_empty() {
            self.seq.drop_input(packet.sequence);
            return Ok(0);
        }
        let output = self.seq.output(packet.sequence).ok_or(DropReason::TooLate)?;
        let sent = self.transmit(packet, Part::Payload, output as u16, transport, clock);
        sent.inspect_err(|_| self.seq.drop_input(packet.sequence))?;
        self.sync_required = false;
        self.seq.sent(packet.sequence, output);
        self.key_frames += u64::from(packet.info.key_frame_start);
        Ok(self.packets - before)
    }

    /// Lets the stream begin (anew) with a packet, if it can, with what the client must know before. Or lets it end before it.
    fn begin(
        &mut self,
        packet: &CachedPacket<'_>,
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        if self.shed.ends_before(packet.header.timestamp) {
            self.shed = Shed::Yes;
            self.active = false;
        }
        if self.shed == Shed::Yes {
            return Err(DropReason::Overload);
        }
        let is_beginning = !self.parameters.codec.has_key_frames() || packet.info.key_frame_start;
        if !is_beginning || packet.payload().is_empty() || !self.seq.is_ahead(packet.sequence) {
            return if self.sync_required { Err(DropReason::WaitingForKeyFrame) } else { Ok(()) };
        }
        self.parameter_sets_wanted = false;
        if packet.has_parameter_sets() {
            self.sync_required = true;
            self.transmit(packet, Part::ParameterSets, self.seq.next_output(), transport, clock)?;
            self.seq.inserted();
        }
        if self.sync_required {
            self.seq.sync(packet.sequence);
        }
        Ok(())
    }

    /// Sends a part of a packet for the first time.
    #[inline]
    fn transmit(
        &mut self,
        packet: &CachedPacket<'_>,
        part: Part,
        output: u16,
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        let (template, payload) = (&self.parameters.template, packet.part(part));
        let header = self.parameters.header(packet, part, output);
        let len = template.header_len() + payload.len();
        let sealed = transport.send_rtp(clock, len, template.has_transport_wide_seq(), |room, stamp| {
            let fields = HeaderFields { header, stamp, audio_level: packet.audio_level };
            template.write(room, &fields).copy_from_slice(payload);
        })?;
        self.sent.insert(output, packet.sequence, part, sealed);
        self.packets += 1;
        self.bytes += payload.len() as u64;
        Ok(())
    }

    /// The client misses these packets: those that the producer's cache still has go out again.
    pub(crate) fn receive_nack(
        &mut self,
        missing: impl Iterator<Item = u16>,
        cache: &RtpCache,
        transport: &mut UserTransport,
        clock: &Clock,
        counters: &mut Counters,
    ) {
        self.nacks += 1;
        for output in missing {
            self.nack_packets += 1;
            match self.retransmit(output, cache, transport, clock) {
                Ok(true) => {
                    self.retransmitted += 1;
                    counters.retransmissions_sent += 1;
                    counters.rtp_packets_sent += 1;
                }
                Ok(false) => {}
                Err(reason) => counters.drops.count(reason),
            }
        }
    }

    /// Returns whether the packet went out; it does not if it is not known any more, or did just now.
    fn retransmit(
        &mut self,
        output: u16,
        cache: &RtpCache,
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<bool, DropReason> {
        if !self.active || !self.sent.may_resend(clock.since_epoch, output, self.rtt) {
            return Ok(false);
        }
        let Some((input, part)) = self.sent.get(output) else { return Ok(false) };
        let packet = cache.get_recent(input.sequence_number(), clock.now, MAX_RETRANSMISSION_AGE);
        let Some(packet) = packet.filter(|packet| InputNumber::new(packet.sequence) == input) else {
            return Ok(false);
        };
        match self.parameters.rtx {
            Some(rtx) => self.send_rtx(output, (&packet, part), rtx, transport, clock)?,
            None => self.send_again(output, (&packet, part), transport, clock)?,
        }
        self.sent.resent(clock.since_epoch, output);
        Ok(true)
    }

    /// RFC 4588.
    fn send_rtx(
        &mut self,
        output: u16,
        (packet, part): (&CachedPacket<'_>, Part),
        (ssrc, payload_type): (u32, u8),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        let (template, payload) = (&self.parameters.template, packet.part(part));
        let sequence_number = self.rtx_seq.wrapping_add(1);
        let header = self.parameters.header(packet, part, sequence_number);
        let header = RtpHeader { payload_type, ssrc, ..header };
        let len = template.header_len() + 2 + payload.len();
        transport.send_rtx(clock, len, template.has_transport_wide_seq(), |room, stamp| {
            let fields = HeaderFields { header, stamp, audio_level: packet.audio_level };
            if let Some((original, room)) = template.write(room, &fields).split_first_chunk_mut() {
                *original = output.to_be_bytes();
                room.copy_from_slice(payload);
            }
        })?;
        self.rtx_seq = sequence_number;
        Ok(())
    }

    /// For clients without RTX: bit by bit the packet that went out. Any other one under its number would use an SRTP nonce twice.
    fn send_again(
        &self,
        output: u16,
        (packet, part): (&CachedPacket<'_>, Part),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        let (template, payload) = (&self.parameters.template, packet.part(part));
        let header = self.parameters.header(packet, part, output);
        let sealed = self.sent.sealed(output).ok_or(DropReason::SrtpNonceReused)?;
        transport.send_again(clock.now, template.header_len() + payload.len(), sealed, |room, stamp| {
            let fields = HeaderFields { header, stamp, audio_level: packet.audio_level };
            template.write(room, &fields).copy_from_slice(payload);
        })
    }

    /// The client wants a key frame (PLI, or FIR with its number). Returns whether that is news: a FIR is repeated until a key frame comes.
    pub(crate) fn receive_key_frame_request(&mut self, fir: Option<u8>) -> bool {
        self.parameter_sets_wanted = self.parameters.codec == Codec::H264;
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

    /// The client's reception of this stream.
    pub(crate) fn receive_report(&mut self, clock: &Clock, report: &ReportBlock) {
        if self.reported_at.is_some_and(|at| clock.now.saturating_duration_since(at) < MIN_REPORT_INTERVAL) {
            return;
        }
        self.reported_at = Some(clock.now);
        self.rtt = self.sender_reports.round_trip(clock, report).or(self.rtt);
        let lost = report.cumulative_lost.saturating_sub(self.lost).max(0);
        let repaired = self.retransmitted - self.retransmitted_at_report;
        self.score.update(self.packets - self.packets_at_report, u64::from(lost.unsigned_abs()), repaired);
        self.packets_at_report = self.packets;
        self.retransmitted_at_report = self.retransmitted;
        self.lost = report.cumulative_lost;
        self.fraction_lost = report.fraction_lost;
        self.jitter = report.jitter;
    }

    /// What a sender report says now: the publisher's own clock carried on, so that audio and video of one publisher stay in sync
    /// whatever way they came. `None` before the publisher told its clock or anything was sent.
    pub(crate) fn sender_report(&mut self, clock: &Clock, publisher: Option<ClockMapping>) -> Option<SenderInfo> {
        self.bitrate.sample(clock.now, self.bytes);
        let publisher = publisher.filter(|_| self.packets > 0 && self.active)?;
        let (ntp, rtp_timestamp) = publisher.at(clock.now, self.parameters.clock_rate);
        self.sender_reports.add(clock, ntp);
        Some(SenderInfo {
            ssrc: self.parameters.ssrc,
            ntp,
            rtp_timestamp,
            packets: self.packets as u32,
            octets: self.bytes as u32,
        })
    }

    /// Whether the client knows the stream.
    pub(crate) fn has_sent(&self) -> bool {
        self.packets > 0
    }

    /// Whether a sender report is overdue: none was ever sent, and something was.
    pub(crate) fn lacks_sender_report(&self) -> bool {
        self.sender_reports.is_empty() && self.packets > 0
    }

    /// Quality, 0 to 10: 0 while it is shed.
    pub(crate) fn score(&self) -> u8 {
        if self.shed == Shed::No { self.score.get() } else { 0 }
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self) -> StreamStats {
        StreamStats {
            ssrc: self.parameters.ssrc,
            packets: self.packets,
            bytes: self.bytes,
            packets_lost: u64::from(self.lost.max(0).unsigned_abs()),
            fraction_lost: self.fraction_lost,
            jitter: self.jitter,
            packets_retransmitted: self.retransmitted,
            packets_repaired: 0,
            nack_count: self.nacks,
            nack_packet_count: self.nack_packets,
            pli_count: self.plis,
            fir_count: self.firs,
            key_frames: self.key_frames,
            bitrate: self.bitrate.bits_per_second(),
            round_trip_time_ms: self.rtt.map(|rtt| rtt.as_secs_f32() * 1_000.0),
            score: self.score(),
        }
    }
}
