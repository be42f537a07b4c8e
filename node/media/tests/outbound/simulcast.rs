//! Producers with several encodings: which of them a receiver gets, and that to it they are one stream.

use std::time::Duration;

use sluice_media::messages::{ConsumerScores, Request, WorkerEvent};
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::codec::Vp8Descriptor;
use sluice_media::wire::rtcp::{self, Compound, Packet, ReportBlock, SenderInfo};
use sluice_media::wire::rtp::{RtpHeader, RtpPacket};
use sluice_mesh::{Frame, FrameClass};
use sluice_proto::ids::ConsumerId;
use sluice_proto::pipe::{FeedbackBody, Layers};

use crate::core::{Core, Stream, User, header_of, key_frame_requests, producer_id, ssrc_of};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const STREAM: Stream = Stream::Vp8Simulcast;

/// Between two pictures.
const INTERVAL: Duration = Duration::from_millis(33);
const INTERVAL_TICKS: u32 = 2_970;

/// How far the timestamps of an encoding are ahead of those of the one below.
const TIMESTAMPS_APART: u32 = 1_000_000;

/// A client that sends three encodings: each packet is a picture, and says of which encoding it is by its length.
struct Publisher {
    user: User,
    picture: u32,
    /// The encodings that it sends.
    sends: [bool; 3],
    key_frame_due: [bool; 3],
}

impl Publisher {
    fn new(user: User) -> Self {
        Self { user, picture: 0, sends: [true; 3], key_frame_due: [true; 3] }
    }

    fn timestamp(&self, encoding: u32) -> u32 {
        encoding * TIMESTAMPS_APART + self.picture * INTERVAL_TICKS
    }

    /// Sends the next picture, and a key frame where one was asked for meanwhile.
    fn send(&mut self, core: &mut Core) {
        core.advance(INTERVAL);
        if key_frame_requests(&core.received_rtcp(&mut self.user)) > 0 {
            self.key_frame_due = [true; 3];
        }
        for encoding in (0..3_u32).filter(|encoding| self.sends[*encoding as usize]) {
            let is_key_frame = std::mem::take(&mut self.key_frame_due[encoding as usize]);
            let header = header_of(encoding, (self.picture + 1_000 * encoding) as u16, self.timestamp(encoding));
            let payload = payload(encoding, self.picture, is_key_frame);
            core.rtp(&mut self.user, header, &payload);
        }
        self.picture += 1;
    }

    /// Tells the clock of all encodings, which is one.
    fn report(&mut self, core: &mut Core) {
        for encoding in 0..3 {
            let ntp = u64::from(self.picture) * ((u64::from(INTERVAL_TICKS) << 32) / 90_000);
            let (ssrc, rtp_timestamp) = (header_of(encoding, 0, 0).ssrc, self.timestamp(encoding));
            let mut compound = Vec::new();
            rtcp::sender_report(&mut compound, &SenderInfo { ssrc, ntp, rtp_timestamp, packets: 1, octets: 1 });
            core.rtcp(&mut self.user, compound);
        }
    }
}

/// With picture ids of 15 bits and numbers of the base layer, that are others in each encoding.
fn payload(encoding: u32, picture: u32, is_key_frame: bool) -> Vec<u8> {
    let number = (picture + 5_000 * (encoding + 1)) as u16;
    let [high, low] = (number | 0x8000).to_be_bytes();
    let base_layer = (picture + 50 * encoding) as u8;
    let mut payload = vec![0x90, 0xe0, high, low, base_layer, 0, if is_key_frame { 0x50 } else { 0x51 }];
    payload.resize(100 + 100 * encoding as usize, 0xab);
    payload
}

/// What a receiver got of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picture {
    encoding: usize,
    sequence_number: u16,
    timestamp: u32,
    id: u16,
    base_layer: u8,
    is_key_frame: bool,
}

fn pictures(core: &mut Core, receiver: &mut User) -> Vec<Picture> {
    let received = core.received(receiver);
    received.iter().map(|received| picture(&received.plain, 0)).collect()
}

