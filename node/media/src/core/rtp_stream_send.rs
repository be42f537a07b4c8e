//! The stream that a user gets of a producer (mediasoup's RtpStreamSend): its own SSRC, payload type and header
//! extensions, what was sent of it and is sent again, and how it arrives.

mod probe;

use std::time::{Duration, Instant};

use sluice_proto::ids::ConsumerId;
use sluice_proto::ortc::MediaKind;

use crate::bandwidth::OVERHEAD;
use crate::clock::Clock;
use crate::core::counters::Counters;
use crate::core::producer::Producer;
use crate::core::user_transport::{Purpose, UserTransport};
use crate::drop_reason::DropReason;
use crate::messages::StreamStats;
use crate::stream::carriage::Carriage;
use crate::stream::cut::{Place, rewrite};
use crate::stream::header_template::{HeaderFields, HeaderTemplate};
use crate::stream::rate::RateMeter;
use crate::stream::rtp_cache::{CachedPacket, Part};
use crate::stream::rtp_stream_recv::ClockMapping;
use crate::stream::score::Score;
use crate::stream::sender_reports::SenderReports;
use crate::stream::sent_packets::SentPackets;
use crate::stream::succession::{Shift, Shifts};
use crate::trace::{TraceSubject, TracedPacket};
use crate::wire::codec::{Codec, red};
use crate::wire::rtcp::{ReportBlock, SenderInfo};
use crate::wire::rtp::{CarriedExtensions, RtpHeader};

/// Sent packets that can be found again, of video: a second of 500 each.
const VIDEO_SENT_SLOTS: u16 = 512;
/// The same for audio: 640 ms of 20 ms each. What comes later than that was concealed.
const AUDIO_SENT_SLOTS: u16 = 32;

/// No retransmission of what is older: no receiver waits that long.
const MAX_RETRANSMISSION_AGE: Duration = Duration::from_secs(2);

/// Bytes of a packet on the path beside its payload: its header with the extensions that most have, and what is around
/// that.
const AROUND_PAYLOAD: u64 = 12 + 16 + OVERHEAD as u64;

/// Reports of the client that come sooner behind one another than this tell nothing new. Browsers send one or two a
/// second.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// How a stream's packets look to its client.
#[derive(Debug, Clone)]
pub(crate) struct SendParameters {
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
    /// What becomes of redundant audio.
    pub redundancy: Redundancy,
    /// For the source descriptions.
    pub cname: String,
    /// Everything else of the header.
    pub template: HeaderTemplate,
}

/// What becomes of the publisher's redundant audio (RFC 2198), whose packets may come without as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redundancy {
    /// There is none.
    None,
    /// The client gets it, under the mesh's payload types, which it was told.
    Kept,
    /// The client does not know it and gets the newest frame of each packet, unless that came by itself under this
    /// payload type of the mesh's.
    TakenOff(u8),
}

impl Redundancy {
    /// What becomes of that of a producer to a client that gets this codec.
    pub(crate) fn between(producer: Codec, client: Codec) -> Self {
        match (producer, client) {
            (Codec::Red(_), Codec::Red(_)) => Self::Kept,
            (Codec::Red(plain), _) => Self::TakenOff(plain),
            _ => Self::None,
        }
    }
}

impl SendParameters {
    /// Of its packets, and of those that are sent again.
    pub(crate) fn ssrcs(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.ssrc).chain(self.rtx.map(|(ssrc, _)| ssrc))
    }

    /// Whether a packet goes out with no more than what all packets do, as most do.
    #[inline]
    fn is_plain(&self, packet: &CachedPacket<'_>) -> bool {
        self.redundancy == Redundancy::None && !self.template.wants_any(packet.carries)
    }

    /// The payload of a part of a packet.
    #[inline]
    fn payload<'a, const PLAIN: bool>(&self, packet: &CachedPacket<'a>, part: Part) -> &'a [u8] {
        let payload = packet.part(part);
        match self.redundancy {
            Redundancy::TakenOff(plain) if !PLAIN && packet.header.payload_type != plain => {
                red::primary(payload).unwrap_or_default()
            }
            _ => payload,
        }
    }

    /// What a packet carries beside what all do; most carry nothing.
    #[inline]
    fn carriage<'a>(&self, packet: &CachedPacket<'a>, as_sent: (Place, Shift)) -> Option<Carriage<'a>> {
        if self.template.wants_any(packet.carries) { Carriage::new(packet, as_sent, &self.template) } else { None }
    }

    /// The header of a part of a packet in its place.
    #[inline]
    fn header<const PLAIN: bool>(&self, packet: &CachedPacket<'_>, place: Place, shift: Shift) -> RtpHeader {
        RtpHeader {
            marker: (packet.header.marker || place.ends_picture) && place.part == Part::Payload,
            payload_type: match self.redundancy {
                Redundancy::Kept if !PLAIN => packet.header.payload_type,
                _ => self.payload_type,
            },
            sequence_number: place.output,
            timestamp: packet.header.timestamp.wrapping_add(shift.timestamp),
            ssrc: self.ssrc,
        }
    }
}

