//! The ways into the workers.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::control_plane::ports::{Answer, MediaWorker};
use crate::data_plane::messages::{Request, WorkerIndex};

/// Commands that wait for one worker: those of some ten thousand producers that come or go at once, as when a node dies. A worker that
/// lets more wait has stopped working, and the node will not go on without it.
const MAX_WAITING: usize = 65_536;

/// From so many on other nodes are told to come back later: what they may make wait leaves most of the room to this node itself.
const BEHIND: usize = 4_096;

/// Sends the workers what concerns pipes. What a worker has no room for waits here, in order: none of it may get lost, since it is only
/// said when something changes.
pub(super) struct Workers {
    lanes: Vec<Lane>,
}

struct Lane {
    worker: Arc<dyn MediaWorker>,
    waiting: VecDeque<Request>,
}

impl Workers {
    pub(super) fn new(workers: Vec<Arc<dyn MediaWorker>>) -> Self {
        Self { lanes: workers.into_iter().map(|worker| Lane { worker, waiting: VecDeque::new() }).collect() }
    }

    /// Sends a command whose failure nobody needs to know.
    pub(super) fn send(&mut self, to: WorkerIndex, request: Request) {
        let Some(lane) = self.lanes.get_mut(usize::from(to.0)) else { return };
        lane.waiting.push_back(request);
        lane.send_on();
        if lane.waiting.len() > MAX_WAITING {
            tracing::error!(worker = to.0, "the worker does not work any more: a command about pipes is lost");
            lane.waiting.pop_front();
        }
    }

    /// Sends a command whose answer matters; one that finds no room is answered with that.
    pub(super) fn request(&self, to: WorkerIndex, request: Request) -> Option<Answer> {
        Some(self.lanes.get(usize::from(to.0))?.worker.request(request))
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
