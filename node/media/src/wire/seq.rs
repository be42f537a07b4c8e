//! Sequence numbers without their wrap.

/// The number nearest to `reference` whose lower 16 bits are `seq`.
///
/// References begin at [`FIRST_CYCLE`] or above, so that what is older than the first packet has a number too.
pub fn unwrap(reference: u64, seq: u16) -> u64 {
    let distance = seq.wrapping_sub(reference as u16).cast_signed();
    reference.saturating_add_signed(i64::from(distance))
}

/// What the first number of a stream is put upon: one cycle.
pub const FIRST_CYCLE: u64 = 1 << 16;

/// A sequence number without its wrap, next to the newest; the first of all when there is none yet.
pub fn extend(newest: Option<u64>, seq: u16) -> u64 {
    newest.map_or(FIRST_CYCLE + u64::from(seq), |newest| unwrap(newest, seq))
}

/// Takes the wrap out of one stream's numbers. However often the stream counts anew, no number is ever given to two
/// packets.
#[derive(Debug, Clone, Copy)]
pub struct Unwrapper {
    /// What the first number is put upon.
    base: u64,
    newest: Option<u64>,
}

impl Default for Unwrapper {
    fn default() -> Self {
        Self { base: FIRST_CYCLE, newest: None }
    }
}

impl Unwrapper {
    /// The number nearest to the newest whose lower 16 bits are `seq`.
    pub fn extend(&self, seq: u16) -> u64 {
        self.newest.map_or(self.base + u64::from(seq), |newest| unwrap(newest, seq))
    }

    /// A number was used, as [`extend`](Self::extend) gave it.
    pub fn advance(&mut self, sequence: u64) {
        self.newest = self.newest.max(Some(sequence));
    }

    /// The highest number that was used since the stream began to count anew.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// The stream counts anew: what comes is newer than all that came, and so is what may come late before it.
    pub fn restart(&mut self) {
        if let Some(newest) = self.newest.take() {
            self.base = newest - newest % FIRST_CYCLE + 2 * FIRST_CYCLE;
        }
    }
}

/// A jump further ahead than this is no loss but a new beginning, RFC 3550 appendix A.1.
pub const MAX_DROPOUT: u64 = 3_000;

/// Whether `a` comes after `b`, modulo 2^16.
pub fn is_newer(a: u16, b: u16) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_to_the_nearest() {
        assert_eq!(unwrap(FIRST_CYCLE + 65_535, 0), 2 * FIRST_CYCLE);
        assert_eq!(unwrap(2 * FIRST_CYCLE, 65_535), 2 * FIRST_CYCLE - 1);
        assert_eq!(unwrap(FIRST_CYCLE, 65_535), FIRST_CYCLE - 1);
        assert!(is_newer(0, 65_535) && !is_newer(65_535, 0) && !is_newer(7, 7));
    }

    #[test]
    fn no_number_is_given_twice() {
        let mut numbers = Unwrapper::default();
        let mut last = 0;
        for first in [65_535, 0, 7, 40_000] {
            for late in [0, 1, 32_767] {
                let sequence = numbers.extend(first);
                assert_eq!(sequence as u16, first);
                numbers.advance(sequence);
                let before = numbers.extend(first.wrapping_sub(late));
                assert!(before > last, "{before} after {last}");
            }
            last = numbers.newest().unwrap();
            numbers.restart();
            assert_eq!(numbers.newest(), None);
        }
    }
}