/// A stream to a user.
#[derive(Debug)]
pub(crate) struct RtpStreamSend {
    /// Whose it is.
    consumer: ConsumerId,
    kind: MediaKind,
    parameters: SendParameters,
    sent: SentPackets,
    rtx_seq: u16,
    packets: u64,
    bytes: u64,
    key_frames: u64,
    retransmitted: u64,
    /// Packets that the client asked for and was refused.
    refused: u64,
    nacks: u64,
    nack_packets: u64,
    sender_reports: SenderReports,
    reception: Reception,
    bitrate: RateMeter,
    path_bitrate: RateMeter,
}

/// What the client's reports say.
#[derive(Debug, Default)]
struct Reception {
    reported_at: Option<Instant>,
    packets_at_report: u64,
    retransmitted_at_report: u64,
    lost: i32,
    fraction_lost: u8,
    jitter: u32,
    rtt: Option<Duration>,
    score: Score,
}

impl RtpStreamSend {
    /// A consumer's stream, of which nothing was sent. Its retransmissions begin behind the number `rtx_before_first`.
    pub(crate) fn new(
        consumer: ConsumerId,
        kind: MediaKind,
        parameters: SendParameters,
        rtx_before_first: u16,
    ) -> Self {
        let slots = match kind {
            _ if !parameters.nack => 0,
            MediaKind::Video => VIDEO_SENT_SLOTS,
            MediaKind::Audio => AUDIO_SENT_SLOTS,
        };
        Self {
            consumer,
            kind,
            sent: SentPackets::new(slots, parameters.rtx.is_none()),
            parameters,
            rtx_seq: rtx_before_first,
            packets: 0,
            bytes: 0,
            key_frames: 0,
            retransmitted: 0,
            refused: 0,
            nacks: 0,
            nack_packets: 0,
            sender_reports: SenderReports::default(),
            reception: Reception::default(),
            bitrate: RateMeter::default(),
            path_bitrate: RateMeter::default(),
        }
    }

    /// Whose it is.
    pub(crate) fn consumer(&self) -> ConsumerId {
        self.consumer
    }

    /// How its packets look.
    pub(crate) fn parameters(&self) -> &SendParameters {
        &self.parameters
    }

    /// Nothing of what was sent will be asked for. Gives the memory back.
    pub(crate) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    /// Sends a packet of the producer for the first time.
    ///
    /// # Errors
    /// Why it did not go out.
    #[inline]
    pub(crate) fn send(
        &mut self,
        packet: &CachedPacket<'_>,
        as_sent: (Place, Shift),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        if self.parameters.is_plain(packet) {
            self.send_packet::<true>(packet, as_sent, None, transport, clock)
        } else {
            self.send_uncommon(packet, as_sent, transport, clock)
        }
    }

    /// The same for a packet that carries more than most, or redundancy.
    #[cold]
    #[inline(never)]
    fn send_uncommon(
        &mut self,
        packet: &CachedPacket<'_>,
        as_sent: (Place, Shift),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        let carriage = self.parameters.carriage(packet, as_sent);
        let extensions = carriage.as_ref().map(Carriage::extensions);
        self.send_packet::<false>(packet, as_sent, extensions.as_ref(), transport, clock)
    }

    #[inline(always)]
    fn send_packet<const PLAIN: bool>(
        &mut self,
        packet: &CachedPacket<'_>,
        (place, shift): (Place, Shift),
        carried: Option<&CarriedExtensions<'_>>,
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        let (template, payload) = (&self.parameters.template, self.parameters.payload::<PLAIN>(packet, place.part));
        let header = self.parameters.header::<PLAIN>(packet, place, shift);
        let audio_level = packet.audio_level;
        let len = template.header_len(audio_level, carried) + payload.len();
        let sealed =
            transport.send_rtp(clock, (self.kind, len), template.has_transport_wide_seq(), |room, stamp| {
                let fields = HeaderFields { header, stamp, audio_level, carried };
                let room = template.write(room, &fields);
                room.copy_from_slice(payload);
                rewrite(place, shift, self.parameters.codec, room);
            })?;
        self.sent.insert(place, sealed);
        self.packets += 1;
        self.bytes += payload.len() as u64;
        self.key_frames += u64::from(packet.info.key_frame_start && place.part == Part::Payload);
        if transport.is_traced() {
            self.trace_sent(packet, (place, shift), None, transport, clock);
        }
        Ok(())
    }

