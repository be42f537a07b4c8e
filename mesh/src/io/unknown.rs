//! Answers to what is said about routes that are none: whoever says it believes in a subscription that has ended.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use sluice_proto::ids::{RouteEpoch, RouteId};

/// A route is answered for once in this time: by then the answer has been heard.
const INTERVAL: Duration = Duration::from_secs(1);

/// Routes that are answered for in one interval; the others have to wait for the next ones. As many as one wrong turn of a room leaves
/// behind, and nothing that a peer could make this end choke on.
const MAX_ANSWERS: usize = 256;

/// Which unknown routes were answered for lately.
#[derive(Debug)]
pub(super) struct UnknownRoutes {
    since: Instant,
    answered: FxHashSet<(RouteId, RouteEpoch)>,
}

impl UnknownRoutes {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, answered: FxHashSet::default() }
    }

    /// Whether to answer for this one now.
    pub(super) fn is_to_be_answered(&mut self, now: Instant, route: RouteId, epoch: RouteEpoch) -> bool {
        if now >= self.since + INTERVAL {
            self.since = now;
            self.answered.clear();
        }
        self.answered.len() < MAX_ANSWERS && self.answered.insert((route, epoch))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    #[test]
    fn a_route_is_answered_for_once_a_second_and_many_are_not_all() {
        let start = Instant::now();
        let mut unknown = UnknownRoutes::new(start);
        let mut answers = |at: Duration, routes: u32| {
            let ask = |route| unknown.is_to_be_answered(start + at, RouteId(route), RouteEpoch(0));
            (0..routes).map(ask).filter(|answer| *answer).count()
        };
        assert_eq!(answers(Duration::ZERO, 1), 1);
        assert_eq!(answers(Duration::from_millis(999), 1), 0);
        assert_eq!(answers(INTERVAL, 1), 1);
        assert_eq!(answers(INTERVAL * 2, 1_000_000), MAX_ANSWERS);
        assert!(unknown.is_to_be_answered(start + INTERVAL * 3, RouteId(0), RouteEpoch(1)));
    }
}
