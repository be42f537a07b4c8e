//! Publishers of H.264 that tell their parameter sets once: whoever comes later gets them all the same.

use std::time::Duration;

use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp;
use sluice_media::wire::rtp::RtpPacket;

use crate::core::{Core, Received, Stream, User, header};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// SPS and PPS as one aggregation packet.
const SETS: &[u8] = &[0x78, 0, 5, 0x67, 0x42, 0xe0, 0x1f, 0x8c, 0, 2, 0x68, 0xce];
/// The first fragment of an IDR slice, and its last one.
const SLICE: [&[u8]; 2] = [&[0x7c, 0x85, 0x88, 1], &[0x7c, 0x45, 2]];
const PREDICTED: &[u8] = &[0x41, 0x9a, 3];

/// A camera that tells its parameter sets in its first picture only.
struct Camera {
    user: User,
    number: u16,
    pictures: u32,
}

impl Camera {
    fn new(user: User) -> Self {
        Self { user, number: 65_530, pictures: 0 }
    }

    fn picture(&mut self, core: &mut Core, payloads: &[&[u8]]) {
        core.advance(Duration::from_millis(33));
        for payload in payloads {
            core.rtp(&mut self.user, header(Stream::H264, self.number, self.pictures * 3_000), payload);
            self.number = self.number.wrapping_add(1);
        }
        self.pictures += 1;
    }

    fn first_seconds(&mut self, core: &mut Core) {
        self.picture(core, &[SETS, SLICE[0], SLICE[1]]);
        (0..60).for_each(|_| self.picture(core, &[PREDICTED]));
    }
}

fn payloads(packets: &[Received]) -> Vec<Vec<u8>> {
    packets.iter().map(|packet| RtpPacket::parse(&packet.plain).unwrap().payload.to_vec()).collect()
}

fn is_gapless(packets: &[Received]) -> bool {
    packets.windows(2).all(|pair| pair[1].sequence_number() == pair[0].sequence_number().wrapping_add(1))
}

#[test]
fn a_late_viewer_gets_the_parameter_sets_before_the_next_key_frame() {
    let mut core = Core::new(0);
    let (mut camera, mut first, mut late) =
        (Camera::new(core.connect(PROFILE)), core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&camera.user, Stream::H264);
    core.consume(&first, producer, Stream::H264);
    camera.first_seconds(&mut core);
    core.consume(&late, producer, Stream::H264);
    camera.picture(&mut core, &[PREDICTED]);
    assert_eq!(core.received(&mut late).len(), 0);
    core.received(&mut first);
    camera.picture(&mut core, &SLICE);
    camera.picture(&mut core, &[PREDICTED]);
    let received = core.received(&mut late);
    assert_eq!(payloads(&received), [SETS, SLICE[0], SLICE[1], PREDICTED]);
    assert!(is_gapless(&received));
    let timestamps: Vec<_> =
        received.iter().map(|packet| RtpPacket::parse(&packet.plain).unwrap().header.timestamp).collect();
    assert_eq!(timestamps[0], timestamps[1]);
    let received = core.received(&mut first);
    assert_eq!(payloads(&received), [SLICE[0], SLICE[1], PREDICTED], "who knows them is not told again");
}

#[test]
fn a_late_viewer_is_caught_up_with_the_parameter_sets_too() {
    let mut core = Core::new(0);
    let (mut camera, mut late) = (Camera::new(core.connect(PROFILE)), core.connect(PROFILE));
    let producer = core.publish(&camera.user, Stream::H264);
    camera.first_seconds(&mut core);
    camera.picture(&mut core, &SLICE);
    camera.picture(&mut core, &[PREDICTED]);
    core.consume(&late, producer, Stream::H264);
    assert_eq!(payloads(&core.received(&mut late)), [SETS, SLICE[0], SLICE[1], PREDICTED]);
}

