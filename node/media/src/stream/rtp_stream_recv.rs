//! Reception of one RTP stream from a publisher: sequence, loss and jitter as RFC 3550 appendix A has them, the
//! publisher's clock, and the account of it all.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::stream::rate::RateMeter;
use crate::stream::score::Score;
use crate::wire::rtcp::{ReportBlock, SenderInfo, compact_ntp, duration_to_ntp};
use crate::wire::seq::{FIRST_CYCLE, MAX_DROPOUT, extend, unwrap};

/// A jump further backwards than this is a new beginning, as one ahead by more than [`MAX_DROPOUT`] is: as far as a
/// packet can be repaired.
const MAX_MISORDER: u64 = 1_000;

/// Packets that may have been overtaken by the first one. What has a number further before it is no late packet, for
/// nothing was sent before: the publisher went back.
const MAX_EARLY: u64 = 64;

/// A publisher's mapping between its clock and its timestamps, by its last sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockMapping {
    /// NTP time of the publisher's clock, 32.32 fixed point.
    pub ntp: u64,
    /// The same instant as RTP timestamp.
    pub rtp_timestamp: u32,
    /// When the report came.
    pub received_at: Instant,
}

impl ClockMapping {
    /// The mapping carried on to `now`: both clocks run on by the same time.
    pub(crate) fn at(&self, now: Instant, clock_rate: u32) -> (u64, u32) {
        let elapsed = now.saturating_duration_since(self.received_at);
        let ntp = self.ntp.wrapping_add(duration_to_ntp(elapsed));
        let ticks = (elapsed.as_micros() * u128::from(clock_rate) / 1_000_000) as u32;
        (ntp, self.rtp_timestamp.wrapping_add(ticks))
    }

    /// NTP time of the publisher's clock at an RTP timestamp near the report's.
    pub(crate) fn ntp_of(&self, rtp_timestamp: u32, clock_rate: u32) -> u64 {
        let ticks = i64::from(rtp_timestamp.wrapping_sub(self.rtp_timestamp).cast_signed());
        self.ntp.wrapping_add_signed((ticks << 32) / i64::from(clock_rate.max(1)))
    }

    /// The mapping for whoever gets the timestamps with this added.
    pub(crate) fn shifted(self, by: u32) -> Self {
        Self { rtp_timestamp: self.rtp_timestamp.wrapping_add(by), ..self }
    }
}

/// What a packet's sequence number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// In order, or late within reason.
    Valid,
    /// So far off that it may be a stray. If the next one is near it, it was a new beginning.
    Suspect,
    /// The publisher counts anew from this packet on.
    Restarted,
}

/// Reception of one stream.
#[derive(Debug)]
pub(crate) struct RtpStreamRecv {
    clock_rate: u32,
    base: u64,
    highest: Option<u64>,
    /// The number that jumped. Another one near it makes the jump a new beginning.
    suspect: Option<u16>,
    received: u64,
    bytes: u64,
    retransmitted: u64,
    repaired: u64,
    jitter_x16: u32,
    last_transit: Option<u32>,
    /// When the last packet came, or the first one was expected.
    heard_at: Option<Instant>,
    /// A stream that is silent for longer has stopped.
    max_silence: Duration,
    expected_prior: u64,
    received_prior: u64,
    repaired_prior: u64,
    fraction_lost: u8,
    clock: Option<ClockMapping>,
    bitrate: RateMeter,
    score: Score,
}

