//! H.265, whose payloads say which temporal layer they are of.

use std::time::Duration;

use sluice_media::messages::Request;
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtp::{RtpHeader, RtpPacket};
use sluice_proto::pipe::Layers;

use crate::core::{Core, Stream, User, header, key_frame_requests};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const STREAM: Stream = Stream::Layered("video/H265", "L1T3", 1);

/// VPS, SPS and PPS as one aggregation packet.
const SETS: &[u8] = &[
    0x60, 0x01, 0, 6, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0, 20, 0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0,
    3, 0, 0, 3, 0, 0x5d, 0xa0, 0x02, 0, 4, 0x44, 0x01, 0xc1, 0x72,
];
const IDR: u8 = 19;
/// A picture of the base layer, and one from which on its layer and those above may be taken up.
const TRAIL_R: u8 = 1;
const TSA_R: u8 = 3;

/// Layers of four pictures.
const PATTERN: [u8; 4] = [0, 2, 1, 2];

/// A camera whose pictures are two packets each.
struct Camera {
    user: User,
    number: u16,
    pictures: u32,
    key_due: bool,
    position: usize,
}

impl Camera {
    fn picture(&mut self, core: &mut Core) {
        core.advance(Duration::from_millis(33));
        self.key_due |= key_frame_requests(&core.received_rtcp(&mut self.user)) > 0;
        let is_key = std::mem::take(&mut self.key_due);
        self.position = if is_key { 0 } else { (self.position + 1) % PATTERN.len() };
        let layer = PATTERN[self.position];
        let kind = match (is_key, layer) {
            (true, _) => IDR,
            (false, 0) => TRAIL_R,
            (false, _) => TSA_R,
        };
        let [first, last] = [0x80, 0].map(|bits| vec![kind << 1, layer + 1, bits, self.pictures as u8]);
        let sets = is_key.then(|| SETS.to_vec());
        for (payload, marker) in sets.map(|sets| (sets, false)).into_iter().chain([(first, false), (last, true)]) {
            let header = RtpHeader { marker, ..header(STREAM, self.number, self.pictures * 3_000) };
            core.rtp(&mut self.user, header, &payload);
            self.number = self.number.wrapping_add(1);
        }
        self.pictures += 1;
    }
}

#[test]
fn h265_comes_in_the_layers_that_are_preferred_and_without_gaps() {
    let (mut home, mut away) = (Core::new(0), Core::new(1));
    let (user, mut near, mut far) = (home.connect(PROFILE), home.connect(PROFILE), away.connect(PROFILE));
    let producer = home.publish(&user, STREAM);
    home.open_route_to(&away, producer);
    away.open_route_from(&home, producer, STREAM);
    let consumers = [home.consume(&near, producer, STREAM).0, away.consume(&far, producer, STREAM).0];
    let mut camera = Camera { user, number: 65_500, pictures: 0, key_due: true, position: 0 };
    let mut last = [None; 2];
    for temporal in [2, 0, 1, 2, 1, 0] {
        for (core, consumer) in [&mut home, &mut away].into_iter().zip(consumers) {
            core.request(Request::SetPreferredLayers { consumer, layers: Layers { spatial: 0, temporal } });
        }
        for _ in 0..40 {
            camera.picture(&mut home);
            away.exchange(&mut home);
        }
        for (viewer, (core, user)) in [(&mut home, &mut near), (&mut away, &mut far)].into_iter().enumerate() {
            let received = core.received(user);
            let packets: Vec<_> =
                received.iter().map(|received| RtpPacket::parse(&received.plain).expect("RTP")).collect();
            for packet in &packets {
                let number = packet.header.sequence_number;
                assert!(last[viewer].is_none_or(|before: u16| number == before.wrapping_add(1)), "viewer {viewer}");
                last[viewer] = Some(number);
            }
            let settled = packets.iter().rev().take(30);
            let highest = settled.map(|packet| packet.payload[1] - 1).max();
            assert_eq!(highest, Some(temporal), "viewer {viewer}");
        }
    }
}
