//! What a consumer sent: which of the producer's packets went out under which number, and which of them went out again lately.

use std::time::{Duration, Instant};

/// Shortest time between two retransmissions of one packet when the round-trip time is not known.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(50);

/// The same when it is known: a client that claims to be no distance away cannot have a packet again and again.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Retransmissions that are remembered so that none goes twice within a round trip.
const RESENT_SLOTS: usize = 256;

/// Which output went out again last in its slot, and when.
type Resent = Option<(u16, Instant)>;

/// Output to input sequence numbers, a ring by output number.
#[derive(Debug)]
pub struct SentPackets {
    /// Output number in the upper half, input number in the lower. Zero at the start names a packet that the cache will not have.
    slots: Box<[u32]>,
    /// Made at the first retransmission: most consumers never need it.
    resent: Option<Box<[Resent]>>,
}

impl SentPackets {
    /// Remembers the last `slots` packets, a power of two.
    pub fn new(slots: usize) -> Self {
        debug_assert!(slots.is_power_of_two());
        Self { slots: vec![0; slots].into_boxed_slice(), resent: None }
    }

    /// `input` went out as `output`.
    pub fn insert(&mut self, output: u16, input: u16) {
        let index = usize::from(output) & (self.slots.len() - 1);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = u32::from(output) << 16 | u32::from(input);
        }
    }

    /// What went out as `output`.
    pub fn get(&self, output: u16) -> Option<u16> {
        let slot = *self.slots.get(usize::from(output) & (self.slots.len() - 1))?;
        (slot >> 16 == u32::from(output)).then_some(slot as u16)
    }

    /// Whether `output` may go out again now: not if it did within a round trip, because that one may be about to arrive.
    pub fn may_resend(&mut self, now: Instant, output: u16, rtt: Option<Duration>) -> bool {
        let resent = self.resent.get_or_insert_with(|| vec![None; RESENT_SLOTS].into_boxed_slice());
        let Some(slot) = resent.get_mut(usize::from(output) % RESENT_SLOTS) else { return false };
        let too_early = slot.is_some_and(|(seq, at)| {
            seq == output && now.saturating_duration_since(at) < rtt.unwrap_or(DEFAULT_INTERVAL).max(MIN_INTERVAL)
        });
        if !too_early {
            *slot = Some((output, now));
        }
        !too_early
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
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
    fn goes_out_again_once_in_a_round_trip() {
        let now = Instant::now();
        let mut sent = SentPackets::new(128);
        let rtt = Some(Duration::from_millis(80));
        assert!(sent.may_resend(now, 7, rtt));
        assert!(!sent.may_resend(now + Duration::from_millis(79), 7, rtt));
        assert!(sent.may_resend(now + Duration::from_millis(80), 7, rtt));
    }
}
