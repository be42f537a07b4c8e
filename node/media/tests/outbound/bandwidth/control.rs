//! What else is promised: who is first, what is told, who waits for whom; with a client that says itself how much
//! passes.

use std::time::Duration;

use sluice_media::messages::{Request, WorkerEvent};
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp;
use sluice_media::wire::rtp::RtpPacket;
use sluice_proto::ids::ConsumerId;
use sluice_proto::pipe::Layers;

use super::publisher::Publisher;
use super::world::World;
use crate::core::{Core, Stream, User, header, vp8};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;

/// A client that receives two publishers.
struct Two {
    core: Core,
    publishers: [Publisher; 2],
    receiver: User,
    consumers: [(ConsumerId, u32); 2],
}

impl Two {
    fn new() -> Self {
        let mut core = Core::new(0);
        let users = [core.connect(PROFILE), core.connect(PROFILE)];
        let receiver = core.connect(PROFILE);
        let mut number = 0;
        let publishers = users.map(|user| {
            number += 1;
            Publisher::new(&mut core, user, number, 7).0
        });
        let consumers =
            [1, 2].map(|number| core.consume(&receiver, crate::core::producer_id(number), Stream::Vp8Simulcast));
        Self { core, publishers, receiver, consumers }
    }

    /// Lets both send for a while; of which encodings the receiver got the last packets.
    fn run(&mut self, pictures: usize) -> [Option<u8>; 2] {
        let mut last = [None; 2];
        for picture in 0..pictures {
            self.core.advance(Duration::from_millis(33));
            self.publishers.iter_mut().for_each(|publisher| publisher.send(&mut self.core));
            for received in self.core.received(&mut self.receiver) {
                let of = self.consumers.iter().position(|(_, ssrc)| *ssrc == received.ssrc());
                let payload = RtpPacket::parse(&received.plain).expect("RTP").payload;
                if let Some(of) = of.filter(|_| picture + 10 > pictures) {
                    last[of] = Some(payload[7]);
                }
            }
        }
        last
    }

    fn say(&mut self, bitrate: u64) {
        self.say_of(bitrate, &[]);
    }

    /// Of one of them, or of both.
    fn say_of(&mut self, bitrate: u64, of: &[usize]) {
        let (mut compound, ssrcs) = (Vec::new(), of.iter().map(|of| self.consumers[*of].1).collect::<Vec<_>>());
        rtcp::remb(&mut compound, 1, bitrate, &ssrcs);
        self.core.rtcp(&mut self.receiver, compound);
    }

    /// What was told of the spatial layers of one since this was asked last.
    fn told(&mut self, of: usize) -> Vec<Option<u8>> {
        let id = self.consumers[of].0;
        let told = self.core.events.extract_if(
            ..,
            |event| matches!(event, WorkerEvent::ConsumerLayersChanged { consumer, .. } if *consumer == id),
        );
        let told = told.map(|event| match event {
            WorkerEvent::ConsumerLayersChanged { layers, .. } => layers.map(|layers: Layers| layers.spatial),
            _ => unreachable!(),
        });
        let mut told: Vec<_> = told.collect();
        told.dedup();
        told
    }
}

#[test]
fn videos_share_what_passes_by_priority_and_come_back() {
    let mut two = Two::new();
    assert_eq!(two.run(90), [Some(2), Some(2)]);
    two.told(0);
    two.told(1);
    two.say(3_000_000);
    assert_eq!(two.run(90), [Some(2), Some(1)]);
    let (consumer, _) = two.consumers[1];
    two.core.request(Request::SetConsumerPriority { consumer, priority: 9 });
    two.run(60);
    two.say(3_000_000);
    assert_eq!(two.run(90), [Some(1), Some(2)]);
    two.say(100_000);
    assert_eq!(two.run(60), [None, Some(0)], "of two that do not fit the more important one stays");
    two.say(900_000);
    two.run(60);
    two.say(900_000);
    assert_eq!(two.run(60), [Some(0), Some(1)]);
    assert_eq!(two.told(0), [Some(1), None, Some(0)]);
    assert_eq!(two.told(1), [Some(1), Some(2), Some(0), Some(1)]);
}

#[test]
fn who_had_to_wait_after_a_fall_is_raised_without_another_word() {
    let mut two = Two::new();
    two.run(90);
    two.say(100_000);
    two.run(10);
    two.say(900_000);
    assert_eq!(two.run(10), [Some(0), None], "nothing is raised so soon after it fell");
    assert_eq!(two.run(60), [Some(1), Some(0)]);
}

#[test]
fn what_is_said_of_each_video_by_itself_adds_up() {
    let mut two = Two::new();
    two.run(60);
    for _ in 0..4 {
        two.say_of(300_000, &[0]);
        two.say_of(2_700_000, &[1]);
        two.run(30);
    }
    assert_eq!(two.core.transport_stats(two.receiver.transport).available_outgoing_bitrate, Some(3_000_000));
    assert_eq!(two.run(10), [Some(2), Some(1)]);
}

