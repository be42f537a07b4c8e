//! How often what is new in a room is told, to its clients and to other nodes: in a small room at once, in a large one
//! now and then. Where much happens it is told now and then in a small room too, so that whoever comes and goes all the
//! time costs the others no more than whoever stays.

use std::time::{Duration, Instant};

use sluice_media::rate_limit::RateLimit;

use super::room::Room;

/// How often in a large room.
const TICK: Duration = Duration::from_millis(50);

/// What may be told at once in a small room: a hundred come, say who they are, and send two producers each.
const AT_ONCE: u32 = 400;

/// How often when that is used up: people hardly notice that somebody came so much later.
const BUSY_TICK: Duration = Duration::from_millis(200);

/// When one kind of listener is told next.
#[derive(Debug)]
pub(super) struct Pace {
    at_once: RateLimit,
    /// It is about to be told.
    is_due: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: RateLimit::new(AT_ONCE, BUSY_TICK), is_due: false }
    }
}

impl Pace {
    /// In what time something new is to be told; at once that is zero. `None` if something is about to be told anyhow.
    fn tell(&mut self, is_small: bool, now: Instant) -> Option<Duration> {
        if self.is_due {
            return None;
        }
        let wait = match is_small {
            true => self.at_once.next_at(now) - now,
            false => TICK,
        };
        self.is_due = !wait.is_zero();
        if is_small {
            self.at_once.allow(now + wait);
        }
        Some(wait)
    }

    /// What was about to be told is told now.
    fn told(&mut self) {
        self.is_due = false;
    }
}

impl Room {
    /// Tells something new, when one of its paces has it.
    pub(super) fn tell_at(&mut self, pace: fn(&mut Self) -> &mut Pace, tell: fn(&mut Self)) {
        let is_small = self.is_small();
        let Some(wait) = pace(self).tell(is_small, tokio::time::Instant::now().into_std()) else { return };
        if wait.is_zero() {
            return tell(self);
        }
        self.after(wait, move |room| {
            pace(room).told();
            tell(room);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    /// How often something is told within a time in which there is always something new.
    fn told(pace: &mut Pace, is_small: bool, from: Instant, time: Duration) -> usize {
        let (mut now, mut count) = (from, 0);
        while now < from + time {
            let wait = pace.tell(is_small, now).expect("nothing is about to be told");
            assert_eq!(pace.tell(is_small, now).is_none(), !wait.is_zero());
            now += wait.max(Duration::from_millis(1));
            pace.told();
            count += 1;
        }
        count
    }

    #[test]
    fn a_small_room_is_told_at_once_until_too_much_happens() {
        let (mut pace, now, second) = (Pace::default(), Instant::now(), Duration::from_secs(1));
        assert_eq!(pace.tell(true, now), Some(Duration::ZERO));
        told(&mut pace, true, now, second);
        let later = now + second;
        assert!(told(&mut pace, true, later, 10 * second) <= 51);
        let calm = later + 10 * second + AT_ONCE * BUSY_TICK;
        assert_eq!(pace.tell(true, calm), Some(Duration::ZERO));
    }

    #[test]
    fn a_large_room_is_told_now_and_then() {
        assert_eq!(told(&mut Pace::default(), false, Instant::now(), Duration::from_secs(1)), 20);
    }
}
