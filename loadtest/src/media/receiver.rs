//! A virtual subscriber's side of one stream: continuity, loss before and after repair, delay, and the requests that a
//! browser makes of a sender.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rtc_rtcp::reception_report::ReceptionReport;

use super::histogram::Histogram;
use super::rtp::{RtpHeader, Unwrapper};
use super::stamp::read_stamp;
use super::vp8::parse_descriptor;
use crate::clock::Clock;

/// Packets behind the newest that are told from duplicates; what is older is counted as late and otherwise ignored.
const WINDOW: i64 = 4096;
/// Missing packets that are asked for at one time: libwebrtc's NACK list has as many. Beyond it a key frame is cheaper.
const MAX_MISSING: usize = 1000;
/// libwebrtc gives a packet up after as many requests.
const MAX_NACKS: u8 = 10;
/// Until a request is repeated: libwebrtc waits one RTT and assumes 100 ms until it knows better.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// Between key-frame requests for one stream.
const KEY_FRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(300);

/// How the packets of a stream are labelled, and what may be asked of its sender.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiveParameters {
    /// SSRC.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// SSRC and payload type of retransmissions (RFC 4588).
    pub rtx: Option<(u32, u8)>,
    /// RTP ticks per second.
    pub clock_rate: u32,
    /// Lost packets may be asked for.
    pub nack: bool,
    /// Key frames may be asked for.
    pub pli: bool,
    /// The payload has VP8's descriptor.
    pub vp8: bool,
}

/// What arrived of one stream.
#[derive(Debug, Clone, Default)]
pub struct StreamStats {
    /// Packets that arrived for the first time, repaired ones included.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Packets between the first and the newest sequence number, both included.
    pub expected: u64,
    /// Of [`Self::packets`], those that came only as retransmission.
    pub repaired: u64,
    /// Packets that came again, or so late that nobody knows.
    pub duplicates: u64,
    /// Packets that came after a newer one, retransmissions excluded.
    pub reordered: u64,
    /// Packets that were left sealed, see [`TransportConfig::open_every`](crate::transport::TransportConfig::open_every).
    pub sealed: u64,
    /// Packets asked for again.
    pub nacked: u64,
    /// Key frames asked for.
    pub key_frame_requests: u64,
    /// Frames that ended (packets with the marker bit).
    pub frames: u64,
    /// Key frames that began.
    pub key_frames: u64,
    /// Interarrival jitter, RFC 3550 section 6.4.1.
    pub jitter: Duration,
    /// The longest time without a packet.
    pub longest_gap: Duration,
    /// From the first look for the stream to the first key frame.
    pub time_to_key_frame: Option<Duration>,
    /// One-way delay of stamped packets that were not retransmitted.
    pub delay: Histogram,
    /// Packets with another payload type than announced.
    pub unexpected_payload_type: u64,
}

impl StreamStats {
    /// Packets missing for good, or not repaired yet.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.packets)
    }
}

/// One incoming stream.
#[derive(Debug)]
pub struct StreamReceiver {
    parameters: ReceiveParameters,
    since: Instant,
    unwrapper: Unwrapper,
    first: Option<i64>,
    newest: i64,
    seen: Vec<u64>,
    missing: BTreeMap<i64, Missing>,
    key_frame_wanted: bool,
    next_key_frame_request: Instant,
    last_arrival: Option<Instant>,
    last_transit: Option<i64>,
    jitter_ticks: f64,
    last_sender_report: Option<(u32, Instant)>,
    reported: (u64, u64),
    stats: StreamStats,
}

