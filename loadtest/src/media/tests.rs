//! A publisher and a receiver with mesh's impairment core between them, on virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig, Loss, Rate};

use super::*;
use crate::clock::Clock;
use crate::scenario::{ScalabilityMode, Video, VideoCodec, VideoEncoding};
use crate::tally::{ReceivedTally, SentTally};

const SEND: u32 = 1000;
const RTX: u32 = 2000;
/// One way.
const DELAY: Duration = Duration::from_millis(20);
const GOOD: ImpairmentConfig = ImpairmentConfig {
    delay: DELAY,
    jitter: Duration::ZERO,
    loss: Loss::None,
    reorder: 0.0,
    reorder_by: Duration::ZERO,
    duplicate: 0.0,
    rate: None,
    blackout: false,
};

enum Event {
    Rtp(Vec<u8>),
    Nack(Vec<u16>),
    KeyFrameRequest,
    Feedback(TransportLayerCc),
}

struct Link {
    now: Instant,
    clock: Clock,
    publisher: Publisher,
    bandwidth: BandwidthController,
    receiver: StreamReceiver,
    twcc: TwccReceiver,
    tally: ReceivedTally,
    path: Impairment,
    retransmissions_arrive: bool,
    under_way: BTreeMap<(Instant, u64), Event>,
    events: u64,
    /// When each packet arrived first, in the order of sending.
    arrivals: Vec<Option<Instant>>,
    retransmissions_lost: u64,
    duplicated: u64,
}

impl Link {
    /// Video has a stream for retransmissions, audio has not, as browsers have it.
    fn new(source: Source, config: ImpairmentConfig, seed: u64) -> Self {
        println!("seed {seed}");
        let rtx = source.codec().is_video().then_some((RTX, 97));
        let now = crate::clock::tests::instant();
        let send =
            SendParameters { ssrc: SEND, payload_type: 96, rtx, transport_cc: Some(5), ..SendParameters::default() };
        let codec = source.codec();
        let receive = ReceiveParameters { ssrc: SEND, payload_type: 96, rtx, codec, nack: true, pli: codec.is_video() };
        let mut bandwidth = BandwidthController::new(seed as u16);
        bandwidth.set_wanted(source.bits_per_second());
        Self {
            now,
            clock: Clock::new(now, Duration::from_secs(1_800_000_000)),
            publisher: Publisher::new(now, send, source, seed),
            bandwidth,
            receiver: StreamReceiver::new(now, receive),
            twcc: TwccReceiver::new(now),
            tally: ReceivedTally::default(),
            path: Impairment::new(config, seed),
            retransmissions_arrive: true,
            under_way: BTreeMap::new(),
            events: 0,
            arrivals: Vec::new(),
            retransmissions_lost: 0,
            duplicated: 0,
        }
    }

    /// Runs on and tells what was received and sent meanwhile.
    fn run(&mut self, time: Duration) -> (ReceivedTally, SentTally) {
        let end = self.now + time;
        while self.now < end {
            self.step();
            let arrival = self.under_way.first_key_value().map(|((at, _), _)| *at);
            let timers =
                [self.publisher.poll_timeout(), self.receiver.poll_timeout(), self.twcc.poll_timeout(), arrival];
            let next = timers.into_iter().flatten().min().unwrap_or(end);
            self.now = next.max(self.now + Duration::from_micros(1)).min(end);
        }
        let mut received = std::mem::take(&mut self.tally);
        self.receiver.tally(self.now, None, &mut received);
        let mut sent = SentTally::default();
        self.publisher.tally(&mut sent);
        (received, sent)
    }

    fn step(&mut self) {
        while let Some(next) = self.under_way.first_entry().filter(|next| next.key().0 <= self.now) {
            match next.remove() {
                Event::Rtp(packet) => self.receive(&packet),
                Event::Nack(numbers) => self.publish(Some(&numbers)),
                Event::KeyFrameRequest => self.publisher.on_key_frame_request(self.now),
                Event::Feedback(feedback) => {
                    self.bandwidth.on_feedback(self.now, &feedback);
                    self.publisher.allow(self.now, self.bandwidth.allowed().unwrap());
                }
            }
        }
        self.publish(None);
        let requests = self.receiver.poll_requests(self.now);
        if !requests.nack.is_empty() {
            self.answer(Event::Nack(requests.nack));
        }
        if requests.key_frame {
            self.answer(Event::KeyFrameRequest);
        }
        if let Some(feedback) = self.twcc.poll_feedback(self.now, 1) {
            self.answer(Event::Feedback(feedback));
        }
    }

