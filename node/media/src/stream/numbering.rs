//! Numbers of a stream of which something was left out on purpose: the publisher's, moved so that this leaves no gap,
//! while what was lost still shows as one. Inputs are numbers without their wrap, so that no pause is too long to tell
//! old from new. Of outputs receivers see 16 bits, so the gaps that they show stay narrow enough to tell the same.

use std::collections::VecDeque;

use crate::wire::seq::{FIRST_CYCLE, MAX_DROPOUT};

/// Left-out packets that are remembered one by one. Older ones are only a number to subtract, so a packet reordered
/// behind that many of them is dropped: 512 padding packets are more than any publisher sends within a reordering.
const MAX_DROPPED: usize = 512;

/// Maps input to output numbers, of packets and of pictures.
#[derive(Debug)]
pub(crate) struct Numbering {
    /// Output number minus input number, behind all of `dropped`.
    offset: u64,
    /// Nothing before this input number is sent.
    floor: u64,
    highest_input: u64,
    highest_output: u64,
    /// Input numbers left out since, ascending.
    dropped: VecDeque<u64>,
    pictures: LeftOutPictures,
}

/// Counts pictures that are left out; a VP8 decoder waits for one whose id it misses. Packets reordered across more
/// than the latest of them get a picture id that is one too low; none is ever lost by it.
#[derive(Debug, Default)]
struct LeftOutPictures {
    count: u16,
    /// Where the latest of them began; for what is older the count was `count_before`.
    since: u64,
    count_before: u16,
}

impl Numbering {
    /// The first output will be the number behind `before_first`.
    pub(crate) fn new(before_first: u16) -> Self {
        Self {
            offset: 0,
            floor: u64::MAX,
            highest_input: 0,
            highest_output: FIRST_CYCLE + u64::from(before_first),
            dropped: VecDeque::new(),
            pictures: LeftOutPictures::default(),
        }
    }

    /// Whether nothing up to this input was sent or left out yet.
    pub(crate) fn is_ahead(&self, input: u64) -> bool {
        self.is_fresh() || input > self.highest_input
    }

    fn is_fresh(&self) -> bool {
        self.floor == u64::MAX
    }

    /// The highest input that was sent or left out, if any was.
    pub(crate) fn highest_input(&self) -> Option<u64> {
        (!self.is_fresh()).then_some(self.highest_input)
    }

    /// Inputs are counted otherwise from now on: whichever comes first is ahead. Outputs go on at the next
    /// [`sync`](Self::sync).
    pub(crate) fn change_inputs(&mut self) {
        self.floor = u64::MAX;
    }

    /// So many pictures, modulo 2^16, count as left out before this input.
    pub(crate) fn set_pictures_before(&mut self, input: u64, count: u16) {
        self.pictures = LeftOutPictures { count, since: input, count_before: count };
    }

    /// The highest output number there was.
    pub(crate) fn highest_output(&self) -> u16 {
        self.highest_output as u16
    }

    /// Output goes on without a gap at this input. What comes before it is not sent any more.
    pub(crate) fn sync(&mut self, input: u64) {
        self.floor = input;
        self.highest_input = input.saturating_sub(1);
        self.offset = (self.highest_output + 1).wrapping_sub(input);
        self.dropped.clear();
    }

    /// Whether leaving this input out can still close its gap: for one that came late or twice, that is told or filled.
    fn may_be_dropped(&self, input: u64) -> bool {
        !self.is_fresh() && input > self.highest_input
    }

    /// The input is left out: those behind it move up.
    pub(crate) fn drop_input(&mut self, input: u64) {
        self.leave_out(input, false);
    }

    /// The input is left out, and with it the picture that begins with it, if it does.
    pub(crate) fn leave_out(&mut self, input: u64, begins_picture: bool) {
        if !self.may_be_dropped(input) {
            return;
        }
        if begins_picture {
            let LeftOutPictures { count, since, count_before } = &mut self.pictures;
            (*count_before, *since) = (*count, input);
            *count = count.wrapping_add(1);
        }
        self.highest_input = input;
        if self.dropped.len() == MAX_DROPPED {
            self.forget_oldest_dropped();
        }
        self.dropped.push_back(input);
    }

    /// How many pictures were left out before this input, modulo 2^16: those behind them move up.
    pub(crate) fn pictures_before(&self, input: u64) -> u16 {
        if input < self.pictures.since { self.pictures.count_before } else { self.pictures.count }
    }

