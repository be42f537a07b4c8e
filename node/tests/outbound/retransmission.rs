//! What the answer to NACKs costs.

use std::time::Duration;

use sluice_node::data_plane::messages::SrtpProfile;
use sluice_node::data_plane::rtcp::{self, ReportBlock};

use crate::core::{Core, Stream, User, header, vp8};

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
