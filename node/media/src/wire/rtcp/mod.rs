//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104, draft-holmer-rmcat-transport-wide-cc-extensions-01 and
//! draft-alvestrand-rmcat-remb-03): reading compounds without allocation, and building them.

mod build;
#[cfg(test)]
mod differential_tests;
mod parse;
mod transport_feedback;

use std::time::Duration;

pub use build::{
    MAX_REPORT_BLOCKS, ReportBlock, bye, fir, nack, pli, receiver_report, remb, sdes_cname, sender_report,
};
pub use parse::{Compound, FirEntries, Malformed, NackItems, Packet, ReportBlocks, SenderInfo};
pub use transport_feedback::{ARRIVAL_PERIOD_US, PacketStatus, Statuses, TransportFeedback, TransportFeedbackBuilder};

pub(super) const SENDER_REPORT: u8 = 200;
pub(super) const RECEIVER_REPORT: u8 = 201;
pub(super) const SOURCE_DESCRIPTION: u8 = 202;
pub(super) const GOODBYE: u8 = 203;
pub(super) const TRANSPORT_LAYER_FEEDBACK: u8 = 205;
pub(super) const PAYLOAD_SPECIFIC_FEEDBACK: u8 = 206;

/// Formats of feedback messages, RFC 4585 section 6, RFC 5104 section 4.3 and the transport-wide-cc draft.
pub(super) const FORMAT_NACK: u8 = 1;
pub(super) const FORMAT_TRANSPORT_WIDE_CC: u8 = 15;
pub(super) const FORMAT_PLI: u8 = 1;
pub(super) const FORMAT_FIR: u8 = 4;
/// Of payload-specific feedback: whatever an application makes of it, RFC 4585 section 6.4.
pub(super) const FORMAT_APPLICATION: u8 = 15;

/// What tells a REMB from other feedback of applications.
pub(super) const REMB: [u8; 4] = *b"REMB";

/// The middle 32 bits of an NTP timestamp, as report blocks carry it.
pub fn compact_ntp(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A span of time as NTP has it: 32.32 fixed point seconds.
pub fn duration_to_ntp(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}
