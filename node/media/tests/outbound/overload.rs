//! A worker that has more to do than it can sheds video, whole pictures, and nothing else.

use std::time::Duration;

use sluice_media::messages::WorkerEvent;
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp;
use sluice_media::wire::rtp::RtpPacket;
use sluice_proto::ids::ConsumerId;
use sluice_proto::pipe::{FeedbackBody, Layers};

use crate::core::{Core, Stream, User, header, key_frame_requests, vp8};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// Longer than the worker takes to send everything again.
const CALM: Duration = Duration::from_secs(30);

/// Packets of a picture, which is all of them or a part.
const PICTURE: std::ops::Range<u16> = 0..3;

/// Publishes packets of a picture.
fn picture(core: &mut Core, publisher: &mut User, number: u16, is_key_frame: bool, packets: std::ops::Range<u16>) {
    for index in packets {
        let mut payload = vp8(is_key_frame, 20);
        if index > 0 {
            payload[0] = 0;
        }
        let mut header = header(Stream::Vp8, 100 + number * PICTURE.end + index, u32::from(number) * 3_000);
        header.marker = index + 1 == PICTURE.end;
        core.rtp(publisher, header, &payload);
    }
}

/// Packets wait until the worker sheds all video.
fn overload(core: &mut Core) {
    for _ in 0..3 {
        core.advance(Duration::from_millis(10));
        core.lag(Duration::from_millis(100));
    }
}

fn shedding(core: &Core) -> Vec<bool> {
    let shedding = |event: &WorkerEvent| match event {
        WorkerEvent::Overload { shedding } => Some(*shedding),
        _ => None,
    };
    core.events.iter().filter_map(shedding).collect()
}

/// What the other end of a pipe was told that it carries.
fn carried(core: &Core) -> Vec<Option<Layers>> {
    let carried = core.feedback.iter().filter_map(|feedback| match feedback.body {
        FeedbackBody::LayersCarried(carried) => Some(carried),
        _ => None,
    });
    carried.collect()
}

fn scores(core: &Core, of: ConsumerId) -> Vec<u8> {
    let score = |event: &WorkerEvent| match event {
        WorkerEvent::ConsumerScore { consumer, scores } if *consumer == of => Some(scores.consumer),
        _ => None,
    };
    core.events.iter().filter_map(score).collect()
}

#[test]
fn what_is_shed_ends_with_a_whole_picture_and_begins_with_a_key_frame() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver, late) = (core.connect(PROFILE), core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    let (consumer, ssrc) = core.consume(&receiver, producer, Stream::Vp8);
    picture(&mut core, &mut publisher, 0, true, PICTURE);
    picture(&mut core, &mut publisher, 1, false, 0..1);
    let first = core.numbers(&mut receiver);
    assert_eq!(first.len(), 4);

    overload(&mut core);
    assert_eq!((shedding(&core), scores(&core, consumer)), (vec![true], vec![0]));
    let snapshot = core.snapshot();
    assert_eq!((snapshot.shedding, snapshot.shed_consumers, snapshot.lag_us), (true, 1, 100_000));
    picture(&mut core, &mut publisher, 1, false, 1..3);
    assert_eq!(core.numbers(&mut receiver), [first[3] + 1, first[3] + 2], "the picture is brought to its end");
    core.received_rtcp(&mut publisher);
    let (newcomer, _) = core.consume(&late, producer, Stream::Vp8);
    assert_eq!(scores(&core, newcomer), [0]);
    picture(&mut core, &mut publisher, 2, false, PICTURE);
    picture(&mut core, &mut publisher, 3, true, PICTURE);
    let mut request = Vec::new();
    rtcp::pli(&mut request, 1, ssrc);
    core.rtcp(&mut receiver, request);
    assert_eq!((core.numbers(&mut receiver), core.datagrams(&late).len()), (vec![], 0));
    assert_eq!(core.drops("overload"), 12, "two pictures, two consumers");
    assert_eq!(key_frame_requests(&core.received_rtcp(&mut publisher)), 0, "nobody could be sent one");

    core.advance(CALM);
    assert_eq!(shedding(&core), [true, false]);
    assert!(scores(&core, consumer).last().is_some_and(|score| *score > 0), "{:?}", core.events);
    assert!(key_frame_requests(&core.received_rtcp(&mut publisher)) > 0);
    picture(&mut core, &mut publisher, 4, false, PICTURE);
    assert!(core.numbers(&mut receiver).is_empty());
    picture(&mut core, &mut publisher, 5, true, PICTURE);
    let next = first[3] + 3;
    assert_eq!(core.numbers(&mut receiver), [next, next + 1, next + 2], "no number is missing");
    assert_eq!(core.datagrams(&late).len(), 3);
    assert_eq!(core.snapshot().shed_consumers, 0);
}

