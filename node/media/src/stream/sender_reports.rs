//! The last sender reports of a stream, by which the receiver's report tells the round-trip time, RFC 3550 section
//! 6.4.1.

use std::time::Duration;

use crate::clock::Clock;
use crate::wire::rtcp::{ReportBlock, compact_ntp, duration_to_ntp};

/// How many are remembered. They go out once a second, so that the answer may take that many seconds.
const REMEMBERED: usize = 4;

/// A report as its receiver will name it, and when it went out, both in 1/65536 seconds.
type Report = (u32, u32);

/// The last sender reports of a stream.
#[derive(Debug, Default)]
pub(crate) struct SenderReports {
    /// The newest first.
    reports: [Option<Report>; REMEMBERED],
}

impl SenderReports {
    /// A report with this NTP time goes out.
    pub(crate) fn add(&mut self, clock: &Clock, ntp: u64) {
        self.reports.rotate_right(1);
        self.reports[0] = Some((compact_ntp(ntp), now(clock)));
    }

    /// Whether none went out yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.reports[0].is_none()
    }

    /// The round-trip time that a report of the receiver tells, if it names one of these.
    pub(crate) fn round_trip(&self, clock: &Clock, report: &ReportBlock) -> Option<Duration> {
        let (_, sent_at) = self.reports.iter().flatten().find(|(ntp, _)| *ntp == report.last_sr)?;
        let elapsed = now(clock).wrapping_sub(*sent_at).saturating_sub(report.delay_since_last_sr);
        Some(Duration::from_micros(u64::from(elapsed) * 1_000_000 / 65_536))
    }
}

fn now(clock: &Clock) -> u32 {
    compact_ntp(duration_to_ntp(clock.since_epoch))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_report_may_name_any_of_the_last_ones() {
        let start = Instant::now();
        let at = |seconds: u64, millis: u64| {
            let now = start + Duration::from_secs(seconds) + Duration::from_millis(millis);
            Clock::new(now, (start, Duration::ZERO))
        };
        let mut reports = SenderReports::default();
        let ntp = |second: u64| (7_000 + second) << 32;
        for second in 65_530..65_540 {
            reports.add(&at(second, 0), ntp(second));
        }
        // 1.5 seconds there and back, of which the client held the report for half a second.
        for second in 65_536..65_540 {
            let report = ReportBlock {
                last_sr: compact_ntp(ntp(second)),
                delay_since_last_sr: 65_536 / 2,
                ..ReportBlock::default()
            };
            assert_eq!(reports.round_trip(&at(second + 2, 0), &report), Some(Duration::from_millis(1_500)));
            let impossible = ReportBlock { delay_since_last_sr: u32::MAX, ..report };
            assert_eq!(reports.round_trip(&at(second + 2, 0), &impossible), Some(Duration::ZERO));
        }
        let forgotten = ReportBlock { last_sr: compact_ntp(ntp(65_535)), ..ReportBlock::default() };
        assert_eq!(reports.round_trip(&at(65_540, 0), &forgotten), None);
    }
}
