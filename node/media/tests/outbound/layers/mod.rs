//! Layers inside a stream, and streams of several encodings that have their layers told likewise: whatever a receiver
//! prefers and whatever is lost, all frames that it gets can be decoded, and the last one of each picture says so.

mod encoder;
mod judge;

use std::collections::VecDeque;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::messages::{Request, WorkerEvent};
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp;
use sluice_media::wire::rtp::{RtpHeader, RtpPacket};
use sluice_mesh::FrameClass;
use sluice_proto::ids::ConsumerId;
use sluice_proto::pipe::Layers;

use self::encoder::{Encoder, InterLayer, Mode, Packet, Told};
use self::judge::Judge;
use crate::core::{Core, Received, Stream, User, key_frame_requests, ssrc_of};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const INTERVAL: Duration = Duration::from_millis(33);
const SEEDS: u64 = 12;

const fn mode(name: &'static str, told: Told, inter_layer: InterLayer, (spatial, temporal): (u8, u8)) -> Mode {
    Mode { name, told, inter_layer, spatial, temporal }
}

/// Layers inside one stream.
const SVC: [(Mode, Stream); 8] = [
    (mode("L3T3", Told::Vp9, InterLayer::Always, (3, 3)), Stream::Layered("video/VP9", "L3T3", 1)),
    (mode("L3T3_KEY", Told::Vp9, InterLayer::KeyPictures, (3, 3)), Stream::Layered("video/VP9", "L3T3_KEY", 1)),
    (mode("S3T3", Told::Vp9, InterLayer::Never, (3, 3)), Stream::Layered("video/VP9", "S3T3", 1)),
    (mode("L2T1", Told::Vp9, InterLayer::Always, (2, 1)), Stream::Layered("video/VP9", "L2T1", 1)),
    (mode("L3T3", Told::Descriptor, InterLayer::Always, (3, 3)), Stream::Layered("video/AV1", "L3T3", 1)),
    (mode("L3T3_KEY", Told::Descriptor, InterLayer::KeyPictures, (3, 3)), Stream::Layered("video/AV1", "L3T3_KEY", 1)),
    (mode("S3T3", Told::Descriptor, InterLayer::Never, (3, 3)), Stream::Layered("video/AV1", "S3T3", 1)),
    (mode("L2T2", Told::Descriptor, InterLayer::Always, (2, 2)), Stream::Layered("video/AV1", "L2T2", 1)),
];

/// Temporal layers alone, in one encoding and in three.
const TEMPORAL: [(Mode, Stream); 6] = [
    (mode("L1T3", Told::Vp9, InterLayer::Never, (1, 3)), Stream::Layered("video/VP9", "L1T3", 1)),
    (mode("L1T3", Told::Descriptor, InterLayer::Never, (1, 3)), Stream::Layered("video/AV1", "L1T3", 1)),
    (mode("L1T3", Told::Descriptor, InterLayer::Never, (1, 3)), Stream::Layered("video/H264", "L1T3", 1)),
    (mode("L1T3", Told::Vp9, InterLayer::Never, (1, 3)), Stream::Layered("video/VP9", "L1T3", 3)),
    (mode("L1T2", Told::Descriptor, InterLayer::Never, (1, 2)), Stream::Layered("video/AV1", "L1T2", 3)),
    (mode("L1T3", Told::Descriptor, InterLayer::Never, (1, 3)), Stream::Layered("video/H264", "L1T3", 3)),
];

/// A client that sends, and what of it is on its way.
struct Publisher {
    user: User,
    encoders: Vec<Encoder>,
    key_due: bool,
    /// What was lost at first and comes later.
    late: VecDeque<(usize, Packet)>,
    key_pictures: usize,
}

impl Publisher {
    fn new(user: User, mode: Mode, stream: Stream) -> Self {
        let Stream::Layered(_, _, encodings) = stream else { unreachable!() };
        let encoder = |encoding: u32| {
            let header = RtpHeader {
                marker: false,
                payload_type: stream.payload_type(),
                sequence_number: 65_000 + 100 * encoding as u16,
                timestamp: encoding * 1_000_000,
                ssrc: ssrc_of(encoding),
            };
            // Numbers wrap meanwhile, of 15 bits too.
            Encoder::new(mode, header, 32_700_u16.wrapping_add(20_000 * encoding as u16))
        };
        let encoders = (0..encodings).map(encoder).collect();
        Self { user, encoders, key_due: true, late: VecDeque::new(), key_pictures: 0 }
    }

    /// Sends the next picture of each encoding; a share of `loss` of the packets comes some pictures later.
    fn send(&mut self, core: &mut Core, rng: &mut ChaCha8Rng, loss: f64) {
        core.advance(INTERVAL);
        self.key_due |= key_frame_requests(&core.received_rtcp(&mut self.user)) > 0;
        let is_key = std::mem::take(&mut self.key_due);
        self.key_pictures += usize::from(is_key);
        let mut now = Vec::new();
        for (wait, _) in &mut self.late {
            *wait -= 1;
        }
        while self.late.front().is_some_and(|(wait, _)| *wait == 0) {
            now.extend(self.late.pop_front().map(|(_, packet)| packet));
        }
        for packet in self.encoders.iter_mut().flat_map(|encoder| encoder.encode(is_key)) {
            if rng.random_bool(loss) {
                self.late.push_back((2, packet));
            } else {
                now.push(packet);
            }
        }
        for Packet { header, descriptor, payload } in now {
            let element = descriptor.map(|data| [&[8, data.len() as u8], &data[..]].concat()).unwrap_or_default();
            core.rtp_with_two_byte(&mut self.user, header, &element, &payload);
        }
    }
}

