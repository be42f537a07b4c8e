//! Which packets of a publisher's stream are missing, and when to ask for them (again).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::seq::is_newer;

/// Missing packets that are waited for. A longer hole is not worth repairing: it is 10 Mbit/s for a second.
const MAX_MISSING: usize = 1_000;

/// How often one packet is asked for.
const MAX_RETRIES: u8 = 10;

/// Round-trip time to assume until a repair was seen.
const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// Longest round-trip time to learn. What answers a request later than that was held up by whoever was asleep, or by a
/// client that would have its missing packets waited for ever longer.
const MAX_RTT: Duration = Duration::from_secs(1);

/// Shortest time between two requests for one packet.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Missing {
    seq: u16,
    /// When it was asked for first and last, and how often.
    asked_at: Option<(Instant, Instant)>,
    asked: u8,
}

/// What a packet meant to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NackOutcome {
    /// It is the newest, or was not waited for.
    Nothing,
    /// It had been asked for.
    Repaired,
    /// Too much is missing: the list was given up, and video needs a key frame.
    GivenUp,
}

/// The missing packets of one stream.
#[derive(Debug, Default)]
pub(crate) struct NackGenerator {
    highest: Option<u16>,
    /// Ascending.
    missing: VecDeque<Missing>,
    /// The newest packet with which a key frame began, as long as something before it is missing: nothing of that is
    /// needed.
    key_frame: Option<u16>,
    /// Some were never asked for.
    has_new: bool,
    rtt: Option<Duration>,
}

impl NackGenerator {
    /// A packet of the stream arrived by itself.
    ///
    /// `key_frame_start` is asked only when it matters.
    pub(crate) fn receive(&mut self, now: Instant, seq: u16, key_frame_start: impl FnOnce() -> bool) -> NackOutcome {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return NackOutcome::Nothing;
        };
        if !is_newer(seq, highest) {
            return self.arrived_late(now, seq);
        }
        self.highest = Some(seq);
        self.forget_past_key_frame();
        let gap = usize::from(seq.wrapping_sub(highest)) - 1;
        let is_key_frame = gap + self.missing.len() > 0 && key_frame_start();
        if gap + self.missing.len() > MAX_MISSING {
            self.drop_before_key_frame();
        }
        if gap + self.missing.len() > MAX_MISSING {
            self.forget_missing();
            // A key frame at the far end of the hole is what would be asked for.
            return if is_key_frame { NackOutcome::Nothing } else { NackOutcome::GivenUp };
        }
        for offset in 1..=gap {
            let seq = highest.wrapping_add(offset as u16);
            self.missing.push_back(Missing { seq, asked_at: None, asked: 0 });
            self.has_new = true;
        }
        if is_key_frame {
            self.key_frame = Some(seq);
        }
        NackOutcome::Nothing
    }

    /// A packet of the stream arrived as retransmission. It says nothing of what is the newest.
    pub(crate) fn receive_retransmission(&mut self, now: Instant, seq: u16) -> NackOutcome {
        self.arrived_late(now, seq)
    }

    fn arrived_late(&mut self, now: Instant, seq: u16) -> NackOutcome {
        let Some(position) = self.missing.iter().position(|missing| missing.seq == seq) else {
            return NackOutcome::Nothing;
        };
        let Some(missing) = self.missing.remove(position) else { return NackOutcome::Nothing };
        let Some((first_asked_at, _)) = missing.asked_at else { return NackOutcome::Nothing };
        // Which of several requests it answers nobody knows (Karn): the first is assumed, since a time that is too
        // short would ask for everything twice and so never be corrected.
        let sample = now.saturating_duration_since(first_asked_at).min(MAX_RTT);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        NackOutcome::Repaired
    }

    /// One that nothing is missing before would look like a newer one than everything when half of all numbers have
    /// passed.
    fn forget_past_key_frame(&mut self) {
        let first = self.missing.front();
        self.key_frame = self.key_frame.filter(|key_frame| first.is_some_and(|first| is_newer(*key_frame, first.seq)));
    }

    fn drop_before_key_frame(&mut self) {
        let Some(key_frame) = self.key_frame.take() else { return };
        while self.missing.pop_front_if(|missing| is_newer(key_frame, missing.seq)).is_some() {}
    }

    fn forget_missing(&mut self) {
        self.missing.clear();
        self.key_frame = None;
        self.has_new = false;
    }

    /// Time from a request to its answer, once one was seen.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether packets were found missing that were never asked for.
    pub(crate) fn has_new(&self) -> bool {
        self.has_new
    }

    /// Puts the packets to ask for now into `due`, ascending. Returns whether one was given up, so that video needs a
    /// key frame.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<u16>) -> bool {
        let before = self.missing.len();
        let interval = self.interval();
        self.missing.retain(|missing| missing.asked < MAX_RETRIES || now < next_request(missing, interval, now));
        for missing in &mut self.missing {
            if next_request(missing, interval, now) <= now {
                missing.asked_at = Some((missing.asked_at.map_or(now, |(first, _)| first), now));
                missing.asked += 1;
                due.push(missing.seq);
            }
        }
        self.has_new = false;
        self.missing.len() < before
    }

    /// When [`take_due`](Self::take_due) has something to do next.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval();
        self.missing.iter().map(|missing| next_request(missing, interval, now)).min()
    }

    /// Time between two requests for one packet. A little above the round trip: its answer may be on its way.
    fn interval(&self) -> Duration {
        self.rtt.map_or(DEFAULT_RTT, |rtt| (rtt * 5 / 4).max(MIN_INTERVAL))
    }

    /// Nothing is waited for any more, but what is lost after `highest`, the stream's newest packet. Without one the
    /// next packet is the first.
    pub(crate) fn reset(&mut self, highest: Option<u16>) {
        self.highest = highest;
        self.forget_missing();
    }
}

