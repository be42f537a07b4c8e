//! The beginning of a route of data: the messages of a data producer, on their way to another node or worker. What the
//! other end has not acknowledged is bounded, and what got lost on the way is sent again from the producer's log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_mesh::DataMessage;
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};

use crate::core::data_log::{DataLog, KEPT_BYTES};
use crate::io::Output;
use crate::messages::PipeEnd;

/// Bytes that the other end has not acknowledged, with what each message costs beside: as many as are kept.
const MAX_WINDOW: usize = KEPT_BYTES;

/// The same after something got lost, on which it doubles with each acknowledgement: where a queue was full, it is not
/// filled at once again.
const MIN_WINDOW: usize = 64 * 1024;

/// Unacknowledged bytes from which on the publisher is to wait.
const CLOGGED: usize = MAX_WINDOW / 2;

/// What was said or asked may have got lost, and is said again: more than a round trip on earth, and the 50 ms that the
/// other end gathers what it acknowledges.
pub(crate) const REPEAT_INTERVAL: Duration = Duration::from_millis(300);

/// Without progress for so long the route is stuck, and for as long besides as what is under way may take.
const STUCK: Duration = Duration::from_secs(10);

/// What a route gets of a pipe at least, in bytes a second: a quarter of what a pipe lets pass of data in any case.
const SLOWEST: usize = 3_000;

/// The beginning of a route of data.
#[derive(Debug)]
pub(crate) struct PipeDataConsumer {
    to: PipeEnd,
    route: RouteId,
    epoch: RouteEpoch,
    /// The number of the message that is sent next.
    next: u64,
    /// Every message before this number came.
    acknowledged: u64,
    /// Nothing before this number is offered any more.
    floor: u64,
    /// Numbers and costs of messages that were sent and not acknowledged.
    in_flight: VecDeque<(u64, usize)>,
    in_flight_bytes: usize,
    window: usize,
    /// Whether the other end has said anything.
    is_heard: bool,
    /// When it is offered (again) what there is.
    offer_at: Option<Instant>,
    /// How often it began again. What is missed of a former round is on its way already.
    round: u32,
    /// When it is said (again), behind the messages, how many were sent.
    mark_at: Option<Instant>,
    progress_at: Instant,
    /// It has begun again since there was progress.
    has_rewound: bool,
}

impl PipeDataConsumer {
    /// The beginning of a route that goes on with the message of number `next`, if the other end does not ask for what
    /// was before.
    pub(crate) fn new(now: Instant, to: PipeEnd, (route, epoch): (RouteId, RouteEpoch), next: u64) -> Self {
        Self {
            to,
            route,
            epoch,
            next,
            acknowledged: next,
            floor: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            window: MAX_WINDOW,
            is_heard: false,
            offer_at: Some(now),
            round: 0,
            mark_at: None,
            progress_at: now,
            has_rewound: false,
        }
    }

    /// The route and where it ends.
    pub(crate) fn route(&self) -> (PipeEnd, RouteId) {
        (self.to, self.route)
    }

    /// Which use of the route.
    pub(crate) fn epoch(&self) -> RouteEpoch {
        self.epoch
    }

    /// Bytes that the other end has not acknowledged, whether they were sent or are to be.
    pub(crate) fn unacknowledged(&self, log: &DataLog) -> usize {
        log.cost_since(self.acknowledged).max(self.in_flight_bytes)
    }

    /// Whether the publisher is to wait for the other end.
    pub(crate) fn is_clogged(&self, log: &DataLog) -> bool {
        matches!(self.to, PipeEnd::Node(_)) && self.unacknowledged(log) > CLOGGED
    }

    /// The other end says that every message before `next` came, or nothing at all: `u64::MAX`; and in which round that
    /// one was lost, if it was.
    ///
    /// It may have heard of the producer by a route that was before this one. So the first that it says of this one
    /// counts: what it misses is sent again.
    pub(crate) fn hear_received(
        &mut self,
        now: Instant,
        (next, missed): (u64, Option<u32>),
        log: &DataLog,
        is_reliable: bool,
    ) {
        if next > self.next {
            // It does not know where to begin: it is told until it does.
            return;
        }
        let is_first = !std::mem::replace(&mut self.is_heard, true);
        self.offer_at = None;
        if next > self.acknowledged {
            self.acknowledge(next);
            self.window = (self.window * 2).min(MAX_WINDOW);
            (self.progress_at, self.has_rewound) = (now, false);
        }
        let is_lost = missed == Some(self.round) && next == self.acknowledged;
        if is_reliable && (is_lost || (is_first && next < self.acknowledged)) {
            self.rewind(now, next, log);
        } else {
            self.mark_at = self.is_waited_for().then_some(now + REPEAT_INTERVAL);
        }
    }

    fn acknowledge(&mut self, next: u64) {
        self.acknowledged = next;
        while let Some((_, cost)) = self.in_flight.pop_front_if(|(number, _)| *number < next) {
            self.in_flight_bytes -= cost;
        }
    }

