//! A virtual subscriber's side of one stream: continuity, loss before and after repair, delay, freezes, and the
//! requests that a browser makes of a sender.

use std::time::{Duration, Instant};

use rtc_rtcp::reception_report::ReceptionReport;

use super::codec::Codec;
use super::continuity::{Arrival, Continuity};
use super::frames::{FrameHint, Frames};
use super::gaps::Gaps;
use super::layers::Layers;
use super::rtp::RtpHeader;
use super::stamp::{Stamp, read_stamp};
use crate::clock::Clock;
use crate::tally::ReceivedTally;

/// Between key-frame requests for one stream.
const KEY_FRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(300);
/// A stream that does not begin with a key frame is asked for one after this, as libwebrtc does
/// (`kMaxWaitForKeyFrame`).
const MAX_WAIT_FOR_KEY_FRAME: Duration = Duration::from_millis(200);
/// Time in a packet of Opus, as WebRTC sends it.
const AUDIO_PACKET_TIME: Duration = Duration::from_millis(20);
/// Audio that may be silent is not waited for before this: libopus's comfort noise comes each 400 ms, and one may get
/// lost.
const MAX_SILENCE: Duration = Duration::from_secs(1);
/// libwebrtc takes a larger change of the transit time for a jump of the timestamps, not for jitter.
const MAX_JITTER: Duration = Duration::from_secs(5);

/// How the packets of a stream are labelled, and what may be asked of its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveParameters {
    /// SSRC.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// SSRC and payload type of retransmissions (RFC 4588).
    pub rtx: Option<(u32, u8)>,
    /// Codec.
    pub codec: Codec,
    /// Lost packets may be asked for.
    pub nack: bool,
    /// Key frames may be asked for.
    pub pli: bool,
}

/// What arrived of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Packets that arrived for the first time, repaired ones included.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Packets between the first and the newest sequence number, both included.
    pub expected: u64,
    /// Of [`Self::expected`], those that were missing when a later one came.
    pub missing: u64,
    /// Of [`Self::missing`], those that a retransmission brought.
    pub repaired: u64,
    /// Of [`Self::missing`], those that were given up. If they come after all, they are duplicates.
    pub given_up: u64,
    /// Packets that came again, or so late that nobody knows.
    pub duplicates: u64,
    /// Packets that came after a newer one, retransmissions excluded.
    pub reordered: u64,
    /// Packets that were left sealed, see
    /// [`TransportConfig::open_every`](crate::transport::TransportConfig::open_every).
    pub sealed: u64,
    /// Packets asked for again.
    pub nacked: u64,
    /// Key frames asked for.
    pub key_frame_requests: u64,
    /// Frames that were complete; of audio, packets.
    pub frames: u64,
    /// Key frames among them. Where packets are left sealed, few are known.
    pub key_frames: u64,
    /// Gaps of more than 200 ms between frames that could be shown: complete, and referring to none that is not. Time
    /// that the stream was paused does not count, and of audio the silence of discontinuous transmission does not.
    pub freezes_200ms: u64,
    /// Gaps of more than 500 ms.
    pub freezes_500ms: u64,
    /// Time in gaps of more than 200 ms.
    pub frozen: Duration,
    /// Changes of the highest temporal layer that arrives within a second, and of the highest spatial layer that is
    /// shown.
    pub layer_switches: u64,
    /// The highest spatial layer of the newest picture that could be shown.
    pub spatial_layer: Option<u8>,
    /// Interarrival jitter, RFC 3550 section 6.4.1, from frame to frame as libwebrtc measures it.
    pub jitter: Duration,
    /// The longest time without a packet.
    pub longest_gap: Duration,
    /// From the first look for the stream to the first key frame that was complete; of audio, to the first packet.
    pub time_to_first_frame: Option<Duration>,
    /// Packets with another payload type than announced.
    pub unexpected_payload_type: u64,
}

impl StreamStats {
    /// Packets missing for good, or not repaired yet.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.packets)
    }
}

/// A packet that came, as far as it was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) header: &'a RtpHeader,
    /// `None` of a packet that was left sealed.
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) payload_len: usize,
}

