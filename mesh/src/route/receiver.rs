//! The receiving end of a route.

use std::time::{Duration, Instant};

use sluice_proto::pipe::RouteStats;

use super::REPAIR_WINDOW;
use super::arrivals::{Arrivals, Order};

/// A packet that was asked for is asked for again after this much more than 5/4 of a round-trip time: what the batching
/// of both ends may add.
const RETRY_MARGIN: Duration = Duration::from_millis(10);

/// A gap is asked for only after this time, at first: most reordering on a path is within it.
const MIN_TOLERANCE: Duration = Duration::from_millis(3);

/// Where a repair takes this long each question is asked twice: question and answer may get lost too, and the answer to
/// a third one would come too late for a conversation. On such a path loss costs twice its share of the rate.
const LONG_PATH: Duration = Duration::from_millis(50);

/// However badly a path reorders, a repair that starts later than this comes too late for a conversation.
const MAX_TOLERANCE: Duration = Duration::from_millis(40);

/// Bounds of the time after which a packet is given up: four round trips, but nothing helps a conversation after a
/// second, and on a short path a burst may take some time to pass.
const MIN_PATIENCE: Duration = Duration::from_millis(300);
const MAX_PATIENCE: Duration = Duration::from_secs(1);

/// What became of an arriving packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// First arrival, use it.
    New,
    /// First arrival of one that had to be asked for, use it.
    Repaired,
    /// Use it; but numbers have lost their meaning, and what comes now has nothing to do with what came.
    Restarted,
    /// Arrived before, drop it.
    Duplicate,
    /// Given up already or older than anything that was waited for, drop it.
    TooOld,
}

/// A gap in the sequence.
#[derive(Debug)]
struct Missing {
    seq: u64,
    noticed: Instant,
    /// When to ask, or to ask again.
    due: Instant,
    /// When it was asked for first.
    asked: Option<Instant>,
    /// The next question only repeats the one before, whose answer cannot have come yet.
    repeats: bool,
}

/// Accounts for the packets of a route and asks for the missing ones.
///
/// Sequence numbers start at 0 with each epoch, so that the loss of the very first packets is noticed too.
#[derive(Debug)]
pub struct RouteReceiver {
    arrivals: Arrivals,
    /// Ascending by sequence number; at most [`REPAIR_WINDOW`].
    missing: Vec<Missing>,
    /// How long a packet may be overtaken before it counts as missing.
    tolerance: Duration,
    /// Smoothed time from a question to its answer.
    repair_time: Option<Duration>,
    next_due: Option<Instant>,
    lost_untold: u64,
    stats: RouteStats,
}

impl RouteReceiver {
    /// A route on which nothing has arrived yet.
    pub fn new(_now: Instant) -> Self {
        Self {
            arrivals: Arrivals::new(),
            missing: Vec::new(),
            tolerance: MIN_TOLERANCE,
            repair_time: None,
            next_due: None,
            lost_untold: 0,
            stats: RouteStats::default(),
        }
    }

    /// A packet arrived, or the notice that it was shed ([`Frame::is_shed`](crate::Frame::is_shed)). Says whether to
    /// use it.
    pub fn receive(&mut self, now: Instant, seq: u16, retransmission: bool) -> Accept {
        match self.arrivals.note(seq, retransmission) {
            Order::Newest { seq, missing } => {
                self.note_gap(now, seq - missing, seq);
                self.stats.received += 1;
                Accept::New
            }
            Order::Restarted { skipped } => {
                self.give_up_all(skipped);
                self.stats.received += 1;
                Accept::Restarted
            }
            Order::Late { seq } => self.fill_gap(now, seq, retransmission),
            Order::Duplicate => Accept::Duplicate,
            Order::TooOld => Accept::TooOld,
        }
    }

    /// The sequence numbers to ask for now, if any. `rtt` is the round-trip time to assume until a repair was seen.
    /// Packets for which hope is lost are given up here, see [`take_lost`](Self::take_lost).
    pub fn poll_nack(&mut self, now: Instant, rtt: Duration) -> Option<Vec<u16>> {
        if self.next_due.is_none_or(|due| due > now) {
            return None;
        }
        let rtt = self.repair_time.unwrap_or(rtt);
        let patience = (rtt * 4).clamp(MIN_PATIENCE, MAX_PATIENCE);
        let before = self.missing.len();
        self.missing.retain(|missing| now < missing.noticed + patience);
        self.count_lost((before - self.missing.len()) as u64);

        let mut seqs = Vec::new();
        for missing in self.missing.iter_mut().filter(|missing| missing.due <= now) {
            seqs.push(missing.seq as u16);
            missing.asked.get_or_insert(now);
            // Bursts of losses are short: what meets the question does not meet its repetition.
            let repetition = if rtt >= LONG_PATH { rtt / 4 } else { Duration::ZERO };
            missing.repeats = !repetition.is_zero() && !missing.repeats;
            let pause = if missing.repeats { repetition } else { rtt + rtt / 4 - repetition + RETRY_MARGIN };
            missing.due = (now + pause).min(missing.noticed + patience);
        }
        self.next_due = self.missing.iter().map(|missing| missing.due).min();
        (!seqs.is_empty()).then_some(seqs)
    }

