//! Reading compounds. Nothing is copied: packets, report blocks and NACK items are views and iterators over the bytes.

use super::transport_feedback::TransportFeedback;
use super::{
    FORMAT_APPLICATION, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, FORMAT_TRANSPORT_WIDE_CC, GOODBYE,
    PAYLOAD_SPECIFIC_FEEDBACK, RECEIVER_REPORT, REMB, ReportBlock, SENDER_REPORT, TRANSPORT_LAYER_FEEDBACK,
};

/// A packet shorter than its header claims, or a header that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The packets of a compound, one after the other. Ends after the first packet whose length cannot be trusted.
#[derive(Debug, Clone)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

/// One packet of a compound.
#[derive(Debug, Clone)]
pub enum Packet<'a> {
    /// RFC 3550 section 6.4.1.
    SenderReport {
        /// Clock mapping and counts of the sender.
        info: SenderInfo,
        /// What the sender of the report receives itself.
        reports: ReportBlocks<'a>,
    },
    /// RFC 3550 section 6.4.2.
    ReceiverReport {
        /// What is received.
        reports: ReportBlocks<'a>,
    },
    /// RFC 3550 section 6.6.
    Bye {
        /// SSRCs that end, four bytes each.
        sources: &'a [u8],
    },
    /// RFC 4585 section 6.2.1.
    Nack {
        /// The stream.
        media_ssrc: u32,
        /// The missing packets.
        items: NackItems<'a>,
    },
    /// RFC 4585 section 6.3.1.
    Pli {
        /// The stream.
        media_ssrc: u32,
    },
    /// RFC 5104 section 4.3.1.
    Fir {
        /// The streams.
        entries: FirEntries<'a>,
    },
    /// Transport-wide congestion control feedback.
    TransportFeedback(TransportFeedback<'a>),
    /// A receiver's estimate of the maximum bitrate, draft-alvestrand-rmcat-remb-03.
    Remb {
        /// Bits per second of all these streams together.
        bitrate: u64,
        /// The SSRCs that it names.
        streams: &'a [[u8; 4]],
    },
    /// Anything else: SDES, XR and what is yet to be invented.
    Other,
}

/// The sender's part of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: u32,
    /// NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant as RTP timestamp.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

impl<'a> Compound<'a> {
    /// The compound in `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<Packet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((header, packet, after)) = split_packet(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed));
        };
        self.rest = after;
        Some(parse(header, packet).ok_or(Malformed))
    }
}

struct Header {
    count: u8,
    kind: u8,
}

/// Takes the first packet's body, without padding, from what follows it.
fn split_packet(data: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (&[first, kind, l0, l1], rest) = data.split_first_chunk::<4>()?;
    if first >> 6 != 2 {
        return None;
    }
    let (mut body, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])) * 4)?;
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        body = body.get(..body.len().checked_sub(padding)?)?;
    }
    Some((Header { count: first & 0x1f, kind }, body, after))
}

fn parse<'a>(header: Header, body: &'a [u8]) -> Option<Packet<'a>> {
    let feedback = |body: &'a [u8]| {
        let (&ids, rest) = body.split_first_chunk::<8>()?;
        let [_, _, _, _, m0, m1, m2, m3] = ids;
        Some((u32::from_be_bytes([m0, m1, m2, m3]), rest))
    };
    Some(match (header.kind, header.count) {
        (SENDER_REPORT, count) => {
            let (info, rest) = body.split_first_chunk::<24>()?;
            Packet::SenderReport { info: parse_sender_info(info)?, reports: ReportBlocks::new(rest, count)? }
        }
        (RECEIVER_REPORT, count) => {
            let (_, rest) = body.split_first_chunk::<4>()?;
            Packet::ReceiverReport { reports: ReportBlocks::new(rest, count)? }
        }
        (GOODBYE, count) => Packet::Bye { sources: body.get(..usize::from(count) * 4)? },
        (TRANSPORT_LAYER_FEEDBACK, FORMAT_NACK) => {
            let (media_ssrc, rest) = feedback(body)?;
            Packet::Nack { media_ssrc, items: NackItems { rest } }
        }
        (TRANSPORT_LAYER_FEEDBACK, FORMAT_TRANSPORT_WIDE_CC) => {
            let (_, rest) = feedback(body)?;
            Packet::TransportFeedback(TransportFeedback::parse(rest)?)
        }
        (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_PLI) => Packet::Pli { media_ssrc: feedback(body)?.0 },
        (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_FIR) => Packet::Fir { entries: FirEntries { rest: feedback(body)?.1 } },
        (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_APPLICATION) => parse_remb(feedback(body)?.1),
        _ => Packet::Other,
    })
}

