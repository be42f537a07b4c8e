//! When a worker may rest before it looks again whether something came. To be woken costs more than to answer a
//! connectivity check, and ten thousand transports on which nothing is sent have 2,000 of these a second: so where
//! there is nothing else, several are answered together.

use std::time::{Duration, Instant};

/// For how long: nothing to those who check every few seconds, and to whoever begins to connect meanwhile.
const REST: Duration = Duration::from_millis(2);

/// After so many turns with nothing but checks, each within [`REST`] of the one before or with several of them.
const TURNS: u32 = 16;

/// What came in the latest turns.
#[derive(Debug, Default)]
pub(super) struct Rest {
    turns: u32,
    last_check: Option<Instant>,
}

impl Rest {
    /// What a turn brought: datagrams, and how many of them were checks.
    pub(super) fn note(&mut self, now: Instant, datagrams: usize, checks: usize) {
        if datagrams == 0 {
            return;
        }
        let before = self.last_check.replace(now);
        let is_dense = checks > 1 || before.is_some_and(|before| now.saturating_duration_since(before) < REST);
        self.turns = if checks == datagrams && is_dense { self.turns.saturating_add(1) } else { 0 };
    }

    /// Something else is to be done than to answer checks.
    pub(super) fn end(&mut self) {
        self.turns = 0;
    }

    /// How long the worker may rest now.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.turns >= TURNS).then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    /// After turns with checks alone, so far apart.
    fn rest(apart: Duration, checks: usize, turns: u32) -> (Rest, Instant) {
        let (mut rest, start) = (Rest::default(), Instant::now());
        for turn in 0..turns {
            rest.note(start + turn * apart, checks, checks);
            rest.note(start + turn * apart, 0, 0);
        }
        (rest, start + turns * apart)
    }

    #[test]
    fn it_rests_where_many_checks_come_and_nothing_else() {
        let ms = Duration::from_millis;
        assert_eq!(rest(ms(1), 1, TURNS + 1).0.due(), Some(REST));
        assert_eq!(rest(ms(3), 2, TURNS + 1).0.due(), Some(REST), "that is how it goes on");
        assert_eq!(rest(ms(3), 1, 1_000).0.due(), None, "there are few");
        assert_eq!(rest(ms(1), 1, TURNS - 1).0.due(), None, "somebody connects");
    }

    #[test]
    fn whatever_else_comes_is_waited_for() {
        let (mut media, now) = rest(Duration::from_millis(1), 3, 100);
        media.note(now, 3, 2);
        assert_eq!(media.due(), None);
        let (mut command, _) = rest(Duration::from_millis(1), 3, 100);
        command.end();
        assert_eq!(command.due(), None);
    }
}
