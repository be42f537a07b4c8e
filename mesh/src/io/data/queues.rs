//! The queues between the workers and the streams of data.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use sluice_proto::ids::{RouteEpoch, RouteId};
use tokio::sync::Notify;

use crate::io::counters::DropReason;
use crate::{DataMessage, MAX_DATA_PAYLOAD_LEN};

/// What may wait of a route: as much as its sending end sends before it hears that something came.
const CAPACITY: usize = 1024 * 1024;

/// What a message costs here beside its payload.
const OVERHEAD: usize = 64;

/// One use of a route.
pub(super) type Route = (RouteId, RouteEpoch);

/// Messages on their way from any thread to their streams. The lock is held to append a message or to take a few.
#[derive(Debug, Default)]
pub(in crate::io) struct DataQueues {
    state: Mutex<State>,
    /// Some route needs a stream.
    begun: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have a stream or need one.
    routes: FxHashMap<Route, Queue>,
    /// Those that need one, in order.
    begun: VecDeque<Route>,
    /// The link is down.
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<DataMessage>,
    /// With what each costs.
    bytes: usize,
    ready: Arc<Notify>,
}

impl DataQueues {
    /// Queues a message, or says why not.
    pub(in crate::io) fn push(&self, message: DataMessage) -> Result<(), DropReason> {
        if message.payload.len() > MAX_DATA_PAYLOAD_LEN {
            return Err(DropReason::TooLarge);
        }
        let mut state = self.state();
        if state.closed {
            return Err(DropReason::LinkDown);
        }
        let State { routes, begun, .. } = &mut *state;
        let queue = match routes.entry((message.route, message.epoch)) {
            Entry::Occupied(queue) => queue.into_mut(),
            Entry::Vacant(vacant) => {
                begun.push_back(*vacant.key());
                self.begun.notify_one();
                vacant.insert(Queue::default())
            }
        };
        let bytes = queue.bytes + cost(&message);
        if bytes > CAPACITY {
            return Err(DropReason::DataFull);
        }
        queue.bytes = bytes;
        queue.messages.push_back(message);
        queue.ready.notify_one();
        Ok(())
    }

    /// Throws away what waits of a route that was closed; gives the number of messages.
    pub(in crate::io) fn clear(&self, route: RouteId, epoch: RouteEpoch) -> usize {
        let mut state = self.state();
        let Some(queue) = state.routes.get_mut(&(route, epoch)) else { return 0 };
        queue.bytes = 0;
        queue.messages.drain(..).count()
    }

    /// Takes nothing more; gives the number of messages that waited.
    pub(in crate::io) fn close(&self) -> usize {
        let mut state = self.state();
        let waiting = state.waiting();
        *state = State { closed: true, ..State::default() };
        waiting
    }

    /// Messages that wait.
    pub(in crate::io) fn len(&self) -> usize {
        self.state().waiting()
    }

    /// Waits for a route that needs a stream.
    pub(super) async fn next(&self) -> Route {
        loop {
            let next = self.state().begun.pop_front();
            match next {
                Some(route) => return route,
                None => self.begun.notified().await,
            }
        }
    }

    /// Takes the first messages of a route, at most `limit` bytes of them but at least one.
    pub(super) fn take(&self, route: Route, limit: usize, into: &mut Vec<DataMessage>) {
        let mut state = self.state();
        let Some(queue) = state.routes.get_mut(&route) else { return };
        let mut taken = 0;
        while let Some(message) = queue.messages.pop_front_if(|next| taken == 0 || taken + next.encoded_len() <= limit)
        {
            taken += message.encoded_len();
            queue.bytes = queue.bytes.saturating_sub(cost(&message));
            into.push(message);
        }
    }

    /// Tells when there may be something to take of a route.
    pub(super) fn ready(&self, route: Route) -> Arc<Notify> {
        self.state().routes.get(&route).map(|queue| queue.ready.clone()).unwrap_or_default()
    }

    /// A route has no stream any more. If something waits it needs another one.
    pub(super) fn end(&self, route: Route) {
        let mut state = self.state();
        let State { routes, begun, .. } = &mut *state;
        let Entry::Occupied(queue) = routes.entry(route) else { return };
        if queue.get().messages.is_empty() {
            queue.remove();
        } else {
            begun.push_back(route);
            self.begun.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.routes.values().map(|queue| queue.messages.len()).sum()
    }
}

fn cost(message: &DataMessage) -> usize {
    message.payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(route: u32, number: u64, len: usize) -> DataMessage {
        let payload = vec![7; len].into();
        DataMessage { route: RouteId(route), epoch: RouteEpoch(0), number, ppid: 53, payload }
    }

    fn numbers(queues: &DataQueues, route: u32, limit: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        queues.take((RouteId(route), RouteEpoch(0)), limit, &mut taken);
        taken.iter().map(|message| message.number).collect()
    }

    #[test]
    fn a_full_queue_takes_no_more_and_is_that_of_one_route() {
        let queues = DataQueues::default();
        let fit = (CAPACITY / (1000 + OVERHEAD)) as u64;
        for number in 0..fit {
            assert_eq!(queues.push(message(1, number, 1000)), Ok(()));
        }
        assert_eq!(queues.push(message(1, fit, 1000)), Err(DropReason::DataFull));
        assert_eq!(queues.push(message(2, 0, 1000)), Ok(()));
        assert_eq!(queues.push(message(2, 1, MAX_DATA_PAYLOAD_LEN + 1)), Err(DropReason::TooLarge));
        assert_eq!(numbers(&queues, 1, 1), [0]);
        assert_eq!(queues.push(message(1, fit + 1, 1000)), Ok(()));
        // Empty ones cost something too.
        let empty = (0..).take_while(|number| queues.push(message(3, *number, 0)).is_ok()).count();
        assert_eq!(empty, CAPACITY / OVERHEAD);
    }

    #[test]
    fn messages_are_taken_in_order_and_in_parts() {
        let queues = DataQueues::default();
        for number in 0..5 {
            assert_eq!(queues.push(message(1, number, 84)), Ok(()));
        }
        assert_eq!(numbers(&queues, 1, 200), [0, 1]);
        assert_eq!(numbers(&queues, 1, 0), [2]);
        assert_eq!(numbers(&queues, 1, 1000), [3, 4]);
        assert!(numbers(&queues, 1, 1000).is_empty() && numbers(&queues, 2, 1000).is_empty());
    }

    #[tokio::test]
    async fn a_silent_route_leaves_nothing_and_one_that_is_not_gets_another_stream() {
        let queues = DataQueues::default();
        let route = (RouteId(1), RouteEpoch(0));
        assert_eq!(queues.push(message(1, 0, 10)), Ok(()));
        assert_eq!(queues.next().await, route);
        queues.end(route);
        assert_eq!(queues.next().await, route, "something waits");
        assert_eq!(numbers(&queues, 1, 10), [0]);
        queues.end(route);
        assert!(queues.state().routes.is_empty() && queues.state().begun.is_empty());
    }

    #[test]
    fn what_waits_goes_with_its_route_and_its_link() {
        let queues = DataQueues::default();
        for (route, number) in [(1, 0), (1, 1), (2, 0)] {
            assert_eq!(queues.push(message(route, number, 10)), Ok(()));
        }
        assert_eq!((queues.len(), queues.clear(RouteId(1), RouteEpoch(1))), (3, 0));
        assert_eq!((queues.clear(RouteId(1), RouteEpoch(0)), queues.len()), (2, 1));
        assert_eq!((queues.close(), queues.len()), (1, 0));
        assert_eq!(queues.push(message(1, 2, 10)), Err(DropReason::LinkDown));
    }
}
