//! The client half of a receiver: it tells what arrives, asks for what is missing, and shows what it can decode.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice_media::wire::codec::Vp8Descriptor;
use sluice_media::wire::rtcp::{self, TransportFeedbackBuilder};
use sluice_media::wire::rtp::{ExtensionIds, RtpPacket};
use sluice_media::wire::seq::unwrap;

use crate::core::{Core, Received, User};

const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);

/// What is missing is asked for after so long, as it may only be late, and then again after a round trip or two.
const NACK_DELAY: Duration = Duration::from_millis(5);
const NACK_INTERVAL: Duration = Duration::from_millis(100);

/// Without a picture for so long it asks for a key frame; browsers wait longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first number of all: what comes late before it has one too.
const CYCLE: u64 = 1 << 16;

#[derive(Debug, Clone, Copy)]
struct Packet {
    is_end: bool,
    is_key_frame_start: bool,
    encoding: u8,
}

/// A packet on its way to the viewer.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) transport_wide: Option<u16>,
    pub(super) encoding: Option<u8>,
    pub(super) len: usize,
    sequence_number: u16,
    payload: Vec<u8>,
    marker: bool,
}

impl Arrival {
    /// What was sent, with what of a packet is around it on the path.
    pub(super) fn new(received: &Received, ssrc: u32) -> Self {
        let packet = RtpPacket::parse(&received.plain).expect("RTP");
        let ids = ExtensionIds { transport_wide_cc: 5, ..ExtensionIds::default() };
        let transport_wide = ids.read(packet.extensions).transport_wide_cc;
        let (mut sequence_number, mut payload) = (packet.header.sequence_number, packet.payload);
        let is_media = packet.header.ssrc == ssrc;
        if !is_media && let Some((original, rest)) = payload.split_first_chunk() {
            (sequence_number, payload) = (u16::from_be_bytes(*original), rest);
        }
        Self {
            transport_wide,
            encoding: is_media.then(|| payload[7]),
            len: received.sealed.len() + 28,
            sequence_number,
            payload: payload.to_vec(),
            marker: packet.header.marker,
        }
    }
}

/// A receiver.
pub(super) struct Viewer {
    pub(super) user: User,
    pub(super) ssrc: u32,
    /// When a picture was shown, and of which encoding.
    pub(super) shown: Vec<(Instant, u8)>,
    newest: Option<u64>,
    /// What comes next can be shown.
    next: Option<u64>,
    packets: BTreeMap<u64, Packet>,
    /// When each was found to be missing, and when it was asked for last.
    missing: BTreeMap<u64, (Instant, Option<Instant>)>,
    arrived: BTreeMap<u64, i64>,
    told_up_to: Option<u64>,
    feedback_at: Option<Instant>,
    asked_at: Option<Instant>,
    feedback_count: u8,
    builder: TransportFeedbackBuilder,
}

impl Viewer {
    pub(super) fn new(user: User, ssrc: u32) -> Self {
        Self {
            user,
            ssrc,
            shown: Vec::new(),
            newest: None,
            next: None,
            packets: BTreeMap::new(),
            missing: BTreeMap::new(),
            arrived: BTreeMap::new(),
            told_up_to: None,
            feedback_at: None,
            asked_at: None,
            feedback_count: 0,
            builder: TransportFeedbackBuilder::default(),
        }
    }

    pub(super) fn receive(&mut self, now: Instant, start: Instant, arrival: &Arrival) {
        if let Some(seq) = arrival.transport_wide {
            let newest = self.arrived.last_key_value().map(|(newest, _)| *newest).or(self.told_up_to);
            let seq = newest.map_or(CYCLE + u64::from(seq), |newest| unwrap(newest, seq));
            self.arrived.insert(seq, (now - start).as_micros() as i64 + 5_000_000);
            self.feedback_at.get_or_insert(now + FEEDBACK_INTERVAL);
        }
        if arrival.payload.is_empty() {
            return;
        }
        let number = arrival.sequence_number;
        let seq = self.newest.map_or(CYCLE + u64::from(number), |newest| unwrap(newest, number));
        let newest = *self.newest.get_or_insert(seq);
        for missing in newest + 1..seq {
            self.missing.insert(missing, (now, None));
        }
        self.newest = Some(newest.max(seq));
        self.missing.remove(&seq);
        if self.next.is_some_and(|next| seq < next) {
            return;
        }
        let vp8 = Vp8Descriptor::parse(&arrival.payload).expect("VP8");
        let (is_end, is_key_frame_start, encoding) = (arrival.marker, vp8.key_frame_start, arrival.payload[7]);
        self.packets.insert(seq, Packet { is_end, is_key_frame_start, encoding });
        self.show(now);
    }

