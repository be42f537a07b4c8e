//! A simulated receiver of one consumer: repairs what it misses by NACK, and remembers what came so that it can be
//! judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluice_media::wire::rtcp::ReportBlock;
use sluice_media::wire::seq::{FIRST_CYCLE, unwrap};
use sluice_proto::ids::ConsumerId;

use crate::parameters::Ssrcs;

const NACK_INTERVAL: Duration = Duration::from_millis(70);
const MAX_ASKED: u8 = 15;

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) consumer: ConsumerId,
    pub(crate) client: usize,
    /// Index of the publication.
    pub(crate) publication: usize,
    pub(crate) mid: String,
    pub(crate) ssrcs: Ssrcs,
    /// Number in the publication by unwrapped output sequence number.
    pub(crate) received: BTreeMap<u64, usize>,
    /// Picture id of what was received, by number in the publication.
    pub(crate) pictures: BTreeMap<usize, u16>,
    /// Times that the consumer had to begin anew, the first included.
    pub(crate) allowed_jumps: usize,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    /// When its first packet came.
    pub(crate) first_packet: Option<Duration>,
    pub(crate) given_up: u64,
    /// NTP time and RTP timestamp of each sender report.
    pub(crate) sender_reports: Vec<(u64, u32)>,
    /// Output sequence numbers that came by themselves.
    direct: BTreeSet<u64>,
    missing: BTreeMap<u64, (u8, Duration)>,
    last_sr: Option<(u32, Duration)>,
}

impl Subscription {
    pub(crate) fn new(consumer: ConsumerId, client: usize, publication: usize, mid: String, ssrcs: Ssrcs) -> Self {
        Self {
            consumer,
            client,
            publication,
            mid,
            ssrcs,
            received: BTreeMap::new(),
            pictures: BTreeMap::new(),
            allowed_jumps: 1,
            paused: false,
            closed: false,
            first_packet: None,
            given_up: 0,
            sender_reports: Vec::new(),
            direct: BTreeSet::new(),
            missing: BTreeMap::new(),
            last_sr: None,
        }
    }

    /// A packet came, by itself or as retransmission. Returns whether it came the same way before.
    pub(crate) fn receive(&mut self, at: Duration, seq: u16, number: usize, is_rtx: bool) -> bool {
        self.first_packet.get_or_insert(at);
        let Some((&highest, _)) = self.received.last_key_value() else {
            self.received.insert(FIRST_CYCLE + u64::from(seq), number);
            return !is_rtx && !self.direct.insert(FIRST_CYCLE + u64::from(seq));
        };
        let seq = unwrap(highest, seq);
        // What came first may have overtaken the beginning.
        let lowest = self.received.first_key_value().map_or(highest, |(&lowest, _)| lowest);
        for missing in (highest + 1..seq).chain(seq + 1..lowest) {
            self.missing.insert(missing, (0, at));
        }
        self.missing.remove(&seq);
        self.received.insert(seq, number);
        !is_rtx && !self.direct.insert(seq)
    }

    /// What to ask for now.
    pub(crate) fn nack(&mut self, at: Duration) -> Vec<u16> {
        let before = self.missing.len();
        self.missing.retain(|_, (asked, _)| *asked < MAX_ASKED);
        self.given_up += (before - self.missing.len()) as u64;
        let mut due = Vec::new();
        for (seq, (asked, next)) in &mut self.missing {
            if *next <= at {
                due.push(*seq as u16);
                *asked += 1;
                *next = at + NACK_INTERVAL;
            }
        }
        due
    }

    pub(crate) fn sender_report(&mut self, at: Duration, ntp: u64, rtp_timestamp: u32) {
        self.sender_reports.push((ntp, rtp_timestamp));
        self.last_sr = Some(((ntp >> 16) as u32, at));
    }

    pub(crate) fn report(&self, at: Duration) -> Option<ReportBlock> {
        let (&highest, _) = self.received.last_key_value()?;
        let (last_sr, delay) =
            self.last_sr.map_or((0, 0), |(ntp, then)| (ntp, ((at - then).as_micros() * 65_536 / 1_000_000) as u32));
        Some(ReportBlock {
            ssrc: self.ssrcs.media,
            highest_sequence: (highest - FIRST_CYCLE) as u32,
            last_sr,
            delay_since_last_sr: delay,
            ..ReportBlock::default()
        })
    }
}
