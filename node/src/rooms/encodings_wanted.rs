//! Which encodings of a producer anybody receives, as its client is told: more at once, fewer only when that has been
//! so for a while. So no viewer who goes up and down has its publisher begin and end encodings all the time.

use std::time::Duration;

/// For so long nobody must have received an encoding before its client is told. It ends within a second.
pub(super) const UNWANTED_FOR: Duration = Duration::from_millis(700);

/// A bit for each encoding.
#[derive(Debug, Default)]
pub(super) struct EncodingsWanted {
    now: u8,
    told: Option<u8>,
    /// Those that were wanted at any time since the wait began.
    meanwhile: Option<u8>,
}

impl EncodingsWanted {
    /// What the client was told last.
    pub(super) fn told(&self) -> u8 {
        self.told.unwrap_or_default()
    }

    /// Others are wanted from now on. Returns whether the client is to be told at once.
    pub(super) fn change(&mut self, wanted: u8) -> bool {
        self.now = wanted;
        self.meanwhile = self.meanwhile.map(|meanwhile| meanwhile | wanted);
        let told = self.told.map_or(wanted, |told| told | wanted);
        self.told.replace(told) != Some(told)
    }

    /// Whether the client was told of more than is wanted, and nobody waits yet to see whether that stays so.
    pub(super) fn begin_wait(&mut self) -> bool {
        let begins = self.meanwhile.is_none() && self.now != self.told();
        if begins {
            self.meanwhile = Some(self.now);
        }
        begins
    }

    /// The wait is over. Returns whether the client is to be told.
    pub(super) fn end_wait(&mut self) -> bool {
        let Some(wanted) = self.meanwhile.take() else { return false };
        self.told.replace(wanted) != Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_at_once_and_less_after_a_while() {
        let mut wanted = EncodingsWanted::default();
        assert!(wanted.change(0b001) && !wanted.begin_wait());
        assert!(wanted.change(0b101) && !wanted.change(0b100));
        assert_eq!(wanted.told(), 0b101);
        assert!(wanted.begin_wait() && !wanted.begin_wait());
        assert!(wanted.end_wait() && !wanted.begin_wait());
        assert_eq!(wanted.told(), 0b100);
    }

    #[test]
    fn what_comes_and_goes_meanwhile_stays() {
        let mut wanted = EncodingsWanted::default();
        wanted.change(0b011);
        for _ in 0..10 {
            assert!(!wanted.change(0b001));
            wanted.begin_wait();
            assert!(!wanted.change(0b010));
            assert!(!wanted.change(0b001));
            assert!(!wanted.end_wait(), "each was wanted at some time");
        }
        assert!(wanted.begin_wait() && wanted.end_wait());
        assert_eq!(wanted.told(), 0b001);
    }
}