/// One incoming stream.
#[derive(Debug)]
pub struct StreamReceiver {
    parameters: ReceiveParameters,
    since: Instant,
    paused: bool,
    continuity: Continuity,
    frames: Frames,
    gaps: Gaps,
    layers: Layers,
    /// Number and timestamp of the newest packet.
    newest: Option<(i64, u32)>,
    key_frame_wanted: bool,
    next_key_frame_request: Instant,
    first_packet: Option<Instant>,
    last_arrival: Option<Instant>,
    last_transit: Option<i64>,
    jitter_ticks: f64,
    last_stamp: Option<Stamp>,
    last_sender_report: Option<(u32, Instant)>,
    reported: (u64, u64),
    stats: StreamStats,
    /// As they were when they were last told.
    tallied: StreamStats,
}

/// What a receiver asks its sender for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) nack: Vec<u16>,
    pub(crate) key_frame: bool,
}

impl StreamReceiver {
    /// A stream that is looked for from `now` on.
    pub fn new(now: Instant, parameters: ReceiveParameters) -> Self {
        Self {
            since: now,
            paused: false,
            continuity: Continuity::new(parameters.nack),
            frames: Frames::default(),
            gaps: Gaps::default(),
            layers: Layers::default(),
            newest: None,
            key_frame_wanted: false,
            next_key_frame_request: now,
            first_packet: None,
            last_arrival: None,
            last_transit: None,
            jitter_ticks: 0.0,
            last_stamp: None,
            last_sender_report: None,
            reported: (0, 0),
            stats: StreamStats::default(),
            tallied: StreamStats::default(),
            parameters,
        }
    }

    /// How the stream is labelled.
    pub fn parameters(&self) -> &ReceiveParameters {
        &self.parameters
    }

    /// The stamp of the packet that came last, repaired ones included.
    pub fn last_stamp(&self) -> Option<Stamp> {
        self.last_stamp
    }

    /// What arrived so far.
    pub fn stats(&self) -> StreamStats {
        let freezes = self.gaps.freezes();
        StreamStats {
            expected: self.continuity.expected(),
            missing: self.continuity.was_missing(),
            freezes_200ms: freezes.short,
            freezes_500ms: freezes.long,
            frozen: freezes.time,
            layer_switches: self.stats.layer_switches + self.layers.switches(),
            spatial_layer: self.frames.spatial_layer(),
            jitter: Duration::from_secs_f64(self.jitter_ticks / f64::from(self.parameters.codec.clock_rate())),
            ..self.stats
        }
    }