/// `before` is what comes before the publisher's payload.
fn picture(plain: &[u8], before: usize) -> Picture {
    let packet = RtpPacket::parse(plain).expect("RTP");
    let payload = &packet.payload[before..];
    let vp8 = Vp8Descriptor::parse(payload).expect("VP8");
    Picture {
        encoding: payload.len() / 100 - 1,
        sequence_number: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        id: vp8.pictures.picture_id.expect("an id").value,
        base_layer: vp8.pictures.base_layer.expect("a number").0,
        is_key_frame: vp8.key_frame_start,
    }
}

/// Whether to their receiver these are one stream, a picture each interval. Of one instant there may be pictures of two
/// encodings, the second of which is the first of the next one.
fn assert_continuous(pictures: &[Picture], tolerance: u32) {
    for pair in pictures.windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert_eq!(after.sequence_number, before.sequence_number.wrapping_add(1), "{pair:?}");
        assert_eq!(after.id, before.id.wrapping_add(1) & 0x7fff, "{pair:?}");
        assert_eq!(after.base_layer, before.base_layer.wrapping_add(1), "{pair:?}");
        let ticks = after.timestamp.wrapping_sub(before.timestamp);
        let is_same_instant = ticks == 1 && after.encoding != before.encoding;
        assert!(is_same_instant || ticks.abs_diff(INTERVAL_TICKS) <= tolerance, "{pair:?}");
        assert!(after.encoding == before.encoding || after.is_key_frame, "{pair:?}");
    }
}

/// The spatial layers that were told of a consumer; `None` where nothing was sent.
fn layers_told(core: &Core, of: ConsumerId) -> Vec<Option<u8>> {
    let told = core.events.iter().filter_map(|event| match event {
        WorkerEvent::ConsumerLayersChanged { consumer, layers } if *consumer == of => {
            Some(layers.map(|layers| layers.spatial))
        }
        _ => None,
    });
    told.collect()
}

/// The scores that were told last of the encodings that came in, with what names these, and of a consumer.
fn scores_told(home: &Core, core: &Core) -> (Vec<(usize, u32, u8)>, ConsumerScores) {
    let of_producer = home.events.iter().rev().find_map(|event| match event {
        WorkerEvent::ProducerScore { scores, .. } => {
            Some(scores.iter().map(|of| (of.encoding, of.ssrc, of.score)).collect())
        }
        _ => None,
    });
    let of_consumer = core.events.iter().rev().find_map(|event| match event {
        WorkerEvent::ConsumerScore { scores, .. } => Some(*scores),
        _ => None,
    });
    (of_producer.expect("it was told"), of_consumer.expect("it was told"))
}

/// What a client reports of a stream of which nothing was lost.
fn report(core: &mut Core, receiver: &mut User, ssrc: u32) {
    let (mut compound, highest_sequence) = (Vec::new(), 0);
    let good = ReportBlock {
        ssrc,
        fraction_lost: 0,
        cumulative_lost: 0,
        highest_sequence,
        jitter: 0,
        last_sr: 0,
        delay_since_last_sr: 0,
    };
    rtcp::receiver_report(&mut compound, 1, &[good]);
    core.rtcp(receiver, compound);
}

fn prefer(core: &mut Core, consumer: ConsumerId, spatial: u8) {
    let layers = Layers { spatial, temporal: u8::MAX };
    core.request(Request::SetPreferredLayers { consumer, layers });
}

/// A core with a publisher and a receiver, who has this consumer under this SSRC.
fn one_core() -> (Core, Publisher, User, (ConsumerId, u32)) {
    let mut core = Core::new(0);
    let (user, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&user, STREAM);
    let consumer = core.consume(&receiver, producer, STREAM);
    (core, Publisher::new(user), receiver, consumer)
}

/// A core with a publisher and another one with a receiver, who has this consumer.
fn two_cores() -> (Core, Core, Publisher, User, ConsumerId) {
    let (mut home, mut core) = (Core::new(0), Core::new(1));
    let (user, receiver) = (home.connect(PROFILE), core.connect(PROFILE));
    let producer = home.publish(&user, STREAM);
    home.open_route_to(&core, producer);
    core.open_route_from(&home, producer, STREAM);
    let (consumer, _) = core.consume(&receiver, producer, STREAM);
    (home, core, Publisher::new(user), receiver, consumer)
}

