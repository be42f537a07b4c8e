//! Any bytes and any sequence of inputs are answered, counted or ignored; none is a panic and none makes state grow.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use sluice_media::TransportAddress;
use sluice_media::messages::{PipeEnd, Request, RouteIn};
use sluice_media::{Datagram, Input};
use sluice_mesh::{Frame, FrameClass, FrameFlags, LinkKey};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{FeedbackBody, Layers, RouteFeedback, RouteStats, Wanted};

use crate::DEFAULT_SEEDS;
use crate::seeds::for_each_seed;
use crate::world::World;

fn bytes(world: &mut World, max: usize) -> Vec<u8> {
    let len = world.mesh.rng.random_range(0..max);
    (0..len).map(|_| world.mesh.rng.random()).collect()
}

/// RTP or RTCP that the keys of a client vouch for and that is nonsense all the same.
fn authentic_nonsense(world: &mut World) -> (SocketAddr, Vec<u8>) {
    let client = world.mesh.rng.random_range(0..world.clients.len());
    let mut packet = bytes(world, 200);
    packet.resize(packet.len().max(16), 0);
    packet[0] = 0x80 | packet[0] & 0x3f;
    let is_rtcp = world.mesh.rng.random::<bool>();
    if is_rtcp {
        packet.truncate(packet.len() / 4 * 4);
        packet[1] = world.mesh.rng.random_range(200..208);
    } else {
        packet[0] &= 0x8f | if world.mesh.rng.random() { 0x10 } else { 0 };
        packet[1] = [96, 97, 111, 96 | 0x80][world.mesh.rng.random_range(0..4)];
        if world.mesh.rng.random() {
            let publication = world.mesh.rng.random_range(0..world.publications.len());
            let ssrcs = world.publications[publication].ssrcs;
            let ssrc = if world.mesh.rng.random() { ssrcs.media } else { ssrcs.rtx };
            packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        }
        // The header must be whole, or the client could not seal it.
        packet[0] &= 0xd0;
        if packet[0] & 0x10 != 0 {
            packet[12..16].copy_from_slice(&[0xbe, 0xde, 0, 0]);
        }
    }
    let connections = &mut world.clients[client];
    let connection = if world.mesh.rng.random() { &mut connections.sending } else { &mut connections.receiving };
    let sealed = if is_rtcp { connection.try_seal_rtcp(packet) } else { connection.try_seal_rtp(packet) };
    (connection.address, sealed.unwrap_or_default())
}

fn feedback(world: &mut World) -> RouteFeedback {
    let rng = &mut world.mesh.rng;
    let body = match rng.random_range(0..7) {
        0 => FeedbackBody::KeyFrameRequest(rng.random()),
        1 => FeedbackBody::Nack((0..rng.random_range(0..200)).map(|_| rng.random()).collect()),
        2 => FeedbackBody::SenderReport { ssrc: rng.random(), ntp: rng.random(), rtp_timestamp: rng.random() },
        3 => FeedbackBody::LayersWanted(Wanted(std::array::from_fn(|_| {
            rng.random::<bool>().then(|| Layers { spatial: rng.random(), temporal: rng.random_range(0..4) })
        }))),
        4 => FeedbackBody::StreamsOffered(rng.random()),
        5 => FeedbackBody::Stats(RouteStats { received: rng.random(), lost: rng.random(), repaired: rng.random() }),
        _ => FeedbackBody::LayersCarried(None),
    };
    RouteFeedback { route: rng.random_range(0..6), epoch: rng.random_range(0..3), body }
}

fn frame(world: &mut World) -> Frame {
    let mut packet = bytes(world, 100);
    let rng = &mut world.mesh.rng;
    if rng.random() && packet.len() > 12 {
        packet[0] = 0x80 | packet[0] & 0x10;
    }
    Frame {
        route: RouteId(rng.random_range(0..6)),
        epoch: RouteEpoch(rng.random_range(0..3)),
        seq: rng.random(),
        flags: FrameFlags { retransmission: rng.random() },
        class: FrameClass::Video { temporal: rng.random_range(0..6), spatial: 0, key: rng.random() },
        packet: Bytes::from(packet),
    }
}

