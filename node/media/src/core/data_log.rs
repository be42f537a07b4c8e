//! What a data producer keeps of its messages for as long as its routes may ask for them again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Bytes that are kept, with [`MESSAGE_OVERHEAD`]: more than a second of what a client may send.
pub(crate) const KEPT_BYTES: usize = 1 << 20;

/// How long a message is kept: longer than it takes to find another way when a node or a pipe is gone.
pub(crate) const KEPT_TIME: Duration = Duration::from_secs(30);

/// What a message costs beside its bytes, so that empty ones have a limit too.
pub(crate) const MESSAGE_OVERHEAD: usize = 64;

/// A message of a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Payload protocol identifier, RFC 8831 section 8.
    pub ppid: u32,
    /// The message.
    pub payload: Bytes,
}

impl Message {
    /// What it costs to keep it, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + MESSAGE_OVERHEAD
    }
}

/// The newest messages, by number.
#[derive(Debug, Default)]
pub(crate) struct DataLog {
    kept: VecDeque<Kept>,
    /// What all messages have cost that ever were kept.
    total: u64,
    /// The number of the next message.
    next: u64,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    /// What all before it have cost.
    before: u64,
    message: Message,
}

impl DataLog {
    /// The number of the next message.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The oldest number that is kept; of the next message if none is.
    pub(crate) fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    /// A message by its number.
    pub(crate) fn get(&self, number: u64) -> Option<&Message> {
        let place = usize::try_from(number.checked_sub(self.oldest())?).ok()?;
        self.kept.get(place).map(|kept| &kept.message)
    }

    /// What the messages from this number on cost, as far as they are kept.
    pub(crate) fn cost_since(&self, number: u64) -> usize {
        let place = usize::try_from(number.saturating_sub(self.oldest())).unwrap_or(usize::MAX);
        self.kept.get(place).map_or(0, |kept| self.total - kept.before) as usize
    }

    /// Keeps a message, and forgets what is too old or too much.
    pub(crate) fn push(&mut self, now: Instant, message: Message) {
        let before = self.total;
        self.total += message.cost() as u64;
        self.next += 1;
        self.kept.push_back(Kept { at: now, before, message });
        self.forget_old(now);
        while self.cost_since(0) > KEPT_BYTES {
            self.kept.pop_front();
        }
    }

    /// Forgets what is too old.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        while self.expires_at().is_some_and(|at| at <= now) {
            self.kept.pop_front();
        }
    }

    /// Forgets all of it.
    pub(crate) fn clear(&mut self) {
        self.kept = VecDeque::new();
    }

    /// The next message has this number; what was between is not to be had.
    pub(crate) fn jump(&mut self, next: u64) {
        self.clear();
        self.next = next;
    }

    /// When the oldest message is too old.
    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.kept.front().map(|kept| kept.at + KEPT_TIME)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    fn message(len: usize) -> Message {
        Message { ppid: 53, payload: vec![7; len].into() }
    }

    #[test]
    fn keeps_so_much_for_so_long() {
        let (mut log, now) = (DataLog::default(), Instant::now());
        for second in 0..40 {
            log.push(now + Duration::from_secs(second), message(100));
        }
        assert_eq!((log.oldest(), log.next()), (10, 40));
        assert!(log.get(9).is_none() && log.get(10).is_some() && log.get(39).is_some() && log.get(40).is_none());
        log.forget_old(now + Duration::from_secs(39) + KEPT_TIME);
        assert_eq!((log.oldest(), log.cost_since(0), log.expires_at()), (40, 0, None));

        (0..100_000).for_each(|_| log.push(now, message(1)));
        assert!((KEPT_BYTES - 100..=KEPT_BYTES).contains(&log.cost_since(0)));
        assert_eq!((log.next(), log.cost_since(100_038), log.cost_since(100_040)), (100_040, 130, 0));
        log.jump(200_000);
        assert_eq!((log.oldest(), log.next(), log.cost_since(0)), (200_000, 200_000, 0));
        // The largest that there is.
        log.push(now, message(262_144));
        assert_eq!(log.get(200_000), Some(&message(262_144)));
    }
}
