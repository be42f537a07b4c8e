//! How often a publisher is asked for a key frame.

use std::time::Duration;

use sluice_media::messages::Request;
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp::{self, Compound, Packet};
use sluice_mesh::Frame;
use sluice_proto::ortc::RtcpFeedback;

use crate::core::{Core, Stream, User, header, key_frame_requests, vp8};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

fn requests_within(core: &mut Core, publisher: &mut User, time: Duration) -> usize {
    core.advance(time);
    key_frame_requests(&core.received_rtcp(publisher))
}

#[test]
fn a_publisher_that_sends_nothing_is_asked_twice() {
    let mut core = Core::new(0);
    let (mut publisher, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::from_secs(60)), 2);
}

#[test]
fn a_publisher_that_knows_no_picture_loss_is_asked_by_numbered_requests() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish_so(&publisher, Stream::Vp8, 1, |rtp| {
        *rtp.codecs[0].rtcp_feedback_mut() = vec![RtcpFeedback::CcmFir];
    });
    let (_, ssrc) = core.consume(&receiver, producer, Stream::Vp8);
    let mut asked = Vec::new();
    for number in 0..3 {
        asked.extend(core.received_rtcp(&mut publisher).iter().flat_map(|compound| {
            let packets = Compound::new(compound).map(|packet| packet.expect("RTCP"));
            let asked = packets.filter_map(|packet| match packet {
                Packet::Fir { entries } => Some(entries.collect::<Vec<_>>()),
                Packet::Pli { .. } => panic!("it has not said that it knows this"),
                _ => None,
            });
            asked.flatten().collect::<Vec<_>>()
        }));
        core.rtp(&mut publisher, header(Stream::Vp8, number, 3_000 * u32::from(number)), &vp8(true, 100));
        core.advance(Duration::from_secs(2));
        let mut compound = Vec::new();
        rtcp::pli(&mut compound, 1, ssrc);
        core.rtcp(&mut receiver, compound);
    }
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(ssrc, _)| *ssrc == 10));
    assert!(asked.windows(2).all(|pair| pair[1].1 == pair[0].1.wrapping_add(1)), "{asked:?}");
}

#[test]
fn nobody_asks_for_those_who_are_gone_or_paused() {
    let mut core = Core::new(0);
    let (mut publisher, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    let (consumer, _) = core.consume(&receiver, producer, Stream::Vp8);
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::ZERO), 1);
    core.request(Request::PauseConsumer { consumer });
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::from_secs(60)), 0);

    let other = Core::new(1);
    core.open_route_to(&other, producer);
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::ZERO), 1);
    core.close_route_to(&other);
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::from_secs(60)), 0);
}

#[test]
fn whoever_gets_what_it_cannot_begin_with_asks_until_it_can() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    core.advance(Duration::from_secs(60));
    core.received_rtcp(&mut publisher);
    let mut requests = 0;
    for number in 0..500_u16 {
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number)), &vp8(number == 400, 100));
        let asked = requests_within(&mut core, &mut publisher, Duration::from_millis(20));
        requests += asked;
        assert!(asked == 0 || number < 400, "asked after the key frame");
    }
    assert!((8..=12).contains(&requests), "{requests} requests in 8 seconds");
    assert_eq!(core.received(&mut receiver).len(), 100);
}

#[test]
fn any_number_of_requests_is_one() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    let (_, ssrc) = core.consume(&receiver, producer, Stream::Vp8);
    let mut requests = 0;
    for number in 0..100_u16 {
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number)), &vp8(true, 100));
        let mut compound = Vec::new();
        for fir in 0..=255 {
            rtcp::pli(&mut compound, 1, ssrc);
            rtcp::fir(&mut compound, 1, ssrc, fir);
        }
        core.rtcp(&mut receiver, compound);
        requests += requests_within(&mut core, &mut publisher, Duration::from_millis(20));
    }
    assert!(requests <= 6, "{requests} requests in 2 seconds");
}