#[test]
fn whoever_prefers_other_layers_gets_them_as_one_stream() {
    for tells_its_clock in [false, true] {
        let (mut core, mut publisher, mut receiver, (consumer, _)) = one_core();
        let mut received = Vec::new();
        for wanted in [2, 0, 1, 2, 0] {
            prefer(&mut core, consumer, wanted);
            for _ in 0..30 {
                if tells_its_clock {
                    publisher.report(&mut core);
                }
                publisher.send(&mut core);
            }
            received.extend(pictures(&mut core, &mut receiver));
            assert_eq!(received.last().map(|picture| picture.encoding), Some(wanted.into()));
        }
        assert_continuous(&received, if tells_its_clock { 1 } else { 10 });
        // It begins with what comes first.
        assert_eq!(layers_told(&core, consumer), [0, 2, 0, 1, 2, 0].map(Some), "clock {tells_its_clock}");
    }
}

#[test]
fn who_receives_an_encoding_that_ends_gets_the_next_one_and_comes_back_to_it() {
    let (mut core, mut publisher, mut receiver, _) = one_core();
    let mut last = Vec::new();
    for sends in [[true; 3], [true, true, false], [true, false, false], [true; 3], [false, true, false]] {
        publisher.sends = sends;
        (0..60).for_each(|_| publisher.send(&mut core));
        last.extend(pictures(&mut core, &mut receiver).last().map(|picture| picture.encoding));
    }
    assert_eq!(last, [2, 1, 0, 2, 1]);
}

#[test]
fn what_went_out_before_a_switch_goes_out_again_as_it_was() {
    let (mut core, mut publisher, mut receiver, (consumer, ssrc)) = one_core();
    for wanted in [2, 0, 1] {
        prefer(&mut core, consumer, wanted);
        (0..5).for_each(|_| publisher.send(&mut core));
    }
    // As many bytes may go out again as went out, and each takes two more.
    let mut sent = pictures(&mut core, &mut receiver);
    sent.pop();
    let mut compound = Vec::new();
    rtcp::nack(&mut compound, 1, ssrc, sent.iter().map(|picture| picture.sequence_number));
    core.rtcp(&mut receiver, compound);
    let again: Vec<_> = core
        .received(&mut receiver)
        .iter()
        .map(|received| {
            let original = RtpPacket::parse(&received.plain).expect("RTP").payload[..2].try_into().expect("two bytes");
            Picture { sequence_number: u16::from_be_bytes(original), ..picture(&received.plain, 2) }
        })
        .collect();
    assert_eq!(again, sent);
}

#[test]
fn a_pipe_carries_the_encodings_that_somebody_receives_behind_it() {
    let (mut home, mut core, mut publisher, mut receiver, consumer) = two_cores();
    let mut received = Vec::new();
    for wanted in [2, 0, 1] {
        prefer(&mut core, consumer, wanted);
        // The answer to what is wanted, and the key frame that is asked for.
        for _ in 0..10 {
            publisher.send(&mut home);
            core.exchange(&mut home);
        }
        received.extend(pictures(&mut core, &mut receiver));
        publisher.send(&mut home);
        assert_eq!(home.frames.len(), 1, "of three encodings one is wanted");
        core.exchange(&mut home);
        received.extend(pictures(&mut core, &mut receiver));
        assert_eq!(received.last().map(|picture| picture.encoding), Some(wanted.into()));
        let told = home.events.iter().rev().find_map(|event| match event {
            WorkerEvent::StreamsWanted { streams, .. } => Some(*streams),
            _ => None,
        });
        assert_eq!(told, Some(1 << wanted));
    }
    assert_continuous(&received, 3_000);
}

#[test]
fn a_pipe_without_room_for_an_encoding_brings_the_next_one() {
    let (mut home, mut core, mut publisher, mut receiver, _) = two_cores();
    let mut last = Vec::new();
    for carried in [Some(Layers::ALL), Some(Layers { spatial: 1, temporal: u8::MAX }), Some(Layers::ALL)] {
        let (route, epoch) = (7, 1);
        let body = FeedbackBody::LayersCarried(carried);
        home.feedback.push(sluice_proto::pipe::RouteFeedback { route, epoch, body });
        for _ in 0..60 {
            publisher.send(&mut home);
            let is_shed = |frame: &&mut Frame| match frame.class {
                FrameClass::Video { spatial, .. } => carried.is_some_and(|carried| spatial > carried.spatial),
                FrameClass::Audio => false,
            };
            home.frames.iter_mut().filter(is_shed).for_each(Frame::shed);
            core.exchange(&mut home);
        }
        last.extend(pictures(&mut core, &mut receiver).last().map(|picture| picture.encoding));
    }
    assert_eq!(last, [2, 1, 2]);
}

