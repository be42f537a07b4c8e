//! What a consumer sent: which of the producer's packets went out under which number, and when each went out again
//! last. For clients without a stream for retransmissions, also what it takes to make the same packet again bit by bit.

use std::time::Duration;

use crate::secure::srtp::TagPrefix;
use crate::stream::cut::Place;
use crate::stream::header_template::Stamp;
use crate::stream::layers::UpTo;
use crate::stream::packet::PacketName;
use crate::stream::rtp_cache::Part;

/// Shortest time between two retransmissions of one packet when the round-trip time is not known.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(50);

/// The same when it is known: a client that claims to be no distance away cannot have a packet again and again.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The same for a client that claims to be very far away: no packet is asked for that long.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// Marks a packet whose parameter sets were sent, not the packet itself.
const PARAMETER_SETS: u32 = 1 << PacketName::BITS;

/// One packet that went out.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// A [`PacketName`], maybe with [`PARAMETER_SETS`]. Zero at the start names a packet that no cache will have.
    input: u32,
    output: u16,
    left_out_pictures: u16,
    /// When it went out again last, in milliseconds modulo 2^16; 0 is never. What can be found in the cache is younger
    /// than the wrap.
    resent_ms: u16,
    ends_picture: bool,
    up_to: u8,
}

/// What a packet went out with that neither the cache nor the consumer has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// In its header.
    pub stamp: Stamp,
    /// By which it is known again.
    pub tag: TagPrefix,
}

/// The same in eight bytes.
#[derive(Debug, Clone, Copy, Default)]
struct PackedSealed {
    abs_send_time: [u8; 3],
    tag: TagPrefix,
    transport_wide_seq: u16,
}

/// The last packets, a ring by output number. It takes up memory from the first one on.
#[derive(Debug)]
pub(crate) struct SentPackets {
    capacity: u16,
    can_be_sealed_again: bool,
    slots: Box<[Slot]>,
    /// Beside `slots`, or empty.
    sealed: Box<[PackedSealed]>,
}

impl SentPackets {
    /// Remembers the last `slots` packets, a power of two or none; with `sealed` they can be made again as they were.
    pub(crate) fn new(slots: u16, sealed: bool) -> Self {
        debug_assert!(slots == 0 || slots.is_power_of_two());
        Self { capacity: slots, can_be_sealed_again: sealed, slots: Box::default(), sealed: Box::default() }
    }

    #[cold]
    fn allocate(&mut self) {
        let slots = usize::from(self.capacity);
        self.slots = vec![Slot::default(); slots].into_boxed_slice();
        let sealed = if self.can_be_sealed_again { slots } else { 0 };
        self.sealed = vec![PackedSealed::default(); sealed].into_boxed_slice();
    }

    fn index(&self, output: u16) -> usize {
        usize::from(output) & self.slots.len().saturating_sub(1)
    }

    /// A packet went out.
    #[inline]
    pub(crate) fn insert(&mut self, place: Place, sealed: Sealed) {
        let Place { input, part, output, left_out_pictures, ends_picture, up_to } = place;
        if self.slots.is_empty() && self.capacity > 0 {
            self.allocate();
        }
        let index = self.index(output);
        if let Some(slot) = self.slots.get_mut(index) {
            let mark = if part == Part::ParameterSets { PARAMETER_SETS } else { 0 };
            let (input, up_to) = (input.to_bits() | mark, up_to.0);
            *slot = Slot { input, output, left_out_pictures, resent_ms: 0, ends_picture, up_to };
        }
        if let Some(packed) = self.sealed.get_mut(index) {
            let [_, abs_send_time @ ..] = sealed.stamp.abs_send_time.to_be_bytes();
            let transport_wide_seq = sealed.stamp.transport_wide_seq;
            *packed = PackedSealed { abs_send_time, tag: sealed.tag, transport_wide_seq };
        }
    }

    /// Nobody will ask for anything that was sent. Gives the memory back.
    pub(crate) fn clear(&mut self) {
        (self.slots, self.sealed) = Default::default();
    }

    fn slot(&self, output: u16) -> Option<&Slot> {
        self.slots.get(self.index(output)).filter(|slot| slot.output == output)
    }

    /// What went out as `output`.
    pub(crate) fn get(&self, output: u16) -> Option<Place> {
        let Slot { input, left_out_pictures, ends_picture, up_to, .. } = *self.slot(output)?;
        let part = if input & PARAMETER_SETS == 0 { Part::Payload } else { Part::ParameterSets };
        let (input, up_to) = (PacketName::from_bits(input), UpTo(up_to));
        Some(Place { input, part, output, left_out_pictures, ends_picture, up_to })
    }