/// Six bits of exponent, 18 of mantissa; a rate beyond 64 bits is the highest that there is.
fn parse_remb(body: &[u8]) -> Packet<'_> {
    let Some((&[count, m0, m1, m2], streams)) = body.strip_prefix(&REMB).and_then(<[u8]>::split_first_chunk) else {
        return Packet::Other;
    };
    let (streams, _) = streams.as_chunks();
    // Of a list that is cut off what is there.
    let streams = streams.get(..count.into()).unwrap_or(streams);
    let mantissa = u64::from(u32::from_be_bytes([0, m0 & 3, m1, m2]));
    let bitrate = u64::try_from(u128::from(mantissa) << (m0 >> 2)).unwrap_or(u64::MAX);
    Packet::Remb { bitrate, streams }
}

fn parse_sender_info(info: &[u8; 24]) -> Option<SenderInfo> {
    let (words, _) = info.as_chunks::<4>();
    let &[ssrc, ntp_seconds, ntp_fraction, rtp_timestamp, packets, octets] = words else { return None };
    Some(SenderInfo {
        ssrc: u32::from_be_bytes(ssrc),
        ntp: u64::from(u32::from_be_bytes(ntp_seconds)) << 32 | u64::from(u32::from_be_bytes(ntp_fraction)),
        rtp_timestamp: u32::from_be_bytes(rtp_timestamp),
        packets: u32::from_be_bytes(packets),
        octets: u32::from_be_bytes(octets),
    })
}

/// The report blocks of a sender or receiver report.
#[derive(Debug, Clone)]
pub struct ReportBlocks<'a> {
    blocks: std::slice::Iter<'a, [u8; 24]>,
}

impl<'a> ReportBlocks<'a> {
    fn new(data: &'a [u8], count: u8) -> Option<Self> {
        let (blocks, _) = data.as_chunks::<24>();
        Some(Self { blocks: blocks.get(..usize::from(count))?.iter() })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (words, _) = self.blocks.next()?.as_chunks::<4>();
        let &[ssrc, [fraction_lost, l0, l1, l2], highest, jitter, last_sr, delay] = words else { return None };
        // The cumulative loss is a signed 24-bit number.
        let lost = i32::from_be_bytes([l0, l1, l2, 0]) >> 8;
        Some(ReportBlock {
            ssrc: u32::from_be_bytes(ssrc),
            fraction_lost,
            cumulative_lost: lost,
            highest_sequence: u32::from_be_bytes(highest),
            jitter: u32::from_be_bytes(jitter),
            last_sr: u32::from_be_bytes(last_sr),
            delay_since_last_sr: u32::from_be_bytes(delay),
        })
    }
}

/// The missing packets that a NACK names: pairs of a sequence number and a bit mask of the 16 that follow it.
#[derive(Debug, Clone)]
pub struct NackItems<'a> {
    rest: &'a [u8],
}

