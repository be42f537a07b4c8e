//! Which packets of a publisher's stream are missing, and when to ask for them (again).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::seq::is_newer;

/// Missing packets that are waited for. A longer hole is not worth repairing: it is 10 Mbit/s for a second.
const MAX_MISSING: usize = 1_000;

/// How often one packet is asked for.
const MAX_RETRIES: u8 = 10;

/// Round-trip time to assume until a repair was seen.
const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// Shortest time between two requests for one packet.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Missing {
    seq: u16,
    /// When it was asked for last, and how often.
    asked_at: Option<Instant>,
    asked: u8,
}

/// What a packet meant to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NackOutcome {
    /// It is the newest, or was not waited for.
    Nothing,
    /// It had been asked for.
    Repaired,
    /// Too much is missing: the list was given up, and video needs a key frame.
    GivenUp,
}

/// The missing packets of one stream.
#[derive(Debug, Default)]
pub struct NackGenerator {
    highest: Option<u16>,
    /// Ascending.
    missing: VecDeque<Missing>,
    /// Some were never asked for.
    has_new: bool,
    rtt: Option<Duration>,
}

impl NackGenerator {
    /// A packet of the stream arrived, by itself or as retransmission.
    ///
    /// `key_frame_start` is asked only when it matters.
    pub fn receive(&mut self, now: Instant, seq: u16, key_frame_start: impl FnOnce() -> bool) -> NackOutcome {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return NackOutcome::Nothing;
        };
        if !is_newer(seq, highest) {
            return self.arrived_late(now, seq);
        }
        self.highest = Some(seq);
        let gap = usize::from(seq.wrapping_sub(highest)) - 1;
        if gap + self.missing.len() > MAX_MISSING {
            self.missing.clear();
            self.has_new = false;
            // A key frame at the far end of the hole is what would be asked for.
            return if key_frame_start() { NackOutcome::Nothing } else { NackOutcome::GivenUp };
        }
        for offset in 1..=gap {
            let seq = highest.wrapping_add(offset as u16);
            self.missing.push_back(Missing { seq, asked_at: None, asked: 0 });
            self.has_new = true;
        }
        NackOutcome::Nothing
    }

    fn arrived_late(&mut self, now: Instant, seq: u16) -> NackOutcome {
        let Some(position) = self.missing.iter().position(|missing| missing.seq == seq) else {
            return NackOutcome::Nothing;
        };
        let Some(missing) = self.missing.remove(position) else { return NackOutcome::Nothing };
        let Some(asked_at) = missing.asked_at else { return NackOutcome::Nothing };
        // Only the answer to the first request tells how long an answer takes.
        if missing.asked == 1 {
            let sample = now.saturating_duration_since(asked_at);
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
        NackOutcome::Repaired
    }

    /// Time from a request to its answer, once one was seen.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether packets were found missing that were never asked for.
    pub fn has_new(&self) -> bool {
        self.has_new
    }

    /// Puts the packets to ask for now into `due`, ascending. Returns whether one was given up, so that video needs a key frame.
    pub fn take_due(&mut self, now: Instant, due: &mut Vec<u16>) -> bool {
        let before = self.missing.len();
        let interval = self.interval();
        self.missing.retain(|missing| missing.asked < MAX_RETRIES || now < next_request(missing, interval, now));
        for missing in &mut self.missing {
            if next_request(missing, interval, now) <= now {
                missing.asked_at = Some(now);
                missing.asked += 1;
                due.push(missing.seq);
            }
        }
        self.has_new = false;
        self.missing.len() < before
    }

    /// When [`take_due`](Self::take_due) has something to do next.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval();
        self.missing.iter().map(|missing| next_request(missing, interval, now)).min()
    }

    /// Time between two requests for one packet. A little above the round trip: its answer may be on its way.
    fn interval(&self) -> Duration {
        self.rtt.map_or(DEFAULT_RTT, |rtt| (rtt * 5 / 4).max(MIN_INTERVAL))
    }

    /// Nothing is waited for any more; the next packet begins anew.
    pub fn reset(&mut self) {
        self.highest = None;
        self.missing.clear();
        self.has_new = false;
    }
}

fn next_request(missing: &Missing, interval: Duration, now: Instant) -> Instant {
    missing.asked_at.map_or(now, |asked_at| asked_at + interval)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    fn due(nack: &mut NackGenerator, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        nack.take_due(now, &mut due);
        due
    }

    #[test]
    fn asks_at_once_and_again_after_a_round_trip() {
        let start = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(start, 65_534, || false);
        nack.receive(start, 2, || false);
        assert!(nack.has_new());
        assert_eq!(due(&mut nack, start), [65_535, 0, 1]);
        assert!(due(&mut nack, start).is_empty());
        assert_eq!(nack.receive(start + Duration::from_millis(20), 0, || false), NackOutcome::Repaired);
        assert_eq!(nack.rtt(), Some(Duration::from_millis(20)));
        assert_eq!(nack.poll_timeout(start), Some(start + Duration::from_millis(25)));
        assert_eq!(due(&mut nack, start + Duration::from_millis(25)), [65_535, 1]);
    }

    #[test]
    fn gives_up_after_ten_requests() {
        let mut now = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(now, 1, || false);
        nack.receive(now, 3, || false);
        let mut asked = 0;
        loop {
            let mut missing = Vec::new();
            let gave_up = nack.take_due(now, &mut missing);
            asked += missing.len();
            if gave_up {
                break;
            }
            now += DEFAULT_RTT;
        }
        assert_eq!(asked, usize::from(MAX_RETRIES));
        assert_eq!(nack.poll_timeout(now), None);
    }

    #[test]
    fn a_hole_too_long_needs_a_key_frame() {
        let now = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(now, 0, || false);
        assert_eq!(nack.receive(now, 1_002, || false), NackOutcome::GivenUp);
        assert_eq!(nack.receive(now, 3_000, || true), NackOutcome::Nothing, "this is one");
        assert!(due(&mut nack, now).is_empty());
    }

    #[test]
    fn a_packet_late_by_itself_is_no_repair() {
        let now = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(now, 0, || false);
        nack.receive(now, 2, || false);
        assert_eq!(nack.receive(now, 1, || false), NackOutcome::Nothing);
        assert!(due(&mut nack, now).is_empty());
    }
}
