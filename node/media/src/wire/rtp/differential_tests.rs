//! Against rtc-rtp with random packets: what it wrote is read here. What is written here it reads in the tests of
//! whoever writes it.

use bytes::Bytes;
use proptest::prelude::*;
use rtc_rtp::codec::vp8::Vp8Packet;
use rtc_rtp::packetizer::Depacketizer;
use rtc_shared::marshal::Marshal;

use super::*;
use crate::wire::codec::Vp8Descriptor;

prop_compose! {
    pub(crate) fn headers()(marker: bool, payload_type in 0..128_u8, sequence_number: u16, timestamp: u32, ssrc: u32) -> RtpHeader {
        RtpHeader { marker, payload_type, sequence_number, timestamp, ssrc }
    }
}

pub(crate) fn assert_same_header(theirs: &rtc_rtp::Header, ours: RtpHeader) {
    assert_eq!(theirs.marker, ours.marker);
    assert_eq!(theirs.payload_type, ours.payload_type);
    assert_eq!(theirs.sequence_number, ours.sequence_number);
    assert_eq!(theirs.timestamp, ours.timestamp);
    assert_eq!(theirs.ssrc, ours.ssrc);
}

proptest! {
    #[test]
    fn we_read_what_they_wrote(
        header in headers(),
        csrc in proptest::collection::vec(any::<u32>(), 0..16),
        extensions in proptest::collection::btree_map(1..15_u8, proptest::collection::vec(any::<u8>(), 1..17), 0..6),
        two_byte: bool,
        payload in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let mut theirs = rtc_rtp::Header {
            version: 2,
            marker: header.marker,
            payload_type: header.payload_type,
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            csrc,
            ..Default::default()
        };
        if two_byte {
            theirs.extension = true;
            theirs.extension_profile = 0x1000;
        }
        for (id, value) in &extensions {
            theirs.set_extension(*id, Bytes::from(value.clone())).unwrap();
        }
        let packet = rtc_rtp::Packet { header: theirs, payload: Bytes::from(payload.clone()) };
        let bytes = packet.marshal().unwrap();
        let ours = RtpPacket::parse(&bytes).unwrap();
        assert_same_header(&packet.header, ours.header);
        prop_assert_eq!(ours.payload, &payload[..]);
        let read: std::collections::BTreeMap<u8, Vec<u8>> = ours.extensions.iter().map(|(id, value)| (id, value.to_vec())).collect();
        prop_assert_eq!(read, extensions);
    }

    #[test]
    fn descriptors_of_vp8_say_the_same(payload in proptest::collection::vec(any::<u8>(), 10..30)) {
        let mut theirs = Vp8Packet::default();
        let rest = theirs.depacketize(&Bytes::from(payload.clone())).unwrap();
        let ours = Vp8Descriptor::parse(&payload).unwrap();
        prop_assert_eq!(ours.len, payload.len() - rest.len());
        prop_assert_eq!(ours.frame_start, theirs.s == 1 && theirs.pid == 0);
        prop_assert_eq!(ours.pictures.picture_id.map(|id| id.value), (theirs.i == 1).then_some(theirs.picture_id));
        prop_assert_eq!(ours.temporal_layer, if theirs.t == 1 { theirs.tid } else { 0 });
        prop_assert_eq!(ours.layer_sync, theirs.t == 1 && theirs.y == 1);
    }
}