#[test]
fn a_picture_that_is_whole_is_the_last() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    picture(&mut core, &mut publisher, 0, true, PICTURE);
    core.received(&mut receiver);
    overload(&mut core);
    picture(&mut core, &mut publisher, 1, false, PICTURE);
    assert!(core.numbers(&mut receiver).is_empty());
}

#[test]
fn audio_is_never_shed() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Opus);
    let (consumer, _) = core.consume(&receiver, producer, Stream::Opus);
    for number in 0..50 {
        overload(&mut core);
        core.rtp(&mut publisher, header(Stream::Opus, number, u32::from(number) * 960), &[1; 80]);
    }
    assert_eq!(core.numbers(&mut receiver).len(), 50);
    assert!(!scores(&core, consumer).contains(&0));
    assert_eq!((core.drops("overload"), core.snapshot().shed_consumers), (0, 0));
}

#[test]
fn a_pipe_is_shed_by_whole_pictures_and_its_other_end_is_told() {
    let (mut core, other) = (Core::new(0), Core::new(1));
    let mut publisher = core.connect(PROFILE);
    let producer = core.publish(&publisher, Stream::Vp8);
    core.open_route_to(&other, producer);
    picture(&mut core, &mut publisher, 0, true, PICTURE);
    picture(&mut core, &mut publisher, 1, false, 0..1);
    overload(&mut core);
    picture(&mut core, &mut publisher, 1, false, 1..3);
    picture(&mut core, &mut publisher, 2, false, PICTURE);
    picture(&mut core, &mut publisher, 3, true, PICTURE);
    assert_eq!((core.frames.len(), core.drops("overload")), (6, 6));
    core.advance(CALM);
    picture(&mut core, &mut publisher, 4, true, PICTURE);
    let frames = std::mem::take(&mut core.frames);
    let numbers = frames.iter().map(|frame| {
        let packet = RtpPacket::parse(&frame.packet).expect("it is RTP");
        (frame.seq, packet.header.sequence_number, packet.header.timestamp)
    });
    let numbers: Vec<_> = numbers.collect();
    let timestamps = [0, 0, 0, 3_000, 3_000, 3_000, 12_000, 12_000, 12_000];
    for (index, (number, timestamp)) in numbers.iter().zip(timestamps).enumerate() {
        let index = index as u16;
        assert_eq!(*number, (numbers[0].0 + index, numbers[0].1 + index, timestamp));
    }
    assert_eq!(carried(&core), [None, Some(Layers::ALL)]);
}

#[test]
fn the_other_end_of_a_pipe_that_begins_shed_is_told() {
    let (mut core, other) = (Core::new(0), Core::new(1));
    let (mut publisher, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    overload(&mut core);
    core.open_route_to(&other, producer);
    assert_eq!(carried(&core), [None]);
    picture(&mut core, &mut publisher, 0, true, PICTURE);
    assert!(core.frames.is_empty());
    core.advance(CALM);
    assert_eq!(carried(&core), [None, Some(Layers::ALL)]);
    picture(&mut core, &mut publisher, 1, true, PICTURE);
    assert_eq!(core.frames.len(), 3);
}