/// A client that receives, loses some of it and asks for that again.
struct Receiver {
    user: User,
    consumer: ConsumerId,
    ssrc: u32,
    judge: Judge,
    layers: Vec<Layers>,
}

impl Receiver {
    fn take(&mut self, core: &mut Core, rng: &mut ChaCha8Rng, loss: f64) {
        let received = core.received(&mut self.user);
        for received in received.iter().filter(|_| !rng.random_bool(loss)) {
            self.receive(received);
        }
        let missing = self.judge.missing();
        if !missing.is_empty() && loss > 0.0 {
            let mut compound = Vec::new();
            rtcp::nack(&mut compound, 1, self.ssrc, missing.into_iter().take(200));
            core.rtcp(&mut self.user, compound);
        }
        let consumer = self.consumer;
        self.layers.extend(core.events.drain(..).filter_map(|event| match event {
            WorkerEvent::ConsumerLayersChanged { consumer: of, layers } if of == consumer => layers,
            _ => None,
        }));
    }

    fn receive(&mut self, received: &Received) {
        let packet = RtpPacket::parse(&received.plain).expect("RTP");
        if received.ssrc() == self.ssrc {
            return self.judge.receive(packet.header.sequence_number, &packet, packet.payload);
        }
        let (original, rest) = packet.payload.split_first_chunk().expect("a retransmission names its original");
        self.judge.receive(u16::from_be_bytes(*original), &packet, rest);
    }
}

fn start(mode: Mode, stream: Stream) -> (Core, Publisher, Receiver) {
    let mut core = Core::new(0);
    let (user, receiver) = (core.connect(PROFILE), core.connect(PROFILE));
    let producer = core.publish(&user, stream);
    let (consumer, ssrc) = core.consume(&receiver, producer, stream);
    let judge = Judge::new(mode.told);
    let receiver = Receiver { user: receiver, consumer, ssrc, judge, layers: Vec::new() };
    (core, Publisher::new(user, mode, stream), receiver)
}

fn prefer(core: &mut Core, consumer: ConsumerId, spatial: u8, temporal: u8) {
    core.request(Request::SetPreferredLayers { consumer, layers: Layers { spatial, temporal } });
}

/// Whether all is as it should be to whoever decodes.
fn check(judge: &Judge, what: &str) {
    let frames = judge.frames();
    assert!(frames.len() > 30, "{what}: {} frames", frames.len());
    let bad = frames.iter().position(|frame| !frame.is_decodable);
    assert_eq!(bad, None, "{what}: of {} frames, {:?}", frames.len(), bad.map(|bad| frames[bad]));
    for pair in frames.windows(2) {
        let is_same_picture = pair[0].timestamp == pair[1].timestamp;
        assert_eq!(pair[0].ends_picture, !is_same_picture, "{what}: {pair:?}");
        let ticks = pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed();
        assert!(ticks >= 0, "{what}: {pair:?}");
    }
}

#[test]
fn every_frame_can_be_decoded_whatever_is_preferred() {
    for (mode, stream) in SVC.into_iter().chain(TEMPORAL) {
        for seed in 0..SEEDS {
            let what = format!("{stream:?} seed {seed}");
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut core, mut publisher, mut receiver) = start(mode, stream);
            for _ in 0..12 {
                prefer(&mut core, receiver.consumer, rng.random_range(0..4), rng.random_range(0..4));
                for _ in 0..rng.random_range(1..30) {
                    publisher.send(&mut core, &mut rng, 0.0);
                    receiver.take(&mut core, &mut rng, 0.0);
                }
            }
            assert_eq!(receiver.judge.missing(), [0_u16; 0], "{what}");
            assert_eq!(receiver.judge.broken(), 0, "{what}");
            check(&receiver.judge, &what);
        }
    }
}

