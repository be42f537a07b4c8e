//! Reception of one RTP stream from a publisher: sequence, loss and jitter as RFC 3550 appendix A has them, the publisher's
//! clock, and the account of it all.

use std::time::{Duration, Instant};

use super::rate::RateMeter;
use super::rtcp::{ReportBlock, SenderInfo, compact_ntp};
use super::score::Score;
use super::seq::{FIRST_CYCLE, unwrap};

/// A jump further ahead than this is no loss but a new beginning, RFC 3550 appendix A.1.
const MAX_DROPOUT: u64 = 3_000;

/// The same backwards: as far as a packet can be repaired.
const MAX_MISORDER: u64 = 1_000;

/// A publisher's mapping between its clock and its timestamps, by its last sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMapping {
    /// NTP time of the publisher's clock, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant as RTP timestamp.
    pub rtp_timestamp: u32,
    /// When the report came.
    pub received_at: Instant,
}

impl ClockMapping {
    /// The mapping carried on to `now`: both clocks run on by the same time.
    pub fn at(&self, now: Instant, clock_rate: u32) -> (u64, u32) {
        let elapsed = now.saturating_duration_since(self.received_at);
        let ntp = self.ntp.wrapping_add(duration_to_ntp(elapsed));
        let ticks = (elapsed.as_micros() * u128::from(clock_rate) / 1_000_000) as u32;
        (ntp, self.rtp_timestamp.wrapping_add(ticks))
    }
}

/// A span of time as 32.32 fixed point seconds.
pub fn duration_to_ntp(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

/// What a packet's sequence number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// In order, or late within reason.
    Valid,
    /// So far off that it may be a stray. If the next one follows it, it was a new beginning.
    Suspect,
    /// The publisher counts anew from this packet on.
    Restarted,
}

/// Reception of one stream.
#[derive(Debug)]
pub struct RtpStreamRecv {
    clock_rate: u32,
    base: u64,
    highest: Option<u64>,
    /// The number that would make a suspect's jump a new beginning.
    suspect: Option<u16>,
    received: u64,
    bytes: u64,
    retransmitted: u64,
    repaired: u64,
    jitter_x16: u32,
    last_transit: Option<u32>,
    expected_prior: u64,
    received_prior: u64,
    repaired_prior: u64,
    fraction_lost: u8,
    clock: Option<ClockMapping>,
    bitrate: RateMeter,
    score: Score,
}

