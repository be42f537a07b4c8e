//! The ways into the workers.

use std::collections::VecDeque;
use std::sync::Arc;

use sluice_media::messages::{Request, RequestError, WorkerIndex};

use crate::ports::{Answer, MediaWorker};
use crate::vitals::Vitals;

/// Commands that wait for one worker: those of some ten thousand producers that come or go at once, as when a node
/// dies. A worker that lets more wait has stopped working, and so does the node: nothing of what it believes would be
/// true any more.
const MAX_WAITING: usize = 65_536;

/// From so many on other nodes are told to come back later: what they may make wait leaves most of the room to this
/// node itself.
const BEHIND: usize = 4_096;

/// Sends the workers what concerns pipes. What a worker has no room for waits here, in order: none of it may get lost,
/// since it is only said when something changes.
pub(super) struct Workers {
    lanes: Vec<Lane>,
    vitals: Vitals,
}

struct Lane {
    worker: Arc<dyn MediaWorker>,
    waiting: VecDeque<Request>,
}

impl Workers {
    pub(super) fn new(workers: Vec<Arc<dyn MediaWorker>>, vitals: Vitals) -> Self {
        let lanes = workers.into_iter().map(|worker| Lane { worker, waiting: VecDeque::new() });
        Self { lanes: lanes.collect(), vitals }
    }

    /// Sends a command whose failure nobody needs to know.
    pub(super) fn send(&mut self, to: WorkerIndex, request: Request) {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return };
        lane.waiting.push_back(request);
        lane.send_on();
        if lane.waiting.len() > MAX_WAITING {
            if self.vitals.lost().is_none() {
                tracing::error!(worker = to.0, "the worker takes no commands any more");
            }
            self.vitals.lose("a media worker");
            lane.waiting.pop_front();
        }
    }

    /// Sends a command whose answer matters; one that finds no room is answered with that. There is none while others
    /// wait, of which this one may be a consequence.
    pub(super) fn request(&self, to: WorkerIndex, request: Request) -> Answer {
        match self.lanes.get(usize::from(to.0)) {
            Some(lane) if lane.waiting.is_empty() => lane.worker.request(request),
            _ => Box::pin(std::future::ready(Err(RequestError::Unavailable))),
        }
    }

    /// Whether so much waits for a worker that no other node should add to it.
    pub(super) fn is_behind(&self, worker: WorkerIndex) -> bool {
        self.lanes.get(usize::from(worker.0)).is_none_or(|lane| lane.waiting.len() >= BEHIND)
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn send_on(&mut self) {
        self.lanes.iter_mut().for_each(Lane::send_on);
    }

    /// Commands that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum()
    }
}

impl Lane {
    fn send_on(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            if let Err(request) = self.worker.try_send(request) {
                self.waiting.push_front(*request);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_media::messages::Account;
    use sluice_proto::ids::RouterId;

    use super::*;

    /// Takes nothing any more.
    struct Stuck;

    impl MediaWorker for Stuck {
        fn index(&self) -> WorkerIndex {
            WorkerIndex(0)
        }

        fn request(&self, _: Request) -> Answer {
            Box::pin(async { Err(RequestError::Unavailable) })
        }

        fn send(&self, _: Request) {}

        fn try_send(&self, request: Request) -> Result<(), Box<Request>> {
            Err(Box::new(request))
        }
    }

    #[test]
    fn no_command_is_lost_but_with_the_node() {
        let vitals = Vitals::default();
        let mut workers = Workers::new(vec![Arc::new(Stuck)], vitals.clone());
        let router = RouterId::from_random_bytes([7; 16]);
        for _ in 0..MAX_WAITING {
            workers.send(WorkerIndex(0), Request::CreateRouter { router, account: Account(0) });
        }
        assert_eq!((workers.waiting(), vitals.lost()), (MAX_WAITING, None));
        workers.send(WorkerIndex(0), Request::CreateRouter { router, account: Account(0) });
        assert_eq!((workers.waiting(), vitals.lost()), (MAX_WAITING, Some("a media worker")));
    }
}
