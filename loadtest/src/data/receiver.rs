//! What a user receives on one data channel.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::message::DataMessage;
use crate::clock::Clock;
use crate::tally::DataReceivedTally;
use crate::transport::Delivery;

/// Until a message that others overtook is lost, where messages may overtake each other: a route between nodes that
/// gives up something has then done so.
const PATIENCE: Duration = Duration::from_secs(10);
/// Missing messages that are known one by one: what a thousand a second lose in some seconds. Of more the oldest are
/// lost at once.
const MAX_MISSING: usize = 4096;

/// The messages of one sender, as they come on one stream.
pub struct DataReceiver {
    delivery: Delivery,
    /// Whose they are, and the number that is due; `None` before the first.
    due: Option<(u64, u64)>,
    /// Numbers that later ones overtook, and when.
    missing: BTreeMap<u64, Instant>,
    /// Since the last look.
    tally: DataReceivedTally,
}

impl DataReceiver {
    /// A receiver that has heard nothing yet: what was sent before the first message that comes is not missed.
    pub fn new(delivery: Delivery) -> Self {
        Self { delivery, due: None, missing: BTreeMap::new(), tally: DataReceivedTally::default() }
    }

    /// Takes a message; `false` if it is another sender's than those before it.
    pub fn on_message(&mut self, now: Instant, clock: &Clock, message: &DataMessage, bytes: usize) -> bool {
        let (sender, due) = self.due.unwrap_or((message.sender, message.number));
        if sender != message.sender {
            return false;
        }
        let sums = &mut self.tally.sums;
        if message.number >= due {
            let skipped = message.number - due;
            sums.expected += skipped + 1;
            self.due = Some((sender, message.number.saturating_add(1)));
            self.miss(now, due, message.number);
        } else if self.missing.remove(&message.number).is_some() {
            sums.out_of_order += 1;
            sums.violations += u64::from(self.delivery.ordered);
        } else {
            sums.duplicates += 1;
            sums.violations += 1;
            return true;
        }
        self.tally.sums.messages += 1;
        self.tally.sums.bytes += bytes as u64;
        if let Some(delay) = clock.delay_since(message.stamp, now) {
            self.tally.delay.record(delay);
        }
        true
    }

    /// What came since the last call. Who comes too late is given up meanwhile.
    pub(super) fn take_tally(&mut self, now: Instant) -> DataReceivedTally {
        while let Some(oldest) = self.missing.first_entry()
            && now.saturating_duration_since(*oldest.get()) >= PATIENCE
        {
            oldest.remove();
            // Where nothing may overtake, it was lost when something did.
            if !self.delivery.ordered {
                self.lose(1);
            }
        }
        std::mem::take(&mut self.tally)
    }

    /// The same, at its end: what is missing does not come any more.
    pub(super) fn finish(mut self) -> DataReceivedTally {
        if !self.delivery.ordered {
            self.lose(self.missing.len() as u64);
        }
        self.tally
    }

