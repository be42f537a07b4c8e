//! Numbers are taken by packets that are sent, and by no others.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use sluice_media::messages::{Request, RequestError};
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp::{TransportFeedbackBuilder, nack, pli};
use sluice_media::wire::rtp::{ExtensionIds, RtpHeader, RtpPacket};

use crate::core::{Core, Stream, User, header, vp8};

/// The largest payload that fits a datagram beside a header with three extensions and a tag.
const FITS: usize = 1_428;

#[test]
fn a_packet_that_is_too_large_leaves_no_hole() {
    for first_is_too_large in [false, true] {
        let mut core = Core::new(0);
        let (mut publisher, mut receiver) =
            (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
        let producer = core.publish(&publisher, Stream::Opus);
        core.consume(&receiver, producer, Stream::Opus);
        for number in 0..60_u16 {
            core.advance(Duration::from_millis(20));
            let is_too_large = number % 10 == if first_is_too_large { 0 } else { 5 };
            let payload = vec![number as u8; if is_too_large { FITS + 50 } else { FITS }];
            core.rtp(&mut publisher, header(Stream::Opus, 65_500_u16.wrapping_add(number), 0), &payload);
        }
        let numbers = core.numbers(&mut receiver);
        let first = numbers[0];
        assert_eq!(numbers, (0..54).map(|number| first.wrapping_add(number)).collect::<Vec<_>>());
        assert_eq!(core.drops("too_large"), 6);
    }
}

#[test]
fn what_does_not_fit_the_cache_leaves_no_hole_either() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Opus);
    core.consume(&receiver, producer, Stream::Opus);
    for number in 0..10 {
        core.rtp(&mut publisher, header(Stream::Opus, number, 0), &vec![1; if number == 4 { 3_000 } else { 100 }]);
    }
    let numbers = core.numbers(&mut receiver);
    assert_eq!(numbers, (0..9).map(|number| numbers[0] + number).collect::<Vec<_>>());
}

#[test]
fn only_packets_that_carry_a_transport_wide_number_take_one() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let mut speaker = core.connect(SrtpProfile::AeadAes128Gcm);
    let video = core.publish(&publisher, Stream::Vp8);
    let audio = core.publish_as(&speaker, Stream::Opus, 2);
    core.consume(&receiver, video, Stream::Vp8);
    core.consume(&receiver, audio, Stream::Opus);
    let ids = ExtensionIds { transport_wide_cc: 5, ..ExtensionIds::default() };
    let mut feedback = TransportFeedbackBuilder::default();
    let mut numbers = Vec::new();
    for number in 0..100 {
        core.advance(Duration::from_millis(20));
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number)), &vp8(number == 0, 300));
        core.rtp(&mut speaker, header(Stream::Opus, number, u32::from(number)), &[1; 40]);
        for packet in core.received(&mut receiver) {
            numbers.extend(ids.read(RtpPacket::parse(&packet.plain).unwrap().extensions).transport_wide_cc);
        }
    }
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    // So that a client that missed nothing is known to have missed nothing.
    feedback.begin(0);
    for number in numbers {
        assert!(feedback.add_received(i64::from(number) * 20_000));
    }
    let mut compound = Vec::new();
    feedback.write(&mut compound, 1, 1_001, 0);
    core.rtcp(&mut receiver, compound);
    core.advance(Duration::from_secs(1));
    assert_eq!(core.transport_stats(receiver.transport).send_loss, Some(0.0));
}

