//! Redundant audio: who knows it gets it, and who does not the newest frame of each packet.

use std::time::Duration;

use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp;
use sluice_media::wire::rtp::{RtpHeader, RtpPacket};

use crate::core::{Core, Stream, User, header};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// Of the block before and its own, under a payload type of the publisher's.
fn red(number: u8) -> Vec<u8> {
    [&[0x80 | 111, 0x0f, 0x00, 0x02, 111][..], &[number - 1; 2], &[number; 3]].concat()
}

fn received(core: &mut Core, user: &mut User) -> Vec<(u8, Vec<u8>)> {
    let read = |plain: &[u8]| {
        let packet = RtpPacket::parse(plain).expect("RTP");
        (packet.header.payload_type, packet.payload.to_vec())
    };
    core.received(user).iter().map(|received| read(&received.plain)).collect()
}

#[test]
fn who_does_not_know_redundancy_gets_the_newest_frame() {
    for behind_a_pipe in [false, true] {
        let (mut home, mut away) = (Core::new(0), Core::new(1));
        let mut publisher = home.connect(PROFILE);
        let producer = home.publish(&publisher, Stream::Red);
        if behind_a_pipe {
            home.open_route_to(&away, producer);
            away.open_route_from(&home, producer, Stream::Red);
        }
        let core = if behind_a_pipe { &mut away } else { &mut home };
        let (mut knows, mut does_not) = (core.connect(PROFILE), core.connect(PROFILE));
        core.consume(&knows, producer, Stream::Red);
        let (_, ssrc) = core.consume(&does_not, producer, Stream::Opus);
        for number in 1..=4 {
            home.advance(Duration::from_millis(20));
            let header = header(Stream::Red, number.into(), u32::from(number) * 960);
            // An encoder leaves redundancy away where it does not fit.
            if number == 3 {
                home.rtp(&mut publisher, RtpHeader { payload_type: 100, ..header }, &[number; 3]);
            } else {
                home.rtp(&mut publisher, header, &red(number));
            }
            away.exchange(&mut home);
        }
        let core = if behind_a_pipe { &mut away } else { &mut home };
        let as_known = |number: u8| {
            if number == 3 {
                return (100, vec![number; 3]);
            }
            (119, [&[0x80 | 100, 0x0f, 0x00, 0x02, 100][..], &[number - 1; 2], &[number; 3]].concat())
        };
        assert_eq!(received(core, &mut knows), (1..=4).map(as_known).collect::<Vec<_>>());
        let plain: Vec<_> = (1..=4).map(|number: u8| (100, vec![number; 3])).collect();
        let sent = core.received(&mut does_not);
        let read = |plain: &[u8]| {
            let packet = RtpPacket::parse(plain).expect("RTP");
            (packet.header.payload_type, packet.payload.to_vec())
        };
        assert_eq!(sent.iter().map(|received| read(&received.plain)).collect::<Vec<_>>(), plain);
        // And again, as it was.
        core.advance(Duration::from_millis(100));
        let mut compound = Vec::new();
        rtcp::nack(&mut compound, 1, ssrc, [sent[1].sequence_number()].into_iter());
        core.rtcp(&mut does_not, compound);
        assert_eq!(core.datagrams(&does_not).last(), Some(&sent[1].sealed));
    }
}