    /// Shows what is complete: one after the other, or from a key frame on.
    fn show(&mut self, now: Instant) {
        loop {
            let is_stuck = self.next.is_none_or(|next| self.end_of(next).is_none());
            let starts = self.packets.iter().filter(|(_, packet)| packet.is_key_frame_start);
            let begin =
                if is_stuck { starts.map(|(seq, _)| *seq).find(|seq| self.end_of(*seq).is_some()) } else { self.next };
            let Some((begin, end)) = begin.and_then(|begin| Some((begin, self.end_of(begin)?))) else { return };
            self.shown.push((now, self.packets[&begin].encoding));
            self.next = Some(end + 1);
            self.packets = self.packets.split_off(&(end + 1));
            self.missing = self.missing.split_off(&end);
        }
    }

    fn end_of(&self, begin: u64) -> Option<u64> {
        let gapless = (begin..).zip(self.packets.range(begin..)).take_while(|(expected, (seq, _))| expected == *seq);
        gapless.map(|(seq, (_, packet))| (seq, packet.is_end)).find_map(|(seq, is_end)| is_end.then_some(seq))
    }

    /// What it says now: feedback, and what it misses.
    pub(super) fn say(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        if self.feedback_at.is_some_and(|at| at <= now) {
            self.feedback_at = None;
            self.tell_arrivals(&mut said);
        }
        let is_due = |(found, asked): &(Instant, Option<Instant>)| match asked {
            None => now - *found >= NACK_DELAY,
            Some(asked) => now - *asked >= NACK_INTERVAL,
        };
        let due: Vec<u64> = self.missing.iter().filter(|(_, state)| is_due(state)).map(|(seq, _)| *seq).collect();
        if !due.is_empty() {
            let mut compound = Vec::new();
            rtcp::nack(&mut compound, 1, self.ssrc, due.iter().map(|seq| *seq as u16));
            said.push(compound);
            due.iter().for_each(|seq| self.missing.get_mut(seq).expect("it is missing").1 = Some(now));
        }
        let last = self.shown.last().map(|(at, _)| *at).max(self.asked_at);
        if last.is_some_and(|at| now - at >= PATIENCE) {
            self.asked_at = Some(now);
            let mut compound = Vec::new();
            rtcp::pli(&mut compound, 1, self.ssrc);
            said.push(compound);
        }
        said
    }

    fn tell_arrivals(&mut self, said: &mut Vec<Vec<u8>>) {
        let arrived = std::mem::take(&mut self.arrived);
        let first = arrived.first_key_value().map(|(seq, _)| *seq);
        let Some(mut next) = self.told_up_to.map(|told| told + 1).into_iter().chain(first).min() else { return };
        self.builder.begin(next as u16);
        for (seq, at) in arrived {
            while next < seq {
                self.builder.add_missing();
                next += 1;
            }
            if !self.builder.add_received(at) {
                self.write_feedback(said);
                self.builder.begin(seq as u16);
                self.builder.add_received(at);
            }
            next = seq + 1;
        }
        self.told_up_to = self.told_up_to.max(Some(next - 1));
        self.write_feedback(said);
    }

    fn write_feedback(&mut self, said: &mut Vec<Vec<u8>>) {
        let mut compound = Vec::new();
        self.builder.write(&mut compound, 1, self.ssrc, self.feedback_count);
        self.feedback_count = self.feedback_count.wrapping_add(1);
        said.push(compound);
    }

    /// The longest time between two pictures that were shown after that.
    pub(super) fn longest_freeze(&self, after: Instant) -> Duration {
        let shown: Vec<Instant> = self.shown.iter().map(|(at, _)| *at).filter(|at| *at >= after).collect();
        shown.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
    }
}

/// Says something to a core.
pub(super) fn say_to(core: &mut Core, viewer: &mut Viewer, compound: Vec<u8>) {
    core.rtcp(&mut viewer.user, compound);
}
