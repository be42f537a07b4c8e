//! The end of a route of data: where the messages of a data producer that lives elsewhere enter this worker. They come
//! in the order of their numbers and each once, by whatever routes; what is missing is asked for.

use std::time::{Duration, Instant};

use sluice_mesh::DataMessage;
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};

use crate::core::data_log::MESSAGE_OVERHEAD;
use crate::core::pipe_data_consumer::REPEAT_INTERVAL;
use crate::drop_reason::DropReason;
use crate::messages::{PipeEnd, RouteIn};

/// What came is acknowledged after so long at the latest.
const SAY_INTERVAL: Duration = Duration::from_millis(50);

/// Or after so many bytes: of a window of 1 MiB the 16th part.
const SAY_BYTES: usize = 64 * 1024;

/// Numbers that are none: no producer sends so much.
const TOO_LARGE: u64 = 1 << 62;

/// Says that nothing is here, and not where to begin.
const NOTHING: u64 = u64::MAX;

/// The end of a route of data.
#[derive(Debug)]
pub(crate) struct PipeDataOrigin {
    route: Option<RouteIn>,
    /// The number that is due; `None` until it is known where the messages begin.
    next: Option<u64>,
    /// Messages came before that was known.
    came_early: bool,
    /// The sender's, see [`FeedbackBody::DataReceived`].
    round: u32,
    /// What came since the other end was told, in bytes.
    unsaid: usize,
    say_at: Option<Instant>,
    asked_at: Option<Instant>,
    is_missed: bool,
}

impl PipeDataOrigin {
    /// The end of a route, or of none for the time being, on which nothing came yet.
    pub(crate) fn new(route: Option<RouteIn>) -> Self {
        Self {
            route,
            next: None,
            came_early: false,
            round: 0,
            unsaid: 0,
            say_at: None,
            asked_at: None,
            is_missed: false,
        }
    }

    /// By which way its messages come now, if any do.
    pub(crate) fn route(&self) -> Option<RouteIn> {
        self.route
    }

    /// Messages come by another way from now on. Gives the former one.
    pub(crate) fn take_route(&mut self, route: Option<RouteIn>) -> Option<RouteIn> {
        let former = self.route;
        *self = Self { next: self.next, ..Self::new(route) };
        former
    }

    /// A message of the route came. If its producer is reliable none before it may be missing.
    ///
    /// # Errors
    /// Why it is not to be used.
    pub(crate) fn receive(&mut self, now: Instant, message: &DataMessage, is_reliable: bool) -> Result<(), DropReason> {
        self.check(message)?;
        let known = self.next.or((!is_reliable).then_some(message.number));
        let Some(next) = known else {
            self.came_early = true;
            return Err(DropReason::DataGap);
        };
        if message.number < next {
            // The other end does not know it came.
            self.say_by(now + SAY_INTERVAL);
            return Err(DropReason::PipeDuplicate);
        }
        if message.number > next && is_reliable {
            self.ask(now);
            return Err(DropReason::DataGap);
        }
        self.next = Some(message.number + 1);
        self.asked_at = None;
        self.unsaid += message.payload.len() + MESSAGE_OVERHEAD;
        self.say_by(if self.unsaid >= SAY_BYTES { now } else { now + SAY_INTERVAL });
        Ok(())
    }

    /// All messages of a round before this number have been sent, and none of them is behind this.
    ///
    /// # Errors
    /// Why it is not to be used.
    pub(crate) fn hear_mark(&mut self, now: Instant, mark: &DataMessage, is_reliable: bool) -> Result<(), DropReason> {
        self.check(mark)?;
        if std::mem::replace(&mut self.round, mark.ppid) != mark.ppid {
            self.asked_at = None;
        }
        self.say_by(now);
        match self.next {
            Some(next) if mark.number > next && is_reliable => self.ask(now),
            Some(next) if mark.number > next => self.next = Some(mark.number),
            Some(_) | None => {}
        }
        Ok(())
    }

    fn check(&self, message: &DataMessage) -> Result<(), DropReason> {
        if self.route.is_none_or(|route| route.epoch != message.epoch) {
            return Err(DropReason::StaleRoute);
        }
        if message.number >= TOO_LARGE {
            return Err(DropReason::DataNumberTooLarge);
        }
        Ok(())
    }