    /// Begins again at a number.
    fn rewind(&mut self, now: Instant, next: u64, log: &DataLog) {
        self.round = self.round.wrapping_add(1);
        (self.mark_at, self.has_rewound) = (Some(now), true);
        self.window = MIN_WINDOW;
        self.forget_in_flight();
        (self.next, self.acknowledged) = (next, next);
        if next < self.oldest(log) {
            // It has to know that what it misses is gone.
            self.give_up_until(now, self.oldest(log));
        }
    }

    fn forget_in_flight(&mut self) {
        (self.in_flight, self.in_flight_bytes) = (VecDeque::new(), 0);
    }

    /// What is before this number is not sent any more, and the other end is told.
    fn give_up_until(&mut self, now: Instant, number: u64) {
        self.forget_in_flight();
        (self.next, self.acknowledged, self.floor) = (number, number, number);
        (self.is_heard, self.offer_at, self.has_rewound) = (false, Some(now), false);
    }

    /// The oldest message that can still be sent.
    fn oldest(&self, log: &DataLog) -> u64 {
        log.oldest().max(self.floor)
    }

    /// What is to be sent or said next, if there is something.
    pub(crate) fn poll(&mut self, now: Instant, log: &DataLog) -> Option<Output> {
        if self.is_stuck(now) {
            self.give_up_until(now, log.next());
            self.progress_at = now;
        }
        if self.next < self.oldest(log) {
            self.give_up_until(now, self.oldest(log));
        }
        if self.offer_at.is_some_and(|at| at <= now) {
            let is_waited_for = self.is_waited_for() || now < self.progress_at + STUCK;
            self.offer_at = is_waited_for.then_some(now + REPEAT_INTERVAL);
            if is_waited_for {
                return Some(self.offer(log));
            }
        }
        if self.mark_at.is_some_and(|at| at <= now) {
            self.mark_at = self.is_waited_for().then_some(now + REPEAT_INTERVAL);
            if self.mark_at.is_some() {
                return Some(self.message(self.next, self.round, Bytes::new()));
            }
        }
        let message = log.get(self.next)?;
        let cost = message.cost();
        if self.in_flight_bytes + cost > self.window && !self.in_flight.is_empty() {
            return None;
        }
        if !self.is_waited_for() {
            self.progress_at = now;
        }
        self.mark_at.get_or_insert(now + REPEAT_INTERVAL);
        let output = self.message(self.next, message.ppid, message.payload.clone());
        self.in_flight.push_back((self.next, cost));
        self.next += 1;
        self.in_flight_bytes += cost;
        Some(output)
    }

    /// Whether the other end owes an answer.
    fn is_waited_for(&self) -> bool {
        !self.in_flight.is_empty() || self.has_rewound
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let under_way = Duration::from_secs((self.in_flight_bytes / SLOWEST) as u64);
        self.is_waited_for() && now >= self.progress_at + STUCK + under_way
    }

    /// Goes on with this number, without what there was no room for. Returns how many messages that were.
    pub(crate) fn skip_to(&mut self, next: u64) -> u64 {
        let skipped = next.saturating_sub(self.next);
        self.next = self.next.max(next);
        skipped
    }

    fn message(&self, number: u64, ppid: u32, payload: Bytes) -> Output {
        let message = DataMessage { route: self.route, epoch: self.epoch, number, ppid, payload };
        Output::Data { to: self.to, message }
    }

    fn offer(&self, log: &DataLog) -> Output {
        let body = FeedbackBody::DataOffered { oldest: self.oldest(log), next: self.acknowledged };
        let feedback = RouteFeedback { route: self.route.0, epoch: self.epoch.0, body };
        Output::Feedback { to: self.to, feedback }
    }

    /// When [`poll`](Self::poll) has something to say though nothing came.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.offer_at, self.mark_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use sluice_mesh::LinkKey;

    use super::*;
    use crate::core::data_log::Message;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A log of so many messages of 1,000 bytes, and a route that begins behind the first few.
    struct Sender {
        now: Instant,
        log: DataLog,
        route: PipeDataConsumer,
    }

    impl Sender {
        fn new(before: u64, messages: u64) -> Self {
            let now = Instant::now();
            let end = PipeEnd::Node(LinkKey(1));
            let route = PipeDataConsumer::new(now, end, (RouteId(1), RouteEpoch(1)), before);
            let mut sender = Self { now, log: DataLog::default(), route };
            sender.push(messages);
            sender
        }

        fn push(&mut self, messages: u64) {
            let message = || Message { ppid: 53, payload: vec![0; 1_000].into() };
            (0..messages).for_each(|_| self.log.push(self.now, message()));
        }

        /// What is offered, the marks, and the numbers that are sent.
        fn poll(&mut self) -> (Vec<u64>, Vec<(u64, u32)>, Vec<u64>) {
            let (mut offered, mut marks, mut sent) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(output) = self.route.poll(self.now, &self.log) {
                match output {
                    Output::Feedback { feedback, .. } => match feedback.body {
                        FeedbackBody::DataOffered { oldest, .. } => offered.push(oldest),
                        other => panic!("{other:?}"),
                    },
                    Output::Data { message, .. } if message.payload.is_empty() => {
                        marks.push((message.number, message.ppid));
                    }
                    Output::Data { message, .. } => sent.push(message.number),
                    other => panic!("{other:?}"),
                }
            }
            (offered, marks, sent)
        }

