//! What was sent of late, by transport-wide sequence number: what a client's feedback is held against. A write of 16
//! bytes a packet, in a ring that grows with what is under way.

use crate::wire::rtcp::{ARRIVAL_PERIOD_US, PacketStatus};

/// Slots that a ring begins with: half a second of 500 packets each.
const MIN_SLOTS: usize = 256;

/// Most slots, 64 KiB: two seconds of 2,000 packets each, some 20 Mbit/s. Feedback comes ten times a second.
const MAX_SLOTS: usize = 4_096;

/// What the client has not spoken of for longer it will not speak of.
const KEEP_US: u64 = 2_000_000;

/// An arrival whose delay differs by more than this from that of those before is of another clock, or made up.
const MAX_DELAY_CHANGE_US: u64 = 10_000_000;

/// What became of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    /// Nothing was sent.
    #[default]
    Unused,
    Unknown,
    Missing,
    Arrived,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    sent_us: u64,
    len: u16,
    sequence: u16,
    fate: Fate,
    cluster: u8,
}

/// What a client says of a packet that it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketReport {
    /// When it was sent, in microseconds.
    pub sent_us: u64,
    /// When it arrived by the client's clock, in microseconds from anywhere; `None` if it did not.
    pub arrived_us: Option<i64>,
    /// The client had said that it is missing.
    pub was_missing: bool,
    /// On the path, in bytes.
    pub len: u16,
    /// Of which probe it is; 0 is none.
    pub cluster: u8,
}

/// The ring.
#[derive(Debug)]
pub(super) struct SentHistory {
    /// A power of two of them.
    slots: Vec<Slot>,
    arrivals: ArrivalClock,
}

impl SentHistory {
    pub(super) fn new() -> Self {
        Self { slots: vec![Slot::default(); MIN_SLOTS], arrivals: ArrivalClock::default() }
    }

    fn index(&self, sequence: u16) -> usize {
        usize::from(sequence) & (self.slots.len() - 1)
    }

    /// A packet was sent.
    #[inline]
    pub(super) fn insert(&mut self, now_us: u64, sequence: u16, len: u16, cluster: u8) {
        let index = self.index(sequence);
        let slot = Slot { sent_us: now_us, len, sequence, fate: Fate::Unknown, cluster };
        let Some(former) = self.slots.get_mut(index) else { return };
        let is_told_or_old = former.fate != Fate::Unknown || now_us.saturating_sub(former.sent_us) >= KEEP_US;
        if is_told_or_old {
            *former = slot;
        } else {
            self.grow_for(slot);
        }
    }

    #[cold]
    fn grow_for(&mut self, slot: Slot) {
        if self.slots.len() < MAX_SLOTS {
            let len = self.slots.len() * 2;
            let former = std::mem::replace(&mut self.slots, vec![Slot::default(); len]);
            for slot in former.into_iter().filter(|slot| slot.fate != Fate::Unused) {
                let index = self.index(slot.sequence);
                self.slots[index] = slot;
            }
        }
        let index = self.index(slot.sequence);
        self.slots[index] = slot;
    }

    /// The client says what became of a packet. `None` if that is no news, or if nothing is known of the packet.
    #[inline]
    pub(super) fn tell(&mut self, status: PacketStatus) -> Option<PacketReport> {
        let index = self.index(status.sequence);
        let slot = self.slots.get_mut(index).filter(|slot| slot.sequence == status.sequence)?;
        let was_missing = match (slot.fate, status.arrived_us) {
            (Fate::Unused | Fate::Arrived, _) | (Fate::Missing, None) => return None,
            (Fate::Unknown, _) => false,
            (Fate::Missing, Some(_)) => true,
        };
        let arrived_us = match status.arrived_us {
            Some(arrived_us) => {
                slot.fate = Fate::Arrived;
                Some(self.arrivals.read(slot.sent_us, arrived_us)?)
            }
            None => {
                slot.fate = Fate::Missing;
                None
            }
        };
        Some(PacketReport { sent_us: slot.sent_us, arrived_us, was_missing, len: slot.len, cluster: slot.cluster })
    }

    /// Whether something was sent after one time, and by another, of which the client has not spoken.
    pub(super) fn lacks_answer(&self, after_us: u64, by_us: u64) -> bool {
        let is_of_then = |slot: &Slot| slot.fate == Fate::Unknown && slot.sent_us > after_us && slot.sent_us <= by_us;
        after_us < by_us && self.slots.iter().any(is_of_then)
    }