/// One-byte elements: the MID, and the RID of an encoding under this id.
fn with_rid(id: u8, encoding: u32) -> [u8; 5] {
    [0x10, b'0', id << 4 | 1, b'r', b'0' + encoding as u8]
}

/// The numbers that the compounds ask for, with their SSRCs.
fn missing(compounds: &[Vec<u8>]) -> Vec<(u32, u16)> {
    let packets = compounds.iter().flat_map(|compound| Compound::new(compound).map(|packet| packet.expect("RTCP")));
    let nacks = packets.filter_map(|packet| match packet {
        Packet::Nack { media_ssrc, items } => Some(items.sequence_numbers().map(move |number| (media_ssrc, number))),
        _ => None,
    });
    nacks.flat_map(Iterator::collect::<Vec<_>>).collect()
}

#[test]
fn what_is_lost_of_an_encoding_that_only_its_rid_tells_comes_again_by_the_rid_that_it_repairs() {
    const RTX_SSRC: u32 = 4_711;
    const ENCODING: u32 = 2;
    let mut core = Core::new(0);
    let (mut user, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish_so(&user, STREAM, 1, |rtp| {
        for (number, encoding) in rtp.encodings.iter_mut().enumerate() {
            (encoding.ssrc, encoding.rtx, encoding.rid) = (None, None, Some(format!("r{number}")));
        }
    });
    let (consumer, _) = core.consume(&receiver, producer, STREAM);
    prefer(&mut core, consumer, ENCODING as u8);
    let mut retransmissions = 0;
    for picture in 0..40 {
        core.advance(INTERVAL);
        for encoding in 0..3 {
            let header = header_of(encoding, picture as u16, picture * INTERVAL_TICKS);
            let is_lost = encoding == ENCODING && (picture == 20 || picture == 30);
            if !is_lost {
                let payload = payload(encoding, picture, picture < 3);
                core.rtp_with(&mut user, header, &with_rid(2, encoding), &payload);
            }
        }
        for (ssrc, number) in missing(&core.received_rtcp(&mut user)) {
            assert_eq!(ssrc, ssrc_of(ENCODING));
            let header = header_of(ENCODING, retransmissions, u32::from(number) * INTERVAL_TICKS);
            let header = RtpHeader { payload_type: 102, ssrc: RTX_SSRC, ..header };
            let payload = [&number.to_be_bytes()[..], &payload(ENCODING, number.into(), false)].concat();
            // Once its SSRC is known the stream of retransmissions says no more.
            let repaired_rid = with_rid(3, ENCODING);
            let elements = if retransmissions == 0 { &repaired_rid[..] } else { &[] };
            core.rtp_with(&mut user, header, elements, &payload);
            retransmissions += 1;
        }
    }
    assert_eq!((retransmissions, core.drops("unknown_ssrc")), (2, 0));
    let mut received = pictures(&mut core, &mut receiver);
    received.retain(|picture| picture.encoding == ENCODING as usize);
    received.sort_by_key(|picture| picture.id);
    assert!(received.len() >= 37, "{} pictures", received.len());
    assert_continuous(&received, 1);
}

#[test]
fn who_goes_on_with_another_encoding_after_a_long_pause_has_missed_that_time() {
    let (mut core, mut publisher, mut receiver, (consumer, _)) = one_core();
    (0..5).for_each(|_| publisher.send(&mut core));
    let before = *pictures(&mut core, &mut receiver).last().expect("it receives");
    core.request(Request::PauseConsumer { consumer });
    (0..300).for_each(|_| publisher.send(&mut core));
    prefer(&mut core, consumer, 0);
    core.request(Request::ResumeConsumer { consumer });
    (0..5).for_each(|_| publisher.send(&mut core));
    let after = pictures(&mut core, &mut receiver)[0];
    assert_eq!((after.encoding, after.sequence_number), (0, before.sequence_number.wrapping_add(1)));
    let intervals = f64::from(after.timestamp.wrapping_sub(before.timestamp)) / f64::from(INTERVAL_TICKS);
    assert!((300.0..304.0).contains(&intervals), "{intervals} intervals");
}

#[test]
fn it_is_told_when_nothing_is_sent_any_more_and_when_it_goes_on() {
    let (mut core, mut publisher, _, (consumer, _)) = one_core();
    (0..10).for_each(|_| publisher.send(&mut core));
    core.request(Request::PauseConsumer { consumer });
    (0..10).for_each(|_| publisher.send(&mut core));
    core.request(Request::ResumeConsumer { consumer });
    (0..10).for_each(|_| publisher.send(&mut core));
    let producer = producer_id(1);
    core.request(Request::PauseProducer { producer });
    (0..10).for_each(|_| publisher.send(&mut core));
    core.request(Request::ResumeProducer { producer });
    (0..30).for_each(|_| publisher.send(&mut core));
    let mut told = layers_told(&core, consumer);
    told.dedup_by_key(|layers| layers.is_some());
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false, true]);
}