    fn publish(&mut self, nack: Option<&[u16]>) {
        let mut packets = Vec::new();
        let mut send = |packet: &[u8]| packets.push(packet.to_vec());
        let mut out = Outgoing { clock: &self.clock, bandwidth: &mut self.bandwidth, send: &mut send };
        match nack {
            Some(numbers) => self.publisher.on_nack(self.now, numbers.iter().copied(), &mut out),
            None => {
                self.publisher.poll(self.now, &mut out);
                if let Some(report) = self.publisher.poll_report(self.now, &self.clock) {
                    assert_eq!(report.len(), 2);
                }
            }
        }
        for packet in packets {
            self.submit(packet, nack.is_some());
        }
    }

    fn submit(&mut self, packet: Vec<u8>, is_retransmission: bool) {
        let decision = if is_retransmission && !self.retransmissions_arrive {
            None
        } else {
            match self.path.submit(self.now, packet.len()) {
                Decision::Deliver { at, again } => Some((at, again)),
                Decision::Drop(_) => None,
            }
        };
        if is_retransmission {
            self.retransmissions_lost += u64::from(decision.is_none());
        } else {
            self.arrivals.push(decision.map(|(at, _)| at));
        }
        let Some((at, again)) = decision else { return };
        self.duplicated += u64::from(again.is_some());
        for at in [Some(at), again].into_iter().flatten() {
            self.events += 1;
            self.under_way.insert((at, self.events), Event::Rtp(packet.clone()));
        }
    }

    /// The way back is a good one.
    fn answer(&mut self, event: Event) {
        self.events += 1;
        self.under_way.insert((self.now + DELAY, self.events), event);
    }

    fn receive(&mut self, packet: &[u8]) {
        let header = RtpHeader::parse(packet).unwrap();
        let number = header.extension(packet, 5).unwrap();
        self.twcc.on_packet(self.now, u16::from_be_bytes(number.try_into().unwrap()), header.ssrc);
        let payload = header.payload(packet);
        match header.ssrc {
            SEND => {
                let incoming = Incoming { header: &header, payload: Some(payload), payload_len: payload.len() };
                self.receiver.on_packet(self.now, &self.clock, incoming, &mut self.tally);
            }
            RTX => self.receiver.on_retransmission(self.now, &header, payload, &mut self.tally),
            other => panic!("SSRC {other}"),
        }
    }
}

fn audio(talk: f64, dtx: bool) -> Source {
    Source::Audio(AudioSource { talk, dtx, ..AudioSource::default() })
}

fn video(bits_per_second: u32) -> Source {
    Source::Video(VideoSource::at_bitrate(bits_per_second))
}

fn h264(bits_per_second: u32) -> Source {
    Source::Video(VideoSource { codec: VideoCodec::H264, ..VideoSource::at_bitrate(bits_per_second) })
}

fn h265(bits_per_second: u32) -> Source {
    Source::Video(VideoSource { codec: VideoCodec::H265, ..VideoSource::at_bitrate(bits_per_second) })
}

#[test]
fn video_over_a_good_link_arrives_as_sent() {
    let mut link = Link::new(Source::Video(VideoSource::bursts()), GOOD, 1);
    let (received, sent) = link.run(Duration::from_secs(10));
    assert_eq!((sent.sums.packets, sent.sums.frames, sent.sums.key_frames), (5000, 500, 1));
    assert_eq!(sent.sums.bytes, 6_000_000);
    // The last frame is under way.
    let sums = &received.sums;
    assert_eq!((sums.packets, sums.bytes, sums.frames, sums.key_frames), (4990, 5_988_000, 499, 1));
    assert_eq!((sums.missing, sums.lost, sums.freezes_200ms, sums.layer_switches), (0, 0, 0, 0));
    assert_eq!((received.delay.count(), received.delay.max()), (4990, DELAY));
    assert_eq!((received.first_frame.count(), received.first_frame.max()), (1, DELAY));
    let stats = link.receiver.stats();
    assert_eq!((stats.lost(), stats.duplicates, stats.reordered, stats.repaired), (0, 0, 0, 0));
    assert!(stats.longest_gap <= Duration::from_millis(21), "{:?}", stats.longest_gap);
    assert_eq!(stats.jitter, Duration::ZERO);
}

