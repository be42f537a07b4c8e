//! Which packets of a stream arrived, which are missing, and when those are asked for again or given up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::rtp::Unwrapper;

/// Packets behind the newest that are still told from duplicates and waited for: a second of 1,000 packets.
const WINDOW: i64 = 1024;
/// libwebrtc gives a packet up after as many requests.
const MAX_NACKS: u8 = 10;
/// Until a request is repeated: what libwebrtc assumes of a round trip (`kDefaultRtt`). A browser's connection that
/// only receives learns of no other, since it has no sender reports of its own to be answered.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// A packet that may not be asked for is given up after this: what is overtaken comes by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);

/// What a packet is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Newer than any other.
    Newest(i64),
    /// Was missing, and asked for or not.
    Late { number: i64, requested: bool },
    /// Was there before, or is so late that it was given up.
    Duplicate,
}

/// The sequence numbers of one stream.
#[derive(Debug)]
pub(super) struct Continuity {
    nack: bool,
    unwrapper: Unwrapper,
    first: Option<i64>,
    newest: i64,
    /// A bit for each number of the window that arrived or was given up.
    settled: [u64; (WINDOW / 64) as usize],
    missing: BTreeMap<i64, Missing>,
    was_missing: u64,
    given_up: u64,
}

#[derive(Debug)]
struct Missing {
    requests: u8,
    next: Instant,
}

impl Continuity {
    /// `nack`: missing packets may be asked for.
    pub(super) fn new(nack: bool) -> Self {
        Self {
            nack,
            unwrapper: Unwrapper::default(),
            first: None,
            newest: 0,
            settled: [0; (WINDOW / 64) as usize],
            missing: BTreeMap::new(),
            was_missing: 0,
            given_up: 0,
        }
    }

    /// Packets between the first and the newest, both included.
    pub(super) fn expected(&self) -> u64 {
        self.first.map_or(0, |first| (self.newest - first + 1) as u64)
    }

    /// The newest number, with its cycles (RFC 3550 section 6.4.1); `None` before the first packet.
    pub(super) fn newest(&self) -> Option<i64> {
        self.first.map(|_| self.newest)
    }

    /// Packets that were missing when a later one came.
    pub(super) fn was_missing(&self) -> u64 {
        self.was_missing
    }

