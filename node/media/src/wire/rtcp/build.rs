//! Building packets. Each function appends one packet to a compound.

use super::parse::SenderInfo;
use super::{
    FORMAT_APPLICATION, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, GOODBYE, PAYLOAD_SPECIFIC_FEEDBACK, RECEIVER_REPORT, REMB,
    SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_LAYER_FEEDBACK,
};

/// What is told about one received stream, RFC 3550 section 6.4.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the stream began, 24 bits; duplicates can make it negative.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with its cycles in the upper half.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 before one came.
    pub last_sr: u32,
    /// Time since then in 1/65536 seconds.
    pub delay_since_last_sr: u32,
}

/// Report blocks that one receiver report can hold.
pub const MAX_REPORT_BLOCKS: usize = 31;

/// Appends a sender report without report blocks.
pub fn sender_report(out: &mut Vec<u8>, info: &SenderInfo) {
    packet(out, 0, SENDER_REPORT, |out| {
        out.extend_from_slice(&info.ssrc.to_be_bytes());
        out.extend_from_slice(&info.ntp.to_be_bytes());
        out.extend_from_slice(&info.rtp_timestamp.to_be_bytes());
        out.extend_from_slice(&info.packets.to_be_bytes());
        out.extend_from_slice(&info.octets.to_be_bytes());
    });
}

/// Appends a receiver report; of more than 31 blocks the first 31.
pub fn receiver_report(out: &mut Vec<u8>, sender_ssrc: u32, blocks: &[ReportBlock]) {
    let blocks = blocks.get(..MAX_REPORT_BLOCKS).unwrap_or(blocks);
    packet(out, blocks.len() as u8, RECEIVER_REPORT, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        for block in blocks {
            out.extend_from_slice(&block.ssrc.to_be_bytes());
            let [_, l0, l1, l2] = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
            out.extend_from_slice(&[block.fraction_lost, l0, l1, l2]);
            out.extend_from_slice(&block.highest_sequence.to_be_bytes());
            out.extend_from_slice(&block.jitter.to_be_bytes());
            out.extend_from_slice(&block.last_sr.to_be_bytes());
            out.extend_from_slice(&block.delay_since_last_sr.to_be_bytes());
        }
    });
}

/// Appends a source description with one CNAME, of which at most 255 bytes are said.
pub fn sdes_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    const CNAME: u8 = 1;
    let cname = cname.as_bytes();
    let cname = cname.get(..255).unwrap_or(cname);
    packet(out, 1, SOURCE_DESCRIPTION, |out| {
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.extend_from_slice(&[CNAME, cname.len() as u8]);
        out.extend_from_slice(cname);
        // At least one zero byte ends the chunk, RFC 3550 section 6.5; `packet` fills up the word.
        out.push(0);
    });
}

/// Appends a goodbye for one stream.
pub fn bye(out: &mut Vec<u8>, ssrc: u32) {
    packet(out, 1, GOODBYE, |out| out.extend_from_slice(&ssrc.to_be_bytes()));
}

/// Appends a generic NACK. `missing` should ascend; numbers within 16 of an item's first share the item.
pub fn nack(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, missing: impl Iterator<Item = u16>) {
    packet(out, FORMAT_NACK, TRANSPORT_LAYER_FEEDBACK, |out| {
        feedback_ssrcs(out, sender_ssrc, media_ssrc);
        let mut item: Option<(u16, u16)> = None;
        let write = |out: &mut Vec<u8>, (first, mask): (u16, u16)| {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&mask.to_be_bytes());
        };
        for seq in missing {
            match &mut item {
                Some((first, mask)) if (1..=16).contains(&seq.wrapping_sub(*first)) => {
                    *mask |= 1 << (seq.wrapping_sub(*first) - 1);
                }
                _ => {
                    if let Some(item) = item.replace((seq, 0)) {
                        write(out, item);
                    }
                }
            }
        }
        if let Some(item) = item {
            write(out, item);
        }
    });
}

/// Appends a picture loss indication.
pub fn pli(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32) {
    packet(out, FORMAT_PLI, PAYLOAD_SPECIFIC_FEEDBACK, |out| feedback_ssrcs(out, sender_ssrc, media_ssrc));
}

/// Appends a full intra request with its number.
pub fn fir(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, number: u8) {
    packet(out, FORMAT_FIR, PAYLOAD_SPECIFIC_FEEDBACK, |out| {
        // The stream is named in the entry, the header's field is zero: RFC 5104 section 4.3.1.2.
        feedback_ssrcs(out, sender_ssrc, 0);
        out.extend_from_slice(&media_ssrc.to_be_bytes());
        out.extend_from_slice(&[number, 0, 0, 0]);
    });
}

/// Appends a receiver's estimate of the maximum bitrate, draft-alvestrand-rmcat-remb-03, in bits per second of all
/// these streams together, 255 at most; what has no room in its 18 bits is rounded down.
pub fn remb(out: &mut Vec<u8>, sender_ssrc: u32, bitrate: u64, streams: &[u32]) {
    packet(out, FORMAT_APPLICATION, PAYLOAD_SPECIFIC_FEEDBACK, |out| {
        feedback_ssrcs(out, sender_ssrc, 0);
        out.extend_from_slice(&REMB);
        let exponent = (u64::BITS - bitrate.leading_zeros()).saturating_sub(18);
        let [.., m0, m1, m2] = (bitrate >> exponent).to_be_bytes();
        let named = streams.iter().take(u8::MAX.into());
        out.extend_from_slice(&[named.len() as u8, (exponent as u8) << 2 | m0, m1, m2]);
        named.for_each(|ssrc| out.extend_from_slice(&ssrc.to_be_bytes()));
    });
}

pub(super) fn feedback_ssrcs(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32) {
    out.extend_from_slice(&sender_ssrc.to_be_bytes());
    out.extend_from_slice(&media_ssrc.to_be_bytes());
}

/// Appends header and body, fills up the last word with zeros and enters the length.
pub(super) fn packet(out: &mut Vec<u8>, count: u8, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count & 0x1f, kind, 0, 0]);
    body(out);
    let len = (out.len() - start).next_multiple_of(4);
    out.resize(start + len, 0);
    if let Some([_, _, l0, l1]) = out.get_mut(start..start + 4) {
        [*l0, *l1] = ((len / 4 - 1) as u16).to_be_bytes();
    }
}