        /// What is sent, where nothing is said.
        fn sends(&mut self) -> Vec<u64> {
            let (offered, marks, sent) = self.poll();
            assert_eq!((offered, marks), (vec![], vec![]));
            sent
        }

        fn hear(&mut self, next: u64) {
            self.route.hear_received(self.now, (next, None), &self.log, true);
        }

        fn hear_missed(&mut self, next: u64, round: u32) {
            self.route.hear_received(self.now, (next, Some(round)), &self.log, true);
        }
    }

    #[test]
    fn a_window_is_sent_and_more_with_each_acknowledgement() {
        let mut sender = Sender::new(0, 100);
        assert_eq!(sender.poll(), (vec![0], vec![], (0..100).collect()));
        sender.hear(0);
        // 1,064 bytes each.
        sender.push(885);
        assert_eq!(sender.sends(), (100..985).collect::<Vec<_>>());
        assert!(sender.route.is_clogged(&sender.log));
        sender.push(1);
        assert!(sender.sends().is_empty());
        sender.hear(10);
        assert_eq!(sender.sends(), [985]);
        // What the log forgets is given up, and that is said.
        sender.push(2_000);
        let (offered, _, sent) = sender.poll();
        assert_eq!((offered.len(), sent.first(), sent.last()), (1, offered.first(), Some(&2_985)));
    }

    #[test]
    fn who_knows_nothing_gets_what_comes_and_who_knows_more_what_it_misses() {
        let mut fresh = Sender::new(5, 8);
        assert_eq!(fresh.poll(), (vec![0], vec![], vec![5, 6, 7]));
        // It does not know where to begin.
        fresh.hear(u64::MAX);
        fresh.now += MS(300);
        assert_eq!(fresh.poll(), (vec![0], vec![(8, 0)], vec![]));
        fresh.hear(5);
        fresh.push(1);
        assert_eq!(fresh.sends(), [8]);

        let mut moved = Sender::new(5, 8);
        assert_eq!(moved.poll(), (vec![0], vec![], vec![5, 6, 7]));
        moved.hear(3);
        assert_eq!(moved.poll(), (vec![], vec![(3, 1)], vec![3, 4, 5, 6, 7]));
        // It asked for that before the answer could come.
        moved.hear_missed(3, 0);
        assert!(moved.sends().is_empty());
        moved.hear(8);
        assert_eq!((moved.route.unacknowledged(&moved.log), moved.route.poll_timeout()), (0, None));
    }

    #[test]
    fn what_is_missed_is_sent_again() {
        let mut sender = Sender::new(0, 300);
        sender.poll();
        sender.hear(100);
        assert!(sender.sends().is_empty());
        sender.hear_missed(100, 0);
        // The smallest window, since a queue was full.
        assert_eq!(sender.poll(), (vec![], vec![(100, 1)], (100..161).collect()));
        // What comes late says nothing.
        sender.hear_missed(50, 1);
        assert!(sender.sends().is_empty());
        sender.hear(161);
        assert_eq!(sender.sends(), (161..284).collect::<Vec<_>>());
    }

    #[test]
    fn what_takes_long_is_not_missed() {
        let mut sender = Sender::new(0, 300);
        sender.poll();
        sender.hear(0);
        for _ in 0..300 {
            sender.now += MS(300);
            assert_eq!(sender.poll(), (vec![], vec![(300, 0)], vec![]));
            // Nothing has come, and it is asked what did.
            sender.hear(0);
        }
        sender.hear(299);
        assert_eq!(sender.route.unacknowledged(&sender.log), 1_064);
    }

    #[test]
    fn it_is_asked_again_and_given_up_in_the_end() {
        let mut sender = Sender::new(0, 3);
        sender.poll();
        let mut offered = 0;
        // And a second for what is under way.
        for _ in 0..36 {
            sender.now += MS(300);
            let (offers, marks, sent) = sender.poll();
            assert!(sent.is_empty() && offers == [0] && marks == [(3, 0)]);
            offered += offers.len();
        }
        sender.now += MS(300);
        assert_eq!((sender.poll(), offered), ((vec![3], vec![], vec![]), 36));
        sender.push(1);
        assert_eq!(sender.sends(), [3]);
        sender.hear(4);
        assert_eq!(sender.route.unacknowledged(&sender.log), 0);
    }

    #[test]
    fn losing_again_and_again_is_no_progress() {
        let mut sender = Sender::new(0, 3);
        sender.poll();
        sender.hear(0);
        let began = sender.now;
        for round in 0.. {
            sender.hear_missed(0, round);
            let (offered, _, sent) = sender.poll();
            if sent.is_empty() {
                assert_eq!(offered, [3]);
                break;
            }
            sender.now += MS(100);
        }
        assert!((STUCK..STUCK + MS(1_200)).contains(&(sender.now - began)), "{:?}", sender.now - began);
    }
}
