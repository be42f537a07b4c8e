//! What the answer to NACKs costs.

use std::time::Duration;

use sluice_media::secure::srtp::SrtpProfile;
use sluice_media::wire::rtcp::{self, ReportBlock};

use crate::core::{Core, Received, Stream, User, header, vp8};

const PAYLOAD_LEN: usize = 1_160;

/// A publisher whose 600 packets of video, 2 ms apart, one receiver got, and the number that the last one had.
fn sent_video(core: &mut Core) -> (User, User, u32, u16) {
    let (mut publisher, mut receiver) =
        (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
    let producer = core.publish(&publisher, Stream::Vp8);
    let (_, ssrc) = core.consume(&receiver, producer, Stream::Vp8);
    for number in 0..600_u16 {
        core.advance(Duration::from_millis(2));
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number) * 180), &vp8(number == 0, PAYLOAD_LEN));
    }
    let last = core.received(&mut receiver).last().expect("it got some").sequence_number();
    (publisher, receiver, ssrc, last)
}

/// A generic NACK with these items.
fn nack(ssrc: u32, items: impl Iterator<Item = (u16, u16)>) -> Vec<u8> {
    let mut nack = vec![0x81, 205, 0, 0];
    nack.extend(1_u32.to_be_bytes());
    nack.extend(ssrc.to_be_bytes());
    for (first, mask) in items {
        nack.extend(first.to_be_bytes());
        nack.extend(mask.to_be_bytes());
    }
    let words = (nack.len() / 4 - 1) as u16;
    nack[2..4].copy_from_slice(&words.to_be_bytes());
    nack
}

#[test]
fn a_packet_goes_out_again_once_however_often_one_nack_names_it() {
    for stride in [0, 128, 256, 512] {
        let mut core = Core::new(0);
        let (_, mut receiver, ssrc, last) = sent_video(&mut core);
        let first = last.wrapping_sub(500);
        let items = (0..340_u16).map(|item| (first.wrapping_add(item % 2 * stride), 0xffff));
        core.rtcp(&mut receiver, nack(ssrc, items));
        let again = core.datagrams(&receiver);
        assert!((17..=34).contains(&again.len()), "{} packets, {stride} apart", again.len());
    }
}

#[test]
fn a_client_gets_no_more_again_than_it_got() {
    let mut core = Core::new(0);
    let (mut publisher, mut receiver, ssrc, _) = sent_video(&mut core);
    let (mut media, mut again) = (0, 0);
    for number in 600..5_000_u16 {
        core.advance(Duration::from_millis(2));
        core.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number) * 180), &vp8(false, PAYLOAD_LEN));
        let sent = core.received(&mut receiver);
        let own: Vec<_> = sent.iter().filter(|packet| packet.ssrc() == ssrc).collect();
        media += own.iter().map(|packet| packet.sealed.len()).sum::<usize>();
        let newest = own.last().expect("it is sent at once").sequence_number();
        // Everything that can be found is missing, and the client says that it is no distance away.
        core.rtcp(&mut receiver, nack(ssrc, (0..30).map(|item| (newest.wrapping_sub(510 - item * 17), 0xffff))));
        let report = ReportBlock { ssrc, highest_sequence: newest.into(), ..ReportBlock::default() };
        let mut compound = Vec::new();
        rtcp::receiver_report(&mut compound, 1, &[report]);
        core.rtcp(&mut receiver, compound);
        let sent = core.received(&mut receiver);
        again +=
            sent.iter().filter(|packet| packet.ssrc() == ssrc + 1).map(|packet| packet.sealed.len()).sum::<usize>();
    }
    let burst = 256 * 1024;
    assert!(again <= media + media / 50 + burst, "{again} bytes again, {media} bytes by themselves");
    assert!(again > media / 2, "what is allowed is sent");
    assert!(core.drops("retransmission_limit") > 0);
}

#[test]
fn a_batch_of_nacks_costs_a_bounded_number_of_bytes() {
    let mut core = Core::new(0);
    let (_, mut receiver, ssrc, last) = sent_video(&mut core);
    let mut sent = 0;
    for part in 0..64 {
        let items = (0..16_000_u16).map(|item| (last.wrapping_sub((part * 8 + item) % 512), 0xffff));
        core.rtcp(&mut receiver, nack(ssrc, items));
        sent += core.datagrams(&receiver).iter().map(Vec::len).sum::<usize>();
    }
    assert!(sent <= 300 * 1024, "{sent} bytes");
    assert!(core.drops("retransmission_limit") > 0);
}

#[test]
fn every_lost_packet_of_a_burst_can_be_had_again() {
    let mut core = Core::new(0);
    let (_, mut receiver, ssrc, last) = sent_video(&mut core);
    let items = (0..10_u16).map(|item| (last.wrapping_sub(169 - item * 17), 0xffff));
    core.rtcp(&mut receiver, nack(ssrc, items));
    assert_eq!(core.received(&mut receiver).len(), 170);
}

const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmSha1_80];

fn payload(stream: Stream, number: u16) -> Vec<u8> {
    if stream == Stream::Opus { vec![number as u8; 40] } else { vp8(number == 0, 500 + usize::from(number)) }
}