    /// The numbers from `first` up to `end` were overtaken.
    fn miss(&mut self, now: Instant, first: u64, end: u64) {
        let known = end.saturating_sub(MAX_MISSING as u64).max(first);
        self.missing.extend((known..end).map(|number| (number, now)));
        let mut lost = if self.delivery.ordered { end - first } else { known - first };
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_first();
            lost += u64::from(!self.delivery.ordered);
        }
        self.lose(lost);
    }

    fn lose(&mut self, messages: u64) {
        self.tally.sums.lost += messages;
        if self.delivery.is_reliable() {
            self.tally.sums.violations += messages;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::DataReceived;

    const RELIABLE: Delivery = Delivery { ordered: true, max_retransmits: None, max_packet_lifetime: None };
    const UNORDERED: Delivery = Delivery { ordered: false, ..RELIABLE };
    const LOSSY: Delivery = Delivery { max_retransmits: Some(0), ..RELIABLE };

    struct Channel {
        start: Instant,
        clock: Clock,
        receiver: DataReceiver,
    }

    impl Channel {
        fn new(delivery: Delivery) -> Self {
            let start = crate::clock::tests::instant();
            let clock = Clock::new(start, Duration::from_secs(1_800_000_000));
            Self { start, clock, receiver: DataReceiver::new(delivery) }
        }

        /// Messages with these numbers come 20 ms after they were sent.
        fn take(&mut self, numbers: impl IntoIterator<Item = u64>) {
            for number in numbers {
                let message = DataMessage { sender: 1, number, stamp: self.clock.stamp(self.start) };
                assert!(self.receiver.on_message(self.at(20), &self.clock, &message, 100));
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Messages, expected, lost, duplicates, out of order and violations at this time.
        fn counts(&mut self, ms: u64) -> [u64; 6] {
            let at = self.at(ms);
            let DataReceived { messages, expected, lost, duplicates, out_of_order, violations, .. } =
                self.receiver.take_tally(at).sums;
            [messages, expected, lost, duplicates, out_of_order, violations]
        }
    }

    #[test]
    fn what_comes_whole_and_in_order_is_as_it_should_be() {
        let mut channel = Channel::new(RELIABLE);
        channel.take(7..17);
        let tally = channel.receiver.take_tally(channel.start);
        assert_eq!((tally.sums.messages, tally.sums.expected, tally.sums.bytes), (10, 10, 1000));
        assert_eq!((tally.sums.lost, tally.sums.violations), (0, 0));
        assert_eq!((tally.delay.count(), tally.delay.max()), (10, Duration::from_millis(20)));
        assert_eq!(channel.counts(0), [0; 6], "all of that was told");
    }

    #[test]
    fn an_ordered_channel_has_lost_what_is_overtaken() {
        for (delivery, violations) in [(LOSSY, 0), (RELIABLE, 3)] {
            let mut channel = Channel::new(delivery);
            channel.take([0, 1, 5]);
            assert_eq!(channel.counts(20), [3, 6, 3, 0, 0, violations]);
            assert_eq!(channel.counts(60_000), [0; 6], "it is told once");
        }
    }

    #[test]
    fn what_comes_twice_or_late_is_told_apart() {
        let mut channel = Channel::new(LOSSY);
        channel.take([0, 2, 2, 1, 1]);
        assert_eq!(channel.counts(20), [3, 3, 1, 2, 1, 3]);
    }

    #[test]
    fn messages_of_an_unordered_channel_may_overtake_each_other() {
        let mut channel = Channel::new(UNORDERED);
        channel.take([0, 3, 1]);
        assert_eq!(channel.counts(1000), [3, 4, 0, 0, 1, 0]);
        assert_eq!(channel.counts(10_020), [0, 0, 1, 0, 0, 1], "2 has not come");

        let mut channel = Channel::new(UNORDERED);
        channel.take([0, 3]);
        assert_eq!(channel.receiver.finish().sums.lost, 2);
    }

    #[test]
    fn what_is_missing_takes_no_more_than_its_room() {
        let mut channel = Channel::new(UNORDERED);
        channel.take([0, u64::MAX - 2, u64::MAX - 1]);
        assert_eq!(channel.receiver.missing.len(), MAX_MISSING);
        let [messages, expected, lost, ..] = channel.counts(20);
        assert_eq!((messages, expected), (3, u64::MAX));
        assert_eq!(lost, u64::MAX - 3 - MAX_MISSING as u64);
    }

    #[test]
    fn another_senders_messages_are_not_mixed_in() {
        let mut channel = Channel::new(RELIABLE);
        channel.take(0..3);
        let strange = DataMessage { sender: 2, number: 99, stamp: channel.clock.stamp(channel.start) };
        assert!(!channel.receiver.on_message(channel.start, &channel.clock, &strange, 100));
        assert_eq!(channel.counts(20), [3, 3, 0, 0, 0, 0]);
    }
}
