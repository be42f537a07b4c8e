//! What publishers do that is neither loss nor malice: they begin anew, go on with other SSRCs, stop, and send what
//! nobody can use. One publisher, and a viewer at its node and at another one.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use sluice_media::make_ufrag;
use sluice_media::messages::{Account, Request, RequestError, Response, WorkerEvent, WorkerIndex};
use sluice_media::secure::ice::IceCredentials;
use sluice_media::wire::rtcp::{self, Compound, Packet, SenderInfo};
use sluice_media::wire::rtp::{RtpHeader, RtpPacket};
use sluice_mesh::wan::ImpairmentConfig;
use sluice_proto::ids::{ConsumerId, ProducerId, RouterId};
use sluice_proto::ortc::{MediaKind, RtpParameters};

use crate::client::Connection;
use crate::mesh::{Mesh, Source, UserEvent};
use crate::parameters::{self, CLIENT_OPUS, CLIENT_VP8, CLIENT_VP8_RTX, Ssrcs};

const NEAR: usize = 0;
const FAR: usize = 1;

const SSRCS: Ssrcs = Ssrcs { media: 1_111, rtx: 1_112 };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct Viewer {
    connection: Connection,
    ssrcs: Ssrcs,
    /// Header and payload of what came, retransmissions left out.
    received: Vec<(RtpHeader, Vec<u8>)>,
}

/// A publisher on node 0 and its viewers.
struct Stage {
    mesh: Mesh<()>,
    routers: Vec<RouterId>,
    publisher: Connection,
    viewers: Vec<Viewer>,
    /// SSRCs of the key-frame requests that the publisher got.
    key_frame_requests: Vec<u32>,
    /// Packets that the publisher was asked for.
    nacks: Vec<u16>,
    kind: MediaKind,
    dtx: bool,
    next_timestamp: u32,
    next_port: u16,
}

/// What there is to say of a packet.
#[derive(Clone, Copy)]
struct Sent<'a> {
    ssrc: u32,
    seq: u16,
    payload: &'a [u8],
    payload_type: u8,
    mid: Option<&'a [u8]>,
}

impl Stage {
    fn new(kind: MediaKind) -> Self {
        let path = ImpairmentConfig { delay: ms(5), ..ImpairmentConfig::default() };
        let mut mesh = Mesh::new(1, 2, path, 1_200);
        let routers: Vec<RouterId> = (0..2).map(|_| RouterId::from_random_bytes(mesh.rng.random())).collect();
        for (node, router) in routers.iter().enumerate() {
            mesh.request(node, Request::CreateRouter { router: *router, account: Account(0) }).expect("a new router");
        }
        let mut next_port = 10_000;
        let publisher = connect(&mut mesh, &routers, NEAR, &mut next_port);
        Self {
            mesh,
            routers,
            publisher,
            viewers: Vec::new(),
            key_frame_requests: Vec::new(),
            nacks: Vec::new(),
            kind,
            dtx: false,
            next_timestamp: u32::MAX - 1_000,
            next_port,
        }
    }

    fn produce(&mut self, rtp: RtpParameters) -> Result<ProducerId, RequestError> {
        let producer = ProducerId::from_random_bytes(self.mesh.rng.random());
        let (transport, kind) = (self.publisher.transport, self.kind);
        let mapping = parameters::mapping(self.mesh.rng.random());
        self.mesh.request(NEAR, Request::Produce { transport, producer, kind, rtp, mapping, paused: false })?;
        Ok(producer)
    }

    /// A stage with one producer, seen at both nodes.
    fn with_producer(kind: MediaKind, change: impl FnOnce(&mut RtpParameters)) -> (Self, ProducerId) {
        let mut stage = Self::new(kind);
        let mut rtp = parameters::client(kind, "0", SSRCS);
        change(&mut rtp);
        stage.dtx = rtp.encodings[0].dtx == Some(true);
        let producer = stage.produce(rtp).expect("a new producer");
        stage.view(producer, NEAR);
        stage.view(producer, FAR);
        stage.pass(ms(20));
        (stage, producer)
    }

