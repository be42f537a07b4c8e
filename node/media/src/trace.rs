//! Trace events, with the names and fields of mediasoup's: what happens on a transport, told one by one to an operator
//! who looks. A transport that is traced keeps what happened until it is asked for; what there is no room for is
//! counted.

use std::time::{Duration, Instant};

use sluice_proto::ids::{ConsumerId, ProducerId};

use crate::clock::Clock;
use crate::rate_limit::RateLimit;
use crate::wire::rtcp::SenderInfo;
use crate::wire::rtp::RtpHeader;

/// Events of a transport that are kept a second: packets, which may come thousands a second, and all else, which they
/// do not push out. More nobody reads, and as many fit into 100 KB until they are asked for, several times a second.
const MAX_EVENTS: u32 = 500;

/// What can be traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceType {
    /// A probe was sent.
    Probation,
    /// It was looked at what passes to the client.
    Bwe,
    /// An RTP packet came or went.
    Rtp,
    /// The same, of one that a key frame begins with.
    KeyFrame,
    /// Packets were asked for again.
    Nack,
    /// A key frame was asked for by a picture loss indication.
    Pli,
    /// A key frame was asked for by a full intra request.
    Fir,
    /// The client told its clock.
    Sr,
}

impl TraceType {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Probation, Self::Bwe, Self::Rtp, Self::KeyFrame, Self::Nack, Self::Pli, Self::Fir, Self::Sr];

    /// As mediasoup calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Probation => "probation",
            Self::Bwe => "bwe",
            Self::Rtp => "rtp",
            Self::KeyFrame => "keyframe",
            Self::Nack => "nack",
            Self::Pli => "pli",
            Self::Fir => "fir",
            Self::Sr => "sr",
        }
    }
}

/// Some of the types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceTypes(u8);

impl TraceTypes {
    /// None of them: nothing is traced.
    pub const NONE: Self = Self(0);

    /// Whether it is among them.
    pub fn contains(self, kind: TraceType) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl FromIterator<TraceType> for TraceTypes {
    fn from_iter<I: IntoIterator<Item = TraceType>>(types: I) -> Self {
        Self(types.into_iter().fold(0, |bits, kind| bits | 1 << kind as u8))
    }
}

/// What of a transport an event concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceSubject {
    /// All of it.
    Transport,
    /// What its client sends.
    Producer(ProducerId),
    /// What its client receives.
    Consumer(ConsumerId),
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEvent {
    /// Since the Unix epoch.
    pub at: Duration,
    /// What of the transport it concerns.
    pub subject: TraceSubject,
    /// What happened.
    pub info: TraceInfo,
}

impl TraceEvent {
    /// Whether the client sent what it is about; else it was sent to the client, or is about that.
    pub fn is_in(&self) -> bool {
        let is_request = matches!(self.info, TraceInfo::Nack { .. } | TraceInfo::Pli { .. } | TraceInfo::Fir { .. });
        match self.subject {
            TraceSubject::Transport => false,
            // What is asked for goes against the media.
            TraceSubject::Producer(_) => !is_request,
            TraceSubject::Consumer(_) => is_request,
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "SSRCs and bits per second, as their names say")]
pub enum TraceInfo {
    Probation {
        /// How many were sent.
        packets: u64,
    },
    Bwe {
        /// The client tells of each packet, and not only how much it thinks passes.
        is_transport_wide: bool,
        desired_bitrate: u64,
        effective_desired_bitrate: u64,
        available_bitrate: u64,
    },
    Rtp(TracedPacket),
    KeyFrame(TracedPacket),
    Nack {
        ssrc: u32,
        /// How many were asked for.
        packets: u64,
    },
    Pli {
        ssrc: u32,
    },
    Fir {
        ssrc: u32,
    },
    Sr(SenderInfo),
}

impl TraceInfo {
    /// Its type.
    pub fn kind(&self) -> TraceType {
        match self {
            Self::Probation { .. } => TraceType::Probation,
            Self::Bwe { .. } => TraceType::Bwe,
            Self::Rtp(_) => TraceType::Rtp,
            Self::KeyFrame(_) => TraceType::KeyFrame,
            Self::Nack { .. } => TraceType::Nack,
            Self::Pli { .. } => TraceType::Pli,
            Self::Fir { .. } => TraceType::Fir,
            Self::Sr(_) => TraceType::Sr,
        }
    }
}

/// An RTP packet, as its client sends or gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedPacket {
    /// The fixed part of its header.
    pub header: RtpHeader,
    /// Bytes, without encryption.
    pub size: usize,
    /// Those of them that are payload.
    pub payload_size: usize,
    /// A receiver can begin with it.
    pub is_key_frame: bool,
    /// Inside the stream.
    pub spatial_layer: u8,
    /// Inside the stream.
    pub temporal_layer: u8,
    /// Transport-wide sequence number.
    pub wide_sequence_number: Option<u16>,
    /// It is of a stream for retransmissions.
    pub is_rtx: bool,
}

/// What happened on a transport since that was asked last.
#[derive(Debug, Default)]
pub struct Traced {
    /// In order.
    pub events: Vec<TraceEvent>,
    /// How many there were beside those.
    pub dropped: u64,
}

/// What is traced of a transport.
#[derive(Debug)]
pub(crate) struct Trace {
    types: TraceTypes,
    until: Instant,
    /// The core's epoch, since the Unix epoch.
    epoch: Duration,
    /// Of packets, and of all else.
    limits: [RateLimit; 2],
    traced: Traced,
}

impl Trace {
    /// Nothing yet. `epoch` is the core's, since the Unix epoch.
    pub(crate) fn new(now: Instant, epoch: Duration) -> Self {
        let limit = RateLimit::new(MAX_EVENTS, Duration::from_secs(1) / MAX_EVENTS);
        Self { types: TraceTypes::NONE, until: now, epoch, limits: [limit; 2], traced: Traced::default() }
    }

