//! What is told of streams and transports is what went over the path.

use std::time::Duration;

use sluice_media::messages::{Flow, LayerBitrate};
use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::trace::{TraceInfo, TraceSubject, TraceType, TraceTypes};
use sluice_media::wire::rtp::RtpHeader;
use sluice_proto::ids::ConsumerId;

use super::publisher::RATES;
use super::world::World;
use crate::core::{Core, Stream, User, header, producer_id, ssrc_of, vp8};

/// Of AES-GCM, which the statistics of RTP leave out.
const TAG: u64 = 16;

/// Around a datagram, as [`World`] counts it.
const AROUND_DATAGRAM: u64 = 28;

#[test]
fn each_encoding_is_told_of_with_its_layers_and_what_is_made_of_it() {
    let mut world = World::new(1, 10_000_000, 1);
    world.run(5.0);
    let streams = world.core.producer_stats(producer_id(1));
    assert_eq!(streams.iter().map(|stream| stream.ssrc).collect::<Vec<_>>(), [0, 1, 2].map(ssrc_of));
    for (stream, rate) in streams.iter().zip(RATES) {
        assert_eq!((stream.rtx_ssrc, stream.score, stream.packets_discarded), (Some(stream.ssrc + 1), 10, 0));
        assert!(stream.packets > 0 && stream.bitrate > 0, "{stream:?}");
        let layers: Vec<_> = stream.bitrate_by_layer.iter().map(|of| (of.spatial, of.temporal)).collect();
        assert_eq!(layers, [(0, 0), (0, 1), (0, 2)]);
        for (LayerBitrate { bitrate, .. }, share) in stream.bitrate_by_layer.iter().zip([0.4, 0.6, 1.0]) {
            // With what is around a payload, which is much of a small packet.
            let expected = f64::from(rate) * share;
            assert!((0.8..1.5).contains(&(*bitrate as f64 / expected)), "{bitrate} of {expected}");
        }
    }
    let stats = world.core.consumer_stats(ConsumerId::from_bytes([1; 16]));
    let received = stats.received.as_ref().expect("it is here");
    assert_eq!((received.ssrc, received.rtx_ssrc), (ssrc_of(2), Some(ssrc_of(2) + 1)));
    assert_eq!(stats.sent.rtx_ssrc, Some(stats.sent.ssrc + 1));
    assert!(stats.sent.packets > 0 && stats.sent.packets <= received.packets, "{stats:?}");
    assert!(stats.sent.bitrate_by_layer.is_empty(), "what is sent are layers of what comes in");
}

#[test]
fn media_retransmissions_and_probes_are_told_apart() {
    let mut world = World::new(1, 1_000_000, 1);
    world.set_link(1_000_000, 0.02);
    world.run(15.0);
    let transport = world.viewers[0].user.transport;
    let stats = world.core.transport_stats(transport);
    let sent = |is_media: bool| -> u64 {
        let sent = world.sent.iter().filter(|sent| sent.encoding.is_some() == is_media);
        sent.map(|sent| sent.len as u64 - AROUND_DATAGRAM - TAG).sum()
    };
    assert_eq!(stats.rtp_sent.bytes, sent(true));
    assert_eq!(stats.rtx_sent.bytes + stats.probation_sent.bytes, sent(false));
    assert!(stats.rtx_sent.bytes > 0 && stats.probation_sent.bytes > 0, "{stats:?}");
    let last_second = world.rate(0, world.now() - Duration::from_secs(2), world.now());
    assert!((0.7..1.3).contains(&(stats.rtp_sent.bitrate as f64 / last_second)), "{stats:?}, {last_second}");
    assert!(stats.send_loss.is_some_and(|loss| (0.0..0.2).contains(&loss)), "{stats:?}");
    assert_eq!((stats.rtp_received, stats.rtx_received, stats.recv_loss), (Flow::default(), Flow::default(), None));
}

#[test]
fn estimates_and_probes_are_told_of_of_the_transport() {
    let mut world = World::new(1, 1_000_000, 1);
    let transport = world.viewers[0].user.transport;
    let types = TraceTypes::from_iter([TraceType::Bwe, TraceType::Probation]);
    world.core.trace(transport, types, 60);
    world.run(15.0);
    let traced = world.core.trace(transport, types, 60);
    assert!(traced.events.iter().all(|event| event.subject == TraceSubject::Transport && !event.is_in()));
    let stats = world.core.transport_stats(transport);
    let told = traced.events.iter().rev().find_map(|event| match event.info {
        TraceInfo::Bwe { is_transport_wide, desired_bitrate, effective_desired_bitrate, available_bitrate } => {
            Some((is_transport_wide, desired_bitrate, effective_desired_bitrate, available_bitrate))
        }
        _ => None,
    });
    let (is_transport_wide, desired, effective, available) = told.expect("feedback came");
    let known = stats.available_outgoing_bitrate.expect("feedback came") as f64;
    assert!(is_transport_wide && desired > 0 && effective > 0, "{told:?}");
    assert!((0.5..2.0).contains(&(available as f64 / known)), "{told:?}, {known}");
    let probes = traced.events.iter().filter_map(|event| match event.info {
        TraceInfo::Probation { packets } => Some(packets),
        _ => None,
    });
    assert!(probes.sum::<u64>() > 0 && stats.probation_sent.bytes > 0);
}

/// Sends a packet with a transport-wide number.
fn send(core: &mut Core, user: &mut User, header: RtpHeader, number: u16, payload: &[u8]) -> u64 {
    let [high, low] = number.to_be_bytes();
    core.rtp_with(user, header, &[0x51, high, low], payload);
    // The header, and the extension with its own.
    12 + 4 + 4 + payload.len() as u64
}

#[test]
fn what_comes_in_is_told_apart_with_its_loss() {
    let mut core = Core::new(0);
    let mut user = core.connect(SrtpProfile::AeadAes128Gcm);
    let producer = core.publish(&user, Stream::Vp8);
    let (mut media, mut number) = (0, 0);
    // One of ten is lost.
    for seq in (0..200_u16).filter(|seq| seq % 10 != 5) {
        core.advance(Duration::from_millis(10));
        number += 1 + u16::from(seq % 10 == 6);
        media += send(&mut core, &mut user, header(Stream::Vp8, seq, 0), number, &vp8(seq == 0, 500));
    }
    let rtx = RtpHeader { payload_type: 102, ssrc: ssrc_of(0) + 1, ..header(Stream::Vp8, 0, 0) };
    let again = [&195_u16.to_be_bytes(), &vp8(false, 500)[..]].concat();
    let retransmissions = send(&mut core, &mut user, rtx, number + 1, &again);
    // It was there already.
    send(&mut core, &mut user, header(Stream::Vp8, 195, 0), number + 2, &vp8(false, 500));
    core.advance(Duration::from_millis(1_000));
    let stats = core.transport_stats(user.transport);
    let duplicate = 12 + 4 + 4 + 500;
    assert_eq!((stats.rtp_received.bytes, stats.rtx_received.bytes), (media + duplicate, retransmissions));
    assert!(stats.recv_loss.is_some_and(|loss| loss < 0.15), "{stats:?}");
    let stream = &core.producer_stats(producer)[0];
    assert_eq!((stream.packets_discarded, stream.packets_retransmitted, stream.packets_repaired), (1, 1, 1));
    assert_eq!(core.transport_stats(user.transport).rtp_sent, Flow::default());
}