    fn view(&mut self, producer: ProducerId, node: usize) {
        let mut rtp = parameters::router(self.kind, "0", Ssrcs { media: 77, rtx: 78 });
        rtp.encodings[0].dtx = Some(self.dtx);
        let source = Source { producer, kind: self.kind, rtp, home: NEAR };
        self.mesh.open_route(&source, node, self.routers[node]);
        let connection = connect(&mut self.mesh, &self.routers, node, &mut self.next_port);
        let (transport, kind) = (connection.transport, self.kind);
        let consumer = ConsumerId::from_random_bytes(self.mesh.rng.random());
        let ssrcs = Ssrcs { media: 5_000, rtx: 5_001 };
        let rtp = parameters::router(kind, "7", ssrcs);
        let request = Request::Consume { transport, consumer, producer, kind, rtp, paused: false };
        self.mesh.request(node, request).expect("a new consumer");
        self.viewers.push(Viewer { connection, ssrcs, received: Vec::new() });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.mesh.now + time;
        while let Some(UserEvent::Datagram { address, mut data }) = self.mesh.next(end) {
            let is_rtcp = (192..=223).contains(&data[1]);
            if address == self.publisher.address {
                let compound = self.publisher.open(&mut data).expect("it is authentic").to_vec();
                self.hear(&compound);
                continue;
            }
            let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.connection.address == address) else {
                continue;
            };
            let plain = viewer.connection.open(&mut data).expect("it is authentic");
            if !is_rtcp {
                let packet = RtpPacket::parse(plain).expect("a node sends well-formed RTP");
                if packet.header.ssrc == viewer.ssrcs.media {
                    viewer.received.push((packet.header, packet.payload.to_vec()));
                }
            }
        }
    }

    fn hear(&mut self, compound: &[u8]) {
        for packet in Compound::new(compound) {
            match packet.expect("a node sends well-formed RTCP") {
                Packet::Pli { media_ssrc } => self.key_frame_requests.push(media_ssrc),
                Packet::Nack { items, .. } => self.nacks.extend(items.sequence_numbers()),
                _ => {}
            }
        }
    }

    /// A whole frame in a packet that names its MID. Key frames come on request, as the first one does.
    fn send(&mut self, ssrc: u32, seq: u16) {
        let is_key = std::mem::take(&mut self.key_frame_requests).contains(&ssrc) || seq.is_multiple_of(97);
        let number = seq.to_be_bytes();
        let payload = [0x10, if is_key { 0x50 } else { 0x51 }, number[0], number[1]];
        let payload_type = if self.kind == MediaKind::Video { CLIENT_VP8 } else { CLIENT_OPUS };
        self.send_packet(Sent { ssrc, seq, payload: &payload, payload_type, mid: Some(b"0") });
    }

    /// A packet of a frame of its own, and the time until the next one.
    fn send_packet(&mut self, sent: Sent<'_>) {
        self.next_timestamp = self.next_timestamp.wrapping_add(900);
        let packet = self.packet(sent);
        let sealed = self.publisher.seal_rtp(packet);
        self.mesh.send(self.publisher.address, &sealed);
        self.pass(ms(10));
    }

    fn packet(&self, sent: Sent<'_>) -> Vec<u8> {
        let header = RtpHeader {
            marker: true,
            payload_type: sent.payload_type,
            sequence_number: sent.seq,
            timestamp: self.next_timestamp,
            ssrc: sent.ssrc,
        };
        let mut packet = header.to_bytes(sent.mid.is_some()).to_vec();
        if let Some([mid]) = sent.mid {
            packet.extend([0xbe, 0xde, 0, 1, 0x10, *mid, 0, 0]);
        }
        packet.extend_from_slice(sent.payload);
        packet
    }

    fn send_compound(&mut self, compound: Vec<u8>) {
        let sealed = self.publisher.seal_rtcp(compound);
        self.mesh.send(self.publisher.address, &sealed);
        self.pass(ms(10));
    }

    /// Forgets what was sent until now.
    fn clear(&mut self) {
        self.pass(ms(20));
        self.viewers.iter_mut().for_each(|viewer| viewer.received.clear());
        self.nacks.clear();
    }

    /// What the viewers got since the last clearing goes on without a gap, in numbers and in time, and is at least so
    /// many packets.
    fn assert_continuous(&mut self, at_least: usize) {
        self.pass(ms(20));
        for viewer in &self.viewers {
            assert!(viewer.received.len() >= at_least, "{} of {at_least}", viewer.received.len());
            for pair in viewer.received.windows(2) {
                assert_eq!(pair[1].0.sequence_number, pair[0].0.sequence_number.wrapping_add(1));
                let step = pair[1].0.timestamp.wrapping_sub(pair[0].0.timestamp);
                assert!((1..90_000).contains(&step), "timestamps jump by {step}");
            }
        }
    }

    fn scores(&self, node: usize) -> Vec<u8> {
        let score = |event: &WorkerEvent| match event {
            WorkerEvent::ProducerScore { scores, .. } if node == NEAR => scores.first().map(|of| of.score),
            WorkerEvent::ConsumerScore { scores, .. } if node == FAR => Some(scores.producer),
            _ => None,
        };
        self.mesh.events(node).iter().filter_map(score).collect()
    }

    fn drops(&mut self, reason: &str) -> u64 {
        let drops = self.mesh.snapshot(NEAR).drops;
        drops.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
    }
}