    /// When [`poll_nack`](Self::poll_nack) has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_due
    }

    /// How many packets were given up since the last call. Video then needs a key frame.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost_untold)
    }

    /// The account since the route began.
    pub fn stats(&self) -> RouteStats {
        self.stats
    }

    /// Packets that are waited for.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    fn note_gap(&mut self, now: Instant, from: u64, to: u64) {
        if from == to {
            return;
        }
        // The sender remembers no more than a window.
        let oldest = (to + 1).saturating_sub(u64::from(REPAIR_WINDOW));
        let hopeless = self.missing.partition_point(|missing| missing.seq < oldest);
        self.missing.drain(..hopeless);
        let first = oldest.max(from);
        self.count_lost(hopeless as u64 + (first - from));

        let due = now + self.tolerance;
        self.missing.extend((first..to).map(|seq| Missing { seq, noticed: now, due, asked: None, repeats: false }));
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    fn fill_gap(&mut self, now: Instant, seq: u64, retransmission: bool) -> Accept {
        let Ok(index) = self.missing.binary_search_by_key(&seq, |missing| missing.seq) else {
            return Accept::TooOld;
        };
        let missing = self.missing.remove(index);
        self.stats.received += 1;
        if self.missing.is_empty() {
            self.next_due = None;
        }
        match missing.asked {
            Some(asked) if retransmission => {
                self.stats.repaired += 1;
                // Which of several questions it answers nobody knows (Karn): the first is assumed, since a time that is
                // too short would ask for everything twice and so never be corrected.
                self.note_repair_time(now.saturating_duration_since(asked));
                self.tolerance = (self.tolerance * 7 / 8).max(MIN_TOLERANCE);
                Accept::Repaired
            }
            _ => {
                let lateness = now.saturating_duration_since(missing.noticed);
                if lateness > self.tolerance {
                    self.tolerance = (lateness * 5 / 4).min(MAX_TOLERANCE);
                }
                Accept::New
            }
        }
    }

    /// What answers later than anything is waited for was held up by whoever was asleep, and says nothing of the path.
    fn note_repair_time(&mut self, sample: Duration) {
        let sample = sample.min(MAX_PATIENCE);
        self.repair_time = Some(self.repair_time.map_or(sample, |smoothed| (smoothed * 7 + sample) / 8));
    }

    fn give_up_all(&mut self, skipped: u64) {
        self.count_lost(self.missing.len() as u64 + skipped);
        self.missing.clear();
        self.next_due = None;
    }

    fn count_lost(&mut self, lost: u64) {
        self.lost_untold += lost;
        self.stats.lost += lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(80);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn asks_for_a_gap_until_it_is_filled() {
        let start = origin();
        let mut receiver = RouteReceiver::new(start);
        assert_eq!(receiver.receive(start, 0, false), Accept::New);
        assert_eq!(receiver.receive(start, 3, false), Accept::New);
        assert_eq!(receiver.poll_nack(start, RTT), None, "reordering is tolerated");
        let due = receiver.poll_timeout().unwrap();
        assert_eq!(receiver.poll_nack(due, RTT), Some(vec![1, 2]));
        assert_eq!(receiver.poll_nack(due, RTT), None);
        let repeated = receiver.poll_timeout().unwrap();
        assert!(repeated < due + RTT, "question or answer may get lost");
        assert_eq!(receiver.poll_nack(repeated, RTT), Some(vec![1, 2]));
        assert_eq!(receiver.receive(due + RTT, 2, true), Accept::Repaired);
        let again = receiver.poll_timeout().unwrap();
        assert!(again > due + RTT && again < due + RTT * 2);
        assert_eq!(receiver.poll_nack(again, RTT), Some(vec![1]));
        assert_eq!(receiver.receive(again + RTT, 1, true), Accept::Repaired);
        assert_eq!(receiver.receive(again + RTT, 1, true), Accept::Duplicate);
        assert_eq!(receiver.poll_timeout(), None);
        assert_eq!(receiver.stats(), RouteStats { received: 4, lost: 0, repaired: 2 });
    }

    #[test]
    fn a_question_is_repeated_on_a_long_path_only() {
        let start = origin();
        for (rtt, repeated) in [(LONG_PATH - ms(1), false), (LONG_PATH, true), (RTT * 2, true)] {
            let mut receiver = RouteReceiver::new(start);
            receiver.receive(start, 1, false);
            let mut asked = Vec::new();
            while asked.len() < 4 {
                let due = receiver.poll_timeout().unwrap();
                assert_eq!(receiver.poll_nack(due, rtt), Some(vec![0]));
                asked.push(due);
            }
            let round = rtt * 5 / 4 + RETRY_MARGIN;
            let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let expected = if repeated { [rtt / 4, round - rtt / 4, rtt / 4] } else { [round; 3] };
            assert_eq!(pauses, expected);
        }
    }

    #[test]
    fn learns_that_a_path_is_longer_than_assumed() {
        let mut now = origin();
        let mut receiver = RouteReceiver::new(now);
        let mut asked = Vec::new();
        for lost in (1..20_u16).step_by(2) {
            receiver.receive(now, lost - 1, false);
            receiver.receive(now, lost + 1, false);
            let mut questions = 0;
            let answered = receiver.poll_timeout().unwrap() + RTT * 3;
            while let Some(due) = receiver.poll_timeout().filter(|due| *due < answered) {
                questions += receiver.poll_nack(due, RTT).map_or(0, |seqs| seqs.len());
            }
            assert_eq!(receiver.receive(answered, lost, true), Accept::Repaired);
            asked.push(questions);
            now = answered;
        }
        assert!(asked[0] > 2 && asked[1..].iter().all(|questions| *questions == 2), "{asked:?}");
    }

    #[test]
    fn an_answer_of_long_ago_says_little_of_the_path() {
        let mut now = origin();
        let mut receiver = RouteReceiver::new(now);
        receiver.receive(now, 0, false);
        receiver.receive(now, 2, false);
        now = receiver.poll_timeout().unwrap();
        assert_eq!(receiver.poll_nack(now, RTT), Some(vec![1]));
        now += ms(3_600_000);
        assert_eq!(receiver.receive(now, 1, true), Accept::Repaired);
        assert_eq!(receiver.repair_time, Some(MAX_PATIENCE));
    }

    #[test]
    fn gives_up_and_says_so() {
        let start = origin();
        let mut receiver = RouteReceiver::new(start);
        receiver.receive(start, 1, false);
        let mut asked = 0;
        while let Some(due) = receiver.poll_timeout() {
            assert!(due <= start + MAX_PATIENCE);
            asked += receiver.poll_nack(due, RTT).map_or(0, |seqs| seqs.len());
        }
        assert!((4..=8).contains(&asked), "asked {asked} times");
        assert_eq!((receiver.take_lost(), receiver.take_lost()), (1, 0));
        assert_eq!(receiver.receive(start + MAX_PATIENCE, 0, true), Accept::TooOld);
    }

    #[test]
    fn learns_how_much_a_path_reorders() {
        let start = origin();
        let mut receiver = RouteReceiver::new(start);
        let mut now = start;
        let mut asked = 0;
        for pair in 0..50_u16 {
            receiver.receive(now, pair * 2 + 1, false);
            asked += receiver.poll_nack(now + ms(10), RTT).map_or(0, |seqs| seqs.len());
            assert_eq!(receiver.receive(now + ms(10), pair * 2, false), Accept::New);
            now += ms(20);
        }
        assert!(asked <= 1, "asked {asked} times");
        assert_eq!(receiver.stats(), RouteStats { received: 100, lost: 0, repaired: 0 });
    }

    #[test]
    fn a_jump_beyond_the_window_is_lost_at_once() {
        let start = origin();
        let mut receiver = RouteReceiver::new(start);
        receiver.receive(start, 0, false);
        receiver.receive(start, 5000, false);
        assert_eq!(receiver.take_lost(), 4999 - u64::from(REPAIR_WINDOW - 1));
        assert_eq!(receiver.missing(), usize::from(REPAIR_WINDOW - 1));
        let asked = receiver.poll_nack(start + MAX_TOLERANCE, RTT).unwrap();
        assert_eq!((asked.first(), asked.last()), (Some(&(5001 - REPAIR_WINDOW)), Some(&4999)));
    }
}