    /// The output number, or `None` if the input is too old or was left out. It is taken by [`sent`](Self::sent) only.
    #[inline]
    pub(crate) fn output(&mut self, input: u64) -> Option<u64> {
        if input < self.floor {
            return None;
        }
        // Most come in order, behind all that was left out.
        let is_behind_all = self.dropped.back().is_none_or(|last| *last < input);
        let left_out = if is_behind_all { self.dropped.len() } else { self.left_out_before(input)? };
        let output = input.wrapping_add(self.offset).wrapping_sub(left_out as u64);
        if output > self.highest_output + MAX_DROPOUT {
            return Some(self.narrow_gap(input));
        }
        Some(output)
    }

    /// How many of those that were left out are before the input; `None` if it was left out itself.
    #[cold]
    fn left_out_before(&self, input: u64) -> Option<usize> {
        self.dropped.binary_search(&input).err()
    }

    /// Lets the input follow behind the widest gap that is taken for loss; what was missing before that is not sent any
    /// more. A gap grows as long as whatever arrives is left out: behind half of the number space the next output would
    /// be one of the past, which receivers may have had.
    #[cold]
    fn narrow_gap(&mut self, input: u64) -> u64 {
        self.sync(input - (MAX_DROPOUT - 1));
        self.highest_output + MAX_DROPOUT
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
        let mut numbers = Numbering::new(99);
        numbers.sync(65_534);
        assert_eq!(numbers.input(65_534), Some(100));
        assert_eq!(numbers.input(65_536), Some(102), "65535 was lost");
        numbers.drop_input(65_537);
        assert_eq!(numbers.input(65_538), Some(103));
        assert_eq!(numbers.input(65_535), Some(101), "and comes late");
        assert_eq!(numbers.input(65_537), None);
        assert_eq!(numbers.input(65_533), None, "before the beginning");
        assert!(!numbers.is_ahead(65_538) && numbers.is_ahead(65_539));
        numbers.sync(500_000);
        assert_eq!(numbers.input(500_000), Some(104));
        assert_eq!(numbers.input(65_539), None);
    }

    #[test]
    fn what_was_sent_is_not_left_out() {
        let mut numbers = Numbering::new(99);
        numbers.sync(50);
        assert_eq!(numbers.input(50), Some(100));
        numbers.leave_out(50, true);
        assert_eq!((numbers.input(50), numbers.pictures_before(51)), (Some(100), 0));
        numbers.leave_out(51, true);
        numbers.leave_out(51, true);
        assert_eq!((numbers.input(52), numbers.pictures_before(52)), (Some(101), 1));
    }

    #[test]
    fn many_left_out_ones_are_bounded() {
        let mut numbers = Numbering::new(0);
        numbers.sync(0);
        numbers.input(0);
        for input in 1..=3_000 {
            numbers.drop_input(input);
        }
        assert_eq!(numbers.dropped.len(), MAX_DROPPED);
        assert_eq!(numbers.input(3_001), Some(2));
    }

    #[test]
    fn no_gap_is_so_wide_that_what_is_new_looks_old() {
        let mut numbers = Numbering::new(99);
        numbers.sync(70_000);
        assert_eq!(numbers.input(70_000), Some(100));
        // Padding is all that arrives of 50,000 packets. As many numbers ahead would be 15,000 back.
        for padding in 1..=500 {
            numbers.drop_input(70_000 + padding * 100);
        }
        let first = 100 + MAX_DROPOUT as u16;
        assert_eq!(numbers.input(120_001), Some(first));
        assert_eq!(numbers.input(120_002), Some(first + 1));
        assert_eq!(numbers.input(119_999), Some(first - 2), "lost and comes late");
        assert_eq!(numbers.input(70_001), None, "there is no number for all that was lost");
    }

    proptest! {
        #[test]
        fn outputs_are_unique_and_keep_the_order(
            start: u16,
            actions in proptest::collection::vec(
                (prop_oneof![20 => 0..3_u16, 1 => any::<u16>()], prop::bool::weighted(0.2), -20..20_i16), 1..300,
            ),
        ) {
            let mut numbers = Numbering::new(7);
            let mut next = u64::from(start) + FIRST_CYCLE;
            numbers.sync(next);
            let mut outputs = BTreeMap::new();
            for (skip, drop, late) in actions {
                next += u64::from(skip);
                if drop {
                    numbers.drop_input(next);
                } else {
                    let input = next.saturating_add_signed(i64::from(late.min(0)));
                    if let Some(output) = numbers.input(input)
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
