//! Paths between users and their server that are not perfect: shared by many users, and changed while they are on them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig};
use tokio::sync::watch;

use super::Direction;

/// What a path is like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PathConfig {
    /// From the server to the user.
    pub inbound: ImpairmentConfig,
    /// From the user to the server.
    pub outbound: ImpairmentConfig,
}

impl PathConfig {
    /// One direction of it.
    pub fn direction(&self, direction: Direction) -> &ImpairmentConfig {
        match direction {
            Direction::In => &self.inbound,
            Direction::Out => &self.outbound,
        }
    }
}

/// What the paths of any number of users are like, each with its own fate: two users lose different packets. Clones are
/// the same handle.
#[derive(Debug, Clone)]
pub struct PathHandle {
    config: watch::Sender<PathConfig>,
}

impl PathHandle {
    /// Paths that are `config` for now.
    pub fn new(config: PathConfig) -> Self {
        Self { config: watch::Sender::new(config) }
    }

    /// What the paths are like.
    pub fn config(&self) -> PathConfig {
        *self.config.borrow()
    }

    /// Changes the paths, from the next packet on; what is under way is not touched.
    pub fn set(&self, config: PathConfig) {
        self.config.send_replace(config);
    }

    /// Changes one direction.
    pub fn set_direction(&self, direction: Direction, config: ImpairmentConfig) {
        self.config.send_modify(|paths| match direction {
            Direction::In => paths.inbound = config,
            Direction::Out => paths.outbound = config,
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<PathConfig> {
        self.config.subscribe()
    }
}

/// One user's path.
pub(super) struct UserPath {
    config: watch::Receiver<PathConfig>,
    inbound: Impairment,
    outbound: Impairment,
}

impl UserPath {
    pub(super) fn new(handle: &PathHandle, seed: u64) -> Self {
        let mut config = handle.subscribe();
        let PathConfig { inbound, outbound } = *config.borrow_and_update();
        Self {
            config,
            inbound: Impairment::new(inbound, seed),
            outbound: Impairment::new(outbound, seed.wrapping_add(1)),
        }
    }

    /// When a datagram that sets out now arrives: not at all, once or twice.
    pub(super) fn submit(
        &mut self,
        now: Instant,
        direction: Direction,
        len: usize,
    ) -> impl Iterator<Item = Instant> + use<> {
        // Nobody can change the path any more when the handles are gone.
        if self.config.has_changed().unwrap_or(false) {
            let PathConfig { inbound, outbound } = *self.config.borrow_and_update();
            self.inbound.set_config(inbound);
            self.outbound.set_config(outbound);
        }
        let impairment = match direction {
            Direction::In => &mut self.inbound,
            Direction::Out => &mut self.outbound,
        };
        let (at, again) = match impairment.submit(now, len) {
            Decision::Deliver { at, again } => (Some(at), again),
            Decision::Drop(_) => (None, None),
        };
        at.into_iter().chain(again)
    }
}

/// Datagrams under way on the paths of one thread's users: what 2,000 users of 50 packets/s and 400 of 100 packets/s
/// have on paths of 300 ms, half as much again. At full size of 1,200 bytes it is 80 MB.
const MAX_UNDER_WAY: usize = 65_536;

/// Things that arrive at their time, in the order of entry where the time is the same.
pub(super) struct DelayQueue<T> {
    heap: BinaryHeap<UnderWay<T>>,
    entered: u64,
}

struct UnderWay<T> {
    at: Instant,
    order: u64,
    item: T,
}

impl<T> DelayQueue<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), entered: 0 }
    }

    /// `false` when there is no room.
    pub(super) fn push(&mut self, at: Instant, item: T) -> bool {
        if self.heap.len() == MAX_UNDER_WAY {
            return false;
        }
        self.entered += 1;
        self.heap.push(UnderWay { at, order: self.entered, item });
        true
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|under_way| under_way.at)
    }

    /// The next that has arrived by `now`, and when it did.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, T)> {
        self.next().filter(|&at| at <= now)?;
        self.heap.pop().map(|UnderWay { at, item, .. }| (at, item))
    }
}

impl<T> UnderWay<T> {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.order)
    }
}

impl<T> Ord for UnderWay<T> {
    /// The earliest is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl<T> PartialOrd for UnderWay<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for UnderWay<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for UnderWay<T> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_sets_out_arrives_in_time_and_order() {
        let now = crate::clock::tests::instant();
        let mut queue = DelayQueue::new();
        let at = |ms| now + Duration::from_millis(ms);
        for (ms, item) in [(30, 'c'), (10, 'a'), (30, 'd'), (20, 'b')] {
            assert!(queue.push(at(ms), item));
        }
        assert_eq!((queue.next(), queue.pop(at(9))), (Some(at(10)), None));
        let arrived: String = std::iter::from_fn(|| queue.pop(at(30)).map(|(_, item)| item)).collect();
        assert_eq!(arrived, "abcd");
    }

    #[test]
    fn users_of_one_handle_feel_its_change_and_have_fates_of_their_own() {
        let now = crate::clock::tests::instant();
        let slow = ImpairmentConfig { delay: Duration::from_millis(80), ..ImpairmentConfig::default() };
        let handle = PathHandle::new(PathConfig { inbound: slow, ..PathConfig::default() });
        let mut users = [1, 2].map(|seed| UserPath::new(&handle, seed));
        for user in &mut users {
            assert_eq!(user.submit(now, Direction::In, 100).collect::<Vec<_>>(), [now + slow.delay]);
            assert_eq!(user.submit(now, Direction::Out, 100).collect::<Vec<_>>(), [now]);
        }
        let loss = sluice_mesh::wan::Loss::Random(0.5);
        handle.set_direction(Direction::Out, ImpairmentConfig { loss, ..ImpairmentConfig::default() });
        let fates = users
            .each_mut()
            .map(|user| (0..100).map(|_| user.submit(now, Direction::Out, 100).count()).collect::<Vec<_>>());
        assert_ne!(fates[0], fates[1]);
        handle.set_direction(Direction::Out, ImpairmentConfig { blackout: true, ..ImpairmentConfig::default() });
        assert_eq!(users[0].submit(now, Direction::Out, 100).count(), 0);
        assert_eq!(users[0].submit(now, Direction::In, 100).count(), 1);
    }
}
