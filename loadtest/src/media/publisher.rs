//! A virtual publisher: turns a source into an RTP stream, and behaves as a browser does when it is told of loss.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rtc_rtcp::packet::Packet as RtcpPacket;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtc_rtp::header::{EXTENSION_PROFILE_ONE_BYTE, Extension, Header};
use rtc_rtp::packet::Packet;
use rtc_shared::marshal::Marshal;

use super::bandwidth::BandwidthController;
use super::codec::Codec;
use super::generator::{Generator, Payload};
use super::pacer::Pacer;
use super::source::Source;
use super::stamp::write_stamp;
use crate::clock::Clock;
use crate::tally::SentTally;

/// How long packets are kept for retransmission: more than anybody asks back for.
const HISTORY: Duration = Duration::from_secs(2);
/// And how many: two seconds of 500 packets/s.
const MAX_HISTORY: usize = 1024;
/// Payloads that wait for their time, beyond which frames are left out: two seconds of 5 Mbit/s, more than a pacer
/// holds.
const MAX_WAITING: usize = 1024;
/// Of key-frame requests that come within this of the one before, only the first is heeded: libwebrtc's
/// `kMinKeyframeSendIntervalMs`.
const KEY_FRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(300);
/// Bits of a second that may be sent again however little is allowed: what a frame of video may have.
const MIN_RETRANSMITTED: f64 = 100_000.0;
/// Between sender reports; libwebrtc sends them each second for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How the packets of a stream are labelled; what ORTC calls `RtpParameters`, as far as a sender needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendParameters {
    /// SSRC.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// SSRC and payload type of retransmissions (RFC 4588); without it NACKs are answered with the packet itself.
    pub rtx: Option<(u32, u8)>,
    /// Canonical name (RFC 3550 section 6.5.1), the same for all streams of a user.
    pub cname: String,
    /// Media id and the id of its header extension.
    pub mid: Option<(u8, String)>,
    /// Id of the abs-send-time extension.
    pub abs_send_time: Option<u8>,
    /// Id of the transport-wide-cc extension.
    pub transport_cc: Option<u8>,
    /// Id of the audio-level extension (RFC 6464).
    pub audio_level: Option<u8>,
}

/// What a publisher sent and was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublisherStats {
    /// RTP packets, retransmissions excluded.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Frames, or packets of audio.
    pub frames: u64,
    /// Key frames.
    pub key_frames: u64,
    /// PLI and FIR received.
    pub key_frame_requests: u64,
    /// Packets asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Share lost as the last receiver report has it, 0 to 255.
    pub fraction_lost: u8,
}

/// One outgoing stream.
#[derive(Debug)]
pub struct Publisher {
    parameters: SendParameters,
    codec: Codec,
    generator: Generator,
    /// What the source sends when nothing limits it.
    full_bits_per_second: f64,
    /// What congestion control allows.
    allowed_bits_per_second: Option<f64>,
    paused: bool,
    /// It is an encoding that is worth sending.
    active: bool,
    sequence_number: u16,
    rtx_sequence_number: u16,
    history: VecDeque<Sent>,
    waiting: VecDeque<Payload>,
    waiting_bytes: usize,
    pacer: Pacer,
    /// Bits sent again within about a second, and when that was true.
    retransmitted: (f64, Instant),
    last_key_frame_request: Option<Instant>,
    next_report: Instant,
    stats: PublisherStats,
    /// As they were when they were last told.
    tallied: PublisherStats,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    sequence_number: u16,
    timestamp: u32,
    marker: bool,
    level: Option<u8>,
    payload: Bytes,
}

/// What all streams of a transport share when they send.
pub(crate) struct Outgoing<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) bandwidth: &'a mut BandwidthController,
    pub(crate) send: &'a mut dyn FnMut(&[u8]),
}

impl Publisher {
    /// A stream that begins with a key frame at `now`.
    pub fn new(now: Instant, parameters: SendParameters, source: Source, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let generator = Generator::new(now, &source, &mut rng);
        let full_bits_per_second = source.bits_per_second();
        Self {
            parameters,
            codec: source.codec(),
            generator,
            full_bits_per_second,
            allowed_bits_per_second: None,
            paused: false,
            active: true,
            // RFC 3711 section 3.3.1 wants the first number below 2^15, or an early loss loses the rollover.
            sequence_number: rng.random_range(0..0x8000),
            rtx_sequence_number: rng.random_range(0..0x8000),
            history: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pacer: Pacer::new(now, full_bits_per_second),
            retransmitted: (0.0, now),
            last_key_frame_request: None,
            next_report: now + REPORT_INTERVAL / 2,
            stats: PublisherStats::default(),
            tallied: PublisherStats::default(),
            rng,
        }
    }

    /// SSRC of the stream.
    pub fn ssrc(&self) -> u32 {
        self.parameters.ssrc
    }

    /// What it sends.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What it sends when nothing limits it.
    pub(crate) fn full_bits_per_second(&self) -> f64 {
        self.full_bits_per_second
    }

