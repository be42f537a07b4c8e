//! What is told of packets, one by one, to an operator who looks.

use std::time::Duration;

use sluice_media::messages::{Request, RequestError};
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::trace::{TraceEvent, TraceInfo, TraceSubject, TraceType, TraceTypes, Traced, TracedPacket};
use sluice_media::wire::rtcp::{self, SenderInfo};
use sluice_proto::ids::{ConsumerId, ProducerId, TransportId};
use sluice_proto::ortc::RtcpFeedback;

use crate::core::{Core, Stream, User, header, vp8};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

fn all() -> TraceTypes {
    TraceTypes::from_iter(TraceType::ALL)
}

/// Types and directions, in order.
fn kinds(traced: &Traced) -> Vec<(TraceType, bool)> {
    traced.events.iter().map(|event| (event.info.kind(), event.is_in())).collect()
}

fn packet(event: &TraceEvent) -> &TracedPacket {
    match &event.info {
        TraceInfo::Rtp(packet) | TraceInfo::KeyFrame(packet) => packet,
        other => panic!("{other:?}"),
    }
}

/// A core with a publisher of video, who is asked for key frames so, and a receiver.
struct Meeting {
    core: Core,
    publisher: (User, ProducerId),
    receiver: (User, ConsumerId, u32),
    next: u16,
}

