//! When who is to be woken. An object may be in the heap several times; only the entry at the time that it waits for
//! counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::keys::{DataProducerKey, ProducerKey, RouterKey};
use crate::transport::demux::TransportKey;

/// Who is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// ICE, DTLS, SCTP, reports and feedback of a transport.
    Transport(TransportKey),
    /// NACKs and key-frame requests of a producer.
    Producer(ProducerKey),
    /// What a data producer and its routes say to their other ends.
    DataProducer(DataProducerKey),
    /// Audio levels of a router.
    Router(RouterKey),
}

/// The time that an object waits for: owned by the object, entered by [`Timers::arm`].
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Instant>);

/// All timers of a worker.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, TimerKey)>>,
}

impl Timers {
    /// The object wants to be woken at `at` at the latest. Being woken early does no harm, so a later time than before
    /// is not entered.
    pub(crate) fn arm(&mut self, timer: &mut Timer, key: TimerKey, at: Option<Instant>) {
        let Some(at) = at else { return };
        if timer.0.is_none_or(|armed| at < armed) {
            timer.0 = Some(at);
            self.heap.push(Reverse((at, key)));
        }
    }

    /// The earliest time, possibly one that nobody waits for any more.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next whose time has come. The caller passes it on if [`Timer::fire`] agrees, and arms it again.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, TimerKey)> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

impl Timer {
    /// Whether this entry is the one that counts. It is used up then.
    pub(crate) fn fire(&mut self, at: Instant) -> bool {
        let fires = self.0 == Some(at);
        if fires {
            self.0 = None;
        }
        fires
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_earliest_entry_fires() {
        let now = Instant::now();
        let (early, late) = (now + Duration::from_millis(1), now + Duration::from_millis(2));
        let mut timers = Timers::default();
        let mut timer = Timer::default();
        let key = TimerKey::Producer(ProducerKey::default());
        timers.arm(&mut timer, key, Some(late));
        timers.arm(&mut timer, key, Some(early));
        timers.arm(&mut timer, key, Some(late));
        assert_eq!(timers.pop_due(now), None);
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(late)).map(|(at, _)| timer.fire(at)).collect();
        assert_eq!(fired, [true, false]);
    }
}