#[test]
fn who_said_once_that_nothing_passes_gets_video_again_and_keeps_it_while_it_arrives() {
    let mut two = Two::new();
    two.run(60);
    two.say_of(5_000, &[0]);
    two.say_of(7_000, &[1]);
    assert_eq!(two.run(90), [None, None]);
    assert_eq!(two.run(240), [Some(0), None], "after ten seconds");
    // It finds out slowly what arrives, and that is a half more than what arrives at most.
    (1..15).for_each(|second| {
        two.say_of(5_000 + second * 16_000, &[0]);
        assert!(two.run(30)[0].is_some());
    });
    for _ in 0..10 {
        two.say_of(229_000, &[0]);
        two.run(30);
    }
    assert_eq!(two.run(30), [Some(0), Some(0)]);
    two.say_of(5_000, &[0]);
    two.say_of(7_000, &[1]);
    assert_eq!(two.run(60), [None, None]);
}

#[test]
fn what_passes_is_told_when_it_changes_and_at_most_once_a_second() {
    let mut two = Two::new();
    two.run(60);
    for second in 0..10 {
        let bitrate = if second < 5 { 1_000_000 } else { 3_000_000 };
        (0..3).for_each(|_| {
            two.say(bitrate);
            two.run(10);
        });
    }
    let told: Vec<_> = two
        .core
        .events
        .iter()
        .filter_map(|event| match event {
            WorkerEvent::DownlinkChanged {
                transport,
                desired_bitrate,
                effective_desired_bitrate,
                available_bitrate,
            } => {
                assert_eq!(*transport, two.receiver.transport);
                assert!((4_000_000..5_200_000).contains(desired_bitrate), "{desired_bitrate}");
                Some((*effective_desired_bitrate, *available_bitrate))
            }
            _ => None,
        })
        .collect();
    assert!((2..=10).contains(&told.len()), "{told:?}");
    assert_eq!((told[0].1, told.last().map(|told| told.1)), (1_000_000, Some(3_000_000)));
    assert!(told[0].0 > 1_000_000, "one more step is wanted");
    assert_eq!(two.core.transport_stats(two.receiver.transport).available_outgoing_bitrate, Some(3_000_000));
}

#[test]
fn who_gives_no_feedback_is_limited_by_nothing() {
    let mut world = World::new(1, 300_000, 1);
    world.is_silent = true;
    world.run(10.0);
    let last = world.now() - Duration::from_secs(5);
    assert!(world.sent.iter().filter(|sent| sent.at >= last).all(|sent| sent.encoding == Some(2)));
    assert!(world.estimates.iter().all(|(_, of)| of[0].is_none()));
}

#[test]
fn who_does_not_tell_any_more_what_arrives_is_sent_less_until_it_does() {
    let mut world = World::new(1, 4_000_000, 1);
    world.run(10.0);
    let estimate = |world: &World| world.estimates.last().and_then(|(_, of)| of[0]).expect("it is known");
    let encoding = |world: &World| world.sent.iter().rev().find_map(|sent| sent.encoding);
    let before = estimate(&world);
    assert_eq!(encoding(&world), Some(2));
    world.is_silent = true;
    world.run(0.9);
    assert_eq!((estimate(&world), encoding(&world)), (before, Some(2)));
    world.run(1.4);
    assert!(estimate(&world) <= before / 2, "from {before} to {}", estimate(&world));
    world.run(5.0);
    assert!(estimate(&world) <= before / 32, "from {before} to {}", estimate(&world));
    world.is_silent = false;
    world.run(10.0);
    assert_eq!(encoding(&world), Some(2), "{}", estimate(&world));
}

#[test]
fn a_large_key_frame_leaves_at_its_pace_and_audio_passes_it() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let video = core.publish_as(&publisher, Stream::Vp8, 1);
    core.consume(&receiver, video, Stream::Vp8);
    let mut speaker = core.connect(PROFILE);
    let audio = core.publish_as(&speaker, Stream::Opus, 2);
    let (_, audio_ssrc) = core.consume(&receiver, audio, Stream::Opus);
    core.rtp(&mut publisher, header(Stream::Vp8, 0, 0), &vp8(true, 100));
    core.numbers(&mut receiver);
    let mut compound = Vec::new();
    rtcp::remb(&mut compound, 1, 1_000_000, &[]);
    core.rtcp(&mut receiver, compound);
    core.advance(Duration::from_millis(500));
    core.received(&mut receiver);
    // 40 KB, which 1 Mbit/s takes 320 ms for.
    let packets: Vec<_> =
        (1..=40).map(|number| (header(Stream::Vp8, number, 3_000), vp8(number == 1, 1_000))).collect();
    core.rtp_batch(&mut publisher, &packets);
    let mut sent = vec![core.received(&mut receiver).len()];
    core.rtp(&mut speaker, header(Stream::Opus, 0, 0), &[7; 80]);
    assert_eq!(core.received(&mut receiver).iter().filter(|received| received.ssrc() == audio_ssrc).count(), 1);
    let mut numbers = Vec::new();
    for _ in 0..25 {
        core.advance(Duration::from_millis(10));
        let packets = core.received(&mut receiver);
        let media: Vec<_> = packets.iter().filter(|received| received.ssrc() == 1_002).collect();
        numbers.extend(media.iter().map(|received| received.sequence_number()));
        sent.push(media.len());
    }
    assert!((5..=6).contains(&sent[0]), "{sent:?}");
    assert!(sent[1..].iter().all(|count| *count <= 5) && sent.iter().sum::<usize>() == 40, "{sent:?}");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
    assert_eq!(sent[13..].iter().sum::<usize>(), 0, "it is there after a good tenth of a second: {sent:?}");
}