fn next_request(missing: &Missing, interval: Duration, now: Instant) -> Instant {
    missing.asked_at.map_or(now, |(_, last)| last + interval)
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

    /// A publisher of 200 packets/s of which every hundredth is lost, and who answers a request after `rtt`. Returns
    /// how many were lost and how many requests were made.
    fn publish_for_a_minute(nack: &mut NackGenerator, rtt: u64) -> (u32, usize) {
        let start = Instant::now();
        let (mut lost, mut requests, mut seq) = (0, 0, 0_u16);
        let mut answers = VecDeque::new();
        for ms in 0..60_000 {
            let now = start + Duration::from_millis(ms);
            if ms % 5 == 0 {
                seq = seq.wrapping_add(1);
                if seq.is_multiple_of(100) {
                    lost += 1;
                } else {
                    nack.receive(now, seq, || false);
                }
            }
            while let Some((_, seq)) = answers.pop_front_if(|(at, _)| *at <= ms) {
                nack.receive_retransmission(now, seq);
            }
            let due = due(nack, now);
            requests += due.len();
            answers.extend(due.into_iter().map(|seq| (ms + rtt, seq)));
        }
        (lost, requests)
    }

    #[test]
    fn a_publisher_far_away_is_asked_once_for_each_packet() {
        for rtt in [10, 90, 150, 300, 700] {
            let mut nack = NackGenerator::default();
            let (lost, requests) = publish_for_a_minute(&mut nack, rtt);
            assert!(requests < lost as usize + 20, "{rtt} ms: {requests} requests for {lost}");
            assert_eq!(nack.rtt().map(|rtt| rtt.as_millis()), Some(u128::from(rtt)));
        }
    }

    #[test]
    fn an_answer_of_long_ago_says_little_of_the_round_trip() {
        let mut now = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(now, 0, || false);
        for number in 1..20 {
            nack.receive(now, 2 * number, || false);
            assert_eq!(due(&mut nack, now), [2 * number - 1]);
            now += Duration::from_secs(3_600);
            assert_eq!(nack.receive_retransmission(now, 2 * number - 1), NackOutcome::Repaired);
        }
        assert_eq!(nack.rtt(), Some(MAX_RTT));
    }

    #[test]
    fn a_late_retransmission_is_not_the_first_packet_after_a_pause() {
        let now = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(now, 50, || false);
        for highest in [None, Some(500)] {
            nack.reset(highest);
            assert_eq!(nack.receive_retransmission(now, 40), NackOutcome::Nothing);
            nack.receive(now, 501, || false);
            assert!(due(&mut nack, now).is_empty());
        }
        nack.reset(Some(501));
        nack.receive(now, 503, || false);
        assert_eq!(due(&mut nack, now), [502], "what is lost at the resumption is asked for");
    }

    #[test]
    fn a_full_list_lets_go_of_what_is_before_the_newest_key_frame() {
        let now = Instant::now();
        let mut nack = NackGenerator::default();
        nack.receive(now, 65_000, || false);
        nack.receive(now, 65_500, || false);
        nack.receive(now, 65_501, || true);
        nack.receive(now, 365, || false);
        assert_eq!(nack.receive(now, 767, || false), NackOutcome::Nothing);
        let due = due(&mut nack, now);
        assert_eq!((due.first(), due.last(), due.len()), (Some(&65_502), Some(&766), 399 + 401));
        assert_eq!(nack.receive(now, 1_200, || false), NackOutcome::GivenUp, "and of everything without one");
    }

    #[test]
    fn a_key_frame_of_long_ago_excuses_no_hole() {
        let now = Instant::now();
        // The list is empty in between, or there is always something newer in it.
        for always_missing in [false, true] {
            let mut nack = NackGenerator::default();
            nack.receive(now, 0, || false);
            nack.receive(now, 2, || true);
            let mut late = 1;
            for seq in (4..33_002).step_by(2) {
                nack.receive(now, seq, || false);
                if !always_missing {
                    nack.receive(now, seq - 1, || false);
                }
                nack.receive(now, late, || false);
                late = seq - 1;
            }
            nack.receive(now, 33_500, || false);
            assert_eq!(nack.receive(now, 34_100, || false), NackOutcome::GivenUp);
        }
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