    fn ask(&mut self, now: Instant) {
        if self.asked_at.is_none_or(|at| now >= at + REPEAT_INTERVAL) {
            (self.asked_at, self.is_missed) = (Some(now), true);
            self.say_by(now);
        }
    }

    /// The other end says which is the oldest message that it can send, and with which it begins. Returns the number of
    /// the next one if others that were due are lost.
    pub(crate) fn hear_offered(&mut self, now: Instant, oldest: u64, begins: u64) -> Option<u64> {
        self.say_by(now);
        if oldest >= TOO_LARGE || begins >= TOO_LARGE {
            return None;
        }
        let Some(next) = self.next else {
            self.next = Some(begins);
            self.is_missed = self.came_early;
            return None;
        };
        (next < oldest).then(|| *self.next.insert(oldest))
    }

    fn say_by(&mut self, at: Instant) {
        self.say_at = Some(self.say_at.map_or(at, |due| due.min(at)));
    }

    /// What is to be said to the other end now.
    pub(crate) fn poll_feedback(&mut self, now: Instant) -> Option<(PipeEnd, RouteFeedback)> {
        self.say_at.take_if(|at| *at <= now)?;
        self.unsaid = 0;
        let missed = std::mem::take(&mut self.is_missed).then_some(self.round);
        let RouteIn { from, route, epoch } = self.route?;
        let body = FeedbackBody::DataReceived { next: self.next.unwrap_or(NOTHING), missed };
        Some((from, RouteFeedback { route: route.0, epoch: epoch.0, body }))
    }

    /// When [`poll_feedback`](Self::poll_feedback) has something to say next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.say_at
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use sluice_mesh::LinkKey;
    use sluice_proto::ids::{RouteEpoch, RouteId};

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn route(route: u32) -> RouteIn {
        RouteIn { from: PipeEnd::Node(LinkKey(1)), route: RouteId(route), epoch: RouteEpoch(1) }
    }

    fn message(number: u64, len: usize) -> DataMessage {
        let (route, epoch) = (RouteId(1), RouteEpoch(1));
        DataMessage { route, epoch, number, ppid: 53, payload: vec![0; len].into() }
    }

    fn mark(number: u64, round: u32) -> DataMessage {
        DataMessage { ppid: round, ..message(number, 0) }
    }

    /// What came, and the round in which the next is missed.
    fn said(origin: &mut PipeDataOrigin, now: Instant) -> Vec<(u64, Option<u32>)> {
        let bodies = std::iter::from_fn(|| origin.poll_feedback(now)).map(|(_, feedback)| feedback.body);
        let said = bodies.map(|body| match body {
            FeedbackBody::DataReceived { next, missed } => (next, missed),
            other => panic!("{other:?}"),
        });
        said.collect()
    }

    #[test]
    fn what_comes_is_acknowledged_in_a_while_or_when_it_is_much() {
        let (mut origin, now) = (PipeDataOrigin::new(Some(route(1))), Instant::now());
        assert_eq!(origin.hear_offered(now, 3, 7), None);
        assert_eq!(said(&mut origin, now), [(7, None)]);
        for number in 7..10 {
            assert_eq!(origin.receive(now, &message(number, 10), true), Ok(()));
        }
        assert_eq!((said(&mut origin, now + MS(49)), said(&mut origin, now + MS(50))), (vec![], vec![(10, None)]));
        for number in 10..12 {
            assert_eq!(origin.receive(now, &message(number, 40_000), true), Ok(()));
        }
        assert_eq!(said(&mut origin, now), [(12, None)]);
        assert_eq!(origin.receive(now, &message(11, 1), true), Err(DropReason::PipeDuplicate));
        assert_eq!(said(&mut origin, now + MS(50)), [(12, None)]);
        assert_eq!(origin.poll_timeout(), None);
    }

    #[test]
    fn nothing_is_taken_before_it_is_known_where_it_begins() {
        let (mut origin, now) = (PipeDataOrigin::new(Some(route(1))), Instant::now());
        assert_eq!(origin.receive(now, &message(1, 1), true), Err(DropReason::DataGap));
        assert_eq!((origin.hear_mark(now, &mark(2, 0), true), said(&mut origin, now)), (Ok(()), vec![(NOTHING, None)]));
        assert_eq!((origin.hear_offered(now, 0, 0), said(&mut origin, now)), (None, vec![(0, Some(0))]));
        // What may lose some begins anywhere.
        let mut origin = PipeDataOrigin::new(Some(route(1)));
        assert_eq!(origin.receive(now, &message(5, 1), false), Ok(()));
    }