    /// What congestion control allows; `None`: nothing limits it.
    pub(crate) fn allowed_bits_per_second(&self) -> Option<f64> {
        self.allowed_bits_per_second
    }

    /// Congestion control allows so much of video. More than the source has changes nothing. What is sent again is
    /// taken from it, up to a half.
    pub(crate) fn allow(&mut self, now: Instant, bits_per_second: f64) {
        self.allowed_bits_per_second = Some(bits_per_second);
        let left = (bits_per_second - self.retransmission_rate(now)).max(bits_per_second / 2.0);
        let used = left.min(self.full_bits_per_second);
        if self.generator.set_share(used / self.full_bits_per_second) {
            self.pacer.set_bits_per_second(used);
        }
    }

    /// What is sent again, in bits per second: a sum in which what is older counts less.
    fn retransmission_rate(&self, now: Instant) -> f64 {
        let (bits, at) = self.retransmitted;
        bits * (-now.saturating_duration_since(at).as_secs_f64()).exp()
    }

    /// What was sent so far.
    pub fn stats(&self) -> PublisherStats {
        PublisherStats { frames: self.generator.frames, key_frames: self.generator.key_frames, ..self.stats }
    }

    /// Adds what happened since the last call to the counts of its session.
    pub(crate) fn tally(&mut self, tally: &mut SentTally) {
        let stats = self.stats();
        let before = std::mem::replace(&mut self.tallied, stats);
        let sums = &mut tally.sums;
        sums.packets += stats.packets - before.packets;
        sums.bytes += stats.bytes - before.bytes;
        sums.frames += stats.frames - before.frames;
        sums.key_frames += stats.key_frames - before.key_frames;
        sums.key_frame_requests += stats.key_frame_requests - before.key_frame_requests;
        sums.nacked += stats.nacked - before.nacked;
        sums.retransmitted += stats.retransmitted - before.retransmitted;
    }

    /// A paused publisher sends nothing; it goes on with a key frame.
    pub fn set_paused(&mut self, paused: bool) {
        self.change(paused, self.active);
    }

    /// The same for an encoding that is not worth sending.
    pub(crate) fn set_active(&mut self, active: bool) {
        self.change(self.paused, active);
    }