#[test]
fn a_late_viewer_behind_a_pipe_gets_them_whether_the_pipe_is_new_or_not() {
    for pipe_is_new in [false, true] {
        let (mut home, mut away) = (Core::new(0), Core::new(1));
        let (mut camera, mut late) = (Camera::new(home.connect(PROFILE)), away.connect(PROFILE));
        let producer = home.publish(&camera.user, Stream::H264);
        let open = |home: &mut Core, away: &mut Core| {
            home.open_route_to(away, producer);
            away.open_route_from(home, producer, Stream::H264);
        };
        if !pipe_is_new {
            open(&mut home, &mut away);
        }
        camera.first_seconds(&mut home);
        away.exchange(&mut home);
        home.advance(Duration::from_secs(1));
        away.advance(Duration::from_secs(1));
        if pipe_is_new {
            open(&mut home, &mut away);
        }
        away.consume(&late, producer, Stream::H264);
        camera.picture(&mut home, &[PREDICTED]);
        away.exchange(&mut home);
        assert_eq!(away.received(&mut late).len(), 0);
        camera.picture(&mut home, &SLICE);
        camera.picture(&mut home, &[PREDICTED]);
        away.exchange(&mut home);
        let received = away.received(&mut late);
        assert_eq!(payloads(&received), [SETS, SLICE[0], SLICE[1], PREDICTED], "new: {pipe_is_new}");
        assert!(is_gapless(&received));
    }
}

#[test]
fn lost_parameter_sets_can_be_had_again_and_come_again_with_the_next_key_frame() {
    for stream in [Stream::H264, Stream::H264Plain] {
        let mut core = Core::new(0);
        let (mut camera, mut late) = (Camera::new(core.connect(PROFILE)), core.connect(PROFILE));
        let producer = core.publish(&camera.user, stream);
        camera.first_seconds(&mut core);
        let (_, ssrc) = core.consume(&late, producer, stream);
        camera.picture(&mut core, &SLICE);
        let received = core.received(&mut late);
        core.advance(Duration::from_millis(50));
        core.datagrams(&late);
        let mut compound = Vec::new();
        rtcp::nack(&mut compound, 1, ssrc, [received[0].sequence_number()].into_iter());
        core.rtcp(&mut late, compound);
        if stream == Stream::H264 {
            let again = core.received(&mut late);
            let original = received[0].sequence_number().to_be_bytes();
            assert_eq!(payloads(&again), [[&original, SETS].concat()]);
        } else {
            assert_eq!(core.datagrams(&late), std::slice::from_ref(&received[0].sealed));
        }
        // All the same the client cannot decode.
        let mut compound = Vec::new();
        rtcp::pli(&mut compound, 1, ssrc);
        core.rtcp(&mut late, compound);
        camera.picture(&mut core, &[PREDICTED]);
        camera.picture(&mut core, &SLICE);
        camera.picture(&mut core, &SLICE);
        let received = core.received(&mut late);
        let expected: [&[u8]; 6] = [PREDICTED, SETS, SLICE[0], SLICE[1], SLICE[0], SLICE[1]];
        assert_eq!(payloads(&received), expected);
        assert!(is_gapless(&received));
    }
}

#[test]
fn key_frames_that_tell_all_by_themselves_are_left_as_they_are() {
    let mut core = Core::new(0);
    let (mut camera, mut late) = (Camera::new(core.connect(PROFILE)), core.connect(PROFILE));
    let producer = core.publish(&camera.user, Stream::H264);
    camera.first_seconds(&mut core);
    let (consumer, ssrc) = core.consume(&late, producer, Stream::H264);
    let (sps, pps): (&[u8], &[u8]) = (&[0x67, 0x42, 0xe0, 0x1f, 0x8c], &[0x68, 0xce]);
    let picture = [sps, pps, &[0x06, 0x05], SLICE[0], SLICE[1]];
    camera.picture(&mut core, &picture);
    let mut compound = Vec::new();
    rtcp::pli(&mut compound, 1, ssrc);
    core.rtcp(&mut late, compound);
    camera.picture(&mut core, &picture);
    assert_eq!(payloads(&core.received(&mut late)), [picture, picture].concat());
    assert_eq!(core.consumer_stats(consumer).sent.key_frames, 2);
}

#[test]
fn parameter_sets_are_counted_though_what_they_are_for_does_not_fit() {
    let mut core = Core::new(0);
    let (mut camera, mut late) = (Camera::new(core.connect(PROFILE)), core.connect(PROFILE));
    let producer = core.publish(&camera.user, Stream::H264);
    camera.first_seconds(&mut core);
    core.consume(&late, producer, Stream::H264);
    let mut too_large = SLICE[0].to_vec();
    too_large.resize(1_470, 1);
    camera.picture(&mut core, &[&too_large, SLICE[1]]);
    camera.picture(&mut core, &SLICE);
    let received = core.received(&mut late);
    assert_eq!(payloads(&received), [SETS, SETS, SLICE[0], SLICE[1]]);
    assert!(is_gapless(&received));
    assert_eq!((core.drops("too_large"), core.snapshot().rtp_packets_sent), (1, 4));
}