fn connect(mesh: &mut Mesh<()>, routers: &[RouterId], node: usize, port: &mut u16) -> Connection {
    let address = SocketAddr::from(([10, 0, 0, 1], *port));
    *port += 1;
    let path = ImpairmentConfig { delay: ms(5), ..ImpairmentConfig::default() };
    mesh.connect(address, node, path, path);
    let (connection, keys) = Connection::new(&mut mesh.rng, node, address);
    let (router, transport) = (routers[node], connection.transport);
    let ice = IceCredentials { ufrag: make_ufrag(WorkerIndex(0), &format!("{port:016x}")), pwd: "p".repeat(24) };
    mesh.request(node, Request::CreateWebRtcTransport { router, transport, ice, data_channels: true })
        .expect("a new transport");
    mesh.request(node, Request::ConnectWithSrtpKeys { transport, keys }).expect("it is not connected yet");
    connection
}

#[test]
fn a_client_that_goes_on_with_another_ssrc_is_followed() {
    for kind in [MediaKind::Video, MediaKind::Audio] {
        for (said, goodbye) in [(true, false), (true, true), (false, false), (false, true)] {
            let (mut stage, _) = Stage::with_producer(kind, |rtp| {
                if !said {
                    rtp.encodings[0].ssrc = None;
                    rtp.encodings[0].rtx = None;
                }
            });
            (970..1_030).for_each(|seq| stage.send(1_111, seq));
            if goodbye {
                let mut compound = Vec::new();
                rtcp::bye(&mut compound, 1_111);
                stage.send_compound(compound);
            }
            // Another line of timestamps as well.
            stage.next_timestamp = stage.next_timestamp.wrapping_add(0x9000_0000);
            (65_400..65_550).for_each(|seq: u32| stage.send(2_222, seq as u16));
            stage.assert_continuous(if goodbye && kind == MediaKind::Audio { 210 } else { 200 });
            assert!(stage.nacks.is_empty(), "{:?}", stage.nacks);
            assert_eq!(stage.drops("unknown_ssrc"), if goodbye { 0 } else { 2 });
            // The first one is forgotten.
            stage.send(1_111, 1_030);
            assert_eq!(stage.drops("unknown_ssrc"), if goodbye { 1 } else { 3 });
        }
    }
}

#[test]
fn a_change_of_ssrc_carries_the_clock_along() {
    let (mut stage, producer) = Stage::with_producer(MediaKind::Audio, |_| {});
    (0..10).for_each(|seq| stage.send(1_111, seq));
    stage.next_timestamp = 7;
    (0..10).for_each(|seq| stage.send(2_222, seq));
    let mut compound = Vec::new();
    let info = SenderInfo { ssrc: 2_222, ntp: 5 << 32, rtp_timestamp: stage.next_timestamp, packets: 10, octets: 40 };
    rtcp::sender_report(&mut compound, &info);
    stage.send_compound(compound);
    let newest = stage.viewers[NEAR].received.last().expect("it was sent").0.timestamp;
    stage.mesh.request(NEAR, Request::ProducerStats { producer }).expect("it is there");
    let told = stage.viewers[NEAR].received.len();
    assert_eq!(told, 18);
    assert!(newest.wrapping_sub(u32::MAX - 1_000) < 90_000, "it went on where the first one was");
}

#[test]
fn other_nodes_are_told_of_a_clock_no_oftener_than_is_of_use() {
    let (mut stage, _) = Stage::with_producer(MediaKind::Audio, |_| {});
    let before = stage.mesh.messages;
    for seq in 0..100 {
        stage.send(1_111, seq);
        let mut compound = Vec::new();
        for ntp in 0..40 {
            rtcp::sender_report(
                &mut compound,
                &SenderInfo { ssrc: 1_111, ntp, rtp_timestamp: 1, packets: 1, octets: 1 },
            );
        }
        stage.send_compound(compound);
    }
    // Two seconds: ten clocks there, two statistics back, and one of each for the time that it takes.
    let said = stage.mesh.messages - before;
    assert!(said <= 14, "{said} messages");
}