#[test]
fn h264_and_h265_arrive_as_vp8_does() {
    for source in [h264(1_000_000), h265(1_000_000)] {
        let mut link = Link::new(source, GOOD, 2);
        let (received, sent) = link.run(Duration::from_secs(10));
        assert!((received.sums.frames, received.sums.key_frames) == (300, 1), "{received:?}");
        // Parameter sets have no stamp.
        assert_eq!(received.delay.count(), received.sums.packets - 1);
        assert!((sent.sums.bytes as f64 * 8.0 / 10.0 / 1e6 - 1.0).abs() < 0.05, "{sent:?}");
    }
}

#[test]
fn recorded_h265_arrives_as_it_is() {
    let recorded = Bytes::from_static(include_bytes!("../../tests/media/h265.ivf"));
    let file = MediaFile::parse(recorded, Codec::H265).unwrap();
    assert!(file.duration().abs_diff(Duration::from_secs(10)) < Duration::from_micros(1));
    let mut link = Link::new(Source::File(std::sync::Arc::new(file)), GOOD, 10);
    let (received, _) = link.run(Duration::from_millis(1_990));
    // Its first frame alone has parameter sets.
    assert_eq!((received.sums.frames, received.sums.key_frames, received.sums.lost), (30, 2, 0));
    assert_eq!((received.first_frame.count(), received.sums.freezes_200ms), (1, 0));
}

#[test]
fn what_is_counted_is_what_happened() {
    for seed in 0..20 {
        let bad = ImpairmentConfig {
            jitter: Duration::from_millis(3),
            loss: Loss::Random(0.05),
            reorder: 0.02,
            reorder_by: Duration::from_millis(4),
            duplicate: 0.02,
            ..GOOD
        };
        let source = [video(2_000_000), h264(1_000_000), audio(1.0, false), h265(1_000_000)][seed as usize % 4].clone();
        let mut link = Link::new(source, bad, seed);
        let (mut received, mut sent) = link.run(Duration::from_secs(10));
        link.path.set_config(GOOD);
        let (more_received, more_sent) = link.run(Duration::from_secs(2));
        let mut tally = crate::tally::Tally { video: received, sent_video: sent, ..Default::default() };
        tally.append(&crate::tally::Tally { video: more_received, sent_video: more_sent, ..Default::default() });
        (received, sent) = (tally.video, tally.sent_video);

        // What had arrived when, of all from the first that came to the last.
        let arrivals = &link.arrivals;
        let came = |&(_, at): &(usize, &Option<Instant>)| at.is_some_and(|at| at < link.now);
        let first = arrivals.iter().enumerate().filter(came).min_by_key(|(_, at)| **at).unwrap().0;
        let last = arrivals.iter().enumerate().rfind(came).unwrap().0;
        let range = &arrivals[first..=last];
        let mut earliest_later = None;
        let (mut missing, mut lost_on_the_way) = (0, 0);
        for at in range.iter().rev() {
            missing += u64::from(at.is_none_or(|at| earliest_later.is_some_and(|later| later < at)));
            lost_on_the_way += u64::from(at.is_none());
            earliest_later = [earliest_later, *at].into_iter().flatten().min();
        }
        let sums = &received.sums;
        assert_eq!(sums.expected, range.len() as u64);
        assert_eq!(sums.missing, missing);
        // Without a stream of their own, retransmissions cannot be told from what was only overtaken: both were asked
        // for.
        let overtaken = if link.publisher.codec().is_video() { missing - lost_on_the_way } else { 0 };
        assert_eq!((sums.repaired, sums.lost), (missing - overtaken, 0));
        assert_eq!(sums.packets, sums.expected);
        let stats = link.receiver.stats();
        assert_eq!(stats.reordered, overtaken);
        assert_eq!((sums.nacked, sent.sums.nacked), (stats.nacked, stats.nacked));
        let resent = sent.sums.retransmitted - link.retransmissions_lost;
        // Packets before the first that came are duplicates to a receiver that does not know of them.
        let before = arrivals[..first].iter().filter(|at| at.is_some()).count() as u64;
        assert_eq!(stats.duplicates, link.duplicated + resent - sums.repaired + before);
        // Parameter sets have no stamp; a key frame has one packet of them, which may be among the repaired.
        let has_sets = matches!(link.publisher.codec(), Codec::H264 | Codec::H265);
        let unstamped = if has_sets { sums.key_frames } else { 0 };
        let without_delay = sums.packets - received.delay.count();
        assert!((sums.repaired..=sums.repaired + unstamped).contains(&without_delay), "{received:?}");
        let frames = sent.sums.frames - sums.frames;
        assert!(frames <= 2, "{frames} frames are missing");
    }
}