/// What may happen to a consumer and its producer.
#[derive(Debug, Clone)]
enum Step {
    /// A packet of this size, so many numbers behind the one before it: those between are lost.
    Packet {
        skip: u16,
        len: usize,
    },
    /// A packet that was lost comes after all.
    Late {
        back: u16,
    },
    KeyFrame {
        len: usize,
    },
    Padding,
    PauseConsumer(bool),
    PauseProducer(bool),
    /// The publisher goes on so many numbers ahead.
    Restart {
        jump: u16,
    },
    Nack {
        back: u16,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![9 => 10..FITS, 1 => FITS + 20..FITS + 60];
    let step = prop_oneof![
        20 => (prop_oneof![8 => Just(0_u16), 1 => 1..5_u16], len.clone()).prop_map(|(skip, len)| Step::Packet { skip, len }),
        3 => (1..8_u16).prop_map(|back| Step::Late { back }),
        3 => len.prop_map(|len| Step::KeyFrame { len }),
        2 => Just(Step::Padding),
        1 => any::<bool>().prop_map(Step::PauseConsumer),
        1 => any::<bool>().prop_map(Step::PauseProducer),
        1 => (5_000..30_000_u16).prop_map(|jump| Step::Restart { jump }),
        2 => (0..40_u16).prop_map(|back| Step::Nack { back }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// Of H.264 only the slices; the parameter sets went before.
fn payload(stream: Stream, is_key_frame: bool, len: usize) -> Vec<u8> {
    let mut payload = vp8(is_key_frame, len);
    if matches!(stream, Stream::H264 | Stream::H264Plain) {
        payload[..2].copy_from_slice(if is_key_frame { &[0x65, 0x88] } else { &[0x41, 0x9a] });
    }
    payload
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// But for what was lost on the way to the node, which shows as a gap that a late packet can fill.
    #[test]
    fn numbers_that_a_client_sees_are_unique_and_only_losses_are_gaps(
        steps in steps(),
        stream in prop::sample::select(vec![Stream::Vp8, Stream::Vp8Plain, Stream::H264, Stream::H264Plain]),
        start: u16,
    ) {
        let mut core = Core::new(0);
        let (mut publisher, mut receiver) =
            (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::Aes128CmSha1_80));
        let producer = core.publish(&publisher, stream);
        let (consumer, ssrc) = core.consume(&receiver, producer, stream);
        let (mut next, mut lost, mut losses, mut highest) = (start, BTreeSet::new(), 0, None);
        let mut seen = BTreeSet::new();
        if matches!(stream, Stream::H264 | Stream::H264Plain) {
            let sets = [0x78, 0, 5, 0x67, 0x42, 0xe0, 0x1f, 0x8c, 0, 2, 0x68, 0xce];
            core.rtp(&mut publisher, header(stream, start, 0), &sets);
            next = start.wrapping_add(1);
        }
        for step in steps {
            core.advance(Duration::from_millis(10));
            let mut send = |core: &mut Core, number: u16, payload: &[u8]| {
                core.rtp(&mut publisher, header(stream, number, u32::from(number)), payload);
            };
            match step {
                Step::Packet { skip, len } => {
                    losses += usize::from(skip);
                    lost.extend((0..skip).map(|number| next.wrapping_add(number)));
                    next = next.wrapping_add(skip);
                    send(&mut core, next, &payload(stream, false, len));
                    next = next.wrapping_add(1);
                }
                Step::KeyFrame { len } => {
                    send(&mut core, next, &payload(stream, true, len));
                    next = next.wrapping_add(1);
                }
                Step::Padding => {
                    send(&mut core, next, &[]);
                    next = next.wrapping_add(1);
                }
                Step::Late { back } => {
                    let number = next.wrapping_sub(back);
                    if lost.remove(&number) {
                        send(&mut core, number, &payload(stream, false, 100));
                    }
                }
                Step::PauseConsumer(true) => { core.request(Request::PauseConsumer { consumer }); }
                Step::PauseConsumer(false) => { core.request(Request::ResumeConsumer { consumer }); }
                Step::PauseProducer(true) => { core.request(Request::PauseProducer { producer }); }
                Step::PauseProducer(false) => { core.request(Request::ResumeProducer { producer }); }
                Step::Restart { jump } => {
                    lost.clear();
                    // The first packet behind the jump may be a stray.
                    send(&mut core, next.wrapping_add(jump), &payload(stream, false, 10));
                    send(&mut core, next.wrapping_add(jump + 1), &payload(stream, true, 10));
                    next = next.wrapping_add(jump + 2);
                }
                Step::Nack { back } => {
                    let mut compound = Vec::new();
                    pli(&mut compound, 1, ssrc);
                    nack(&mut compound, 1, ssrc, highest.map(|highest: u16| highest.wrapping_sub(back)).into_iter());
                    if highest.is_some() {
                        core.rtcp(&mut receiver, compound);
                    }
                }
            }
            for packet in core.received(&mut receiver) {
                // One that went out again as it was cannot be opened a second time.
                if packet.ssrc() != ssrc || packet.plain.is_empty() {
                    continue;
                }
                let number = packet.sequence_number();
                prop_assert!(seen.insert(number), "{number} came twice");
                let newest: u16 = highest.map_or(number, |highest: u16| {
                    if number.wrapping_sub(highest) < 0x8000 { number } else { highest }
                });
                highest = Some(newest);
            }
        }
        prop_assert_eq!(core.drops("srtp_nonce_reused"), 0);
        if let Some(newest) = highest {
            let first = seen.iter().map(|number| newest.wrapping_sub(*number)).max().unwrap_or(0);
            let gaps = usize::from(first) + 1 - seen.len();
            prop_assert!(gaps <= losses, "{gaps} gaps, {losses} losses");
        }
    }
}

#[test]
fn the_ssrc_of_a_closed_consumer_is_not_sent_with_again() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Vp8);
    let (consumer, ssrc) = core.consume(&receiver, producer, Stream::Vp8);
    core.request(Request::CloseConsumer { consumer });
    let consumer = core.consume_as(&receiver, producer, Stream::Vp8, ssrc).expect("nothing was sent with it");
    core.rtp(&mut publisher, header(Stream::Vp8, 1, 0), &vp8(true, 20));
    assert_eq!(core.received(&mut receiver).len(), 1);
    core.request(Request::CloseConsumer { consumer });
    // By itself, and for retransmissions.
    for ssrc in [ssrc, ssrc - 1] {
        let refused = core.consume_as(&receiver, producer, Stream::Vp8, ssrc);
        assert!(matches!(refused, Err(RequestError::StreamInUse(_))), "{refused:?}");
    }
    let other = core.connect(SrtpProfile::AeadAes128Gcm);
    core.consume_as(&other, producer, Stream::Vp8, ssrc).expect("another transport has other keys");
}

#[test]
fn what_leaves_the_cache_before_it_is_sent_is_counted() {
    let (mut core, other) = (Core::new(0), Core::new(1));
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Opus);
    core.consume(&receiver, producer, Stream::Opus);
    core.open_route_to(&other, producer);
    // So far ahead that it takes the place of the first one, and not so far that it is another stream.
    let batch = [100, 101, 100 + 2_048].map(|number| (header(Stream::Opus, number, 0), vec![number as u8; 20]));
    core.rtp_batch(&mut publisher, &batch);
    assert_eq!((core.received(&mut receiver).len(), core.frames.len()), (2, 2));
    assert_eq!(core.drops("evicted"), 2, "by the consumer and by the pipe");
}

