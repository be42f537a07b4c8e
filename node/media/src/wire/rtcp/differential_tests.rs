//! Against rtc-rtcp with random packets: each side reads what the other one wrote.

use bytes::Bytes;
use proptest::prelude::*;
use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::{SdesType, SourceDescription};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::*;

prop_compose! {
    fn blocks()(
        ssrc: u32, fraction_lost: u8, cumulative_lost in 0..0x7f_ffff_i32, highest_sequence: u32, jitter: u32,
        last_sr: u32, delay_since_last_sr: u32,
    ) -> ReportBlock {
        ReportBlock { ssrc, fraction_lost, cumulative_lost, highest_sequence, jitter, last_sr, delay_since_last_sr }
    }
}

prop_compose! {
    fn infos()(ssrc: u32, ntp: u64, rtp_timestamp: u32, packets: u32, octets: u32) -> SenderInfo {
        SenderInfo { ssrc, ntp, rtp_timestamp, packets, octets }
    }
}

fn theirs(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc,
        fraction_lost: block.fraction_lost,
        total_lost: block.cumulative_lost as u32,
        last_sequence_number: block.highest_sequence,
        jitter: block.jitter,
        last_sender_report: block.last_sr,
        delay: block.delay_since_last_sr,
    }
}

fn their_sender_report(info: &SenderInfo, reports: Vec<ReceptionReport>) -> SenderReport {
    SenderReport {
        ssrc: info.ssrc,
        ntp_time: info.ntp,
        rtp_time: info.rtp_timestamp,
        packet_count: info.packets,
        octet_count: info.octets,
        reports,
        profile_extensions: Bytes::new(),
    }
}

fn read<T: Unmarshal>(bytes: Vec<u8>) -> T {
    T::unmarshal(&mut Bytes::from(bytes)).unwrap()
}