#[test]
fn what_cannot_be_repaired_is_given_up_for_a_key_frame() {
    for source in [video(1_000_000), h264(1_000_000), h265(1_000_000)] {
        let mut link = Link::new(source, ImpairmentConfig { loss: Loss::Random(0.02), ..GOOD }, 3);
        link.retransmissions_arrive = false;
        let (received, sent) = link.run(Duration::from_secs(20));
        link.path.set_config(GOOD);
        let (more_received, more_sent) = link.run(Duration::from_secs(3));
        let sums = [&received.sums, &more_received.sums];
        let (missing, lost) = (sums[0].missing + sums[1].missing, sums[0].lost + sums[1].lost);
        assert!(missing > 10 && missing == lost, "{received:?}");
        assert_eq!(more_received.sums.nacked + received.sums.nacked, 10 * lost);
        // A second of requests, then a key frame: the picture stands still meanwhile.
        assert!(received.sums.freezes_500ms >= 5 && received.sums.frozen_ms > 5000, "{received:?}");
        assert!(received.sums.key_frames > 5 && received.sums.key_frame_requests > 5, "{received:?}");
        let asked = sums[0].key_frame_requests + sums[1].key_frame_requests;
        assert_eq!(sent.sums.key_frame_requests + more_sent.sums.key_frame_requests, asked);
        let (received, _) = link.run(Duration::from_secs(3));
        assert_eq!((received.sums.lost, received.sums.freezes_200ms, received.sums.frames), (0, 0, 90));
    }
}

#[test]
fn key_frames_are_not_made_more_often_than_libwebrtc_makes_them() {
    let mut link = Link::new(video(500_000), GOOD, 4);
    for _ in 0..100 {
        link.receiver.want_key_frame();
        link.publisher.on_key_frame_request(link.now);
        link.run(Duration::from_millis(10));
    }
    let stats = link.publisher.stats();
    assert!(stats.key_frame_requests > 100 && stats.key_frames <= 5, "{stats:?}");
}

#[test]
fn layers_are_told_and_their_loss_is_a_switch() {
    let source = VideoSource { scalability_mode: ScalabilityMode::temporal(3), ..VideoSource::at_bitrate(500_000) };
    let mut link = Link::new(Source::Video(source), GOOD, 5);
    let (received, sent) = link.run(Duration::from_secs(5));
    assert_eq!((sent.sums.frames, received.sums.layer_switches, received.sums.freezes_200ms), (151, 0, 0));
}