#[test]
fn what_is_said_of_a_route_that_is_no_more_is_counted() {
    let (mut home, mut away) = (Core::new(0), Core::new(1));
    let mut publisher = home.connect(SrtpProfile::AeadAes128Gcm);
    let producer = home.publish(&publisher, Stream::Vp8);
    home.open_route_to(&away, producer);
    away.open_route_from(&home, producer, Stream::Vp8);
    home.rtp(&mut publisher, header(Stream::Vp8, 1, 0), &vp8(true, 20));
    away.exchange(&mut home);
    home.close_route_to(&away);
    // Statistics.
    away.advance(Duration::from_secs(2));
    away.exchange(&mut home);
    assert!(home.drops("stale_feedback") > 0);
    assert_eq!(away.drops("stale_feedback"), 0);
}

#[test]
fn however_much_is_lost_between_padding_what_follows_goes_out() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    let send = |core: &mut Core, publisher: &mut User, number: u16, payload: &[u8]| {
        core.rtp(publisher, header(Stream::Vp8, number, 0), payload);
    };
    send(&mut core, &mut publisher, 0, &vp8(true, 20));
    // Half of the number space and more.
    (1..=450).for_each(|padding| send(&mut core, &mut publisher, padding * 100, &[]));
    (45_001..45_011).for_each(|number| send(&mut core, &mut publisher, number, &vp8(false, 20)));
    assert_eq!(core.numbers(&mut receiver).len(), 11);
    assert_eq!(core.drops("srtp_nonce_reused"), 0);
}

#[test]
fn what_was_forgotten_and_comes_again_is_not_sent_again() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Vp8);
    core.consume(&receiver, producer, Stream::Vp8);
    let send = |core: &mut Core, publisher: &mut User, numbers: std::ops::Range<u16>| {
        numbers.for_each(|number| core.rtp(publisher, header(Stream::Vp8, number, 0), &vp8(number == 0, 1_000)));
    };
    send(&mut core, &mut publisher, 0..20);
    core.advance(Duration::from_secs(5));
    send(&mut core, &mut publisher, 20..40);
    // A browser's probe of the bandwidth: what it sent before, as retransmission that nobody asked for.
    let media = header(Stream::Vp8, 1, 0);
    let rtx = RtpHeader { payload_type: media.payload_type + 1, ssrc: media.ssrc + 1, ..media };
    core.rtp(&mut publisher, rtx, &[&[0, 5], &vp8(false, 1_000)[..]].concat());
    assert_eq!(core.numbers(&mut receiver).len(), 40);
    assert_eq!((core.drops("srtp_nonce_reused"), core.drops("too_late")), (0, 1));
}