/// The camera makes a key frame 50 ms after it was asked for one, and 50 pictures a second.
#[test]
fn a_hundred_newcomers_cost_two_key_frames_and_have_their_first_picture_soon() {
    let mut core = Core::new(0);
    let mut publisher = core.connect(PROFILE);
    let producer = core.publish(&publisher, Stream::Vp8);
    let (mut receivers, mut requests, mut key_frame_at) = (Vec::new(), 0, None);
    for number in 0..50_u16 {
        if number < 15 {
            let newcomers = (0..7).map(|_| core.connect(PROFILE));
            receivers.extend(newcomers.collect::<Vec<_>>().into_iter().map(|receiver| (receiver, number, None)));
            for (receiver, _, _) in receivers.iter().rev().take(7) {
                core.consume(receiver, producer, Stream::Vp8);
            }
        }
        let asked = requests_within(&mut core, &mut publisher, Duration::from_millis(20));
        if asked > 0 {
            key_frame_at = Some(number + 2);
        }
        requests += asked;
        let payload = vp8(key_frame_at == Some(number), 100);
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number) * 1_800), &payload);
        for (receiver, _, seen) in &mut receivers {
            if !core.received(receiver).is_empty() {
                seen.get_or_insert(number);
            }
        }
    }
    let waits: Vec<u16> =
        receivers.iter().map(|(_, came, seen)| seen.expect("everybody sees something") - came).collect();
    assert_eq!(waits.len(), 105);
    assert!(requests <= 2, "{requests} requests");
    assert!(waits.iter().all(|pictures| *pictures <= 4), "{waits:?}");
}

/// The key frame is asked for when a client is told of a producer, and kept until it is ready.
#[test]
fn who_is_ready_later_begins_at_once() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    let consumer = core.consume_paused(&receiver, producer, Stream::Vp8);
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::from_millis(20)), 1);
    for number in 0..40_u16 {
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number) * 1_800), &vp8(number == 0, 100));
        core.advance(Duration::from_millis(20));
    }
    assert!(core.received(&mut receiver).is_empty());
    core.request(Request::ResumeConsumer { consumer });
    assert_eq!(core.received(&mut receiver).len(), 40);
    assert_eq!(requests_within(&mut core, &mut publisher, Duration::from_secs(1)), 0);
}

#[test]
fn a_long_list_of_losses_is_asked_for_in_parts() {
    let mut core = Core::new(0);
    let (mut publisher, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    // So far apart that no two losses share an item.
    let is_lost = |number: &u16| number % 20 == 10;
    for number in (0..8_000).filter(|number| !is_lost(number)) {
        core.rtp(&mut publisher, header(Stream::Vp8, number, 0), &vp8(number == 0, 100));
    }
    core.received_rtcp(&mut publisher);
    // All of them are due for the second time at once.
    core.advance(Duration::from_millis(150));
    let compounds = core.received_rtcp(&mut publisher);
    let mut asked: Vec<u16> = Vec::new();
    for packet in compounds.iter().flat_map(|compound| Compound::new(compound)) {
        if let Ok(Packet::Nack { items, .. }) = packet {
            asked.extend(items.sequence_numbers());
        }
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, (0..8_000).filter(is_lost).collect::<Vec<_>>());
    assert_eq!(core.drops("too_large"), 0);
}

#[test]
fn whoever_misses_what_a_pipe_had_no_room_for_waits_for_a_key_frame() {
    let (mut home, mut core) = (Core::new(0), Core::new(1));
    let (mut publisher, mut receiver) = (home.connect(PROFILE), core.connect(PROFILE));
    let producer = home.publish(&publisher, Stream::Vp8);
    home.open_route_to(&core, producer);
    core.open_route_from(&home, producer, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    // Pictures of one packet: whether each is a key frame, shed, received.
    let pictures = [
        (true, false, true),
        (false, false, true),
        (false, true, false),
        (false, true, false),
        (false, true, false),
        (false, false, false),
        (false, true, false),
        (false, false, false),
        (true, true, false),
        (false, false, false),
        (true, false, true),
        (false, false, true),
        (false, true, false),
        (true, false, true),
    ];
    for (number, (is_key_frame, is_shed, is_received)) in (0..).zip(pictures) {
        let payload = vp8(is_key_frame, 100);
        home.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number) * 3_000), &payload);
        if is_shed {
            home.frames.iter_mut().for_each(Frame::shed);
        }
        core.exchange(&mut home);
        assert_eq!(core.received(&mut receiver).len(), usize::from(is_received), "picture {number}");
    }
    assert_eq!(core.drops("pipe_shed"), 6);
}