#[test]
fn layers_of_vp9_arrive_as_they_are_sent() {
    for (seed, mode) in (20..).zip(["L1T1", "L1T3", "L3T3", "L3T3_KEY", "S2T2"]) {
        let scalability_mode: ScalabilityMode = mode.parse().unwrap();
        let video = Video {
            codec: VideoCodec::Vp9,
            encodings: vec![VideoEncoding { bitrate: 900_000, ..VideoEncoding::default() }],
            scalability_mode: Some(scalability_mode),
            file: None,
        };
        let source = Source::from_video(&video).unwrap().remove(0);
        assert_eq!(source.scalability_mode(), Some(scalability_mode));
        let mut link = Link::new(source, GOOD, seed);
        let (received, sent) = link.run(Duration::from_secs(10));
        assert_eq!((received.sums.frames, received.sums.key_frames), (300, 1), "{mode}: {received:?}");
        assert_eq!((received.sums.layer_switches, received.sums.freezes_200ms), (0, 0), "{mode}");
        assert_eq!(received.delay.count(), received.sums.packets, "{mode}: all of them have stamps");
        assert_eq!(link.receiver.stats().spatial_layer, Some(scalability_mode.spatial_layers - 1), "{mode}");
        assert!((sent.sums.bytes as f64 * 8.0 / 10.0 / 9e5 - 1.0).abs() < 0.05, "{mode}: {sent:?}");
    }
}

#[test]
fn silence_is_no_freeze_and_an_outage_is_one() {
    for seed in 0..5 {
        let mut link = Link::new(audio(0.4, true), ImpairmentConfig { loss: Loss::Random(0.02), ..GOOD }, seed);
        let mut sums = Vec::new();
        for _ in 0..60 {
            sums.push(link.run(Duration::from_secs(1)).0.sums);
        }
        let packets: u64 = sums.iter().map(|sums| sums.packets).sum();
        assert!(packets < 2700, "{packets} of 3000");
        assert!(sums.iter().all(|sums| (sums.freezes_200ms, sums.frozen_ms, sums.streams) == (0, 0, 1)));
        assert_eq!(link.receiver.stats().key_frames, 0);
        link.path.set_config(ImpairmentConfig { blackout: true, ..GOOD });
        let dark = link.run(Duration::from_secs(2)).0.sums;
        assert_eq!((dark.freezes_200ms, dark.freezes_500ms), (1, 1));
        link.path.set_config(GOOD);
        let mut later = link.run(Duration::from_secs(3)).0.sums;
        assert_eq!((later.freezes_200ms, later.freezes_500ms), (0, 0));
        later.frozen_ms += dark.frozen_ms;
        assert!((900..2450).contains(&later.frozen_ms), "{later:?}");
    }
    let mut link = Link::new(audio(0.0, false), GOOD, 6);
    assert_eq!(link.run(Duration::from_secs(2)).1.sums.packets, 100);
    link.publisher.set_paused(true);
    assert_eq!(link.publisher.poll_timeout(), None);
}

#[test]
fn who_is_not_let_through_while_others_are_is_no_outage() {
    let mut link = Link::new(audio(1.0, false), GOOD, 30);
    link.run(Duration::from_secs(2));
    link.publisher.set_paused(true);
    let tally = |link: &mut Link, others_come: bool| {
        link.now += Duration::from_secs(3);
        let mut tally = ReceivedTally::default();
        link.receiver.tally(link.now, others_come.then_some(link.now), &mut tally);
        tally.sums.freezes_500ms
    };
    assert_eq!([true, true, false].map(|others_come| tally(&mut link, others_come)), [0, 0, 1]);
}

#[test]
fn what_is_paused_on_purpose_is_left_out() {
    let mut link = Link::new(video(500_000), GOOD, 7);
    assert_eq!(link.run(Duration::from_secs(2)).0.sums.streams, 1);
    link.publisher.set_paused(true);
    link.receiver.set_paused(link.now, true);
    let paused = link.run(Duration::from_secs(5)).0.sums;
    assert_eq!((paused.streams, paused.freezes_200ms), (0, 0));
    link.publisher.set_paused(false);
    link.receiver.set_paused(link.now, false);
    let resumed = link.run(Duration::from_secs(2)).0;
    assert_eq!((resumed.sums.streams, resumed.sums.freezes_200ms, resumed.sums.lost), (1, 0, 0));
    // It was seen before: this is not its first frame.
    assert_eq!((resumed.sums.key_frames, resumed.first_frame.count()), (1, 0));
    link.publisher.set_paused(true);
    let frozen = link.run(Duration::from_secs(2)).0.sums;
    assert_eq!((frozen.streams, frozen.freezes_200ms, frozen.freezes_500ms), (1, 1, 1));
}