impl<'a> NackItems<'a> {
    /// The sequence numbers, in the order of the message.
    pub fn sequence_numbers(self) -> impl Iterator<Item = u16> + use<'a> {
        let (items, _) = self.rest.as_chunks::<4>();
        items.iter().flat_map(|&[p0, p1, m0, m1]| {
            let first = u16::from_be_bytes([p0, p1]);
            let mask = u16::from_be_bytes([m0, m1]);
            std::iter::once(first)
                .chain((0..16_u16).filter(move |bit| mask >> bit & 1 != 0).map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// The streams of a full intra request with the request's number, which grows by one with each new request.
#[derive(Debug, Clone)]
pub struct FirEntries<'a> {
    rest: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (&[s0, s1, s2, s3, number, _, _, _], rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some((u32::from_be_bytes([s0, s1, s2, s3]), number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{fir, nack, pli, receiver_report, remb, sdes_cname, sender_report};
    use super::*;

    #[test]
    fn a_whole_compound_round_trips() {
        let info = SenderInfo { ssrc: 1, ntp: 0x0123_4567_89ab_cdef, rtp_timestamp: 5, packets: 6, octets: 7 };
        let block = ReportBlock {
            ssrc: 2,
            fraction_lost: 3,
            cumulative_lost: -4,
            highest_sequence: 5,
            jitter: 6,
            last_sr: 7,
            delay_since_last_sr: 8,
        };
        let mut out = Vec::new();
        sender_report(&mut out, &info);
        sdes_cname(&mut out, 1, "name");
        receiver_report(&mut out, 9, &[block, block]);
        nack(&mut out, 9, 1, [10, 11, 27, 28].into_iter());
        pli(&mut out, 9, 1);
        fir(&mut out, 9, 1, 42);
        let packets: Vec<_> = Compound::new(&out).map(Result::unwrap).collect();
        let [sr, Packet::Other, rr, missing, Packet::Pli { media_ssrc: 1 }, full] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert!(matches!(sr, Packet::SenderReport { info: i, .. } if *i == info));
        assert!(matches!(rr, Packet::ReceiverReport { reports } if reports.clone().eq([block, block])));
        assert!(
            matches!(missing, Packet::Nack { media_ssrc: 1, items } if items.clone().sequence_numbers().eq([10, 11, 27, 28]))
        );
        assert!(matches!(full, Packet::Fir { entries } if entries.clone().eq([(1, 42)])));
    }

    #[test]
    fn a_bad_length_ends_the_compound_and_a_bad_body_does_not() {
        let mut out = Vec::new();
        out.extend_from_slice(&[0x81, 206, 0, 1, 0, 0, 0, 1]); // a PLI without a media SSRC
        pli(&mut out, 1, 2);
        out.extend_from_slice(&[0x81, 206, 0, 9]);
        let packets: Vec<_> = Compound::new(&out).collect();
        assert!(matches!(packets[..], [Err(Malformed), Ok(Packet::Pli { media_ssrc: 2 }), Err(Malformed)]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(mut data in proptest::collection::vec(any::<u8>(), 0..120), kind in 198..210_u8, format in 0..32_u8) {
            if let [first, second, ..] = &mut data[..] {
                (*first, *second) = (0x80 | format, kind);
            }
            for packet in Compound::new(&data) {
                match packet {
                    Ok(Packet::SenderReport { reports, .. } | Packet::ReceiverReport { reports }) => { reports.count(); }
                    Ok(Packet::Nack { items, .. }) => { items.sequence_numbers().count(); }
                    Ok(Packet::Fir { entries }) => { entries.count(); }
                    Ok(Packet::TransportFeedback(feedback)) => {
                        let (received, lost) = feedback.counts();
                        let statuses = feedback.statuses().count();
                        prop_assert!(statuses <= usize::from(received) + usize::from(lost));
                    }
                    _ => {}
                }
            }
        }

        #[test]
        fn estimates_round_trip(bitrate in any::<u64>(), shift in 0..64_u32, of in proptest::collection::vec(any::<u32>(), 0..9)) {
            let (mut out, bitrate) = (Vec::new(), bitrate >> shift);
            remb(&mut out, 1, bitrate, &of);
            let Some(Ok(Packet::Remb { bitrate: told, streams })) = Compound::new(&out).next() else { panic!() };
            prop_assert!(told <= bitrate && bitrate - told <= bitrate >> 17);
            prop_assert_eq!(streams, of.iter().map(|ssrc| ssrc.to_be_bytes()).collect::<Vec<_>>());
        }

        #[test]
        fn nacks_round_trip(missing in proptest::collection::btree_set(any::<u16>(), 1..60)) {
            let mut out = Vec::new();
            nack(&mut out, 1, 2, missing.iter().copied());
            let Some(Ok(Packet::Nack { items, .. })) = Compound::new(&out).next() else { panic!() };
            prop_assert_eq!(items.sequence_numbers().collect::<std::collections::BTreeSet<_>>(), missing);
        }
    }
}
