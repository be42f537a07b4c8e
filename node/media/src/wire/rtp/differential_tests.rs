//! Against rtc-rtp with random packets: each side reads what the other one wrote.

use bytes::Bytes;
use proptest::prelude::*;
use rtc_rtp::codec::vp8::Vp8Packet;
use rtc_rtp::packetizer::Depacketizer;
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::*;
use crate::stream::header_template::{HeaderFields, HeaderTemplate, Stamp};
use crate::wire::codec::Vp8Descriptor;

prop_compose! {
    fn headers()(marker: bool, payload_type in 0..128_u8, sequence_number: u16, timestamp: u32, ssrc: u32) -> RtpHeader {
        RtpHeader { marker, payload_type, sequence_number, timestamp, ssrc }
    }
}

fn assert_same_header(theirs: &rtc_rtp::Header, ours: RtpHeader) {
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
    fn they_read_what_we_wrote(
        header in headers(),
        abs_send_time in 0..1_u32 << 24,
        transport_wide_seq: u16,
        level in 0..128_u8,
        ids in prop::array::uniform4(prop::bool::ANY),
        mid in "[a-z0-9]{1,16}",
        payload in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let id = |wanted: bool, id: u8| if wanted { id } else { 0 };
        let ids = ExtensionIds {
            mid: id(ids[0], 1),
            abs_send_time: id(ids[1], 4),
            transport_wide_cc: id(ids[2], 5),
            audio_level: id(ids[3], 10),
            ..ExtensionIds::default()
        };
        let template = HeaderTemplate::new(&ids, Some(&mid));
        let audio_level = AudioLevel { voice: true, level };
        let stamp = Stamp { abs_send_time, transport_wide_seq };
        let fields = HeaderFields { header, stamp, audio_level: Some(audio_level) };
        let mut bytes = vec![0; template.header_len() + payload.len()];
        template.write(&mut bytes, &fields).copy_from_slice(&payload);

        let theirs = rtc_rtp::Packet::unmarshal(&mut Bytes::from(bytes)).unwrap();
        assert_same_header(&theirs.header, header);
        prop_assert_eq!(&theirs.payload[..], &payload[..]);
        let value = |id: u8| theirs.header.get_extension(id).map(|value| value.to_vec());
        prop_assert_eq!(value(1), (ids.mid != 0).then(|| mid.into_bytes()));
        prop_assert_eq!(value(4), (ids.abs_send_time != 0).then(|| abs_send_time.to_be_bytes()[1..].to_vec()));
        prop_assert_eq!(value(5), (ids.transport_wide_cc != 0).then(|| transport_wide_seq.to_be_bytes().to_vec()));
        prop_assert_eq!(value(10), (ids.audio_level != 0).then(|| vec![audio_level.to_byte()]));
    }

    #[test]
    fn descriptors_of_vp8_say_the_same(payload in proptest::collection::vec(any::<u8>(), 10..30)) {
        let mut theirs = Vp8Packet::default();
        let rest = theirs.depacketize(&Bytes::from(payload.clone())).unwrap();
        let ours = Vp8Descriptor::parse(&payload).unwrap();
        prop_assert_eq!(ours.len, payload.len() - rest.len());
        prop_assert_eq!(ours.frame_start, theirs.s == 1 && theirs.pid == 0);
        prop_assert_eq!(ours.picture_id.map(|id| id.value), (theirs.i == 1).then_some(theirs.picture_id));
        prop_assert_eq!(ours.temporal_layer, if theirs.t == 1 { theirs.tid } else { 0 });
        prop_assert_eq!(ours.layer_sync, theirs.t == 1 && theirs.y == 1);
    }
}
