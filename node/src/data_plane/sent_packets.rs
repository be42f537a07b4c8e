//! What a consumer sent: which of the producer's packets went out under which number, and when each went out again last.

use std::time::Duration;

/// Shortest time between two retransmissions of one packet when the round-trip time is not known.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(50);

/// The same when it is known: a client that claims to be no distance away cannot have a packet again and again.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The same for a client that claims to be very far away: no packet is asked for that long.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// One packet that went out.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Lower half of the input number. Zero at the start names a packet that the cache will not have.
    input: u32,
    output: u16,
    /// When it went out again last, in milliseconds modulo 2^16; 0 is never. What can be found in the cache is younger than the wrap.
    resent_ms: u16,
}

/// The last packets, a ring by output number.
#[derive(Debug)]
pub struct SentPackets {
    slots: Box<[Slot]>,
}

impl SentPackets {
    /// Remembers the last `slots` packets, a power of two.
    pub fn new(slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two());
        Self { slots: vec![Slot::default(); slots].into_boxed_slice() }
    }

    /// `input`, without its wrap, went out as `output`.
    pub fn insert(&mut self, output: u16, input: u64) {
        let index = usize::from(output) & (self.slots.len() - 1);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Slot { input: input as u32, output, resent_ms: 0 };
        }
    }

    /// The lower half of the number of what went out as `output`.
    pub fn get(&self, output: u16) -> Option<u32> {
        let slot = self.slots.get(usize::from(output) & (self.slots.len() - 1))?;
        (slot.output == output).then_some(slot.input)
    }

    /// Whether `output` may go out again now: not if it did within a round trip, because that one may be about to arrive.
    pub fn may_resend(&self, now: Duration, output: u16, rtt: Option<Duration>) -> bool {
        let Some(slot) = self.slots.get(usize::from(output) & (self.slots.len() - 1)) else { return false };
        let interval = rtt.unwrap_or(DEFAULT_INTERVAL).clamp(MIN_INTERVAL, MAX_INTERVAL);
        let elapsed = Duration::from_millis(milliseconds(now).wrapping_sub(slot.resent_ms).into());
        slot.output == output && (slot.resent_ms == 0 || elapsed >= interval)
    }

    /// `output` went out again.
    pub fn resent(&mut self, now: Duration, output: u16) {
        let index = usize::from(output) & (self.slots.len() - 1);
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

    #[test]
    fn a_number_that_was_skipped_is_not_found_under_its_predecessor() {
        let mut sent = SentPackets::new(128);
        sent.insert(5, 1_005);
        assert_eq!(sent.get(5), Some(1_005));
        assert_eq!(sent.get(5 + 128), None);
        sent.insert(5 + 128, 2_000);
        assert_eq!(sent.get(5), None);
    }

    #[test]
    fn each_packet_goes_out_again_once_in_a_round_trip_whatever_others_do() {
        let mut sent = SentPackets::new(512);
        let start = Duration::from_millis(65_500);
        let rtt = Some(Duration::from_millis(80));
        for output in 0..512 {
            sent.insert(output, output.into());
            assert!(sent.may_resend(start, output, rtt));
            sent.resent(start, output);
        }
        assert!((0..512).all(|output| !sent.may_resend(start + Duration::from_millis(79), output, rtt)));
        assert!((0..512).all(|output| sent.may_resend(start + Duration::from_millis(80), output, rtt)));
    }

    #[test]
    fn nobody_is_so_near_or_so_far_that_the_interval_ends() {
        let mut sent = SentPackets::new(128);
        sent.insert(7, 1);
        sent.resent(Duration::ZERO, 7);
        assert!(!sent.may_resend(Duration::from_millis(9), 7, Some(Duration::ZERO)));
        assert!(sent.may_resend(Duration::from_millis(2_001), 7, Some(Duration::from_secs(3_600))));
    }
}
