//! How many bytes a client may have again. Whoever says what is missing decides what is sent, so the bound is what was
//! sent anyway: a client can have as much again as it gets, and no claim about losses or the round-trip time makes it
//! more.

/// The most that can go out at once. With 4 Mbit/s that is all of half a second; what more was lost is asked for again
/// a round trip later, when the stream has earned it, or ends with a key frame.
const MAX_BYTES: usize = 256 * 1024;

/// A token bucket in bytes that the media of a transport fill.
#[derive(Debug, Default)]
pub(crate) struct RetransmissionBudget {
    bytes: usize,
}

impl RetransmissionBudget {
    /// A packet of media went out.
    pub(crate) fn earn(&mut self, len: usize) {
        self.bytes = (self.bytes + len).min(MAX_BYTES);
    }

    /// Whether a packet may go out again.
    pub(crate) fn allows(&self, len: usize) -> bool {
        len <= self.bytes
    }

    /// A packet went out again.
    pub(crate) fn spend(&mut self, len: usize) {
        self.bytes = self.bytes.saturating_sub(len);
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
        assert!(budget.allows(MAX_BYTES) && !budget.allows(MAX_BYTES + 1));
    }
}