impl RtpStreamRecv {
    /// A stream of which nothing came yet. `max_silence` is the longest pause that is in its nature.
    pub(crate) fn new(clock_rate: u32, max_silence: Duration) -> Self {
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
            heard_at: None,
            max_silence,
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
    #[inline]
    pub(crate) fn check_sequence(&mut self, seq: u16) -> Sequence {
        let Some(highest) = self.highest else {
            self.restart(seq);
            return if self.last_transit.is_none() { Sequence::Valid } else { Sequence::Restarted };
        };
        let unwrapped = unwrap(highest, seq);
        if unwrapped + MAX_EARLY >= self.base && is_near(highest, unwrapped) {
            self.highest = Some(highest.max(unwrapped));
            self.suspect = None;
            return Sequence::Valid;
        }
        // Two are enough: both are authenticated, and no packet that goes on from the former ones came between them.
        if self.suspect.is_some_and(|suspect| is_near(extend(None, suspect), unwrap(extend(None, suspect), seq))) {
            self.restart(seq);
            return Sequence::Restarted;
        }
        self.suspect = Some(seq);
        Sequence::Suspect
    }

    /// What comes next is another stream, of which nothing is known: its first packet is [`Sequence::Restarted`].
    pub(crate) fn begin_anew(&mut self) {
        self.highest = None;
    }

    /// The publisher counts anew from `seq` on, as is known from elsewhere.
    pub(crate) fn accept_jump(&mut self, seq: u16) {
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
    }

    /// Counts a packet that came on the stream's own SSRC.
    pub(crate) fn count(&mut self, clock: &Clock, timestamp: u32, payload_len: usize) {
        self.received += 1;
        self.bytes += payload_len as u64;
        self.heard_at = Some(clock.now);
        let transit = self.ticks(clock).wrapping_sub(timestamp);
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
    pub(crate) fn count_retransmission(&mut self, payload_len: usize, repaired: bool) {
        self.retransmitted += 1;
        self.bytes += payload_len as u64;
        self.repaired += u64::from(repaired);
    }

    /// Whether this number may be a retransmission: it is of the recent past.
    pub(crate) fn is_recent(&self, seq: u16, window: u64) -> bool {
        self.highest.is_some_and(|highest| {
            let unwrapped = unwrap(highest, seq);
            unwrapped <= highest && unwrapped + window > highest
        })
    }

    /// Packets that came on the stream's own SSRC, and those that came as retransmission: a count that stands still
    /// says that nothing came meanwhile.
    pub(crate) fn packets(&self) -> (u64, u64) {
        (self.received, self.retransmitted)
    }

    /// The current time in units of the stream's clock, modulo 2^32.
    fn ticks(&self, clock: &Clock) -> u32 {
        let (seconds, micros) = (clock.since_epoch.as_secs() as u32, clock.since_epoch.subsec_micros());
        let of_second = (u64::from(micros) * u64::from(self.clock_rate) / 1_000_000) as u32;
        seconds.wrapping_mul(self.clock_rate).wrapping_add(of_second)
    }

    /// How far a timestamp of now is behind where the timestamps would be if they had gone on evenly since the last
    /// packet. `None` before the first packet, and for what is within a second: that is the network's doing, or the
    /// encoder's.
    pub(crate) fn timestamp_jump(&self, clock: &Clock, timestamp: u32) -> Option<u32> {
        let jump = self.ticks(clock).wrapping_sub(self.last_transit?).wrapping_sub(timestamp);
        (jump.cast_signed().unsigned_abs() > self.clock_rate).then_some(jump)
    }

    /// The publisher told its clock.
    pub(crate) fn set_clock(&mut self, now: Instant, info: &SenderInfo) {
        self.clock = Some(ClockMapping { ntp: info.ntp, rtp_timestamp: info.rtp_timestamp, received_at: now });
    }

    /// What the publisher told of its clock holds no longer.
    pub(crate) fn forget_clock(&mut self) {
        self.clock = None;
    }

    /// The publisher's clock, once told.
    pub(crate) fn clock(&self) -> Option<ClockMapping> {
        self.clock
    }

    fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest - self.base + 1)
    }

    /// Packets that came neither by themselves nor as retransmission.
    pub(crate) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received + self.repaired)
    }

    /// The report block for `ssrc`, RFC 3550 section 6.4.1. Begins the next interval. `None` before the first packet.
    pub(crate) fn report(&mut self, now: Instant, ssrc: u32) -> Option<ReportBlock> {
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

    /// Quality of what came last, 0 to 10.
    pub(crate) fn score(&self) -> u8 {
        self.score.get()
    }

    /// Whether the stream has stopped.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.heard_at.is_some_and(|at| now.saturating_duration_since(at) > self.max_silence)
    }

    /// Whether anything came, the last of it so lately.
    pub(crate) fn heard_within(&self, now: Instant, time: Duration) -> bool {
        self.received > 0 && self.heard_at.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }

    /// Packets are expected from now on.
    pub(crate) fn expect(&mut self, now: Instant) {
        self.heard_at = Some(now);
    }

    /// Enters what is known here, but the score.
    pub(crate) fn fill_stats(&self, stats: &mut crate::messages::StreamStats) {
        stats.packets = self.received;
        stats.bytes = self.bytes;
        stats.packets_lost = self.lost();
        stats.fraction_lost = self.fraction_lost;
        stats.jitter = self.jitter_x16 >> 4;
        stats.packets_retransmitted = self.retransmitted;
        stats.packets_repaired = self.repaired;
        stats.bitrate = self.bitrate.bits_per_second();
    }
}