    /// Of those, the ones that nobody waits for any more.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// When [`Self::poll`] has something to say.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.next).min()
    }

    /// A packet arrived.
    pub(super) fn on_packet(&mut self, now: Instant, sequence_number: u16) -> Arrival {
        let number = self.unwrapper.unwrap(sequence_number);
        let Some(first) = self.first else {
            self.first = Some(number);
            self.newest = number;
            self.settle(number);
            return Arrival::Newest(number);
        };
        if number > self.newest {
            self.advance(now, number);
            return Arrival::Newest(number);
        }
        if number < first || number <= self.newest - WINDOW || self.is_settled(number) {
            return Arrival::Duplicate;
        }
        self.settle(number);
        let requested = self.missing.remove(&number).is_some_and(|missing| missing.requests > 0);
        Arrival::Late { number, requested: requested && self.nack }
    }

    /// A packet was sent again, in answer to a request or not.
    pub(super) fn on_retransmission(&mut self, now: Instant, sequence_number: u16) -> Arrival {
        // Of a stream that nothing is known of, nothing was asked for.
        if self.first.is_none() { Arrival::Duplicate } else { self.on_packet(now, sequence_number) }
    }

    /// What is to be asked for now. What was asked for too often is given up.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<u16> {
        let mut requests = Vec::new();
        let mut lost = Vec::new();
        for (&number, missing) in self.missing.iter_mut().filter(|(_, missing)| now >= missing.next) {
            if missing.requests == MAX_NACKS {
                lost.push(number);
                continue;
            }
            missing.requests += 1;
            missing.next = now + NACK_INTERVAL;
            requests.push(number as u16);
        }
        for number in lost {
            self.missing.remove(&number);
            self.settle(number);
            self.given_up += 1;
        }
        requests
    }

    fn advance(&mut self, now: Instant, number: i64) {
        let oldest = number - WINDOW + 1;
        while let Some(left) = self.missing.first_entry().filter(|left| *left.key() < oldest) {
            left.remove();
            self.given_up += 1;
        }
        let skipped = self.newest + 1..number;
        let waited_for = skipped.start.max(oldest)..number;
        self.was_missing += (skipped.end - skipped.start) as u64;
        self.given_up += (waited_for.start - skipped.start).min(number - skipped.start) as u64;
        for next in waited_for.start..=number {
            self.unsettle(next);
        }
        let (requests, next) = if self.nack { (0, now) } else { (MAX_NACKS, now + GIVE_UP_AFTER) };
        self.missing.extend(waited_for.map(|missing| (missing, Missing { requests, next })));
        self.newest = number;
        self.settle(number);
    }

    fn settle(&mut self, number: i64) {
        let bit = number.rem_euclid(WINDOW);
        self.settled[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn unsettle(&mut self, number: i64) {
        let bit = number.rem_euclid(WINDOW);
        self.settled[(bit / 64) as usize] &= !(1 << (bit % 64));
    }

    fn is_settled(&self, number: i64) -> bool {
        let bit = number.rem_euclid(WINDOW);
        self.settled[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes in whatever order: everything expected is there, missing, or given up.
        #[test]
        fn the_books_balance(nack: bool, start: u16, steps in prop::collection::vec((-1500..1500_i64, 0..200_u64), 1..300)) {
            let mut now = crate::clock::tests::instant();
            let mut continuity = Continuity::new(nack);
            let (mut newest, mut arrived) = (i64::from(start), BTreeSet::new());
            for (step, wait_ms) in steps {
                now += Duration::from_millis(wait_ms);
                // Mostly forward.
                let number = newest + if step % 3 == 0 { step / 3 } else { step.abs() % 4 + 1 };
                newest = newest.max(number);
                match continuity.on_packet(now, number as u16) {
                    Arrival::Newest(number) | Arrival::Late { number, .. } => prop_assert!(arrived.insert(number)),
                    Arrival::Duplicate => {}
                }
                let requests = continuity.poll(now);
                prop_assert!(nack || requests.is_empty());
                let waited_for = continuity.missing.len() as u64;
                prop_assert!(waited_for < WINDOW as u64);
                prop_assert_eq!(continuity.expected(), arrived.len() as u64 + waited_for + continuity.given_up());
            }
            for _ in 0..=MAX_NACKS {
                now += GIVE_UP_AFTER;
                continuity.poll(now);
            }
            prop_assert_eq!(continuity.poll_timeout(), None);
            prop_assert_eq!(continuity.expected(), arrived.len() as u64 + continuity.given_up());
        }
    }

    #[test]
    fn requests_are_repeated_until_they_are_answered() {
        let start = crate::clock::tests::instant();
        let at = |ms| start + Duration::from_millis(ms);
        let mut continuity = Continuity::new(true);
        continuity.on_packet(at(0), 10);
        assert_eq!(continuity.on_packet(at(0), 13), Arrival::Newest(13));
        assert_eq!(continuity.poll(at(0)), [11, 12]);
        assert!(continuity.poll(at(99)).is_empty());
        assert_eq!(continuity.on_retransmission(at(40), 11), Arrival::Late { number: 11, requested: true });
        assert_eq!(continuity.on_retransmission(at(40), 11), Arrival::Duplicate);
        assert_eq!(continuity.poll(at(100)), [12]);
        assert!(continuity.poll(at(199)).is_empty());
        assert_eq!(continuity.poll(at(200)), [12]);
    }

    #[test]
    fn what_is_given_up_does_not_come_back() {
        let mut now = crate::clock::tests::instant();
        let mut continuity = Continuity::new(true);
        continuity.on_packet(now, 65_534);
        continuity.on_packet(now, 0);
        for request in 0..=MAX_NACKS {
            assert_eq!(continuity.poll(now).len(), usize::from(request < MAX_NACKS));
            now += NACK_INTERVAL;
        }
        assert_eq!((continuity.was_missing(), continuity.given_up()), (1, 1));
        assert_eq!(continuity.on_packet(now, 65_535), Arrival::Duplicate);
        assert_eq!(continuity.expected(), 3);
    }
}
