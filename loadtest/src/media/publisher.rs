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

use super::source::{Generator, Payload, Source};
use crate::clock::Clock;

/// Packets kept for retransmission: two seconds of 500 packets/s, more than anybody asks back for.
const HISTORY: usize = 1024;
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
    source: Source,
    generator: Generator,
    paused: bool,
    sequence_number: u16,
    rtx_sequence_number: u16,
    history: VecDeque<Sent>,
    due: Vec<Payload>,
    next_report: Instant,
    stats: PublisherStats,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Sent {
    sequence_number: u16,
    timestamp: u32,
    marker: bool,
    payload: Bytes,
}

/// What all streams of a transport share when they send.
pub(crate) struct Outgoing<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) transport_sequence_number: &'a mut u16,
    pub(crate) send: &'a mut dyn FnMut(&[u8]),
}

impl Publisher {
    /// A stream that begins with a key frame at `now`.
    pub fn new(now: Instant, parameters: SendParameters, source: Source, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let generator = Generator::new(now, source, &mut rng);
        Self {
            parameters,
            source,
            generator,
            paused: false,
            // RFC 3711 section 3.3.1 wants the first number below 2^15, or an early loss loses the rollover.
            sequence_number: rng.random_range(0..0x8000),
            rtx_sequence_number: rng.random_range(0..0x8000),
            history: VecDeque::with_capacity(HISTORY),
            due: Vec::new(),
            next_report: now + REPORT_INTERVAL / 2,
            stats: PublisherStats::default(),
            rng,
        }
    }

    /// SSRC of the stream.
    pub fn ssrc(&self) -> u32 {
        self.parameters.ssrc
    }

    /// What was sent so far.
    pub fn stats(&self) -> PublisherStats {
        PublisherStats { frames: self.generator.frames, key_frames: self.generator.key_frames, ..self.stats }
    }

    /// A paused publisher sends nothing; it goes on with a key frame.
    pub fn set_paused(&mut self, paused: bool) {
        if self.paused && !paused {
            self.generator.want_key_frame();
        }
        self.paused = paused;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (!self.paused).then(|| self.generator.next().min(self.next_report))
    }

    /// Sends what is due.
    pub(crate) fn poll(&mut self, now: Instant, out: &mut Outgoing<'_>) {
        if self.paused {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        self.generator.poll(now, out.clock.unix_ns(now), &mut self.rng, &mut due);
        for Payload { timestamp, marker, bytes } in due.drain(..) {
            let sent = Sent { sequence_number: self.sequence_number, timestamp, marker, payload: Bytes::from(bytes) };
            self.sequence_number = self.sequence_number.wrapping_add(1);
            self.stats.packets += 1;
            self.stats.bytes += sent.payload.len() as u64;
            let (ssrc, payload_type) = (self.parameters.ssrc, self.parameters.payload_type);
            self.send(now, ssrc, payload_type, &sent, sent.sequence_number, sent.payload.clone(), out);
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(sent);
        }
        self.due = due;
    }

    /// Answers a NACK from the history.
    pub(crate) fn on_nack(&mut self, now: Instant, numbers: impl Iterator<Item = u16>, out: &mut Outgoing<'_>) {
        for number in numbers {
            self.stats.nacked += 1;
            let Some(oldest) = self.history.front().map(|sent| sent.sequence_number) else { continue };
            let index = usize::from(number.wrapping_sub(oldest));
            let Some(sent) = self.history.get(index) else { continue };
            let again = Sent { payload: sent.payload.clone(), ..*sent };
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
    pub(crate) fn on_key_frame_request(&mut self) {
        self.stats.key_frame_requests += 1;
        self.generator.want_key_frame();
    }

    pub(crate) fn on_receiver_report(&mut self, fraction_lost: u8) {
        self.stats.fraction_lost = fraction_lost;
    }

    /// A sender report with the source description, when due.
    pub(crate) fn poll_report(&mut self, now: Instant, clock: &Clock) -> Option<Vec<Box<dyn RtcpPacket>>> {
        if self.paused || now < self.next_report || self.stats.packets == 0 {
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
        let extensions = self.extensions(now, out);
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
            (out.send)(&packet);
        }
    }

    fn extensions(&self, now: Instant, out: &mut Outgoing<'_>) -> Vec<Extension> {
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
            push(id, &out.transport_sequence_number.to_be_bytes());
            *out.transport_sequence_number = out.transport_sequence_number.wrapping_add(1);
        }
        if let (Some(id), Source::Audio(audio)) = (self.parameters.audio_level, self.source) {
            let voice = if audio.level < 127 { 0x80 } else { 0 };
            push(id, &[voice | (audio.level & 0x7f)]);
        }
        extensions
    }
}
