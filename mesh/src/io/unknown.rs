//! Answers to what is said about routes that are none: whoever says it believes in a subscription that has ended.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use sluice_proto::ids::{RouteEpoch, RouteId};

/// A route is answered for once in this time: by then the answer has been heard.
const INTERVAL: Duration = Duration::from_secs(1);

/// Routes that are answered for in one interval; the others have to wait for the next ones. As many as one wrong turn
/// of a room leaves behind, and nothing that a peer could make this end choke on.
const MAX_ANSWERS: usize = 256;

/// Subscriptions that are remembered in one interval: more than a node is served. What is said of others may be
/// answered too soon, which costs a new subscription.
const MAX_SUBSCRIBED: usize = 8_192;

type Routes = FxHashSet<(RouteId, RouteEpoch)>;

/// Which unknown routes were answered for lately, and which may become known soon.
#[derive(Debug)]
pub(super) struct UnknownRoutes {
    since: Instant,
    answered: Routes,
    /// Subscribed to in this interval, and in the one before. The control plane may not have come to it yet.
    subscribed: Routes,
    subscribed_before: Routes,
}

impl UnknownRoutes {
    pub(super) fn new(now: Instant) -> Self {
        let (answered, subscribed, subscribed_before) = Default::default();
        Self { since: now, answered, subscribed, subscribed_before }
    }

    /// The peer has subscribed by this route.
    pub(super) fn expect(&mut self, now: Instant, route: RouteId, epoch: RouteEpoch) {
        self.begin_interval(now);
        if self.subscribed.len() < MAX_SUBSCRIBED {
            self.subscribed.insert((route, epoch));
        }
    }

    /// Whether to answer for this one now.
    pub(super) fn is_to_be_answered(&mut self, now: Instant, route: RouteId, epoch: RouteEpoch) -> bool {
        self.begin_interval(now);
        let of_route = (route, epoch);
        let is_expected = self.subscribed.contains(&of_route) || self.subscribed_before.contains(&of_route);
        !is_expected && self.answered.len() < MAX_ANSWERS && self.answered.insert(of_route)
    }

    fn begin_interval(&mut self, now: Instant) {
        if now < self.since + INTERVAL {
            return;
        }
        self.subscribed_before.clear();
        // Of one before that nothing is of interest any more.
        if now < self.since + INTERVAL * 2 {
            std::mem::swap(&mut self.subscribed, &mut self.subscribed_before);
        }
        self.subscribed.clear();
        self.answered.clear();
        self.since = now;
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

    #[test]
    fn a_subscription_has_a_second_to_become_known() {
        let start = Instant::now();
        for heard in [Duration::ZERO, INTERVAL / 2, INTERVAL, INTERVAL * 9] {
            let mut unknown = UnknownRoutes::new(start);
            let heard = start + heard;
            unknown.expect(heard, RouteId(7), RouteEpoch(1));
            let mut answer =
                |after: Duration, epoch| unknown.is_to_be_answered(heard + after, RouteId(7), RouteEpoch(epoch));
            assert!(answer(Duration::ZERO, 0), "another use of the id");
            assert!(!answer(Duration::ZERO, 1) && !answer(INTERVAL, 1));
            assert!(answer(INTERVAL * 2, 1));
        }
    }
}
