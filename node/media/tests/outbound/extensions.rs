//! Header extensions that go with a packet from its publisher to whoever gets it.

use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtp::{CarriedExtensions, ExtensionIds, RtpPacket};

use crate::core::{Core, Stream, header, vp8};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// One-byte elements under the ids that the test's clients have, which are the router's.
fn elements(carried: &CarriedExtensions<'_>) -> Vec<u8> {
    let all = [
        (9, carried.layers_allocation),
        (11, carried.video_orientation),
        (13, carried.capture_time),
        (14, carried.playout_delay),
    ];
    let told = all.iter().filter_map(|(id, value)| Some((id, (*value)?)));
    told.flat_map(|(id, value)| [&[id << 4 | (value.len() - 1) as u8], value].concat()).collect()
}

#[test]
fn what_a_publisher_tells_of_a_packet_reaches_a_viewer_behind_a_pipe() {
    let (mut home, mut away) = (Core::new(0), Core::new(1));
    let (mut publisher, mut near, mut far) = (home.connect(PROFILE), home.connect(PROFILE), away.connect(PROFILE));
    let producer = home.publish(&publisher, Stream::Vp8);
    home.open_route_to(&away, producer);
    away.open_route_from(&home, producer, Stream::Vp8);
    home.consume(&near, producer, Stream::Vp8);
    away.consume(&far, producer, Stream::Vp8);
    let (time, time_and_offset): ([u8; 8], [u8; 16]) = ([1; 8], [2; 16]);
    let nothing = CarriedExtensions::default();
    let told = [
        CarriedExtensions { video_orientation: Some(&[3]), ..nothing },
        CarriedExtensions { capture_time: Some(&time), ..nothing },
        CarriedExtensions { playout_delay: Some(&[0x01, 0x20, 0x34]), ..nothing },
        CarriedExtensions { layers_allocation: Some(&[0x01, 0x10, 0x80, 0x02]), ..nothing },
        nothing,
        CarriedExtensions {
            video_orientation: Some(&[1]),
            capture_time: Some(&time_and_offset),
            playout_delay: Some(&[0; 3]),
            layers_allocation: Some(&[5; 12]),
            dependency_descriptor: None,
        },
    ];
    for (number, carried) in (0..).zip(&told) {
        let header = header(Stream::Vp8, number, u32::from(number) * 3_000);
        home.rtp_with(&mut publisher, header, &elements(carried), &vp8(number == 0, 100));
        away.exchange(&mut home);
    }
    for (core, viewer) in [(&mut home, &mut near), (&mut away, &mut far)] {
        let received = core.received(viewer);
        let read = received.iter().map(|received| {
            let packet = RtpPacket::parse(&received.plain).expect("RTP");
            ExtensionIds { mid: 1, ..ExtensionIds::CANONICAL }.read(packet.extensions)
        });
        let read: Vec<_> = read.collect();
        assert!(read.iter().all(|extensions| extensions.mid == Some(b"0")));
        assert_eq!(read.iter().map(|extensions| extensions.carried).collect::<Vec<_>>(), told);
    }
}