fn request(world: &mut World, node: usize) {
    let publication = world.mesh.rng.random_range(0..world.publications.len());
    let subscription = world.mesh.rng.random_range(0..world.subscriptions.len());
    let client = world.mesh.rng.random_range(0..world.clients.len());
    let producer = world.publications[publication].id;
    let consumer = world.subscriptions[subscription].consumer;
    let transport = world.clients[client].receiving.transport;
    let to = PipeEnd::Node(LinkKey(world.mesh.rng.random_range(0..3)));
    let (route, epoch) = (RouteId(world.mesh.rng.random_range(0..6)), RouteEpoch(world.mesh.rng.random_range(0..3)));
    let way = RouteIn { from: to, route, epoch };
    let way = world.mesh.rng.random::<bool>().then_some(way);
    let request = match world.mesh.rng.random_range(0..14) {
        0 => Request::PauseProducer { producer },
        1 => Request::ResumeProducer { producer },
        2 => Request::PauseConsumer { consumer },
        3 => Request::ResumeConsumer { consumer },
        4 => Request::RequestKeyFrame { consumer },
        5 => Request::ConsumerStats { consumer },
        6 => Request::ProducerStats { producer },
        7 => Request::TransportStats { transport },
        8 => Request::CreatePipeConsumer { producer, to, route, epoch, wanted: Wanted::ALL },
        9 => Request::ClosePipeConsumer { to, route, epoch },
        10 => Request::CloseConsumer { consumer },
        11 if world.mesh.rng.random_range(0..20) == 0 => Request::CloseProducer { producer },
        12 if world.mesh.rng.random_range(0..20) == 0 => Request::CloseTransport { transport },
        13 => Request::MovePipeProducer { producer, route: way },
        _ => Request::Snapshot,
    };
    // Refusals are as good as acceptance here.
    let _ = world.mesh.request(node, request);
}

#[test]
fn nothing_that_comes_in_is_a_panic() {
    for_each_seed("nothing_that_comes_in_is_a_panic", DEFAULT_SEEDS, |seed| {
        let mut world = World::new(seed, 2, Default::default(), Default::default());
        for node in 0..2 {
            let client = world.add_client(node);
            world.add_publication(client, MediaKind::Video);
            world.add_publication(client, MediaKind::Audio);
        }
        for (client, publication) in [(0, 2), (0, 3), (1, 0), (1, 1)] {
            world.add_subscription(client, publication);
        }
        for _ in 0..400 {
            let node = world.mesh.rng.random_range(0..2);
            let from = PipeEnd::Node(LinkKey(1 - node as u32));
            match world.mesh.rng.random_range(0..6) {
                0 => {
                    let (source, mut data) = (SocketAddr::from(([10, 0, 0, 1], 10_000)), bytes(&mut world, 300));
                    world.mesh.input(
                        node,
                        Input::Datagrams(&mut [Datagram { source: TransportAddress::Udp(source), data: &mut data }]),
                    );
                }
                1 | 2 => {
                    let (source, mut data) = authentic_nonsense(&mut world);
                    let node = world.connection(source).expect("a client's address").node;
                    world.mesh.input(
                        node,
                        Input::Datagrams(&mut [Datagram { source: TransportAddress::Udp(source), data: &mut data }]),
                    );
                }
                3 => {
                    let feedback = feedback(&mut world);
                    world.mesh.input(node, Input::Feedback { from, feedback });
                }
                4 => {
                    let mut frames = (0..3).map(|_| frame(&mut world)).collect();
                    world.mesh.input(node, Input::Frames { from, frames: &mut frames });
                }
                _ => request(&mut world, node),
            }
            let step = Duration::from_micros(world.mesh.rng.random_range(0..2_000));
            world.mesh.advance_nodes(step);
        }
    });
}