impl Meeting {
    fn new(asked_by: RtcpFeedback) -> Self {
        let mut core = Core::new(0);
        let (publisher, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
        core.trace(publisher.transport, all(), 60);
        core.trace(receiver.transport, all(), 60);
        let producer = core.publish_so(&publisher, Stream::Vp8, 1, |rtp| {
            *rtp.codecs[0].rtcp_feedback_mut() = vec![RtcpFeedback::Nack, asked_by];
        });
        let (consumer, ssrc) = core.consume(&receiver, producer, Stream::Vp8);
        Self { core, publisher: (publisher, producer), receiver: (receiver, consumer, ssrc), next: 0 }
    }

    /// Sends a packet, with the transport-wide number 7.
    fn send(&mut self, is_key_frame: bool) {
        let header = header(Stream::Vp8, self.next, u32::from(self.next) * 3_000);
        self.core.rtp_with(&mut self.publisher.0, header, &[0x51, 0, 7], &vp8(is_key_frame, 500));
        self.next += 1;
    }

    fn receiver_says(&mut self, write: impl FnOnce(&mut Vec<u8>, u32)) {
        let mut compound = Vec::new();
        write(&mut compound, self.receiver.2);
        self.core.rtcp(&mut self.receiver.0, compound);
    }

    /// What happened to the publisher's transport, and to the receiver's.
    fn traced(&mut self) -> (Traced, Traced) {
        let transports = [self.publisher.0.transport, self.receiver.0.transport];
        let [publisher, receiver] = transports.map(|transport| self.core.trace(transport, all(), 60));
        assert_eq!((publisher.dropped, receiver.dropped), (0, 0));
        for (traced, subject) in [
            (&publisher, TraceSubject::Producer(self.publisher.1)),
            (&receiver, TraceSubject::Consumer(self.receiver.1)),
        ] {
            assert!(traced.events.iter().all(|event| event.subject == subject), "{traced:?}");
        }
        (publisher, receiver)
    }
}

#[test]
fn packets_and_key_frames_are_told_of_where_they_come_and_where_they_go() {
    let mut meeting = Meeting::new(RtcpFeedback::NackPli);
    meeting.core.advance(Duration::from_millis(1_500));
    meeting.traced();
    meeting.send(true);
    meeting.send(false);
    let (publisher, receiver) = meeting.traced();
    assert_eq!(kinds(&publisher), [(TraceType::KeyFrame, true), (TraceType::Rtp, true)]);
    assert_eq!(kinds(&receiver), [(TraceType::KeyFrame, false), (TraceType::Rtp, false)]);
    // By the clock that everybody has.
    assert_eq!(publisher.events[0].at, Duration::from_millis(1_700_000_001_500));
    let (came, left) = (packet(&publisher.events[1]), packet(&receiver.events[1]));
    assert_eq!(came.header, header(Stream::Vp8, 1, 3_000));
    // Its header, an extension of eight bytes and the payload; encryption is left out.
    assert_eq!((came.size, came.payload_size, came.wide_sequence_number), (12 + 8 + 500, 500, Some(7)));
    assert!(!came.is_key_frame && !came.is_rtx && packet(&publisher.events[0]).is_key_frame);
    let sent = meeting.core.received(&mut meeting.receiver.0);
    assert_eq!((left.header.ssrc, left.header.sequence_number), (sent[1].ssrc(), sent[1].sequence_number()));
    assert_eq!((left.size, left.payload_size), (sent[1].plain.len(), 500));
    assert_eq!((left.header.timestamp, left.wide_sequence_number), (3_000, Some(1)));
}

#[test]
fn what_is_asked_for_again_is_told_of_with_how_much_it_is() {
    let mut meeting = Meeting::new(RtcpFeedback::NackPli);
    meeting.send(true);
    meeting.next += 3;
    meeting.send(false);
    meeting.core.advance(Duration::from_millis(30));
    let (publisher, receiver) = meeting.traced();
    let asked = publisher.events.iter().find(|event| event.info.kind() == TraceType::Nack).expect("something misses");
    assert_eq!((&asked.info, asked.is_in()), (&TraceInfo::Nack { ssrc: 10, packets: 3 }, false));
    assert!(!kinds(&receiver).contains(&(TraceType::Nack, true)));

    let sent = meeting.core.numbers(&mut meeting.receiver.0);
    meeting.receiver_says(|compound, ssrc| rtcp::nack(compound, 1, ssrc, [sent[1]].into_iter()));
    let (_, receiver) = meeting.traced();
    assert_eq!(kinds(&receiver), [(TraceType::Nack, true), (TraceType::Rtp, false)]);
    assert_eq!(receiver.events[0].info, TraceInfo::Nack { ssrc: meeting.receiver.2, packets: 1 });
    let (again, sent) = (packet(&receiver.events[1]), meeting.core.received(&mut meeting.receiver.0));
    assert!(again.is_rtx);
    assert_eq!((again.header.ssrc, again.header.sequence_number), (sent[0].ssrc(), sent[0].sequence_number()));
    assert_eq!((again.size, again.payload_size), (sent[0].plain.len(), 502));
}

#[test]
fn requests_for_key_frames_are_told_of_both_ways() {
    for (asked_by, kind) in [(RtcpFeedback::NackPli, TraceType::Pli), (RtcpFeedback::CcmFir, TraceType::Fir)] {
        let mut meeting = Meeting::new(asked_by);
        let (publisher, _) = meeting.traced();
        assert_eq!(kinds(&publisher), [(kind, false)], "of the new receiver");
        let info = if kind == TraceType::Pli { TraceInfo::Pli { ssrc: 10 } } else { TraceInfo::Fir { ssrc: 10 } };
        assert_eq!(publisher.events[0].info, info);
        meeting.send(true);
        meeting.core.advance(Duration::from_secs(2));
        meeting.traced();
        meeting.receiver_says(|compound, ssrc| rtcp::pli(compound, 1, ssrc));
        meeting.receiver_says(|compound, ssrc| rtcp::fir(compound, 1, ssrc, 1));
        let (publisher, receiver) = meeting.traced();
        assert_eq!(kinds(&receiver), [(TraceType::Pli, true), (TraceType::Fir, true)]);
        assert_eq!(receiver.events[1].info, TraceInfo::Fir { ssrc: meeting.receiver.2 });
        assert!(kinds(&publisher).contains(&(kind, false)), "{publisher:?}");
    }
}

#[test]
fn a_sender_report_is_told_of_as_it_came() {
    let mut meeting = Meeting::new(RtcpFeedback::NackPli);
    meeting.send(true);
    meeting.traced();
    let info = SenderInfo { ssrc: 10, ntp: 5 << 32 | 6, rtp_timestamp: 7, packets: 8, octets: 9 };
    let mut compound = Vec::new();
    rtcp::sender_report(&mut compound, &info);
    meeting.core.rtcp(&mut meeting.publisher.0, compound);
    let (publisher, _) = meeting.traced();
    assert_eq!(kinds(&publisher), [(TraceType::Sr, true)]);
    assert_eq!(publisher.events[0].info, TraceInfo::Sr(info));
}

#[test]
fn only_what_is_asked_for_is_told_and_nothing_when_the_time_is_over() {
    let mut meeting = Meeting::new(RtcpFeedback::NackPli);
    let transport = meeting.publisher.0.transport;
    let key_frames = TraceTypes::from_iter([TraceType::KeyFrame]);
    meeting.core.trace(transport, key_frames, 10);
    for second in 0..20 {
        meeting.send(second % 2 == 0);
        meeting.core.advance(Duration::from_secs(1));
    }
    // What nobody asked for in time is forgotten.
    assert!(kinds(&meeting.core.trace(transport, key_frames, 10)).is_empty());
    meeting.send(true);
    meeting.send(false);
    let traced = meeting.core.trace(transport, TraceTypes::NONE, 0);
    assert_eq!(kinds(&traced), [(TraceType::KeyFrame, true)]);
    meeting.send(true);
    assert!(meeting.core.trace(transport, all(), 10).events.is_empty(), "it was switched off");
    let transport = TransportId::from_bytes([99; 16]);
    let refused = meeting.core.try_request(Request::Trace { transport, types: all(), within: Duration::ZERO });
    assert_eq!(refused.unwrap_err(), RequestError::TransportNotFound(transport));
}