#[test]
fn what_is_preferred_comes_and_nothing_above() {
    for (mode, stream) in SVC {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (mut core, mut publisher, mut receiver) = start(mode, stream);
        for (spatial, temporal) in [(3, 3), (0, 3), (1, 0), (2, 2), (1, 1), (0, 0)] {
            prefer(&mut core, receiver.consumer, spatial, temporal);
            for _ in 0..100 {
                publisher.send(&mut core, &mut rng, 0.0);
                receiver.take(&mut core, &mut rng, 0.0);
            }
            let (spatial, temporal) = (spatial.min(mode.spatial - 1), temporal.min(mode.temporal - 1));
            let frames = receiver.judge.frames();
            let latest: Vec<_> = frames.iter().rev().take(20).map(|frame| frame.layers).collect();
            let highest = (latest.iter().map(|of| of.0).max(), latest.iter().map(|of| of.1).max());
            assert_eq!(highest, (Some(spatial), Some(temporal)), "{stream:?}");
            let needs_lower = mode.inter_layer == InterLayer::Always;
            assert_eq!(latest.iter().any(|of| of.0 < spatial), needs_lower && spatial > 0, "{stream:?}");
            let told = receiver.layers.last().expect("it is told");
            assert_eq!((told.spatial, told.temporal.min(mode.temporal - 1)), (spatial, temporal), "{stream:?}");
            if mode.told == Told::Descriptor {
                let is_active = |target: u8| {
                    let of = (target / mode.temporal, target % mode.temporal);
                    of.0 <= spatial && of.1 <= temporal
                };
                let targets = (0..mode.spatial * mode.temporal).filter(|target| is_active(*target));
                let active = targets.fold(0, |bits, target| bits | 1 << target);
                assert_eq!(receiver.judge.active_targets, Some(active), "{stream:?}");
            }
        }
        // Only layers that were not sent need a key frame: spatial ones, and in some modes those below.
        let needs_key_to_go_down = mode.inter_layer != InterLayer::Always;
        let expected = if needs_key_to_go_down { 6 } else { 3 };
        assert!(publisher.key_pictures <= expected, "{stream:?}: {} key pictures", publisher.key_pictures);
    }
}

#[test]
fn what_is_lost_on_either_way_and_comes_again_leaves_nothing_undecodable() {
    for (mode, stream) in SVC.into_iter().chain(TEMPORAL) {
        for seed in 0..SEEDS {
            let what = format!("{stream:?} seed {seed}");
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut core, mut publisher, mut receiver) = start(mode, stream);
            // Of what is lost before the first packet nobody knows.
            publisher.send(&mut core, &mut rng, 0.0);
            receiver.take(&mut core, &mut rng, 0.0);
            for _ in 0..6 {
                prefer(&mut core, receiver.consumer, rng.random_range(0..3), rng.random_range(0..3));
                for _ in 0..rng.random_range(10..40) {
                    publisher.send(&mut core, &mut rng, 0.03);
                    receiver.take(&mut core, &mut rng, 0.03);
                }
            }
            for _ in 0..10 {
                publisher.send(&mut core, &mut rng, 0.0);
                receiver.take(&mut core, &mut rng, 0.01);
            }
            let frames = receiver.judge.frames();
            let bad = frames.iter().filter(|frame| !frame.is_decodable).count();
            let first = frames.iter().position(|frame| !frame.is_decodable).unwrap_or_default();
            let around = &frames[first.saturating_sub(3)..=first];
            let missing = receiver.judge.missing();
            assert!(bad * 50 <= frames.len(), "{what}: {bad} of {}, first {around:?}, {missing:?}", frames.len());
        }
    }
}

#[test]
fn a_pipe_carries_the_layers_that_somebody_behind_it_wants() {
    for (mode, stream) in SVC {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (mut home, mut away) = (Core::new(0), Core::new(1));
        let (user, receiver) = (home.connect(PROFILE), away.connect(PROFILE));
        let producer = home.publish(&user, stream);
        home.open_route_to(&away, producer);
        away.open_route_from(&home, producer, stream);
        let (consumer, ssrc) = away.consume(&receiver, producer, stream);
        let judge = Judge::new(mode.told);
        let mut receiver = Receiver { user: receiver, consumer, ssrc, judge, layers: Vec::new() };
        let mut publisher = Publisher::new(user, mode, stream);
        for (spatial, temporal) in [(3, 3), (0, 3), (1, 0), (2, 3)] {
            prefer(&mut away, consumer, spatial, temporal);
            let mut carried = VecDeque::new();
            for _ in 0..60 {
                publisher.send(&mut home, &mut rng, 0.0);
                let highest = home.frames.iter().map(|frame| match frame.class {
                    FrameClass::Video { spatial, temporal, .. } => (spatial, temporal),
                    FrameClass::Audio => unreachable!(),
                });
                carried.extend(highest);
                away.exchange(&mut home);
                receiver.take(&mut away, &mut rng, 0.0);
            }
            let (spatial, temporal) = (spatial.min(mode.spatial - 1), temporal.min(mode.temporal - 1));
            let latest = || carried.iter().rev().take(20);
            assert_eq!(latest().map(|of| of.0).max(), Some(spatial), "{stream:?}");
            assert_eq!(latest().map(|of| of.1).max(), Some(temporal), "{stream:?}");
            let frames = receiver.judge.frames();
            assert_eq!(frames.iter().rev().take(20).map(|frame| frame.layers.0).max(), Some(spatial), "{stream:?}");
            let told = home.events.iter().rev().find_map(|event| match event {
                WorkerEvent::StreamsWanted { streams, .. } => Some(*streams),
                _ => None,
            });
            assert_eq!(told, Some((1 << (spatial + 1)) - 1), "{stream:?}");
        }
        assert_eq!(receiver.judge.missing(), [0_u16; 0], "{stream:?}");
        check(&receiver.judge, &format!("{stream:?} behind a pipe"));
    }
}
