//! Packet indices: extended sequence numbers and which of them went by already, RFC 3711 sections 3.3.1 and 3.3.2. DTLS
//! records have such a window too.

/// Largest SRTP packet index, a 32-bit rollover counter and a 16-bit sequence number: after it a key is used up.
const MAX_INDEX: u64 = (1 << 48) - 1;

/// The last `64 * WORDS` indices of one stream.
#[derive(Debug, Clone)]
pub(in crate::secure) struct Window<const WORDS: usize> {
    highest: u64,
    /// Bit `index % size` says whether `index` went by.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    /// A window that has seen `first` only.
    pub(in crate::secure) fn starting_at(first: u64) -> Self {
        let mut window = Self { highest: first, seen: [0; WORDS] };
        window.set(first);
        window
    }

    /// A window that has seen everything up to `highest`.
    pub(super) fn closed_at(highest: u64) -> Self {
        Self { highest, seen: [u64::MAX; WORDS] }
    }

    /// The highest index that went by.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// The index that a sequence number most likely stands for. `None` before the first or after the last index of a
    /// key.
    pub(super) fn estimate(&self, sequence_number: u16) -> Option<u64> {
        let (rollovers, newest) = (self.highest >> 16, self.highest as u16);
        let rollovers = if newest < 0x8000 {
            if sequence_number.saturating_sub(newest) > 0x8000 { rollovers.checked_sub(1)? } else { rollovers }
        } else if newest - 0x8000 > sequence_number {
            rollovers + 1
        } else {
            rollovers
        };
        let index = rollovers << 16 | u64::from(sequence_number);
        (index <= MAX_INDEX).then_some(index)
    }

    /// Whether `index` went by, or is so old that nobody can tell.
    pub(in crate::secure) fn has_seen(&self, index: u64) -> bool {
        index <= self.highest && (self.highest - index >= Self::SIZE || self.get(index))
    }

    /// Remembers that `index` went by.
    pub(in crate::secure) fn mark(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= Self::SIZE {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..index {
                    self.clear(skipped);
                }
            }
            self.highest = index;
        }
        if self.highest - index < Self::SIZE {
            self.set(index);
        }
    }

    fn position(index: u64) -> (usize, u64) {
        let bit = index % Self::SIZE;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn get(&self, index: u64) -> bool {
        let (word, mask) = Self::position(index);
        self.seen.get(word).is_some_and(|bits| bits & mask != 0)
    }

    fn set(&mut self, index: u64) {
        let (word, mask) = Self::position(index);
        if let Some(bits) = self.seen.get_mut(word) {
            *bits |= mask;
        }
    }

    fn clear(&mut self, index: u64) {
        let (word, mask) = Self::position(index);
        if let Some(bits) = self.seen.get_mut(word) {
            *bits &= !mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequence_numbers_are_extended_across_the_wrap_both_ways() {
        let mut window = Window::<2>::starting_at(0xfff0);
        assert_eq!(window.estimate(0xffff), Some(0xffff));
        assert_eq!(window.estimate(0x0003), Some(0x1_0003));
        window.mark(0x1_0003);
        assert_eq!(window.estimate(0xfffe), Some(0xfffe));
        assert_eq!(window.estimate(0x8003), Some(0x1_8003));
        assert_eq!(window.estimate(0x8004), Some(0x8004));
    }

    #[test]
    fn nothing_comes_before_the_first_or_after_the_last_index() {
        assert_eq!(Window::<2>::starting_at(5).estimate(0xfff0), None);
        assert_eq!(Window::<2>::starting_at(MAX_INDEX).estimate(0), None);
        assert_eq!(Window::<2>::starting_at(MAX_INDEX - 1).estimate(0xffff), Some(MAX_INDEX));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_indices(first in 0_u64..500, steps in prop::collection::vec(-300_i64..300, 1..200)) {
            let mut window = Window::<2>::starting_at(first);
            let mut seen = BTreeSet::from([first]);
            for step in steps {
                let highest = *seen.last().unwrap();
                let index = highest.saturating_add_signed(step);
                let expected = seen.contains(&index) || highest.saturating_sub(index) >= 128;
                prop_assert_eq!(window.has_seen(index), expected);
                if !expected {
                    window.mark(index);
                    seen.insert(index);
                }
            }
        }
    }
}
