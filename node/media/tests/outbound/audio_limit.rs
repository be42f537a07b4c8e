//! Audio is never held back for want of room, so how much of it a client may send is limited.

use std::time::Duration;

use sluice_media::secure::srtp::SrtpProfile;

use crate::core::{Core, Stream, header};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

#[test]
fn what_is_called_audio_takes_no_more_than_audio_may() {
    let mut core = Core::new(0);
    let (mut speaker, mut flooder, mut receiver) =
        (core.connect(PROFILE), core.connect(PROFILE), core.connect(PROFILE));
    let voice = core.publish_as(&speaker, Stream::Opus, 1);
    let flood = core.publish_as(&flooder, Stream::Opus, 2);
    let (_, voice_ssrc) = core.consume(&receiver, voice, Stream::Opus);
    core.consume(&receiver, flood, Stream::Opus);
    let (mut heard, mut flooded) = (0, 0);
    // Five seconds: a voice, and 4.4 Mbit/s.
    for packet in 0..2_500_u32 {
        core.advance(Duration::from_millis(2));
        core.rtp(&mut flooder, header(Stream::Opus, packet as u16, packet * 96), &[7; 1_100]);
        if packet % 10 == 0 {
            core.rtp(&mut speaker, header(Stream::Opus, (packet / 10) as u16, packet * 96), &[7; 80]);
        }
        for received in core.received(&mut receiver) {
            if received.ssrc() == voice_ssrc {
                heard += 1;
            } else {
                flooded += received.sealed.len() + 28;
            }
        }
    }
    assert_eq!(heard, 250);
    let bits_per_second = flooded * 8 / 5;
    assert!((550_000..=730_000).contains(&bits_per_second), "{bits_per_second}");
    assert!(core.drops("audio_limit") > 1_500);
}
