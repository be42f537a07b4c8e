//! The beginning of a route of data: the messages of a data producer, on their way to another node or worker. What the
//! other end has not acknowledged is bounded, and what got lost on the way is sent again from the producer's log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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

/// Without progress for so long the route is stuck. What waited is given up.
const STUCK: Duration = Duration::from_secs(10);

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
    /// When the oldest message is offered (again).
    offer_at: Option<Instant>,
    progress_at: Instant,
    rewound_at: Option<Instant>,
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
            progress_at: now,
            rewound_at: None,
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

    /// The other end says that every message before `next` came, or nothing at all: `u64::MAX`.
    ///
    /// It may have heard of the producer by a route that was before this one. So the first that it says of this one
    /// counts: what it misses is sent again. Later on it says the same number again when a message got lost.
    pub(crate) fn hear_received(&mut self, now: Instant, next: u64, log: &DataLog, is_reliable: bool) {
        let is_first = !std::mem::replace(&mut self.is_heard, true);
        // Who has nothing yet takes what was sent already, too.
        let next = if next > self.next { self.acknowledged } else { next };
        let is_lost = !is_first && next == self.acknowledged && !self.in_flight.is_empty();
        if next > self.acknowledged {
            self.acknowledge(next);
            self.window = (self.window * 2).min(MAX_WINDOW);
            (self.progress_at, self.rewound_at) = (now, None);
        } else if is_lost && !is_reliable {
            self.forget_in_flight();
        } else if is_reliable && (is_lost || (is_first && next < self.acknowledged)) {
            self.rewind(now, next, log);
        }
        self.offer_at = match self.is_heard {
            true => (!self.in_flight.is_empty()).then_some(now + REPEAT_INTERVAL),
            false => Some(now),
        };
    }

    fn acknowledge(&mut self, next: u64) {
        self.acknowledged = next;
        while let Some((_, cost)) = self.in_flight.pop_front_if(|(number, _)| *number < next) {
            self.in_flight_bytes -= cost;
        }
    }

    /// Begins again at a number. What was asked for twice in short order was asked for before the answer came.
    fn rewind(&mut self, now: Instant, next: u64, log: &DataLog) {
        if self.rewound_at.is_some_and(|at| now < at + REPEAT_INTERVAL) {
            return;
        }
        self.rewound_at = Some(now);
        self.window = MIN_WINDOW;
        self.forget_in_flight();
        (self.next, self.acknowledged) = (next, next);
        if next < self.oldest(log) {
            // It has to know that what it misses is gone.
            self.give_up_until(self.oldest(log));
        }
    }

    fn forget_in_flight(&mut self) {
        (self.in_flight, self.in_flight_bytes) = (VecDeque::new(), 0);
    }

    /// What is before this number is not sent any more, and the other end is told.
    fn give_up_until(&mut self, number: u64) {
        self.forget_in_flight();
        (self.next, self.acknowledged, self.floor) = (number, number, number);
        self.is_heard = false;
    }

    /// The oldest message that can still be sent.
    fn oldest(&self, log: &DataLog) -> u64 {
        log.oldest().max(self.floor)
    }

    /// What is to be sent or said next, if there is something.
    pub(crate) fn poll(&mut self, now: Instant, log: &DataLog) -> Option<Output> {
        if self.is_stuck(now) {
            self.give_up_until(log.next());
            (self.progress_at, self.rewound_at, self.offer_at) = (now, None, Some(now));
        }
        if self.next < self.oldest(log) {
            self.give_up_until(self.oldest(log));
            self.offer_at = Some(now);
        }
        if self.offer_at.is_some_and(|at| at <= now) {
            let is_waited_for = !self.in_flight.is_empty() || now < self.progress_at + STUCK;
            self.offer_at = is_waited_for.then_some(now + REPEAT_INTERVAL);
            if is_waited_for {
                return Some(self.feedback(FeedbackBody::DataOffered { oldest: self.oldest(log) }));
            }
        }
        let message = log.get(self.next)?;
        let cost = message.cost();
        if self.in_flight_bytes + cost > self.window && !self.in_flight.is_empty() {
            return None;
        }
        if self.in_flight.is_empty() && self.rewound_at.is_none() {
            self.progress_at = now;
        }
        self.offer_at.get_or_insert(now + REPEAT_INTERVAL);
        let (number, ppid, payload) = (self.next, message.ppid, message.payload.clone());
        self.next += 1;
        self.in_flight.push_back((number, cost));
        self.in_flight_bytes += cost;
        let message = DataMessage { route: self.route, epoch: self.epoch, number, ppid, payload };
        Some(Output::Data { to: self.to, message })
    }

    fn is_stuck(&self, now: Instant) -> bool {
        (!self.in_flight.is_empty() || self.rewound_at.is_some()) && now >= self.progress_at + STUCK
    }

    /// Goes on with this number, without what there was no room for. Returns how many messages that were.
    pub(crate) fn skip_to(&mut self, next: u64) -> u64 {
        let skipped = next.saturating_sub(self.next);
        self.next = self.next.max(next);
        skipped
    }

    fn feedback(&self, body: FeedbackBody) -> Output {
        let feedback = RouteFeedback { route: self.route.0, epoch: self.epoch.0, body };
        Output::Feedback { to: self.to, feedback }
    }

    /// When [`poll`](Self::poll) has something to say though nothing came.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.offer_at
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

        /// What is offered, and the numbers that are sent.
        fn poll(&mut self) -> (Vec<u64>, Vec<u64>) {
            let (mut offered, mut sent) = (Vec::new(), Vec::new());
            while let Some(output) = self.route.poll(self.now, &self.log) {
                match output {
                    Output::Feedback { feedback, .. } => match feedback.body {
                        FeedbackBody::DataOffered { oldest } => offered.push(oldest),
                        other => panic!("{other:?}"),
                    },
                    Output::Data { message, .. } => sent.push(message.number),
                    other => panic!("{other:?}"),
                }
            }
            (offered, sent)
        }

        fn hear(&mut self, next: u64) {
            self.route.hear_received(self.now, next, &self.log, true);
        }
    }

    #[test]
    fn a_window_is_sent_and_more_with_each_acknowledgement() {
        let mut sender = Sender::new(0, 100);
        assert_eq!(sender.poll(), (vec![0], (0..100).collect()));
        sender.hear(u64::MAX);
        // 1,064 bytes each.
        sender.push(885);
        assert_eq!(sender.poll(), (vec![], (100..985).collect()));
        assert!(sender.route.is_clogged(&sender.log));
        sender.push(1);
        assert_eq!(sender.poll(), (vec![], vec![]));
        sender.hear(10);
        assert_eq!(sender.poll(), (vec![], vec![985]));
        // What the log forgets is given up, and that is said.
        sender.push(2_000);
        let (offered, sent) = sender.poll();
        assert_eq!((offered.len(), sent.first(), sent.last()), (1, offered.first(), Some(&2_985)));
    }

    #[test]
    fn who_knows_nothing_gets_what_comes_and_who_knows_more_what_it_misses() {
        let mut fresh = Sender::new(5, 8);
        assert_eq!(fresh.poll(), (vec![0], vec![5, 6, 7]));
        fresh.hear(u64::MAX);
        fresh.push(1);
        assert_eq!(fresh.poll(), (vec![], vec![8]));

        let mut moved = Sender::new(5, 8);
        assert_eq!(moved.poll(), (vec![0], vec![5, 6, 7]));
        moved.hear(3);
        assert_eq!(moved.poll(), (vec![], vec![3, 4, 5, 6, 7]));
        // It said that twice, before the answer could come.
        moved.hear(3);
        assert_eq!(moved.poll(), (vec![], vec![]));
        moved.hear(8);
        assert_eq!((moved.route.unacknowledged(&moved.log), moved.route.poll_timeout()), (0, None));
    }

    #[test]
    fn what_is_said_twice_is_missed_and_sent_again() {
        let mut sender = Sender::new(0, 300);
        sender.poll();
        sender.hear(100);
        assert_eq!(sender.poll(), (vec![], vec![]));
        sender.hear(100);
        let (_, again) = sender.poll();
        // The smallest window, since a queue was full.
        assert_eq!(again, (100..161).collect::<Vec<_>>());
        // What comes late says nothing.
        sender.hear(50);
        assert_eq!(sender.poll(), (vec![], vec![]));
        sender.hear(161);
        assert_eq!(sender.poll().1, (161..284).collect::<Vec<_>>());
    }

    #[test]
    fn it_is_asked_again_and_given_up_in_the_end() {
        let mut sender = Sender::new(0, 3);
        sender.poll();
        let mut offered = 0;
        for _ in 0..33 {
            sender.now += MS(300);
            let (offers, sent) = sender.poll();
            assert!(sent.is_empty() && offers == [0]);
            offered += offers.len();
        }
        sender.now += MS(300);
        assert_eq!((sender.poll(), offered), ((vec![3], vec![]), 33));
        sender.push(1);
        assert_eq!(sender.poll(), (vec![], vec![3]));
        sender.hear(4);
        assert_eq!(sender.route.unacknowledged(&sender.log), 0);
    }

    #[test]
    fn losing_again_and_again_is_no_progress() {
        let mut sender = Sender::new(0, 3);
        sender.poll();
        let began = sender.now;
        while sender.now < began + STUCK {
            sender.hear(0);
            assert!(!sender.poll().0.contains(&3));
            sender.now += MS(100);
        }
        sender.hear(0);
        assert_eq!(sender.poll().0, [3]);
    }
}
