//! Which packets of a route arrived: extends 16-bit sequence numbers and remembers the last window of them.

use super::REPAIR_WINDOW;

const WORDS: usize = REPAIR_WINDOW as usize / 64;

/// Where an arriving sequence number stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Beyond all before; `missing` numbers directly below it have not arrived.
    Newest { seq: u64, missing: u64 },
    /// Within the window and not here yet.
    Late { seq: u64 },
    /// Within the window and here already.
    Duplicate,
    /// Below the window.
    TooOld,
    /// The path was gone for so long that numbers lost their meaning: counting starts anew here, after at least
    /// `skipped` packets.
    Restarted { skipped: u64 },
}

/// The last window of arrivals.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// The next number to expect, extended.
    next: u64,
    /// Bit `seq % REPAIR_WINDOW` of each of the last window's numbers.
    seen: [u64; WORDS],
    /// The number that would prove that the one before it, far out of the window, was no stray.
    restart: Option<u16>,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self { next: 0, seen: [0; WORDS], restart: None }
    }

    pub(super) fn note(&mut self, seq: u16, retransmission: bool) -> Order {
        let ahead = seq.wrapping_sub(self.next as u16);
        if ahead < 0x8000 && !(retransmission && ahead > 0) {
            self.restart = None;
            let seq = self.next + u64::from(ahead);
            self.advance(seq);
            return Order::Newest { seq, missing: u64::from(ahead) };
        }
        let behind = u64::from(0_u16.wrapping_sub(ahead));
        if behind <= u64::from(REPAIR_WINDOW) && behind <= self.next {
            let seq = self.next - behind;
            return if self.mark(seq) { Order::Late { seq } } else { Order::Duplicate };
        }
        if !retransmission && self.restart.replace(seq.wrapping_add(1)) == Some(seq) {
            return self.start_over(seq);
        }
        Order::TooOld
    }

    fn advance(&mut self, seq: u64) {
        if seq - self.next >= u64::from(REPAIR_WINDOW) {
            self.seen = [0; WORDS];
        } else {
            for skipped in self.next..seq {
                self.clear(skipped);
            }
        }
        self.next = seq + 1;
        self.clear(seq);
        self.mark(seq);
    }

    /// The next number that is congruent with `seq` comes after more than half the number space.
    fn start_over(&mut self, seq: u16) -> Order {
        let skipped = u64::from(seq.wrapping_sub(self.next as u16));
        self.restart = None;
        self.next += skipped;
        // Everything below is settled: neither late nor missing.
        self.seen = [u64::MAX; WORDS];
        self.advance(self.next);
        Order::Restarted { skipped }
    }

    /// Whether it was not marked before.
    fn mark(&mut self, seq: u64) -> bool {
        let bit = 1 << (seq % 64);
        self.word(seq).is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    fn clear(&mut self, seq: u64) {
        if let Some(word) = self.word(seq) {
            *word &= !(1 << (seq % 64));
        }
    }

    fn word(&mut self, seq: u64) -> Option<&mut u64> {
        self.seen.get_mut((seq % u64::from(REPAIR_WINDOW) / 64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_over_the_wrap() {
        let mut arrivals = Arrivals::new();
        for seq in 0..200_000_u64 {
            assert_eq!(arrivals.note(seq as u16, false), Order::Newest { seq, missing: 0 });
        }
        assert_eq!(arrivals.note(199_999_u64 as u16, false), Order::Duplicate);
        assert_eq!(arrivals.note((200_000_u64 - u64::from(REPAIR_WINDOW) - 1) as u16, false), Order::TooOld);
    }

    #[test]
    fn starts_over_only_after_two_in_sequence() {
        let mut arrivals = Arrivals::new();
        arrivals.note(0, false);
        assert_eq!(arrivals.note(40_000, false), Order::TooOld);
        assert_eq!(arrivals.note(45_000, false), Order::TooOld);
        assert_eq!(arrivals.note(45_001, true), Order::TooOld, "a retransmission proves nothing");
        assert_eq!(arrivals.note(45_001, false), Order::Restarted { skipped: 45_000 });
        assert_eq!(arrivals.note(45_002, false), Order::Newest { seq: 45_002, missing: 0 });
        assert_eq!(arrivals.note(45_000, false), Order::Duplicate);
    }
}
