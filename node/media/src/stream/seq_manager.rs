//! Output sequence numbers of a consumer: the publisher's, moved so that what was left out on purpose leaves no gap, while
//! what was lost still shows as one. Inputs are numbers without their wrap, so that no pause is too long to tell old from new.

use std::collections::VecDeque;

use crate::wire::seq::FIRST_CYCLE;

/// Left-out packets that are remembered one by one. Older ones are only a number to subtract, so a packet reordered behind that
/// many of them is dropped: 512 padding packets are more than any publisher sends within a reordering.
const MAX_DROPPED: usize = 512;

/// Maps input to output sequence numbers.
#[derive(Debug)]
pub(crate) struct SeqManager {
    /// Output number minus input number, behind all of `dropped`.
    offset: u64,
    /// Nothing before this input number is sent.
    floor: u64,
    highest_input: u64,
    highest_output: u64,
    /// Input numbers left out since, ascending.
    dropped: VecDeque<u64>,
}

impl SeqManager {
    /// The first output will be the number behind `before_first`.
    pub(crate) fn new(before_first: u16) -> Self {
        Self {
            offset: 0,
            floor: u64::MAX,
            highest_input: 0,
            highest_output: FIRST_CYCLE + u64::from(before_first),
            dropped: VecDeque::new(),
        }
    }

    /// Whether nothing up to this input was sent or left out yet.
    pub(crate) fn is_ahead(&self, input: u64) -> bool {
        self.is_fresh() || input > self.highest_input
    }

    fn is_fresh(&self) -> bool {
        self.floor == u64::MAX
    }

    /// The highest output number there was.
    pub(crate) fn highest_output(&self) -> u16 {
        self.highest_output as u16
    }

    /// Inputs are counted anew: what comes is neither older nor newer than what came.
    pub(crate) fn restart(&mut self) {
        self.floor = u64::MAX;
    }

    /// Output goes on without a gap at this input. What comes before it is not sent any more.
    pub(crate) fn sync(&mut self, input: u64) {
        self.floor = input;
        self.highest_input = input;
        self.offset = (self.highest_output + 1).wrapping_sub(input);
        self.dropped.clear();
    }

    /// The input is left out: those behind it move up.
    pub(crate) fn drop_input(&mut self, input: u64) {
        // One that came late has had its gap told already.
        if input < self.highest_input || self.is_fresh() || self.dropped.back() == Some(&input) {
            return;
        }
        self.highest_input = input;
        if self.dropped.len() == MAX_DROPPED {
            self.forget_oldest_dropped();
        }
        self.dropped.push_back(input);
    }

    /// The output number, or `None` if the input is too old or was left out. It is taken by [`sent`](Self::sent) only.
    pub(crate) fn output(&self, input: u64) -> Option<u64> {
        if input < self.floor {
            return None;
        }
        let left_out = if self.dropped.is_empty() {
            0
        } else {
            let older = self.dropped.partition_point(|&dropped| dropped < input);
            if self.dropped.get(older) == Some(&input) {
                return None;
            }
            older as u64
        };
        Some(input.wrapping_add(self.offset).wrapping_sub(left_out))
    }

    /// The input went out under the number that [`output`](Self::output) had for it.
    pub(crate) fn sent(&mut self, input: u64, output: u64) {
        self.highest_input = self.highest_input.max(input);
        self.highest_output = self.highest_output.max(output);
    }

    /// Both in one, for who can be sure to send it.
    pub(crate) fn input(&mut self, input: u64) -> Option<u16> {
        let output = self.output(input)?;
        self.sent(input, output);
        Some(output as u16)
    }

    /// The number of a packet that no input stands for, sent before the next [`sync`](Self::sync). It is taken by
    /// [`inserted`](Self::inserted) only.
    pub(crate) fn next_output(&self) -> u16 {
        (self.highest_output + 1) as u16
    }

    /// A packet went out as [`next_output`](Self::next_output).
    pub(crate) fn inserted(&mut self) {
        self.highest_output += 1;
    }

    fn forget_oldest_dropped(&mut self) {
        if let Some(oldest) = self.dropped.pop_front() {
            self.offset = self.offset.wrapping_sub(1);
            self.floor = oldest + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_stay_and_left_out_ones_close() {
        let mut seq = SeqManager::new(99);
        seq.sync(65_534);
        assert_eq!(seq.input(65_534), Some(100));
        assert_eq!(seq.input(65_536), Some(102), "65535 was lost");
        seq.drop_input(65_537);
        assert_eq!(seq.input(65_538), Some(103));
        assert_eq!(seq.input(65_535), Some(101), "and comes late");
        assert_eq!(seq.input(65_537), None);
        assert_eq!(seq.input(65_533), None, "before the beginning");
        assert!(!seq.is_ahead(65_538) && seq.is_ahead(65_539));
        seq.sync(500_000);
        assert_eq!(seq.input(500_000), Some(104));
        assert_eq!(seq.input(65_539), None);
        seq.restart();
        assert!(seq.is_ahead(5));
        seq.sync(5);
        assert_eq!(seq.input(5), Some(105));
    }

    #[test]
    fn many_left_out_ones_are_bounded() {
        let mut seq = SeqManager::new(0);
        seq.sync(0);
        seq.input(0);
        for input in 1..=3_000 {
            seq.drop_input(input);
        }
        assert_eq!(seq.dropped.len(), MAX_DROPPED);
        assert_eq!(seq.input(3_001), Some(2));
    }

    proptest! {
        #[test]
        fn outputs_are_unique_and_keep_the_order(
            start: u16, actions in proptest::collection::vec((0..3_u16, prop::bool::weighted(0.2), -20..20_i16), 1..300),
        ) {
            let mut seq = SeqManager::new(7);
            let mut next = u64::from(start) + FIRST_CYCLE;
            seq.sync(next);
            let mut outputs = BTreeMap::new();
            for (skip, drop, late) in actions {
                next += u64::from(skip);
                if drop {
                    seq.drop_input(next);
                } else {
                    let input = next.saturating_add_signed(i64::from(late.min(0)));
                    if let Some(output) = seq.input(input)
                        && let Some(before) = outputs.insert(input, output)
                    {
                        prop_assert_eq!(before, output);
                    }
                }
                next += 1;
            }
            let outputs: Vec<u16> = outputs.into_values().collect();
            for pair in outputs.windows(2) {
                prop_assert!(crate::wire::seq::is_newer(pair[1], pair[0]), "{:?}", pair);
            }
        }
    }
}