/// Whether `seq` follows from a stream whose highest number is `highest`.
fn is_near(highest: u64, seq: u64) -> bool {
    seq <= highest + MAX_DROPOUT && seq + MAX_MISORDER >= highest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    fn receive(stream: &mut RtpStreamRecv, seq: u16) -> Sequence {
        let sequence = stream.check_sequence(seq);
        if sequence != Sequence::Suspect {
            let now = Instant::now();
            stream.count(&Clock::new(now, (now, Duration::ZERO)), 0, 100);
        }
        sequence
    }

    #[test]
    fn reports_loss_of_the_interval_and_of_all() {
        let now = Instant::now();
        let mut stream = RtpStreamRecv::new(90_000, Duration::from_millis(1_500));
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
        let mut stream = RtpStreamRecv::new(90_000, Duration::from_millis(1_500));
        receive(&mut stream, 1_000);
        assert_eq!(receive(&mut stream, 30_000), Sequence::Suspect);
        assert_eq!(receive(&mut stream, 1_001), Sequence::Valid);
        assert_eq!(receive(&mut stream, 30_001), Sequence::Suspect);
        assert_eq!(receive(&mut stream, 30_002), Sequence::Restarted);
        assert_eq!(receive(&mut stream, 30_003), Sequence::Valid);
        assert_eq!(stream.lost(), 0);
    }

    /// What a publisher sends that counts anew, and after how many packets that is seen.
    #[test]
    fn a_new_beginning_is_seen_through_loss_and_reordering() {
        let in_order: Vec<u16> = (0..300).collect();
        let every_second_lost: Vec<u16> = (0..300).step_by(2).collect();
        let pairs_swapped: Vec<u16> = (0..300).map(|offset| offset ^ 1).collect();
        for order in [in_order, every_second_lost, pairs_swapped] {
            // Far ahead, half of the numbers ahead, across the wrap, and a little back: to numbers that were never
            // used.
            for first in [30_000_u16, 33_768, 65_500, 500, 800] {
                let mut stream = RtpStreamRecv::new(90_000, Duration::from_secs(1));
                (1_000..1_090).for_each(|seq| assert_eq!(receive(&mut stream, seq), Sequence::Valid));
                let mut outcomes = order.iter().map(|offset| receive(&mut stream, first.wrapping_add(*offset)));
                assert_eq!(outcomes.next(), Some(Sequence::Suspect));
                assert_eq!(outcomes.next(), Some(Sequence::Restarted));
                assert!(outcomes.all(|outcome| outcome == Sequence::Valid), "from {first}");
            }
        }
    }

    #[test]
    fn what_the_first_packet_overtook_is_no_new_beginning() {
        let mut stream = RtpStreamRecv::new(90_000, Duration::from_secs(1));
        for seq in [5, 3, 4, 65_500, 6] {
            assert_eq!(receive(&mut stream, seq), Sequence::Valid, "{seq}");
        }
    }

    #[test]
    fn silence_is_noticed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stream = RtpStreamRecv::new(90_000, Duration::from_millis(1_500));
        assert!(!stream.is_silent(at(100_000)), "nothing is expected");
        stream.expect(at(0));
        assert_eq!([at(1_500), at(1_501)].map(|now| stream.is_silent(now)), [false, true]);
        stream.count(&Clock::new(at(2_000), (start, Duration::ZERO)), 0, 100);
        assert_eq!([at(3_500), at(3_501)].map(|now| stream.is_silent(now)), [false, true]);
    }

    #[test]
    fn timestamps_that_begin_elsewhere_are_told_from_those_that_go_on() {
        let start = Instant::now();
        let clock = |ms| Clock::new(start + Duration::from_millis(ms), (start, Duration::ZERO));
        let mut stream = RtpStreamRecv::new(90_000, Duration::from_secs(1));
        assert_eq!(stream.timestamp_jump(&clock(0), 7), None);
        stream.count(&clock(0), u32::MAX - 100, 1);
        let expected = (u32::MAX - 100).wrapping_add(5 * 90_000);
        for (offset, jump) in [(0, None), (80_000, None), (100_000, Some(-100_000)), (1 << 31, Some(i32::MIN))] {
            let timestamp = expected.wrapping_add(offset);
            assert_eq!(stream.timestamp_jump(&clock(5_000), timestamp).map(u32::cast_signed), jump);
        }
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut stream = RtpStreamRecv::new(90_000, Duration::from_millis(1_500));
        stream.check_sequence(0);
        let start = Instant::now();
        let (mut jitter, mut last) = (0_f64, None);
        for (arrival, timestamp) in [(0_i64, 0_i64), (3_100, 3_000), (5_900, 6_000), (9_500, 9_000), (12_000, 12_000)] {
            let now = start + Duration::from_nanos(arrival as u64 * 1_000_000_000 / 90_000);
            stream.count(&Clock::new(now, (start, Duration::ZERO)), timestamp as u32, 1);
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