#[test]
fn nobody_takes_the_stream_of_another_producer() {
    let (mut stage, _) = Stage::with_producer(MediaKind::Video, |_| {});
    stage.produce(parameters::client(MediaKind::Video, "1", Ssrcs { media: 3_333, rtx: 3_334 })).expect("a new one");
    let payload = [0x10, 0x50, 0, 0];
    for seq in 0..50 {
        stage.send(1_111, seq);
        // The other producer's SSRC under this one's MID, and one that nobody has while this one goes on.
        let forged = Sent { ssrc: 3_333, seq, payload: &payload, payload_type: CLIENT_VP8, mid: Some(b"0") };
        stage.send_packet(forged);
        stage.send_packet(Sent { ssrc: 4_444, ..forged });
    }
    assert_eq!(stage.drops("unknown_ssrc"), 50);
    for viewer in &stage.viewers {
        assert_eq!(viewer.received.len(), 50);
        assert!(viewer.received.iter().all(|(_, payload)| payload.len() == 4));
    }
}

#[test]
fn a_client_that_counts_anew_is_followed_through_loss_and_reordering() {
    let in_order: Vec<u16> = (0..150).collect();
    let every_second_lost: Vec<u16> = (0..300).step_by(2).collect();
    let pairs_swapped: Vec<u16> = (0..150).map(|offset| offset ^ 1).collect();
    for order in [&in_order, &every_second_lost, &pairs_swapped] {
        for first in [30_000, 500] {
            let (mut stage, _) = Stage::with_producer(MediaKind::Audio, |_| {});
            (1_000..1_090).for_each(|seq| stage.send(1_111, seq));
            stage.clear();
            order.iter().for_each(|offset| stage.send(1_111, first + offset));
            for viewer in &stage.viewers {
                assert!(viewer.received.len() >= order.len() - 3, "{} of {}", viewer.received.len(), order.len());
            }
            assert_eq!(stage.drops("rtp_sequence_jump"), 1);
        }
    }
}

#[test]
fn a_video_that_counts_anew_begins_with_a_key_frame() {
    let (mut stage, _) = Stage::with_producer(MediaKind::Video, |_| {});
    (970..1_060).for_each(|seq| stage.send(1_111, seq));
    stage.clear();
    stage.key_frame_requests.clear();
    (30_000..30_060).for_each(|seq| stage.send(1_111, seq));
    for viewer in &stage.viewers {
        assert!(viewer.received.len() >= 50, "{} of 60", viewer.received.len());
        assert_eq!(viewer.received[0].1[1], 0x50, "the first one is a key frame");
    }
}

#[test]
fn a_stream_whose_first_packets_were_lost_before_the_wrap_arrives() {
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let (mut stage, _) = Stage::with_producer(kind, |_| {});
        for seq in [65_534, 65_535] {
            let payload_type = if kind == MediaKind::Video { CLIENT_VP8 } else { CLIENT_OPUS };
            let packet = stage.packet(Sent { ssrc: 1_111, seq, payload: &[1], payload_type, mid: None });
            stage.publisher.seal_rtp(packet);
        }
        (0..100).for_each(|seq| stage.send(1_111, seq));
        stage.assert_continuous(100);
    }
}

#[test]
fn a_camera_is_seen_after_a_day_of_being_switched_on_and_off() {
    let mut stage = Stage::new(MediaKind::Video);
    for cycle in 0..1_440_u32 {
        let ssrcs = Ssrcs { media: 10_000 + 2 * cycle, rtx: 10_001 + 2 * cycle };
        let producer = stage.produce(parameters::client(MediaKind::Video, "0", ssrcs)).expect("a new producer");
        let rtx = Sent { ssrc: ssrcs.rtx, seq: 0, payload: &[], payload_type: CLIENT_VP8_RTX, mid: None };
        stage.send_packet(rtx);
        stage.send(ssrcs.media, 0);
        if cycle == 1_439 {
            stage.view(producer, NEAR);
            (1..100).for_each(|seq| stage.send(ssrcs.media, seq));
            stage.assert_continuous(95);
        }
        stage.mesh.request(NEAR, Request::CloseProducer { producer }).expect("it is there");
        // What was on its way is late.
        stage.send(ssrcs.media, 200);
    }
    assert_eq!(stage.drops("srtp_too_many_streams"), 0);
}

