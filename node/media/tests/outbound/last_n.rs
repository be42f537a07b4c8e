//! Rooms in which only the loudest are heard.

use std::num::NonZeroU8;
use std::time::Duration;

use sluice_media::messages::Request;
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtp::RtpPacket;
use sluice_proto::ids::ProducerId;

use crate::core::{Core, Received, Stream, User, header};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const ONE: Option<NonZeroU8> = NonZeroU8::new(1);
const LOUD: u8 = 30;
const QUIET: u8 = 70;

/// Who speaks, on the core where it does.
struct Speaker {
    user: User,
    number: u16,
}

impl Speaker {
    fn new(core: &mut Core, number: u8) -> (Self, ProducerId) {
        let user = core.connect(PROFILE);
        let producer = core.publish_as(&user, Stream::Opus, number);
        (Self { user, number: 0 }, producer)
    }

    /// A packet of so much below the loudest; its payload says whose it is.
    fn speak(&mut self, core: &mut Core, level: u8, payload: u8) {
        self.number += 1;
        let element = [10 << 4, 0x80 | level, 0, 0];
        let header = header(Stream::Opus, self.number, u32::from(self.number) * 960);
        core.rtp_with(&mut self.user, header, &element, &[payload; 40]);
    }
}

/// Whose packets came, in their order.
fn voices(packets: &[Received]) -> Vec<u8> {
    packets.iter().map(|packet| RtpPacket::parse(&packet.plain).unwrap().payload[0]).collect()
}

fn is_gapless(packets: &[Received]) -> bool {
    packets.windows(2).all(|pair| pair[1].sequence_number() == pair[0].sequence_number().wrapping_add(1))
}

/// Both speak for so many packets, and so loud.
fn speak(core: &mut Core, speakers: &mut [Speaker; 2], levels: [u8; 2], packets: usize) {
    for _ in 0..packets {
        core.advance(Duration::from_millis(20));
        for ((speaker, level), payload) in speakers.iter_mut().zip(levels).zip(1..) {
            speaker.speak(core, level, payload);
        }
    }
}

/// Two speakers and two who listen to both, one consumer each.
fn room(core: &mut Core) -> ([Speaker; 2], [ProducerId; 2]) {
    let (first, second) = (Speaker::new(core, 1), Speaker::new(core, 2));
    ([first.0, second.0], [first.1, second.1])
}

#[test]
fn the_loudest_is_heard_and_a_new_speaker_within_300_ms() {
    let mut core = Core::with_last_n(0, ONE);
    let (mut speakers, producers) = room(&mut core);
    let mut listeners = producers.map(|producer| {
        let listener = core.connect(PROFILE);
        core.consume(&listener, producer, Stream::Opus);
        listener
    });
    let mut heard = [Vec::new(), Vec::new()];
    let mut counts = Vec::new();
    for levels in [[LOUD, QUIET], [127, LOUD], [LOUD, 127]] {
        speak(&mut core, &mut speakers, levels, 50);
        for (heard, listener) in heard.iter_mut().zip(&mut listeners) {
            heard.extend(core.received(listener));
        }
        counts.push([heard[0].len(), heard[1].len()]);
    }
    assert_eq!(counts[0], [50, 0]);
    let [since_first, since_second] = [counts[1][0] - 50, counts[1][1]];
    assert!(since_second >= 50 - 15 && since_first <= 15, "{counts:?}");
    assert!(counts[2][0] - counts[1][0] >= 50 - 15, "{counts:?}");
    assert!(heard.iter().all(|heard| is_gapless(heard)), "what was not heard is not missed");
    assert!(core.drops("not_loudest") > 50);
}

#[test]
fn who_is_pinned_is_heard_however_quiet() {
    let mut core = Core::with_last_n(0, ONE);
    let (mut speakers, [_, quiet]) = room(&mut core);
    let (mut fan, mut other) = (core.connect(PROFILE), core.connect(PROFILE));
    let (consumer, _) = core.consume(&fan, quiet, Stream::Opus);
    core.consume(&other, quiet, Stream::Opus);
    speak(&mut core, &mut speakers, [LOUD, QUIET], 50);
    assert_eq!(core.received(&mut fan).len(), 0);
    core.request(Request::SetConsumerPriority { consumer, priority: 2 });
    speak(&mut core, &mut speakers, [LOUD, QUIET], 50);
    let received = core.received(&mut fan);
    assert_eq!(voices(&received), [2; 50]);
    assert!(is_gapless(&received));
    assert_eq!(core.received(&mut other).len(), 0);
}

#[test]
fn only_the_loudest_cross_pipes_and_those_that_are_pinned_there() {
    let (mut home, mut away) = (Core::with_last_n(0, ONE), Core::with_last_n(1, ONE));
    let (mut speakers, [_, quiet]) = room(&mut home);
    home.open_route_to(&away, quiet);
    away.open_route_from(&home, quiet, Stream::Opus);
    let mut listener = away.connect(PROFILE);
    let (consumer, _) = away.consume(&listener, quiet, Stream::Opus);
    let mut crossing = |home: &mut Core, away: &mut Core, levels| {
        let mut frames = 0;
        for _ in 0..50 {
            speak(home, &mut speakers, levels, 1);
            frames += home.frames.len();
            away.exchange(home);
        }
        frames
    };
    // Until the other end has said what it wants, everything may be wanted.
    crossing(&mut home, &mut away, [LOUD, QUIET]);
    away.received(&mut listener);
    assert_eq!(crossing(&mut home, &mut away, [LOUD, QUIET]), 0);
    away.request(Request::SetConsumerPriority { consumer, priority: 2 });
    assert!(crossing(&mut home, &mut away, [LOUD, QUIET]) >= 49);
    let pinned = away.received(&mut listener);
    away.request(Request::SetConsumerPriority { consumer, priority: 1 });
    assert!(crossing(&mut home, &mut away, [LOUD, QUIET]) <= 1);
    assert!(crossing(&mut home, &mut away, [QUIET, LOUD]) >= 35);
    let heard = [pinned, away.received(&mut listener)].concat();
    assert!(heard.len() >= 49 + 35 && is_gapless(&heard), "{}", heard.len());
}

#[test]
fn everybody_is_heard_where_that_is_not_set() {
    let mut core = Core::new(0);
    let (mut speakers, [_, quiet]) = room(&mut core);
    let mut listener = core.connect(PROFILE);
    core.consume(&listener, quiet, Stream::Opus);
    speak(&mut core, &mut speakers, [LOUD, 127], 50);
    assert_eq!(core.received(&mut listener).len(), 50);
}