#[test]
fn it_is_told_at_every_node_when_all_encodings_stop_and_when_one_comes_back() {
    let (mut home, mut core, mut publisher, _, consumer) = two_cores();
    let near = home.connect(PROFILE);
    let (near_consumer, _) = home.consume(&near, producer_id(1), STREAM);
    for sends in [[true; 3], [false; 3], [true, false, false], [false; 3]] {
        publisher.sends = sends;
        for _ in 0..60 {
            publisher.send(&mut home);
            core.exchange(&mut home);
        }
        if sends == [true; 3] {
            assert_eq!(layers_told(&home, near_consumer).last(), Some(&Some(2)));
            assert_eq!(layers_told(&core, consumer).last(), Some(&Some(2)));
            home.events.clear();
            core.events.clear();
        }
    }
    assert_eq!(layers_told(&home, near_consumer), [None, Some(0), None]);
    assert_eq!(layers_told(&core, consumer), [None, Some(0), None]);
}

#[test]
fn a_consumer_that_never_began_is_not_told_to_have_ended() {
    let (mut core, mut publisher, receiver, _) = one_core();
    let consumer = core.consume_paused(&receiver, producer_id(1), STREAM);
    (0..10).for_each(|_| publisher.send(&mut core));
    core.request(Request::PauseProducer { producer: producer_id(1) });
    (0..60).for_each(|_| publisher.send(&mut core));
    assert_eq!(layers_told(&core, consumer), []);
}

#[test]
fn each_encoding_has_its_score() {
    let (mut core, mut publisher, mut receiver, (_, ssrc)) = one_core();
    let mut told = Vec::new();
    for sends in [[true, true, false], [true; 3], [true, false, true]] {
        publisher.sends = sends;
        (0..120).for_each(|_| publisher.send(&mut core));
        report(&mut core, &mut receiver, ssrc);
        let (of_producer, of_consumer) = scores_told(&core, &core);
        assert_eq!(of_consumer.producer, 10, "of the one that it gets");
        told.push((of_producer, of_consumer.streams.as_slice().to_vec()));
    }
    let named = |scores: &[u8]| {
        let named = scores.iter().enumerate();
        named.map(|(encoding, score)| (encoding, ssrc_of(encoding as u32), *score)).collect::<Vec<_>>()
    };
    // One that never came is not among those that the publisher is told of.
    assert_eq!(told[0], (named(&[10, 10]), vec![10, 10, 0]));
    assert_eq!(told[1], (named(&[10, 10, 10]), vec![10, 10, 10]));
    assert_eq!(told[2], (named(&[10, 0, 10]), vec![10, 0, 10]));
}

#[test]
fn behind_a_pipe_the_encodings_that_come_through_it_have_scores() {
    let (mut home, mut core, mut publisher, mut receiver, consumer) = two_cores();
    prefer(&mut core, consumer, 1);
    for _ in 0..120 {
        publisher.send(&mut home);
        core.exchange(&mut home);
    }
    report(&mut core, &mut receiver, 1_002);
    let (of_producer, of_consumer) = scores_told(&home, &core);
    assert!(of_producer.iter().map(|(_, _, score)| *score).eq([10, 10, 10]), "{of_producer:?}");
    assert_eq!((of_consumer.producer, of_consumer.streams.as_slice()), (10, &[0, 10, 0][..]));
}