#[test]
fn a_publisher_follows_the_bottleneck_and_comes_back() {
    const RATE: f64 = 600_000.0;
    for seed in 0..4 {
        let queue = Rate { bits_per_second: RATE as u64, queue_bytes: 75_000 };
        let mut link = Link::new(video(2_000_000), ImpairmentConfig { rate: Some(queue), ..GOOD }, seed);
        link.run(Duration::from_secs(15));
        let mut settled = Vec::new();
        for _ in 0..30 {
            settled.push(link.run(Duration::from_secs(1)));
        }
        let rates: Vec<f64> = settled.iter().map(|(received, _)| received.sums.bytes as f64 * 8.0).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        println!("rates {rates:.0?} mean {mean:.0}");
        let mut delay = Histogram::default();
        settled.iter().for_each(|(received, _)| delay.merge(&received.delay));
        println!("delay {delay:?}");
        assert!((0.85 * RATE..RATE).contains(&mean), "{mean}");
        assert!(rates.iter().all(|&rate| rate > 0.7 * RATE), "{rates:?}");
        assert!(delay.quantile(0.5).unwrap() < Duration::from_millis(100), "{delay:?}");
        assert!(delay.quantile(0.99).unwrap() < Duration::from_millis(300), "{delay:?}");

        link.path.set_config(GOOD);
        link.run(Duration::from_secs(40));
        let (received, _) = link.run(Duration::from_secs(5));
        let rate = received.sums.bytes as f64 * 8.0 / 5.0;
        assert!(rate > 1_600_000.0, "{rate}");
    }
}

#[test]
fn a_file_is_sent_as_it_is() {
    // IVF: a second of VP8 at 30 frames/s, of which two are key frames.
    let mut ivf = b"DKIF\0\0\x20\0VP80\x80\x02\x68\x01\x1e\0\0\0\x01\0\0\0\x1e\0\0\0\0\0\0\0".to_vec();
    for frame in 0..30_u64 {
        let is_key = frame % 20 == 0;
        let bytes = vec![u8::from(!is_key); if is_key { 5000 } else { 700 }];
        ivf.extend([&(bytes.len() as u32).to_le_bytes()[..], &frame.to_le_bytes(), &bytes].concat());
    }
    let file = MediaFile::parse(ivf.into(), Codec::Vp8).unwrap();
    let mut link = Link::new(Source::File(std::sync::Arc::new(file)), GOOD, 9);
    // Little is allowed, which a file cannot heed.
    link.bandwidth.on_remb(50_000.0);
    let (received, sent) = link.run(Duration::from_millis(3010));
    assert_eq!((sent.sums.frames, sent.sums.key_frames), (91, 7));
    assert_eq!((received.sums.frames, received.sums.key_frames, received.sums.freezes_200ms), (90, 6, 0));
    assert_eq!((received.delay.count(), received.first_frame.count()), (0, 1));
    // The 4th frame is due. Who asks for a key frame gets the 21st instead.
    link.run(Duration::from_millis(80));
    link.receiver.want_key_frame();
    let (received, _) = link.run(Duration::from_millis(100));
    assert_eq!((received.sums.key_frames, received.sums.lost), (1, 0));
}

#[test]
fn remb_is_a_cap_and_nothing_at_all_is_none() {
    let mut bandwidth = BandwidthController::new(0);
    bandwidth.set_wanted(2_000_000.0);
    assert_eq!(bandwidth.allowed(), None);
    bandwidth.on_remb(700_000.0);
    assert_eq!(bandwidth.allowed(), Some(700_000.0));
    let mut link = Link::new(video(2_000_000), GOOD, 8);
    link.bandwidth = bandwidth;
    link.run(Duration::from_secs(5));
    let (received, _) = link.run(Duration::from_secs(10));
    let rate = received.sums.bytes as f64 * 8.0 / 10.0;
    assert!((rate / 700_000.0 - 1.0).abs() < 0.1, "{rate}");
}

#[test]
fn a_stream_takes_little_memory() {
    assert!(size_of::<StreamReceiver>() <= 1056, "{}", size_of::<StreamReceiver>());
}
