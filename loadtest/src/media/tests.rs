//! A publisher and a receiver with a bad link between them, on virtual time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::clock::Clock;

const SEND: u32 = 1000;
const RTX: u32 = 2000;
/// One way.
const DELAY: Duration = Duration::from_millis(20);

struct Link {
    now: Instant,
    clock: Clock,
    publisher: Publisher,
    receiver: StreamReceiver,
    loss: f64,
    retransmissions_arrive: bool,
    rng: ChaCha8Rng,
    transport_sequence_number: u16,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Link {
    fn new(source: Source, vp8: bool, loss: f64, seed: u64) -> Self {
        println!("seed {seed}");
        let now = crate::clock::tests::instant();
        let send = SendParameters {
            ssrc: SEND,
            payload_type: 96,
            rtx: Some((RTX, 97)),
            transport_cc: Some(5),
            ..SendParameters::default()
        };
        let receive = ReceiveParameters {
            ssrc: SEND,
            payload_type: 96,
            rtx: Some((RTX, 97)),
            clock_rate: 90_000,
            nack: true,
            pli: true,
            vp8,
        };
        Self {
            now,
            clock: Clock::new(now, Duration::from_secs(1_800_000_000)),
            publisher: Publisher::new(now, send, source, seed),
            receiver: StreamReceiver::new(now, receive),
            loss,
            retransmissions_arrive: true,
            rng: ChaCha8Rng::seed_from_u64(seed),
            transport_sequence_number: 0,
            under_way: VecDeque::new(),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
            let arrival = self.under_way.front().map(|&(at, _)| at);
            let next = [arrival, self.publisher.poll_timeout(), self.receiver.poll_timeout()];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            self.now = next.clamp(self.now + Duration::from_micros(1), end);
        }
    }

    fn step(&mut self) {
        let Self {
            now,
            clock,
            publisher,
            receiver,
            loss,
            retransmissions_arrive,
            rng,
            transport_sequence_number,
            under_way,
        } = self;
        let arrives = *now + DELAY;
        let mut send = |packet: &[u8]| {
            if !rng.random_bool(*loss) {
                under_way.push_back((arrives, packet.to_vec()));
            }
        };
        let mut out = Outgoing { clock, transport_sequence_number, send: &mut send };
        publisher.poll(*now, &mut out);
        if let Some(report) = publisher.poll_report(*now, clock) {
            assert_eq!(report.len(), 2);
        }
        let requests = receiver.poll_requests(*now);
        publisher.on_nack(*now, requests.nack.into_iter(), &mut out);
        if requests.key_frame {
            publisher.on_key_frame_request();
        }
        while let Some((_, packet)) = under_way.pop_front_if(|(at, _)| *at <= *now) {
            let header = RtpHeader::parse(&packet).unwrap();
            match header.ssrc {
                SEND => receiver.on_packet(*now, clock, &header, Some(header.payload(&packet))),
                RTX if !*retransmissions_arrive => {}
                RTX => receiver.on_retransmission(*now, clock, &header, header.payload(&packet)),
                other => panic!("SSRC {other}"),
            }
        }
    }
}

#[test]
fn video_over_a_good_link_arrives_as_sent() {
    let mut link = Link::new(Source::Video(VideoSource::bursts()), true, 0.0, 1);
    link.run(Duration::from_secs(10));
    let (sent, stats) = (link.publisher.stats(), link.receiver.stats());
    assert_eq!((sent.packets, sent.frames, sent.key_frames), (5000, 500, 1));
    assert_eq!((stats.lost(), stats.duplicates, stats.reordered, stats.repaired), (0, 0, 0, 0));
    // The last frame is under way.
    assert_eq!((stats.packets, stats.frames, stats.key_frames), (4990, 499, 1));
    assert_eq!(stats.delay.quantile(0.99).unwrap().as_millis(), DELAY.as_millis());
    assert_eq!(stats.time_to_key_frame, Some(DELAY));
    assert!(stats.longest_gap <= Duration::from_millis(21), "{:?}", stats.longest_gap);
}

#[test]
fn loss_is_repaired_by_retransmission() {
    for seed in 0..20 {
        let mut link = Link::new(Source::Video(VideoSource::at_bitrate(2_000_000)), true, 0.1, seed);
        link.run(Duration::from_secs(10));
        link.loss = 0.0;
        link.run(Duration::from_secs(2));
        let stats = link.receiver.stats();
        assert_eq!(stats.lost(), 0);
        assert!(stats.repaired > stats.packets / 20, "{stats:?}");
        assert_eq!(link.publisher.stats().nacked, stats.nacked);
    }
}

#[test]
fn what_cannot_be_repaired_is_given_up_for_a_key_frame() {
    let mut link = Link::new(Source::Video(VideoSource::at_bitrate(1_000_000)), true, 0.05, 3);
    link.retransmissions_arrive = false;
    link.run(Duration::from_secs(5));
    let stats = link.receiver.stats();
    assert!(stats.lost() > 0 && stats.nacked >= 10 * stats.key_frame_requests, "{stats:?}");
    assert!(stats.key_frame_requests > 1 && stats.key_frames > 1, "{stats:?}");
    assert_eq!(link.publisher.stats().key_frame_requests, stats.key_frame_requests);
}

#[test]
fn temporal_layers_and_audio_have_their_rhythm() {
    let video = VideoSource { temporal_layers: 3, ..VideoSource::at_bitrate(500_000) };
    let mut link = Link::new(Source::Video(video), true, 0.0, 5);
    link.run(Duration::from_secs(2));
    assert_eq!(link.publisher.stats().frames, 61);

    let mut link = Link::new(Source::Audio(AudioSource::default()), false, 0.0, 6);
    link.run(Duration::from_secs(2));
    assert_eq!(link.publisher.stats().packets, 100);
    assert_eq!(link.receiver.stats().key_frames, 0);
    link.publisher.set_paused(true);
    assert_eq!(link.publisher.poll_timeout(), None);
}