#[derive(Debug)]
struct Missing {
    requests: u8,
    next: Instant,
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
            unwrapper: Unwrapper::default(),
            first: None,
            newest: 0,
            seen: vec![0; (WINDOW / 64) as usize],
            missing: BTreeMap::new(),
            key_frame_wanted: false,
            next_key_frame_request: now,
            last_arrival: None,
            last_transit: None,
            jitter_ticks: 0.0,
            last_sender_report: None,
            reported: (0, 0),
            stats: StreamStats::default(),
            parameters,
        }
    }

    /// How the stream is labelled.
    pub fn parameters(&self) -> &ReceiveParameters {
        &self.parameters
    }

    /// What arrived so far.
    pub fn stats(&self) -> StreamStats {
        let mut stats = self.stats.clone();
        stats.expected = self.first.map_or(0, |first| (self.newest - first + 1) as u64);
        if self.parameters.clock_rate > 0 {
            stats.jitter = Duration::from_secs_f64(self.jitter_ticks / f64::from(self.parameters.clock_rate));
        }
        stats
    }

    /// Asks for a key frame at the next opportunity.
    pub fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// A packet under the stream's own SSRC. Of a packet that was left sealed `payload` is `None`.
    pub(crate) fn on_packet(&mut self, now: Instant, clock: &Clock, header: &RtpHeader, payload: Option<&[u8]>) {
        if header.payload_type != self.parameters.payload_type {
            self.stats.unexpected_payload_type += 1;
            return;
        }
        if let Some(last) = self.last_arrival.replace(now) {
            self.stats.longest_gap = self.stats.longest_gap.max(now.saturating_duration_since(last));
        }
        self.update_jitter(now, clock, header.timestamp);
        if self.accept(now, header.sequence_number, false) {
            self.count(now, clock, header, payload, false);
        }
    }

    /// A retransmission (RFC 4588 section 4); of a packet that was left sealed nothing can be said.
    pub(crate) fn on_retransmission(&mut self, now: Instant, clock: &Clock, header: &RtpHeader, payload: &[u8]) {
        // An empty payload is a probe for bandwidth.
        let Some((number, original)) = payload.split_first_chunk::<2>() else { return };
        if self.first.is_some() && self.accept(now, u16::from_be_bytes(*number), true) {
            self.stats.repaired += 1;
            self.count(now, clock, header, Some(original), true);
        }
    }

    pub(crate) fn on_sender_report(&mut self, now: Instant, ntp_time: u64) {
        self.last_sender_report = Some(((ntp_time >> 16) as u32, now));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let nack = self.missing.values().map(|missing| missing.next).min();
        let key_frame = self.key_frame_wanted.then_some(self.next_key_frame_request);
        nack.into_iter().chain(key_frame).min()
    }

    /// What is to be asked for now.
    pub(crate) fn poll_requests(&mut self, now: Instant) -> Requests {
        let mut requests = Requests::default();
        let mut given_up = false;
        self.missing.retain(|&number, missing| {
            if now < missing.next {
                return true;
            }
            if missing.requests == MAX_NACKS {
                given_up = true;
                return false;
            }
            missing.requests += 1;
            missing.next = now + NACK_INTERVAL;
            requests.nack.push(number as u16);
            true
        });
        self.stats.nacked += requests.nack.len() as u64;
        self.key_frame_wanted |= given_up && self.parameters.pli;
        if self.key_frame_wanted && now >= self.next_key_frame_request {
            self.key_frame_wanted = false;
            self.next_key_frame_request = now + KEY_FRAME_REQUEST_INTERVAL;
            self.stats.key_frame_requests += 1;
            requests.key_frame = true;
        }
        requests
    }

    /// The report block of RFC 3550 section 6.4.1; `None` before the first packet.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let first = self.first?;
        let expected = (self.newest - first + 1) as u64;
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
            last_sequence_number: self.newest as u32,
            jitter: self.jitter_ticks as u32,
            last_sender_report,
            delay,
        })
    }

    /// Whether this sequence number is seen for the first time; keeps the window and the list of missing ones.
    fn accept(&mut self, now: Instant, sequence_number: u16, retransmission: bool) -> bool {
        let number = self.unwrapper.unwrap(sequence_number);
        let Some(first) = self.first else {
            self.first = Some(number);
            self.newest = number;
            self.mark(number);
            return true;
        };
        if number > self.newest {
            self.advance(now, number);
            return true;
        }
        if number < first || number <= self.newest - WINDOW || self.is_marked(number) {
            self.stats.duplicates += 1;
            return false;
        }
        self.mark(number);
        self.missing.remove(&number);
        if !retransmission {
            self.stats.reordered += 1;
        }
        true
    }

    fn advance(&mut self, now: Instant, number: i64) {
        let cleared_from = (self.newest + 1).max(number - WINDOW + 1);
        for skipped in cleared_from..=number {
            self.unmark(skipped);
        }
        let gap = (number - self.newest - 1) as usize;
        if gap > 0 && self.parameters.nack {
            if self.missing.len() + gap > MAX_MISSING {
                self.missing.clear();
                self.key_frame_wanted |= self.parameters.pli;
            } else {
                let new = (self.newest + 1..number).map(|skipped| (skipped, Missing { requests: 0, next: now }));
                self.missing.extend(new);
            }
        } else if gap > 0 {
            self.key_frame_wanted |= self.parameters.pli;
        }
        self.mark(number);
        self.newest = number;
    }

    fn count(&mut self, now: Instant, clock: &Clock, header: &RtpHeader, payload: Option<&[u8]>, repaired: bool) {
        self.stats.packets += 1;
        self.stats.frames += u64::from(header.marker);
        let Some(payload) = payload else {
            self.stats.sealed += 1;
            return;
        };
        self.stats.bytes += payload.len() as u64;
        if !repaired && let Some(sent) = read_stamp(payload) {
            self.stats.delay.record(Duration::from_nanos(clock.unix_ns(now).saturating_sub(sent)));
        }
        if self.parameters.vp8 && parse_descriptor(payload).is_some_and(|descriptor| descriptor.key_frame) {
            self.stats.key_frames += 1;
            let waited = now.saturating_duration_since(self.since);
            self.stats.time_to_key_frame.get_or_insert(waited);
        }
    }

    fn update_jitter(&mut self, now: Instant, clock: &Clock, timestamp: u32) {
        let arrival = (clock.unix(now).as_micros() * u128::from(self.parameters.clock_rate) / 1_000_000) as u32;
        let transit = i64::from(arrival.wrapping_sub(timestamp) as i32);
        if let Some(last) = self.last_transit.replace(transit) {
            // In 32 bits, where both wrap.
            let difference = f64::from((transit.wrapping_sub(last) as i32).unsigned_abs());
            self.jitter_ticks += (difference - self.jitter_ticks) / 16.0;
        }
    }

    fn mark(&mut self, number: i64) {
        let bit = number.rem_euclid(WINDOW);
        self.seen[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn unmark(&mut self, number: i64) {
        let bit = number.rem_euclid(WINDOW);
        self.seen[(bit / 64) as usize] &= !(1 << (bit % 64));
    }

    fn is_marked(&self, number: i64) -> bool {
        let bit = number.rem_euclid(WINDOW);
        self.seen[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }
}