    /// Tells whoever looks of a packet that went out, or last went out again in a stream for retransmissions.
    #[cold]
    fn trace_sent(
        &self,
        packet: &CachedPacket<'_>,
        (place, shift): (Place, Shift),
        rtx: Option<(u32, u8)>,
        transport: &mut UserTransport,
        clock: &Clock,
    ) {
        let (template, payload) = (&self.parameters.template, self.parameters.payload::<false>(packet, place.part));
        let carriage = self.parameters.carriage(packet, (place, shift));
        let extensions = carriage.as_ref().map(Carriage::extensions);
        let payload_size = payload.len() + if rtx.is_some() { 2 } else { 0 };
        let header = self.parameters.header::<false>(packet, place, shift);
        let is_numbered = template.has_transport_wide_seq();
        let packet = TracedPacket {
            header: rtx.map_or(header, |(ssrc, payload_type)| RtpHeader {
                payload_type,
                sequence_number: self.rtx_seq,
                ssrc,
                ..header
            }),
            size: template.header_len(packet.audio_level, extensions.as_ref()) + payload_size,
            payload_size,
            is_key_frame: packet.info.key_frame_start && place.part == Part::Payload,
            spatial_layer: packet.info.spatial_layer,
            temporal_layer: packet.info.temporal_layer,
            wide_sequence_number: is_numbered.then(|| transport.last_transport_wide_seq()),
            is_rtx: rtx.is_some(),
        };
        if let Some(trace) = transport.trace() {
            trace.add_packet(clock, TraceSubject::Consumer(self.consumer), packet);
        }
    }

    /// The client misses these packets: those that the producer still has go out again.
    pub(crate) fn receive_nack(
        &mut self,
        missing: impl Iterator<Item = u16>,
        (producer, shifts): (&Producer, &Shifts),
        transport: &mut UserTransport,
        clock: &Clock,
        counters: &mut Counters,
    ) {
        self.nacks += 1;
        for output in missing {
            self.nack_packets += 1;
            match self.retransmit(output, (producer, shifts), transport, clock) {
                Ok(true) => {
                    self.retransmitted += 1;
                    counters.retransmissions_sent += 1;
                    counters.rtp_packets_sent += 1;
                }
                Ok(false) => {}
                Err(reason) => {
                    self.refused += 1;
                    counters.drops.count(reason);
                }
            }
        }
    }