    /// Whether the client's clock was found to be another one since this was asked last.
    pub(super) fn take_clock_change(&mut self) -> bool {
        std::mem::take(&mut self.arrivals.has_changed)
    }
}

/// The client's clock, without its wrap.
#[derive(Debug, Default)]
struct ArrivalClock {
    last_us: Option<i64>,
    /// Of the packet that was read last, clocks' difference included.
    delay_us: Option<i64>,
    has_changed: bool,
}

impl ArrivalClock {
    /// `None` for a time that cannot be: the next one is measured by it, in case it was right.
    fn read(&mut self, sent_us: u64, arrived_us: i64) -> Option<i64> {
        let half = ARRIVAL_PERIOD_US / 2;
        let last = self.last_us.unwrap_or(arrived_us);
        let mut ahead = arrived_us - last;
        if ahead.abs() >= half {
            ahead = (ahead + half).rem_euclid(ARRIVAL_PERIOD_US) - half;
        }
        let unwrapped = last + ahead;
        let delay = unwrapped - sent_us.cast_signed();
        if self.delay_us.is_none_or(|before| delay.abs_diff(before) <= MAX_DELAY_CHANGE_US) {
            (self.last_us, self.delay_us) = (Some(unwrapped), Some(delay));
            return Some(unwrapped);
        }
        self.has_changed = true;
        (self.last_us, self.delay_us) = (Some(arrived_us), Some(arrived_us - sent_us.cast_signed()));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(sequence: u16, arrived_us: Option<i64>) -> PacketStatus {
        PacketStatus { sequence, arrived_us }
    }

    #[test]
    fn a_packet_is_told_of_once_and_missing_ones_may_come_late() {
        let mut history = SentHistory::new();
        assert_eq!(history.tell(status(7, Some(0))), None);
        history.insert(1_000, 7, 100, 0);
        assert_eq!(history.tell(status(7 + 256, Some(0))), None, "another one in its slot");
        let missing = history.tell(status(7, None)).unwrap();
        assert_eq!((missing.arrived_us, missing.was_missing, missing.len), (None, false, 100));
        assert_eq!(history.tell(status(7, None)), None);
        let late = history.tell(status(7, Some(5_000))).unwrap();
        assert_eq!((late.arrived_us, late.was_missing), (Some(5_000), true));
        assert_eq!(history.tell(status(7, Some(5_000))), None);
    }

    #[test]
    fn the_ring_grows_with_what_is_under_way_and_not_beyond_its_bound() {
        let mut history = SentHistory::new();
        for number in 0..3_000_u16 {
            history.insert(u64::from(number) * 500, number, 100, 0);
        }
        assert!((0..3_000).all(|number| history.tell(status(number, None)).is_some()));
        for number in 0..30_000_u16 {
            history.insert(5_000_000, number, 100, 0);
        }
        assert_eq!(history.slots.len(), MAX_SLOTS);
        assert!(history.tell(status(29_999, None)).is_some() && history.tell(status(20_000, None)).is_none());
    }

    #[test]
    fn what_was_not_spoken_of_is_found_by_when_it_was_sent() {
        let mut history = SentHistory::new();
        history.insert(1_000, 1, 100, 0);
        history.insert(2_000, 2, 100, 0);
        history.tell(status(2, None));
        assert!(history.lacks_answer(0, 1_000) && !history.lacks_answer(0, 999));
        assert!(!history.lacks_answer(1_000, 3_000) && !history.lacks_answer(3_000, 0));
    }

    #[test]
    fn told_packets_give_their_slots_to_others() {
        let mut history = SentHistory::new();
        for number in 0..10_000_u16 {
            history.insert(u64::from(number) * 100, number, 100, 0);
            assert!(history.tell(status(number, Some(i64::from(number) * 100))).is_some());
        }
        assert_eq!(history.slots.len(), MIN_SLOTS);
    }

    #[test]
    fn arrivals_run_through_the_wrap_and_other_clocks_are_not_believed_at_once() {
        let mut clock = ArrivalClock::default();
        let near_wrap = ARRIVAL_PERIOD_US - 1_000;
        assert_eq!(clock.read(0, near_wrap), Some(near_wrap));
        assert_eq!(clock.read(3_000, 2_000), Some(ARRIVAL_PERIOD_US + 2_000));
        assert_eq!(clock.read(4_000, 60_000_000), None);
        assert_eq!((clock.read(5_000, 60_001_000), clock.has_changed), (Some(60_001_000), true));
        assert_eq!(clock.read(6_000, 1_000), None);
    }
}