proptest! {
    #[test]
    fn we_read_what_they_wrote(
        info in infos(), list in proptest::collection::vec(blocks(), 0..31), ssrc: u32, media_ssrc: u32, number: u8,
        missing in proptest::collection::btree_set(any::<u16>(), 1..80),
    ) {
        let reports: Vec<_> = list.iter().map(theirs).collect();
        let missing: Vec<u16> = missing.into_iter().collect();
        let mut bytes = Vec::new();
        bytes.extend(their_sender_report(&info, reports.clone()).marshal().unwrap());
        bytes.extend(ReceiverReport { ssrc, reports, profile_extensions: Bytes::new() }.marshal().unwrap());
        let nacks = nack_pairs_from_sequence_numbers(&missing);
        bytes.extend(TransportLayerNack { sender_ssrc: ssrc, media_ssrc, nacks }.marshal().unwrap());
        bytes.extend(PictureLossIndication { sender_ssrc: ssrc, media_ssrc }.marshal().unwrap());
        let fir = vec![FirEntry { ssrc: media_ssrc, sequence_number: number }];
        bytes.extend(FullIntraRequest { sender_ssrc: ssrc, media_ssrc, fir }.marshal().unwrap());
        bytes.extend(Goodbye { sources: vec![ssrc], reason: Bytes::from_static(b"gone") }.marshal().unwrap());

        let packets: Vec<_> = Compound::new(&bytes).map(Result::unwrap).collect();
        let [
            Packet::SenderReport { info: read_info, reports: sr_blocks },
            Packet::ReceiverReport { reports: rr_blocks },
            Packet::Nack { media_ssrc: nack_ssrc, items },
            Packet::Pli { media_ssrc: pli_ssrc },
            Packet::Fir { entries },
            Packet::Bye { sources },
        ] = &packets[..] else { panic!("{packets:?}") };
        prop_assert_eq!(*read_info, info);
        prop_assert_eq!(sr_blocks.clone().collect::<Vec<_>>(), list.clone());
        prop_assert_eq!(rr_blocks.clone().collect::<Vec<_>>(), list);
        prop_assert_eq!((*nack_ssrc, *pli_ssrc), (media_ssrc, media_ssrc));
        prop_assert_eq!(items.clone().sequence_numbers().collect::<Vec<_>>(), missing);
        prop_assert_eq!(entries.clone().collect::<Vec<_>>(), [(media_ssrc, number)]);
        prop_assert_eq!(*sources, ssrc.to_be_bytes());
    }

    #[test]
    fn they_read_what_we_wrote(
        info in infos(), list in proptest::collection::vec(blocks(), 0..31), ssrc: u32, media_ssrc: u32, number: u8,
        missing in proptest::collection::btree_set(any::<u16>(), 1..80), cname in "[a-z0-9]{1,40}",
    ) {
        let write = |build: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            build(&mut out);
            out
        };
        let sr: SenderReport = read(write(&|out| sender_report(out, &info)));
        prop_assert_eq!(sr, their_sender_report(&info, Vec::new()));
        let rr: ReceiverReport = read(write(&|out| receiver_report(out, ssrc, &list)));
        prop_assert_eq!((rr.ssrc, rr.reports), (ssrc, list.iter().map(theirs).collect::<Vec<_>>()));
        let asked: TransportLayerNack = read(write(&|out| nack(out, ssrc, media_ssrc, missing.iter().copied())));
        prop_assert_eq!((asked.sender_ssrc, asked.media_ssrc), (ssrc, media_ssrc));
        let numbers: Vec<u16> = asked.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        prop_assert_eq!(numbers, missing.into_iter().collect::<Vec<_>>());
        let loss: PictureLossIndication = read(write(&|out| pli(out, ssrc, media_ssrc)));
        prop_assert_eq!(loss, PictureLossIndication { sender_ssrc: ssrc, media_ssrc });
        let full: FullIntraRequest = read(write(&|out| fir(out, ssrc, media_ssrc, number)));
        prop_assert_eq!(full.fir, [FirEntry { ssrc: media_ssrc, sequence_number: number }]);
        let gone: Goodbye = read(write(&|out| bye(out, ssrc)));
        prop_assert_eq!(gone.sources, [ssrc]);
        let sdes: SourceDescription = read(write(&|out| sdes_cname(out, ssrc, &cname)));
        let [chunk] = &sdes.chunks[..] else { panic!("{sdes:?}") };
        prop_assert_eq!((chunk.source, chunk.items.len(), chunk.items[0].sdes_type), (ssrc, 1, SdesType::SdesCname));
        prop_assert_eq!(&chunk.items[0].text[..], cname.as_bytes());
    }

    /// Statuses and arrival times survive the way through our builder and their parser.
    #[test]
    fn they_read_our_transport_feedback(
        statuses in proptest::collection::vec(proptest::option::weighted(0.8, -3_000..60_000_i64), 1..300),
        base: u16, start in 1_000_000..100_000_000_i64,
    ) {
        let mut builder = TransportFeedbackBuilder::default();
        builder.begin(base);
        let mut now = start;
        let mut expected = Vec::new();
        for status in &statuses {
            match status {
                Some(gap) => {
                    now += gap;
                    if !builder.add_received(now) { break; }
                    expected.push(Some(now));
                }
                None => {
                    builder.add_missing();
                    expected.push(None);
                }
            }
        }
        while expected.last() == Some(&None) { expected.pop(); }
        prop_assume!(!expected.is_empty());
        let mut out = Vec::new();
        builder.write(&mut out, 1, 2, 3);
        let read: TransportLayerCc = read(out);
        prop_assert_eq!(usize::from(read.packet_status_count), expected.len());
        prop_assert_eq!((read.base_sequence_number, read.fb_pkt_count), (base, 3));

        let mut symbols = Vec::new();
        for chunk in &read.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(c) => {
                    symbols.extend(std::iter::repeat_n(c.packet_status_symbol, usize::from(c.run_length)));
                }
                PacketStatusChunk::StatusVectorChunk(c) => symbols.extend(c.symbol_list.iter().copied()),
            }
        }
        let mut at = i64::from(read.reference_time) * 64_000;
        let mut deltas = read.recv_deltas.iter();
        for (expected, symbol) in expected.iter().zip(symbols) {
            prop_assert_eq!(expected.is_some(), symbol != SymbolTypeTcc::PacketNotReceived);
            if let Some(expected) = expected {
                at += deltas.next().unwrap().delta;
                prop_assert!((0..250).contains(&(expected - at)), "{} is told as {}", expected, at);
            }
        }
    }
}