    /// What `output`, which [`get`](Self::get) finds, went out with.
    pub(crate) fn sealed(&self, output: u16) -> Option<Sealed> {
        let packed = self.sealed.get(self.index(output))?;
        let [a, b, c] = packed.abs_send_time;
        let abs_send_time = u32::from_be_bytes([0, a, b, c]);
        Some(Sealed { stamp: Stamp { abs_send_time, transport_wide_seq: packed.transport_wide_seq }, tag: packed.tag })
    }

    /// Whether `output` may go out again now: not if it did within a round trip, because that one may be about to
    /// arrive.
    pub(crate) fn may_resend(&self, now: Duration, output: u16, rtt: Option<Duration>) -> bool {
        let Some(slot) = self.slot(output) else { return false };
        let interval = rtt.unwrap_or(DEFAULT_INTERVAL).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let elapsed = Duration::from_millis(milliseconds(now).wrapping_sub(slot.resent_ms).into());
        slot.resent_ms == 0 || elapsed >= interval
    }

    /// `output` went out again.
    pub(crate) fn resent(&mut self, now: Duration, output: u16) {
        let index = self.index(output);
        if let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.output == output) {
            slot.resent_ms = milliseconds(now);
        }
    }
}

/// Of a time since any fixed instant, and never 0.
fn milliseconds(now: Duration) -> u16 {
    (now.as_millis() as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::packet::StreamIndex;

    fn place(output: u16, sequence: u64, part: Part) -> Place {
        let input = PacketName::new(StreamIndex::ZERO, sequence);
        let (left_out_pictures, ends_picture) = (output / 2, output.is_multiple_of(3));
        Place { input, part, output, left_out_pictures, ends_picture, up_to: UpTo(output as u8) }
    }

    #[test]
    fn a_number_that_was_skipped_is_not_found_under_its_predecessor() {
        let mut sent = SentPackets::new(128, false);
        sent.insert(place(5, 1_005, Part::Payload), Sealed::default());
        assert_eq!(sent.get(5), Some(place(5, 1_005, Part::Payload)));
        assert_eq!(sent.get(5 + 128), None);
        sent.insert(place(5 + 128, 2_000, Part::ParameterSets), Sealed::default());
        assert_eq!(sent.get(5), None);
        assert_eq!(sent.get(5 + 128), Some(place(5 + 128, 2_000, Part::ParameterSets)));
    }

    #[test]
    fn what_a_packet_went_out_with_is_kept_whole() {
        let tag = TagPrefix::default();
        let sealed = Sealed { stamp: Stamp { abs_send_time: 0x00fe_dcba, transport_wide_seq: 0x9876 }, tag };
        let mut sent = SentPackets::new(32, true);
        sent.insert(place(65_535, 9, Part::Payload), sealed);
        assert_eq!(sent.sealed(65_535), Some(sealed));
        sent.clear();
        assert_eq!(sent.get(65_535), None);
        let mut none = SentPackets::new(0, true);
        none.insert(place(0, 9, Part::Payload), sealed);
        assert_eq!((none.get(0), none.sealed(0)), (None, None));
    }

    #[test]
    fn each_packet_goes_out_again_once_in_a_round_trip_whatever_others_do() {
        let mut sent = SentPackets::new(512, false);
        let start = Duration::from_millis(65_500);
        let rtt = Some(Duration::from_millis(80));
        for output in 0..512 {
            sent.insert(place(output, output.into(), Part::Payload), Sealed::default());
            assert!(sent.may_resend(start, output, rtt));
            sent.resent(start, output);
        }
        assert!((0..512).all(|output| !sent.may_resend(start + Duration::from_millis(79), output, rtt)));
        assert!((0..512).all(|output| sent.may_resend(start + Duration::from_millis(80), output, rtt)));
    }

    #[test]
    fn nobody_is_so_near_or_so_far_that_the_interval_ends() {
        let mut sent = SentPackets::new(128, false);
        sent.insert(place(7, 1, Part::Payload), Sealed::default());
        sent.resent(Duration::ZERO, 7);
        assert!(!sent.may_resend(Duration::from_millis(9), 7, Some(Duration::ZERO)));
        assert!(sent.may_resend(Duration::from_millis(2_001), 7, Some(Duration::from_secs(3_600))));
    }
}