    #[test]
    fn what_is_missing_is_asked_for_and_not_all_the_time() {
        let (mut origin, now) = (PipeDataOrigin::new(Some(route(1))), Instant::now());
        origin.hear_offered(now, 0, 0);
        origin.receive(now, &message(0, 1), true).unwrap();
        for number in 2..50 {
            assert_eq!(origin.receive(now, &message(number, 1), true), Err(DropReason::DataGap));
        }
        assert_eq!(said(&mut origin, now), [(1, Some(0))]);
        assert_eq!(origin.receive(now + MS(299), &message(50, 1), true), Err(DropReason::DataGap));
        assert!(said(&mut origin, now + MS(299)).is_empty());
        assert_eq!(origin.receive(now + MS(300), &message(51, 1), true), Err(DropReason::DataGap));
        assert_eq!(said(&mut origin, now + MS(300)), [(1, Some(0))]);
        // Of what may lose some nothing is asked for.
        assert_eq!(origin.receive(now, &message(9, 1), false), Ok(()));
        assert_eq!(origin.receive(now, &message(9, 1), false), Err(DropReason::PipeDuplicate));
    }

    #[test]
    fn a_mark_tells_of_what_was_lost_at_the_end_and_of_another_round() {
        let (mut origin, now) = (PipeDataOrigin::new(Some(route(1))), Instant::now());
        origin.hear_offered(now, 0, 0);
        origin.hear_mark(now, &mark(0, 0), true).unwrap();
        assert_eq!(said(&mut origin, now), [(0, None)]);
        origin.hear_mark(now, &mark(3, 0), true).unwrap();
        assert_eq!(said(&mut origin, now), [(0, Some(0))]);
        // It was asked for in this round already.
        origin.hear_mark(now, &mark(3, 0), true).unwrap();
        assert_eq!(said(&mut origin, now), [(0, None)]);
        origin.hear_mark(now, &mark(0, 1), true).unwrap();
        assert_eq!(origin.receive(now, &message(1, 1), true), Err(DropReason::DataGap));
        assert_eq!(said(&mut origin, now), [(0, Some(1))]);
        // Who may lose some goes on behind it.
        origin.hear_mark(now, &mark(9, 1), false).unwrap();
        assert_eq!(said(&mut origin, now), [(9, None)]);
        assert_eq!(origin.hear_mark(now, &mark(u64::MAX, 1), true), Err(DropReason::DataNumberTooLarge));
    }

    #[test]
    fn another_route_goes_on_and_what_is_gone_is_known() {
        let (mut origin, now) = (PipeDataOrigin::new(Some(route(2))), Instant::now());
        assert_eq!(origin.take_route(Some(route(1))), Some(route(2)));
        origin.hear_offered(now, 0, 0);
        origin.receive(now, &message(0, 1), true).unwrap();
        assert_eq!(origin.take_route(None), Some(route(1)));
        assert!(said(&mut origin, now + MS(100)).is_empty(), "there is nobody to say it to");
        let stale = DataMessage { epoch: RouteEpoch(2), ..message(1, 1) };
        assert_eq!(origin.receive(now, &message(1, 1), true), Err(DropReason::StaleRoute));
        origin.take_route(Some(route(1)));
        assert_eq!(origin.receive(now, &stale, true), Err(DropReason::StaleRoute));
        assert_eq!((origin.hear_offered(now, 1, 9), said(&mut origin, now)), (None, vec![(1, None)]));
        assert_eq!((origin.hear_offered(now, 4, 9), said(&mut origin, now)), (Some(4), vec![(4, None)]));
        assert_eq!(origin.hear_offered(now, u64::MAX, 9), None);
        assert_eq!(origin.receive(now, &message(u64::MAX, 1), true), Err(DropReason::DataNumberTooLarge));
        assert_eq!(origin.receive(now, &message(4, 1), true), Ok(()));
    }
}