    /// Whether it is an encoding that is worth sending.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    fn sends(&self) -> bool {
        self.active && !self.paused
    }

    fn change(&mut self, paused: bool, active: bool) {
        let sent = self.sends();
        (self.paused, self.active) = (paused, active);
        if sent == self.sends() {
            return;
        }
        if !sent {
            self.generator.want_key_frame();
        }
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.sends() {
            return None;
        }
        let paced = (!self.waiting.is_empty()).then(|| self.pacer.next());
        let generated = (!self.is_congested()).then(|| self.generator.next());
        paced.into_iter().chain(generated).chain([self.next_report]).min()
    }

    fn is_congested(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// Sends what is due.
    pub(crate) fn poll(&mut self, now: Instant, out: &mut Outgoing<'_>) {
        if !self.sends() {
            return;
        }
        if !self.is_congested() {
            let Self { generator, waiting, waiting_bytes, rng, .. } = self;
            generator.poll(now, rng, |payload| {
                *waiting_bytes += payload.bytes.len();
                waiting.push_back(payload);
            });
        }
        // Audio is not paced, as in libwebrtc.
        while (!self.codec.is_video() || now >= self.pacer.next())
            && let Some(payload) = self.waiting.pop_front()
        {
            self.waiting_bytes -= payload.bytes.len();
            self.pacer.on_sent(now, payload.bytes.len(), self.waiting_bytes);
            self.send_payload(now, payload, out);
        }
    }

    fn send_payload(&mut self, now: Instant, payload: Payload, out: &mut Outgoing<'_>) {
        let Payload { timestamp, marker, level, stampable, mut bytes } = payload;
        if stampable {
            write_stamp(&mut bytes, out.clock.stamp(now));
        }
        let sequence_number = self.sequence_number;
        self.sequence_number = sequence_number.wrapping_add(1);
        self.stats.packets += 1;
        self.stats.bytes += bytes.len() as u64;
        let sent = Sent { at: now, sequence_number, timestamp, marker, level, payload: Bytes::from(bytes) };
        let (ssrc, payload_type) = (self.parameters.ssrc, self.parameters.payload_type);
        self.send(now, ssrc, payload_type, &sent, sequence_number, sent.payload.clone(), out);
        let is_old = |oldest: &mut Sent| now.saturating_duration_since(oldest.at) > HISTORY;
        while self.history.len() == MAX_HISTORY || self.history.front_mut().is_some_and(is_old) {
            self.history.pop_front();
        }
        self.history.push_back(sent);
    }

    /// Answers a NACK from the history, unless more would be sent again than may be sent at all: libwebrtc's
    /// `RetransmissionRateLimiter`.
    pub(crate) fn on_nack(&mut self, now: Instant, numbers: impl Iterator<Item = u16>, out: &mut Outgoing<'_>) {
        for number in numbers {
            self.stats.nacked += 1;
            let Some(oldest) = self.history.front().map(|sent| sent.sequence_number) else { continue };
            let index = usize::from(number.wrapping_sub(oldest));
            let Some(sent) = self.history.get(index) else { continue };
            let again = Sent { payload: sent.payload.clone(), ..*sent };
            let bits = self.retransmission_rate(now) + again.payload.len() as f64 * 8.0;
            if bits > self.allowed_bits_per_second.unwrap_or(self.full_bits_per_second).max(MIN_RETRANSMITTED) {
                continue;
            }
            self.retransmitted = (bits, now);
            self.stats.retransmitted += 1;
            match self.parameters.rtx {
                Some((ssrc, payload_type)) => {
                    // RFC 4588 section 4: the original number, then the original payload.
                    let mut payload = BytesMut::with_capacity(2 + again.payload.len());
                    payload.extend_from_slice(&number.to_be_bytes());
                    payload.extend_from_slice(&again.payload);
                    let rtx_number = self.rtx_sequence_number;
                    self.rtx_sequence_number = rtx_number.wrapping_add(1);
                    self.send(now, ssrc, payload_type, &again, rtx_number, payload.freeze(), out);
                }
                None => {
                    let (ssrc, payload_type) = (self.parameters.ssrc, self.parameters.payload_type);
                    self.send(now, ssrc, payload_type, &again, number, again.payload.clone(), out);
                }
            }
        }
    }

    /// Somebody cannot decode: the next frame is a key frame.
    pub(crate) fn on_key_frame_request(&mut self, now: Instant) {
        self.stats.key_frame_requests += 1;
        let heeded = self.last_key_frame_request.is_none_or(|last| now >= last + KEY_FRAME_REQUEST_INTERVAL);
        if heeded {
            self.last_key_frame_request = Some(now);
            self.generator.want_key_frame();
        }
    }

    pub(crate) fn on_receiver_report(&mut self, fraction_lost: u8) {
        self.stats.fraction_lost = fraction_lost;
    }

    /// A sender report with the source description, when due.
    pub(crate) fn poll_report(&mut self, now: Instant, clock: &Clock) -> Option<Vec<Box<dyn RtcpPacket>>> {
        if !self.sends() || now < self.next_report || self.stats.packets == 0 {
            return None;
        }
        self.next_report = now + REPORT_INTERVAL;
        let report = SenderReport {
            ssrc: self.parameters.ssrc,
            ntp_time: clock.ntp(now),
            rtp_time: self.generator.timestamp(now),
            packet_count: self.stats.packets as u32,
            octet_count: self.stats.bytes as u32,
            ..SenderReport::default()
        };
        let description = SourceDescription {
            chunks: vec![SourceDescriptionChunk {
                source: self.parameters.ssrc,
                items: vec![SourceDescriptionItem {
                    sdes_type: SdesType::SdesCname,
                    text: Bytes::from(self.parameters.cname.clone()),
                }],
            }],
        };
        Some(vec![Box::new(report), Box::new(description)])
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one packet")]
    fn send(
        &self,
        now: Instant,
        ssrc: u32,
        payload_type: u8,
        sent: &Sent,
        sequence_number: u16,
        payload: Bytes,
        out: &mut Outgoing<'_>,
    ) {
        let extensions = self.extensions(now, sent.level, out);
        let header = Header {
            version: 2,
            marker: sent.marker,
            payload_type,
            sequence_number,
            timestamp: sent.timestamp,
            ssrc,
            extension: !extensions.is_empty(),
            extension_profile: EXTENSION_PROFILE_ONE_BYTE,
            extensions,
            ..Header::default()
        };
        if let Ok(packet) = (Packet { header, payload }).marshal() {
            if self.parameters.transport_cc.is_some() {
                out.bandwidth.on_sent(now, ssrc, sequence_number, packet.len());
            }
            (out.send)(&packet);
        }
    }

    fn extensions(&self, now: Instant, level: Option<u8>, out: &Outgoing<'_>) -> Vec<Extension> {
        let mut extensions = Vec::with_capacity(4);
        let mut push = |id: u8, value: &[u8]| extensions.push(Extension { id, payload: Bytes::copy_from_slice(value) });
        if let Some((id, mid)) = &self.parameters.mid {
            push(*id, mid.as_bytes());
        }
        if let Some(id) = self.parameters.abs_send_time {
            // 24 bits of the NTP time, 6.18 fixed point.
            push(id, &((out.clock.ntp(now) >> 14) as u32).to_be_bytes()[1..]);
        }
        if let Some(id) = self.parameters.transport_cc {
            push(id, &out.bandwidth.next_number().to_be_bytes());
        }
        if let (Some(id), Some(level)) = (self.parameters.audio_level, level) {
            push(id, &[level]);
        }
        extensions
    }
}
