//! How many bytes a client may have again. Whoever says what is missing decides what is sent, so the bound is what was
//! sent anyway: a client can have as much again as it gets, and no claim about losses or the round-trip time makes it
//! more.

/// The most that can go out at once. With 4 Mbit/s that is all of half a second; what more was lost is asked for again
/// a round trip later, when the stream has earned it, or ends with a key frame.
const MAX_BYTES: u64 = 256 * 1024;

/// A token bucket in bytes that the media of a transport fill. Media are many packets, of which each is only added to
/// what was sent; what that earned is reckoned when something is to go out again.
#[derive(Debug, Default)]
pub(crate) struct RetransmissionBudget {
    /// Bytes of media since the start.
    earned: u64,
    /// Those of them that are in `bytes`.
    reckoned: u64,
    bytes: u64,
}

impl RetransmissionBudget {
    /// A packet of media went out.
    #[inline]
    pub(crate) fn earn(&mut self, len: usize) {
        self.earned += len as u64;
    }

    /// Bytes of media that went out since the start.
    pub(crate) fn earned(&self) -> u64 {
        self.earned
    }

    /// Whether a packet may go out again.
    pub(crate) fn allows(&self, len: usize) -> bool {
        len as u64 <= self.left()
    }

    /// A packet went out again.
    pub(crate) fn spend(&mut self, len: usize) {
        self.bytes = self.left().saturating_sub(len as u64);
        self.reckoned = self.earned;
    }

    fn left(&self) -> u64 {
        (self.bytes + self.earned - self.reckoned).min(MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_can_be_sent_again_once() {
        let mut budget = RetransmissionBudget::default();
        assert!(!budget.allows(1));
        (0..10).for_each(|_| budget.earn(1_200));
        for _ in 0..10 {
            assert!(budget.allows(1_200));
            budget.spend(1_200);
        }
        assert!(!budget.allows(1));
        (0..10_000).for_each(|_| budget.earn(1_200));
        let most = MAX_BYTES as usize;
        assert!(budget.allows(most) && !budget.allows(most + 1));
        budget.spend(1_000);
        budget.earn(600);
        assert!(budget.allows(most - 400) && !budget.allows(most - 399));
        budget.earn(600);
        assert!(budget.allows(most) && !budget.allows(most + 1));
        assert_eq!(budget.earned(), 10_010 * 1_200 + 1_200);
    }
}