#[test]
fn without_rtx_the_very_same_packet_goes_out_again() {
    for (stream, profile) in [Stream::Opus, Stream::Vp8Plain].into_iter().flat_map(|s| PROFILES.map(|p| (s, p))) {
        let mut core = Core::new(0);
        let (mut publisher, mut receiver) = (core.connect(profile), core.connect(profile));
        let producer = core.publish(&publisher, stream);
        let (consumer, ssrc) = core.consume(&receiver, producer, stream);
        for number in 0..30 {
            core.advance(Duration::from_millis(20));
            let level = [10 << 4, 0x80 | number as u8, 0, 0];
            core.rtp_with(&mut publisher, header(stream, number, u32::from(number)), &level, &payload(stream, number));
        }
        let sent = core.received(&mut receiver);
        assert_eq!(sent.len(), 30);
        core.advance(Duration::from_millis(100));
        core.datagrams(&receiver);
        for packet in &sent {
            let mut compound = Vec::new();
            rtcp::nack(&mut compound, 1, ssrc, [packet.sequence_number()].into_iter());
            // A second time within a round trip is not answered.
            core.rtcp(&mut receiver, compound.clone());
            core.rtcp(&mut receiver, compound);
            assert_eq!(core.datagrams(&receiver), std::slice::from_ref(&packet.sealed), "{stream:?} {profile:?}");
        }
        assert_eq!(core.consumer_stats(consumer).sent.packets_retransmitted, 30);
        assert_eq!(core.drops("srtp_nonce_reused"), 0);
    }
}

#[test]
fn without_rtx_the_same_packet_goes_out_again_behind_a_pipe_too() {
    let (mut home, mut away) = (Core::new(0), Core::new(1));
    let mut publisher = home.connect(SrtpProfile::AeadAes128Gcm);
    let mut receiver = away.connect(SrtpProfile::AeadAes128Gcm);
    let producer = home.publish(&publisher, Stream::Opus);
    home.open_route_to(&away, producer);
    away.open_route_from(&home, producer, Stream::Opus);
    let (_, ssrc) = away.consume(&receiver, producer, Stream::Opus);
    for number in 0..30 {
        home.advance(Duration::from_millis(20));
        home.rtp(&mut publisher, header(Stream::Opus, number, u32::from(number)), &payload(Stream::Opus, number));
        away.exchange(&mut home);
    }
    let sent = away.received(&mut receiver);
    away.advance(Duration::from_millis(100));
    away.datagrams(&receiver);
    let mut compound = Vec::new();
    rtcp::nack(&mut compound, 1, ssrc, sent.iter().map(Received::sequence_number));
    away.rtcp(&mut receiver, compound);
    assert_eq!(away.datagrams(&receiver), sent.into_iter().map(|packet| packet.sealed).collect::<Vec<_>>());
}

#[test]
fn a_packet_that_comes_twice_by_a_pipe_goes_out_once() {
    let (mut home, mut away) = (Core::new(0), Core::new(1));
    let mut publisher = home.connect(SrtpProfile::AeadAes128Gcm);
    let mut receiver = away.connect(SrtpProfile::AeadAes128Gcm);
    let producer = home.publish(&publisher, Stream::Vp8);
    home.open_route_to(&away, producer);
    away.open_route_from(&home, producer, Stream::Vp8);
    away.consume(&receiver, producer, Stream::Vp8);
    for number in 0..30 {
        home.advance(Duration::from_millis(20));
        home.rtp(&mut publisher, header(Stream::Vp8, number, u32::from(number)), &vp8(number == 0, 700));
        home.send_frames_twice();
        away.exchange(&mut home);
    }
    let numbers = away.numbers(&mut receiver);
    assert_eq!(numbers.len(), 30);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
    assert_eq!((away.drops("pipe_duplicate"), away.drops("srtp_nonce_reused")), (30, 0));
}

#[test]
fn what_was_sent_before_a_restart_is_not_taken_for_what_came_after_it() {
    for stream in [Stream::Vp8, Stream::Vp8Plain] {
        let mut core = Core::new(0);
        let (mut publisher, mut receiver) =
            (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
        let producer = core.publish(&publisher, stream);
        let (_, ssrc) = core.consume(&receiver, producer, stream);
        for number in 10_000..10_050 {
            core.advance(Duration::from_millis(2));
            core.rtp(&mut publisher, header(stream, number, 0), &vp8(number == 10_000, 700));
        }
        let before = core.received(&mut receiver);
        // The same publisher counts anew, and comes to the very same numbers.
        for number in (40_000..40_002).chain(65_000..65_002).chain(10_000..10_050) {
            core.advance(Duration::from_millis(2));
            core.rtp(&mut publisher, header(stream, number, 90_000), &vp8(number == 10_002, 900));
        }
        core.received(&mut receiver);
        let mut compound = Vec::new();
        rtcp::nack(&mut compound, 1, ssrc, before.iter().map(Received::sequence_number));
        core.rtcp(&mut receiver, compound);
        let again = core.received(&mut receiver);
        assert!(again.iter().all(|packet| packet.plain.len() < 800), "{stream:?}: {} packets", again.len());
    }
}