    /// Asks for a key frame at the next opportunity.
    pub fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// Somebody paused the stream on purpose, or resumed it. What is missing meanwhile is missed by nobody.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        self.gaps.interrupt();
        self.layers.interrupt();
        self.last_arrival = None;
        self.last_transit = None;
        if self.stats.time_to_first_frame.is_none() {
            self.since = now;
        }
    }

    /// When its last packet came, since it was paused.
    pub(crate) fn last_arrival(&self) -> Option<Instant> {
        self.last_arrival
    }

    /// Adds what happened since the last call to the counts of its session, of whose streams `heard` brought the last
    /// packet.
    pub(crate) fn tally(&mut self, now: Instant, heard: Option<Instant>, tally: &mut ReceivedTally) {
        if !self.paused {
            let others_come = heard.is_some_and(|at| now.saturating_duration_since(at) < MAX_SILENCE);
            // Whether audio was silent is known when it speaks again. A server that lets only the loudest be heard
            // keeps the others back for as long as it likes.
            let explained = match (self.parameters.codec.is_video(), others_come) {
                (true, _) => Duration::ZERO,
                (false, true) => Duration::MAX,
                (false, false) => MAX_SILENCE,
            };
            self.gaps.look(now, explained);
        }
        let stats = self.stats();
        let before = std::mem::replace(&mut self.tallied, stats);
        let sums = &mut tally.sums;
        sums.packets += stats.packets - before.packets;
        sums.bytes += stats.bytes - before.bytes;
        sums.expected += stats.expected - before.expected;
        sums.missing += stats.missing - before.missing;
        sums.repaired += stats.repaired - before.repaired;
        sums.lost += stats.given_up - before.given_up;
        sums.frames += stats.frames - before.frames;
        sums.key_frames += stats.key_frames - before.key_frames;
        sums.freezes_200ms += stats.freezes_200ms - before.freezes_200ms;
        sums.freezes_500ms += stats.freezes_500ms - before.freezes_500ms;
        sums.frozen_ms += (stats.frozen.as_millis() - before.frozen.as_millis()) as u64;
        sums.layer_switches += stats.layer_switches - before.layer_switches;
        sums.nacked += stats.nacked - before.nacked;
        sums.key_frame_requests += stats.key_frame_requests - before.key_frame_requests;
        if !self.paused {
            sums.streams += 1;
            tally.jitter += stats.jitter;
        }
    }

    /// A packet under the stream's own SSRC.
    pub(crate) fn on_packet(&mut self, now: Instant, clock: &Clock, packet: Incoming<'_>, tally: &mut ReceivedTally) {
        let header = packet.header;
        if header.payload_type != self.parameters.payload_type {
            self.stats.unexpected_payload_type += 1;
            return;
        }
        if let Some(last) = self.last_arrival.replace(now) {
            self.stats.longest_gap = self.stats.longest_gap.max(now.saturating_duration_since(last));
        }
        let arrival = self.continuity.on_packet(now, header.sequence_number);
        self.notice_loss();
        match arrival {
            Arrival::Newest(number) => {
                self.on_newest(now, clock, number, header.timestamp);
                self.count(now, number, packet, tally);
            }
            // Without a stream for retransmissions they come here.
            Arrival::Late { number, requested: true } if self.parameters.rtx.is_none() => {
                self.stats.repaired += 1;
                self.count(now, number, packet, tally);
                return;
            }
            Arrival::Late { number, .. } => {
                self.stats.reordered += 1;
                self.count(now, number, packet, tally);
            }
            Arrival::Duplicate => {
                self.stats.duplicates += 1;
                return;
            }
        }
        if let Some(delay) = self.last_stamp.and_then(|stamp| clock.delay_since(stamp, now)) {
            tally.delay.record(delay);
        }
    }

    /// A retransmission (RFC 4588 section 4); of a packet that was left sealed nothing can be said.
    pub(crate) fn on_retransmission(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        payload: &[u8],
        tally: &mut ReceivedTally,
    ) {
        // An empty payload is a probe for bandwidth.
        let Some((number, original)) = payload.split_first_chunk::<2>() else { return };
        match self.continuity.on_retransmission(now, u16::from_be_bytes(*number)) {
            Arrival::Newest(number) | Arrival::Late { number, .. } => {
                self.stats.repaired += 1;
                let packet = Incoming { header, payload: Some(original), payload_len: original.len() };
                self.count(now, number, packet, tally);
            }
            Arrival::Duplicate => self.stats.duplicates += 1,
        }
    }

    pub(crate) fn on_sender_report(&mut self, now: Instant, ntp_time: u64) {
        self.last_sender_report = Some(((ntp_time >> 16) as u32, now));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let key_frame = self.key_frame_wanted.then_some(self.next_key_frame_request);
        self.continuity.poll_timeout().into_iter().chain(key_frame).min()
    }

    /// What is to be asked for now.
    pub(crate) fn poll_requests(&mut self, now: Instant) -> Requests {
        let nack = self.continuity.poll(now);
        self.stats.nacked += nack.len() as u64;
        self.notice_loss();
        let key_frame = self.key_frame_wanted && now >= self.next_key_frame_request;
        if key_frame {
            self.key_frame_wanted = false;
            self.next_key_frame_request = now + KEY_FRAME_REQUEST_INTERVAL;
            self.stats.key_frame_requests += 1;
        }
        Requests { nack, key_frame }
    }

    /// The report block of RFC 3550 section 6.4.1; `None` before the first packet.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let newest = self.continuity.newest()?;
        let expected = self.continuity.expected();
        let (expected_before, received_before) = std::mem::replace(&mut self.reported, (expected, self.stats.packets));
        let in_interval = expected - expected_before;
        let lost = in_interval.saturating_sub(self.stats.packets - received_before);
        let fraction_lost = (lost * 256).checked_div(in_interval).unwrap_or(0).min(255) as u8;
        let (last_sender_report, delay) = self
            .last_sender_report
            .map_or((0, 0), |(ntp, at)| (ntp, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32));
        Some(ReceptionReport {
            ssrc: self.parameters.ssrc,
            fraction_lost,
            total_lost: expected.saturating_sub(self.stats.packets).min(0x7f_ffff) as u32,
            last_sequence_number: newest as u32,
            jitter: self.jitter_ticks as u32,
            last_sender_report,
            delay,
        })
    }

    fn on_newest(&mut self, now: Instant, clock: &Clock, number: i64, timestamp: u32) {
        let before = self.newest.replace((number, timestamp));
        if before.is_none_or(|(_, before)| before != timestamp) {
            self.update_jitter(now, clock, timestamp);
        }
        if !self.parameters.codec.is_video() {
            self.gaps.on_frame(now, before.map_or(Duration::ZERO, |before| self.silence(before, (number, timestamp))));
        }
    }

    /// How long the sender of audio said nothing between two packets: what their timestamps are further apart than the
    /// packets between them account for.
    fn silence(&self, (last, last_timestamp): (i64, u32), (number, timestamp): (i64, u32)) -> Duration {
        let ticks = timestamp.wrapping_sub(last_timestamp);
        let apart = Duration::from_secs(1) * ticks / self.parameters.codec.clock_rate();
        let packets = u32::try_from(number - last).unwrap_or(u32::MAX);
        apart.saturating_sub(AUDIO_PACKET_TIME.saturating_mul(packets))
    }

    /// What is given up can only be made up for by a key frame.
    fn notice_loss(&mut self) {
        let given_up = self.continuity.given_up();
        self.key_frame_wanted |= given_up > self.stats.given_up && self.parameters.pli;
        self.stats.given_up = given_up;
    }

    /// A packet that was not there before.
    fn count(&mut self, now: Instant, number: i64, packet: Incoming<'_>, tally: &mut ReceivedTally) {
        let Incoming { header, payload, payload_len } = packet;
        self.last_stamp = payload.and_then(read_stamp);
        self.stats.packets += 1;
        self.stats.bytes += payload_len as u64;
        self.stats.sealed += u64::from(payload.is_none());
        if !self.parameters.codec.is_video() {
            self.stats.frames += 1;
            self.first_frame(now, tally);
            return;
        }
        let hint = payload.map(|payload| FrameHint::read(self.parameters.codec, payload));
        if let Some(layer) = hint.and_then(|hint| hint.temporal_layer) {
            self.layers.on_packet(now, layer);
        }
        let before = self.frames.spatial_layer();
        let progress = self.frames.on_packet(number, header.timestamp, header.marker, hint);
        let is_switch = before.is_some() && before != self.frames.spatial_layer();
        self.stats.layer_switches += u64::from(is_switch);
        self.stats.frames += progress.complete;
        self.stats.key_frames += progress.key_frames;
        if progress.shows {
            self.gaps.on_frame(now, Duration::ZERO);
            self.first_frame(now, tally);
        } else if self.stats.time_to_first_frame.is_none() {
            let first_packet = *self.first_packet.get_or_insert(now);
            let waited = now.saturating_duration_since(first_packet);
            self.key_frame_wanted |= waited >= MAX_WAIT_FOR_KEY_FRAME && self.parameters.pli;
        }
    }

    fn first_frame(&mut self, now: Instant, tally: &mut ReceivedTally) {
        if self.stats.time_to_first_frame.is_none() {
            let waited = now.saturating_duration_since(self.since);
            self.stats.time_to_first_frame = Some(waited);
            tally.first_frame.record(waited);
        }
    }

    fn update_jitter(&mut self, now: Instant, clock: &Clock, timestamp: u32) {
        let clock_rate = self.parameters.codec.clock_rate();
        let arrival = (clock.unix(now).as_micros() * u128::from(clock_rate) / 1_000_000) as u32;
        let transit = i64::from(arrival.wrapping_sub(timestamp) as i32);
        if let Some(last) = self.last_transit.replace(transit) {
            // In 32 bits, where both wrap.
            let difference = f64::from((transit.wrapping_sub(last) as i32).unsigned_abs());
            if difference < MAX_JITTER.as_secs_f64() * f64::from(clock_rate) {
                self.jitter_ticks += (difference - self.jitter_ticks) / 16.0;
            }
        }
    }
}
