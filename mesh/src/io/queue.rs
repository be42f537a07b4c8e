//! The lossy queue between the workers and a link.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::Frame;

/// Frames that may wait for the link's task, which takes all of them each time it runs: 2,048 packets of 1,200 bytes
/// are 150 ms at 130 Mbit/s, more than a task waits on a machine that still works.
const CAPACITY: usize = 2048;

/// Frames on their way from any thread to the link's task. The lock is held to append a batch or to swap two vectors.
#[derive(Debug, Default)]
pub(super) struct FrameQueue {
    frames: Mutex<Vec<Frame>>,
    ready: Notify,
}

impl FrameQueue {
    /// Takes the frames out of `frames`; gives the number of those that found no room.
    pub(super) fn push(&self, frames: &mut Vec<Frame>) -> usize {
        let mut queue = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let room = CAPACITY.saturating_sub(queue.len());
        let accepted = frames.len().min(room);
        queue.extend(frames.drain(..accepted));
        drop(queue);
        self.ready.notify_one();
        let refused = frames.len();
        frames.clear();
        refused
    }

    /// Swaps everything that waits with `empty`.
    pub(super) fn take(&self, empty: &mut Vec<Frame>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut *self.frames.lock().unwrap_or_else(PoisonError::into_inner), empty);
    }

    /// Waits until there may be something to take.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Frames that wait.
    pub(super) fn len(&self) -> usize {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