    /// Goes on with these types until then. Gives what happened since this was asked last.
    pub(crate) fn go_on(&mut self, types: TraceTypes, until: Instant) -> Traced {
        (self.types, self.until) = (types, until);
        std::mem::take(&mut self.traced)
    }

    /// Whether this is traced.
    pub(crate) fn wants(&self, kind: TraceType) -> bool {
        self.types.contains(kind)
    }

    /// Whether nobody asks any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Something happened.
    pub(crate) fn add(&mut self, clock: &Clock, subject: TraceSubject, info: TraceInfo) {
        if !self.wants(info.kind()) || self.is_over(clock.now) {
            return;
        }
        let is_packet = info.kind() == TraceType::Rtp;
        let [of_packets, of_all_else] = &mut self.limits;
        let (limit, most) =
            if is_packet { (of_packets, MAX_EVENTS as usize) } else { (of_all_else, 2 * MAX_EVENTS as usize) };
        if self.traced.events.len() < most && limit.allow(clock.now) {
            self.traced.events.push(TraceEvent { at: self.epoch + clock.since_epoch, subject, info });
        } else {
            self.traced.dropped += 1;
        }
    }

    /// A packet came or went: one that a key frame begins with is told of as that, if that is wanted.
    pub(crate) fn add_packet(&mut self, clock: &Clock, subject: TraceSubject, packet: TracedPacket) {
        let is_key_frame = packet.is_key_frame && self.wants(TraceType::KeyFrame);
        self.add(clock, subject, if is_key_frame { TraceInfo::KeyFrame(packet) } else { TraceInfo::Rtp(packet) });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    fn packet(is_key_frame: bool) -> TracedPacket {
        TracedPacket {
            header: RtpHeader { marker: false, payload_type: 101, sequence_number: 1, timestamp: 2, ssrc: 3 },
            size: 100,
            payload_size: 80,
            is_key_frame,
            spatial_layer: 0,
            temporal_layer: 0,
            wide_sequence_number: None,
            is_rtx: false,
        }
    }

    fn kinds(traced: &Traced) -> Vec<TraceType> {
        traced.events.iter().map(|event| event.info.kind()).collect()
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_packets_push_nothing_else_out() {
        let origin = Instant::now();
        let until = origin + Duration::from_secs(100);
        let mut trace = Trace::new(origin, Duration::from_secs(1_000));
        let clock = |ms| Clock::new(origin + Duration::from_millis(ms), (origin, Duration::ZERO));
        trace.go_on(TraceTypes::from_iter(TraceType::ALL), until);
        let most = u64::from(MAX_EVENTS);
        // Nobody asks for ten seconds.
        for ms in 0..10_000 {
            trace.add_packet(&clock(ms), TraceSubject::Transport, packet(false));
        }
        for _ in 0..2 * most {
            trace.add(&clock(10_000), TraceSubject::Transport, TraceInfo::Pli { ssrc: 1 });
        }
        let traced = trace.go_on(TraceTypes::from_iter(TraceType::ALL), until);
        assert_eq!(traced.events.len() as u64, 2 * most);
        assert_eq!(kinds(&traced).iter().filter(|kind| **kind == TraceType::Pli).count() as u64, most);
        assert_eq!(traced.dropped, 10_000 - most + most);
        assert_eq!(traced.events[0].at, Duration::from_secs(1_000));
        // Whoever asks often gets no more.
        let (mut events, mut dropped) = (0, 0);
        for ms in 10_000..12_000 {
            for _ in 0..5 {
                trace.add_packet(&clock(ms), TraceSubject::Transport, packet(false));
            }
            let traced = trace.go_on(TraceTypes::from_iter(TraceType::ALL), until);
            events += traced.events.len() as u64;
            dropped += traced.dropped;
        }
        assert_eq!(events + dropped, 10_000);
        assert!((2 * most..=3 * most).contains(&events), "{events}");
    }

    #[test]
    fn a_key_frame_is_told_of_once_and_nothing_that_is_not_wanted_or_after_the_time() {
        let origin = Instant::now();
        let mut trace = Trace::new(origin, Duration::ZERO);
        let clock = |ms| Clock::new(origin + Duration::from_millis(ms), (origin, Duration::ZERO));
        let mut told = |types: &[TraceType], ms| {
            trace.go_on(types.iter().copied().collect(), origin + Duration::from_millis(1_000));
            trace.add_packet(&clock(ms), TraceSubject::Transport, packet(true));
            trace.add_packet(&clock(ms), TraceSubject::Transport, packet(false));
            trace.add(&clock(ms), TraceSubject::Transport, TraceInfo::Fir { ssrc: 1 });
            kinds(&trace.go_on(TraceTypes::NONE, origin))
        };
        assert_eq!(told(&[TraceType::Rtp, TraceType::KeyFrame], 0), [TraceType::KeyFrame, TraceType::Rtp]);
        assert_eq!(told(&[TraceType::Rtp], 0), [TraceType::Rtp; 2]);
        assert_eq!(told(&[TraceType::KeyFrame, TraceType::Fir], 999), [TraceType::KeyFrame, TraceType::Fir]);
        assert_eq!(told(&TraceType::ALL, 1_000), []);
        assert_eq!(told(&[], 0), []);
    }
}