#[test]
fn a_stream_that_stops_has_no_score_at_any_node() {
    for (kind, dtx, silence) in
        [(MediaKind::Video, false, 1_500), (MediaKind::Audio, false, 1_500), (MediaKind::Audio, true, 5_000)]
    {
        let (mut stage, producer) = Stage::with_producer(kind, |rtp| {
            (rtp.encodings[0].dtx, rtp.encodings[0].rid) = (dtx.then_some(true), Some("only".to_owned()));
        });
        (0..200).for_each(|seq| stage.send(1_111, seq));
        stage.pass(ms(if dtx { 4_000 } else { 1_000 }));
        assert_eq!((stage.scores(NEAR), stage.scores(FAR)), (vec![10], vec![]));
        stage.pass(ms(silence + 1_100));
        assert_eq!((stage.scores(NEAR), stage.scores(FAR)), (vec![10, 0], vec![0]));
        match stage.mesh.request(NEAR, Request::ProducerStats { producer }) {
            Ok(Response::ProducerStats(stats)) => {
                let rid = stats[0].rid.as_deref();
                assert_eq!((stats[0].score, stats[0].ssrc, rid), (0, 1_111, Some("only")));
            }
            other => panic!("{other:?}"),
        }
        (200..400).for_each(|seq| stage.send(1_111, seq));
        assert_eq!(stage.scores(NEAR), [10, 0, 10]);
        // What is paused is meant to be silent.
        stage.mesh.request(NEAR, Request::PauseProducer { producer }).expect("it is there");
        stage.pass(ms(10_000));
        assert_eq!(stage.scores(NEAR), [10, 0, 10]);
    }
}

#[test]
fn what_cannot_be_used_leaves_no_hole() {
    let (mut stage, _) = Stage::with_producer(MediaKind::Video, |_| {});
    (0..10).for_each(|seq| stage.send(1_111, seq));
    let large = vec![0x10; 1_501];
    let media = Sent { ssrc: 1_111, seq: 10, payload: &[0x10, 0x51], payload_type: CLIENT_VP8, mid: Some(b"0") };
    stage.send_packet(Sent { payload_type: 126, ..media });
    stage.send_packet(Sent { seq: 11, payload: &large, ..media });
    for (seq, padding) in [(12, 0), (13, 200)] {
        let mut packet = stage.packet(Sent { seq, payload: &[0x10, 0x51, padding], ..media });
        packet[0] |= 0x20;
        let sealed = stage.publisher.seal_rtp(packet);
        stage.mesh.send(stage.publisher.address, &sealed);
    }
    (14..100).for_each(|seq| stage.send(1_111, seq));
    stage.assert_continuous(96);
    assert!(stage.nacks.is_empty(), "{:?}", stage.nacks);
    let counted = ["unknown_payload_type", "too_large", "rtp_malformed"].map(|reason| stage.drops(reason));
    assert_eq!(counted, [1, 1, 2]);
}

#[test]
fn a_retransmission_that_comes_after_a_pause_asks_for_nothing() {
    let (mut stage, producer) = Stage::with_producer(MediaKind::Video, |_| {});
    (0..50).for_each(|seq| stage.send(1_111, seq));
    stage.mesh.request(NEAR, Request::PauseProducer { producer }).expect("it is there");
    (51..500).for_each(|seq| stage.send(1_111, seq));
    stage.mesh.request(NEAR, Request::ResumeProducer { producer }).expect("it is there");
    let late = Sent { ssrc: 1_112, seq: 0, payload: &[0, 50, 0x10, 0x51], payload_type: CLIENT_VP8_RTX, mid: None };
    stage.send_packet(late);
    (500..550).for_each(|seq| stage.send(1_111, seq));
    assert!(stage.nacks.is_empty(), "{:?}", stage.nacks);
}

#[test]
fn header_extensions_with_ids_above_14_are_read() {
    for (mid_id, wide_id) in [(16, 17), (200, 255)] {
        let (mut stage, _) = Stage::with_producer(MediaKind::Audio, |rtp| {
            rtp.encodings[0].ssrc = None;
            rtp.header_extensions[0].id = mid_id;
            rtp.header_extensions[2].id = wide_id;
        });
        for seq in 0..60 {
            let sent = Sent { ssrc: 1_111, seq, payload: &[1, 2, 3], payload_type: CLIENT_OPUS, mid: None };
            let mut packet = stage.packet(sent);
            packet[0] |= 0x10;
            let extensions = [0x10, 0x0f, 0, 2, mid_id as u8, 1, b'0', wide_id as u8, 2, 0, seq as u8, 0];
            packet.splice(12..12, extensions);
            let sealed = stage.publisher.seal_rtp(packet);
            stage.mesh.send(stage.publisher.address, &sealed);
            stage.pass(ms(20));
        }
        assert!(stage.viewers.iter().all(|viewer| viewer.received.len() == 60));
    }
}
