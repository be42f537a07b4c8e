//! Whose turn it is: the events of one room are delivered in order, one at a time, and a room whose delivery fails
//! waits, longer each time, while the others go on. Pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use sluice_proto::ids::RoomKey;
use tokio::time::Instant;

use super::queue::Position;

/// How long a room waits after its first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest that a room waits, twice as long each time until then: so soon after its end an outage is over for all.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// An event that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) position: Position,
    /// Then it is delivered no more.
    pub(super) until: Instant,
}

/// The rooms that have events.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<RoomKey, Lane>,
    /// Rooms that can go on.
    ready: VecDeque<RoomKey>,
    /// Rooms that wait after a failure.
    waiting: BinaryHeap<Reverse<(Instant, RoomKey)>>,
}

#[derive(Debug, Default)]
struct Lane {
    events: VecDeque<Waiting>,
    /// The first of them is being delivered.
    is_under_way: bool,
    /// Failures of the first event.
    failures: u32,
}

impl Lanes {
    /// A room has one more event.
    pub(super) fn push(&mut self, room: RoomKey, event: Waiting) {
        let lane = self.lanes.entry(room.clone()).or_default();
        lane.events.push_back(event);
        // The first event of a room that is served, or waits, is still there.
        if lane.events.len() == 1 {
            self.ready.push_back(room);
        }
    }

    /// The next event to be delivered. Its room is not served again before it is [done](Self::done) or has
    /// [failed](Self::fail).
    pub(super) fn next(&mut self, now: Instant) -> Option<(RoomKey, Waiting)> {
        while let Some(Reverse((at, _))) = self.waiting.peek()
            && *at <= now
            && let Some(Reverse((_, room))) = self.waiting.pop()
        {
            self.ready.push_back(room);
        }
        loop {
            let room = self.ready.pop_front()?;
            // A room whose events were forgotten may be here still, and again for newer ones.
            if let Some(lane) = self.lanes.get_mut(&room).filter(|lane| !lane.is_under_way)
                && let Some(event) = lane.events.front().copied()
            {
                lane.is_under_way = true;
                return Some((room, event));
            }
        }
    }

    /// When a room can go on that waits now.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((at, _))| *at)
    }

    /// A room's first event needs no delivery any more.
    pub(super) fn done(&mut self, room: RoomKey) {
        let Some(lane) = self.lanes.get_mut(&room) else { return };
        lane.events.pop_front();
        (lane.is_under_way, lane.failures) = (false, 0);
        match lane.events.is_empty() {
            true => drop(self.lanes.remove(&room)),
            false => self.ready.push_back(room),
        }
    }

    /// A room's first event could not be delivered. `random` is from 0 to 1: rooms that failed together do not come
    /// back together.
    pub(super) fn fail(&mut self, room: RoomKey, now: Instant, random: f64) {
        let Some(lane) = self.lanes.get_mut(&room) else { return };
        let wait = LONGEST_WAIT.min(FIRST_WAIT * 2_u32.saturating_pow(lane.failures.min(16)));
        (lane.is_under_way, lane.failures) = (false, lane.failures + 1);
        self.waiting.push(Reverse((now + wait.mul_f64(0.5 + random / 2.0), room)));
    }

    /// Whether no room has events.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Forgets events that are gone, but for those that are under way.
    pub(super) fn retain(&mut self, is_there: impl Fn(Position) -> bool) {
        self.lanes.retain(|_, lane| {
            let mut stays = lane.is_under_way;
            lane.events.retain(|event| std::mem::take(&mut stays) || is_there(event.position));
            !lane.events.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use sluice_proto::ids::{NamespaceId, RoomId};

    use super::super::queue::Queue;
    use super::*;

    fn room(name: &str) -> RoomKey {
        RoomKey { namespace: NamespaceId::new("n").unwrap(), room: RoomId::new(name).unwrap() }
    }

    fn positions(count: usize) -> Vec<Position> {
        Queue::open(None, 1 << 20, |_, _| {}).unwrap().append(&vec![bytes::Bytes::from_static(b"x"); count])
    }

    fn lanes(events: &[&str]) -> (Lanes, Vec<Waiting>) {
        let until = Instant::now() + Duration::from_secs(3_600);
        let waiting: Vec<_> = positions(events.len()).into_iter().map(|position| Waiting { position, until }).collect();
        let mut lanes = Lanes::default();
        for (name, event) in events.iter().zip(&waiting) {
            lanes.push(room(name), *event);
        }
        (lanes, waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_has_one_event_under_way_and_rooms_take_turns() {
        let (mut lanes, events) = lanes(&["a", "a", "b", "a"]);
        let now = Instant::now();
        assert_eq!(lanes.next(now), Some((room("a"), events[0])));
        assert_eq!(lanes.next(now), Some((room("b"), events[2])));
        assert_eq!(lanes.next(now), None);
        lanes.done(room("b"));
        lanes.done(room("a"));
        assert_eq!(lanes.next(now), Some((room("a"), events[1])));
        lanes.push(room("a"), events[2]);
        assert_eq!(lanes.next(now), None, "the room is served");
        lanes.done(room("a"));
        assert_eq!(lanes.next(now), Some((room("a"), events[3])));
        lanes.done(room("a"));
        assert_eq!(lanes.next(now), Some((room("a"), events[2])));
        lanes.done(room("a"));
        assert!(lanes.is_empty() && lanes.next(now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_fails_waits_longer_each_time_and_begins_anew_after_a_success() {
        let (mut lanes, events) = lanes(&["a", "a"]);
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(lanes.next(now), Some((room("a"), events[0])));
            lanes.fail(room("a"), now, 1.0);
            assert_eq!(lanes.next(now), None);
            let at = lanes.wake_at().unwrap();
            waits.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
        assert_eq!(lanes.next(now), Some((room("a"), events[0])));
        lanes.done(room("a"));
        assert_eq!(lanes.next(now), Some((room("a"), events[1])));
        lanes.fail(room("a"), now, 0.0);
        assert_eq!(lanes.wake_at().map(|at| at - now), Some(FIRST_WAIT / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_is_forgotten_but_for_what_is_under_way() {
        let (mut lanes, events) = lanes(&["a", "a", "a", "b"]);
        let now = Instant::now();
        lanes.next(now);
        lanes.retain(|position| position == events[2].position);
        lanes.push(room("b"), events[3]);
        lanes.done(room("a"));
        assert_eq!(lanes.next(now), Some((room("b"), events[3])));
        assert_eq!(lanes.next(now), Some((room("a"), events[2])));
        assert_eq!(lanes.next(now), None, "no room twice");
    }
}
