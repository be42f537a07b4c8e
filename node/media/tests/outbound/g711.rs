//! Audio of payload types that are not the router's choice: PCMU and PCMA.

use std::time::Duration;

use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtp::RtpPacket;

use crate::core::{Core, Stream, header};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// Samples of 20 ms.
const SAMPLES: u32 = 160;

#[test]
fn g711_reaches_viewers_here_and_behind_a_pipe() {
    for stream in [Stream::G711("audio/PCMU", 0), Stream::G711("audio/PCMA", 8)] {
        let (mut home, mut away) = (Core::new(0), Core::new(1));
        let (mut publisher, mut near, mut far) = (home.connect(PROFILE), home.connect(PROFILE), away.connect(PROFILE));
        let producer = home.publish(&publisher, stream);
        home.open_route_to(&away, producer);
        away.open_route_from(&home, producer, stream);
        home.consume(&near, producer, stream);
        away.consume(&far, producer, stream);
        let payloads: Vec<_> = (1..=20).map(|number| vec![number; SAMPLES as usize]).collect();
        for (number, payload) in (0..).zip(&payloads) {
            home.advance(Duration::from_millis(20));
            home.rtp(&mut publisher, header(stream, number, u32::from(number) * SAMPLES), payload);
            away.exchange(&mut home);
        }
        for (core, viewer) in [(&mut home, &mut near), (&mut away, &mut far)] {
            let received = core.received(viewer);
            let packets: Vec<_> =
                received.iter().map(|received| RtpPacket::parse(&received.plain).expect("RTP")).collect();
            assert_eq!(packets.iter().map(|packet| packet.payload).collect::<Vec<_>>(), payloads);
            assert!(packets.iter().all(|packet| packet.header.payload_type == stream.payload_type()));
            for pair in packets.windows(2) {
                let [before, after] = [pair[0].header, pair[1].header];
                assert_eq!(after.sequence_number, before.sequence_number.wrapping_add(1));
                assert_eq!(after.timestamp.wrapping_sub(before.timestamp), SAMPLES);
            }
        }
    }
}