    /// Returns whether the packet went out; it does not if it is not known any more, or did just now.
    fn retransmit(
        &mut self,
        output: u16,
        (producer, shifts): (&Producer, &Shifts),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<bool, DropReason> {
        if !self.sent.may_resend(clock.since_epoch, output, self.reception.rtt) {
            return Ok(false);
        }
        let Some(place) = self.sent.get(output) else { return Ok(false) };
        let Some(packet) = producer.named(place.input, clock.now, MAX_RETRANSMISSION_AGE) else { return Ok(false) };
        let shift = shifts.of(output);
        match self.parameters.rtx {
            Some(rtx) => self.send_rtx(&packet, (place, shift), (rtx, Purpose::Repair), transport, clock)?,
            None => self.send_again(&packet, (place, shift), transport)?,
        }
        self.sent.resent(clock.since_epoch, output);
        if transport.is_traced() {
            self.trace_sent(&packet, (place, shift), self.parameters.rtx, transport, clock);
        }
        Ok(true)
    }

    /// RFC 4588.
    fn send_rtx(
        &mut self,
        packet: &CachedPacket<'_>,
        (place, shift): (Place, Shift),
        ((ssrc, payload_type), purpose): ((u32, u8), Purpose),
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> Result<(), DropReason> {
        let (template, payload) = (&self.parameters.template, self.parameters.payload::<false>(packet, place.part));
        let sequence_number = self.rtx_seq.wrapping_add(1);
        let header = self.parameters.header::<false>(packet, place, shift);
        let header = RtpHeader { payload_type, sequence_number, ssrc, ..header };
        let carriage = self.parameters.carriage(packet, (place, shift));
        let extensions = carriage.as_ref().map(Carriage::extensions);
        let (audio_level, carried) = (packet.audio_level, extensions.as_ref());
        let len = template.header_len(audio_level, carried) + 2 + payload.len();
        transport.send_rtx(clock, (self.kind, len), (template.has_transport_wide_seq(), purpose), |room, stamp| {
            let fields = HeaderFields { header, stamp, audio_level, carried };
            if let Some((original, room)) = template.write(room, &fields).split_first_chunk_mut() {
                *original = place.output.to_be_bytes();
                room.copy_from_slice(payload);
                rewrite(place, shift, self.parameters.codec, room);
            }
        })?;
        self.rtx_seq = sequence_number;
        Ok(())
    }

    /// For clients without RTX: bit by bit the packet that went out. Any other one under its number would use an SRTP
    /// nonce twice.
    fn send_again(
        &self,
        packet: &CachedPacket<'_>,
        (place, shift): (Place, Shift),
        transport: &mut UserTransport,
    ) -> Result<(), DropReason> {
        let (template, payload) = (&self.parameters.template, self.parameters.payload::<false>(packet, place.part));
        let header = self.parameters.header::<false>(packet, place, shift);
        let carriage = self.parameters.carriage(packet, (place, shift));
        let extensions = carriage.as_ref().map(Carriage::extensions);
        let (audio_level, carried) = (packet.audio_level, extensions.as_ref());
        let sealed = self.sent.sealed(place.output).ok_or(DropReason::SrtpNonceReused)?;
        let len = template.header_len(audio_level, carried) + payload.len();
        transport.send_again((self.kind, len), sealed, |room, stamp| {
            let fields = HeaderFields { header, stamp, audio_level, carried };
            let room = template.write(room, &fields);
            room.copy_from_slice(payload);
            rewrite(place, shift, self.parameters.codec, room);
        })
    }

    /// The client's reception of the stream.
    pub(crate) fn receive_report(&mut self, clock: &Clock, report: &ReportBlock) {
        let of = &mut self.reception;
        if of.reported_at.is_some_and(|at| clock.now.saturating_duration_since(at) < MIN_REPORT_INTERVAL) {
            return;
        }
        of.reported_at = Some(clock.now);
        of.rtt = self.sender_reports.round_trip(clock, report).or(of.rtt);
        let lost = report.cumulative_lost.saturating_sub(of.lost).max(0);
        let repaired = self.retransmitted - of.retransmitted_at_report;
        of.score.update(self.packets - of.packets_at_report, u64::from(lost.unsigned_abs()), repaired);
        of.packets_at_report = self.packets;
        of.retransmitted_at_report = self.retransmitted;
        of.lost = report.cumulative_lost;
        of.fraction_lost = report.fraction_lost;
        of.jitter = report.jitter;
    }

    /// What a sender report says now: the publisher's own clock carried on, so that audio and video of one publisher
    /// stay in sync whatever way they came. `None` before the publisher told its clock or anything was sent.
    pub(crate) fn sender_report(&mut self, clock: &Clock, publisher: Option<ClockMapping>) -> Option<SenderInfo> {
        self.bitrate.sample(clock.now, self.bytes);
        self.path_bitrate.sample(clock.now, self.bytes + self.packets * AROUND_PAYLOAD);
        let publisher = publisher.filter(|_| self.packets > 0)?;
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

    /// Bits per second on the path in the last report interval.
    pub(crate) fn path_bitrate(&self) -> u64 {
        self.path_bitrate.bits_per_second()
    }

    /// Whether a sender report is overdue: none was ever sent, and something was.
    pub(crate) fn lacks_sender_report(&self) -> bool {
        self.sender_reports.is_empty() && self.packets > 0
    }

    /// Quality of reception, 0 to 10.
    pub(crate) fn score(&self) -> u8 {
        self.reception.score.get()
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self) -> StreamStats {
        StreamStats {
            ssrc: self.parameters.ssrc,
            rtx_ssrc: self.parameters.rtx.map(|(ssrc, _)| ssrc),
            packets: self.packets,
            bytes: self.bytes,
            packets_discarded: self.refused,
            packets_lost: u64::from(self.reception.lost.max(0).unsigned_abs()),
            fraction_lost: self.reception.fraction_lost,
            jitter: self.reception.jitter,
            packets_retransmitted: self.retransmitted,
            nack_count: self.nacks,
            nack_packet_count: self.nack_packets,
            key_frames: self.key_frames,
            bitrate: self.bitrate.bits_per_second(),
            round_trip_time_ms: self.reception.rtt.map(|rtt| rtt.as_secs_f32() * 1_000.0),
            score: self.score(),
            ..StreamStats::default()
        }
    }
}