impl RtpStreamRecv {
    /// A stream of which nothing came yet.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            base: 0,
            highest: None,
            suspect: None,
            received: 0,
            bytes: 0,
            retransmitted: 0,
            repaired: 0,
            jitter_x16: 0,
            last_transit: None,
            expected_prior: 0,
            received_prior: 0,
            repaired_prior: 0,
            fraction_lost: 0,
            clock: None,
            bitrate: RateMeter::default(),
            score: Score::default(),
        }
    }

    /// Judges the sequence number of a packet that came on the stream's own SSRC.
    pub fn check_sequence(&mut self, seq: u16) -> Sequence {
        let Some(highest) = self.highest else {
            self.restart(seq);
            return Sequence::Valid;
        };
        let unwrapped = unwrap(highest, seq);
        if unwrapped <= highest + MAX_DROPOUT && unwrapped + MAX_MISORDER >= highest {
            self.highest = Some(highest.max(unwrapped));
            self.suspect = None;
            return Sequence::Valid;
        }
        if self.suspect == Some(seq) {
            self.restart(seq);
            return Sequence::Restarted;
        }
        self.suspect = Some(seq.wrapping_add(1));
        Sequence::Suspect
    }

    /// The publisher counts anew from `seq` on, as is known from elsewhere.
    pub fn accept_jump(&mut self, seq: u16) {
        self.restart(seq);
    }

    fn restart(&mut self, seq: u16) {
        self.base = FIRST_CYCLE + u64::from(seq);
        self.highest = Some(self.base);
        self.suspect = None;
        self.received = 0;
        self.repaired = 0;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.repaired_prior = 0;
        self.last_transit = None;
    }

    /// Counts a packet that came on the stream's own SSRC.
    pub fn count(&mut self, now_ticks: u64, timestamp: u32, payload_len: usize) {
        self.received += 1;
        self.bytes += payload_len as u64;
        let transit = (now_ticks as u32).wrapping_sub(timestamp);
        if let Some(last) = self.last_transit.replace(transit) {
            let difference = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            // RFC 3550 appendix A.8: the estimate is kept scaled by 16. A publisher that changes its timestamps' origin
            // must not leave a mark for minutes.
            if difference < self.clock_rate * 10 {
                self.jitter_x16 = self.jitter_x16.wrapping_add(difference).wrapping_sub((self.jitter_x16 + 8) >> 4);
            }
        }
    }

    /// Counts a packet that came as retransmission. Its number is not newer than the highest, or it is ignored.
    pub fn count_retransmission(&mut self, payload_len: usize, repaired: bool) {
        self.retransmitted += 1;
        self.bytes += payload_len as u64;
        self.repaired += u64::from(repaired);
    }

    /// Whether this number may be a retransmission: it is of the recent past.
    pub fn is_recent(&self, seq: u16, window: u64) -> bool {
        self.highest.is_some_and(|highest| {
            let unwrapped = unwrap(highest, seq);
            unwrapped <= highest && unwrapped + window > highest
        })
    }

    /// The current time in units of the stream's clock.
    pub fn ticks(&self, since_epoch: Duration) -> u64 {
        (since_epoch.as_micros() * u128::from(self.clock_rate) / 1_000_000) as u64
    }

    /// The publisher told its clock.
    pub fn set_clock(&mut self, now: Instant, info: &SenderInfo) {
        self.clock = Some(ClockMapping { ntp: info.ntp, rtp_timestamp: info.rtp_timestamp, received_at: now });
    }

    /// The publisher's clock, once told.
    pub fn clock(&self) -> Option<ClockMapping> {
        self.clock
    }

    /// Units per second of the timestamps.
    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest - self.base + 1)
    }

    /// Packets that came neither by themselves nor as retransmission.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received + self.repaired)
    }

    /// The report block for `ssrc`, RFC 3550 section 6.4.1. Begins the next interval. `None` before the first packet.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReportBlock> {
        let highest = self.highest?;
        let expected = self.expected();
        let interval = expected - self.expected_prior;
        let received = self.received - self.received_prior;
        let lost = interval.saturating_sub(received);
        self.fraction_lost = (lost * 256).checked_div(interval).map_or(0, |share| share.min(255) as u8);
        self.score.update(interval, lost, self.repaired - self.repaired_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        self.repaired_prior = self.repaired;
        self.bitrate.sample(now, self.bytes);
        let (last_sr, delay) = self.clock.map_or((0, 0), |clock| {
            (compact_ntp(clock.ntp), compact_ntp(duration_to_ntp(now.saturating_duration_since(clock.received_at))))
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost: self.fraction_lost,
            cumulative_lost: i32::try_from(expected.cast_signed() - self.received.cast_signed()).unwrap_or(i32::MAX),
            highest_sequence: (highest - FIRST_CYCLE) as u32,
            jitter: self.jitter_x16 >> 4,
            last_sr,
            delay_since_last_sr: delay,
        })
    }

    /// Quality, 0 to 10.
    pub fn score(&self) -> u8 {
        self.score.get()
    }

    /// Enters what is known here.
    pub fn fill_stats(&self, stats: &mut super::messages::StreamStats) {
        stats.packets = self.received;
        stats.bytes = self.bytes;
        stats.packets_lost = self.lost();
        stats.fraction_lost = self.fraction_lost;
        stats.jitter = self.jitter_x16 >> 4;
        stats.packets_retransmitted = self.retransmitted;
        stats.packets_repaired = self.repaired;
        stats.bitrate = self.bitrate.bits_per_second();
        stats.score = self.score.get();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    fn receive(stream: &mut RtpStreamRecv, seq: u16) -> Sequence {
        let sequence = stream.check_sequence(seq);
        if sequence != Sequence::Suspect {
            stream.count(0, 0, 100);
        }
        sequence
    }

    #[test]
    fn reports_loss_of_the_interval_and_of_all() {
        let now = Instant::now();
        let mut stream = RtpStreamRecv::new(90_000);
        assert_eq!(stream.report(now, 1), None);
        for seq in [65_534, 65_535, 0, 3] {
            receive(&mut stream, seq);
        }
        let report = stream.report(now, 1).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (85, 2));
        assert_eq!(report.highest_sequence, 65_536 + 3);
        stream.count_retransmission(100, true);
        assert_eq!(stream.lost(), 1);
        for seq in 4..14 {
            receive(&mut stream, seq);
        }
        let report = stream.report(now, 1).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 2));
    }

    #[test]
    fn a_stray_is_not_a_new_beginning() {
        let mut stream = RtpStreamRecv::new(90_000);
        receive(&mut stream, 1_000);
        assert_eq!(receive(&mut stream, 30_000), Sequence::Suspect);
        assert_eq!(receive(&mut stream, 1_001), Sequence::Valid);
        assert_eq!(receive(&mut stream, 30_001), Sequence::Suspect);
        assert_eq!(receive(&mut stream, 30_002), Sequence::Restarted);
        assert_eq!(receive(&mut stream, 30_003), Sequence::Valid);
        assert_eq!(stream.lost(), 0);
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut stream = RtpStreamRecv::new(90_000);
        stream.check_sequence(0);
        let (mut jitter, mut last) = (0_f64, None);
        for (arrival, timestamp) in [(0_i64, 0_i64), (3_100, 3_000), (5_900, 6_000), (9_500, 9_000), (12_000, 12_000)] {
            stream.count(arrival as u64, timestamp as u32, 1);
            let transit = arrival - timestamp;
            if let Some(last) = last.replace(transit) {
                jitter += ((transit - last).abs() as f64 - jitter) / 16.0;
            }
        }
        assert!((f64::from(stream.jitter_x16) / 16.0 - jitter).abs() < 1.0);
    }

    #[test]
    fn clocks_run_on() {
        let now = Instant::now();
        let clock = ClockMapping { ntp: 5 << 32, rtp_timestamp: u32::MAX, received_at: now };
        assert_eq!(clock.at(now + Duration::from_millis(500), 48_000), (5 << 32 | 1 << 31, 23_999));
    }
}
